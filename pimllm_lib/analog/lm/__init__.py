"""Ternary language models: their files, their arithmetic, the texts they read, their training."""
