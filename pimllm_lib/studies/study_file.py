"""A study as a YAML file: what varies over which values, at which system and models, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.archive import dataset, notebooks, parameters
from pimllm_lib.archive.provenance import study_hash
from pimllm_lib.catalog.departures import departures
from pimllm_lib.core import scratch
from pimllm_lib.core.errors import BadInput, clip, note
from pimllm_lib.core.parts import fingerprint, require
from pimllm_lib.core.plain import levels
from pimllm_lib.core.schema import RESERVED
from pimllm_lib.hardware import System
from pimllm_lib.studies.folder import Plan
from pimllm_lib.studies.noise_runs import noise_plan
from pimllm_lib.sweep import points
from pimllm_lib.sweep.entries import number, require_known, whole
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import LAWS, METHODS, Axis, Chunk, Range, Space
from pimllm_lib.system.arguments import contexts, listed

_KEYS = (
    "name", "notebook", "system", "model", "context_len", "conventions", "method", "points", "seed", "chunk", "axes",
    "metrics", "reduce", "noise", "curves",
)  # fmt: skip
#: What makes a study one of a notebook's runs, or of trained models on crossbars -> what stands beside it.
_BESIDE = {"notebook": ("name", "axes", "method"), "curves": ("name", "noise", "curves")}
#: Keys of an axis: of one that lists its values, and of one between two ends.
_LISTED, _RANGED = ("fields", "values", "labels"), ("fields", "low", "high", "law", "points")
#: Values of one axis: beyond that it is no axis of a grid any more.
_MOST = 10**6
#: Values of each metric that are evaluated at once: a few arrays of them fit a small machine.
_AT_ONCE = 1 << 24


def read(path: Path, *, strict: bool = False) -> Plan:
    """Return the study in a YAML file. Raises BadInput, naming the file and the key, for anything that cannot be run.

    strict: whether a point that cannot be evaluated, as where a block needs too many tiles, ends the study of a space.
    """
    spec = parameters.from_file(path)
    try:
        for key in (key for level in levels(spec) for _, item in level if isinstance(item, dict) for key in item):
            require(isinstance(key, str), "a key", key, "a name, or quotes")
        require_known("key", spec, _KEYS)
        kind = next((key for key in _BESIDE if key in spec), "axes")
        *some, last = _BESIDE.get(kind, _KEYS)
        for key in spec.keys() - {kind, *some, last}:
            raise BadInput(f"{key} stands beside {kind}; wanted {', '.join(some)} and {last} alone")
        name = spec.get("name", path.stem)
        plain = isinstance(name, str) and name.replace("-", "").replace("_", "").isalnum()
        require(plain, "name", name, "letters, digits, '-' and '_'")
        special = {"notebook": _notebook_plan, "curves": noise_plan}.get(kind)
        return special(name, spec) if special else _plan(name, spec, strict)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _plan(name: str, spec: dict[str, Any], strict: bool) -> Plan:
    system = catalog.system(spec.get("system", "pim-llm"))
    require(isinstance(system, System), "system", system, "one made of parts")
    study = points.Study(
        system=system,
        models=tuple(catalog.model(item) for item in listed(spec.get("model", "opt-6.7b"))),
        context_len=tuple(contexts(spec.get("context_len", 1024))),
        conventions=catalog.preset(spec.get("conventions", "full-system")),
        space=_space(spec),
        metrics=tuple(listed(spec.get("metrics", ["tokens_per_s", "tokens_per_j"]))),
        reduction=_reduction(spec.get("reduce", "all")),
        strict=strict,
    )
    given = [study.system, *study.models, study.conventions]
    cells = len(study.models) * len(study.context_len)
    fits = min(study.space.chunk, study.space.size) * cells <= _AT_ONCE
    what = f"chunk, in points of {cells} values,"
    require(
        fits, what, study.space.chunk, f"at most {_AT_ONCE // cells}, or fewer models and contexts: memory holds them"
    )
    return Plan(
        name=name, spec=spec, space=study.space, work=partial(points.compute, study),
        reduction=study.reduction, cells=cells, metrics=len(study.metrics),
        identity=" ".join(f"{item.name}={fingerprint(item)}" for item in given), sources=study_hash(spec),
        own={name: value for item in given for name, value in departures(item).items()}, strict=strict,
    )  # fmt: skip


def _notebook_plan(name: str, spec: dict[str, Any]) -> Plan:
    """Return a study whose points are runs of a notebook, each with its own parameters; every dataset is kept."""
    slug, space = str(spec["notebook"]), _space({**spec, "chunk": 1})
    if space.method != "grid":
        raise BadInput(f"method is {space.method}; wanted grid for a notebook")
    grid: tuple[Any, ...] = space.axes
    for axis in grid:
        for place in range(len(axis.rows)):
            parameters.check(slug, _parameters(axis, place))
    sources = study_hash(spec)
    return Plan(name, spec, space, partial(_run_notebook, slug, space), f"{slug}={sources}", sources)


def _parameters(axis: Any, place: int) -> dict[str, Any]:
    return {field.removeprefix("parameter."): value for field, value in zip(axis.fields, axis.rows[place], strict=True)}


def _run_notebook(slug: str, space: Space, chunk: Chunk) -> xr.Dataset:
    given: dict[str, Any] = {}
    for axis, (_, start, _) in zip(space.axes, chunk.slices, strict=True):
        given |= _parameters(axis, start)
    with scratch.folder("sweep") as place:
        try:
            made = notebooks.run(slug, place, parameters.check(slug, given), data_only=True)
        except notebooks.NotebookFailed as error:
            said = " ".join(str(error).split())
            raise BadInput(f"{said} (at {', '.join(f'{k}={v}' for k, v in given.items())})") from None
        ds = dataset.load(made)
    ds = ds.assign_attrs(user_values=json.dumps(dataset.record(ds, slug)["user_values"]))
    return ds.expand_dims({name: values for name, values in space.labels(chunk).items() if name not in ds.dims})


def _space(spec: Mapping[str, Any]) -> Space:
    """Return the space that a study describes. Raises BadInput for one that cannot be."""
    method, axes = spec.get("method", "grid"), spec.get("axes")
    require_known("method", [method], METHODS)
    if not isinstance(axes, dict) or not axes:
        raise BadInput(f"axes are {clip(axes)}; wanted at least one, like 'system.array.rate_hz: [1e8, 5e8]'")
    sampled = method in ("latin", "sobol")
    for key in () if sampled else ("points", "seed"):
        if key in spec:
            raise BadInput(f"{key} stands beside method {method}; wanted it with latin or sobol only")
    made = tuple(_axis(str(name), entry, sampled, "notebook" in spec) for name, entry in axes.items())
    space = Space(made, method, **{key: whole(key, spec[key]) for key in ("points", "seed", "chunk") if key in spec})
    if method == "sobol" and space.size & (space.size - 1):
        note(f"points are {space.size}; Sobol' points are balanced where they are a power of two")
    return space


def _axis(name: str, entry: Any, sampled: bool, lists: bool) -> Axis | Range:
    """Return one axis. A bare list stands for values of the field that the axis is named after. lists: values may be."""
    table = entry if isinstance(entry, dict) else {"values": entry}
    require_known(f"key of axis {name}", table, _LISTED if "values" in table else _RANGED)
    short = name.split(".", 1)[-1].replace(".", "_")
    if not short.isidentifier():
        raise BadInput(f"the axis name {clip(name)} is no name; wanted letters, digits and '_'")
    if short in RESERVED:
        raise BadInput(f"the axis name {short!r} is reserved; wanted any other")
    fields = tuple(str(field) for field in listed(table.get("fields", name)))
    if "values" in table:
        return _listed_axis(short, fields, table["values"], table.get("labels"), lists)
    drawn = _range(short, fields, table)
    if sampled:
        return drawn
    points = whole(f"points of axis {short}", table.get("points", 0))
    if points > _MOST:
        raise BadInput(f"axis {short} has {points} points; wanted at most {_MOST}")
    values = np.atleast_1d(drawn.at(np.linspace(0, 1, points))).tolist()
    return _listed_axis(short, fields, [float(x) for x in dict.fromkeys(values)])


def _range(name: str, fields: tuple[str, ...], table: Mapping[str, Any]) -> Range:
    low, high, law = number(table.get("low")), number(table.get("high")), table.get("law", "uniform")
    for key, end in (("low", low), ("high", high)):
        if isinstance(end, bool) or not isinstance(end, int | float) or not isfinite(end):
            raise BadInput(f"axis {name} has {key} {clip(end)}; wanted values, or numbers low and high")
    require_known(f"law of axis {name}", [law], LAWS)
    what = f"axis {name} goes from {low:g} to {high:g}"
    if low > high or (law == "log" and low <= 0):
        raise BadInput(f"{what}; wanted low up to high{', above 0' if law == 'log' else ''}")
    if law == "integer" and (low % 1 or high % 1):
        raise BadInput(f"{what}; wanted whole numbers for the law integer")
    return Range(name, fields, float(low), float(high), law)


def _listed_axis(name: str, fields: tuple[str, ...], values: Any, given: Any = None, lists: bool = False) -> Axis:
    """Return an axis of values, or of rows with one for each field. given: its labels, None where there are none."""
    if not isinstance(values, list) or not values:
        raise BadInput(f"axis {name} has the values {clip(values)}; wanted a list of at least one")
    wide = len(fields) > 1 and all(isinstance(row, list) for row in values)
    rows = tuple(tuple(map(number, row)) if wide else (number(row),) * len(fields) for row in values)
    for row in rows:
        if len(row) != len(fields):
            wanted = f"one value for each of {len(fields)} fields"
            raise BadInput(f"axis {name} has a row {clip(list(row))}; wanted {wanted}")
        if any(not isinstance(x, int | float | str) for x in row) and not lists:
            raise BadInput(f"axis {name} has the value {clip(list(row))}; wanted numbers, names, true or false")
    if given is None:
        plain = (str(row[0]) if isinstance(row[0], list | bool) else row[0] for row in rows)
        given = list(range(len(rows)) if wide else plain)
    if not isinstance(given, list) or any(not isinstance(x, int | float | str) for x in given):
        raise BadInput(f"axis {name} has the labels {clip(given)}; wanted a list of names or numbers")
    if len(given) != len(rows) or len(set(map(str, given))) < len(rows):
        raise BadInput(f"axis {name} has the labels {clip(given)}; wanted {len(rows)} that differ")
    return Axis(name, fields, rows, tuple(given))


def _reduction(entry: Any) -> Reduction:
    table = {"kind": entry} if isinstance(entry, str) else entry
    require(isinstance(table, dict), "reduce", entry, "a name, or a table with kind")
    require_known("key of reduce", table, Reduction.__dataclass_fields__)
    require("kind" in table, "reduce", table, "a table with kind")
    given = dict(table)
    if "quantiles" in given:
        given["quantiles"] = tuple(map(number, listed(given["quantiles"])))
    if "count" in given:
        given["count"] = whole("count", given["count"])
    if not isinstance(given.get("objectives", {}), dict):
        raise BadInput(f"objectives are {clip(given['objectives'])}; wanted metric: max or min")
    return Reduction(**given)
