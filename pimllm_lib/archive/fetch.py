"""Bring the archive of a released version from wherever it is kept, and believe it by its hash alone."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

from pimllm_lib.archive import manifest, sources, versions
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.paths import users

#: How long a server may stay silent.
_TIMEOUT_S = 30


def fetch(version: str, origin: str, into: Path, *, pinned: str | None = None, progress: bool = False) -> Path:
    """Bring an archive into a folder and return the folder; what is there already and right is not brought again.

    origin: a folder, an address below which `manifest.json` lies, or a .zip made by 'pimllm export' at either.
    pinned: SHA-256 of the manifest, for a version that this one does not know. The manifest is written last: the folder
    becomes an archive when all is there.
    Raises BadInput for an unknown version, an origin that cannot be read, and any file with other bytes than pinned.
    """
    files.require_folder(into)
    wanted = pinned or _pinned(version)
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise BadInput(f"the pinned hash is {clip(wanted)}; wanted a SHA-256, 64 hexadecimal digits")
    if (into / manifest.NAME).is_file() and files.hash_of(into / manifest.NAME) != wanted:
        raise BadInput(f"{into} holds another archive; wanted an empty or new folder")
    base = origin.rstrip("/") if _is_address(origin) else str(users(origin))
    crate = _crate(origin, wanted, progress) if origin.partition("?")[0].lower().endswith(".zip") else None

    def bring(name: str, sha256: str, promised: int) -> bytes:
        content = _content(f"{base}/{name}", promised, progress) if crate is None else crate[name]
        if files.hash_of(content) != sha256:
            raise BadInput(f"{base}/{name} has other bytes than pinned; nothing of it was kept")
        return content

    text = bring(manifest.NAME, wanted, manifest.LONGEST)
    listed = manifest.parse(text, f"{base}/{manifest.NAME}")
    if any("next" in said for said in listed.values()):
        raise BadInput(f"{base} was being renewed when it was copied; wanted an archive at rest")
    files.sweep(files.inside(into, name) for name in (manifest.NAME, *listed))
    for name, said in listed.items():
        target = files.inside(into, name)
        if not (target.is_file() and manifest.entry(target) == said):
            files.write(target, bring(name, said["sha256"], said["bytes"]))
    files.write(into / manifest.NAME, text)
    return into


def _pinned(version: str) -> str:
    known = {name: release.archive for name, release in versions.releases().items() if release.archive}
    if version not in known:
        raise unknown("version with an archive", version, known)
    return known[version]


def _crate(origin: str, wanted: str, progress: bool) -> dict[str, bytes]:
    """Return the archive in a crate, name -> content. Raises BadInput for another archive than the wanted one."""
    packed = BytesIO(_content(origin, files.LONGEST, progress)) if _is_address(origin) else users(origin)
    return sources.crate(packed, origin, pinned=wanted)


def _is_address(origin: str) -> bool:
    return origin.startswith(("http://", "https://"))


class _Promised(BytesIO):
    """What a server sends, as far as it was promised: whatever it announces, no more than that is taken."""

    def __init__(self, place: str, promised: int) -> None:
        super().__init__()
        self.place, self.left = place, promised

    def write(self, chunk: Any) -> int:
        self.left -= len(chunk)
        if self.left < 0:
            raise BadInput(f"{self.place} sends more than the bytes promised; nothing of it was kept")
        return super().write(chunk)


def _content(place: str, promised: int, progress: bool) -> bytes:
    """Return what is at an address, or in a file. Raises BadInput when it cannot be had, and at the first byte too many."""
    most = min(promised, files.LONGEST)
    if not _is_address(place):
        return files.read(Path(place), limit=most)
    import pooch
    import requests

    content = _Promised(place, most)
    try:
        pooch.HTTPDownloader(timeout=_TIMEOUT_S, progressbar=progress)(place, content, None)
    except BadInput:
        raise
    except (requests.RequestException, ValueError) as error:  # the latter for what no parser takes
        said = str(error) if isinstance(error, requests.HTTPError) else type(error).__name__
        raise BadInput(f"{place} cannot be had: {said}") from None
    return content.getvalue()
