"""What mitigates noise, each remedy beside its control: the same chips, text and, where it trains, as many steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from pimllm_lib.analog.noise.intervals import interval
from pimllm_lib.analog.noise.results import means
from pimllm_lib.core.schema import annotate


@dataclass(frozen=True)
class Remedy:
    """One comparison. study, control, case: where both stand; cost: what the remedy takes."""

    study: str
    control: str
    case: str
    cost: str


_TRAINING = "300 more steps of training, as the control has too"
_SHARED, _SIGMA = "4 sigma shared by all, sign-magnitude", "4 sigma, sign-magnitude"
#: Remedy -> its comparisons.
REMEDIES: dict[str, tuple[Remedy, ...]] = {
    "noise in training": tuple(
        Remedy("noise-combined", f"{case} control", f"{case} noise", _TRAINING)
        for case in ("exact", "variation 0.4", "variation 0.6", "stuck 0.02 each", "converters of 4 bits")
    ),
    "the same steps without noise": tuple(
        Remedy("noise-combined", case, f"{case} control".strip(), "300 more steps of training")
        for case in ("exact", "converters of 4 bits")
    ),
    "a range for each matrix": tuple(
        Remedy("noise-converters", f"{_SHARED} {bits}", f"{_SIGMA} {bits}", "a reference a matrix, and a text to set it")
        for bits in (4, 5, 6)
    ),
    "one gain against drift": (
        Remedy("noise-cells", "drift 1000.0", "drift, one gain 1000.0", "one product an output, and a reading of the gain"),
    ),
    "spare columns": tuple(
        Remedy("noise-combined", f"{curve} 0", f"{curve} {count}", f"{count / 2.56:.0f} % more columns, a test of all cells")
        for curve, count in (("stuck both, rare", 8), ("stuck both", 8), ("stuck both", 32))
    ),
}  # fmt: skip


_FOUND = ("remedy_effect", "remedy_effect_low", "remedy_effect_high")


def effects(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return for each comparison the perplexity of the remedy over that of its control, less one: (remedy,).

    Paired by model, chip and text, with the interval of a rise, see `intervals`. Comparisons that the studies do not have,
    of models of one's own for one, are left out.
    """
    tried = {name: set(map(str, ds.case.values)) for name, ds in found.items()}
    every = ((name, item) for name, items in REMEDIES.items() for item in items)
    rows = [(name, item) for name, item in every if {item.control, item.case} <= tried[item.study]]
    values: list[list[float]] = []
    for _, item in rows:
        apart = _of_chips(found[item.study], item.case) - _of_chips(found[item.study], item.control)
        values.append([float(means(apart)), *interval(apart.values)])
    labels = {
        "comparison": [f"{item.case} against {item.control}" for _, item in rows],
        "remedy": ("comparison", [name for name, _ in rows]), "cost": ("comparison", [item.cost for _, item in rows]),
    }  # fmt: skip
    columns = np.expm1(np.array(values).reshape(len(rows), len(_FOUND)))
    data = {name: ("comparison", columns[:, i]) for i, name in enumerate(_FOUND)}
    return annotate(xr.Dataset(data, coords=labels))


def _of_chips(ds: xr.Dataset, case: str) -> xr.DataArray:
    """Return the loss of a case (training_seed, device_seed, text_block); a chip that was read alone stands for all."""
    loss: xr.DataArray = ds.held_out_loss.sel(case=case, drop=True).transpose(
        "training_seed", "device_seed", "text_block"
    )
    alone = bool(loss.isel(device_seed=slice(1, None)).isnull().all())
    return loss.fillna(loss.isel(device_seed=0)) if alone else loss
