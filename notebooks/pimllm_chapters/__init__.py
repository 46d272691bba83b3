"""The analysis of each chapter, beside its notebook: what is computed, drawn, tabled and said of its dataset."""
