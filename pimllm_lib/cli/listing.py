"""Commands that list the catalog: models, parts, systems."""

from __future__ import annotations

import argparse
import math
from typing import Any

from pimllm_lib.cli import printing


def _adder(name: str, about: str, run: Any) -> Any:
    def add(commands: Any) -> None:
        parser = commands.add_parser(
            name, help=about, description=about.capitalize() + ".", epilog=f"example: pimllm {name} --json"
        )
        parser.add_argument("--json", action="store_true", help="print a JSON list of objects")
        parser.set_defaults(run=run)

    return add


def models(args: argparse.Namespace) -> None:
    """Print the language models of the catalog."""
    from pimllm_lib import catalog
    from pimllm_lib.workload.decoder import parameter_count

    fields = ("n_layers", "d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "n_experts", "window")
    rows = [
        {"model": name} | {f: _finite(getattr(m, f)) for f in fields} | {"parameters": parameter_count(m)}
        | {"source": catalog.models.entries[name]["source"]}
        for name, m in catalog.models.items()
    ]  # fmt: skip
    printing.rows(rows, as_json=args.json)


def _finite(value: Any) -> Any:
    """Return a value, None where it is infinite, which JSON does not know."""
    return None if value == math.inf else value


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
    printing.rows(rows, as_json=args.json)


def systems(args: argparse.Namespace) -> None:
    """Print the accelerators of the catalog."""
    from pimllm_lib import catalog

    rows = [
        {"system": name, "array": s.array.name, **dict(s.routing), "summary": catalog.systems.entries[name]["summary"]}
        for name, s in catalog.systems.items()
    ]
    printing.rows(rows, as_json=args.json)


def remedies(args: argparse.Namespace) -> None:
    """Print the remedies for long contexts."""
    from pimllm_lib.analysis.remedies import REMEDIES

    rows = [
        {"remedy": name, "one of": remedy.slot, "computes the same": "yes" if remedy.exact else "no"}
        for name, remedy in REMEDIES.items()
    ]
    printing.rows(rows, as_json=args.json)


COMMANDS = (
    _adder("models", "list the language models of the catalog", models),
    _adder("parts", "list the hardware parts of the catalog, each quantity with its source", parts),
    _adder("remedies", "list the remedies for long contexts, of each kind one can be had", remedies),
    _adder("systems", "list the accelerators of the catalog", systems),
)
