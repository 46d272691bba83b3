"""Trained models on noisy crossbars: cases, trials, what they say, and what converters cost."""
