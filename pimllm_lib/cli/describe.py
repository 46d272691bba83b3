"""The command that says what a file holds: describe."""

from __future__ import annotations

import argparse
from dataclasses import asdict, fields
from math import inf
from typing import TYPE_CHECKING, Any

from pimllm_lib.cli.command import JSON, command, json_text, option, print_rows, say

if TYPE_CHECKING:
    from pimllm_lib.analog.lm.described import Description, Row


@command(
    "what a model's file holds: sizes, precisions, zeros",
    "describe model.gguf",
    option(
        "file", metavar="FILE|DIR", help="a GGUF file, a safetensors file, or a folder with config.json and safetensors"
    ),
    option("--header", action="store_true", help="leave the weights unread, so that nothing is said of zeros"),
    option("--matrices", action="store_true", help="list every matrix, not the kinds of them"),
    JSON,
)
def describe(args: argparse.Namespace) -> None:
    """Print what a model's file holds: sizes, and of each kind of matrix its precision and its share of zeros and signs."""
    from pimllm_lib.analog.lm import described
    from pimllm_lib.core import paths

    found = described.describe(paths.users(args.file), weights=not args.header)
    zeros = described.zeros(found.rows)
    whole = _whole(found) | {"zeros": zeros, "low_share": None if zeros is None else (1 - zeros) / 2}
    kinds = _kinds(found.rows)
    if args.json:
        print(json_text(whole | {"kinds": kinds, "matrices": [_line([row], row.name) for row in found.rows]}))
        return
    say(*_sentences(found, whole))
    print_rows([_line([row], row.name) for row in found.rows] if args.matrices else kinds, as_json=False)
    if zeros is not None:
        on = f"cells that are on, of pairs: low_share = {whole['low_share']:.6g}"
        say(f"zeros among weights of few bits: {zeros:.6g}; {on}")


def _whole(found: Description) -> dict[str, Any]:
    """Return what holds of all of a file."""
    names = (
        [] if found.decoder is None else [field.name for field in fields(found.decoder) if field.name != "published"]
    )
    shape = {name: _plain(getattr(found.decoder, name)) for name in names} or None
    bits = 8 * found.size / found.parameters if found.parameters else None
    return {"model": found.name, "form": found.form, "architecture": found.family, "note": found.note, "decoder": shape,
            "parameters": found.parameters, "bytes": found.size, "bits_per_parameter": bits}  # fmt: skip


def _plain(value: Any) -> Any:
    """Return a field as JSON has it, which knows nothing infinite."""
    if isinstance(value, tuple):
        return [_plain(dict(item) if hasattr(item, "keys") else item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if value == inf else value


def _sentences(found: Description, whole: dict[str, Any]) -> list[str]:
    lines = [f"{found.name}: {found.form}, {found.family or 'no configuration'}"]
    if (decoder := found.decoder) is not None:
        keys = ("n_layers", "d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "n_experts")
        lines.append(", ".join(f"{key} {getattr(decoder, key)}" for key in keys))
    if found.note:
        lines.append(found.note)
    bits = "" if whole["bits_per_parameter"] is None else f": {whole['bits_per_parameter']:.4g} bits each"
    return [*lines, f"{found.parameters} parameters in {found.size} bytes{bits}"]


def _kinds(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    """Return a line for each projection and type, of all blocks together."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.op, row.kind, row.levels, row.group), []).append(row)
    return [_line(same, same[0].op) for same in grouped.values()]


def _line(rows: list[Row], name: str) -> dict[str, Any]:
    first, weights = rows[0], sum(row.weights for row in rows)
    shares = {
        key: sum(asdict(row)[of] for row in rows) / weights
        if all(asdict(row)[of] is not None for row in rows)
        else None
        for key, of in (("zeros", "zero"), ("negative", "negative"), ("positive", "positive"))
    }
    size = sum(row.size for row in rows)
    return {
        "matrix": name, "type": first.kind, "shape": "x".join(map(str, first.shape)), "count": len(rows),
        "levels": first.levels or None, "group": None if first.group == inf else int(first.group),
        "bits": 8 * size / weights, **shares,
    }  # fmt: skip


COMMANDS = (describe,)
