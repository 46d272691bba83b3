"""How commands are declared, and how they print what they found."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pimllm_lib.core.errors import clip, one_line

#: Flags and settings of an argument, as argparse takes them.
Option = tuple[tuple[str, ...], dict[str, Any]]


def option(*flags: str, **settings: Any) -> Option:
    """Return an argument of a command."""
    return flags, settings


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number within bounds from the command line."""

    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > 12 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"got {clip(text)}; wanted a whole number from {least} to {most}")
        return int(text)

    return read


JSON = option("--json", action="store_true", help="print JSON")
JSON_LIST = option("--json", action="store_true", help="print a JSON list of objects")
ARCHIVE = option("--archive", metavar="DIR", help="folder with results (default: data/ of the checkout)")


def command(about: str, example: str, *options: Option | list[Option]) -> Callable[..., Callable[[Any], None]]:
    """Return what turns a function into what adds a command of its name, described by its documentation, to a parser.

    Options in a list exclude one another.
    """

    def declared(run: Callable[[argparse.Namespace], int | None]) -> Callable[[Any], None]:
        def add(commands: Any) -> None:
            parser = commands.add_parser(
                run.__name__.replace("_", "-"), help=about, description=run.__doc__, epilog=f"example: pimllm {example}"
            )
            for one in options:
                group = parser.add_mutually_exclusive_group() if isinstance(one, list) else parser
                for flags, settings in one if isinstance(one, list) else [one]:
                    group.add_argument(*flags, **settings)
            parser.set_defaults(run=run)

        return add

    return declared


def json_text(content: Any) -> str:
    """Return plain objects as commands print them."""
    return json.dumps(content, indent=1)


def say(*lines: object, error: bool = False) -> None:
    """Print lines, on stderr those of an error. What came from a file steers no terminal and begins no line of its own:
    control characters are shown as escapes. Everything but JSON, CSV and help is printed here.
    """
    stream = sys.stderr if error else sys.stdout
    for line in lines:
        print(one_line(str(line)), file=stream, flush=True)


def print_rows(items: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print objects as JSON, or as a table with numbers on the right."""
    if as_json or not items:
        print(json_text(items) if as_json else "nothing")
        return
    cells = [list(items[0])] + [[_cell(value) for value in row.values()] for row in items]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    number = [isinstance(value, int | float) for value in items[0].values()]
    for row in cells:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, number, strict=True)]
        say("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def print_problems(lines: Iterable[object]) -> int:
    """Print a line on stderr for each problem. Returns the status of a command that found them: 1, 0 where none is."""
    found = [f"pimllm: {line}" for line in lines]
    for text in found:
        first, *others = text.split("\n")
        say(first, *(line if line.startswith("  ") else f"  {line}" for line in others), error=True)
    return int(bool(found))
