"""Sweeps: every point of a space evaluated, chunk by chunk, in this process, in several, or on a Dask cluster.

A chunk is evaluated as one broadcast and reduced at once. Memory is bounded by the chunk where a front or the best few are
kept; all points and quantiles need room for every metric of every point at the end. What comes out does not depend on who
evaluated which chunk, or in which order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.core.axes import Frame
from pimllm_lib.core.conventions import Conventions
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import VARIABLES, annotate
from pimllm_lib.sweep.boxes import Box, without_bad
from pimllm_lib.sweep.entries import require_known
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Chunk, Space
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary
from pimllm_lib.workload.decoder import Decoder

#: Metric -> the variables it is made of; an extensive variable is a metric of its own.
METRICS: dict[str, tuple[str, ...]] = {
    "tokens_per_s": ("latency_s",), "tokens_per_j": ("energy_j",), "power_w": ("latency_s", "energy_j"),
} | {name: (name,) for name, variable in VARIABLES.items() if variable.extensive}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """What is evaluated at every point of a space, and what is kept of it. The system is one made of parts.

    strict: whether a point that cannot be evaluated is an error; else it is left out, and counted.
    """

    system: Any
    models: tuple[Decoder, ...]
    context_len: tuple[int, ...]
    conventions: Conventions
    space: Space
    metrics: tuple[str, ...]
    reduction: Reduction
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse metrics that are none, and fields that are not there, before anything runs."""
        require_known("metric", self.metrics, METRICS)
        for what, items in (("metric", self.metrics), ("model", tuple(model.name for model in self.models))):
            if len(set(items)) < len(items):
                raise BadInput(f"a {what} is named twice in {clip(list(items))}; wanted distinct names")
        self.reduction.check(self.metrics)
        for chunk in self.space.probes():
            try:
                _assigned(self, self.models, self.space.values(chunk))
            except BadInput as error:
                if self.strict or error.bad is None:  # a value that no point may have, and not one beside another
                    raise


def compute(study: Study, chunk: Chunk) -> xr.Dataset:
    """Return what a study keeps of one chunk."""
    values = study.space.values(chunk)
    box = Box(values, study.models, study.context_len, study.space.labels(chunk))
    try:
        kept = evaluated(study, box)
    except BadInput as error:
        if study.strict or error.bad is None:
            raise
        kept = without_bad(partial(evaluated, study), box, study.metrics)
    if study.space.switches:
        kept.attrs.pop("conventions", None)  # of this chunk alone
    return study.reduction.of_chunk(annotate(kept.assign_coords(study.space.coordinates(chunk, values))))


def evaluated(study: Study, box: Box) -> xr.Dataset:
    """Return the metrics of every point of a box, along `model`, `context_len` and its own dimensions.

    Raises BadInput, which says where, for a box with points that cannot be.
    """
    system, models, conventions = _assigned(study, box.models, box.values)
    needed = dict.fromkeys(name for metric in study.metrics for name in METRICS[metric])
    try:
        ds = evaluate(
            system=system, model=list(models), context_len=list(box.context_len), conventions=conventions,
            variables=list(needed),
        )  # fmt: skip
    except BadInput as error:
        if np.ndim(error.bad) and not hasattr(error.bad, "dims"):  # laid along the dimensions of the evaluation
            dims = list(Frame.over([system, *models]).labels)
            error.bad = xr.DataArray(error.bad, dims=dims) if np.ndim(error.bad) == len(dims) else None
        raise
    ds = summary(ds).squeeze("system", drop=True)
    if "power_w" in study.metrics:
        ds = ds.assign(power_w=ds.energy_j / ds.latency_s)
    points = xr.Dataset(coords=box.labels)
    kept, _ = xr.broadcast(ds[list(study.metrics)].drop_vars(set(ds.coords) & set(points.coords)), points)
    return kept.transpose("model", "context_len", *points.coords)  # whatever varied in this box


def _assigned(
    study: Study, models: Sequence[Decoder], values: Mapping[str, Any]
) -> tuple[Any, tuple[Decoder, ...], Conventions]:
    """Return system, models and conventions with fields set to a chunk's values. Raises BadInput for one that is none."""
    changes: dict[str, dict[str, Any]] = {"system": {}, "model": {}, "conventions": {}}
    for field, value in values.items():
        kind, _, path = field.partition(".")
        if kind not in changes or (kind == "conventions" and path not in Conventions.__dataclass_fields__):
            known = [f"conventions.{name}" for name in Conventions.__dataclass_fields__]
            raise unknown("field", field, ["system.FIELD", "model.FIELD", *known])
        changes[kind][path] = value
    counting = study.conventions
    if switched := changes["conventions"]:
        name = ", ".join(f"{field}={value}" for field, value in switched.items())
        counting = replace(counting, **{"name": f"{counting.name} with {name}", **switched})
    changed = tuple(with_fields(model, changes["model"]) for model in models)
    return with_fields(study.system, changes["system"]), changed, counting
