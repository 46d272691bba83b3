"""Several matrices that the same activations go through, such as the bits of whole numbers: the sum of what they give.

What needs no conversion of its own is added before it is multiplied, to the same sums, rounded in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from pimllm_lib.analog.crossbar.cells import Line, Programmed
from pimllm_lib.analog.crossbar.product import check, deviation, multiply, noises, read, variances
from pimllm_lib.analog.crossbar.readout import Converter, converter, largest_sum, weights_and_passes

#: Tokens, inputs and outputs of a product: what of it is asked for.
Part: TypeAlias = tuple[slice, slice, slice]


def combine(
    several: Sequence[Programmed], weights: Sequence[float], x: np.ndarray, *, act_bits: int, parts: Sequence[Part]
) -> np.ndarray:
    """Return the sum of what `multiply` gives for several matrices, each times a weight: float32 (tokens, fan_out).

    several: matrices in pairs, of one shape and setting, without groups of inputs, such as the bits of whole numbers; parts:
    what is asked for, of each the inputs that are not 0 for its tokens; outputs that are in none need not be right.
    Raises BadInput as `multiply` does.
    """
    on, gains = several[0], [each.gain for each in several]
    by = np.array(weights, dtype=np.float32) * np.array(gains, dtype=np.float32)
    noisy = bool(on.devices.reading or on.devices.output_noise)
    check(on, x, act_bits, "auto")
    adc = converter(on, act_bits, None)
    if adc is not None and (noisy or on.readout.dnl):  # numbers of its own for each
        return np.asarray(sum(w * multiply(one, x, act_bits=act_bits) for w, one in zip(weights, several, strict=True)))
    sure = _kept(on, x, act_bits, adc) if adc is not None and on.exact else np.full(len(x), adc is None)
    out = np.zeros((len(x), on.ideal.shape[1]), dtype=np.float32)
    if sure.any():
        for number, line in enumerate(on.lines):
            joint = np.tensordot(by, np.stack([one.lines[number].weights for one in several]), 1)
            out += line.sign * (x.astype(np.float32, copy=False) @ joint)
        parts = [(slice(None), slice(None), slice(None))]  # of the few that are left
    if noisy:
        _add_noise(out, several, by, x, act_bits)
    for tokens, rows, cols in () if sure.all() else parts:
        left = np.arange(len(x))[tokens][~sure[tokens]]
        if left.size:
            codes = read(_beside(several, rows, cols), x[left, rows], act_bits, adc, "per-plane", 0)
            out[left, cols] = by @ codes.reshape(left.size, len(several), -1)
    return out


def _beside(several: Sequence[Programmed], rows: slice, cols: slice) -> Programmed:
    """Return part of several matrices as one, beside each other."""
    lines = tuple(
        Line(np.concatenate([on.lines[number].weights[rows, cols] for on in several], axis=1), line.sign)
        for number, line in enumerate(several[0].lines)
    )
    return replace(
        several[0], ideal=np.concatenate([on.ideal[rows, cols] for on in several], axis=1), lines=lines, gain=1.0
    )


def _kept(on: Programmed, x: np.ndarray, act_bits: int, adc: Converter) -> np.ndarray:
    """Return of which tokens no whole sum is changed by conversion, as so few pulses cannot leave the range."""
    if not adc.is_lossless(1) or adc.is_lossless(largest_sum(on, act_bits)):
        return np.full(len(x), adc.is_lossless(1))
    starts = range(0, x.shape[1], on.crossbar.rows)
    _, passes = weights_and_passes(on, x, act_bits)
    most = np.zeros(len(x))
    for share in passes:
        most = np.maximum(most, np.add.reduceat(np.abs(share), starts, axis=1, dtype=np.int32).max(axis=1))
    return most <= adc.lsb * (min(-adc.low, adc.high) if adc.low < 0 else adc.high)


def _add_noise(out: np.ndarray, several: Sequence[Programmed], by: np.ndarray, x: np.ndarray, act_bits: int) -> None:
    """Add what `_joint_noise` gives each of several matrices, times a number of its own."""
    power, floor = variances(several[0], x, act_bits)
    for number, line in enumerate(several[0].lines):
        draws = noises(several, "folded", out.shape[1:], 0, len(x), number)
        for on, w, draw in zip(several, by, draws, strict=True):
            draw *= deviation(on, on.lines[number].squares, power, floor)
            draw *= w * np.float32(line.sign)
            out += draw
