"""What a crossbar computes, not what it costs: devices, analog products, a ternary language model, its corpora.

`devices` draws conductances, `arithmetic` multiplies with them, `language` runs a model on it, `checkpoint` reads one.
"""
