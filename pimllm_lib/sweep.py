"""Sweeps: every point of a space evaluated, chunk by chunk, in this process, in several, or on a Dask cluster.

A chunk is evaluated as one broadcast and reduced at once, so memory is bounded by the chunk, not by the space; and what
comes out does not depend on who evaluated which chunk, or in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import xarray as xr

from pimllm_lib.conventions import Conventions
from pimllm_lib.errors import BadInput, unknown
from pimllm_lib.llm import Decoder
from pimllm_lib.metrics import summary
from pimllm_lib.parts import with_fields
from pimllm_lib.reduction import Reduction
from pimllm_lib.schema import VARIABLES, annotate
from pimllm_lib.space import Chunk, Space
from pimllm_lib.system import evaluate

#: Metric -> the variables it is made of; an extensive variable is a metric of its own.
METRICS: dict[str, tuple[str, ...]] = {
    "tokens_per_s": ("latency_s",), "tokens_per_j": ("energy_j",), "power_w": ("latency_s", "energy_j"),
} | {name: (name,) for name, variable in VARIABLES.items() if variable.extensive}  # fmt: skip
#: How long a scheduler may take to answer.
ANSWER_S = 8


@dataclass(frozen=True)
class Study:
    """What is evaluated at every point of a space, and what is kept of it. The system is one made of parts."""

    system: Any
    models: tuple[Decoder, ...]
    context_len: tuple[int, ...]
    conventions: Conventions
    space: Space
    metrics: tuple[str, ...]
    reduction: Reduction

    def __post_init__(self) -> None:
        """Refuse metrics that are none, and fields that are not there, before anything runs."""
        for name in self.metrics:
            if name not in METRICS:
                raise unknown("metric", name, METRICS)
        self.reduction.check(self.metrics)
        _assigned(self, next(self.space.chunks()))


def compute(study: Study, chunk: Chunk) -> xr.Dataset:
    """Return what a study keeps of one chunk."""
    system, models, conventions = _assigned(study, chunk)
    needed = dict.fromkeys(name for metric in study.metrics for name in METRICS[metric])
    ds = summary(
        evaluate(
            system=system, model=list(models), context_len=list(study.context_len), conventions=conventions,
            variables=list(needed),
        )
    ).squeeze("system", drop=True)  # fmt: skip
    if "power_w" in study.metrics:
        ds = ds.assign(power_w=ds.energy_j / ds.latency_s)
    points = xr.Dataset(coords=study.space.labels(chunk))
    kept, _ = xr.broadcast(ds[list(study.metrics)].drop_vars(set(ds.coords) & set(points.coords)), points)
    ordered = kept.transpose("model", "context_len", *points.coords)  # whatever varied in this chunk
    return study.reduction.of_chunk(annotate(ordered.assign_coords(points.coords)))


def _assigned(study: Study, chunk: Chunk) -> tuple[Any, tuple[Decoder, ...], Conventions]:
    """Return system, models and conventions with the fields of a chunk set. Raises BadInput for one that is not there."""
    changes: dict[str, dict[str, Any]] = {"system": {}, "model": {}, "conventions": {}}
    for field, value in study.space.values(chunk).items():
        kind, _, path = field.partition(".")
        if kind not in changes or (kind == "conventions" and path not in Conventions.__dataclass_fields__):
            known = [f"conventions.{name}" for name in Conventions.__dataclass_fields__]
            raise unknown("field", field, ["system.FIELD", "model.FIELD", *known])
        changes[kind][path] = value
    counting, switched = study.conventions, changes["conventions"]
    if switched:
        name = ", ".join(f"{field}={value}" for field, value in switched.items())
        counting = replace(counting, **{"name": f"{counting.name} with {name}", **switched})
    models = tuple(with_fields(model, changes["model"]) for model in study.models)
    return with_fields(study.system, changes["system"]), models, counting


@contextmanager
def executor(jobs: int = 1, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Give what evaluates chunks: None for this process, else processes of this machine or the workers of a Dask cluster.

    Raises BadInput when Dask is not installed, or the scheduler does not answer within `ANSWER_S` seconds.
    """
    if scheduler is not None:
        with _cluster(scheduler) as client:
            yield client.get_executor(pure=False, retries=3)
    elif jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield pool
    else:
        yield None


def _cluster(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise BadInput("Dask is not installed; wanted pip install 'pimllm[distributed]' for --scheduler") from None
    try:
        return Client(scheduler, timeout=ANSWER_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:  # a timeout is an OSError
        raise BadInput(
            f"the scheduler {scheduler} does not answer ({type(error).__name__}); wanted tcp://HOST:PORT"
        ) from None


def each(
    work: Callable[[Any], Any], items: Iterable[Any], pool: Executor | None, *, window: int = 64
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, work(item)) as results come; at most `window` are under way, so that neither side fills up."""
    if pool is None:
        yield from ((item, work(item)) for item in items)
        return
    waiting = iter(items)
    running: dict[Future[Any], Any] = {}
    while True:
        for item in waiting:
            running[pool.submit(work, item)] = item
            if len(running) >= window:
                break
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), future.result()
