"""Which numbers moved between two results, by how much, and where most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.archive import agreement, dataset, parameters
from pimllm_lib.archive.describe import few
from pimllm_lib.core.errors import clip, one_line


@dataclass(frozen=True)
class Change:
    """One way in which a result departs from an earlier one.

    kind: "moved" for numbers, else what is said in `text`: "only in one", "labels", "parameters", "dimensions", "units",
    "attributes".
    moved of count values differ, the one that differs most by `relative` of its old value, at `where`, from old to new.
    """

    result: str
    kind: str
    variable: str = ""
    text: str = ""
    moved: int = 0
    count: int = 0
    relative: float = 0.0
    where: str = ""
    old: float = 0.0
    new: float = 0.0
    unit: str = ""

    def __str__(self) -> str:
        """Return the change in one line."""
        if self.kind != "moved":
            return f"{self.result}: {self.variable + ': ' if self.variable else ''}{self.text}"
        unit = "" if self.unit in ("", "1") else f" {self.unit}"
        place = f" at {self.where}" if self.where else ""
        finite = np.isfinite(self.relative)
        far = f"by up to {self.relative:.2e} of the old value" if finite else "the first from or to nothing"
        moved = f"{self.moved} of {self.count} values moved, {far}: {self.old:.6g} -> {self.new:.6g}{unit}{place}"
        return f"{self.result}: {self.variable}: {moved}"

    def as_dict(self) -> dict[str, Any]:
        """Return the change as a plain object: for numbers the numbers, else the text."""
        keys = ("result", "kind", "variable", *(_NUMBERS if self.kind == "moved" else ("text",)))
        plain = {key: getattr(self, key) for key in keys}
        for name in plain.keys() & {"relative", "old", "new"}:  # JSON knows neither infinity nor what is no number
            plain[name] = plain[name] if np.isfinite(plain[name]) else None
        return plain


#: Attributes that are compared elsewhere, or say what made a file.
_ITS_OWN = ("provenance", "source", "units", "tolerance")
_NUMBERS = ("moved", "count", "relative", "where", "old", "new", "unit")


def archives(old: Mapping[str, xr.Dataset], new: Mapping[str, xr.Dataset]) -> list[Change]:
    """Return what moved from one set of results to another, each a mapping from name to dataset."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        if name in old and name in new:
            found += results(name, old[name], new[name])
        else:
            found.append(Change(name, "only in one", text=f"only in the {'old' if name in old else 'new'} archive"))
    return found


def results(name: str, old: xr.Dataset, new: xr.Dataset) -> list[Change]:
    """Return what moved from one result to another of the same name; nothing when they agree.

    Values agree as `agreement` says, within the tolerance of results of that kind, which no file can widen. Labels that
    differ by rounding are the same. Where the two cover different labels, those that both have are compared, and the
    difference in labels is a change of its own.
    """
    new = _alike(old, new)
    kinds = (_parameters, _labels, _values, _attributes, _tolerances)
    return [change for changes in kinds for change in changes(name, old, new)]


def _alike(old: xr.Dataset, new: xr.Dataset) -> xr.Dataset:
    """Return the new result with the old one's labels where they differ by rounding alone: powers do, between processors."""
    labels = {}
    for dim in old.indexes.keys() & new.indexes.keys():
        was, now = old[dim].values, new[dim].values
        numbers = was.dtype.kind == now.dtype.kind == "f" and was.shape == now.shape
        if numbers and np.allclose(was, now, 1e-12, 0.0, True):
            labels[dim] = (dim, was, new[dim].attrs)
    return new.assign_coords(labels)


def _parameters(name: str, old: xr.Dataset, new: xr.Dataset) -> Iterable[Change]:
    """Yield parameters that differ. One that a notebook has gained since counts where it is not at its default."""
    before, after = dataset.parameters(old), dataset.parameters(new)
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key, "absent"), after.get(key, "absent")
        gained = "absent" in (was, now) and parameters.default(name, key) in (was, now)
        if was != now and not gained:
            yield Change(name, "parameters", key, f"parameter {was} -> {now}")


def _attributes(name: str, old: xr.Dataset, new: xr.Dataset) -> Iterable[Change]:
    """Yield what a result and its variables say of themselves otherwise; what made it may be another."""
    both = [("", old, new), *((str(v), old[v], new[v]) for v in old.variables if v in new.variables)]
    for variable, was, now in both:
        for key in sorted(map(str, was.attrs.keys() | now.attrs.keys())):
            before, after = was.attrs.get(key, "absent"), now.attrs.get(key, "absent")
            if key not in _ITS_OWN and not np.array_equal(before, after):
                yield Change(name, "attributes", variable, f"attribute {key} {clip(before)} -> {clip(after)}")


