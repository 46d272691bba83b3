"""How many chips and windows of text a noise study needs: components of variance, and the narrowest intervals for a time.

The model and the two designs are those of `intervals`. A mean over M models, C chips of each and W windows has, nested,

    variance = (T + D/C + S/W) / M,  S = M B + TB + E,   seconds = M (p C + q W),

p being what a chip takes to be prepared and q what a window takes to be read; crossed, chips read all windows, and q W has
a factor C, which lessens nothing but E. For a given variance v the least time follows from Lagrange's multiplier, as of two
stages of sampling, clusters and units within them (Cochran 1977, chapter 10):

    C = sqrt(D/p) K,  W = sqrt(S/q) K,  K = (sqrt(D p) + sqrt(S q)) / (M v - T).

Chips and blocks are whole, all curves of a study share its models and its text, a curve may leave blocks out, and the
interval has the quantile of its few models and blocks: so `allotted` looks at every whole design. Tests hold it against
the formulas. What a study gains is the same factor at least for all of its intervals.

Components come from the mean squared difference of two trials that share some of model, chip and block: half of it is the
sum of the components of what they do not share. Of trials in which every chip reads every block these are the estimates of
the analysis of variance (Searle, Casella and McCulloch 1992), and they need no such balance. Negative ones count as 0.
Neglected: windows of a block, spread over the text, are held independent, and chips of two models too; what is measured
beside the losses takes no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimllm_lib.analog.noise.intervals import spanned
from pimllm_lib.analog.noise.study import BLOCKS
from pimllm_lib.core.errors import BadInput

#: Fewest parts of the text that a curve reads: fewer tell too little of how text varies.
FEWEST = 8


@dataclass(frozen=True)
class Parts:
    """Variances of one trial, squared nats: of a model, a chip, and a window of text, by itself, with the model, and left.

    rise: the mean, in nats; drawn: whether chips differ.
    """

    rise: float
    model: float
    chip: float
    text: float
    both: float
    rest: float
    drawn: bool = True


@dataclass(frozen=True)
class Cost:
    """Seconds: to prepare a chip, and to read a window of text on it."""

    chip_s: float
    window_s: float


@dataclass(frozen=True)
class Design:
    """models, chips of each, windows of text in so many blocks; nested: whether a chip reads blocks of its own.

    Numbers, or arrays of them that fit.
    """

    models: int
    chips: Any
    windows: Any
    blocks: Any = BLOCKS
    nested: bool = True

    def seconds(self, cost: Cost, drawn: bool) -> Any:
        """Return how long one case takes."""
        chips = self.chips if drawn else 1
        return self.models * (chips * cost.chip_s + (1 if self.nested else chips) * self.windows * cost.window_s)

    def half(self, of: Parts) -> NDArray[np.float64]:
        """Return half the 95 % interval to expect of a mean, in nats; of a single model, that of its chips and text."""
        chips = self.chips if of.drawn else 1
        text, both, rest = (part / self.windows for part in (of.text, of.both, of.rest))
        rest = rest if self.nested else rest / chips
        if self.models > 1:
            by_models = (of.model + of.chip * self._share(chips) + both + rest) / self.models
            return spanned(by_models, np.asarray(text), self.models, self.blocks)
        whole = np.asarray(of.chip * self._share(chips) + text + both + rest)
        if self.nested:
            return spanned(np.zeros(()), whole, 1, np.where(np.greater(chips, 1), chips, self.blocks))
        alone = np.greater(chips, 1) * (of.chip / chips + rest)
        return spanned(np.asarray(alone), whole - alone, chips, self.blocks)

    def _share(self, chips: Any) -> Any:
        """Return the sum of squares of the shares of a mean that chips have: nested, some have a block more than others."""
        if not self.nested:
            return 1 / chips
        each, more = np.divmod(self.blocks, chips)
        return (chips * each**2 + more * (2 * each + 1)) / np.square(self.blocks)


def parts(found: NDArray[np.float64], windows: float, drawn: bool = True) -> Parts:
    """Return the components of trials (models, chips, blocks), NaN where there is none, with so many windows a block.

    What the trials cannot tell apart counts as the first of model, text and both. So a chip that is alone belongs to its
    model, and what is left where no two chips of a model read one block, to model and text.
    """
    at = np.argwhere(np.isfinite(found))
    value = found[tuple(at.T)]
    apart = np.square(value[:, None] - value) / 2
    model, chip, block = (at[:, None, i] == at[None, :, i] for i in range(3))
    chip = chip & model
    itself = np.eye(len(value), dtype=bool)

    def mean(pairs: NDArray[np.bool_]) -> float | None:
        return float(apart[pairs & ~itself].mean()) if (pairs & ~itself).any() else None

    within = mean(chip & ~block) or 0.0  # text, both, rest
    chips = mean(model & ~chip & ~block)  # and the chip
    shared = mean(model & ~chip & block)  # the chip and the rest
    others, paired = mean(~model & ~block), mean(~model & block)  # all; all but the text
    of_chip = max(chips - within, 0.0) if chips is not None else 0.0
    text = max(others - paired, 0.0) if others is not None and paired is not None else within
    rest = max(shared - of_chip, 0.0) if shared is not None else 0.0
    both = max(within - text - rest, 0.0)
    of_model = max(others - within - of_chip, 0.0) if others is not None else 0.0
    return Parts(float(value.mean()), of_model, of_chip, text * windows, both * windows, rest * windows, drawn)


@dataclass(frozen=True)
class Curve:
    """A curve of a study: its cases, what they cost, and the design that it has."""

    cases: Sequence[Parts]
    cost: Cost
    design: Design

    def seconds(self, design: Design) -> Any:
        """Return how long all its cases take in a design."""
        return sum(design.seconds(self.cost, case.drawn) for case in self.cases)

    def ratio(self, design: Design) -> Any:
        """Return the largest ratio of a case's interval to the one it has; 0 where no case has any."""
        pairs = ((design.half(case), float(self.design.half(case))) for case in self.cases)
        return np.max([new / old if old else 0 * new for new, old in pairs], axis=0)


