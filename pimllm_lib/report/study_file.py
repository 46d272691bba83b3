"""A study as a YAML file: what varies over which values, at which system and models, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, sweep
from pimllm_lib.arguments import contexts, listed
from pimllm_lib.errors import BadInput, clip, unknown
from pimllm_lib.hardware import System
from pimllm_lib.reduction import Reduction
from pimllm_lib.report import archive, notebooks, parameters
from pimllm_lib.space import LAWS, METHODS, Axis, Chunk, Range, Space

_KEYS = (
    "name", "notebook", "system", "model", "context_len", "conventions", "method", "points", "seed", "chunk", "axes",
    "metrics", "reduce",
)  # fmt: skip
_AXIS_KEYS = ("fields", "values", "labels", "low", "high", "law", "points")
_REDUCE_KEYS = ("kind", "objectives", "count", "quantiles")
Work = Callable[[Chunk], xr.Dataset]


@dataclass(frozen=True)
class Plan:
    """A study ready to run: its name and text, its space, what evaluates a chunk, what reduces the whole."""

    name: str
    spec: dict[str, Any]
    space: Space
    work: Work
    reduction: Reduction
    cells: int
    metrics: int


def read(path: Path) -> Plan:
    """Return the study in a YAML file. Raises BadInput, naming the file and the key, for anything that cannot be run."""
    spec = parameters.from_file(path)
    try:
        for key in spec:
            if key not in _KEYS:
                raise unknown("key", key, _KEYS)
        return _notebook_plan(path, spec) if "notebook" in spec else _plan(path, spec)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _plan(path: Path, spec: dict[str, Any]) -> Plan:
    system = catalog.system(spec.get("system", "pim-llm"))
    if not isinstance(system, System):
        raise BadInput(f"system is {clip(system)}; wanted one made of parts")
    study = sweep.Study(
        system=system,
        models=tuple(catalog.model(item) for item in listed(spec.get("model", "opt-6.7b"))),
        context_len=tuple(contexts(spec.get("context_len", 1024))),
        conventions=catalog.preset(spec.get("conventions", "full-system")),
        space=_space(spec),
        metrics=tuple(listed(spec.get("metrics", ["tokens_per_s", "tokens_per_j"]))),
        reduction=_reduction(spec.get("reduce", "all")),
    )
    cells = len(study.models) * len(study.context_len)
    work = partial(sweep.compute, study)
    return Plan(_name(path, spec), spec, study.space, work, study.reduction, cells, len(study.metrics))


def _notebook_plan(path: Path, spec: dict[str, Any]) -> Plan:
    """Return a study whose points are runs of a notebook, each with its own parameters; every dataset is kept."""
    slug = str(spec["notebook"])
    for key in set(spec) - {"notebook", "name", "axes", "method"}:
        raise BadInput(f"{key} stands beside notebook; wanted name, axes and method alone")
    space = _space({**spec, "chunk": 1})
    if space.method != "grid":
        raise BadInput(f"method is {space.method}; wanted grid for a notebook")
    for axis in space.axes:
        for field, value in zip(axis.fields, axis.rows[0], strict=True) if isinstance(axis, Axis) else ():
            parameters.check(slug, {field.removeprefix("parameter."): value})
    return Plan(_name(path, spec), spec, space, partial(_run_notebook, slug, space), Reduction("all"), 1, 0)


def _run_notebook(slug: str, space: Space, chunk: Chunk) -> xr.Dataset:
    given: dict[str, Any] = {}
    for axis, (_, start, _) in zip(space.axes, chunk.slices, strict=True):
        assert isinstance(axis, Axis)
        given |= {f.removeprefix("parameter."): v for f, v in zip(axis.fields, axis.rows[start], strict=True)}
    with TemporaryDirectory(prefix="pimllm-sweep.") as scratch:
        made = notebooks.run(slug, Path(scratch), parameters.check(slug, given))
        ds = archive.load(made.with_suffix(".nc"))
    return ds.expand_dims({name: values for name, values in space.labels(chunk).items() if name not in ds.dims})


def _name(path: Path, spec: Mapping[str, Any]) -> str:
    name = spec.get("name", path.stem)
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"name is {clip(name)}; wanted letters, digits, '-' and '_'")
    return name


def _space(spec: Mapping[str, Any]) -> Space:
    method, axes = spec.get("method", "grid"), spec.get("axes")
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not isinstance(axes, dict) or not axes:
        raise BadInput(f"axes are {clip(axes)}; wanted at least one, like 'system.array.rate_hz: [1e8, 5e8]'")
    sampled = method in ("latin", "sobol")
    made = tuple(_axis(str(name), entry, sampled) for name, entry in axes.items())
    counts = {key: _whole(key, spec[key]) for key in ("points", "seed", "chunk") if key in spec}
    return Space(made, method, **counts)


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInput(f"{key} is {clip(value)}; wanted a whole number of at least 0")
    return value


def _axis(name: str, entry: Any, sampled: bool) -> Axis | Range:
    """Return one axis. A bare list stands for values of the field that the axis is named after."""
    table = entry if isinstance(entry, dict) else {"values": entry}
    for key in table:
        if key not in _AXIS_KEYS:
            raise unknown(f"key of axis {name}", key, _AXIS_KEYS)
    fields = tuple(str(field) for field in listed(table.get("fields", name)))
    short = name.split(".", 1)[-1].replace(".", "_")
    if "values" in table:
        return _listed_axis(short, fields, table)
    low, high, law = (_bound(name, table, "low"), _bound(name, table, "high"), table.get("law", "uniform"))
    if law not in LAWS:
        raise unknown(f"law of axis {name}", law, LAWS)
    if low > high or (law == "log" and low <= 0):
        raise BadInput(
            f"axis {name} goes from {low:g} to {high:g}; wanted low up to high" + ", above 0" * (law == "log")
        )
    drawn = Range(short, fields, low, high, law)
    if sampled:
        return drawn
    points = _whole(f"points of axis {name}", table.get("points", 0))
    values = [float(x) for x in dict.fromkeys(np.atleast_1d(drawn.at(np.linspace(0, 1, points))).tolist())]
    return _listed_axis(short, fields, {"values": values})


def _bound(name: str, table: Mapping[str, Any], key: str) -> float:
    value = _number(table.get(key))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"axis {name} has {key} {clip(value)}; wanted values, or numbers low and high")
    return float(value)


def _number(value: Any) -> Any:
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
    rows = tuple(tuple(map(_number, row)) if wide else (_number(row),) * len(fields) for row in values)
    for row in rows:
        if len(row) != len(fields):
            raise BadInput(
                f"axis {name} has a row {clip(list(row))}; wanted one value for each of its {len(fields)} fields"
            )
    labels = tuple(table.get("labels", range(len(rows)) if wide else [_plain(row[0]) for row in rows]))
    if len(labels) != len(rows) or len(set(map(str, labels))) < len(rows):
        raise BadInput(f"axis {name} has the labels {clip(list(labels))}; wanted {len(rows)} that differ")
    return Axis(name, fields, rows, labels)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | bool) else value


def _reduction(entry: Any) -> Reduction:
    table = {"kind": entry} if isinstance(entry, str) else entry
    if not isinstance(table, dict):
        raise BadInput(f"reduce is {clip(entry)}; wanted a name, or a table with kind")
    for key in table:
        if key not in _REDUCE_KEYS:
            raise unknown("key of reduce", key, _REDUCE_KEYS)
    given = dict(table)
    if "quantiles" in given:
        given["quantiles"] = tuple(_bound("quantiles", {"low": q}, "low") for q in listed(given["quantiles"]))
    if "count" in given:
        given["count"] = _whole("count", given["count"])
    if not isinstance(given.get("objectives", {}), dict):
        raise BadInput(f"objectives are {clip(given['objectives'])}; wanted metric: max or min")
    return Reduction(**given)
