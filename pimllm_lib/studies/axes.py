"""The axes of a study file: values, ranges, fields that move together."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.schema import RESERVED
from pimllm_lib.sweep.space import LAWS, METHODS, Axis, Range, Space
from pimllm_lib.system.arguments import listed

_LISTED_KEYS, _RANGED_KEYS = ("fields", "values", "labels"), ("fields", "low", "high", "law", "points")
#: Values of one axis: beyond that it is no axis of a grid any more.
_MOST = 10**6


def space(spec: Mapping[str, Any]) -> Space:
    """Return the space that a study describes. Raises BadInput for one that cannot be."""
    method, axes = spec.get("method", "grid"), spec.get("axes")
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not isinstance(axes, dict) or not axes:
        raise BadInput(f"axes are {clip(axes)}; wanted at least one, like 'system.array.rate_hz: [1e8, 5e8]'")
    sampled = method in ("latin", "sobol")
    for key in () if sampled else ("points", "seed"):
        if key in spec:
            raise BadInput(f"{key} stands beside method {method}; wanted it with latin or sobol only")
    made = tuple(_axis(str(name), entry, sampled) for name, entry in axes.items())
    counts = {key: whole(key, spec[key]) for key in ("points", "seed", "chunk") if key in spec}
    return Space(made, method, **counts)


def whole(key: str, value: Any) -> int:
    """Return a whole number of at least 0. Raises BadInput for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInput(f"{key} is {clip(value)}; wanted a whole number of at least 0")
    return value


def _axis(name: str, entry: Any, sampled: bool) -> Axis | Range:
    """Return one axis. A bare list stands for values of the field that the axis is named after."""
    table = entry if isinstance(entry, dict) else {"values": entry}
    known = _LISTED_KEYS if "values" in table else _RANGED_KEYS
    for key in table:
        if key not in known:
            raise unknown(f"key of axis {name}", key, known)
    short = name.split(".", 1)[-1].replace(".", "_")
    if not short.isidentifier():
        raise BadInput(f"the axis name {clip(name)} is no name; wanted letters, digits and '_'")
    if short in RESERVED:
        raise BadInput(f"the axis name {short!r} is reserved; wanted any other")
    fields = tuple(str(field) for field in listed(table.get("fields", name)))
    return _listed_axis(short, fields, table) if "values" in table else _ranged_axis(short, fields, table, sampled)


def _ranged_axis(name: str, fields: tuple[str, ...], table: Mapping[str, Any], sampled: bool) -> Axis | Range:
    low, high, law = (bound(name, table, "low"), bound(name, table, "high"), table.get("law", "uniform"))
    if not isinstance(law, str) or law not in LAWS:
        raise unknown(f"law of axis {name}", law, LAWS)
    if low > high or (law == "log" and low <= 0):
        above = ", above 0" if law == "log" else ""
        raise BadInput(f"axis {name} goes from {low:g} to {high:g}; wanted low up to high{above}")
    if law == "integer" and (low % 1 or high % 1):
        raise BadInput(f"axis {name} goes from {low:g} to {high:g}; wanted whole numbers for the law integer")
    drawn = Range(name, fields, low, high, law)
    if sampled:
        return drawn
    points = whole(f"points of axis {name}", table.get("points", 0))
    if points > _MOST:
        raise BadInput(f"axis {name} has {points} points; wanted at most {_MOST}")
    values = [float(x) for x in dict.fromkeys(np.atleast_1d(drawn.at(np.linspace(0, 1, points))).tolist())]
    return _listed_axis(name, fields, {"values": values})


def bound(name: str, table: Mapping[str, Any], key: str) -> float:
    """Return a finite number under a key. Raises BadInput for anything else."""
    value = number(table.get(key))
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise BadInput(f"axis {name} has {key} {clip(value)}; wanted values, or numbers low and high")
    return float(value)


def number(value: Any) -> Any:
    """Return a number that YAML reads as text, such as 1e8, as a number; everything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _listed_axis(name: str, fields: tuple[str, ...], table: Mapping[str, Any]) -> Axis:
    values = table["values"]
    if not isinstance(values, list) or not values:
        raise BadInput(f"axis {name} has the values {clip(values)}; wanted a list of at least one")
    wide = len(fields) > 1 and all(isinstance(row, list) for row in values)
    rows = tuple(tuple(map(number, row)) if wide else (number(row),) * len(fields) for row in values)
    for row in rows:
        if len(row) != len(fields):
            raise BadInput(
                f"axis {name} has a row {clip(list(row))}; wanted one value for each of {len(fields)} fields"
            )
        if any(not isinstance(x, int | float | str) for x in row) and not fields[0].startswith("parameter."):
            raise BadInput(f"axis {name} has the value {clip(list(row))}; wanted numbers, names, true or false")
    given = table.get("labels", list(range(len(rows))) if wide else [_plain(row[0]) for row in rows])
    if not isinstance(given, list) or any(not isinstance(x, int | float | str) for x in given):
        raise BadInput(f"axis {name} has the labels {clip(given)}; wanted a list of names or numbers")
    labels = tuple(given)
    if len(labels) != len(rows) or len(set(map(str, labels))) < len(rows):
        raise BadInput(f"axis {name} has the labels {clip(list(labels))}; wanted {len(rows)} that differ")
    return Axis(name, fields, rows, labels)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | bool) else value
