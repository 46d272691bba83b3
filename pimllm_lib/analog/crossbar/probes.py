"""Every departure of a crossbar by itself: what it is, what closed form predicts of it, and what the engine makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from pimllm_lib.analog.crossbar import ratios
from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.ratios import Probe
from pimllm_lib.analog.crossbar.readout import ACT_BITS, converter
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.schema import annotate
from pimllm_lib.hardware import Crossbar, Devices, Readout

IDEAL_CELLS = Devices(name="ideal")
IDEAL = Readout(name="ideal")
UNIT = Readout(name="unit", range="fixed", lsb=1.0)


@dataclass(frozen=True)
class Cause:
    """One departure. predicted: its closed form for a probe of a density, as a ratio of noise to signal."""

    crossbar: Crossbar
    devices: Devices
    readout: Readout
    predicted: Callable[[Probe, float], float]

    def measured(self, probe: Probe, seed: int) -> float:
        """Return the ratio of noise to signal that crossbars of a device seed give."""
        return probe.ratio(probe.run(self.crossbar, self.devices, self.readout, seed=seed))


def causes(crossbar: Crossbar) -> dict[str, Cause]:
    """Return each departure by its name, at a size that is easily measured."""
    found = {name: _cells(crossbar, devices) for name, devices in _CELLS.items()}
    for encoding, short in (("twos-complement", "two's complement"), ("sign-magnitude", "sign-magnitude")):
        readout = replace(IDEAL, encoding=encoding)
        found[f"noise of reads, {short}"] = _reads(crossbar, readout)
        found[f"noise of outputs, {short}"] = _outputs(crossbar, readout)
        for name, bits, lsb, inl in _CURVES:
            found[f"{name}, {short}"] = _curve(
                _bits(crossbar, adc=bits), replace(UNIT, encoding=encoding, lsb=lsb, inl=inl)
            )
    found["noise of reads, one pass"] = _reads(_bits(crossbar, dac=8), IDEAL)
    return found


#: Departures of cells -> their statistics.
_CELLS = {
    "variation 10 %": replace(IDEAL_CELLS, variation=0.1),
    "variation 10 %, lognormal": replace(IDEAL_CELLS, variation=0.1, law="lognormal"),
    "stuck off 1 %": replace(IDEAL_CELLS, stuck_off=0.01),
    "stuck on 1 %": replace(IDEAL_CELLS, stuck_on=0.01),
    "drift": replace(IDEAL_CELLS, drift=0.05, drift_spread=0.02, drift_time=1000.0),
    "drift, one gain": replace(IDEAL_CELLS, drift=0.05, drift_spread=0.02, drift_time=1000.0, compensated=True),
    "wire drop, ladder": replace(IDEAL_CELLS, wire_ohm=0.02, drop="ladder"),
    "wire drop, first order": replace(IDEAL_CELLS, wire_ohm=0.02, drop="first-order"),
}
#: Departures of converters: name, bits, step, bow.
_CURVES = (
    ("steps of 2", 8, 2.0, 0.0), ("steps of 3", 8, 3.0, 0.0), ("steps of 4", 8, 4.0, 0.0),
    ("range of 5 bits", 5, 1.0, 0.0), ("bow of 8 steps", 7, 1.0, 8.0),
)  # fmt: skip


def published(crossbar: Crossbar, devices: Devices) -> Cause:
    """Return the programming of a published device, without what else is known of it."""
    return _cells(crossbar, replace(devices, read_noise=0.0, drift=0.0, drift_spread=0.0, drift_time=1.0))


def _cells(crossbar: Crossbar, devices: Devices) -> Cause:
    off = crossbar.cell.low_ohm / crossbar.cell.high_ohm

    def predicted(_: Probe, density: float) -> float:
        if devices.drift:
            return ratios.drift(devices, density=density, off=off)
        if devices.wire_ohm:
            return ratios.wire(devices, crossbar, density=density, off=off)
        return ratios.programming(devices, density=density, off=off) + ratios.stuck(devices, density=density)

    return Cause(crossbar, devices, IDEAL, predicted)


def _reads(crossbar: Crossbar, readout: Readout) -> Cause:
    devices, off = replace(IDEAL_CELLS, read_noise=0.05), crossbar.cell.low_ohm / crossbar.cell.high_ohm

    def predicted(probe: Probe, density: float) -> float:
        return ratios.reads(devices, ratios.pulse_power(probe.x, crossbar, readout), density=density, off=off)

    return Cause(crossbar, devices, readout, predicted)


def _outputs(crossbar: Crossbar, readout: Readout) -> Cause:
    devices = replace(IDEAL_CELLS, output_noise=0.5)

    def predicted(probe: Probe, density: float) -> float:
        return ratios.conversions(devices.output_noise**2, probe.x, crossbar, readout, density=density)

    return Cause(crossbar, devices, readout, predicted)


def _curve(crossbar: Crossbar, readout: Readout) -> Cause:
    def predicted(probe: Probe, density: float) -> float:
        on = program(probe.weights, crossbar=crossbar, devices=IDEAL_CELLS, readout=readout)
        adc = converter(on, ACT_BITS, None)
        assert adc is not None  # its range is fixed
        return ratios.curve(probe.x, crossbar, readout, adc, density=density)

    return Cause(crossbar, IDEAL_CELLS, readout, predicted)


def _bits(crossbar: Crossbar, *, dac: int | None = None, adc: int | None = None) -> Crossbar:
    inputs = replace(crossbar.dac, bits=dac or crossbar.dac.bits)
    return replace(crossbar, dac=inputs, adc=replace(crossbar.adc, bits=adc or crossbar.adc.bits))


def probed(
    crossbar: Crossbar, *, fan_in: list[int], device_seeds: int, density: float, tokens: int, outputs: int
) -> xr.Dataset:
    """Return predicted and measured ratios of noise to signal: cause x fan_in, and device_seed where measured.

    Raises BadInput for widths that leave a tile part empty, of which the closed forms know nothing.
    """
    if any(inputs < 1 or inputs % crossbar.rows for inputs in fan_in):
        raise BadInput(f"fan_in is {clip(fan_in)}; wanted multiples of the crossbar's {crossbar.rows} rows")
    found = causes(crossbar)
    shape = len(found), len(fan_in)
    predicted, measured = np.empty(shape), np.empty((*shape, device_seeds))
    for width, inputs in enumerate(fan_in):
        probe = Probe.drawn(inputs, density, tokens=tokens, outputs=outputs)
        for row, cause in enumerate(found.values()):
            predicted[row, width] = cause.predicted(probe, density)
            measured[row, width] = [cause.measured(probe, seed) for seed in range(device_seeds)]
    ds = xr.Dataset(
        {
            "predicted_noise_to_signal": (("cause", "fan_in"), predicted),
            "noise_to_signal": (("cause", "fan_in", "device_seed"), measured),
        },
        coords={"cause": list(found), "fan_in": fan_in, "device_seed": np.arange(device_seeds)},
    )
    ds.cause.attrs["long_name"] = "departure of the crossbar from an ideal one"
    ds.fan_in.attrs["long_name"] = "inputs of the matrix"
    return annotate(ds)
