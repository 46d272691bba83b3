"""Labelled axes: give one to any field of a part or model, and the result gains that dimension."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.schema import DIMS, RESERVED, VARIABLES

T = TypeVar("T")


def axis(**named: Any) -> xr.DataArray:
    """Return a labelled axis: one name, and its values along it.

    Raises BadInput for a reserved name, no or several names, and values that are not a flat list.

    >>> axis(array_rows=[16, 32, 64]).sizes["array_rows"]
    3
    """
    if len(named) != 1:
        raise BadInput(f"an axis has one name; got {len(named)}: {', '.join(named) or 'none'}")
    ((name, values),) = named.items()
    if name in RESERVED or name in VARIABLES:
        raise BadInput(f"the axis name {name!r} is reserved; wanted any other, such as 'array_rows'")
    try:
        labels = np.asarray(values)
    except ValueError:  # ragged
        labels = np.zeros((0, 0))
    if labels.ndim != 1 or labels.size == 0 or labels.dtype == object:
        raise BadInput(f"axis {name} is {clip(values)}; wanted a flat list of numbers or names")
    return xr.DataArray(labels, dims=name, coords={name: labels}, name=name)


@dataclass(frozen=True)
class Frame:
    """The dimensions of one evaluation, in order, and how any value is laid along them.

    Inside, arrays are plain numpy with one position per dimension (length 1 where a value does not vary),
    so every step costs a microsecond and broadcasting does the sweep.
    """

    labels: dict[str, Any]

    @classmethod
    def over(cls, items: Iterable[Any], **labels: Any) -> Frame:
        """Return the frame with the standard dimensions, then every axis found in the items.

        Raises BadInput when one name is used with two sets of labels, or an array has no labels.
        """
        frame = dict.fromkeys(DIMS, np.zeros(1)) | labels
        for item in filter(is_dataclass, items):
            for name, value in _values(item):
                for dim, coord in _axes_of(name, value):
                    if dim in frame and not np.array_equal(frame[dim], coord):
                        raise BadInput(f"axis {dim} stands with two different lists of values; {name} clashes")
                    frame[dim] = coord
        return cls(frame)

    def position(self, dim: str) -> int:
        """Return where a dimension stands."""
        return list(self.labels).index(dim)

    def along(self, dim: str, values: Any) -> Any:
        """Return a flat list of values laid along one dimension."""
        shape = [1] * len(self.labels)
        shape[self.position(dim)] = -1
        return np.asarray(values).reshape(shape)

    def align(self, value: Any) -> Any:
        """Return a number unchanged, an axis as an array with one position per dimension.

        Whole numbers become float64, in which products of large ones are large: 64-bit integers would wrap around.
        """
        if not isinstance(value, xr.DataArray):
            return value
        value = value.astype(float) if value.dtype.kind in "iu" else value
        ordered = value.transpose(*(dim for dim in self.labels if dim in value.dims))
        return ordered.data.reshape([value.sizes.get(dim, 1) for dim in self.labels])

    def align_part(self, item: T) -> T:
        """Return a part with every axis in it, at any depth, aligned."""
        if not is_dataclass(item) or isinstance(item, type):
            return item
        old = {f.name: getattr(item, f.name) for f in fields(item)}
        new = {name: self.align_part(self.align(value)) for name, value in old.items()}
        changed = {name: value for name, value in new.items() if value is not old[name]}
        return replace(item, **changed) if changed else item

    @property
    def zero(self) -> Any:
        """Return a zero with one position per dimension."""
        return np.zeros([1] * len(self.labels))

    def wrap(self, table: Any, keep: list[str]) -> tuple[list[str], Any]:
        """Return the dimensions and values of an array of this frame, with those in `keep`; every other has length 1.

        A kept standard dimension is broadcast to its labels; a swept axis is kept only where the array varies along it.
        """
        lengths = dict(zip(self.labels, table.shape, strict=True))
        kept = [dim for dim in self.labels if dim in keep or (dim not in DIMS and lengths[dim] > 1)]
        flat = table.squeeze(axis=tuple(i for i, dim in enumerate(self.labels) if dim not in kept))
        wide = tuple(len(self.labels[dim]) for dim in kept)
        data = flat if flat.shape == wide else np.broadcast_to(flat, wide).copy()
        return kept, data

    def concat(self, dim: str, arrays: list[Any]) -> Any:
        """Return arrays of one frame joined along a dimension, broadcasting the others; one is not copied."""
        if len(arrays) == 1:
            return arrays[0]
        where = self.position(dim)
        full = [np.reshape(a, np.shape(a) or [1] * len(self.labels)) for a in arrays]
        return np.concatenate(np.broadcast_arrays(*full), axis=where)


def _values(item: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for f in fields(item):
        name, value = f"{path or type(item).__name__}.{f.name}", getattr(item, f.name)
        if is_dataclass(value):
            yield from _values(value, name)
        else:
            yield name, value


def _axes_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, np.ndarray) and value.ndim:
        raise BadInput(f"{name} is an array without labels; wanted a number or pl.axis(name=[...])")
    if not isinstance(value, xr.DataArray):
        return
    for dim in value.dims:
        if dim not in value.coords:
            raise BadInput(f"{name} has no labels along {dim}; wanted pl.axis({dim}=[...])")
        if dim in DIMS:
            raise BadInput(f"{name} varies along {dim}, a reserved name; wanted any other")
        yield str(dim), value.coords[dim].values
