"""The law of noise: the loss rises by kappa times the noise-to-signal ratio of the products. Where it holds, where it fails.

One kappa is taken from the curve of variation and then asked for everything else. Finer, each kind of matrix has its own,
from studies that put one kind on crossbars alone. Ratios are those measured in the trained matrices, with their activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.analog.crossbar.ratios import Probe
from pimllm_lib.analog.noise.cases import cases
from pimllm_lib.core.parts import require
from pimllm_lib.core.schema import annotate
from pimllm_lib.hardware.devices import PLACES

#: The curve that kappa is taken from; the one that gives a kappa for each kind of matrix.
FITTED, BY_KIND = "variation", "kind"
#: Rises beyond this, in nats, do not enter kappa: the law is the first term of a series. Ratios that say something of it.
SMALL, LEAST, MOST = 0.1, 5e-4, 0.2
#: Curves of single layers and kinds, and of models without crossbars, of which the law says nothing.
APART = ("layer", BY_KIND, "no crossbars")
#: Family of cases -> what the names of its curves start with.
FAMILIES: dict[str, tuple[str, ...]] = {
    "cells that vary or are stuck": ("variation", "stuck"),
    "noise of reads and outputs": ("read noise", "output noise"),
    "drift": ("drift",),
    "wires": ("wire",),
    "published devices, ideal conversion": ("ideal conversion",),
    "converters": ("worst case", "4 sigma", "unit step", "8 bits", "as published", "converters"),
}
#: Rows of the crossbar that a case has unless it says otherwise.
TILE = 256
#: Where the pairs of a tile lie, on word lines with the resistance of bit lines, or with none; resistances of these, in ohm.
WORD_LINES = ("none", *PLACES)
WIRES = (0.02, 0.06, 0.15, 0.4, 1.0)
#: What is asked of wide matrices.
WIDE: dict[str, dict[str, Any]] = {
    "variation": {"field": "devices.variation", "values": [0.2]},
    "stuck on": {"field": "devices.stuck_on", "values": [0.01]},
    "4 sigma, bits": {"field": "crossbar.adc.bits", "values": [6], "readout": "readout-4-sigma"},
    "worst case, bits": {
        "field": "crossbar.adc.bits", "values": [8], "readout": "readout-worst-case",
        "set": {"readout.encoding": "sign-magnitude"},
    },
}  # fmt: skip


def law(ds: xr.Dataset) -> xr.Dataset:
    """Return kappa, and the rise of the loss in nats that it predicts for each case: by one kappa, and kind by kind.

    ds: `noise_results.summary` of cases, whose noise_to_signal is (case, matrix).
    """
    ratio, rise = ds.noise_to_signal.mean("matrix"), np.log1p(ds.perplexity_rise)
    fitted = (ds.curve == FITTED) & (rise < SMALL) & (ratio > 0)
    kappa = float((rise / ratio.where(fitted)).mean())
    # the mean ratio of each kind of matrix over the layers, and its rise where it lies on crossbars alone
    of_matrix = [str(name).rpartition(".")[2] for name in ds.matrix.values]
    means = ds.noise_to_signal.assign_coords(kind=("matrix", of_matrix)).groupby("kind").mean()
    alone = ds.sel(case=ds.curve == BY_KIND)
    kinds = {
        str(kind): float(np.log1p(alone.perplexity_rise.sel(case=case)) / means.sel(case=case, kind=kind))
        for case, kind in zip(alone.case.values, alone.setting.values, strict=True)
    }
    of_kinds = means.sel(kind=list(kinds)) * xr.DataArray(list(kinds.values()), dims="kind")
    about = ~ds.curve.isin(APART) & (ratio > 0)
    data = {
        "kappa": xr.DataArray(kappa), "kind_kappa": ("kind", np.array(list(kinds.values()))),
        "loss_rise": rise, "law_rise": (kappa * ratio).where(about), "kinds_rise": of_kinds.sum("kind").where(about),
    }  # fmt: skip
    return annotate(xr.Dataset(data, coords={"kind": list(kinds)}).drop_vars("matrix", errors="ignore"))


def of_family(ds: xr.Dataset, family: str) -> NDArray[np.bool_]:
    """Return which cases belong to a family."""
    return np.array([str(curve).startswith(FAMILIES[family]) for curve in ds.curve.values])


def families(ds: xr.Dataset) -> dict[str, NDArray[Any]]:
    """Return for each family rise over noise to signal, growing, of every case whose ratio is from LEAST to MOST."""
    ratio = ds.noise_to_signal.mean("matrix").values
    asked = (ratio >= LEAST) & (ratio <= MOST) & (ds.curve.values != FITTED)
    found = {family: asked & of_family(ds, family) for family in FAMILIES}
    return {family: np.sort(ds.loss_rise.values[mine] / ratio[mine]) for family, mine in found.items()}


def shapes(width: int, inner: int) -> list[tuple[int, int]]:
    """Return inputs and outputs of a full tile, and of the projections of a layer of a width, its FFN of an inner width.

    Raises BadInput for widths that are no whole numbers of tiles.
    """
    for size in (width, inner):
        require(size >= TILE and size % TILE == 0, "a width", size, f"a multiple of {TILE}, whole tiles")
    return [(TILE, TILE), (width, width), (width, inner), (inner, width)]


def wide(shapes: Sequence[tuple[int, int]], *, tokens: int, density: float) -> xr.DataArray:
    """Return noise-to-signal ratios of a few cases in random ternary matrices of some shapes: (shape, departure).

    shapes: inputs and outputs; a range that comes from data is set on activations of its own.
    """
    chosen, found = cases(WIDE), []
    for fan_in, fan_out in shapes:
        probe = Probe.drawn(fan_in, density, tokens=tokens, outputs=fan_out)
        runs = (probe.run(case.crossbar, case.devices, case.readout, layer="wide") for case in chosen)
        found.append([probe.ratio(run) for run in runs])
    named, names = [f"{fan_in} x {fan_out}" for fan_in, fan_out in shapes], [case.name for case in chosen]
    return xr.DataArray(np.array(found), [("shape", named), ("departure", names)])


def word_lines(ds: xr.Dataset, *, tokens: int, density: float) -> xr.Dataset:
    """Return what word lines as resistive as bit lines do to a full tile of random weights, and to the limits of bit lines.

    ds: thresholds, of which those of the curve "wire", with bit lines alone, are asked. wire_noise_to_signal: (word_lines,
    wire_ohm); wire_limit_ohm: the resistance at which it is as large as that of bit lines alone at their limit, (word_lines,
    level): as harmful, by the law; NaN outside of `WIRES`. Logarithms are linear between these.
    """
    limits = ds.threshold.sel(curve_name="wire", drop=True)
    probe, found = Probe.drawn(TILE, density, tokens=tokens, outputs=TILE), []
    for place in WORD_LINES:
        lines: dict[str, Any] = {"field": "devices.wire_ohm"}
        if place != "none":
            lines = {"field": ["devices.wire_ohm", "devices.word_ohm"], "set": {"devices.pairs": place}}
        chosen = cases({"wire": lines | {"values": list(WIRES)}})
        found.append(
            [probe.ratio(probe.run(case.crossbar, case.devices, case.readout, layer="wires")) for case in chosen]
        )
    ohm, ratios, within = np.log(WIRES), np.log(found), {"left": np.nan, "right": np.nan}
    at = np.interp(np.log(limits.where(limits > 0)), ohm, ratios[0], **within)
    same = np.exp([np.interp(at, mine, ohm, **within) for mine in ratios])
    labels = {"word_lines": list(WORD_LINES), "wire_ohm": list(WIRES), "level": limits.level}
    data = {
        "wire_noise_to_signal": (("word_lines", "wire_ohm"), found),
        "wire_limit_ohm": (("word_lines", "level"), same),
    }
    wired = xr.Dataset(data, coords=labels)
    wired.word_lines.attrs["long_name"] = (
        "where the cells of a pair lie, on word lines with the resistance of bit lines"
    )
    wired.wire_ohm.attrs |= {"long_name": "resistance of a wire from cell to cell", "units": "ohm"}
    return annotate(wired)
