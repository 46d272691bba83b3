"""A study as a YAML file: what varies over which values, at which system and models, and what is kept."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.archive import dataset, notebooks, parameters
from pimllm_lib.archive.provenance import study_hash
from pimllm_lib.catalog.departures import departures
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import fingerprint, require
from pimllm_lib.hardware import System
from pimllm_lib.studies import axes
from pimllm_lib.studies.folder import Plan
from pimllm_lib.studies.noise_runs import noise_plan
from pimllm_lib.sweep import points
from pimllm_lib.sweep.entries import number, require_known, whole
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Chunk, Space
from pimllm_lib.system.arguments import contexts, listed

_KEYS = (
    "name", "notebook", "system", "model", "context_len", "conventions", "method", "points", "seed", "chunk", "axes",
    "metrics", "reduce", "noise", "curves",
)  # fmt: skip
#: What makes a study one of a notebook's runs, or of trained models on crossbars -> what stands beside it.
_BESIDE = {"notebook": ("name", "axes", "method"), "curves": ("name", "noise", "curves")}


def read(path: Path) -> Plan:
    """Return the study in a YAML file. Raises BadInput, naming the file and the key, for anything that cannot be run."""
    spec = parameters.from_file(path)
    try:
        require_known("key", spec, _KEYS)
        kind = next((key for key in _BESIDE if key in spec), "axes")
        *some, last = _BESIDE.get(kind, _KEYS)
        for key in spec.keys() - {kind, *some, last}:
            raise BadInput(f"{key} stands beside {kind}; wanted {', '.join(some)} and {last} alone")
        name = spec.get("name", path.stem)
        plain = isinstance(name, str) and name.replace("-", "").replace("_", "").isalnum()
        require(plain, "name", name, "letters, digits, '-' and '_'")
        return {"notebook": _notebook_plan, "curves": noise_plan}.get(kind, _plan)(name, spec)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _plan(name: str, spec: dict[str, Any]) -> Plan:
    system = catalog.system(spec.get("system", "pim-llm"))
    require(isinstance(system, System), "system", system, "one made of parts")
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
        name=name, spec=spec, space=study.space, work=partial(points.compute, study),
        reduction=study.reduction, cells=len(study.models) * len(study.context_len), metrics=len(study.metrics),
        identity=" ".join(f"{item.name}={fingerprint(item)}" for item in given), sources=study_hash(spec),
        own={name: value for item in given for name, value in departures(item).items()},
    )  # fmt: skip


def _notebook_plan(name: str, spec: dict[str, Any]) -> Plan:
    """Return a study whose points are runs of a notebook, each with its own parameters; every dataset is kept."""
    slug, space = str(spec["notebook"]), axes.space({**spec, "chunk": 1})
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
    with TemporaryDirectory(prefix="pimllm-sweep.") as scratch:
        try:
            made = notebooks.run(slug, Path(scratch), parameters.check(slug, given), data_only=True)
        except notebooks.NotebookFailed as error:
            said = " ".join(str(error).split())
            raise BadInput(f"{said} (at {', '.join(f'{k}={v}' for k, v in given.items())})") from None
        ds = dataset.load(made)
    ds = ds.assign_attrs(user_values=json.dumps(dataset.record(ds, slug)["user_values"]))
    return ds.expand_dims({name: values for name, values in space.labels(chunk).items() if name not in ds.dims})


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
