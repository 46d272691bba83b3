"""Parts as a command line names them, and fields of theirs that it sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pimllm_lib.core.errors import BadInput, clip, unknown

#: What an analog configuration is made of: start of a path -> class of the part.
KINDS = {"crossbar": "Crossbar", "devices": "Devices", "readout": "Readout"}


def parts_of(names: Mapping[str, str], settings: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Return the parts of these names or files, with fields set: pairs of path and value, the path from the kind on.

    Raises BadInput for a path that leads nowhere, with the nearest one, and for a value that the field cannot hold.
    """
    from pimllm_lib import catalog, hardware
    from pimllm_lib.core.parts import field_of, with_fields

    parts = {key: catalog.part(name, getattr(hardware, KINDS[key])) for key, name in names.items()}
    changes: dict[str, dict[str, Any]] = {key: {} for key in parts}
    for path, text in settings:
        key, _, field = path.partition(".")
        if key not in parts:
            raise unknown("part of --set", key, parts)
        changes[key][field] = _value(path, text, field_of(parts[key], field))
    return {key: with_fields(part, changes[key]) for key, part in parts.items()}


def systems_with(systems: Sequence[Any], settings: Iterable[Sequence[str]]) -> list[Any]:
    """Return systems with fields set: pairs of path and value, the path from the system on, such as sram.leakage_w.

    A system that lacks the part on a path, as TPU-LLM lacks crossbars, stays. Raises BadInput for a path that leads
    nowhere in any of them, and for a value that the field cannot hold.
    """
    from pimllm_lib.core.parts import field_of, with_fields

    changes: list[dict[str, Any]] = [{} for _ in systems]
    for path, text in settings:
        refused = None
        for system, found in zip(systems, changes, strict=True):
            try:
                now = field_of(system, path)
            except BadInput as error:
                refused = error
            else:
                found[path] = _value(path, text, now)
        if refused is not None and not any(path in found for found in changes):
            raise refused
    return [with_fields(system, found) for system, found in zip(systems, changes, strict=True)]


def _value(path: str, text: str, now: Any) -> Any:
    """Return a text as what the field holds now: a number, numbers between commas, true or false, a name, or a part."""
    if hasattr(now, "__dataclass_fields__"):
        from pimllm_lib import catalog

        return catalog.part(text, type(now))
    if isinstance(now, tuple):
        return tuple(_value(path, item, 0.0) for item in text.split(","))
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        if isinstance(now, str) or now is None:
            return text
        number = math.nan
    if not math.isfinite(number):
        raise BadInput(f"--set {clip(path)} is {clip(text)}; wanted a finite number")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def own(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each field, at any depth, that is not the catalog's."""
    from dataclasses import fields, is_dataclass

    from pimllm_lib.catalog.departures import is_catalogs

    for field in fields(part):
        value = getattr(part, field.name)
        if is_dataclass(value):
            yield from own(value, f"{path}.{field.name}")
        elif field.name != "name" and not is_catalogs(part, field.name):
            yield f"{path}.{field.name}", value


def models_with(models: Iterable[str], settings: Sequence[Sequence[str]]) -> tuple[list[Any], list[Sequence[str]]]:
    """Return models by name or file with fields set, and the settings that are not theirs: those whose path begins with
    model, such as model.scale_group, are. Raises BadInput for a field that models do not have, or that cannot hold a value.
    """
    from pimllm_lib import catalog
    from pimllm_lib.core.parts import field_of, with_fields

    theirs = {path.removeprefix("model."): (path, text) for path, text in settings if path.startswith("model.")}
    found = []
    for model in map(catalog.model, models):
        new = {
            field: math.inf if text == "inf" else _value(path, text, field_of(model, field))
            for field, (path, text) in theirs.items()
        }
        found.append(with_fields(model, new) if new else model)
    return found, [pair for pair in settings if not pair[0].startswith("model.")]
