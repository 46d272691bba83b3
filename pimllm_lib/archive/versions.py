"""Released versions: when, and the hash of the archive that belongs to each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput


@dataclass(frozen=True)
class Release:
    """One released version.

    archive: the SHA-256 of its manifest, which names every file of the archive by its own; None before there were any.
    datasets: the SHA-256 of each dataset in it.
    """

    version: str
    date: date
    archive: str | None
    datasets: frozenset[str] = frozenset()


def releases(path: Path = paths.VERSIONS) -> dict[str, Release]:
    """Return version -> release, in the order of the file. Raises BadInput when the file is damaged."""
    text = files.read(path)
    try:
        found = {
            v: Release(v, date.fromisoformat(said["date"]), said["archive"], frozenset(said.get("datasets", ())))
            for v, said in files.from_json(text).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInput(f"{path} is not a list of versions; wanted version -> date and archive") from None
    hashes = [text for one in found.values() for text in (one.archive, *one.datasets) if text is not None]
    if not all(isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text) for text in hashes):
        raise BadInput(f"{path} names an archive or a dataset by something other than a SHA-256")
    return found


def released_as(archive_hash: str) -> Release | None:
    """Return the release that an archive is, None for an archive that was never released."""
    return next((release for release in releases().values() if release.archive == archive_hash), None)


def first_with(sha256: str) -> Release | None:
    """Return the first release whose archive has a dataset, None for one that was never released."""
    return next((release for release in releases().values() if sha256 in release.datasets), None)
