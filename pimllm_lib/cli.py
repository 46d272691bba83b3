"""The command line. Imports wait until a command needs them, so that help appears at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from pimllm_lib import __version__
from pimllm_lib.errors import BadInput, one_line

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
        code = int(args.run(args) or 0)
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
    for name, about, run in (
        ("models", "list the language models of the catalog", _models),
        ("parts", "list the hardware parts of the catalog, each quantity with its source", _parts),
        ("systems", "list the accelerators of the catalog", _systems),
    ):
        listing = commands.add_parser(name, help=about, description=about.capitalize() + ".")
        listing.add_argument("--json", action="store_true", help="print a JSON list of objects")
        listing.set_defaults(run=run)
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
    listing.set_defaults(run=_claims)
    book = commands.add_parser(
        "book", help="execute what is stale, compare with the archive, render the report",
        description="Execute stale notebooks, compare their results with the archive, render the report.",
    )  # fmt: skip
    book.set_defaults(run=_book)
    return parser


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--system", action="append", metavar="NAME|FILE", help="accelerator (default tpu-llm); a name or a TOML file")
    add("--model", action="append", required=True, metavar="NAME|FILE",
        help="language model: a name, a TOML file, or a Hugging Face config.json")  # fmt: skip
    add("--context", action="append", metavar="TOKENS", help=f"tokens in the cache (default {' '.join(CONTEXTS)})")
    add("--conventions", action="append", metavar="NAME", help="accounting (default corrected)")
    add("--array", metavar="NAME|FILE", help="use this systolic array instead of the system's own")
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--json", action="store_true", help="print a JSON list of objects")
    out.add_argument("--csv", action="store_true", help="print comma-separated values")
    out.add_argument("--netcdf", metavar="FILE", help="write the dataset as netCDF-4")
    parser.set_defaults(run=_evaluate)


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("variable", metavar="VARIABLE", help="such as tokens_per_s, energy_j, dram_bytes")
    parser.add_argument("--system", default="pim-llm", metavar="NAME|FILE", help="accelerator (default pim-llm)")
    parser.add_argument("--model", required=True, metavar="NAME|FILE", help="language model")
    parser.add_argument("--context", default="128", metavar="TOKENS", help="tokens in the cache (default 128)")
    parser.add_argument(
        "--conventions", default="corrected", metavar="NAME|FILE", help="accounting (default corrected)"
    )
    parser.set_defaults(run=_explain)


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the study: letters, digits, '-' and '_'")
    parser.add_argument("--system", default="pim-llm", metavar="NAME|FILE", help="accelerator (default pim-llm)")
    parser.add_argument("--model", default="opt-6.7b", metavar="NAME|FILE", help="language model (default opt-6.7b)")
    parser.set_defaults(run=_new_study)


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "notebooks", nargs="+", metavar="NOTEBOOK", help="such as 03-tokens-per-second, a file.ipynb, or 'all'"
    )
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--into", metavar="DIR", help="folder for the results (default: executed/ of the checkout)")
    target.add_argument("--archive", action="store_true", help="renew the archive under data/ with the result")
    parser.set_defaults(run=_run)


def _models(args: argparse.Namespace) -> None:
    from pimllm_lib import catalog
    from pimllm_lib.llm import parameter_count

    fields = ("n_layers", "d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim", "vocab_size")
    rows = [
        {"model": name} | {f: getattr(m, f) for f in fields} | {"parameters": parameter_count(m)}
        | {"source": catalog.models.entries[name]["source"]}
        for name, m in catalog.models.items()
    ]  # fmt: skip
    _print_rows(rows, args.json)


def _parts(args: argparse.Namespace) -> None:
    from pimllm_lib import catalog

    keys = ("value", "unit", "status", "source")
    rows = [
        {"part": name, "quantity": field} | {key: entry.get(key, "") for key in keys}
        for name, table in catalog.parts.entries.items()
        for field, entry in table.items()
        if isinstance(entry, dict)
    ]
    _print_rows(rows, args.json)


def _systems(args: argparse.Namespace) -> None:
    from pimllm_lib import catalog

    rows = [
        {"system": name, "array": s.array.name, **dict(s.routing), "summary": catalog.systems.entries[name]["summary"]}
        for name, s in catalog.systems.items()
    ]
    _print_rows(rows, args.json)


def _evaluate(args: argparse.Namespace) -> None:
    from dataclasses import replace
    from pathlib import Path

    from pimllm_lib import catalog, metrics
    from pimllm_lib.hardware import SystolicArray
    from pimllm_lib.system import evaluate

    systems = [catalog.system(name) for name in args.system or ["tpu-llm"]]
    if args.array is not None:
        array = catalog.part(args.array, SystolicArray)
        systems = [replace(system, array=array) for system in systems]
    conventions = args.conventions or ["corrected"]
    contexts = [_context(text) for text in args.context or CONTEXTS]
    ds = metrics.summary(evaluate(system=systems, model=args.model, context_len=contexts, conventions=conventions))
    if args.netcdf is not None:
        from pimllm_lib.report.archive import write

        print(write(ds, Path(args.netcdf)))
    else:
        _print_evaluation(ds, args)


def _explain(args: argparse.Namespace) -> None:
    from pimllm_lib.report.explain import explain

    where = {"system": args.system, "model": args.model, "conventions": args.conventions}
    print("\n".join(map(one_line, explain(args.variable, context_len=_context(args.context), **where))))


def _claims(args: argparse.Namespace) -> int:
    from pimllm_lib.report import claims

    table = claims.every().drop(columns=["where"]).reset_index()
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    shown = (
        rows
        if args.json
        else [{k: v for k, v in row.items() if k not in ("claim", "reason", "committed")} for row in rows]
    )
    _print_rows(shown, args.json)
    moved = table[table.verdict != table.committed]
    for _, row in moved.iterrows():
        print(f"pimllm: {row.id} {row.verdict}, and its committed verdict is {row.committed}", file=sys.stderr)
    return 1 if len(moved) else 0


def _new_study(args: argparse.Namespace) -> None:
    from pathlib import Path

    from pimllm_lib.report.study import write

    print(write(args.name, system=args.system, model=args.model, folder=Path()))


def _context(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text  # evaluate says what is wrong with it


def _print_evaluation(ds: Any, args: argparse.Namespace) -> None:
    frame = ds.to_dataframe().reset_index()
    if args.json:
        print(frame.to_json(orient="records", indent=1, double_precision=15))
    elif args.csv:
        print(frame.to_csv(index=False), end="")
    else:
        shown = {"tokens_per_s": "tokens/s", "tokens_per_j": "tokens/J", "latency_s": "s/token", "energy_j": "J/token",
                 "utilisation": "utilisation"}  # fmt: skip
        keys = ["system", "model", "conventions", "context_len"]
        _print_rows(frame[keys + list(shown)].rename(columns=shown).to_dict("records"), as_json=False)


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print objects as JSON, or as a table with numbers on the right."""
    if as_json:
        import json

        print(json.dumps(rows, indent=1))
        return
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    number = [isinstance(value, int | float) for value in rows[0].values()]
    for row in cells:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, number, strict=True)]
        print("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def _run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from pimllm_lib.report import notebooks, paths

    names = paths.slugs() if args.notebooks == ["all"] else args.notebooks
    given = dict(args.p)
    if args.archive and given:
        raise BadInput("the archive holds default parameters only; wanted --into DIR for a run with -p")
    if args.archive and any(name.endswith(".ipynb") for name in names):
        raise BadInput("the archive holds the project's own notebooks only; wanted --into DIR for another file")
    work = [(name, notebooks.check(name, given)) for name in names]  # all of them before the first kernel starts
    own = all(not name.endswith(".ipynb") for name in names)
    into = Path(args.into) if args.into else paths.EXECUTED if own else Path("executed")
    try:
        for name, values in work:
            made = notebooks.run(name, into, values, progress=sys.stderr.isatty())
            print(_archived(name, into) if args.archive else made)
    except notebooks.NotebookFailed as error:
        print(f"pimllm: {error}", file=sys.stderr)
        return 2 if error.bad_input else 1
    return 0


def _archived(name: str, into: Any) -> Any:
    from pimllm_lib.report import archive, paths

    return archive.adopt(into / f"{name}.nc", paths.RESULTS / f"{name}.nc")


def _book(args: argparse.Namespace) -> int:
    from pimllm_lib.report import book, notebooks

    try:
        problems = book.build(progress=sys.stderr.isatty())
    except notebooks.NotebookFailed as error:
        problems = [str(error)]
    for problem in problems:
        print(f"pimllm: {problem}", file=sys.stderr)
    if not problems:
        print(book.PAGE)
    return 1 if problems else 0
