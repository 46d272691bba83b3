"""What belongs to an archive, by size and hash; and how files are put into one so that it holds at every moment.

An archive is a folder with a `manifest.json`, which names each file with its size and SHA-256 and has a digest of itself.
Files are renewed in three steps: the manifest announces the new content beside the old one, the files are replaced, the
manifest settles on what is there. Whoever reads in between, or after a run was killed, finds files that the manifest knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput, clip, unknown

NAME = "manifest.json"
#: Where an archive has studies: descriptions, and results that notebooks read and none makes.
STUDIES = "studies"
#: The version written; the first one also named the version of the library, which says nothing of the files.
SCHEMA_VERSION = 2
_READ = (1, 2)
#: A manifest is a short text; a longer one is not ours.
LONGEST = 16 << 20
#: How often files are looked at again when another run puts its own in place meanwhile.
_RETRIES = 20
#: What a manifest says of one content of a file.
_CONTENT = {"bytes": int, "sha256": str}

Entry = dict[str, Any]


def entry(content: bytes | Path) -> Entry:
    """Return what a manifest says of a content, or of a file that is there, of any size."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return {"bytes": size, "sha256": files.hash_of(content)}


def compose(entries: Mapping[str, Entry]) -> bytes:
    """Return the manifest of some files: JSON with sorted keys, one line each, and its own digest."""
    body = {"schema_version": SCHEMA_VERSION, "files": dict(entries)}
    return _text(body | {"digest": files.hash_of(_text(body))})


