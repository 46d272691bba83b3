"""The command line. Imports wait until a command needs them, so that help appears at once."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from pimllm_lib import __version__
from pimllm_lib.cli import describe, evaluation, listing, noise, results, running, sweeping, training
from pimllm_lib.cli.command import say
from pimllm_lib.core import processes
from pimllm_lib.core.errors import BadInput, Note

#: How a negative number, or a list of numbers that starts with one, begins; no option does.
_NEGATIVE = re.compile(r"-\.?\d|-(inf|infinity|nan)\b", re.IGNORECASE)


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line on stderr, and a negative number in any notation is a value."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = _NEGATIVE  # argparse knows -1 and -0.5 alone, and takes -1e-1 for an option

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see '{self.prog} --help')")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0; 1 when a check or a notebook fails; 2 for bad input, in one line on stderr.

    argv: as given by a caller, whose signals and environment stay its own; None as the program, which signals end.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a letter gets its escape, no traceback
            stream.reconfigure(errors="backslashreplace")
    _keep_order()
    if argv is None:
        os.environ["PYTHONSAFEPATH"] = "1"  # no process that starts here imports what lies in the current folder
        processes.heed()
    try:
        args = _parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _noted  # type: ignore[assignment]
            code = int(args.run(args) or 0)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        said, code = "interrupted", 130
    except (BadInput, OSError, MemoryError) as error:
        said, code = _said(error), 2
    say(f"pimllm: {said}", error=True)
    return code


def _noted(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
    """Print a note of ours in one line, and any other warning as Python does."""
    whole = warnings.formatwarning(message, category, filename, lineno).rstrip()
    say(f"note: {message}" if isinstance(message, Note) else whole, error=True)


def _said(error: Exception) -> str:
    """Return what an error says, of one of the system with the file that it is about."""
    name, what = (
        getattr(error, "filename", None),
        getattr(error, "strerror", None) or str(error) or type(error).__name__,
    )
    return what if name is None or isinstance(name, int) else f"{os.fsdecode(name)}: {what}"


def _keep_order() -> None:
    """Let sums be added by one thread, in one order, unless the user says otherwise; numpy reads this when it is loaded."""
    if "numpy" not in sys.modules and not {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} & os.environ.keys():
        os.environ["OMP_NUM_THREADS"] = "1"


def _parser() -> _Parser:
    parser = _Parser(
        prog="pimllm", description="What does hybrid analog PIM buy a 1-bit LLM? Costs, each with its source."
    )
    parser.add_argument("--version", action="version", version=f"pimllm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (listing, describe, evaluation, noise, running, sweeping, results, training):
        for add in module.COMMANDS:
            add(commands)
    return parser
