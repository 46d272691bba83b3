"""The command line. Imports wait until a command needs them, so that help appears at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from pimllm_lib import __version__
from pimllm_lib.errors import BadInput, one_line

#: The contexts of the published figures.
CONTEXTS = ["128", "256", "512", "1024", "2048", "4096"]


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line on stderr."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see '{self.prog} --help')")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0; 1 when a check or a notebook fails; 2 for bad input, in one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that cannot show a letter gets its escape, no traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        args = _parser().parse_args(argv)
        command = getattr(import_module("pimllm_lib.commands"), args.run)
        code = int(command(args) or 0)
        sys.stdout.flush()
    except BadInput as error:
        print(f"pimllm: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, MemoryError) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        print(f"pimllm: {one_line(what)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pimllm: interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> _Parser:
    parser = _Parser(
        prog="pimllm", description="What does hybrid analog PIM buy a 1-bit LLM? Costs, each with its source."
    )
    parser.add_argument("--version", action="version", version=f"pimllm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, about in (
        ("models", "list the language models of the catalog"),
        ("parts", "list the hardware parts of the catalog, each quantity with its source"),
        ("systems", "list the accelerators of the catalog"),
    ):
        listing = commands.add_parser(name, help=about, description=about.capitalize() + ".")
        listing.add_argument("--json", action="store_true", help="print a JSON list of objects")
        listing.set_defaults(run=name)
    _evaluate_arguments(commands.add_parser(
        "evaluate", help="what decoding one token costs",
        description="Print what decoding one token costs. Options that name something may repeat.",
        epilog="example: pimllm evaluate --system tpu-llm --model opt-6.7b --context 128 --conventions as-published",
    ))  # fmt: skip
    _explain_arguments(commands.add_parser(
        "explain", help="how one number comes about",
        description="Print the formula of one number, its largest parts, and every constant behind it with its source.",
        epilog="example: pimllm explain tokens_per_s --system pim-llm --model opt-6.7b --context 128",
    ))  # fmt: skip
    _study_arguments(commands.add_parser(
        "new-study", help="write a ready notebook for a system and a model of your own",
        description="Write NAME.ipynb into the current folder: your system beside TPU-LLM and PIM-LLM, ready to run.",
        epilog="example: pimllm new-study mine --system mine.toml --model config.json && pimllm run mine.ipynb",
    ))  # fmt: skip
    _run_arguments(commands.add_parser(
        "run", help="execute a notebook, with parameters of your own",
        description="Execute a notebook; its executed copy and its dataset go to a folder.",
        epilog="example: pimllm run 03-tokens-per-second -p context_len '[8192, 16384]' --into mine",
    ))  # fmt: skip
    listing = commands.add_parser(
        "claims", help="every published number beside the computed ones; status 1 if a verdict has moved",
        description="Print every published number beside the computed ones. Status 1 when a verdict is not as committed.",
    )  # fmt: skip
    listing.add_argument("--json", action="store_true", help="print a JSON list of objects")
    listing.set_defaults(run="claims")
    book = commands.add_parser(
        "book", help="execute what is stale, compare with the archive, render the report",
        description="Execute stale notebooks, compare their results with the archive, render the report.",
    )  # fmt: skip
    book.set_defaults(run="book")
    return parser


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--system", action="append", metavar="NAME|FILE", help="accelerator (default tpu-llm); a name or a TOML file")
    add("--model", action="append", required=True, metavar="NAME|FILE",
        help="language model: a name, a TOML file, or a Hugging Face config.json")  # fmt: skip
    add("--context", action="append", metavar="TOKENS", help=f"tokens in the cache (default {' '.join(CONTEXTS)})")
    add("--conventions", action="append", metavar="NAME|FILE", help="accounting (default corrected)")
    add("--array", metavar="NAME|FILE", help="use this systolic array instead of the system's own")
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--json", action="store_true", help="print a JSON list of objects")
    out.add_argument("--csv", action="store_true", help="print comma-separated values")
    out.add_argument("--netcdf", metavar="FILE", help="write the dataset as netCDF-4")
    parser.set_defaults(run="evaluate")


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("variable", metavar="VARIABLE", help="such as tokens_per_s, energy_j, dram_bytes")
    parser.add_argument("--system", default="pim-llm", metavar="NAME|FILE", help="accelerator (default pim-llm)")
    parser.add_argument("--model", required=True, metavar="NAME|FILE", help="language model")
    parser.add_argument("--context", default="128", metavar="TOKENS", help="tokens in the cache (default 128)")
    parser.add_argument(
        "--conventions", default="corrected", metavar="NAME|FILE", help="accounting (default corrected)"
    )
    parser.set_defaults(run="explain")


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the study: letters, digits, '-' and '_'")
    parser.add_argument("--system", default="pim-llm", metavar="NAME|FILE", help="accelerator (default pim-llm)")
    parser.add_argument("--model", default="opt-6.7b", metavar="NAME|FILE", help="language model (default opt-6.7b)")
    parser.set_defaults(run="new_study")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "notebooks", nargs="+", metavar="NOTEBOOK", help="such as 03-tokens-per-second, a file.ipynb, or 'all'"
    )
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--into", metavar="DIR", help="folder for the results (default: executed/ of the checkout)")
    target.add_argument("--archive", action="store_true", help="renew the archive under data/ with the result")
    parser.set_defaults(run="run")
