"""What crossbars do to a language model: its loss on text with every projection on them, beside the exact one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pimllm_lib.analog.crossbar.calibration import full_scale
from pimllm_lib.analog.crossbar.cells import Programmed, program
from pimllm_lib.analog.crossbar.product import moved, multiply
from pimllm_lib.analog.crossbar.readout import ACT_BITS, from_data
from pimllm_lib.analog.lm import source
from pimllm_lib.analog.lm.arrays import kept
from pimllm_lib.analog.lm.checkpoint import Checkpoint, Matrix
from pimllm_lib.analog.lm.language import logits, looked_at
from pimllm_lib.analog.lm.layers import Prepare, Product, exact
from pimllm_lib.hardware import Crossbar, Devices, Readout


def on_crossbars(
    crossbar: Crossbar, devices: Devices, readout: Readout, *, seed: int = 0,
    full_scales: Mapping[str, float | None] | None = None, only: str | None = None,
) -> Prepare:  # fmt: skip
    """Return what puts each matrix of a model on crossbars, drawn from a device seed.

    full_scales: of each layer's converters, from `calibrate`, where the readout asks for them; only: the layer ("3"), the
    kind ("down") or both ("3.down") of the matrices that are put there, the others being exact.
    """

    def prepare(name: str, matrix: Matrix) -> Product:
        if only not in (None, name, *name.split(".")):
            return exact(name, matrix)
        on = _programmed(name, matrix, crossbar, devices, readout, seed)
        reach = (full_scales or {}).get(name)
        there = kept(on, moved)
        return lambda x, first: multiply(there(x), x, act_bits=ACT_BITS, reach=reach, first=first)

    return prepare


def _programmed(
    name: str, matrix: Matrix, crossbar: Crossbar, devices: Devices, readout: Readout, seed: int = 0
) -> Programmed:
    """Return a matrix in cells; scales that change along its inputs go with it, and one of the whole matrix does not."""
    scales = matrix.scale if isinstance(matrix.scale, np.ndarray) else None
    return program(
        matrix.values, crossbar=crossbar, devices=devices, readout=readout, seed=seed, layer=name, scales=scales
    )


def calibrate(
    checkpoint: Checkpoint, tokens: np.ndarray, crossbar: Crossbar, readout: Readout
) -> dict[str, float | None]:
    """Return the full scale of each layer's converters, from tokens (windows, length) that are used for nothing else.

    Cells are ideal here: a range is chosen with the design, before any one chip is written. Of many tokens the first chunk
    counts.
    """

    def look(name: str, matrix: Matrix, x: np.ndarray) -> float | None:
        on = _programmed(name, matrix, crossbar, Devices(name="ideal"), readout)
        return full_scale(on, x, act_bits=ACT_BITS)

    return looked_at(checkpoint, tokens, look) if from_data(readout) else {}


def bits_per_byte(losses: np.ndarray, size: int) -> float:
    """Return losses in nats as bits for each of `size` bytes of the text they predict."""
    return float(losses.sum() / np.log(2) / size)


def expected_losses(checkpoint: Checkpoint, documents: np.ndarray, prepare: Prepare = exact) -> np.ndarray:
    """Return the mean loss in nats of each generated document's body, over the law and not over what was drawn from it."""
    law = source.law(documents) / source.TOTAL
    scores = logits(checkpoint, documents, prepare)[:, source.CLASSES - 1 : -1].astype(np.float64)
    guess = np.exp(scores - scores.max(axis=-1, keepdims=True))
    guess /= guess.sum(axis=-1, keepdims=True)
    return source.cross_entropies(law, guess[..., : source.SYMBOLS])
