"""Plain values out of files: texts that can be written again, whole numbers of 64 bits, lists and tables of a few levels."""

from __future__ import annotations

from typing import Any

from pimllm_lib.core.errors import BadInput, clip

#: Levels of lists and tables in a file; what prints, compares or walks a value takes a level of the stack for each.
DEEPEST = 32
#: Whole numbers beyond this are no counts, and arrays do not hold them.
_INT64 = 1 << 63


def writable(text: str) -> bool:
    """Return whether every place takes a text: UTF-8, and C, which ends one at a zero character.

    >>> writable("größe"), writable("half a pair \\ud800"), writable("a\\0b")
    (True, False, False)
    """
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def require_plain(content: Any, where: object, *, whole: bool = True) -> None:
    """Raise BadInput, naming the file and the key, for a text that cannot be written, a whole number that 64 bits do not
    hold (not asked where `whole` is False), and more than `DEEPEST` levels.
    """
    level = [("", content)]
    for _ in range(DEEPEST + 1):
        deeper: list[tuple[str, Any]] = []
        for key, item in level:
            _require_one(item, f"{where}{key and ': '}{key}", whole)
            if isinstance(item, dict):
                deeper += [(str(name), part) for pair in item.items() for name, part in ((key, pair[0]), pair)]
            elif isinstance(item, list):
                deeper += [(key, part) for part in item]
        level = deeper
    if level:
        raise BadInput(f"{where} has more than {DEEPEST} lists or tables in one another; wanted a few")


def _require_one(item: Any, where: str, whole: bool) -> None:
    if isinstance(item, str) and not writable(item):
        raise BadInput(f"{where} has {clip(item)}; wanted text that UTF-8 can hold, without zero characters")
    if whole and isinstance(item, int) and not -_INT64 <= item < _INT64:
        raise BadInput(f"{where} has {clip(item)}; wanted whole numbers that 64 bits hold")
