"""What every frozen description shares: fields declared once with rule and meaning, changes of them, a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeAlias, TypeVar, dataclass_transform

import numpy as np

from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.rules import TEXT, Rule, everywhere, is_number, needs
from pimllm_lib.core.units import si_unit

#: A number, a numpy array or a DataArray: whatever broadcasts. Cost functions take and return it.
Value: TypeAlias = Any
#: A name out of a short list; where a field says so, an axis of names.
Name: TypeAlias = Any
#: A column of numbers.
Table: TypeAlias = tuple[float, ...]
T = TypeVar("T")
#: Axes of at most so many bytes are kept as text.
_SHORT = 1 << 16


def declare(rule: Rule, meaning: str, **default: Any) -> Any:
    """Return a field of a part: what it may hold and what it means. default, or default_factory: of a dataclass's field.

    Its unit is the one that its name ends in. None passes where it is the default. A meaning may have several lines.
    """
    return field(metadata={"rule": rule, "meaning": meaning}, **default)


def switch(meaning: str, **default: Any) -> Any:
    """Return a field that is True or False, and never an axis."""
    return declare(needs("True or False", lambda value: isinstance(value, bool)), meaning, **default)


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False, field_specifiers=(declare, switch))
def part(cls: type[T]) -> type[T]:
    """Make a frozen, keyword-only dataclass whose fields may be axes (so no `==`: use `fingerprint`).

    The rules of declared fields are checked before the class's own `__post_init__`, and their meanings end its
    documentation. A field `name` needs no declaration.
    """
    if "name" in cls.__annotations__:
        cls.name = declare(TEXT, "what the catalog, tables and errors call it")  # type: ignore[attr-defined]
    declared = [(name, one) for name in cls.__annotations__ if isinstance(one := vars(cls).get(name), Field)]
    checks = [(name, check, one.default is None) for name, one in declared for check in one.metadata["rule"]]
    own = vars(cls).get("__post_init__")

    def checked(self: Any) -> None:
        for name, check, optional in checks:
            value = getattr(self, name)
            if value is not None or not optional:
                check(self, name, value)
        if own is not None:
            own(self)

    if checks:
        cls.__post_init__ = checked  # type: ignore[attr-defined]
    if declared:
        cls.__doc__ = "\n    ".join(
            [f"{(cls.__doc__ or '').rstrip()}\n", *(_said(name, one) for name, one in declared)]
        )
    cls.__repr__ = _shown  # type: ignore[method-assign]
    return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)


def _shown(item: Any) -> str:
    """Return the repr of a part. One for all is made sooner than one for each."""
    inside = ", ".join(f"{f.name}={getattr(item, f.name)!r}" for f in fields(item))
    return f"{type(item).__qualname__}({inside})"


def _said(name: str, declared: Field[Any]) -> str:
    unit, lines = si_unit(name), declared.metadata["meaning"].splitlines()
    return f"{name}{'' if unit == '1' else f' ({unit})'}: " + "\n        ".join(line.strip() for line in lines)


def meanings(cls: type[Any]) -> dict[str, str]:
    """Return the meaning of each declared field of a part, on one line."""
    return {f.name: " ".join(f.metadata["meaning"].split()) for f in fields(cls) if f.metadata}


def ceil_div(a: Value, b: Value) -> Value:
    """Return a / b rounded up, as float64: integer `//` is five times slower and float32 loses counts above 2**24.

    One divided by any size of at least 1 is one: said first, so that a GEMV does not grow along an axis of rows.
    """
    return 1.0 if isinstance(a, int) and a == 1 else np.ceil(a / b)


def fingerprint(item: Any) -> str:
    """Return 12 hex digits that change when any field of a part changes.

    Two parts of equal content share a fingerprint; the name of the class counts. A field that a class has gained since
    (`SINCE`) counts where it is not at its default, so that what was recorded before still holds.
    """
    return sha256(_content(item).encode()).hexdigest()[:12]


def _content(item: Any) -> str:
    if hasattr(item, "__dataclass_fields__"):
        since = getattr(type(item), "SINCE", ())
        held = [(f, getattr(item, f.name)) for f in fields(item)]
        told = [f"{f.name}={_content(value)}" for f, value in held if f.name not in since or not _is(value, f.default)]
        return f"{type(item).__name__}({', '.join(told)})"
    if hasattr(item, "dims"):
        values = np.asarray(item)
        short = values.nbytes <= _SHORT and not values.dtype.hasobject
        listed = _listed(values.tobytes(), values.dtype, values.shape) if short else values.tolist()
        return f"axis({item.dims}, {listed})"
    if type(item).__module__ not in ("builtins", "numpy") and hasattr(item, "__dict__"):
        return f"{type(item).__name__}({_content(vars(item))})"  # its own repr may hold an address
    if isinstance(item, dict):
        return repr(sorted((key, _content(value)) for key, value in item.items()))
    return repr(item)


@lru_cache(maxsize=256)  # the axes that a study's systems share
def _listed(content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return str(np.frombuffer(content, dtype).reshape(shape).tolist())


def inside(item: Any) -> Iterator[Any]:
    """Yield every part inside a part, at any depth, outermost first."""
    yield from (inner for _, inner in places(item))


def places(item: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path of every part inside a part, with the part, outermost first."""
    for f in fields(item):
        inner = getattr(item, f.name)
        if hasattr(inner, "__dataclass_fields__"):
            yield f"{path}{f.name}", inner
            yield from places(inner, f"{path}{f.name}.")


