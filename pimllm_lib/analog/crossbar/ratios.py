"""Noise-to-signal ratio of a crossbar's product: predicted in closed form, and measured.

NSR = E|y' - y|^2 / E|y|^2, y = sum_k w_k x_k over K independent inputs, w ternary with density r (the share that is
not 0), signs even. The signal is r K E[x^2]. With o the ratio of off- to on-conductance, a weight is the difference of two
cells over 1 - o.

*Cells.* Let an on-cell have mean conductance 1 + m1 and variance v1, an off-cell o + m0 and v0, all independent. The
weight's error is (m1 - m0) / (1 - o) times the weight, and a spread of v1 + v0 where it is +-1 and of 2 v0 where it is 0, so

    NSR = ((m1 - m0) / (1 - o))^2 + (r v1 + (2 - r) v0) / (r (1 - o)^2).                                 (1)

*Reads.* Noise drawn at each of the passes p, which count s_p, adds squares: sum_p s_p^2 d_p^2 stands in the place of x^2.
*Converters.* One error a pass and tile, all independent: T E[e^2] sum_p s_p^2 / (r K E[x^2]), T = K / R tiles.   (2)

All forms are for tiles that are full. None of it depends on K but through the largest activation, by which a token is
scaled: errors add up as the signal does. Only what all tiles share, such as the bow of a converter's curve, grows with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pimllm_lib.analog.crossbar.calibration import full_scale
from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.product import multiply
from pimllm_lib.analog.crossbar.readout import Converter, coding, largest_pulse, pulse_weights, pulses
from pimllm_lib.analog.crossbar.wires import mean_square_loss
from pimllm_lib.core.parts import require
from pimllm_lib.hardware import Crossbar, Devices, Readout

#: Tokens and terms of the series that `curve` sums.
SAMPLE, TERMS = 64, 16


def cells(on: tuple[float, float], leak: tuple[float, float], *, density: float, off: float) -> float:
    """Return equation (1). on, leak: shift of the mean and variance of an on- and an off-cell, in on-cell conductances."""
    bias = (on[0] - leak[0]) / (1 - off)
    return bias**2 + (density * on[1] + (2 - density) * leak[1]) / (density * (1 - off) ** 2)


def programming(devices: Devices, *, density: float, off: float) -> float:
    """Return the NSR of conductance variation, relative and published together, normal draws cut at 0."""

    def drawn(g: float) -> tuple[float, float]:
        curve = sum(c / devices.full_siemens * g**power for power, c in enumerate(devices.curve_siemens))
        spread = math.hypot(devices.variation * g, max(curve, 0.0))
        if devices.law == "lognormal" or spread == 0:
            return 0.0, spread**2
        below = math.erfc(g / spread / math.sqrt(2)) / 2
        peak = math.exp(-((g / spread) ** 2) / 2) / math.sqrt(2 * math.pi)
        mean = g * (1 - below) + spread * peak
        return mean - g, (g * g + spread**2) * (1 - below) + g * spread * peak - mean**2

    return cells(drawn(1.0), drawn(off), density=density, off=off)


def stuck(devices: Devices, *, density: float) -> float:
    """Return the NSR of stuck cells: at off, on-cells are lost; at on, off-cells cancel a weight or make one of nothing.

    A weight of +-1 loses its value by either of its cells, one of 0 gets a value by either. Two faults in one pair are
    counted as two errors, to first order.
    """
    return float(devices.stuck_off + devices.stuck_on * (density + 2 * (1 - density)) / density)


def drift(devices: Devices, *, density: float, off: float) -> float:
    """Return the NSR of drift: factors t^-nu of normal nu are lognormal, and a gain divides by their mean."""
    time = math.log(devices.drift_time)
    mean = math.exp(-devices.drift * time + (devices.drift_spread * time) ** 2 / 2)
    variance = mean**2 * math.expm1((devices.drift_spread * time) ** 2)
    if devices.compensated:
        mean, variance = 1.0, variance / mean**2
    leak = off * (mean - 1), off**2 * variance
    return cells((mean - 1, variance), leak, density=density, off=off)


def wire(devices: Devices, crossbar: Crossbar, *, outputs: int, density: float, off: float) -> float:
    """Return the NSR of the drop along bit and word lines to first order, every cell of the mean conductance.

    outputs: of the matrix: whole tiles of them, or fewer than a tile has.
    """
    mean = (density / 2 + (1 - density / 2) * off) / crossbar.cell.low_ohm
    cols = min(crossbar.cols, outputs) * (crossbar.polarity if devices.pairs == "side-by-side" else 1)
    return mean_square_loss(devices.wire_ohm * mean * crossbar.rows**2 / 2, devices.word_ohm * mean * cols**2 / 2)


def pulse_power(x: np.ndarray, crossbar: Crossbar, readout: Readout) -> float:
    """Return A = E[sum_p s_p^2 d_p^2] / E[x^2]: what read noise gains by the encoding of activations x."""
    pairs = zip(pulse_weights(*coding(crossbar, readout)), pulses(x, *coding(crossbar, readout)), strict=True)
    power = sum(s * s * float(np.square(d.astype(float)).mean()) for s, d in pairs)
    return power / float(np.square(x.astype(float)).mean())


def reads(devices: Devices, gain: float, *, density: float, off: float) -> float:
    """Return the NSR of noise drawn for each cell at each read. gain: `pulse_power`."""
    power = devices.reading**2 * gain
    return cells((0.0, power), (0.0, off**2 * power), density=density, off=off)


def conversions(error: float, x: np.ndarray, crossbar: Crossbar, readout: Readout, *, density: float) -> float:
    """Return equation (2) for a mean square error of one conversion, in squared on-cell currents, the same in all passes."""
    squares = sum(s * s for s in pulse_weights(*coding(crossbar, readout)))
    return _over_signal(error * squares / crossbar.rows, x, density)


def curve(x: np.ndarray, crossbar: Crossbar, readout: Readout, adc: Converter, *, density: float) -> float:
    """Return the NSR of any transfer curve, its rounding, clipping and bow together, for whole and normal sums.

    Sums a and b of two passes share their inputs, so they are correlated, by rho. With H_n the orthonormal Hermite
    polynomials and c_n = E[e(a) H_n(a / sigma_a)], the error e obeys E[e(a) e(b)] = sum_n rho^n c_n(a) c_n(b) (Mehler).
    c_0, the mean, is the same in all tiles: it adds up, while the rest adds in squares. Spreads are those of each token.
    """
    form, error, tiles = coding(crossbar, readout), 0.0, x.shape[1] // crossbar.rows
    weights, most = np.array(pulse_weights(*form)), crossbar.rows * largest_pulse(*form)
    some = x[:SAMPLE, : tiles * crossbar.rows]
    passes = np.stack([p.reshape(len(some), tiles, -1) for p in pulses(some, *form)]).astype(float)
    shared = density * np.einsum("ptkr,qtkr->tpq", passes, passes) / tiles  # covariance of two passes, mean over tiles
    spreads = np.sqrt(np.maximum(np.diagonal(shared, axis1=1, axis2=2), 1e-12))  # (tokens, passes)
    for covariance, spread, series in zip(shared, spreads, _hermite(adc, spreads, most), strict=True):
        rho = np.clip(covariance / np.outer(spread, spread), -1, 1)
        own = sum(rho**n * np.outer(series[:, n], series[:, n]) for n in range(1, TERMS))
        np.fill_diagonal(own, series[:, TERMS] - series[:, 0] ** 2)
        error += tiles * weights @ own @ weights + (tiles * weights @ series[:, 0]) ** 2
    return _over_signal(error / len(some) / x.shape[1], x, density)


def _hermite(adc: Converter, spreads: np.ndarray, most: int) -> np.ndarray:
    """Return c_0 to c_(TERMS - 1) of the error at whole normal sums of each spread, and last its mean square."""
    sums = np.arange(-most, most + 1)
    error = adc.lsb * np.asarray(adc.convert((sums / adc.lsb).astype(np.float32)), dtype=float) - sums
    found = np.empty((*spreads.shape, TERMS + 1))
    for token, spread in enumerate(spreads):  # all at once would hold gigabytes
        steps = sums / spread[:, None]
        chance = np.exp(-(steps**2) / 2)
        chance *= error / chance.sum(axis=1, keepdims=True)
        before, now = np.zeros_like(steps), np.ones_like(steps)
        for n in range(TERMS):
            found[token, :, n] = np.einsum("ps,ps->p", chance, now)
            before, now = now, (steps * now - math.sqrt(n) * before) / math.sqrt(n + 1)
        found[token, :, TERMS] = chance @ error
    return found


def _over_signal(error: float, x: np.ndarray, density: float) -> float:
    """Return an error for each input over r E[x^2]."""
    return float(error / (density * np.square(x.astype(float)).mean()))


@dataclass(frozen=True)
class Probe:
    """A random ternary matrix (fan_in, outputs) of a density, and whole activations (tokens, fan_in)."""

    weights: np.ndarray
    x: np.ndarray
    calibration: np.ndarray

    @classmethod
    def drawn(cls, fan_in: int, density: float, *, tokens: int = 256, outputs: int = 512, seed: int = 0) -> Probe:
        """Draw one: activations are normal and scaled by each token's largest, as in the model.

        Raises BadInput for a density that is no share above 0.
        """
        require(0 < density <= 1, "density", density, "a share above 0, up to 1")
        rng = np.random.default_rng([seed, fan_in])
        held = rng.random((fan_in, outputs)) < density
        weights = np.where(rng.integers(0, 2, held.shape), held, -held.astype(np.int8))
        raw = rng.standard_normal((2 * tokens, fan_in))
        x = np.rint(raw * 127 / np.abs(raw).max(axis=1, keepdims=True)).astype(np.int32)
        return cls(weights, x[:tokens], x[tokens:])

    def run(
        self, crossbar: Crossbar, devices: Devices, readout: Readout, *, seed: int = 0, layer: str = "probe"
    ) -> np.ndarray:
        """Return what crossbars make of it, calibrated on activations of their own. seed, layer: what cells are drawn by."""
        on = program(self.weights, crossbar=crossbar, devices=devices, readout=readout, seed=seed, layer=layer)
        return np.asarray(multiply(on, self.x, reach=full_scale(on, self.calibration)))

    def ratio(self, got: np.ndarray, reference: np.ndarray | None = None) -> float:
        """Return the measured NSR of a product, against the exact one or, for one cause of several, another product."""
        exact = self.x.astype(np.float64) @ self.weights
        return float(np.square(got - (exact if reference is None else reference)).mean() / np.square(exact).mean())