def _text(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def parse(text: bytes, where: object = NAME) -> dict[str, Entry]:
    """Return file name -> entry of a manifest. Raises BadInput when it is damaged or names a file outside its folder."""
    try:
        content = files.from_json(text)
        body = {key: value for key, value in content.items() if key != "digest"}
        whole = content["digest"] == files.hash_of(_text(body)) and text == _text(content)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInput(f"{where} is not a manifest; wanted JSON with files and a digest") from None
    if not whole:
        raise BadInput(f"{where} is damaged: its digest does not fit its content")
    if body.get("schema_version") not in _READ or not isinstance(body.get("files"), dict):
        raise BadInput(f"{where} has schema version {clip(body.get('schema_version'))}; wanted 1 or {SCHEMA_VERSION}")
    for name, said in body["files"].items():
        if files.below(name) == NAME:
            raise BadInput(f"{where} names itself; wanted the files beside it")
        for one in _contents(said):
            if not isinstance(one, dict) or any(type(one.get(key)) is not kind for key, kind in _CONTENT.items()):
                raise BadInput(f"{where} says of {clip(name)} {clip(said)}; wanted bytes and sha256")
    return dict(body["files"])


def _contents(said: Any) -> list[Any]:
    """Return the contents a file may have: one, or two while it is being renewed."""
    coming = [said["next"]] if isinstance(said, dict) and "next" in said else []
    return coming if coming and "sha256" not in said else [said, *coming]


def load(folder: Path) -> dict[str, Entry]:
    """Return file name -> entry of the archive in a folder. Raises BadInput when there is none or it is damaged."""
    path = folder / NAME
    if not path.is_file():
        raise BadInput(
            f"{folder} is no archive: it has no {NAME}; wanted a folder made by 'pimllm run' or 'pimllm fetch'"
        )
    return parse(files.read(path, limit=LONGEST), path)


def names(folder: Path) -> dict[str, Path]:
    """Return result name -> path of its dataset, for an archive or for any folder with netCDF files. Sorted.

    Raises BadInput when the folder holds none, or a manifest that is damaged.
    """
    if (folder / NAME).is_file():
        entries = ((files.inside(folder, name), said) for name, said in load(folder).items())
        listed = [path for path, said in entries if "sha256" in said or path.is_file()]  # the others are announced only
    else:
        listed = datasets(folder)
    found: dict[str, Path] = {}
    for path in sorted(path for path in listed if path.suffix == ".nc"):
        if path.stem in found:
            raise BadInput(f"{folder} has two results named {path.stem}: {found[path.stem]} and {path}; wanted one")
        found[path.stem] = path
    if not found:
        raise BadInput(f"{folder} holds no results; wanted a folder with .nc files or a {NAME}")
    return found


def chosen(listed: Mapping[str, Path], wanted: Sequence[str] = ()) -> dict[str, Path]:
    """Return the wanted results of those listed, all where none is named. Raises UnknownName for one that is not listed."""
    for name in wanted:
        if name not in listed:
            raise unknown("result", name, listed)
    return {name: listed[name] for name in wanted or listed}


def publish(folder: Path, contents: Mapping[str, bytes], *, whole: bool = False) -> list[Path]:
    """Put files into an archive so that it holds at every moment, also when this process is killed. Returns their paths.

    whole: the contents are the whole archive; a file that is gone is no longer listed.
    Raises BadInput when the folder cannot be written, its manifest is damaged, or a content would take the manifest's place;
    what was there before then stays.
    """
    if NAME in contents:
        raise BadInput(f"{NAME} is among the files for {folder}; wanted another name")
    with files.locked(folder):
        entries = _settled(folder)
        if whole:
            entries = {name: said for name, said in entries.items() if name in contents or (folder / name).is_file()}
        files.sweep(files.inside(folder, name) for name in (NAME, *contents))
        changed = {
            name: content
            for name, content in contents.items()
            if entries.get(name) != entry(content) or _wrong(folder, name, entries[name])
        }
        announced = {name: entries.get(name, {}) | {"next": entry(content)} for name, content in changed.items()}
        if changed:
            files.write(folder / NAME, compose(entries | announced))
        for name, content in changed.items():
            files.write(files.inside(folder, name), content)
        settled = compose(entries | {name: entry(content) for name, content in changed.items()})
        if not (folder / NAME).is_file() or files.read(folder / NAME) != settled:
            files.write(folder / NAME, settled)
    return [folder / name for name in contents]


def _settled(folder: Path) -> dict[str, Entry]:
    """Return the entries of an archive, each on the content its file has now; a file that is not ours has none."""
    known = load(folder) if (folder / NAME).exists() else {}
    settled = {}
    for name, said in known.items():
        path = files.inside(folder, name)
        there = entry(path) if path.is_file() else None
        choices = [{key: one[key] for key in _CONTENT} for one in _contents(said)]
        if there in choices or "next" not in said:
            settled[name] = there if there in choices else said
        elif "sha256" in said:
            settled[name] = {key: said[key] for key in _CONTENT}
    return settled


def hash_of(folder: Path) -> str:
    """Return the archive's hash: the SHA-256 of its manifest, which names every file by its own."""
    load(folder)
    return files.hash_of(folder / NAME)


def unsettled(folder: Path) -> list[str]:
    """Return one line for each file that was being renewed when a run was killed, or is being renewed now."""
    renewed = [name for name, said in load(folder).items() if "next" in said]
    return [f"{name} is being renewed, or a run that renewed it was killed" for name in renewed]


def damage(folder: Path) -> list[str]:
    """Return one line for each file of an archive that is missing, has other bytes, or is not in the manifest.

    Raises BadInput when the manifest itself is missing or damaged.
    """
    for _ in range(_RETRIES):
        before, known = files.read(folder / NAME) if (folder / NAME).is_file() else b"", load(folder)
        lines = [line for name, said in known.items() if (line := _wrong(folder, name, said))]
        there = (path.relative_to(folder).as_posix() for path in datasets(folder))
        lines += [f"{name} is not in the manifest" for name in there if name not in known]
        if not lines or files.read(folder / NAME) == before:  # else another run has put files in place meanwhile
            break
    return lines


def datasets(folder: Path) -> list[Path]:
    """Return the netCDF files of a folder, of its `results` and of its `studies`, listed or not."""
    patterns = ("*.nc", "results/*.nc", f"{STUDIES}/*.nc")
    return sorted(path for pattern in patterns for path in folder.glob(pattern) if path.name[0] != ".")


def is_study(folder: Path, path: Path) -> bool:
    """Return whether a dataset of an archive is the result of a study."""
    return path.parent == folder / STUDIES


def _wrong(folder: Path, name: str, said: Entry) -> str:
    """Return what is wrong with one file, nothing when it is as the manifest says."""
    path = files.inside(folder, name)
    if not path.is_file():
        new = "sha256" not in said  # announced by a run that was killed before it was written
        return "" if new and not path.exists() else f"{name} is missing"
    size = path.stat().st_size
    fitting = [one["sha256"] for one in _contents(said) if one["bytes"] == size]
    if not fitting:
        return f"{name} has {size} bytes; the manifest says {_contents(said)[0]['bytes']}"
    if (there := files.hash_of(path)) not in fitting:
        return f"{name} has other bytes: sha256 {there[:16]}..., the manifest says {fitting[0][:16]}..."
    return ""


def intact(folder: Path, *wanted: str) -> bool:
    """Return whether an archive has the named files as its manifest says."""
    try:
        known = load(folder)
    except BadInput:
        return False  # and the next run says why
    return all(name in known and (folder / name).is_file() and not _wrong(folder, name, known[name]) for name in wanted)
