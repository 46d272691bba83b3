"""Memory technologies for keys and values, each as published at best, in the middle and at worst."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from pimllm_lib import catalog
from pimllm_lib.axes import axis
from pimllm_lib.catalog.quantities import quantity
from pimllm_lib.hardware import System, Technology
from pimllm_lib.parts import with_fields

#: Estimate -> what is taken of each quantity: its worse end, its value, its better end.
ESTIMATES = {"low": "every quantity at the worse end of its range", "median": "every quantity at its value",
             "high": "every quantity at the better end"}  # fmt: skip
#: Fields of a technology and its cell of which more is better; of all others less is.
MORE_IS_BETTER = frozenset((
    "endurance", "weibull_shape", "retention_s", "row_parallel", "column_parallel", "erased", "low_ohm", "high_ohm", "bits",
))  # fmt: skip
#: Result -> the quantities that its interval comes from.
BEHIND: dict[str, tuple[str, ...]] = {
    "tokens_per_s": ("write_s", "read_s", "write_pulses", "row_parallel", "erase_s", "retention_s"),
    "tokens_per_j": ("write_j", "write_pulses", "erase_j", "leakage_w", "retention_s"),
    "area_m2": ("area_m2",),
    "years": ("endurance",),
}


def names() -> list[str]:
    """Return the technologies of the catalog."""
    return [name for name, table in catalog.parts.entries.items() if table["part"] == "Technology"]


def spread(name: str) -> Technology:
    """Return a technology of the catalog with an axis "estimate": low, median, high.

    Raises UnknownName for one that is none.
    """
    found: Technology = catalog.part(name, Technology)
    inner = {"": found.name, "cell.": found.cell.name}
    changed = {
        f"{where}{field}": axis(estimate=list(ESTIMATES)).copy(data=_ends(part, field, entry))
        for where, part in inner.items()
        for field, entry in catalog.parts.entries[part].items()
        if isinstance(entry, dict) and "range" in entry
    }
    return with_fields(found, changed)


def _ends(part: str, field: str, entry: dict[str, Any]) -> np.ndarray:
    low, high = entry["range"] if field in MORE_IS_BETTER else entry["range"][::-1]
    found = [quantity(part, field, entry | {"value": value}, "Value") for value in (low, entry["value"], high)]
    return np.array(found, dtype=float)


def published(name: str, field: str) -> int:
    """Return how many published values are behind a quantity of a technology or its cell: 0 where it is assumed."""
    technology: Technology = catalog.part(name, Technology)
    own = field in {f.name for f in fields(Technology)}
    entry = catalog.parts.entries[name if own else technology.cell.name].get(field)
    if entry is None:
        return 0
    return int(entry.get("n", 0 if entry["status"] == "assumed" else 1))


def has_interval(name: str, result: str) -> bool:
    """Return whether any quantity behind a result of `BEHIND` has a range."""
    technology: Technology = catalog.part(name, Technology)
    tables = (catalog.parts.entries[name], catalog.parts.entries[technology.cell.name])
    return any("range" in table.get(field, {}) for field in BEHIND[result] for table in tables)


def fitted(system: System, technology: Technology) -> System:
    """Return a machine whose keys and values lie in cells of a technology; those of a hot window stay where they are."""
    return with_fields(system, {"kv_pim.technology": technology, "name": f"{system.name}, {technology.name}"})
