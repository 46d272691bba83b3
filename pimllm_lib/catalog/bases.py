"""Entries that say what they change of another one, their `base`, and parts that are changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pimllm_lib.catalog.quantities import read_toml
from pimllm_lib.core.errors import BadInput, unknown

#: What of a system or part is no part of it.
_WORDS = ("part", "name", "summary", "routing")


def opened(path: Path, open_files: tuple[str, ...]) -> tuple[str, ...]:
    """Return the files being read with one more. Raises BadInput when it is among them already."""
    here = str(path.resolve())
    if here in open_files:
        raise BadInput(f"{path} names itself, through {len(open_files)} file(s); wanted parts that end somewhere")
    return (*open_files, here)


def on_base(
    table: Mapping[str, Any], entries: Mapping[str, Any], where: str, open_files: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a table with all that it does not say itself from its `base`, an entry or a file beside it, and so on.

    where: the file that has the table. A part that is a table itself, as `adc.bits = {...}` makes one, is the part that
    the base has there, with these changes. Raises BadInput for a base that is neither, and for files that are each
    other's base.
    """
    own, base = {key: value for key, value in table.items() if key != "base"}, table.get("base")
    if base is None:
        return own
    if is_file(base, entries):
        path = Path(where).parent / base
        written = on_base(read_toml(path), entries, str(path), opened(path, open_files))
        return _changed(_placed(written, path.parent, entries), own)
    if not isinstance(base, str) or base not in entries:
        raise BadInput(f"{where}: {unknown('base', base, entries)}")
    return _changed(on_base(entries[base], entries, where, open_files), own)


def is_file(item: Any, entries: Mapping[str, Any]) -> bool:
    """Return whether what stands for an entry is the name of a TOML file."""
    return isinstance(item, str) and item not in entries and (item.endswith(".toml") or "/" in item)


def is_inside(entry: Any) -> bool:
    """Return whether an entry describes a part in place, and not a quantity, which has a value."""
    return isinstance(entry, dict) and "value" not in entry


def name_inside(entry: Mapping[str, Any], field: str) -> Any:
    """Return the name of a part that is described in place: its own, else that of its base, else of the field."""
    base = entry.get("base", field)
    return entry.get("name", Path(base).stem if is_file(base, {}) else base)


def _changed(below: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    whole = dict(below)
    for key, value in own.items():
        there, in_place = below.get(key), key not in _WORDS and is_inside(value) and "base" not in value
        if in_place and isinstance(there, str):
            whole[key] = {"base": there, **value}
        elif in_place and isinstance(there, dict) and is_inside(there):
            whole[key] = _changed(there, value)
        else:
            whole[key] = value
    return whole


def _placed(table: Mapping[str, Any], folder: Path, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with the files it names as seen from elsewhere."""
    placed = dict(table)
    for key, value in table.items():
        if key not in _WORDS and is_file(value, entries):
            placed[key] = str(folder.resolve() / value)
        elif is_inside(value):
            placed[key] = _placed(value, folder, entries)
    return placed
