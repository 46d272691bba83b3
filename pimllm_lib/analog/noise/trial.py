"""A trial of a noise configuration: what a ternary model loses on a text when its projections lie on such crossbars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from pimllm_lib.analog.crossbar.readout import from_data
from pimllm_lib.analog.lm import corpus
from pimllm_lib.analog.lm.checkpoint import Checkpoint, require_ternary
from pimllm_lib.analog.lm.evaluation import bits_per_byte, calibrate, on_crossbars
from pimllm_lib.analog.lm.language import Way, every_loss
from pimllm_lib.analog.lm.layers import Prepare, exact, zeroed
from pimllm_lib.analog.lm.text import Text
from pimllm_lib.core.errors import BadInput
from pimllm_lib.hardware import Crossbar, Devices, Readout

#: Most tokens that a range is chosen from, and the share of the text that they may be.
CALIBRATION, SHARE = 1024, 1 / 8
#: A text is read as it is, and with embeddings nudged, see `language.Way`.
BOTH = (False, True)


@dataclass(frozen=True)
class Trial:
    """What came out. Bits per byte: with exact products, with crossbars that give nothing, and for each device seed.

    tokens, size: predicted tokens and the bytes they stand for; calibration: tokens the readout's range was chosen from, 0
    where it needs none; perplexity_changes: for each seed exp(loss - clean loss) - 1, in %, losses being nats a token.
    rounding, change_rounding: by how much a chip's bits per byte and its change may differ on another processor, or with
    another number of threads, which add in another order: twice the standard deviation, measured on the first chip.
    """

    tokens: int
    size: int
    calibration: int
    clean: float
    zeroed: float
    noisy: tuple[float, ...]
    perplexity_changes: tuple[float, ...]
    rounding: float
    change_rounding: float


def run(
    checkpoint: Checkpoint, text: Text, *, crossbar: Crossbar, devices: Devices, readout: Readout,
    seeds: Iterable[int] = range(4), window: int = 128, most: int = 1 << 15, calibration: Text | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Trial:  # fmt: skip
    """Return what a noise configuration does to a model on at most `most` tokens from the start of a text.

    window: tokens that are read at once, of which all but the first are predicted; calibration: where a readout whose
    range comes from data takes it from; by default an eighth at the end of the text, which is then not evaluated; progress:
    told of each block that one more of the ways to read has done: exact products, none, and each seed.

    Raises BadInput for a model in full precision, a text that is too short, a calibration that the readout has no use for,
    and where a number is not finite.
    """
    require_ternary(checkpoint)
    tried, calibrating = _divided(text, readout, window, calibration)
    tokens = _windows(tried, window, most)
    size = int(tried.sizes[: tokens.size].reshape(tokens.shape)[:, 1:].sum())

    def chip(seed: int) -> Prepare:
        return on_crossbars(crossbar, devices, readout, seed=seed, full_scales=ranges)

    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            ranges = {} if calibrating is None else calibrate(checkpoint, calibrating, crossbar, readout)
            drawn = [(chip(seed), (False,) if number else BOTH) for number, seed in enumerate(seeds)]
            ways: list[Way] = [(exact, BOTH), (zeroed, (False,)), *drawn]
            (clean, again), (nothing,), *noisy = every_loss(checkpoint, tokens, ways, progress=progress)
            off = [_off(clean, again), *(_off(*pair) for pair in noisy[:1])]
            changes = [math.expm1(each[0].mean() - clean.mean()) for each in noisy]
            trial = Trial(
                tokens=clean.size, size=size, calibration=0 if calibrating is None else calibrating.size,
                clean=bits_per_byte(clean, size), zeroed=bits_per_byte(nothing, size),
                noisy=tuple(bits_per_byte(each[0], size) for each in noisy),
                perplexity_changes=tuple(100 * change for change in changes),
                rounding=max(off) / math.log(2) / size,
                change_rounding=100 * (1 + max(changes, default=0)) * math.hypot(*off) / clean.size,
            )  # fmt: skip
    except (ArithmeticError, IndexError):  # beyond what a float holds; no number, where a converter's table is asked
        what = f"{checkpoint.name} with {devices.name} and {readout.name}"
        raise BadInput(f"{what} gives outputs that are not finite; wanted less noise") from None
    if not all(map(math.isfinite, (trial.clean, trial.zeroed, *trial.noisy, *trial.perplexity_changes))):
        raise BadInput(f"{checkpoint.name} has losses that are not finite; wanted weights and noise that keep them so")
    return trial


def evaluated(
    checkpoint: Checkpoint, text: Text, readout: Readout, *, window: int, calibration: Text | None = None
) -> np.ndarray:
    """Return all windows (windows, window) that `run` may evaluate. Raises BadInput as it does."""
    require_ternary(checkpoint)
    return corpus.windows(_divided(text, readout, window, calibration)[0].ids, window, text.name)


def _off(found: np.ndarray, again: np.ndarray) -> float:
    """Return twice the standard deviation of what rounding does to a sum of losses (windows, predicted).

    Windows are read one by one, so that what it does to each is independent of the others.
    """
    return 2 * float(np.linalg.norm((again - found).sum(axis=1)))


def _divided(text: Text, readout: Readout, window: int, calibration: Text | None) -> tuple[Text, np.ndarray | None]:
    """Return the text that is evaluated, and windows for calibration where the readout needs them."""
    if not from_data(readout):
        if calibration is not None:
            raise BadInput(f"{readout.name} has the range {readout.range!r}, which no data set; wanted no calibration")
        return text, None
    if calibration is not None:
        return text, _windows(calibration, window, CALIBRATION)
    if (count := len(text.ids)) < 2 * window:
        wanted = f"wanted at least {2 * window}: a window to calibrate, one to try"
        raise BadInput(f"{text.name} has {count} tokens; {wanted}")
    kept = max(int(min(count * SHARE, CALIBRATION)) // window, 1) * window
    return text.part(0, count - kept), _windows(text.part(count - kept, count), window, CALIBRATION)


def _windows(text: Text, window: int, most: int) -> np.ndarray:
    """Return whole windows from the start of a text, (windows, window), of at most so many tokens, and at least one."""
    return corpus.windows(text.ids, window, text.name)[: max(most // window, 1)]
