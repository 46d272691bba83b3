"""Whether the sources at hand give archived results again, and saying so beside the archive; its files stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pimllm_lib.archive import attested, dataset, diff, manifest, notebooks, provenance
from pimllm_lib.archive.verify import recomputed
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, unknown


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
    listed = {name: path for name, path in manifest.names(folder).items() if name in paths.slugs()}
    for name in names:
        if name not in listed:
            raise unknown("result", name, listed)
    found, wanted = Outcome(), list(dict.fromkeys(names)) or list(listed)
    here = {name: provenance.source_hash(name) for name in wanted}
    found.held = [name for name in wanted if attested.holds(folder, listed[name], here[name])]
    kept = {name: dataset.load(listed[name]) for name in wanted if name not in found.held}
    try:
        own = folder.resolve() == paths.DATA
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
            given[name] = dataset.record(ds)["source_hash"]  # of what ran: files may have changed meanwhile
    attested.add(folder, {files.hash_of(files.read(listed[name])): sources for name, sources in given.items()})
    return found
