"""Points that cannot be evaluated: left out of their chunk, and counted by reason. The others are evaluated in boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.core.errors import BadInput
from pimllm_lib.workload.decoder import Decoder

#: The attribute that says, as JSON, how many points are left out for each reason.
LEFT_OUT = "left_out"
#: Dimension -> places along it.
Places = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Box:
    """Every combination of some models, contexts and places along axes. values: of each field, laid along the axes; labels:
    axis -> its labels.
    """

    values: Mapping[str, Any]
    models: Sequence[Decoder]
    context_len: Sequence[int]
    labels: Mapping[str, Any]

    def lengths(self) -> dict[str, int]:
        """Return dimension -> its length."""
        axes = {dim: len(labels) for dim, labels in self.labels.items()}
        return {"model": len(self.models), "context_len": len(self.context_len)} | axes

    def at(self, places: Places) -> Box:
        """Return a part of the box."""
        values = {
            field: value.isel({dim: places[dim] for dim in value.dims}) if hasattr(value, "dims") else value
            for field, value in self.values.items()
        }
        models, contexts = (
            [whole[i] for i in places[dim]]
            for dim, whole in (("model", self.models), ("context_len", self.context_len))
        )
        return Box(values, models, contexts, {dim: np.asarray(of)[places[dim]] for dim, of in self.labels.items()})


def without_bad(evaluate: Callable[[Box], xr.Dataset], box: Box, metrics: Sequence[str]) -> xr.Dataset:
    """Return the metrics of a box, NaN for points that cannot be evaluated, with their count by reason as an attribute.

    evaluate: what raises BadInput for a box with such points, and knows which they are. Raises what does not know it.
    """
    lengths = box.lengths()
    full = {name: np.full(tuple(lengths.values()), np.nan) for name in metrics}
    counts: dict[str, int] = {}
    attrs: dict[str, Any] = {}
    whole = {dim: np.arange(n) for dim, n in lengths.items()}
    todo: list[Places] = [{**whole, "model": np.array([i])} for i in range(len(box.models))]  # each says for itself
    while todo:
        places = todo.pop()
        try:
            ds = evaluate(box.at(places))
        except BadInput as error:
            if error.bad is None:
                raise
            bad = _mask(error.bad)
            size = prod(len(where) for dim, where in places.items() if dim not in bad.dims)
            counts[error.what] = counts.get(error.what, 0) + int(bad.sum()) * size
            todo += [{**places, **{dim: places[dim][at] for dim, at in good.items()}} for good in _good(bad)]
        else:
            attrs = ds.attrs
            for name in metrics:
                full[name][np.ix_(*places.values())] = ds[name].values
    data = {name: (list(lengths), values) for name, values in full.items()}
    coords = {**box.labels, "model": [one.name for one in box.models], "context_len": list(box.context_len)}
    return xr.Dataset(data, coords, attrs | {LEFT_OUT: json.dumps(counts, sort_keys=True)})


def _mask(bad: Any) -> xr.DataArray:
    """Return where points are bad, along the dimensions on which that depends."""
    mask = xr.DataArray(bad)
    return mask.isel({dim: 0 for dim in mask.dims if mask.sizes[dim] == 1}, drop=True)


def _good(bad: xr.DataArray) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Yield boxes that together hold every point that is not bad, once: places along the first dimension for which the
    others are alike, then the others.
    """
    if not bad.dims:
        if not bad.item():
            yield {}
        return
    dim, *others = (str(name) for name in bad.dims)
    patterns, of = np.unique(bad.values.reshape(bad.sizes[dim], -1), axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        rest = xr.DataArray(pattern.reshape([bad.sizes[name] for name in others]), dims=others)
        yield from ({dim: np.flatnonzero(of.ravel() == i), **deeper} for deeper in _good(rest))


def left_out(ds: xr.Dataset) -> dict[str, int]:
    """Return how many points a dataset says are left out, by reason."""
    return dict(json.loads(ds.attrs.get(LEFT_OUT, "{}")))


def counted(whole: xr.Dataset, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return what was made of parts, with the points that they leave out counted together."""
    counts: dict[str, int] = {}
    for what, count in (item for part in parts for item in left_out(part).items()):
        counts[what] = counts.get(what, 0) + count
    return whole.assign_attrs({LEFT_OUT: json.dumps(counts, sort_keys=True)}) if counts else whole
