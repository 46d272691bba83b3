"""Commands that list the catalog: devices, models, parts, remedies, systems."""

from __future__ import annotations

import argparse
import math

from pimllm_lib.cli.command import JSON_LIST, command, print_rows


@command("list the machines that one can buy", "devices --json", JSON_LIST)
def devices(args: argparse.Namespace) -> None:
    """List the machines that one can buy, with the rule's share of their bandwidth."""
    from pimllm_lib import catalog
    from pimllm_lib.core.units import GIGA

    rows = [
        {"device": name, "kind": d.kind, "GB/s": d.bandwidth_bps / 8 / GIGA, "GB": d.capacity_bytes / GIGA}
        | {"efficiency": d.efficiency, "summary": catalog.devices.entries[name]["summary"]}
        for name, d in catalog.devices.items()
    ]
    print_rows(rows, as_json=args.json)


@command("list the language models of the catalog", "models --json", JSON_LIST)
def models(args: argparse.Namespace) -> None:
    """List the language models of the catalog."""
    from pimllm_lib import catalog
    from pimllm_lib.workload.shapes import parameter_count

    fields = ("n_layers", "d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "n_experts", "window",
              "levels", "scale_group", "head_levels")  # fmt: skip
    rows = [
        {"model": name, **{field: getattr(m, field) for field in fields}, "parameters": parameter_count(m)}
        | {"source": catalog.models.entries[name]["source"]}
        for name, m in catalog.models.items()
    ]
    # JSON does not know the window, or the group of a scale, of a model that has none
    finite = [{key: None if value == math.inf else value for key, value in row.items()} for row in rows]
    print_rows(finite, as_json=args.json)


@command("list the hardware parts of the catalog, each quantity with its source", "parts --json", JSON_LIST)
def parts(args: argparse.Namespace) -> None:
    """List the hardware parts of the catalog, each quantity with its source."""
    from pimllm_lib import catalog

    keys = ("value", "unit", "status", "source")
    rows = [
        {"part": name, "quantity": field} | {key: entry.get(key, "") for key in keys}
        for name, table in catalog.parts.entries.items()
        for field, entry in table.items()
        if isinstance(entry, dict)
    ]
    print_rows(rows, as_json=args.json)


@command("list the remedies for long contexts, of each kind one can be had", "remedies --json", JSON_LIST)
def remedies(args: argparse.Namespace) -> None:
    """List the remedies for long contexts, of each kind one can be had."""
    from pimllm_lib.analysis.remedies import REMEDIES

    rows = [
        {"remedy": name, "one of": remedy.slot, "computes the same": "yes" if remedy.exact else "no"}
        for name, remedy in REMEDIES.items()
    ]
    print_rows(rows, as_json=args.json)


@command("list the accelerators of the catalog", "systems --json", JSON_LIST)
def systems(args: argparse.Namespace) -> None:
    """List the accelerators of the catalog."""
    from pimllm_lib import catalog

    rows = [
        {"system": name, "array": s.array.name, **dict(s.routing), "summary": catalog.systems.entries[name]["summary"]}
        for name, s in catalog.systems.items()
    ]
    print_rows(rows, as_json=args.json)


COMMANDS = (devices, models, parts, remedies, systems)