def allotted(
    curves: Mapping[str, Curve], *, models: int, windows: Sequence[int], seconds: float, drawn: Sequence[str]
) -> dict[str, Design]:
    """Return the nested design of each curve that takes at most so many seconds in all and whose intervals are narrowest, by
    the factor that all of them gain; where several are, one that takes the least time.

    models: of all curves; windows: those that the study may have; drawn: curves with cases whose chips differ.
    Raises BadInput where no design is so short.
    """
    grid: dict[str, tuple[Design, NDArray[np.float64], NDArray[np.float64]]] = {}
    for name, curve in curves.items():
        read, chips = np.meshgrid(np.arange(FEWEST, BLOCKS + 1), np.arange(1, (BLOCKS if name in drawn else 1) + 1))
        read, chips = (each[chips <= read] for each in (read, chips))
        whole = Design(models, chips, np.asarray(windows)[:, None] * read / BLOCKS, read)
        grid[name] = whole, curve.seconds(whole), curve.ratio(whole)

    def spent(ratio: float) -> NDArray[np.float64]:
        """Return the least seconds in which no interval is wider than so many times what it is, for each of the windows."""
        least = [np.where(found <= ratio, taken, np.inf).min(axis=1) for _, taken, found in grid.values()]
        return np.asarray(sum(least))

    most = max(float(found.max()) for _, _, found in grid.values())
    if spent(most).min() > seconds:
        raise BadInput(f"the study takes {seconds:.3g} s; wanted at least {spent(most).min():.3g} for {models} models")
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle).min() <= seconds else (middle, high)
    at, plan = int(spent(high).argmin()), {}
    for name, (whole, taken, found) in grid.items():
        best = int(np.where(found[at] <= high, taken[at], np.inf).argmin())
        plan[name] = Design(models, int(whole.chips[best]), int(whole.windows[at, best]), int(whole.blocks[best]))
    return plan
