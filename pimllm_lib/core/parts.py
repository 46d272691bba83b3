"""What every frozen description shares: the decorator, checks that work on numbers and axes, a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import Any, TypeAlias, TypeVar, dataclass_transform

import numpy as np

from pimllm_lib.core.errors import BadInput, clip, unknown

#: A number, a numpy array or a DataArray: whatever broadcasts. Cost functions take and return it.
Value: TypeAlias = Any
#: A name out of a short list; where a field says so, an axis of names.
Name: TypeAlias = Any
#: A column of numbers.
Table: TypeAlias = tuple[float, ...]
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False)
def part(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass whose fields may be axes (so no `==`: use `fingerprint`)."""
    return dataclass(frozen=True, kw_only=True, eq=False)(cls)


def ceil_div(a: Value, b: Value) -> Value:
    """Return a / b rounded up, as float64: integer `//` is five times slower and float32 loses counts above 2**24.

    One divided by any size of at least 1 is one: said first, so that a GEMV does not grow along an axis of rows.
    """
    return 1.0 if isinstance(a, int) and a == 1 else np.ceil(a / b)


def fingerprint(item: Any) -> str:
    """Return 12 hex digits that change when any field of a part changes.

    Two parts of equal content share a fingerprint; the name of the class counts.
    """
    return sha256(_content(item).encode()).hexdigest()[:12]


def _content(item: Any) -> str:
    if hasattr(item, "__dataclass_fields__"):
        inside = ", ".join(f"{f.name}={_content(getattr(item, f.name))}" for f in fields(item))
        return f"{type(item).__name__}({inside})"
    if hasattr(item, "dims"):
        return f"axis({item.dims}, {np.asarray(item).tolist()})"
    if type(item).__module__ not in ("builtins", "numpy") and hasattr(item, "__dict__"):
        return f"{type(item).__name__}({_content(vars(item))})"  # its own repr may hold an address
    if isinstance(item, dict):
        return repr(sorted((key, _content(value)) for key, value in item.items()))
    return repr(item)


def inside(item: Any) -> Iterator[Any]:
    """Yield every part inside a part, at any depth, outermost first."""
    for f in fields(item):
        inner = getattr(item, f.name)
        if hasattr(inner, "__dataclass_fields__"):
            yield inner
            yield from inside(inner)


def with_field(item: T, path: str, value: Value) -> T:
    """Return a part with one field changed, at any depth: with_field(system, "pim.tile.crossbar.adc.bits", 6).

    Raises UnknownName for a field that is not there, and BadInput where the part on the way is missing.
    """
    return with_fields(item, {path: value})


def with_fields(item: T, changes: Mapping[str, Value]) -> T:
    """Return a part with several fields changed, at any depth; each part on the way is made, and checked, once."""
    known = [f.name for f in fields(item)]  # type: ignore[arg-type]
    deeper: dict[str, dict[str, Value]] = {}
    new: dict[str, Value] = {}
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        if name not in known:
            raise unknown(f"field of {type(item).__name__}", name, known)
        inner = getattr(item, name)
        if rest and not hasattr(inner, "__dataclass_fields__"):
            raise BadInput(f"{type(item).__name__}.{name} is {clip(inner)}; wanted a part, to change {rest} of it")
        if rest:
            deeper.setdefault(name, {})[rest] = value
        else:
            new[name] = value
    new |= {name: with_fields(new.get(name, getattr(item, name)), inside) for name, inside in deeper.items()}
    return replace(item, **new)  # type: ignore[type-var]


def require(ok: Any, what: str, got: object, wanted: str) -> None:
    """Raise BadInput in one line unless `ok` holds everywhere.

    A Dask-backed condition is left alone: checking it would compute the whole graph.
    """
    if hasattr(getattr(ok, "data", ok), "dask"):
        return
    if not np.all(ok):
        raise BadInput(f"{what} is {clip(got)}; wanted {wanted}")


def require_counts(item: Any, names: Iterable[str]) -> None:
    """Raise BadInput unless each named field is a whole number of at least 1, everywhere along an axis, and below 2^53:
    above it a float64 leaves whole numbers out.
    """
    for name in names:
        value = _plain(getattr(item, name))
        where, wanted = f"{type(item).__name__}.{name}", "a whole number of at least 1"
        numeric(where, value, wanted)
        require((value >= 1) & (value == np.floor(value)), where, value, wanted)
        require(value < 2**53, where, value, f"{wanted}, below 2^53")


def require_positive(item: Any, names: Iterable[str], *, or_zero: bool = False) -> None:
    """Raise BadInput unless each named field is finite and above 0 (or at least 0), in all of an axis or a list."""
    wanted = "a finite number of at least 0" if or_zero else "a finite number above 0"
    for name in names:
        value, where = _plain(getattr(item, name)), f"{type(item).__name__}.{name}"
        value = np.asarray(value) if isinstance(value, tuple) and value else value
        numeric(where, value, wanted)
        require(((value >= 0) if or_zero else (value > 0)) & np.isfinite(value), where, getattr(item, name), wanted)


def require_paid(item: Any, used: Any, names: Iterable[str], why: str) -> None:
    """Raise BadInput unless each named cost is above 0 wherever what it pays for is used."""
    for name in names:
        value = getattr(item, name)
        where, wanted = f"{type(item).__name__}.{name}", f"a finite number above 0, since {why}"
        require(np.logical_not(used) | ((value > 0) & np.isfinite(value)), where, value, wanted)


def _plain(value: Value) -> Value:
    """Return the array inside a DataArray: labels play no part in a check, and make it ten times as long."""
    return value.data if hasattr(value, "dims") else value


def require_flags(item: Any, names: Iterable[str]) -> None:
    """Raise BadInput unless each named field is true or false (1 or 0 along an axis)."""
    for name in names:
        value, where = getattr(item, name), f"{type(item).__name__}.{name}"
        if not isinstance(value, bool):
            numeric(where, value, "true or false")
            require((value == 0) | (value == 1), where, value, "true or false")


def require_inner(item: Any, **classes: type[Any]) -> None:
    """Raise BadInput unless each named field holds a part of the given class."""
    for name, cls in classes.items():
        if not isinstance(got := getattr(item, name), cls):
            raise BadInput(f"{type(item).__name__}.{name} is {clip(got)}; wanted a {cls.__name__}")


def numeric(what: str, value: object, wanted: str) -> None:
    """Raise BadInput unless the value is a float, an integer that a float can stand for, or an array of them (a bool is
    neither).
    """
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023
    plain = whole or isinstance(value, float)
    if not plain and kind not in ("i", "u", "f"):
        raise BadInput(f"{what} is {clip(value)}; wanted {wanted}")
