"""What a result holds, for a reader who has not opened it yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.archive import dataset, manifest
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput

#: Labels are shown as Python's own objects, which take many times their size.
_LABELS = 10_000_000


def describe(folder: Path, name: str) -> dict[str, Any]:
    """Return title, file, hash, provenance, labels and variables of a result as plain objects.

    Raises UnknownName for a result that is not there, BadInput for one with more labels than can be shown.
    """
    path = manifest.chosen(manifest.names(folder), [name])[name]
    content = files.read(path)
    ds = dataset.decode(content, path)
    if (count := sum(ds[name].size for name in {*ds.dims, *ds.coords})) > _LABELS:
        raise BadInput(f"{path} has {count} labels; wanted at most {_LABELS} to be shown")
    return {
        **dataset.record(ds, path), "result": name, "title": str(ds.attrs.get("title", "")),
        "file": str(path), "bytes": len(content), "sha256": files.hash_of(content),
        "licence": str(ds.attrs.get("licence", "")),
        "dimensions": {str(dim): ds[dim].values.tolist() for dim in ds.dims},
        "coordinates": {str(name): _plain(ds[name]) for name in ds.coords if name not in ds.dims},
        "variables": {str(variable): _variable(ds[variable]) for variable in ds.data_vars},
    }  # fmt: skip


def _plain(array: xr.DataArray) -> Any:
    """Return values as plain objects, None for numbers that JSON does not know."""
    values = array.values.astype(object)
    if array.dtype.kind == "f":
        values[~np.isfinite(array.values)] = None
    return values.tolist()


def _variable(array: xr.DataArray) -> dict[str, Any]:
    """Return meaning, unit, dimensions and range of a variable; the range is over finite values."""
    values = array.values[np.isfinite(array.values)] if array.dtype.kind in "fiu" else np.array([])
    low, high = (float(values.min()), float(values.max())) if values.size else (None, None)
    return {
        "meaning": str(array.attrs.get("long_name", "")), "units": str(array.attrs.get("units", "")),
        "dims": list(map(str, array.dims)), "min": low, "max": high,
    }  # fmt: skip


def lines(said: dict[str, Any]) -> Iterator[str]:
    """Yield the description as lines of text."""
    yield f"{said['result']}: {said['title']}"
    yield f"  file         {said['file']}, {said['bytes']} bytes, {said['licence']}"
    yield f"  sha256       {said['sha256']}"
    yield f"  made by      pimllm {said['pimllm']}, source hash {said['source_hash']}"
    for name, value in said["parameters"].items():
        yield f"  parameter    {name} = {value}"
    for name, value in said.get("user_values", {}).items():
        yield f"  user's own   {name} = {listed(value)}"
    for dim, labels in (said["dimensions"] | said["coordinates"]).items():
        yield f"  {dim:12} {few(labels if isinstance(labels, list) else [labels], 8)}"
    yield ""
    for name, variable in said["variables"].items():
        low, high, unit = (variable[key] for key in ("min", "max", "units"))
        span = "no number" if low is None else f"{low:.4g} to {high:.4g} {unit}"
        yield f"  {name:28} {span:32} {variable['meaning']}"


def listed(value: Any, between: str = ", ") -> str:
    """Return a value as text, the items of a list one after another."""
    return between.join(map(str, value)) if isinstance(value, list) else str(value)


def few(labels: Sequence[Any], most: int) -> str:
    """Return the first labels as text, and how many more there are."""
    return listed(list(labels[:most])) + (f" and {len(labels) - most} more" if len(labels) > most else "")
