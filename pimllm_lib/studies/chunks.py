"""The chunks of a study in its folder. Each says of which study it is and which points it holds, and counts only then."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from pimllm_lib.archive import dataset
from pimllm_lib.core.errors import BadInput
from pimllm_lib.studies.plan import Plan
from pimllm_lib.sweep.space import Chunk


@dataclass(frozen=True)
class Chunks:
    """What is kept of each chunk of a plan below a folder. study: the hash of what is studied, sources included."""

    plan: Plan
    into: Path
    study: str

    def path(self, chunk: Chunk) -> Path:
        """Return where a chunk lies."""
        return self.into / "chunks" / f"{chunk.index:06d}.nc"

    def _stamp(self, chunk: Chunk) -> dict[str, str]:
        return {"study": self.study, "points": json.dumps(chunk.slices)}

    def write(self, ds: xr.Dataset, chunk: Chunk) -> None:
        """Write what is kept of a chunk."""
        dataset.write(ds.assign_attrs(self._stamp(chunk)), self.path(chunk))

    def missing(self) -> list[Chunk]:
        """Return the chunks that are not there. Raises BadInput for one that is and is not ours, before any work."""
        todo = []
        for chunk in self.plan.space.chunks():
            if self.path(chunk).is_file():
                self.read(chunk)
            else:
                todo.append(chunk)
        return todo

    def read(self, chunk: Chunk) -> xr.Dataset:
        """Return what is kept of a chunk. Raises BadInput, naming the file, for a damaged one and one of other points."""
        path, stamp = self.path(chunk), self._stamp(chunk)
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
        chosen = self.plan.reduction.kind in ("pareto", "top")
        wanted = {name: np.asarray(labels).astype(str) for name, labels in self.plan.space.labels(chunk).items()}
        found = {name: ds[name].values.astype(str) if name in ds.coords else np.array([""]) for name in wanted}
        same = np.isin if chosen else np.array_equal
        return all(np.all(same(found[name], labels)) for name, labels in wanted.items())
