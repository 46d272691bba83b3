"""One kind of error for everything that comes from outside: what it is, what was got, what is wanted."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any


class Note(UserWarning):
    """What was done otherwise than asked, in one line: a warning in Python, a note on stderr of the command line."""


class BadInput(ValueError):
    """Input that cannot be used. Its text is one line; the command line prints it and exits with status 2.

    bad: where along axes it cannot be, True where that is everywhere, None where nobody knows; what: what it is about.
    """

    bad: Any = None
    what: str = ""

    def at(self, bad: Any, what: str) -> BadInput:
        """Return the error, which says where along axes it holds: other points may be used."""
        self.bad, self.what = bad, what
        return self


class UnknownName(BadInput, KeyError):
    """A name that is in no list, with the nearest one that is."""

    __str__ = BadInput.__str__  # KeyError would print the text in quotes


def unknown(what: str, got: object, valid: Iterable[str]) -> UnknownName:
    """Return the error for a name that is not among the valid ones.

    >>> str(unknown("model", "opt-6.7", ["opt-6.7b", "opt-13b"]))
    "unknown model 'opt-6.7', did you mean 'opt-6.7b'? Known: opt-13b, opt-6.7b"
    """
    from difflib import get_close_matches

    names = sorted(valid)
    near = get_close_matches(str(got), names, n=1, cutoff=0.4)
    hint = f", did you mean '{near[0]}'?" if near else "."
    return UnknownName(f"unknown {what} {clip(got)}{hint} Known: {', '.join(names)}")


def one_line(text: str) -> str:
    """Return text with everything that would break a line or steer a terminal escaped; spaces of any kind are harmless.

    >>> one_line("a\\nb")
    'a\\\\nb'
    """
    if text.isprintable():
        return text
    from unicodedata import category

    shown = (c if c.isprintable() or category(c) == "Zs" else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def note(text: str) -> None:
    """Say on stderr, in one line, what a run that goes on wants to be known."""
    sys.stderr.write(f"pimllm: {one_line(text)}\n")
    sys.stderr.flush()


def clip(value: Any, limit: int = 60) -> str:
    """Return repr(value) on one line, an array as its list, cut to `limit` characters: hostile input stays readable."""
    plain = getattr(value, "values", value) if hasattr(value, "dims") else value
    if getattr(plain, "ndim", 0):
        plain = plain.ravel()[:limit] if plain.size > limit else plain  # a long list is cut anyway
    try:
        text = one_line(repr(plain.tolist() if hasattr(plain, "tolist") else plain))
    except (RecursionError, ValueError):  # Python prints neither a list a thousand deep nor a number of 5000 digits
        text = f"{type(plain).__name__} that is too deep or too long to show"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
