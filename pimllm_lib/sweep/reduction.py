"""What is kept of a sweep: every point, the Pareto front, the best few, or quantiles. Part by part, then of the parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.core import joining
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require
from pimllm_lib.core.schema import annotate
from pimllm_lib.sweep import boxes
from pimllm_lib.sweep.entries import require_known
from pimllm_lib.sweep.fronts import front

KINDS = ("all", "pareto", "top", "quantiles")
SENSES = {"max": -1.0, "min": 1.0}
#: How parts are put together: along their own labels, without a word about what they share.
_JOINED: dict[str, Any] = {"join": "outer", "data_vars": "minimal", "coords": "minimal", "compat": "override"}
#: Dimensions that separate one front, or one list of best, from another.
_GROUPS = ("model", "context_len")


@dataclass(frozen=True)
class Reduction:
    """kind: one of `KINDS`; objectives: metric -> "max" or "min" (pareto: any number; top: one); count: how many best;
    quantiles: shares from 0 to 1.
    """

    kind: str = "all"
    objectives: Mapping[str, str] = field(default_factory=dict)
    count: int = 10
    quantiles: tuple[float, ...] = (0.05, 0.5, 0.95)

    @property
    def merges(self) -> bool:
        """Whether what is kept of two parts is kept of what was kept of each: not of all points, nor of quantiles."""
        return self.kind in ("pareto", "top")

    def check(self, metrics: Sequence[str]) -> None:
        """Raise BadInput for a reduction that cannot be, or an objective that is not among the metrics."""
        require_known("reducer", [self.kind], KINDS)
        most = {"pareto": 9, "top": 1}.get(self.kind, 0)
        if self.objectives and not most:
            raise BadInput(f"{self.kind} has objectives; wanted kind: pareto or top with them")
        require_known("objective", self.objectives, metrics)
        for name, sense in self.objectives.items():
            require(isinstance(sense, str) and sense in SENSES, f"objective {name}", sense, "max or min")
        if not min(most, 1) <= len(self.objectives) <= most:
            wanted = "one" if self.kind == "top" else "one or more"
            raise BadInput(f"{self.kind} has {len(self.objectives)} objectives; wanted {wanted}")
        require(self.count >= 1, "count", self.count, "at least 1")
        numbers = [q for q in self.quantiles if isinstance(q, int | float) and not isinstance(q, bool)]
        if not numbers or numbers != list(self.quantiles) or not all(0 <= q <= 1 for q in numbers):
            raise BadInput(f"quantiles are {clip(self.quantiles)}; wanted shares from 0 to 1")

    def of_chunk(self, ds: xr.Dataset) -> xr.Dataset:
        """Return what is kept of one chunk: the dataset, or its best designs, one after another along `design`."""
        if not self.merges:
            return ds
        groups = [
            _picked(group := ds.isel(model=slice(i, i + 1), context_len=slice(j, j + 1)), self._chosen(group))
            for i in range(ds.sizes["model"])
            for j in range(ds.sizes["context_len"])
        ]
        return joining.concat(groups, "design") if len(groups) > 1 else groups[0]

    def of_all(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Return what is kept of what was kept of every chunk, in order, with the count of points left out by reason."""
        return boxes.counted(self._of_all(parts), parts)

    def _of_all(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        if self.merges:
            return self._best(joining.concat(parts, "design") if len(parts) > 1 else parts[0])
        whole = parts[0] if len(parts) == 1 else joining.by_coords(parts, **_JOINED)
        if self.kind == "all":
            return annotate(whole)
        over = [dim for dim in whole.dims if dim not in _GROUPS]
        return annotate(whole.quantile(list(self.quantiles), over, keep_attrs=True))

    def _best(self, designs: xr.Dataset) -> xr.Dataset:
        """Return the designs to keep, group by group, in the order they came."""
        labels = np.stack([designs[name].values.astype(str) for name in _GROUPS], axis=1)
        kept = np.zeros(len(labels), dtype=bool)
        for group in np.unique(labels, axis=0):
            mine = np.flatnonzero((labels == group).all(axis=1))
            kept[mine[self._chosen(designs.isel(design=mine))]] = True
        return designs.isel(design=np.flatnonzero(kept))

    def _chosen(self, ds: xr.Dataset) -> NDArray[np.int64]:
        """Return the places of the best points of one group, in its flat order."""
        costs = _rounded(np.stack([SENSES[sense] * ds[name].values.ravel() for name, sense in self.objectives.items()]))
        if self.kind == "pareto":
            return front(costs.T)
        best = np.argsort(costs[0], kind="stable")[: self.count]
        return np.sort(best[~np.isnan(costs[0][best])])


def _picked(ds: xr.Dataset, places: NDArray[np.int64]) -> xr.Dataset:
    """Return some points of a dataset along one dimension, `design`, each with its labels as coordinates along it."""
    dims = list(ds.dims)
    at = dict(zip(dims, np.unravel_index(places, tuple(ds.sizes[dim] for dim in dims)), strict=True))
    columns = {str(name): ("design", c.values[at[c.dims[0]]], c.attrs) for name, c in ds.coords.items() if c.ndim == 1}
    flat = {name: ds[name].transpose(*dims).values[tuple(at.values())] for name in ds.data_vars}
    return xr.Dataset({k: ("design", v, ds[k].attrs) for k, v in flat.items()}, coords=columns, attrs=ds.attrs)


def _rounded(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers to twelve digits: what differs by the rounding of sums is equal, or fronts would hold twins.

    Of the 52 bits after a number's first, 39 stay: half of what goes is added to them all, read as whole numbers, and a
    carry grows the exponent as it should.
    """
    bits = np.ascontiguousarray(costs).view(np.int64)
    rounded: NDArray[np.float64] = ((bits + (1 << 12)) & -(1 << 13)).view(np.float64)
    return rounded
