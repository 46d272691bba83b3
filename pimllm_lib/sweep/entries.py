"""Entries of a study's table: keys that must be known, and numbers as YAML gives them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pimllm_lib.core.errors import unknown
from pimllm_lib.core.parts import require


def require_known(what: str, names: Iterable[Any], valid: Collection[str]) -> None:
    """Raise UnknownName for the first of some names that is not among the valid ones."""
    for name in names:
        if not isinstance(name, str) or name not in valid:
            raise unknown(what, name, valid)


def number(value: Any) -> Any:
    """Return a number that YAML reads as text, such as 1e8, as a number; everything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def whole(key: str, value: Any, least: int = 0) -> int:
    """Return a whole number. Raises BadInput for anything else, and for less than `least`."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(fits, key, value, f"a whole number of at least {least}")
    return int(value)
