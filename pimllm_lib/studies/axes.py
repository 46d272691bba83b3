"""The axes of a study file: values, ranges, fields that move together."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.schema import RESERVED
from pimllm_lib.sweep.entries import number, require_known, whole
from pimllm_lib.sweep.space import LAWS, METHODS, Axis, Range, Space
from pimllm_lib.system.arguments import listed

_LISTED_KEYS, _RANGED_KEYS = ("fields", "values", "labels"), ("fields", "low", "high", "law", "points")
#: Values of one axis: beyond that it is no axis of a grid any more.
_MOST = 10**6


def space(spec: Mapping[str, Any]) -> Space:
    """Return the space that a study describes. Raises BadInput for one that cannot be."""
    method, axes = spec.get("method", "grid"), spec.get("axes")
    require_known("method", [method], METHODS)
    if not isinstance(axes, dict) or not axes:
        raise BadInput(f"axes are {clip(axes)}; wanted at least one, like 'system.array.rate_hz: [1e8, 5e8]'")
    sampled = method in ("latin", "sobol")
    for key in () if sampled else ("points", "seed"):
        if key in spec:
            raise BadInput(f"{key} stands beside method {method}; wanted it with latin or sobol only")
    made = tuple(_axis(str(name), entry, sampled) for name, entry in axes.items())
    return Space(made, method, **{key: whole(key, spec[key]) for key in ("points", "seed", "chunk") if key in spec})


def _axis(name: str, entry: Any, sampled: bool) -> Axis | Range:
    """Return one axis. A bare list stands for values of the field that the axis is named after."""
    table = entry if isinstance(entry, dict) else {"values": entry}
    require_known(f"key of axis {name}", table, _LISTED_KEYS if "values" in table else _RANGED_KEYS)
    short = name.split(".", 1)[-1].replace(".", "_")
    if not short.isidentifier():
        raise BadInput(f"the axis name {clip(name)} is no name; wanted letters, digits and '_'")
    if short in RESERVED:
        raise BadInput(f"the axis name {short!r} is reserved; wanted any other")
    fields = tuple(str(field) for field in listed(table.get("fields", name)))
    if "values" in table:
        return _listed_axis(short, fields, table["values"], table.get("labels"))
    drawn = _range(short, fields, table)
    if sampled:
        return drawn
    points = whole(f"points of axis {short}", table.get("points", 0))
    if points > _MOST:
        raise BadInput(f"axis {short} has {points} points; wanted at most {_MOST}")
    values = np.atleast_1d(drawn.at(np.linspace(0, 1, points))).tolist()
    return _listed_axis(short, fields, [float(x) for x in dict.fromkeys(values)], None)


def _range(name: str, fields: tuple[str, ...], table: Mapping[str, Any]) -> Range:
    low, high, law = number(table.get("low")), number(table.get("high")), table.get("law", "uniform")
    for key, end in (("low", low), ("high", high)):
        finite = isinstance(end, int | float) and not isinstance(end, bool) and isfinite(end)
        if not finite:
            raise BadInput(f"axis {name} has {key} {clip(end)}; wanted values, or numbers low and high")
    require_known(f"law of axis {name}", [law], LAWS)
    what = f"axis {name} goes from {low:g} to {high:g}"
    if low > high or (law == "log" and low <= 0):
        raise BadInput(f"{what}; wanted low up to high{', above 0' if law == 'log' else ''}")
    if law == "integer" and (low % 1 or high % 1):
        raise BadInput(f"{what}; wanted whole numbers for the law integer")
    return Range(name, fields, float(low), float(high), law)


def _listed_axis(name: str, fields: tuple[str, ...], values: Any, given: Any) -> Axis:
    """Return an axis of values, or of rows with one for each field. given: its labels, None where there are none."""
    if not isinstance(values, list) or not values:
        raise BadInput(f"axis {name} has the values {clip(values)}; wanted a list of at least one")
    wide = len(fields) > 1 and all(isinstance(row, list) for row in values)
    rows = tuple(tuple(map(number, row)) if wide else (number(row),) * len(fields) for row in values)
    for row in rows:
        if len(row) != len(fields):
            wanted = f"one value for each of {len(fields)} fields"
            raise BadInput(f"axis {name} has a row {clip(list(row))}; wanted {wanted}")
        if any(not isinstance(x, int | float | str) for x in row) and not fields[0].startswith("parameter."):
            raise BadInput(f"axis {name} has the value {clip(list(row))}; wanted numbers, names, true or false")
    if given is None:
        plain = (str(row[0]) if isinstance(row[0], list | bool) else row[0] for row in rows)
        given = list(range(len(rows)) if wide else plain)
    if not isinstance(given, list) or any(not isinstance(x, int | float | str) for x in given):
        raise BadInput(f"axis {name} has the labels {clip(given)}; wanted a list of names or numbers")
    if len(given) != len(rows) or len(set(map(str, given))) < len(rows):
        raise BadInput(f"axis {name} has the labels {clip(given)}; wanted {len(rows)} that differ")
    return Axis(name, fields, rows, tuple(given))
