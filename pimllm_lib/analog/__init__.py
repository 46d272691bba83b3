"""What a crossbar computes, not what it costs: devices, analog products, a ternary language model, its corpora.

`cells` draws conductances, `product` multiplies with them, `language` runs a model on it, `checkpoint` reads one, `cases`
says what a study tries it on.
"""
