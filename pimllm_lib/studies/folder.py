"""Studies on disk: a folder holds what came out of one, a file for each stretch of chunks, and goes on where it stopped.

A file counts only with the seal that this study gave to its content at its place.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import xarray as xr

from pimllm_lib.archive import dataset, manifest
from pimllm_lib.archive.provenance import sources_hash
from pimllm_lib.core import files, scratch
from pimllm_lib.core.errors import BadInput, note
from pimllm_lib.sweep import boxes
from pimllm_lib.sweep.cluster import PATIENCE_S
from pimllm_lib.sweep.pool import each, executor
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Chunk, Space
from pimllm_lib.sweep.stretches import Stretch, Worker, cut

#: Bytes of the digest that a file ends in.
_SEAL = 32


@dataclass(frozen=True)
class Plan:
    """A study ready to run, whatever it is of: its name and text, its space, what evaluates a chunk, what reduces the whole.

    cells, metrics: values of each point, and what they are of; 0 metrics where only the run tells. identity: what is
    studied, by content, also where the text names a file; sources: the hash of what evaluates a chunk; own: values of it
    that are not the catalog's, None where only the chunks know them; strict: whether no point may be left out; finish:
    what is done to the whole at the end, if anything.
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
    strict: bool = False
    finish: Callable[[xr.Dataset], xr.Dataset] | None = None


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
    files_kept = len(cut(plan.space, plan.reduction))
    kept = int(first.nbytes) * files_kept if plan.reduction.merges else cells * plan.metrics * 8
    return said | {"bytes": kept, "minutes": minutes}


def run(
    plan: Plan, into: Path, *, jobs: int = 1, scheduler: str | None = None, patience_s: float = PATIENCE_S,
    progress: bool = False,
) -> Path:  # fmt: skip
    """Run a study into a folder and return the path of its result; chunks that are there already are not run again.

    patience_s: how long, in seconds, the cluster of a scheduler may have no worker that works.
    Raises BadInput when the folder holds another study, or the same one of other sources; Gone for those who evaluate.
    """
    from tqdm import tqdm

    with executor(jobs, scheduler, sources_hash, patience_s) as pool, files.locked(into):
        kept, every = _claim(plan, into), cut(plan.space, plan.reduction)
        missing = kept.missing(every)
        done = each(Worker(plan.work, plan.space, plan.reduction), missing, pool)
        for stretch, made in tqdm(done, total=len(missing), unit="file", disable=not progress):
            kept.write(made, stretch)
        whole = plan.reduction.of_all([kept.read(stretch) for stretch in every])
    _say_left_out(plan, boxes.left_out(whole))
    own = {} if plan.own is None else {"user_values": json.dumps(plan.own)}  # the parameters have what varies
    whole = (plan.finish(whole) if plan.finish else whole).assign_attrs(own | {"fingerprints": plan.identity})
    with scratch.folder("sweep") as place:
        made = dataset.save(
            whole, plan.name, title=f"Study {plan.name}", parameters=plan.spec, into=place, source=plan.sources
        )  # fmt: skip
        return manifest.publish(into, {made.name: made.read_bytes()})[0]


def _say_left_out(plan: Plan, counts: dict[str, int]) -> None:
    """Say on stderr how many points cannot be, and why. Raises BadInput where none can, or where none may be left out."""
    if not counts:
        return
    several = sum(counts.values())
    said = f"{several} of {plan.space.size * plan.cells} points cannot be evaluated, because of " + ", ".join(
        f"{what} ({count})" for what, count in counts.items()
    )
    if plan.strict or several == plan.space.size * plan.cells:
        raise BadInput(f"{said}; wanted {'all' if plan.strict else 'some'} that can")
    note(f"{said}; they are left out")


@dataclass(frozen=True)
class _Kept:
    """What is kept of each stretch of a study below a folder. study: the hash of what is studied, sources included.

    A file ends in a seal, the digest of its content and of its place: study, number, chunks. HDF5 ignores what comes after
    its data, and what is not as it was written is never given to it.
    """

    into: Path
    study: str

    def _path(self, stretch: Stretch) -> Path:
        return self.into / "chunks" / f"{stretch.index:06d}.nc"

    def _seal(self, stretch: Stretch, content: bytes) -> bytes:
        place = json.dumps([self.study, stretch.index, stretch.start, stretch.stop]).encode()
        return sha256(place + content).digest()

    def write(self, ds: xr.Dataset, stretch: Stretch) -> None:
        """Write what is kept of a stretch."""
        content = dataset.encode(ds, self._path(stretch))
        files.write(self._path(stretch), content + self._seal(stretch, content))

    def missing(self, stretches: Iterable[Stretch]) -> list[Stretch]:
        """Return those that are not there, and those that are not as they were written, which is said on stderr."""
        todo = []
        for stretch in stretches:
            path = self._path(stretch)
            if path.is_file() and self._content(stretch) is not None:
                continue
            if path.is_file():
                note(f"{path} is damaged, or not the chunk of its place; it is computed again")
            todo.append(stretch)
        return todo

    def read(self, stretch: Stretch) -> xr.Dataset:
        """Return what is kept of a stretch. Raises BadInput, naming the file, for one that was changed during the run."""
        path, content = self._path(stretch), self._content(stretch)
        if content is None:
            raise BadInput(f"{path} was changed meanwhile; wanted it left alone, another run makes it again")
        return dataset.decode(content, path, most=None)

    def _content(self, stretch: Stretch) -> bytes | None:
        """Return the content of a file, None where its seal does not fit."""
        sealed = files.read(self._path(stretch), limit=None)  # of any size: this run, or one before it, wrote it
        content = sealed[:-_SEAL]
        return content if sealed[-_SEAL:] == self._seal(stretch, content) else None


def _claim(plan: Plan, into: Path) -> _Kept:
    """Write what is studied into the folder and return what is kept there. Raises BadInput where that is something else."""
    mine = {"sources": plan.sources, "study": plan.spec, "of": plan.identity, "chunks": plan.space.count}
    text = (json.dumps(mine, indent=1, sort_keys=True, default=str) + "\n").encode()
    path = into / "study.json"
    files.sweep([path, into / "chunks" / "*"])
    if not path.is_file():
        files.write(path, text)
    if files.read(path) != text:
        what = f"{into} holds another study, or this one made from other sources"
        raise BadInput(f"{what}; wanted a new or emptied folder")
    return _Kept(into, files.hash_of(text)[:16])
