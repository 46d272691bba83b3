"""Results wherever they are: in an archive, a folder, one file, an exported crate, or at a tag of the history."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path, PurePosixPath

import xarray as xr

from pimllm_lib.archive import dataset, manifest, versions
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, clip, one_line

#: Where a revision has datasets.
_PLACES = ("data/results", f"data/{manifest.STUDIES}")


def results(what: str) -> dict[str, xr.Dataset]:
    """Return result name -> dataset of a folder, a .nc file, a .zip made by 'pimllm export', or a tag of this checkout.

    Raises BadInput when it is none of these, holds no results, is not as its manifest says, or is more than fits in memory.
    """
    path = paths.users(what)
    if path.is_dir():
        folder = path / "data" if (path / "data" / manifest.NAME).is_file() else path
        if (folder / manifest.NAME).is_file() and (wrong := manifest.damage(folder)):
            raise BadInput(f"{folder} is not as its manifest says: {wrong[0]}")
        return dataset.together((name, dataset.load(file)) for name, file in manifest.names(folder).items())
    if path.is_file() and zipfile.is_zipfile(path):
        contents = crate(path, path)
        return _decoded((name, contents[name]) for name in filter(_is_result, contents))
    return {path.stem: dataset.load(path)} if path.is_file() else _at_revision(what)


def _is_result(name: str) -> bool:
    return name.endswith(".nc")


def _decoded(contents: Iterable[tuple[str, bytes]]) -> dict[str, xr.Dataset]:
    return dataset.together((PurePosixPath(name).stem, dataset.decode(content, name)) for name, content in contents)


def crate(packed: Path | BytesIO, path: object, *, pinned: str = "") -> dict[str, bytes]:
    """Return the archive in a crate: name in its manifest -> content, the manifest too. path: what errors call it.

    pinned: SHA-256 of the manifest, where another is to be refused. All sizes are looked at before any file is unpacked.
    Raises BadInput when a member leaves its folder, is larger than the manifest says, or has other bytes.
    """
    try:
        with zipfile.ZipFile(packed) as file:
            members = {name: info for info in file.infolist() if (name := info.filename) and not info.is_dir()}
            for name in members:
                files.below(name)
            root = next((name for name in (f"data/{manifest.NAME}", manifest.NAME) if name in members), None)
            if root is None or members[root].file_size > manifest.LONGEST:
                raise BadInput(f"{path} has no {manifest.NAME}; wanted a file made by 'pimllm export'")
            text = _cut(file, members[root])
            if pinned and files.hash_of(text) != pinned:
                what = "holds an archive with other bytes than this version's: its manifest has another SHA-256"
                raise BadInput(f"{path} {what}")
            listed = manifest.parse(text, f"{path}: {root}")
            return {manifest.NAME: text} | _unpacked(file, members, root.removesuffix(manifest.NAME), listed, path)
    except BadInput:
        raise
    except Exception as error:  # a damaged file makes its readers fail in many ways
        raise BadInput(f"{path} cannot be read as a zip file: {one_line(str(error))}") from None


def _unpacked(
    file: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    below: str,
    listed: Mapping[str, manifest.Entry],
    path: object,
) -> dict[str, bytes]:
    """Return the files of an archive in a zip file that has the sizes its manifest says. Raises BadInput for another one."""
    found = {name: members.get(f"{below}{name}") for name in listed}
    for name, member in found.items():
        if member is None or member.file_size != listed[name].get("bytes"):
            raise BadInput(f"{path}: {name} is missing or has another size than the manifest says")
    if (size := sum(said["bytes"] for said in listed.values())) > files.LONGEST:
        raise BadInput(f"{path} unpacks to {size} bytes; wanted at most {files.LONGEST}")
    contents = {name: _cut(file, member) for name, member in found.items() if member is not None}
    for name, content in contents.items():
        if manifest.entry(content) != listed[name]:
            raise BadInput(f"{path}: {name} has other bytes than the manifest says")
    return contents


def _cut(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Return what a member holds, as far as its declared size: only deflate can be stopped there."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(
            f"{file.filename or 'the zip file'} packs {clip(member.filename)} otherwise than 'pimllm export' does"
        )
    with file.open(member) as opened:
        return opened.read(member.file_size)


def _at_revision(what: str) -> dict[str, xr.Dataset]:
    """Return the results that a released version, a tag or a commit of this checkout holds."""
    nowhere = f"{clip(what)} is no folder and no file"
    if not paths.IN_CHECKOUT:
        raise BadInput(f"{nowhere}; wanted a folder with results, a .nc file or an exported .zip")
    try:
        revision = _of_version(what) if what in versions.releases() else what
        commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
        listed = _git("ls-tree", "-r", "--name-only", "-z", commit, *_PLACES).decode().split("\0")
        names = [name for name in listed if _is_result(name)]
        found = _decoded((name, _git("show", f"{commit}:{name}")) for name in names)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{nowhere}, and no version, tag or commit of this checkout either") from None
    if not found:
        raise BadInput(f"{clip(what)} has no results under {' or '.join(_PLACES)}")
    return found


def _of_version(version: str) -> str:
    """Return the revision that holds a version's archive: its tag, else the commit whose manifest has the pinned hash."""
    wanted, tag = versions.releases()[version].archive, f"v{version}"
    if wanted is None:
        raise BadInput(f"version {version} had no archive; wanted a later one")
    if _git("tag", "--list", tag):
        return tag
    for commit in _git("log", "--format=%H", "--", f"data/{manifest.NAME}").decode().split():
        if files.hash_of(_git("show", f"{commit}:data/{manifest.NAME}")) == wanted:
            return commit
    raise BadInput(f"the history here does not have the archive of {version}; wanted a whole clone, or 'pimllm fetch'")


def _git(*options: str) -> bytes:
    return subprocess.run(["git", "-C", str(paths.ROOT), *options], capture_output=True, check=True).stdout


def zipped(contents: dict[str, bytes]) -> bytes:
    """Return a zip file of some contents: sorted, without times, so that equal contents give equal bytes."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(contents):
            file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), contents[name], zipfile.ZIP_DEFLATED)
    return out.getvalue()
