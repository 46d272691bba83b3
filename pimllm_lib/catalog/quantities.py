"""Read a TOML entry into a frozen part: every number with its unit and source, checked before it counts."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from math import isfinite, nan
from pathlib import Path
from typing import Any

from pimllm_lib.core.errors import BadInput, clip, one_line, unknown
from pimllm_lib.core.plain import FLOAT64, require_plain
from pimllm_lib.core.rules import classes, is_number
from pimllm_lib.core.units import UNITS, si_unit

#: How a literature number is known.
STATUSES = {
    "cited": "read in the source",
    "second_hand": "read where somebody quotes the source",
    "assumed": "chosen here, for the reason given",
    "fitted": "fitted here, to the values given",
}
#: Keys of an entry. n: how many published values the range spans and the value is the median of.
_KEYS = {"value", "unit", "source", "status", "where", "range", "note", "n"}
#: No description of a machine or a model is larger; a larger file is the wrong file.
MAX_BYTES = 1 << 20


def read_text(path: Path) -> str:
    """Return a small UTF-8 text file. Raises BadInput, in one line, when it is anything else."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise BadInput(f"{path} is a folder or a device; wanted a TOML or JSON file")
        if size > MAX_BYTES:
            raise BadInput(f"{path} has {size} bytes; wanted a description of at most {MAX_BYTES}")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        raise BadInput(f"{one_line(str(path))} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_as(form: str, loads: Callable[[str], Any], path: Path) -> Any:
    """Return what a file holds, by the function that reads its form. Raises BadInput for a file that is nothing of it."""
    text = read_text(path)
    try:
        content = loads(text)
    except (RecursionError, ValueError) as error:
        raise BadInput(f"{path} is not {form}: {clip(str(error), 100)}") from None
    require_plain(content, path, bits=FLOAT64)
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file as a table. Raises BadInput when it cannot be read or is not TOML."""
    table: dict[str, Any] = read_as("TOML", tomllib.loads, path)
    return table


def name_of(table: Mapping[str, Any], path: Path) -> str:
    """Return the name a file gives, else that of the file. Raises BadInput for a name that is no text."""
    name = table.get("name", path.stem)
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"{path}: name is {clip(name)}; wanted a name in quotes")
    return name


def require_known(where: str, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise BadInput, naming the file, for the first key of a table that is not among the known ones."""
    for key in given:
        if key not in known:
            raise BadInput(f"{where}: {unknown(what, key, known)}")


def build(cls: Any, name: str, table: Mapping[str, Any], where: str, find: Callable[[Any, str], Any]) -> Any:
    """Return the part of class `cls` that a table of quantities describes; `find` gives the part of a field of it.

    Raises BadInput, naming the file and the field, for one that is missing, unknown, without source or of a wrong unit.
    """
    known = {f.name: f for f in fields(cls) if f.name != "name"}
    given = {key: value for key, value in table.items() if key not in ("part", "name", "summary")}
    require_known(where, f"field of {name}", given, known)
    for key, spec in known.items():
        if key not in given and spec.default is MISSING and spec.default_factory is MISSING:
            raise BadInput(f"{where}: {name}.{key} is missing; wanted a value with unit, source and status")
    inner = classes(cls)
    values = {
        key: _inner(f"{where}: {name}.{key}", inner[key], entry, partial(find, entry, key))
        if key in inner
        else quantity(f"{where}: {name}.{key}", key, entry, str(known[key].type))
        for key, entry in given.items()
    }
    try:
        return cls(name=name, **values)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def _inner(where: str, cls: Any, entry: Any, find: Callable[[], Any]) -> Any:
    """Return the part that a field names or describes. Raises BadInput when it is none, or one of another class."""
    if not isinstance(entry, str | dict) or "value" in entry:
        raise BadInput(f"{where} is {clip(entry)}; wanted the name of a {cls.__name__}, or what of it changes")
    found = find()
    if not isinstance(found, cls):
        raise BadInput(f"{where} is {clip(entry)}, a {type(found).__name__}; wanted a {cls.__name__}")
    return found


def quantity(where: str, field: str, entry: Any, kind: str) -> Any:
    """Return the value of one sourced quantity, in SI units. kind: "Name", "Table" (a list of numbers) or a number.

    Raises BadInput for an entry without source or status, an unknown key, and a unit of another kind than the field's.
    """
    if not isinstance(entry, dict):
        raise BadInput(f"{where} is {clip(entry)}; wanted {{ value = ..., unit = ..., source = ..., status = ... }}")
    require_known(where, "key", entry, _KEYS)
    for key in ("value", "source", "status"):
        if not str(entry.get(key, "")).strip():
            raise BadInput(f"{where} has no {key}; wanted one")
    if not isinstance(entry["status"], str) or entry["status"] not in STATUSES:
        raise BadInput(f"{where}: {unknown('status', entry['status'], STATUSES)}")
    value = entry["value"]
    if "range" in entry:
        _require_range(where, value, entry["range"])
    if kind == "Name":
        if not isinstance(value, str):
            raise BadInput(f"{where} has the value {clip(value)}; wanted a name in quotes")
        return value
    return _scaled(where, field, value, entry.get("unit"), listed=kind.startswith("Table"))


def _require_range(where: str, value: Any, span: Any) -> None:
    """Raise BadInput unless a range is two numbers, the lower one first, and each number of the value lies in it."""
    ends: list[Any] = span if isinstance(span, list) and len(span) == 2 else [nan]
    if not all(is_number(x) and isfinite(x) for x in ends) or ends[0] > ends[-1]:
        raise BadInput(f"{where} has the range {clip(span)}; wanted [low, high], finite numbers, low up to high")
    for x in value if isinstance(value, list) else [value]:
        if is_number(x) and not ends[0] <= x <= ends[-1]:
            raise BadInput(f"{where} has the value {clip(x)}, outside of its range {clip(span)}; wanted it inside")


def _scaled(where: str, field: str, value: Any, unit: Any, *, listed: bool) -> float | tuple[float, ...]:
    wanted = si_unit(field)
    fitting = [symbol for symbol, (si, _) in UNITS.items() if si == wanted]
    if not isinstance(unit, str) or unit not in fitting:
        raise BadInput(f"{where} has the unit {clip(unit)}; wanted one of {', '.join(fitting)}")
    factor = UNITS[unit][1]
    if listed:
        if not isinstance(value, list) or not value:
            raise BadInput(f"{where} has the value {clip(value)}; wanted a list of numbers")
        return tuple(_number(where, item, factor) for item in value)
    return _number(where, value, factor)


def _number(where: str, value: Any, factor: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"{where} has the value {clip(value)}; wanted a number")
    return value if factor == 1.0 else value * factor
