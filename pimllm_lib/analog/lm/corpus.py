"""What a language model learns from, and what it is tried on: two corpora, neither of which is committed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import numpy as np

from pimllm_lib.core.errors import BadInput, unknown

#: Corpus -> the module that makes it.
CORPORA = {"docstrings": "docstrings", "generated": "source"}


@dataclass(frozen=True)
class Corpus:
    """Tokens to learn from and tokens never learnt from, uint8, and what differs from the recorded hashes.

    header: tokens at the start of each document of `source.LENGTH` that are given, not predicted; 0 for running text.
    """

    training: np.ndarray
    held_out: np.ndarray
    header: int = 0
    differences: tuple[str, ...] = ()


def windows(text: np.ndarray, length: int, name: str = "the text") -> np.ndarray:
    """Return the text cut into whole windows, (windows, length), one after another; the rest is left out.

    Raises BadInput, by its name, for a text shorter than one window.
    """
    if len(text) < length:
        raise BadInput(f"{name} has {len(text)} tokens; wanted at least {length}, one window")
    return text[: len(text) // length * length].reshape(-1, length)


def spread(found: np.ndarray, count: int) -> np.ndarray:
    """Return so many of the windows, or all where there are fewer, evenly over the text."""
    places = np.unique(np.linspace(0, len(found) - 1, min(count, len(found))).astype(int))
    return np.asarray(found[places])


def named(name: str) -> Corpus:
    """Return a corpus by name. Raises UnknownName for another."""
    if name not in CORPORA:
        raise unknown("corpus", name, CORPORA)
    made: Corpus = import_module(f"pimllm_lib.analog.lm.{CORPORA[name]}").corpus()
    return made
