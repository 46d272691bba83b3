"""What each command does. Heavy imports wait until the command that needs them runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pimllm_lib.cli import CONTEXTS
from pimllm_lib.errors import BadInput, one_line


def models(args: argparse.Namespace) -> None:
    """Print the language models of the catalog."""
    from pimllm_lib import catalog
    from pimllm_lib.llm import parameter_count

    fields = ("n_layers", "d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim", "vocab_size")
    rows = [
        {"model": name} | {f: getattr(m, f) for f in fields} | {"parameters": parameter_count(m)}
        | {"source": catalog.models.entries[name]["source"]}
        for name, m in catalog.models.items()
    ]  # fmt: skip
    _print_rows(rows, args.json)


def parts(args: argparse.Namespace) -> None:
    """Print the hardware parts of the catalog."""
    from pimllm_lib import catalog

    keys = ("value", "unit", "status", "source")
    rows = [
        {"part": name, "quantity": field} | {key: entry.get(key, "") for key in keys}
        for name, table in catalog.parts.entries.items()
        for field, entry in table.items()
        if isinstance(entry, dict)
    ]
    _print_rows(rows, args.json)


def systems(args: argparse.Namespace) -> None:
    """Print the accelerators of the catalog."""
    from pimllm_lib import catalog

    rows = [
        {"system": name, "array": s.array.name, **dict(s.routing), "summary": catalog.systems.entries[name]["summary"]}
        for name, s in catalog.systems.items()
    ]
    _print_rows(rows, args.json)


def evaluate(args: argparse.Namespace) -> None:
    """Print or write what one token costs."""
    from dataclasses import replace

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


def explain(args: argparse.Namespace) -> None:
    """Print how one number comes about."""
    from pimllm_lib.report.explain import explain

    where = {"system": args.system, "model": args.model, "conventions": args.conventions}
    print("\n".join(map(one_line, explain(args.variable, context_len=_context(args.context), **where))))


def claims(args: argparse.Namespace) -> int:
    """Print every published number beside the computed ones; return 1 when a verdict has moved."""
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


def new_study(args: argparse.Namespace) -> None:
    """Write a ready notebook."""
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


def run(args: argparse.Namespace) -> int:
    """Execute notebooks; return 1 when a cell raises, 2 when it refuses its parameters."""
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


def book(args: argparse.Namespace) -> int:
    """Execute what is stale, compare, render; return 1 when something differs."""
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
