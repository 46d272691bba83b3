"""Bring the archive of a released version from wherever it is kept, and believe it by its hash alone."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

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
    if (into / manifest.NAME).is_file() and files.hash_of(files.read(into / manifest.NAME)) != wanted:
        raise BadInput(f"{into} holds another archive; wanted an empty or new folder")
    base = origin.rstrip("/") if _is_address(origin) else str(users(origin))
    crate = _crate(origin, wanted, progress) if urlsplit(origin).path.lower().endswith(".zip") else None

    def bring(name: str, sha256: str) -> bytes:
        content = _content(f"{base}/{name}", progress) if crate is None else crate[name]
        if files.hash_of(content) != sha256:
            raise BadInput(f"{base}/{name} has other bytes than pinned; nothing of it was kept")
        return content

    text = bring(manifest.NAME, wanted)
    listed = manifest.parse(text, f"{base}/{manifest.NAME}")
    if any("next" in said for said in listed.values()):
        raise BadInput(f"{base} was being renewed when it was copied; wanted an archive at rest")
    files.sweep(files.inside(into, name) for name in (manifest.NAME, *listed))
    for name, said in listed.items():
        target = files.inside(into, name)
        if not (target.is_file() and manifest.entry(files.read(target)) == said):
            files.write(target, bring(name, said["sha256"]))
    files.write(into / manifest.NAME, text)
    return into


def _pinned(version: str) -> str:
    known = {name: release.archive for name, release in versions.releases().items() if release.archive}
    if version not in known:
        raise unknown("version with an archive", version, known)
    return known[version]


def _crate(origin: str, wanted: str, progress: bool) -> dict[str, bytes]:
    """Return the archive in a crate, name -> content. Raises BadInput for another archive than the wanted one."""
    contents = sources.crate(BytesIO(_content(origin, progress)) if _is_address(origin) else users(origin), origin)
    if files.hash_of(contents[manifest.NAME]) != wanted:
        raise BadInput(
            f"{origin} holds an archive with other bytes than this version's: its manifest has another SHA-256"
        )
    return contents


def _is_address(origin: str) -> bool:
    return origin.startswith(("http://", "https://"))


def _content(place: str, progress: bool) -> bytes:
    """Return what is at an address, or in a file. Raises BadInput when it cannot be had."""
    if not _is_address(place):
        return files.read(Path(place))
    import pooch
    import requests

    content = BytesIO()
    try:
        pooch.HTTPDownloader(timeout=_TIMEOUT_S, progressbar=progress)(place, content, None)
    except requests.RequestException as error:
        said = str(error) if isinstance(error, requests.HTTPError) else type(error).__name__
        raise BadInput(f"{place} cannot be had: {said}") from None
    return content.getvalue()
