"""In what an object differs from the catalog: those values are the user's, and provenance says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from pimllm_lib.catalog import models, parts, systems
from pimllm_lib.core.conventions import CORRECTED, PRESETS, Conventions
from pimllm_lib.core.errors import clip
from pimllm_lib.core.parts import fingerprint, inside
from pimllm_lib.hardware import System
from pimllm_lib.workload.decoder import Decoder


def is_catalogs(item: Any, field: str) -> bool:
    """Return whether a part of the catalog bears this part's name and has the same value in this field."""
    mine, known = getattr(item, field), getattr(parts.get(item.name), field, None)
    plain = isinstance(mine, int | float | str | tuple) and isinstance(known, int | float | str | tuple)
    return known is not None and (mine is known or (plain and mine == known))


def departures(item: Any) -> dict[str, str]:
    """Return `name.field` -> value for each value of a system, a model or conventions that is not the catalog's.

    The field of a part bears the name of its system before it. An object with `costs` that is no System is one departure.
    """
    if isinstance(item, System):
        return dict(_of_system(item))
    if isinstance(item, Decoder):
        return dict(_against(item, models.get(item.name)))
    if isinstance(item, Conventions):
        return dict(_against(item, PRESETS.get(item.name, CORRECTED)))
    return {item.name: f"an object of class {type(item).__name__}"}


def _of_system(item: System) -> Iterator[tuple[str, str]]:
    known = systems.get(item.name)
    if known is None or dict(known.routing) != dict(item.routing):
        yield f"{item.name}.routing", ", ".join(f"{kind} to {engine}" for kind, engine in dict(item.routing).items())
    for part in inside(item):
        for field in fields(part):
            value = getattr(part, field.name)
            plain = field.name != "name" and value is not None and not is_dataclass(value)
            if plain and not is_catalogs(part, field.name):
                yield f"{item.name}: {part.name}.{field.name}", clip(value)


def _against(item: Any, known: Any) -> Iterator[tuple[str, str]]:
    if item is known or (known is not None and fingerprint(item) == fingerprint(known)):
        return
    for field in fields(item):
        value = getattr(item, field.name)
        same = known is not None and fingerprint(value) == fingerprint(getattr(known, field.name))
        if field.name != "name" and value is not None and not same:
            yield f"{item.name}.{field.name}", clip(value)
