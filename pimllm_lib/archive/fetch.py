"""Bring the archive of a released version from wherever it is kept, and believe it by its hash alone."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from pimllm_lib.archive import manifest, sources, versions
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.paths import users

#: How long a server may stay silent.
_TIMEOUT_S = 30
Download = Callable[[str, Path, str], None]


def fetch(version: str, origin: str, into: Path, *, pinned: str | None = None, progress: bool = False) -> Path:
    """Bring an archive into a folder and return the folder; what is there already and right is not brought again.

    origin: a folder, an address below which `manifest.json` lies, or a .zip made by 'pimllm export' at either.
    pinned: SHA-256 of the manifest, for a version that this one does not know.
    Raises BadInput for an unknown version, an origin that cannot be read, and any file with other bytes than pinned.
    """
    files.require_folder(into)
    known = {name: release for name, release in versions.releases().items() if release.archive}
    if pinned is None and version not in known:
        raise unknown("version with an archive", version, known)
    wanted = pinned or str(known[version].archive)
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise BadInput(f"the pinned hash is {clip(wanted)}; wanted a SHA-256, 64 hexadecimal digits")
    if (into / manifest.NAME).is_file() and files.hash_of(files.read(into / manifest.NAME)) != wanted:
        raise BadInput(f"{into} holds another archive; wanted an empty or new folder")
    if urlsplit(origin).path.lower().endswith(".zip"):
        contents = _from_crate(origin, wanted, progress)
        for name in sorted(contents, key=lambda name: name == manifest.NAME):  # the manifest last
            files.write(files.inside(into, name), contents[name])
    else:
        _one_by_one(origin, wanted, into, progress)
    return into


def _from_crate(origin: str, wanted: str, progress: bool) -> dict[str, bytes]:
    with TemporaryDirectory(prefix="pimllm-fetch.") as scratch:
        path = Path(scratch, "crate.zip") if _is_address(origin) else users(origin)
        if _is_address(origin):
            _download(progress)(origin, path, "")
        contents = sources.crate(path)
    if files.hash_of(contents[manifest.NAME]) != wanted:
        raise BadInput(
            f"{origin} holds an archive with other bytes than this version's: its manifest has another SHA-256"
        )
    return contents


def _one_by_one(origin: str, wanted: str, into: Path, progress: bool) -> None:
    """Bring the manifest, then each file it names. The folder becomes an archive when the last one is there."""
    get = _download(progress) if _is_address(origin) else _copy
    base = origin.rstrip("/") if _is_address(origin) else str(users(origin))
    with TemporaryDirectory(prefix="pimllm-fetch.") as scratch:
        first = Path(scratch, manifest.NAME)
        get(f"{base}/{manifest.NAME}", first, wanted)
        text = files.read(first)
        listed = manifest.parse(text, f"{base}/{manifest.NAME}")
        if any("next" in said for said in listed.values()):
            raise BadInput(f"{base} was being renewed when it was copied; wanted an archive at rest")
        for name, said in listed.items():
            target = files.inside(into, name)
            if not (target.is_file() and manifest.entry(files.read(target)) == said):
                brought = Path(scratch, "file")
                get(f"{base}/{name}", brought, str(said["sha256"]))
                files.write(target, files.read(brought))
                brought.unlink()
    files.write(into / manifest.NAME, text)


def _is_address(origin: str) -> bool:
    return re.match(r"https?://", origin) is not None


def _copy(origin: str, target: Path, wanted: str) -> None:
    content = files.read(Path(origin))
    if files.hash_of(content) != wanted:
        raise BadInput(_other_bytes(origin))
    target.write_bytes(content)


def _other_bytes(origin: str) -> str:
    return f"{origin} has other bytes than pinned; nothing of it was kept"


def _download(progress: bool) -> Download:
    """Return what downloads one address into a file and checks its hash, where one is given."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.ERROR)
    downloader: Any = pooch.HTTPDownloader(timeout=_TIMEOUT_S, progressbar=progress)

    def download(origin: str, target: Path, wanted: str) -> None:
        try:
            got = pooch.retrieve(
                origin, f"sha256:{wanted}" if wanted else None, target.name, target.parent, None, downloader
            )
            if Path(got) != target:
                shutil.move(got, target)
        except requests.HTTPError as error:
            raise BadInput(f"{origin} cannot be had: {error}") from None
        except requests.RequestException as error:
            raise BadInput(f"{origin} cannot be had: {type(error).__name__}") from None
        except ValueError:
            raise BadInput(_other_bytes(origin)) from None

    return download
