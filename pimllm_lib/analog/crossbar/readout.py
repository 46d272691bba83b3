"""From activations to pulses, and from a column's current to a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from pimllm_lib.analog.crossbar.cells import Programmed
from pimllm_lib.analog.crossbar.draws import generator
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require
from pimllm_lib.core.rules import MAX_BITS
from pimllm_lib.hardware import Crossbar, Readout

#: Bits of an activation where nothing else is said: BitNet's.
ACT_BITS = 8


def coding(crossbar: Crossbar, readout: Readout, act_bits: int = ACT_BITS) -> tuple[int, int, str]:
    """Return what all below are told of pulses: bits of an activation, bits that the DAC applies at once, encoding."""
    return act_bits, int(crossbar.dac.bits), readout.encoding


def from_data(readout: Readout) -> bool:
    """Return whether the range of a readout's converters comes from calibration."""
    return readout.range in ("sigmas", "quantile")


def pulse_weights(act_bits: int, step: int, encoding: str) -> list[float]:
    """Return what each pass of `step` bits counts for, the lowest first.

    The top bit of two's complement counts negative; the sign of sign-magnitude is that of the pulses.
    """
    magnitude = act_bits - (encoding == "sign-magnitude")
    weights = [float(1 << (step * plane)) for plane in range(-(-magnitude // step))]
    if encoding == "twos-complement" and step == 1 and len(weights) > 1:
        weights[-1] = -weights[-1]
    return weights


def largest_pulse(act_bits: int, step: int, encoding: str) -> int:
    """Return the largest magnitude of a pulse, in steps of the DAC."""
    if encoding == "sign-magnitude":
        return int((1 << min(step, act_bits - 1)) - 1)
    return int(1 << (act_bits - 1)) if step >= act_bits else int((1 << step) - 1)


def require_held(x: Any, act_bits: int, encoding: str) -> None:
    """Raise BadInput for activations that so many bits do not hold, and for none at all."""
    if not 2 <= act_bits <= MAX_BITS:
        raise BadInput(f"activations have {clip(act_bits)} bits; wanted 2 to {MAX_BITS}")
    if 0 in x.shape:
        raise BadInput(f"activations have the shape {tuple(x.shape)}; wanted one token at least")
    xp, half = array_namespace(x), 1 << (act_bits - 1)
    least = -half + 1 if encoding == "sign-magnitude" else -half
    low, high = float(xp.min(x)), float(xp.max(x))
    if not math.isfinite(low + high):
        raise BadInput(f"an activation is {low + high}; wanted outputs that are finite, by less noise")
    if low < least or high >= half:
        got = high if low >= least else low
        raise BadInput(f"an activation is {got:g}; wanted {least} to {half - 1}, {act_bits} bits of {encoding}")


def pulses(x: Any, act_bits: int, step: int, encoding: str) -> list[Any]:
    """Return the pulses of each pass, the lowest first, of whole activations x, an integer array of any shape.

    Summed with `pulse_weights` they are x again, where x is what `require_held` lets pass.
    """
    xp = array_namespace(x)
    count, mask = len(pulse_weights(act_bits, step, encoding)), (1 << step) - 1
    if count == 1:
        return [x]
    if encoding == "sign-magnitude":
        magnitude, sign = xp.abs(x), xp.sign(x)
        return [((magnitude >> (step * plane)) & mask) * sign for plane in range(count)]
    planes = [(x >> (step * plane)) & mask for plane in range(count - 1)]
    top = x >> (step * (count - 1))
    return [*planes, -top if step == 1 else top]


def weights_and_passes(on: Programmed, x: Any, act_bits: int) -> tuple[list[float], list[Any]]:
    """Return the `pulses` of activations x that a programmed matrix gets, and before them what each pass counts for."""
    xp, form = array_namespace(x), coding(on.crossbar, on.readout, act_bits)
    whole = xp.astype(x, xp.int16) if act_bits <= 15 else xp.astype(x, xp.int32)
    return pulse_weights(*form), pulses(whole, *form)


@dataclass(frozen=True)
class Converter:
    """An ADC in one matrix's setting: code = clip(round(current / lsb), low, high), and what a code stands for.

    levels: for each code from low to high what it counts for, in steps; None for a straight curve.
    """

    lsb: float
    low: int
    high: int
    levels: np.ndarray | None = None

    def is_lossless(self, largest: float) -> bool:
        """Return whether whole currents up to a magnitude come out as they are, both signs where codes have two."""
        within = self.reaches(largest) if self.low < 0 else self.high * self.lsb >= largest
        return self.levels is None and (1 / self.lsb).is_integer() and within

    def reaches(self, largest: float) -> bool:
        """Return whether currents up to a magnitude, of both signs, stay within the range."""
        return self.low * self.lsb <= -largest and self.high * self.lsb >= largest

    def convert(self, current: Any, *, clip: bool = True) -> Any:
        """Return the numbers read for currents, in steps.

        current: in steps too, and overwritten where it is numpy's, since half of the time goes into memory; clip: whether it
        may leave the range.
        """
        xp, codes = array_namespace(current), current
        place = current if is_numpy_array(current) else None
        if clip and place is not None:
            np.clip(current, self.low, self.high, out=place)
        elif clip:
            codes = xp.clip(current, float(self.low), float(self.high))
        codes = xp.round(codes) if place is None else np.rint(codes, out=codes)
        if self.levels is None:
            return codes
        table = xp.asarray(self.levels, device=current.device)
        index = xp.astype(codes, xp.int64) - self.low
        return xp.reshape(xp.take(table, xp.reshape(index, (-1,))), index.shape)


def largest_sum(on: Programmed, act_bits: int) -> float:
    """Return the largest current an ideal column can carry: every row of the tile on, with the largest pulse."""
    rows = min(on.crossbar.rows, on.span)
    return float(rows * largest_pulse(*coding(on.crossbar, on.readout, act_bits)))


def lossless_bits(rows: int, crossbar: Crossbar, readout: Readout, act_bits: int = ACT_BITS) -> int:
    """Return the fewest bits with which a converter of steps of 1 reads every sum of so many rows of ideal cells.

    >>> from pimllm_lib import catalog
    >>> bar, readout = catalog.part("crossbar-256"), catalog.part("readout-ideal")
    >>> [lossless_bits(rows, bar, readout) for rows in (256, 255, 128, 32)]  # of both signs: 513 sums, 511, 257, 65
    [10, 9, 9, 7]
    """
    most = rows * largest_pulse(*coding(crossbar, readout, act_bits))
    return most.bit_length() + _is_bipolar(crossbar, readout)


def _is_bipolar(crossbar: Crossbar, readout: Readout) -> bool:
    """Return whether currents have both signs."""
    single = crossbar.polarity == 1 or readout.sensing == "column"
    return bool(not single or readout.encoding == "sign-magnitude" or crossbar.dac.bits > 1)


def converter(on: Programmed, act_bits: int, reach: float | None) -> Converter | None:
    """Return the ADC of a programmed matrix, None where it is ideal. reach: the full scale that calibration found.

    Raises BadInput where the range is to come from calibration and there was none.
    """
    readout, cell, bits = on.readout, on.crossbar.cell, int(on.crossbar.adc.bits)
    if readout.range == "ideal":
        return None
    bipolar = _is_bipolar(on.crossbar, readout)
    if readout.range == "fixed":
        lsb = float(readout.lsb)
    else:
        # a column that is read by itself carries its off-current too
        on_cell = cell.high_ohm / (cell.high_ohm - cell.low_ohm) if len(on.lines) > 1 else 1.0
        full = largest_sum(on, act_bits) * on_cell if readout.range == "worst-case" else reach
        if full is None:
            what = f"the range {readout.range!r} comes from calibration"
            raise BadInput(f"{what}; wanted `calibrated` first, or another range")
        lsb = (2 * full if bipolar else full) / (1 << bits)
    require(0 < lsb < math.inf, "a converter's step", lsb, "one above 0: were all calibration sums 0?")
    low = -(1 << (bits - 1)) if bipolar else 0
    return Converter(lsb=lsb, low=low, high=low + (1 << bits) - 1, levels=_levels(on, bits, low))


def _levels(on: Programmed, bits: int, low: int) -> np.ndarray | None:
    """Return what each code counts for: itself, a parabolic bow, and a random walk; code 0 counts 0, the ends are in line.

    Neglected: that every converter has a curve of its own; those of a matrix share one.
    """
    readout, codes = on.readout, np.arange(1 << bits)
    if not readout.inl and not readout.dnl:
        return None
    share = codes / codes[-1]
    walk = np.cumsum(readout.dnl * generator(on.seed, on.layer, "converter").standard_normal(codes.size))
    walk -= walk[0] + share * (walk[-1] - walk[0])
    error = readout.inl * 4 * share * (1 - share) + walk
    return np.asarray(codes + low + error - error[-low], dtype=np.float32)
