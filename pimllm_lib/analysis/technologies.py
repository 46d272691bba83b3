"""Memory technologies for keys and values, each at the worse ends of its ranges, in the middle, and at the better ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from pimllm_lib import catalog
from pimllm_lib.catalog.quantities import quantity
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, unknown
from pimllm_lib.core.parts import with_fields
from pimllm_lib.hardware import System, Technology

#: Estimate -> what is taken of each quantity.
ESTIMATES = {"low": "every quantity at the worse end of its range", "median": "every quantity at its value",
             "high": "every quantity at the better end"}  # fmt: skip
#: Fields of a technology and its cell of which more is better; of all others less is.
MORE_IS_BETTER = frozenset((
    "endurance", "array_endurance", "weibull_shape", "retention_s", "row_parallel", "column_parallel", "erased", "low_ohm",
    "high_ohm", "bits",
))  # fmt: skip
#: Result -> the quantities whose published ranges give it an interval.
BEHIND: dict[str, tuple[str, ...]] = {
    "tokens_per_s": ("write_s", "read_s", "write_pulses", "row_parallel", "erase_s", "retention_s"),
    "tokens_per_j": ("write_j", "write_pulses", "erase_j", "leakage_w", "retention_s"),
    "area_m2": ("area_m2",),
}
#: Endurances -> the field that has them.
POPULATIONS = {"all published": "endurance", "arrays and products": "array_endurance"}


def names() -> list[str]:
    """Return the technologies of the catalog."""
    return [name for name, table in catalog.parts.entries.items() if table["part"] == "Technology"]


def named(item: Any) -> Technology:
    """Return a technology: itself, by catalog name, or from a TOML file. Raises BadInput for anything else."""
    known = names()
    if isinstance(item, str) and item not in known and not (item.endswith(".toml") or "/" in item):
        raise unknown("technology", item, known)
    found: Technology = catalog.part(item, Technology)
    return found


def spread(item: Any, population: str = "all published") -> Technology:
    """Return a technology with an axis "estimate" (low, median, high); one that is not the catalog's as it is.

    population: whose endurance it has, one of `POPULATIONS`. Raises BadInput where none of these was published.
    """
    found, tables = named(item), _tables(item)
    field = POPULATIONS[population]
    if np.all(np.isnan(np.asarray(getattr(found, field), dtype=float))):
        raise BadInput(f"{found.name} has no {field}; wanted one, or all published endurances")
    changed = {
        f"{where}{name}": _ends(found.name, name, entry)
        for where, table in tables.items()
        for name, entry in table.items()
        if isinstance(entry, dict) and "range" in entry
    }
    ends = changed.pop("array_endurance", found.array_endurance)
    if field == "array_endurance":
        changed["endurance"] = ends
    return with_fields(found, changed)


def _tables(item: Any) -> dict[str, dict[str, Any]]:
    """Return the catalog's tables of a technology and of its cell, by the way to their fields; none for another's."""
    if not isinstance(item, str) or item not in names():
        return {}
    return {"": catalog.parts.entries[item], "cell.": catalog.parts.entries[named(item).cell.name]}


def _ends(part: str, field: str, entry: dict[str, Any]) -> Any:
    low, high = entry["range"] if field in MORE_IS_BETTER else entry["range"][::-1]
    found = [quantity(part, field, entry | {"value": value}, "Value") for value in (low, entry["value"], high)]
    return axis(estimate=list(ESTIMATES)).copy(data=np.array(found, dtype=float))


def published(name: str, field: str) -> int:
    """Return how many published values are behind a quantity of a technology or its cell: 0 where it is assumed."""
    entry = next((table[field] for table in _tables(name).values() if field in table), None)
    if entry is None:
        return 0
    return int(entry.get("n", 0 if entry["status"] == "assumed" else 1))


def has_interval(name: str, fields: tuple[str, ...]) -> bool:
    """Return whether a published range is behind any of some quantities."""
    entries = [table[field] for table in _tables(name).values() for field in fields if field in table]
    return any("range" in entry and (entry["status"] != "assumed" or "n" in entry) for entry in entries)


def fitted(system: System, technology: Technology) -> System:
    """Return a machine whose keys and values lie in cells of a technology; those of a hot window stay where they are."""
    return with_fields(system, {"kv_pim.technology": technology, "name": f"{system.name}, {technology.name}"})
