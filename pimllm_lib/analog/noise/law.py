"""The law of noise: the loss rises by kappa times the noise-to-signal ratio of the products. Where it holds, where it fails.

One kappa is taken from the curve of variation and then asked for everything else. Finer, each kind of matrix has its own,
from studies that put one kind on crossbars alone. Ratios are those measured in the trained matrices, with their activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.analog.crossbar.ratios import Probe
from pimllm_lib.analog.noise.cases import cases
from pimllm_lib.analog.noise.intervals import interval
from pimllm_lib.analog.noise.results import rises
from pimllm_lib.core.parts import require
from pimllm_lib.core.schema import annotate

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

    ds: `results.summary` of cases, whose noise_to_signal is (case, matrix).
    """
    ratio, rise = ds.noise_to_signal.mean("matrix"), np.log1p(ds.perplexity_rise)
    kappa = float((rise / ratio).where(_fitted(ds)).mean())
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


def _fitted(ds: xr.Dataset) -> xr.DataArray:
    """Return which cases kappa is taken from."""
    ratio, rise = ds.noise_to_signal.mean("matrix"), np.log1p(ds.perplexity_rise)
    chosen: xr.DataArray = (ds.curve == FITTED) & (rise < SMALL) & (ratio > 0)
    return chosen


def kappa_ends(ds: xr.Dataset, study: xr.Dataset, spec: Mapping[str, Any]) -> xr.Dataset:
    """Return both ends of kappa's interval over models, chips and text, from the study that it was taken from.

    ds: `results.summary` of that study. A mean of quotients of means is, to first order, the mean of what each trial gives:
    its rise less kappa times the ratio of its model, over the mean ratio.
    """
    rise = rises(study, spec).sel(case=ds.case[_fitted(ds).values])
    ratio = study.noise_to_signal.mean("matrix").sel(case=rise.case)
    middle = ratio.mean("training_seed")
    kappas = np.log1p(ds.perplexity_rise.sel(case=rise.case)) / middle
    low, high = interval(((rise - kappas * ratio) / middle + kappas).mean("case").values)
    return annotate(xr.Dataset({"kappa_low": low, "kappa_high": high}))


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
