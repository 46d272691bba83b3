"""Every departure of a crossbar by itself: what it is, what closed form predicts of it, and what the engine makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.analog.crossbar import ratios
from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.ratios import Probe
from pimllm_lib.analog.crossbar.readout import ACT_BITS, converter
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_field
from pimllm_lib.core.schema import annotate
from pimllm_lib.hardware import Crossbar, Devices, Readout

IDEAL_CELLS, IDEAL = Devices(name="ideal"), Readout(name="ideal")
#: Departures of cells, and of reads with each encoding -> the statistics of their devices.
_CELLS: dict[str, dict[str, Any]] = {
    "variation 10 %": {"variation": 0.1},
    "variation 10 %, lognormal": {"variation": 0.1, "law": "lognormal"},
    "stuck off 1 %": {"stuck_off": 0.01},
    "stuck on 1 %": {"stuck_on": 0.01},
    "drift": {"drift": 0.05, "drift_spread": 0.02, "drift_time": 1000.0},
    "drift, one gain": {"drift": 0.05, "drift_spread": 0.02, "drift_time": 1000.0, "compensated": True},
    "wire drop, ladder": {"wire_ohm": 0.02, "drop": "ladder"},
    "wire drop, first order": {"wire_ohm": 0.02, "drop": "first-order"},
    "word lines too, pairs apart": {"wire_ohm": 0.02, "word_ohm": 0.02, "drop": "first-order"},
    "word lines too, side by side": {
        "wire_ohm": 0.02, "word_ohm": 0.02, "pairs": "side-by-side", "drop": "first-order",
    },
}  # fmt: skip
_READS: dict[str, dict[str, Any]] = {"noise of reads": {"read_noise": 0.05}, "noise of outputs": {"output_noise": 0.5}}
#: Departures of converters: name, bits, step, bow.
_CURVES = (
    ("steps of 2", 8, 2.0, 0.0), ("steps of 3", 8, 3.0, 0.0), ("steps of 4", 8, 4.0, 0.0),
    ("range of 5 bits", 5, 1.0, 0.0), ("bow of 8 steps", 7, 1.0, 8.0),
)  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """A departure of a crossbar: what its devices and readout have and ideal ones have not, a range from data apart."""

    crossbar: Crossbar
    devices: Devices
    readout: Readout

    def predicted(self, probe: Probe, density: float) -> float:
        """Return the ratio of noise to signal for a probe of a density: the closed forms added, each 0 without its cause."""
        bar, devices, readout, x = self.crossbar, self.devices, self.readout, probe.x
        at = {"density": density, "off": bar.cell.low_ohm / bar.cell.high_ohm}
        form = ratios.programming(devices, **at) + ratios.stuck(devices, density=density)
        form += ratios.drift(devices, **at) + ratios.wire(devices, bar, outputs=probe.weights.shape[1], **at)
        form += ratios.reads(devices, ratios.pulse_power(x, bar, readout) if devices.reading else 0.0, **at)
        form += ratios.conversions(devices.output_noise**2, x, bar, readout, density=density)
        ideal = program(probe.weights, crossbar=bar, devices=IDEAL_CELLS, readout=readout)
        adc = converter(ideal, ACT_BITS, None)
        return form if adc is None else form + ratios.curve(x, bar, readout, adc, density=density)

    def measured(self, probe: Probe, seed: int) -> float:
        """Return the ratio of noise to signal that crossbars of a device seed give."""
        return probe.ratio(probe.run(self.crossbar, self.devices, self.readout, seed=seed))


def causes(crossbar: Crossbar) -> dict[str, Cause]:
    """Return each departure by its name, at a size that is easily measured."""
    found = {name: Cause(crossbar, replace(IDEAL_CELLS, **fields), IDEAL) for name, fields in _CELLS.items()}
    for encoding, short in (("twos-complement", "two's complement"), ("sign-magnitude", "sign-magnitude")):
        readout = replace(IDEAL, encoding=encoding)
        for name, fields in _READS.items():
            found[f"{name}, {short}"] = Cause(crossbar, replace(IDEAL_CELLS, **fields), readout)
        for name, bits, lsb, inl in _CURVES:
            uneven = replace(readout, range="fixed", lsb=lsb, inl=inl)
            found[f"{name}, {short}"] = Cause(with_field(crossbar, "adc.bits", bits), IDEAL_CELLS, uneven)
    noisy = replace(IDEAL_CELLS, **_READS["noise of reads"])
    return found | {"noise of reads, one pass": Cause(with_field(crossbar, "dac.bits", 8), noisy, IDEAL)}


def probed(
    crossbar: Crossbar, *, fan_in: list[int], device_seeds: int, density: float, tokens: int, outputs: int
) -> xr.Dataset:
    """Return predicted and measured ratios of noise to signal: cause x fan_in, and device_seed where measured.

    Raises BadInput for widths that leave a tile part empty, of which the closed forms know nothing.
    """
    if any(inputs < 1 or inputs % crossbar.rows for inputs in fan_in):
        raise BadInput(f"fan_in is {clip(fan_in)}; wanted multiples of the crossbar's {crossbar.rows} rows")
    found = causes(crossbar)
    predicted, measured = np.empty((len(found), len(fan_in))), np.empty((len(found), len(fan_in), device_seeds))
    for width, inputs in enumerate(fan_in):
        probe = Probe.drawn(inputs, density, tokens=tokens, outputs=outputs)
        for row, cause in enumerate(found.values()):
            predicted[row, width] = cause.predicted(probe, density)
            measured[row, width] = [cause.measured(probe, seed) for seed in range(device_seeds)]
    dims = ("cause", "fan_in", "device_seed")
    ds = xr.Dataset(
        {"predicted_noise_to_signal": (dims[:2], predicted), "noise_to_signal": (dims, measured)},
        coords={"cause": list(found), "fan_in": fan_in, "device_seed": np.arange(device_seeds)},
    )
    ds.cause.attrs["long_name"] = "departure of the crossbar from an ideal one"
    ds.fan_in.attrs["long_name"] = "inputs of the matrix"
    return annotate(ds)
