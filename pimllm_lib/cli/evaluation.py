"""Commands that compute numbers: evaluate, explain, claims."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pimllm_lib.cli import printing

#: The contexts of the published figures.
CONTEXTS = ["128", "256", "512", "1024", "2048", "4096"]


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate", help="what decoding one token costs",
        description="Print what decoding one token costs. Options that name something may repeat.",
        epilog="example: pimllm evaluate --system tpu-llm --model opt-6.7b --context 128 --conventions as-published",
    )  # fmt: skip
    add = parser.add_argument
    add("--system", action="append", metavar="NAME|FILE", help="accelerator (default tpu-llm); a name or a TOML file")
    add("--model", action="append", required=True, metavar="NAME|FILE",
        help="language model: a name, a TOML file, or a Hugging Face config.json")  # fmt: skip
    add("--context", action="append", metavar="TOKENS", help=f"tokens in the cache (default {' '.join(CONTEXTS)})")
    add("--conventions", action="append", metavar="NAME|FILE", help="accounting (default corrected)")
    add("--array", metavar="NAME|FILE", help="use this systolic array instead of the system's own")
    add("--remedy", action="append", metavar="NAME",
        help="put a remedy for long contexts on every system and model, in order; see `pimllm remedies`")  # fmt: skip
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--json", action="store_true", help="print a JSON list of objects")
    out.add_argument("--csv", action="store_true", help="print comma-separated values")
    out.add_argument("--netcdf", metavar="FILE", help="write the dataset as netCDF-4")
    parser.set_defaults(run=evaluate)


def evaluate(args: argparse.Namespace) -> None:
    """Print or write what one token costs."""
    from dataclasses import replace

    from pimllm_lib import catalog
    from pimllm_lib.archive import dataset
    from pimllm_lib.core import files, paths
    from pimllm_lib.hardware import SystolicArray
    from pimllm_lib.system import metrics

    into = None if args.netcdf is None else files.require_file(paths.users(args.netcdf))
    systems = [catalog.system(name) for name in args.system or ["tpu-llm"]]
    if args.array is not None:
        array = catalog.part(args.array, SystolicArray)
        systems = [replace(system, array=array) for system in systems]
    conventions = args.conventions or ["corrected"]
    contexts = [context(text) for text in args.context or CONTEXTS]
    point = {"context_len": contexts, "conventions": conventions}
    ds = metrics.summary(_evaluated(systems, args.model, args.remedy or [], point))
    if into is not None:
        print(dataset.write(ds, into))
    else:
        _print_evaluation(ds, args)


def _evaluated(systems: list[Any], models: list[str], names: list[str], point: dict[str, Any]) -> Any:
    """Return what every pair of a system and a model costs, with remedies put on where some are named."""
    from pimllm_lib import catalog
    from pimllm_lib.analysis import remedies
    from pimllm_lib.core import joining
    from pimllm_lib.system.evaluation import evaluate

    if not names:
        return evaluate(system=systems, model=models, **point)
    decoders = [catalog.model(name) for name in models]
    pairs = [[remedies.put(system, decoder, names) for system in systems] for decoder in decoders]
    made = [evaluate(system=[s for s, _ in row], model=row[0][1], **point) for row in pairs]
    return joining.concat(made, "model", data_vars="minimal", join="exact")


def context(text: str) -> Any:
    """Return a context length of the command line as a number; as it is, for `evaluate` to refuse, where it is none."""
    try:
        return int(text)
    except ValueError:
        return text


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
        printing.rows(frame[keys + list(shown)].rename(columns=shown).to_dict("records"), as_json=False)


def _add_explain(commands: Any) -> None:
    parser = commands.add_parser(
        "explain", help="how one number comes about",
        description="Print the formula of one number, its largest parts, and every constant behind it with its source.",
        epilog="example: pimllm explain tokens_per_s --system pim-llm --model opt-6.7b --context 128",
    )  # fmt: skip
    add = parser.add_argument
    add("variable", metavar="VARIABLE", help="such as tokens_per_s, energy_j, dram_bytes")
    add("--system", default="pim-llm", metavar="NAME|FILE", help="accelerator (default pim-llm)")
    add("--model", required=True, metavar="NAME|FILE", help="language model")
    add("--context", default="128", metavar="TOKENS", help="tokens in the cache (default 128)")
    add("--conventions", default="corrected", metavar="NAME|FILE", help="accounting (default corrected)")
    parser.set_defaults(run=explain)


def explain(args: argparse.Namespace) -> None:
    """Print how one number comes about."""
    from pimllm_lib.core.errors import one_line
    from pimllm_lib.report.explain import explain

    where = {"system": args.system, "model": args.model, "conventions": args.conventions}
    print("\n".join(map(one_line, explain(args.variable, context_len=context(args.context), **where))))


def _add_claims(commands: Any) -> None:
    parser = commands.add_parser(
        "claims", help="every published number beside the computed ones; status 1 if a verdict has moved",
        description="Print every published number beside the computed ones. Status 1 when a verdict is not as committed.",
        epilog="example: pimllm claims --json",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON list of objects")
    parser.set_defaults(run=claims)


def claims(args: argparse.Namespace) -> int:
    """Print every published number beside the computed ones; return 1 when a verdict has moved."""
    from pimllm_lib.analysis import claims

    table = claims.every()
    flat = table.drop(columns=["where"]).reset_index()
    shown = flat if args.json else flat.drop(columns=["claim", "reason", "committed"])
    printing.rows(shown.astype(object).where(shown.notna(), None).to_dict("records"), as_json=args.json)
    moved = claims.moved(table)
    for line in moved:
        print(f"pimllm: {line}", file=sys.stderr)
    return 1 if moved else 0


COMMANDS = (_add_evaluate, _add_explain, _add_claims)
