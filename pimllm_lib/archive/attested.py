"""Which sources gave an archived file again: a list beside the manifest that only grows, so that no file is written anew.

`attested.json` maps the SHA-256 of a file to hashes of sources, and each of these to the version it was of, and has a digest
of all this. It is no part of the archive: the manifest does not name it, and an archive without it is as whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pimllm_lib import __version__
from pimllm_lib.archive import dataset, manifest
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, clip

NAME = "attested.json"
#: SHA-256 of a file -> hash of sources that gave it again -> version.
Attested = dict[str, dict[str, str]]
_LONGEST = 16 << 20


def load(folder: Path) -> Attested:
    """Return what is attested in an archive, nothing where nobody did. Raises BadInput for a file that is damaged."""
    path = folder / NAME
    if not path.exists():
        return {}
    text = files.read(path, limit=_LONGEST)
    try:
        content = files.from_json(text)
    except ValueError:
        raise BadInput(
            f"{path} is not JSON; wanted file -> sources -> version, each file and source by its hash"
        ) from None
    if isinstance(content, dict) and content.pop("digest", None) is not None and text != _text(content):
        raise BadInput(f"{path} is damaged: its digest does not fit its content")
    _require_hashes(path, content, 64, "the SHA-256 of a file")
    for sources in content.values():
        _require_hashes(path, sources, 16, "the hash of sources")
        for source, version in sources.items():
            if not isinstance(version, str):
                raise BadInput(f"{path} says of {source} {clip(version)}; wanted a version")
    return dict(content)


def _text(content: Mapping[str, Any]) -> bytes:
    """Return the list as it is written; the first ones had no digest."""
    digest = files.hash_of(json.dumps(content).encode())
    return (json.dumps({**content, "digest": digest}, indent=1) + "\n").encode()


def known(folder: Path) -> Attested:
    """Return what is attested in an archive, and what this version knows of the same files: one brought from elsewhere has
    no list. Raises BadInput for a list that is damaged.
    """
    found, own = load(folder), load(paths.DATA)
    return {sha256: own.get(sha256, {}) | found.get(sha256, {}) for sha256 in {**own, **found}}


def _require_hashes(path: Path, content: Any, digits: int, what: str) -> None:
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds {clip(content)}; wanted a mapping from {what}")
    for key in content:
        if not re.fullmatch(rf"[0-9a-f]{{{digits}}}", key):
            raise BadInput(f"{path} names {clip(key)}; wanted {what}, {digits} hexadecimal digits")


def strangers(folder: Path) -> list[str]:
    """Return a line for each file that is attested and not in the archive: one that was renewed, or never there."""
    here = {said.get("sha256") for said in manifest.load(folder).values()}
    strange = (sha256 for sha256 in load(folder) if sha256 not in here)
    return [f"{NAME} attests sha256 {sha256[:16]}..., which no file here has" for sha256 in strange]


def holds(folder: Path, result: Path, sources: str) -> bool:
    """Return whether these sources gave a file of an archive: the first time, or again. A damaged list attests nothing."""
    content = files.read(result)
    if dataset.sources_of(dataset.decode(content, result), result) == sources:
        return True
    try:
        return sources in known(folder).get(files.hash_of(content), {})
    except BadInput:
        return False


def add(folder: Path, again: Mapping[str, str]) -> None:
    """Say that sources gave files again: SHA-256 -> hash of the sources. What is there stays; two who write lose nothing.

    Raises BadInput when the folder cannot be written or the list there is damaged.
    """
    with files.locked(folder):
        files.sweep([folder / NAME])
        found = load(folder)
        before = json.dumps(found)
        for sha256, sources in again.items():
            version = found.setdefault(sha256, {}).setdefault(sources, __version__)
            if version.startswith(f"{__version__}.dev"):
                found[sha256][sources] = __version__  # the same sources, released
        if json.dumps(found) != before:
            files.write(folder / NAME, _text(found))


def told(made: Mapping[str, Any], sha256: str, sources: str | None, folder: Path) -> str:
    """Return in words what made a file and what gave it again: these sources if they did, else the latest that did.

    made: the provenance of the file; sources: the hash of those at hand; folder: the archive that has the file.
    Raises BadInput where the list there is damaged.
    """
    words = f"made by pimllm {made['pimllm']} from sources {made['source_hash']}"
    by = known(folder).get(sha256, {})
    if sources == made["source_hash"] or not by:
        return words
    latest = sources if sources in by else list(by)[-1]
    return f"{words}; given again by pimllm {by[latest]} from sources {latest}"
