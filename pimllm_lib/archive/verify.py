"""Whether an archive can be believed: its bytes, what they say of themselves, and whether its numbers come out again.

`verify` says what is wrong; `attest` says beside the archive, whose files stay as they are, which results come out again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.analysis import claims
from pimllm_lib.archive import attested, dataset, diff, jobs, manifest, notebooks, parameters, provenance, versions
from pimllm_lib.core import files, paths, scratch
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.schema import ALWAYS, SCHEMA_VERSION, VARIABLES

#: Studies by name -> the lines in which repeated trials depart, by the name of each study that was repeated.
Repeat = Callable[[Mapping[str, xr.Dataset]], Mapping[str, list[str]]]


@dataclass
class Finding:
    """What a verification found: problems, things worth knowing, the numbers that moved, and the hashes of what is there."""

    archive_hash: str = ""
    datasets: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    recomputed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    moved: list[diff.Change] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain objects."""
        return vars(self) | {"moved": [change.as_dict() for change in self.moved]}


def verify(
    folder: Path, names: Sequence[str] = (), *, recompute: bool = True, repeat: Repeat | None = None,
    at_once: int = 1, progress: bool = False,
) -> Finding:  # fmt: skip
    """Check an archive: sizes and hashes, then schema and attributes, then, on request, the numbers and the verdicts.

    A file with wrong bytes is not opened, and nothing is recomputed then. names: results to look at, all unless given.
    repeat: what computes a trial of each study again.
    Raises UnknownName for a name that the archive does not have.
    """
    found = Finding()
    try:
        found.problems = manifest.damage(folder)
        found.archive_hash = manifest.hash_of(folder)
        entries = manifest.load(folder).items()
        found.datasets = sorted(str(said.get("sha256")) for name, said in entries if name.endswith(".nc"))
        every = manifest.names(folder)
    except BadInput as error:
        found.problems = [str(error)]
        return found
    listed = manifest.chosen(every, names)
    found.results = list(listed)
    if found.problems:
        return found
    try:
        kept = dataset.together((name, dataset.load(path)) for name, path in listed.items())
    except BadInput as error:
        found.problems = [str(error)]
        return found
    found.problems = [line for name, ds in kept.items() for line in schema_problems(name, ds)]
    if found.problems:
        return found
    if versions.released_as(found.archive_hash) is None:
        found.notes.append(f"the archive is no released one: its hash is {found.archive_hash[:16]}...")
    found.notes += _from_elsewhere(folder, listed, kept)
    if recompute:
        studies = {name: ds for name, ds in kept.items() if manifest.is_study(folder, listed[name])}
        _recompute(found, {name: ds for name, ds in kept.items() if name not in studies}, at_once, progress)
        _repeat(found, studies, repeat)
    try:
        found.notes += attested.strangers(folder)
    except BadInput as error:
        found.problems.append(f"{error}; nothing in it is believed")
    return found


def _from_elsewhere(folder: Path, listed: Mapping[str, Path], kept: Mapping[str, xr.Dataset]) -> Iterator[str]:
    """Yield which results these sources have not given."""
    for name, ds in kept.items():
        made = dataset.record(ds, name)
        here = provenance.sources_here(name, made)
        if here is not None and not attested.holds(folder, listed[name], here):
            yield f"{name} was made from other sources ({made['source_hash']}); here they are {here}"


def schema_problems(name: str, ds: xr.Dataset) -> Iterator[str]:
    """Yield in what a result is not as the schema says: attributes, name, variables, units, numbers that are missing."""
    yield from _attributes(name, ds)
    for variable in map(str, ds.data_vars):
        if variable not in VARIABLES:
            yield f"{name}: {unknown('variable', variable, VARIABLES)}"
        elif not np.array_equal(unit := ds[variable].attrs.get("units", "none"), VARIABLES[variable].unit):
            yield f"{name}: {variable} is in {clip(unit)}; wanted {VARIABLES[variable].unit}"
        elif ds[variable].dtype.kind not in "fiu":
            yield f"{name}: {variable} has values of type {ds[variable].dtype}; wanted numbers"
    yield from _gaps(name, ds)


def _attributes(name: str, ds: xr.Dataset) -> Iterator[str]:
    for key in dataset.ATTRIBUTES:
        if key not in ds.attrs:
            yield f"{name} has no attribute {key}"
    wanted: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    try:
        says = dataset.record(ds, name)["result"]
        wanted["tolerance"] = dataset.tolerance(ds)
        if says != name:
            yield f"{name} says that it is {clip(says)}; wanted the name it bears: it was renamed, or put in another's place"
    except BadInput as error:
        yield str(error)
    for key, value in wanted.items():
        if not np.array_equal(ds.attrs.get(key, value), value):
            yield f"{name} has {key} {clip(ds.attrs[key])}; wanted {value}"


