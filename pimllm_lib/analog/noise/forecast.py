"""How long a trial will take, from the time of one block, and how much of it fits into some minutes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from time import perf_counter

import numpy as np

from pimllm_lib.analog.lm import layout
from pimllm_lib.analog.lm.checkpoint import Block, Checkpoint
from pimllm_lib.analog.lm.evaluation import on_crossbars
from pimllm_lib.analog.lm.language import CHUNK, one_block
from pimllm_lib.analog.lm.layers import Prepare, exact
from pimllm_lib.hardware import Crossbar, Devices, Readout

#: Tokens and chips that a trial has unless told otherwise, and fewest tokens before chips are saved.
TOKENS, SEEDS, FEWEST = 1 << 15, 4, 1 << 10
#: Shorter than this, a measurement is made again with more tokens.
SHORT_S = 0.1


@dataclass(frozen=True)
class Forecast:
    """Seconds that a block takes: to be read, to be prepared, as it is and for a chip, and then for each token.

    blocks, chips: blocks that are read, and those that chips hold, the head being as many as it has weights.
    """

    read_s: float
    exact_s: tuple[float, float]
    chip_s: tuple[float, float]
    blocks: float
    chips: float

    def seconds(self, tokens: int, seeds: int) -> float:
        """Return how long a trial takes: exact products twice, none once, and each chip, the first of them twice."""
        exact_s, chip_s = self.exact_s[0] + 3 * tokens * self.exact_s[1], seeds * self.chip_s[0]
        return self.blocks * (self.read_s + exact_s) + self.chips * (chip_s + (seeds + 1) * tokens * self.chip_s[1])


def measured(
    checkpoint: Checkpoint, tokens: np.ndarray, *, crossbar: Crossbar, devices: Devices, readout: Readout
) -> Forecast:
    """Return the forecast for a model, from its first block and some windows (windows, length) of the text."""
    anything = dict.fromkeys((f"0.{key}" for key in layout.PROJECTIONS), 1.0)  # a range, where data would set it
    chip = on_crossbars(crossbar, devices, readout, full_scales=anything)
    start = perf_counter()
    block = checkpoint.block(0)
    read_s = perf_counter() - start
    try:
        with np.errstate(all="ignore"):
            exact_s, chip_s = (_taken(checkpoint, block, tokens, prepare) for prepare in (exact, chip))
    except (ArithmeticError, IndexError):  # what is not finite: the trial refuses it
        exact_s = chip_s = (0.0, 0.0)
    weights = sum(matrix.values.size for matrix in block.matrices.values())
    head = float(checkpoint.decoder.vocab_size * checkpoint.decoder.d_model) / weights
    blocks = int(checkpoint.decoder.n_layers)
    _, first = next(checkpoint.head())
    return Forecast(read_s, exact_s, chip_s, blocks + head, blocks + head * first.ternary)


def _taken(checkpoint: Checkpoint, block: Block, tokens: np.ndarray, prepare: Prepare) -> tuple[float, float]:
    """Return the seconds that a block takes to be prepared, and for each token."""
    start = perf_counter()
    run = one_block(checkpoint, block, prepare)
    prepared = perf_counter()
    run(tokens[:1])
    ran_s, count = perf_counter() - prepared, tokens[:1].size
    if ran_s < SHORT_S and len(tokens) > 1:
        some, again = tokens[: max(CHUNK // tokens.shape[1], 1)], perf_counter()
        run(some)
        ran_s, count = perf_counter() - again, some.size
    return prepared - start, ran_s / count


def fitting(
    forecast: Forecast, minutes: float, *, window: int, longest: int, tokens: int | None, seeds: int | None
) -> tuple[int, int]:
    """Return tokens and seeds of the largest trial that fits: those given, else as many as go, chips before a longer text.

    longest: tokens of the text. What does not fit at all is one window on one chip.

    >>> slow = Forecast(1, (1, 0.01), (6, 0.04), blocks=30, chips=30)
    >>> [fitting(slow, minutes, window=128, longest=9999, tokens=None, seeds=None) for minutes in (5, 60, 999)]
    [(128, 1), (512, 1), (8192, 4)]
    """
    lengths = [min(TOKENS >> by, longest) for by in range(TOKENS.bit_length()) if TOKENS >> by > window] + [window]
    lengths, chips = [tokens] if tokens else lengths, [seeds] if seeds else [SEEDS, SEEDS // 2, 1]
    few = min(FEWEST, longest, *lengths[:1])
    plans = [(long, chip) for chip, long in product(chips, lengths) if long >= few or chip == chips[-1]]
    fits = (plan for plan in plans if forecast.seconds(*plan) <= 60 * minutes)
    return next(fits, plans[-1])
