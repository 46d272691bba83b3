"""Plain values out of files: texts that can be written again, whole numbers that arrays hold, few levels of lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pimllm_lib.core.errors import BadInput, clip

#: Levels of lists and tables in a file; what prints, compares or walks a value takes a level of the stack for each.
DEEPEST = 32
#: Bits of a whole number that arrays hold, and of one that a float64 stands for.
INT64, FLOAT64 = 63, 1023


def writable(text: str) -> bool:
    """Return whether every place takes a text: UTF-8, and C, which ends one at a zero character.

    >>> writable("größe"), writable("half a pair \\ud800"), writable("a\\0b")
    (True, False, False)
    """
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def require_plain(content: Any, where: object, *, bits: int = INT64) -> None:
    """Raise BadInput, naming the file and the key, for a text that cannot be written, a whole number of more bits, and more
    than `DEEPEST` levels.
    """
    for depth, level in enumerate(levels(content)):
        if depth > DEEPEST:
            raise BadInput(f"{where} has more than {DEEPEST} lists or tables in one another; wanted a few")
        for path, item in level:
            _require_one(item, f"{where}{path and ': '}{path}", bits)


def levels(content: Any) -> Iterator[list[tuple[str, Any]]]:
    """Yield what is at each level of lists and tables, from the outermost, each item with the keys that lead there."""
    level = [("", content)]
    while level:
        yield level
        level = [below for path, item in level for below in _below(path, item)]


def _below(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in a table, its keys too, or in a list, each with the keys that lead there."""
    if isinstance(item, list):
        yield from ((path, part) for part in item)
    elif isinstance(item, dict):
        yield from ((path, key) for key in item)
        yield from ((f"{path}{path and '.'}{key}", part) for key, part in item.items())


def _require_one(item: Any, what: str, bits: int) -> None:
    if isinstance(item, str) and not writable(item):
        raise BadInput(f"{what} has {clip(item)}; wanted text that UTF-8 can hold, without zero characters")
    if isinstance(item, int) and item.bit_length() > bits:
        raise BadInput(f"{what} has {clip(item)}; wanted whole numbers below 2^{bits}")