def _tolerances(name: str, old: xr.Dataset, new: xr.Dataset) -> Iterable[Change]:
    """Yield which of two results states another tolerance than it has."""
    for which, ds in (("old", old), ("new", new)):
        stated, wanted = ds.attrs.get("tolerance", "none"), dataset.tolerance(ds)
        if not np.array_equal(stated, wanted):
            text = f"the {which} result states the tolerance {clip(stated)}; it is {wanted}"
            yield Change(name, "attributes", text=text)


def _labels(name: str, old: xr.Dataset, new: xr.Dataset) -> Iterable[Change]:
    for variable in sorted(map(str, old.variables.keys() ^ new.variables.keys())):
        where = "old" if variable in old.variables else "new"
        yield Change(name, "only in one", variable, f"only in the {where} result")
    for dim in sorted(map(str, old.coords.keys() & new.coords.keys())):
        was, now = old[dim].values, new[dim].values
        if not np.array_equal(was, now, equal_nan=was.dtype.kind == now.dtype.kind == "f"):
            gone, come = (few([x for x in a.ravel() if x not in b], 6) for a, b in ((was, now), (now, was)))
            yield Change(name, "labels", dim, f"labels gone: {gone or 'none'}; come: {come or 'none'}")


def _values(name: str, old: xr.Dataset, new: xr.Dataset) -> Iterable[Change]:
    tolerance = min(map(dataset.tolerance, (old, new)))
    for variable in sorted(map(str, old.data_vars.keys() & new.data_vars.keys())):
        was, now = old[variable], new[variable]
        units = [array.attrs.get("units", "1") for array in (was, now)]
        if not np.array_equal(*units):
            yield Change(name, "units", variable, f"unit {units[0]} -> {units[1]}")
            continue
        unlabelled = [dim for dim in was.dims if dim not in was.coords or dim not in now.coords]
        if was.dims != now.dims or any(was.sizes[dim] != now.sizes[dim] for dim in unlabelled):
            yield Change(name, "dimensions", variable, f"dimensions {dict(was.sizes)} -> {dict(now.sizes)}")
            continue
        if twice := [dim for dim in was.indexes if dim in now.indexes and _says_twice(was, now, str(dim))]:
            yield Change(name, "labels", variable, f"{twice[0]} has a label twice; values cannot be told apart")
            continue
        was, now = xr.align(was, now, join="inner")
        yield from _moved(name, variable, was, now, tolerance)


def _says_twice(was: xr.DataArray, now: xr.DataArray, dim: str) -> bool:
    """Return whether labels along a dimension differ, and one stands twice in either."""
    a, b = was.indexes[dim], now.indexes[dim]
    return not (a.equals(b) or (a.is_unique and b.is_unique))


def _moved(name: str, variable: str, was: xr.DataArray, now: xr.DataArray, tolerance: float) -> Iterable[Change]:
    if was.dtype.kind not in "fiu" or now.dtype.kind not in "fiu":
        if not np.array_equal(was.values, now.values):
            yield Change(name, "labels", variable, "values that are no numbers differ")
        return
    old, new = (np.atleast_1d(one.values).astype(float, copy=False) for one in (was, now))
    off = np.atleast_1d(agreement.moved(was, now, tolerance))
    if not off.any():
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(off, np.abs(new - old) / np.abs(old), 0.0)
    relative = np.where(np.isnan(relative), np.inf, relative)  # a number that came, went or left zero
    at = np.unravel_index(int(np.argmax(relative)), relative.shape)
    where = ", ".join(
        f"{dim}={was[dim].values[i]}" if dim in was.coords else f"{dim}={i}"
        for dim, i in zip(was.dims, at, strict=bool(was.dims))
    )
    yield Change(
        name, "moved", variable, moved=int(off.sum()), count=off.size, relative=float(relative[at]), where=where,
        old=float(old[at]), new=float(new[at]), unit=str(was.attrs.get("units", "1")),
    )  # fmt: skip


def changelog(changes: Iterable[Change]) -> str:
    """Return the "numbers that moved" part of a changelog, in Markdown."""
    lines = [one_line(f"- `{change.result}`{str(change).removeprefix(change.result)}") for change in changes]
    return "\n".join(["### Numbers that moved", "", *(lines or ["None: every archived number is as before."])])