def _gaps(name: str, ds: xr.Dataset) -> Iterator[str]:
    """Yield which variables that every point has are no number, everywhere or where another one of the same shape is one."""
    lacking = {v: np.isnan(ds[v].values) for v in ALWAYS if v in ds.data_vars and ds[v].dtype.kind == "f"}
    absent: dict[tuple[Hashable, ...], Any] = {}
    for variable, here in lacking.items():
        absent[ds[variable].dims] = absent.get(ds[variable].dims, here) & here
    for variable, here in lacking.items():
        if here.size and here.all():
            yield f"{name}: {variable} has no number at all; wanted one at each point"
        elif count := int((here & ~absent[ds[variable].dims]).sum()):
            yield f"{name}: {variable} has no number at {count} points that other variables have one for"


def _recompute(found: Finding, kept: dict[str, xr.Dataset], at_once: int, progress: bool) -> None:
    """Compute each result again with its own parameters, and compare; then the verdicts."""
    todo = {name: ds for name, ds in kept.items() if name in paths.slugs()}
    strange = (name for name in kept if name not in todo)
    found.notes += [f"{name} is not recomputed: this version has no notebook of that name" for name in strange]
    try:
        fresh = recomputed({name: dataset.parameters(ds) for name, ds in todo.items()}, at_once, progress)
    except notebooks.NotebookFailed as error:
        found.problems.append(str(error))
        return
    found.recomputed = list(todo)
    found.moved = diff.archives(todo, fresh)
    found.problems += [*map(str, found.moved), *claims.moved()]


def recomputed(wanted: Mapping[str, Mapping[str, Any]], at_once: int, progress: bool) -> dict[str, xr.Dataset]:
    """Return results computed again, each with its parameters, by what of its notebook its dataset depends on.

    Raises NotebookFailed where a cell raises, BadInput for parameters that the notebook does not have.
    """
    todo = {name: parameters.check(name, values) for name, values in wanted.items()}
    with scratch.folder("verify") as place:
        made = list(jobs.run(todo, place, at_once, data_only=True, progress=progress))
        return {path.stem: dataset.load(path) for path in made}


def _repeat(found: Finding, studies: Mapping[str, xr.Dataset], repeat: Repeat | None) -> None:
    """Compute a trial of each study again, or say that nobody did."""
    if repeat is not None:
        departing = repeat(studies)
        found.recomputed += departing
        found.problems += [line for lines in departing.values() for line in lines]
        untried = studies.keys() - departing
        found.notes += [f"{name} is not repeated: this version names no trial of it" for name in untried]
    elif studies:
        found.notes.append(
            f"studies are not computed again ({len(studies)} here): --heavy repeats a trial of each, "
            "'pimllm sweep data/studies/NAME.yaml --archive' all of one"
        )


@dataclass
class Outcome:
    """What an attestation found: results that held before, those attested now, and what departs, in one line each."""

    held: list[str] = field(default_factory=list)
    attested: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def attest(folder: Path, names: Sequence[str] = (), *, at_once: int = 1, progress: bool = False) -> Outcome:
    """Compute again what these sources have not given yet, and attest each result that agrees, values and attributes.

    names: results to look at, all unless given. The checkout's archive is of the notebooks' own parameters; another one
    keeps the parameters that its results were made with. Studies take hours and are not computed again.
    Raises UnknownName for a name that the archive does not have, BadInput for an archive or a list that is damaged.
    """
    attested.load(folder)
    if wrong := manifest.damage(folder):
        raise BadInput(f"{folder} is not as its manifest says: {wrong[0]}")
    ours = {name: path for name, path in manifest.names(folder).items() if name in paths.slugs()}
    listed = manifest.chosen(ours, names)
    here = {name: provenance.source_hash(name) for name in listed}
    found = Outcome(held=[name for name, path in listed.items() if attested.holds(folder, path, here[name])])
    kept = {name: dataset.load(path) for name, path in listed.items() if name not in found.held}
    own = folder.resolve() == paths.DATA
    try:
        fresh = recomputed({n: {} if own else dataset.parameters(ds) for n, ds in kept.items()}, at_once, progress)
    except notebooks.NotebookFailed as error:
        found.problems.append(str(error))
        fresh = {}
    given = {name: here[name] for name in found.held if dataset.sources_of(listed[name]) != here[name]}
    for name, ds in fresh.items():
        changes = diff.results(name, kept[name], ds)
        found.problems += map(str, changes)
        if not changes:
            found.attested.append(name)
            given[name] = dataset.sources_of(ds)  # of what ran: files may have changed meanwhile
    attested.add(folder, {files.hash_of(listed[name]): sources for name, sources in given.items()})
    return found
