"""Commands that compute numbers: evaluate, explain, claims, lifetime."""

from __future__ import annotations

import argparse
from typing import Any

from pimllm_lib.cli.command import JSON_LIST, command, option, print_problems, print_rows, say
from pimllm_lib.cli.settings import models_with, systems_with
from pimllm_lib.core.errors import BadInput

#: The contexts of the published figures.
CONTEXTS = ["128", "256", "512", "1024", "2048", "4096"]


@command(
    "what decoding one token costs",
    "evaluate --system tpu-llm --model opt-6.7b --context 128 --conventions as-published",
    option("--system", action="append", metavar="NAME|FILE", help="accelerator (default tpu-llm); a name or a TOML file"),
    option("--model", action="append", required=True, metavar="NAME|FILE",
           help="language model: a name, a file (TOML, GGUF, config.json), or a folder"),
    option("--context", action="append", metavar="TOKENS", help=f"tokens in the cache (default {' '.join(CONTEXTS)})"),
    option("--conventions", action="append", metavar="NAME|FILE", help="accounting (default corrected)"),
    option("--array", metavar="NAME|FILE", help="use this systolic array instead of the system's own"),
    option("--set", nargs=2, action="append", default=[], metavar=("PATH", "VALUE"),
           help="change a field of every system that has it, such as pim.tile.crossbar.adc.bits 6, or a part of it"),
    option("--remedy", action="append", metavar="NAME",
           help="put a remedy for long contexts on every system and model, in order; see `pimllm remedies`"),
    [JSON_LIST, option("--csv", action="store_true", help="print comma-separated values"),
     option("--netcdf", metavar="FILE", help="write the dataset as netCDF-4")],
)  # fmt: skip
def evaluate(args: argparse.Namespace) -> None:
    """Print what decoding one token costs. Options that name something may repeat. --set takes fields of models too, such
    as model.scale_group 128.
    """
    from dataclasses import replace

    from pimllm_lib import catalog
    from pimllm_lib.archive import dataset
    from pimllm_lib.core import files, paths
    from pimllm_lib.hardware import SystolicArray
    from pimllm_lib.system import metrics

    into = None if args.netcdf is None else files.require_file(paths.users(args.netcdf))
    models, args.set = models_with(args.model, args.set)
    systems = [catalog.system(name) for name in args.system or ["tpu-llm"]]
    if args.array is not None:
        array = catalog.part(args.array, SystolicArray)
        systems = [replace(system, array=array) for system in systems]
    systems = systems_with(systems, args.set)
    point = {
        "context_len": [_count(text) for text in args.context or CONTEXTS],
        "conventions": args.conventions or ["corrected"],
    }
    ds = metrics.summary(_evaluated(systems, models, args.remedy or [], point))
    if into is not None:
        say(dataset.write(ds, into))
        return
    frame = ds.to_dataframe().reset_index()
    if args.json:
        print(frame.to_json(orient="records", indent=1, double_precision=15))
    elif args.csv:
        print(frame.to_csv(index=False), end="")
    else:
        shown = {"tokens_per_s": "tokens/s", "tokens_per_j": "tokens/J", "latency_s": "s/token", "energy_j": "J/token",
                 "utilisation": "utilisation"}  # fmt: skip
        keys = ["system", "model", "conventions", "context_len"]
        print_rows(frame[keys + list(shown)].rename(columns=shown).to_dict("records"), as_json=False)


def _evaluated(systems: list[Any], models: list[Any], names: list[str], point: dict[str, Any]) -> Any:
    """Return what every pair of a system and a model costs, with remedies put on where some are named."""
    from pimllm_lib.analysis import remedies
    from pimllm_lib.core import joining
    from pimllm_lib.system.evaluation import evaluate

    if not names:
        return evaluate(system=systems, model=models, **point)
    pairs = [[remedies.put(system, model, names) for system in systems] for model in models]
    made = [evaluate(system=[s for s, _ in row], model=row[0][1], **point) for row in pairs]
    return joining.concat(made, "model", data_vars="minimal", join="exact")


def _count(text: str) -> Any:
    """Return a number of tokens as one; what is none as it is, for what takes it to refuse."""
    try:
        return int(text)
    except ValueError:
        return text


