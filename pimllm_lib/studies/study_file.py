"""A study as a YAML file: what varies over which values, at which system and models, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.archive import dataset, notebooks, parameters
from pimllm_lib.archive.provenance import study_hash
from pimllm_lib.catalog.departures import departures
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import fingerprint
from pimllm_lib.hardware import System
from pimllm_lib.studies import axes
from pimllm_lib.studies.noise_runs import noise_plan
from pimllm_lib.studies.plan import Plan
from pimllm_lib.sweep import points
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Axis, Chunk, Space
from pimllm_lib.system.arguments import contexts, listed

_KEYS = (
    "name", "notebook", "system", "model", "context_len", "conventions", "method", "points", "seed", "chunk", "axes",
    "metrics", "reduce", "noise", "curves",
)  # fmt: skip
_REDUCE_KEYS = ("kind", "objectives", "count", "quantiles")


def read(path: Path) -> Plan:
    """Return the study in a YAML file. Raises BadInput, naming the file and the key, for anything that cannot be run."""
    spec = parameters.from_file(path)
    try:
        for key in spec:
            if key not in _KEYS:
                raise unknown("key", key, _KEYS)
        makers = {"notebook": _notebook_plan, "curves": _noise_plan}
        return next((make for key, make in makers.items() if key in spec), _plan)(path, spec)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _plan(path: Path, spec: dict[str, Any]) -> Plan:
    system = catalog.system(spec.get("system", "pim-llm"))
    if not isinstance(system, System):
        raise BadInput(f"system is {clip(system)}; wanted one made of parts")
    study = points.Study(
        system=system,
        models=tuple(catalog.model(item) for item in listed(spec.get("model", "opt-6.7b"))),
        context_len=tuple(contexts(spec.get("context_len", 1024))),
        conventions=catalog.preset(spec.get("conventions", "full-system")),
        space=axes.space(spec),
        metrics=tuple(listed(spec.get("metrics", ["tokens_per_s", "tokens_per_j"]))),
        reduction=_reduction(spec.get("reduce", "all")),
    )
    given = [study.system, *study.models, study.conventions]
    return Plan(
        name=_name(path, spec), spec=spec, space=study.space, work=partial(points.compute, study),
        reduction=study.reduction, cells=len(study.models) * len(study.context_len), metrics=len(study.metrics),
        identity=" ".join(f"{item.name}={fingerprint(item)}" for item in given), sources=study_hash(spec),
        own={name: value for item in given for name, value in departures(item).items()},
    )  # fmt: skip


def _notebook_plan(path: Path, spec: dict[str, Any]) -> Plan:
    """Return a study whose points are runs of a notebook, each with its own parameters; every dataset is kept."""
    slug = str(spec["notebook"])
    for key in set(spec) - {"notebook", "name", "axes", "method"}:
        raise BadInput(f"{key} stands beside notebook; wanted name, axes and method alone")
    space = axes.space({**spec, "chunk": 1})
    if space.method != "grid":
        raise BadInput(f"method is {space.method}; wanted grid for a notebook")
    for axis in space.axes:
        for row in axis.rows if isinstance(axis, Axis) else ():
            for field, value in zip(axis.fields, row, strict=True):
                parameters.check(slug, {field.removeprefix("parameter."): value})
    work, sources = partial(_run_notebook, slug, space), study_hash(spec)
    return Plan(_name(path, spec), spec, space, work, Reduction("all"), 1, 0, f"{slug}={sources}", sources, None)


def _noise_plan(path: Path, spec: dict[str, Any]) -> Plan:
    """Return a study whose points are trained models on crossbars, see `noise_study`."""
    for key in set(spec) - {"name", "noise", "curves"}:
        raise BadInput(f"{key} stands beside curves; wanted name, noise and curves alone")
    return noise_plan(_name(path, spec), spec)


def _run_notebook(slug: str, space: Space, chunk: Chunk) -> xr.Dataset:
    given: dict[str, Any] = {}
    for axis, (_, start, _) in zip(space.axes, chunk.slices, strict=True):
        assert isinstance(axis, Axis)
        given |= {f.removeprefix("parameter."): v for f, v in zip(axis.fields, axis.rows[start], strict=True)}
    with TemporaryDirectory(prefix="pimllm-sweep.") as scratch:
        try:
            made = notebooks.run(slug, Path(scratch), parameters.check(slug, given), data_only=True)
        except notebooks.NotebookFailed as error:
            said = " ".join(str(error).split())
            raise BadInput(f"{said} (at {', '.join(f'{k}={v}' for k, v in given.items())})") from None
        ds = dataset.load(made)
    ds = ds.assign_attrs(user_values=json.dumps(dataset.record(ds, slug)["user_values"]))
    return ds.expand_dims({name: values for name, values in space.labels(chunk).items() if name not in ds.dims})


def _name(path: Path, spec: Mapping[str, Any]) -> str:
    name = spec.get("name", path.stem)
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"name is {clip(name)}; wanted letters, digits, '-' and '_'")
    return name


def _reduction(entry: Any) -> Reduction:
    table = {"kind": entry} if isinstance(entry, str) else entry
    if not isinstance(table, dict):
        raise BadInput(f"reduce is {clip(entry)}; wanted a name, or a table with kind")
    for key in table:
        if key not in _REDUCE_KEYS:
            raise unknown("key of reduce", key, _REDUCE_KEYS)
    if "kind" not in table:
        raise BadInput(f"reduce is {clip(table)}; wanted a table with kind")
    given = dict(table)
    if "quantiles" in given:
        given["quantiles"] = tuple(axes.bound("quantiles", {"low": q}, "low") for q in listed(given["quantiles"]))
    if "count" in given:
        given["count"] = axes.whole("count", given["count"])
    if not isinstance(given.get("objectives", {}), dict):
        raise BadInput(f"objectives are {clip(given['objectives'])}; wanted metric: max or min")
    return Reduction(**given)
