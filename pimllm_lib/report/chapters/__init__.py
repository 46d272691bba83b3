"""One module a chapter of results: its figures, and the sentences whose numbers come from its dataset."""
