"""Where datasets meet: joined with all that they say of what was evaluated, or changed values would pass for the catalog's.

Two attributes say it: `fingerprints`, name=digest between spaces, and `user_values`, a JSON object. xarray would keep the
first dataset's, or drop them where they differ; so no other module joins datasets by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import xarray as xr

#: Attributes by which a dataset says what it was evaluated for.
CARRIED = ("fingerprints", "user_values")
#: The end of an entry of `fingerprints`: names may have spaces in them.
_BETWEEN = re.compile(r"(?<==[0-9a-f]{12}) |(?<==[0-9a-f]{16}) ")
T = TypeVar("T", xr.Dataset, xr.DataArray)


def concat(parts: Iterable[T], dim: Any, **how: Any) -> T:
    """Return parts one after another along a dimension, see `xarray.concat`."""
    whole: T = xr.concat(list(parts), dim, combine_attrs=united, **how)
    return whole


def merge(parts: Iterable[xr.Dataset], **how: Any) -> xr.Dataset:
    """Return the variables of all parts as one dataset, see `xarray.merge`."""
    return xr.merge(list(parts), combine_attrs=united, **how)


def by_coords(parts: Iterable[xr.Dataset], **how: Any) -> xr.Dataset:
    """Return parts put together along their own labels, see `xarray.combine_by_coords`."""
    whole = xr.combine_by_coords(list(parts), combine_attrs=united, **how)
    assert isinstance(whole, xr.Dataset)
    return whole


def united(attributes: Iterable[Mapping[str, Any]], context: object = None) -> dict[str, Any]:
    """Return the attributes of what is joined: `CARRIED` of all together, of the others those that nobody contradicts.

    A name that has two fingerprints keeps both, a field that has several values a list of them. context: xarray's.
    """
    every = list(attributes)
    kept = {key: value for attrs in every for key, value in attrs.items() if key not in CARRIED}
    agreed = {
        key: value
        for key, value in kept.items()
        if all(np.array_equal(attrs[key], value) for attrs in every if key in attrs)
    }
    printed = dict.fromkeys(item for attrs in every for item in entries(attrs))
    found: dict[str, list[Any]] = {}  # the user's values of each name
    for attrs in every:
        for name, value in json.loads(attrs.get("user_values", "{}")).items():
            values = found.setdefault(name, [])
            values += [one for one in (value if isinstance(value, list) else [value]) if one not in values]
    own = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    said = {"fingerprints": " ".join(printed), "user_values": json.dumps(own, sort_keys=True) if own else ""}
    return agreed | {key: value for key, value in said.items() if value}


def entries(attributes: Mapping[str, Any]) -> list[str]:
    """Return what stands under `fingerprints`, each name=digest."""
    return [item for item in _BETWEEN.split(attributes.get("fingerprints", "")) if item]
