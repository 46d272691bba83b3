"""Several notebooks: which of them are to be run, in how many processes, and how results enter the archive."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from pimllm_lib.archive import attested, dataset, diff, manifest, notebooks, parameters
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.pools import Pool


def run(
    work: Mapping[str, Mapping[str, Any]], into: Path, at_once: int, *, data_only: bool = False, progress: bool
) -> Iterator[Path]:
    """Run notebooks with checked values, `at_once` at a time, and yield their executed copies, or datasets, as they come.

    Raises NotebookFailed: one after the other, at the first that fails; side by side, after the rest ran, for all that did.
    """
    notebooks.require_handles()
    if min(at_once, len(work)) > 1:
        yield from _side_by_side(work, into, at_once, data_only, progress)
        return
    for name, values in work.items():
        yield notebooks.run(name, into, values, data_only=data_only, progress=progress)


def _side_by_side(
    work: Mapping[str, Mapping[str, Any]], into: Path, at_once: int, data_only: bool, progress: bool
) -> Iterator[Path]:
    """Run notebooks in processes that take one after the other: loading what runs them takes as long as a short one."""
    from tqdm import tqdm

    failed: list[notebooks.NotebookFailed] = []
    with (
        Pool(min(at_once, len(work))) as pool,
        tqdm(total=len(work), unit="notebook", disable=not progress) as bar,
    ):
        run_one = partial(notebooks.run, data_only=data_only)
        longest_first = list(work.items())[::-1]  # later chapters take longer: none is left for the end
        todo = {pool.submit(run_one, name, into, dict(values)): name for name, values in longest_first}
        for future in as_completed(todo):
            bar.update()
            try:
                yield future.result()
            except notebooks.NotebookFailed as error:
                failed.append(error)
            except BadInput as error:
                failed.append(notebooks.NotebookFailed(str(error), bad_input=True))
            except BrokenExecutor:
                failed.append(
                    notebooks.NotebookFailed(f"{todo[future]} failed: its process was killed or out of memory")
                )
    if failed:
        raise notebooks.NotebookFailed("\n".join(map(str, failed)), bad_input=all(error.bad_input for error in failed))


def renew(slugs: Sequence[str], executed: Path, into: Path) -> list[Path]:
    """Put executed results into an archive, all at once, with printed numbers, checkpoints and studies that they rest on.

    A result that agrees with the archived one, values and attributes, leaves its file as it is and is attested. With all
    notebooks, results whose file is gone leave the manifest. Returns the paths of the datasets.
    """
    made = {f"results/{slug}.nc": executed / f"{slug}.nc" for slug in slugs}
    patterns = ("**/*.csv", "checkpoints/*/*", f"{manifest.STUDIES}/*.yaml", f"{manifest.STUDIES}/*.nc")
    beside = sorted(path for pattern in patterns for path in into.glob(pattern))
    given = {path.relative_to(into).as_posix(): files.read(path) for path in beside}
    return _published(into, made, given, whole=list(slugs) == paths.slugs())


def _published(into: Path, made: Mapping[str, Path], beside: Mapping[str, bytes], *, whole: bool = False) -> list[Path]:
    """Put datasets and what lies beside them into an archive; those that it has already stay, and are attested."""
    kept = {name: files.read(into / name) for name, path in made.items() if _agrees(into, name, path)}
    new = {name: files.read(path) for name, path in made.items() if name not in kept}
    manifest.publish(into, {**beside, **kept, **new}, whole=whole)
    attested.add(into, {files.hash_of(content): dataset.sources_of(made[name]) for name, content in kept.items()})
    return [into / name for name in made]


def _agrees(into: Path, name: str, made: Path) -> bool:
    """Return whether an archive has a dataset, whole, that says what one made now does."""
    try:
        return manifest.intact(into, name) and not diff.results(name, dataset.load(into / name), dataset.load(made))
    except BadInput:
        return False  # of an earlier kind, which a new one replaces


def keep(study: Path, result: Path, into: Path) -> list[Path]:
    """Put a study and what came out of it into an archive, all at once; what the archive has already stays. Returns the
    paths of both.

    Raises BadInput for a result that bears another name or is of another study, as when the file changed meanwhile.
    """
    asked = json.loads(json.dumps(parameters.from_file(study)))
    if result.stem != study.stem or dataset.parameters(dataset.load(result)) != asked:
        raise BadInput(f"{result} is of another study than {study}; wanted its own")
    places = {path: f"{manifest.STUDIES}/{path.name}" for path in (study, result)}
    return [into / places[study], *_published(into, {places[result]: result}, {places[study]: files.read(study)})]
