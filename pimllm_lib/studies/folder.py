"""Studies on disk: a folder holds what came out of one, chunk by chunk, and goes on where it stopped.

A chunk says of which study it is and which points it holds, and counts only then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.archive import dataset, manifest
from pimllm_lib.archive.provenance import sources_hash
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput
from pimllm_lib.sweep.pool import each, executor
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Chunk, Space


@dataclass(frozen=True)
class Plan:
    """A study ready to run, whatever it is of: its name and text, its space, what evaluates a chunk, what reduces the whole.

    cells, metrics: values of each point, and what they are of; 0 metrics where only the run tells. identity: what is
    studied, by content, also where the text names a file; sources: the hash of what evaluates a chunk; own: values of it
    that are not the catalog's, None where only the chunks know them; finish: what is done to the whole at the end, if
    anything; tolerance: by which a repeated run may differ, relative.
    """

    name: str
    spec: dict[str, Any]
    space: Space
    work: Callable[[Chunk], xr.Dataset]
    identity: str
    sources: str
    reduction: Reduction = field(default_factory=Reduction)
    cells: int = 1
    metrics: int = 0
    own: dict[str, str] | None = None
    finish: Callable[[xr.Dataset], xr.Dataset] | None = None
    tolerance: float = dataset.TOLERANCE


def estimate(plan: Plan) -> dict[str, Any]:
    """Return how much a study is before it runs: points, chunks, bytes kept at most, and minutes in one process.

    The minutes come from the first chunk, evaluated twice; a notebook's come from nothing and are None.
    """
    size, cells = plan.space.size, plan.space.size * plan.cells
    said = {"points": size, "evaluations": cells, "chunks": plan.space.count}
    if not plan.metrics:
        return said | {"bytes": None, "minutes": None}
    chunk = next(plan.space.chunks())
    plan.work(chunk)
    start = time.perf_counter()
    first = plan.work(chunk)
    minutes = (time.perf_counter() - start) * size / chunk.points / 60
    whole = plan.reduction.kind in ("all", "quantiles")
    kept = cells * plan.metrics * 8 if whole else int(first.nbytes) * plan.space.count
    return said | {"bytes": kept, "minutes": minutes}


def run(plan: Plan, into: Path, *, jobs: int = 1, scheduler: str | None = None, progress: bool = False) -> Path:
    """Run a study into a folder and return the path of its result; chunks that are there already are not run again.

    Raises BadInput when the folder holds another study, or the same one of other sources, or a chunk of such.
    """
    from tqdm import tqdm

    with executor(jobs, scheduler, sources_hash) as pool, files.locked(into):
        kept = _claim(plan, into)
        done = each(plan.work, kept.missing(), pool)
        for chunk, made in tqdm(done, total=plan.space.count, unit="chunk", disable=not progress):
            kept.write(made, chunk)
        whole = plan.reduction.of_all([kept.read(chunk) for chunk in plan.space.chunks()])
    own = {} if plan.own is None else {"user_values": json.dumps(plan.own)}  # the parameters have what varies
    whole = (plan.finish(whole) if plan.finish else whole).assign_attrs(own | {"fingerprints": plan.identity})
    with TemporaryDirectory(prefix="pimllm-sweep.") as scratch:
        made = dataset.save(
            whole, plan.name, title=f"Study {plan.name}", parameters=plan.spec, into=scratch, tolerance=plan.tolerance,
            source=plan.sources,
        )  # fmt: skip
        return manifest.publish(into, {made.name: made.read_bytes()})[0]


@dataclass(frozen=True)
class _Chunks:
    """What is kept of each chunk of a plan below a folder. study: the hash of what is studied, sources included."""

    plan: Plan
    into: Path
    study: str

    def _path(self, chunk: Chunk) -> Path:
        return self.into / "chunks" / f"{chunk.index:06d}.nc"

    def _stamp(self, chunk: Chunk) -> dict[str, str]:
        return {"study": self.study, "points": json.dumps(chunk.slices)}

    def write(self, ds: xr.Dataset, chunk: Chunk) -> None:
        """Write what is kept of a chunk."""
        dataset.write(ds.assign_attrs(self._stamp(chunk)), self._path(chunk))

    def missing(self) -> list[Chunk]:
        """Return the chunks that are not there. Raises BadInput for one that is and is not ours, before any work."""
        todo = []
        for chunk in self.plan.space.chunks():
            if self._path(chunk).is_file():
                self.read(chunk)
            else:
                todo.append(chunk)
        return todo

    def read(self, chunk: Chunk) -> xr.Dataset:
        """Return what is kept of a chunk. Raises BadInput, naming the file, for a damaged one and one of other points."""
        path, stamp = self._path(chunk), self._stamp(chunk)
        again = f"remove it, and the next run evaluates it again; the other chunks of {self.into} stay"
        try:
            ds = dataset.load(path)
        except BadInput as error:
            raise BadInput(f"{error}; {again}") from None
        if any(ds.attrs.pop(key, None) != said for key, said in stamp.items()) or not self._has_its_points(ds, chunk):
            raise BadInput(f"{path} is of another study, or holds other points than its place wants: {again}")
        return ds

    def _has_its_points(self, ds: xr.Dataset, chunk: Chunk) -> bool:
        """Return whether the labels of a chunk are those of its points: all, or of designs that were chosen, some."""
        if "notebook" in self.plan.spec:
            return True  # a notebook may have a dimension of an axis' name, with labels of its own
        same = np.isin if self.plan.reduction.kind in ("pareto", "top") else np.array_equal
        wanted = {name: np.asarray(labels).astype(str) for name, labels in self.plan.space.labels(chunk).items()}
        found = {name: ds[name].values.astype(str) if name in ds.coords else np.array([""]) for name in wanted}
        return all(np.all(same(found[name], labels)) for name, labels in wanted.items())


def _claim(plan: Plan, into: Path) -> _Chunks:
    """Write what is studied into the folder and return its chunks. Raises BadInput when something else is studied there."""
    mine = {"sources": plan.sources, "study": plan.spec, "of": plan.identity, "chunks": plan.space.count}
    text = (json.dumps(mine, indent=1, sort_keys=True, default=str) + "\n").encode()
    path = into / "study.json"
    if not path.is_file():
        files.write(path, text)
    if files.read(path) != text:
        what = f"{into} holds another study, or this one made from other sources"
        raise BadInput(f"{what}; wanted a new or emptied folder")
    return _Chunks(plan, into, files.hash_of(text)[:16])
