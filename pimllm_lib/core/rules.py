"""What a field of a part may hold: the rules that its declaration names, see `core.parts.declare`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from functools import cache
from math import inf
from typing import Any, TypeAlias, get_args, get_type_hints

import numpy as np

from pimllm_lib.core.errors import BadInput, clip, unknown

#: Checks of (part, name of the field, value), which raise BadInput. Rules add up.
Rule: TypeAlias = tuple[Callable[[Any, str, Any], None], ...]


@cache
def classes(cls: type[Any]) -> dict[str, type[Any]]:
    """Return the fields of a part that hold another part, or a part or None, each with the class of it."""
    hints = {name: (hint, *get_args(hint)) for name, hint in get_type_hints(cls).items()}
    return {name: kind for name, kinds in hints.items() for kind in kinds if is_dataclass(kind)}  # type: ignore[misc]


def needs(wanted: str, holds: Callable[[Any], Any], *, what: str = "{part}.{field}") -> Rule:
    """Return the rule that `holds` is true of a value, everywhere along an axis. It gets the array inside a DataArray:
    labels play no part in a check, and make it ten times as long.

    what: how the field is called when it is refused, with `part`, `field` and `item` for the class, the field, the part.
    """

    def check(item: Any, field: str, value: Any) -> None:
        if not everywhere(holds(value.data if hasattr(value, "dims") else value)):
            raise BadInput(f"{_called(what, item, field)} is {clip(value)}; wanted {wanted}")

    return (check,)


def number(
    wanted: str, *, whole: bool = False, column: bool = False, what: str = "{part}.{field}", **bounds: float
) -> Rule:
    """Return the rule of a number, or of a column of them, within bounds named as in `operator`: gt, ge, lt, le. Without
    any, infinity and NaN are numbers too.
    """
    tests = [(getattr(operator, name), bound) for name, bound in bounds.items()]

    def holds(value: Any) -> Any:
        value = np.asarray(value) if column and isinstance(value, tuple) and value else value
        if not is_number(value):
            return False
        ok = not whole or isinstance(value, int) or value == np.floor(value)
        for test, bound in tests:
            ok = ok & test(value, bound)
        return ok

    return needs(wanted, holds, what=what)


def choice(names: Iterable[str], *, what: str = "{part}.{field}", axis: bool = False) -> Rule:
    """Return the rule of one name among several, or of an axis of them; raises UnknownName with the nearest one."""

    def check(item: Any, field: str, value: Any) -> None:
        for one in np.unique(np.asarray(value)).tolist() if axis and not isinstance(value, str) else (value,):
            if not isinstance(one, str) or one not in names:
                raise unknown(_called(what, item, field), one, names)

    return (check,)


def _called(what: str, item: Any, field: str) -> str:
    return what.format(part=type(item).__name__, field=field, item=item)


def _inner(item: Any, field: str, value: Any) -> None:
    if not isinstance(value, wanted := classes(item.__class__)[field]):
        raise BadInput(f"{type(item).__name__}.{field} is {clip(value)}; wanted a {wanted.__name__}")


def everywhere(ok: Any) -> bool:
    """Return whether a condition holds everywhere. One of Dask is taken to: its whole graph would be computed."""
    if isinstance(ok, bool | np.bool_):
        return bool(ok)
    return hasattr(getattr(ok, "data", ok), "dask") or bool(np.all(ok))


def is_number(value: Any) -> bool:
    """Return whether a value is a float, an integer that a float can stand for, or an array of them (a bool is neither)."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return whole or isinstance(value, float) or kind in ("i", "u", "f")


MAX_BITS = 16
ANY: Rule = ()  # of what the library alone makes, so that it is not checked again
PART: Rule = (_inner,)  # of the class that the field's type names
TEXT = needs("a text", lambda value: isinstance(value, str))
FLAG = needs(
    "true or false", lambda value: isinstance(value, bool) or (is_number(value) and (value == 0) | (value == 1))
)
POSITIVE = number("a finite number above 0", gt=0, lt=inf)
AT_LEAST_0 = number("a finite number of at least 0", ge=0, lt=inf)
SHARE = AT_LEAST_0 + number("a share from 0 to 1", le=1)
CHANCE = AT_LEAST_0 + number("a chance from 0 to 1", le=1)
#: Above 2^53 a float64 leaves whole numbers out.
COUNT = number(text := "a whole number of at least 1", ge=1, whole=True) + number(f"{text}, below 2^53", lt=2**53)
BITS = COUNT + number(f"1 to {MAX_BITS} bits", le=MAX_BITS)
