"""Whether an archive can be believed: its bytes, what they say of themselves, and whether its numbers come out again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xarray as xr

from pimllm_lib.errors import BadInput, unknown
from pimllm_lib.report import archive, claims, diff, jobs, manifest, notebooks, parameters, paths, provenance
from pimllm_lib.schema import SCHEMA_VERSION, VARIABLES

#: A notebook with this parameter is heavy: false reads the archived study, true computes it anew.
HEAVY = "recompute"


@dataclass
class Finding:
    """What a verification found: problems, things worth knowing, and the numbers that moved."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    moved: list[diff.Change] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)
    archive_hash: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain objects."""
        return {
            "archive_hash": self.archive_hash, "results": self.results, "recomputed": self.recomputed,
            "problems": self.problems, "notes": self.notes,
            "moved": [change.as_dict() for change in self.moved],
        }  # fmt: skip


def verify(
    folder: Path, names: Sequence[str] = (), *, recompute: bool = True, heavy: bool = False, at_once: int = 1,
    progress: bool = False,
) -> Finding:  # fmt: skip
    """Check an archive: sizes and hashes, then schema and attributes, then, on request, the numbers and the verdicts.

    A file with wrong bytes is not opened, and nothing is recomputed then. names: results to look at, all unless given.
    Raises UnknownName for a name that the archive does not have.
    """
    found = Finding()
    try:
        found.problems = manifest.damage(folder)
        found.archive_hash = manifest.hash_of(folder)
        listed = manifest.names(folder)
    except BadInput as error:
        found.problems = [str(error)]
        return found
    for name in names:
        if name not in listed:
            raise unknown("result", name, listed)
    found.results = list(dict.fromkeys(names)) or list(listed)
    if found.problems:
        return found
    kept = {name: archive.load(listed[name]) for name in found.results}
    found.problems = [line for name, ds in kept.items() for line in schema_problems(name, ds)]
    found.notes = list(_notes(kept))
    if recompute and not found.problems:
        found.notes += [
            f"{name} is a study and not recomputed with notebooks; 'pimllm sweep data/studies/{name}.yaml --archive' does"
            for name in kept
            if manifest.is_study(folder, listed[name])
        ]
        made = {name: ds for name, ds in kept.items() if not manifest.is_study(folder, listed[name])}
        _recompute(found, made, heavy, at_once, progress)
    return found


def schema_problems(name: str, ds: xr.Dataset) -> Iterator[str]:
    """Yield in what a result is not as the schema says: attributes, variables, units."""
    for key in archive.ATTRIBUTES:
        if key not in ds.attrs:
            yield f"{name} has no attribute {key}"
    if ds.attrs.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        yield f"{name} has schema_version {ds.attrs['schema_version']}; wanted {SCHEMA_VERSION}"
    try:
        archive.record(ds, name)
    except BadInput as error:
        yield str(error)
    for variable in map(str, ds.data_vars):
        if variable not in VARIABLES:
            yield f"{name}: {unknown('variable', variable, VARIABLES)}"
        elif (unit := ds[variable].attrs.get("units")) != VARIABLES[variable].unit:
            yield f"{name}: {variable} is in {unit}; wanted {VARIABLES[variable].unit}"


def _notes(kept: dict[str, xr.Dataset]) -> Iterator[str]:
    for name, ds in kept.items():
        record = archive.record(ds, name)
        if name in paths.slugs() and record["source_hash"] != (now := provenance.source_hash(name)):
            yield f"{name} was made from other sources ({record['source_hash']}); here they are {now}"


def _recompute(found: Finding, kept: dict[str, xr.Dataset], heavy: bool, at_once: int, progress: bool) -> None:
    """Run each result's notebook again with its own parameters, and compare; then the verdicts."""
    todo = {}
    for name, ds in kept.items():
        if name not in paths.slugs():
            found.notes.append(f"{name} is not recomputed: this version has no notebook of that name")
            continue
        is_heavy = HEAVY in parameters.of(name)
        if is_heavy and not heavy:
            found.notes.append(f"{name} is heavy and not recomputed; --heavy does")
            continue
        todo[name] = parameters.check(name, archive.parameters(ds) | ({HEAVY: True} if is_heavy else {}))
    with TemporaryDirectory(prefix="pimllm-verify.") as scratch:
        into = Path(scratch)
        try:
            for _ in jobs.run(todo, into, at_once, progress=progress):
                pass
        except notebooks.NotebookFailed as error:
            found.problems.append(str(error))
            return
        fresh = {name: archive.load(into / f"{name}.nc") for name in todo}
    found.recomputed = list(todo)
    found.moved = diff.archives({name: kept[name] for name in todo}, fresh)
    found.problems += [*map(str, found.moved), *claims.moved()]
