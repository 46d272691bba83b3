"""The command that says how long crossbars of keys and values last."""

from __future__ import annotations

import argparse
from typing import Any

from pimllm_lib.cli import printing


def _add_lifetime(commands: Any) -> None:
    parser = commands.add_parser(
        "lifetime", help="how long crossbars of keys and values last",
        description="Print how long crossbars that hold keys and values last, for technologies of the catalog from the "
        "worse to the better end of their ranges; of a TOML file the values. Nothing stands where cells do not wear, or "
        "where one in a hundred never fails. --technology and --context may repeat.",
        epilog="example: pimllm lifetime --model llama-3-8b --technology rram --technology pcm --context 4096",
    )  # fmt: skip
    add = parser.add_argument
    add("--system", default="pim-attention", metavar="NAME|FILE", help="accelerator with attention in memory")
    add("--model", required=True, metavar="NAME|FILE", help="language model")
    add("--technology", action="append", metavar="NAME|FILE", help="memory technology (default all of the catalog)")
    add("--context", action="append", metavar="TOKENS", help="tokens that crossbars have room for (default 4096)")
    add("--prompt", type=int, default=2048, metavar="TOKENS", help="tokens of a prompt (default 2048)")
    add("--answer", type=int, default=256, metavar="TOKENS", help="tokens of an answer (default 256)")
    add(
        "--minutes",
        type=float,
        default=16.0,
        metavar="N",
        help="minutes a day that a phone answers, minutes_per_day (default 16)",
    )
    add("--json", action="store_true", help="print a JSON list of objects")
    parser.set_defaults(run=lifetime)


def lifetime(args: argparse.Namespace) -> None:
    """Print a row for each technology, estimate, context, use and allocation."""
    from pimllm_lib import catalog
    from pimllm_lib.analysis.endurance import lifetimes, uses
    from pimllm_lib.analysis.technologies import names
    from pimllm_lib.cli.evaluation import context
    from pimllm_lib.core.errors import BadInput

    chosen = args.technology or names()
    for name in chosen:
        if chosen.count(name) > 1:
            raise BadInput(f"technology {name!r} was given {chosen.count(name)} times; wanted distinct names")
    asked = uses(prompt=args.prompt, answer=args.answer, minutes_per_day=args.minutes)
    system = catalog.system(args.system)
    contexts = [context(text) for text in args.context or ["4096"]]
    rows: list[dict[str, Any]] = []
    for name in chosen:
        rows += _rows(name, lambda it: lifetimes(system=it, model=args.model, context_len=contexts, uses=asked), system)
    printing.rows(rows, as_json=args.json)


def _rows(name: str, last: Any, system: Any) -> list[dict[str, Any]]:
    from pimllm_lib.analysis.technologies import fitted, spread
    from pimllm_lib.core.errors import BadInput
    from pimllm_lib.hardware import System

    if not isinstance(system, System) or system.kv_pim is None:
        raise BadInput(f"{system.name} has no crossbars for keys and values; wanted a system with kv_pim")
    found = spread(name)
    table = last(fitted(system, found)).to_dataframe().reset_index()
    if "estimate" not in table:
        table["estimate"] = "median"
    keys = ["estimate", "context_len", "use", "allocation", "first_failure_years", "worn_years"]
    finite = table[keys].astype(object).where(~table[keys].isin([float("inf")]), None)
    return [{"technology": found.name, **row} for row in finite.to_dict("records")]


COMMANDS = (_add_lifetime,)