@command(
    "how one number comes about",
    "explain tokens_per_s --system pim-llm --model opt-6.7b --context 128",
    option("variable", metavar="VARIABLE", help="such as tokens_per_s, energy_j, dram_bytes"),
    option("--system", default="pim-llm", metavar="NAME|FILE", help="accelerator (default pim-llm)"),
    option("--model", required=True, metavar="NAME|FILE", help="language model"),
    option("--context", default="128", metavar="TOKENS", help="tokens in the cache (default 128)"),
    option("--conventions", default="corrected", metavar="NAME|FILE", help="accounting (default corrected)"),
)
def explain(args: argparse.Namespace) -> None:
    """Print the formula of one number, its largest parts, and every constant behind it with its source."""
    from pimllm_lib.report.explain import explain

    where = {"system": args.system, "model": args.model, "conventions": args.conventions}
    say(*explain(args.variable, context_len=_count(args.context), **where))


@command("every published number beside the computed ones; status 1 if a verdict has moved", "claims --json", JSON_LIST)
def claims(args: argparse.Namespace) -> int:
    """Print every published number beside the computed ones. Status 1 when a verdict is not as committed."""
    from pimllm_lib.analysis import claims

    table = claims.every()
    flat = table.drop(columns=["where"]).reset_index()
    shown = flat if args.json else flat.drop(columns=["claim", "reason", "committed"])
    print_rows(shown.astype(object).where(shown.notna(), None).to_dict("records"), as_json=args.json)
    return print_problems(claims.moved(table))


@command(
    "how long crossbars of keys and values last",
    "lifetime --model llama-3-8b --technology rram --technology pcm --context 4096",
    option("--system", default="pim-attention", metavar="NAME|FILE", help="accelerator with attention in memory"),
    option("--model", required=True, metavar="NAME|FILE", help="language model"),
    option("--technology", action="append", metavar="NAME|FILE", help="memory technology (default all of the catalog)"),
    option("--context", action="append", metavar="TOKENS", help="tokens that crossbars have room for (default 4096)"),
    option("--prompt", type=_count, default=2048, metavar="TOKENS", help="tokens of a prompt (default 2048)"),
    option("--answer", type=_count, default=256, metavar="TOKENS", help="tokens of an answer (default 256)"),
    option("--minutes", type=float, default=16.0, metavar="N",
           help="minutes a day that a phone answers, minutes_per_day (default 16)"),
    JSON_LIST,
)  # fmt: skip
def lifetime(args: argparse.Namespace) -> None:
    """Print how long crossbars that hold keys and values last, for technologies of the catalog from the worse to the
    better end of their ranges; of a TOML file the values. Nothing stands where cells do not wear, or where one in a
    hundred never fails. --technology and --context may repeat.
    """
    from pimllm_lib import catalog
    from pimllm_lib.analysis.endurance import lifetimes, uses
    from pimllm_lib.analysis.technologies import fitted, names, spread
    from pimllm_lib.hardware import System

    chosen = args.technology or names()
    for name in chosen:
        if chosen.count(name) > 1:
            raise BadInput(f"technology {name!r} was given {chosen.count(name)} times; wanted distinct names")
    asked = uses(prompt=args.prompt, answer=args.answer, minutes_per_day=args.minutes)
    system, contexts = catalog.system(args.system), [_count(text) for text in args.context or ["4096"]]
    if not isinstance(system, System) or system.kv_pim is None:
        raise BadInput(f"{system.name} has no crossbars for keys and values; wanted a system with kv_pim")
    keys = ["estimate", "context_len", "use", "allocation", "first_failure_years", "worn_years"]
    rows: list[dict[str, Any]] = []
    for found in map(spread, chosen):
        ds = lifetimes(system=fitted(system, found), model=args.model, context_len=contexts, uses=asked)
        table = ds.to_dataframe().reset_index()
        shown = (table if "estimate" in table else table.assign(estimate="median"))[keys]
        finite = shown.astype(object).where(~shown.isin([float("inf")]), None)
        rows += [{"technology": found.name, **row} for row in finite.to_dict("records")]
    print_rows(rows, as_json=args.json)


COMMANDS = (evaluate, explain, claims, lifetime)
