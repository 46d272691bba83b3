"""Studies on disk: a folder holds what came out of one, chunk by chunk, and goes on where it stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pimllm_lib.archive import dataset, manifest
from pimllm_lib.archive.provenance import sources_hash
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput
from pimllm_lib.studies.chunks import Chunks
from pimllm_lib.studies.plan import Plan
from pimllm_lib.sweep.pool import each, executor


def estimate(plan: Plan) -> dict[str, Any]:
    """Return how much a study is before it runs: points, chunks, bytes kept at most, and minutes in one process.

    The minutes come from the first chunk, evaluated twice; a notebook's come from nothing and are None.
    """
    first_chunk = next(plan.space.chunks())
    kept = plan.space.size * plan.cells * plan.metrics * 8 if plan.reduction.kind in ("all", "quantiles") else None
    said = {"points": plan.space.size, "evaluations": plan.space.size * plan.cells, "chunks": plan.space.count}
    if not plan.metrics:
        return said | {"bytes": None, "minutes": None}
    plan.work(first_chunk)
    start = time.perf_counter()
    first = plan.work(first_chunk)
    spent = time.perf_counter() - start
    size = kept if kept is not None else int(first.nbytes) * plan.space.count
    return said | {"bytes": size, "minutes": spent * plan.space.size / first_chunk.points / 60}


def run(plan: Plan, into: Path, *, jobs: int = 1, scheduler: str | None = None, progress: bool = False) -> Path:
    """Run a study into a folder and return the path of its result; chunks that are there already are not run again.

    Raises BadInput when the folder holds another study, or the same one of other sources, or a chunk of such.
    """
    with executor(jobs, scheduler, sources_hash) as pool, files.locked(into):
        kept = _claim(plan, into)
        for chunk, made in _shown(each(plan.work, kept.missing(), pool), plan.space.count, progress):
            kept.write(made, chunk)
        whole = plan.reduction.of_all([kept.read(chunk) for chunk in plan.space.chunks()])
    whole = plan.finish(whole) if plan.finish else whole
    own = {} if plan.own is None else {"user_values": json.dumps(plan.own)}  # the parameters have what varies
    whole = whole.assign_attrs(own | {"fingerprints": plan.identity})
    with TemporaryDirectory(prefix="pimllm-sweep.") as scratch:
        made = dataset.save(
            whole, plan.name, title=f"Study {plan.name}", parameters=plan.spec, into=scratch, tolerance=plan.tolerance,
            source=plan.sources,
        )  # fmt: skip
        return manifest.publish(into, {made.name: made.read_bytes()})[0]


def _claim(plan: Plan, into: Path) -> Chunks:
    """Write what is studied into the folder, by its plan and by what evaluates a chunk; return its chunks.

    Raises BadInput when something else is studied there.
    """
    mine = {"sources": plan.sources, "study": plan.spec, "of": plan.identity, "chunks": plan.space.count}
    text = (json.dumps(mine, indent=1, sort_keys=True, default=str) + "\n").encode()
    path = into / "study.json"
    if path.is_file() and files.read(path) != text:
        raise BadInput(
            f"{into} holds another study, or this one made from other sources; wanted a new or emptied folder"
        )
    if not path.is_file():
        files.write(path, text)
    return Chunks(plan, into, files.hash_of(text)[:16])


def _shown(results: Any, count: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(results, total=count, unit="chunk", disable=not progress)