def _is(value: Any, default: Any) -> bool:
    """Return whether a value is a default, or its equal: what comes from another process is another object."""
    return value is default or (type(value) is type(default) and isinstance(value, float | str) and value == default)


def with_field(item: T, path: str, value: Value) -> T:
    """Return a part with one field changed, at any depth: with_field(system, "pim.tile.crossbar.adc.bits", 6).

    Raises UnknownName for a field that is not there, and BadInput where the part on the way is missing.
    """
    return with_fields(item, {path: value})


def with_fields(item: T, changes: Mapping[str, Value]) -> T:
    """Return a part with several fields changed, at any depth; each part on the way is made, and checked, once."""
    deeper: dict[str, dict[str, Value]] = {}
    new: dict[str, Value] = {}
    for path, value in changes.items():
        name, dot, rest = path.partition(".")
        field_of(item, name)
        if dot:
            deeper.setdefault(name, {})[rest] = value
        else:
            new[name] = value
    for name, inside in deeper.items():
        inner = new.get(name, getattr(item, name))
        _require_part(item, name, inner, ", ".join(inside))
        new[name] = with_fields(inner, inside)
    return replace(item, **new)  # type: ignore[type-var]


def field_of(item: Any, path: str) -> Value:
    """Return the value of a field, at any depth; other attributes are none. Raises as `with_field` does."""
    name, dot, rest = path.partition(".")
    known = [f.name for f in fields(item)]
    if name not in known:
        raise unknown(f"field of {type(item).__name__}", name, known)
    inner = getattr(item, name)
    if not dot:
        return inner
    _require_part(item, name, inner, rest)
    return field_of(inner, rest)


def _require_part(item: Any, name: str, inner: Any, rest: str) -> None:
    if not is_dataclass(inner):
        raise BadInput(f"{type(item).__name__}.{name} is {clip(inner)}; wanted a part, to change {rest} of it")


def require(ok: Any, what: str, got: object, wanted: str) -> None:
    """Raise BadInput in one line, which knows where along axes, unless `ok` holds everywhere."""
    if not everywhere(ok):
        raise BadInput(f"{what} is {clip(got)}; wanted {wanted}").at(np.logical_not(ok), what)


def require_paid(item: Any, used: Any, names: Iterable[str], why: str) -> None:
    """Raise BadInput unless each named cost is above 0 wherever what it pays for is used."""
    for name in names:
        value = getattr(item, name)
        where, wanted = f"{type(item).__name__}.{name}", f"a finite number above 0, since {why}"
        require(np.logical_not(used) | ((value > 0) & np.isfinite(value)), where, value, wanted)


def numeric(what: str, value: object, wanted: str) -> None:
    """Raise BadInput unless the value is a number or an array of them, see `is_number`."""
    require(is_number(value), what, value, wanted)
