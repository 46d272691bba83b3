"""Families of language models as their page shows them: what is read exactly, and why the others are refused."""

from __future__ import annotations

import json
from collections import Counter

import pandas as pd

from pimllm_lib.catalog.models import from_mapping
from pimllm_lib.catalog.unread import REFUSED, TEXT
from pimllm_lib.core.paths import DATA
from pimllm_lib.report.numbers import number
from pimllm_lib.report.tables import Table
from pimllm_lib.workload.decoder import Decoder, kinds


def compared() -> pd.DataFrame:
    """Return data/peers/transformers.csv: of each family, what the library's own class multiplies, keeps and holds."""
    return pd.read_csv(DATA / "peers" / "transformers.csv", keep_default_na=False)


def read() -> Table:
    """Return the families that are read, with what a token multiplies and leaves at the defaults of their classes."""
    rows = []
    for row in compared().itertuples():
        decoder = from_mapping(
            {"model_type": row.family, **json.loads(row.set or "{}")}, str(row.family), str(row.family)
        )
        cached = sum(int(count) * int(words.split(" @")[0]) for count, words in _parts(str(row.cache)))
        rows.append(
            {
                "family": row.family, "blocks": _blocks(decoder),
                "parameters (M)": number(float(row.parameters) / 1e6),
                "projections, MACs a token (M)": number(float(row.projections) / 1e6),
                "cache, numbers a token": number(cached) if row.cache else "",
                "state, numbers": "" if row.state in ("", 0, "0") else number(float(row.state)),
                "set": str(row.set).strip("{}").replace('"', ""),
            }
        )  # fmt: skip
    return Table(rows, long=True, title="Families that are read")


def _parts(cache: str) -> list[list[str]]:
    return [part.split(" x ") for part in cache.split("; ")] if cache else []


def _blocks(decoder: Decoder) -> str:
    """Return what the blocks of a decoder are, alike ones counted together."""
    counted: Counter[str] = Counter()
    for kind in kinds(decoder):
        counted[_kind(kind)] += int(kind.n_layers)
    return "; ".join(f"{count} {name}" for name, count in counted.items())


def _kind(kind: Decoder) -> str:
    attention = "latent attention" if kind.latent_dim else "attention"
    if kind.window != float("inf"):
        attention += f" of {kind.window:.0f} tokens"
    elif kind.chunk != float("inf"):
        attention += f" in chunks of {kind.chunk:.0f}"
    if kind.top_tokens != float("inf"):
        attention += f" to {kind.top_tokens:.0f} chosen tokens"
    attention += ", keys of another block" * kind.kv_shared
    mixer = {"attention": attention, "linear": "linear or recurrent", "both": f"{attention} beside a recurrence"}
    ffn = f"{kind.n_experts} experts" if kind.n_experts > 1 else "dense" if kind.d_ff else "no FFN"
    return ", ".join([mixer.get(str(kind.mixer), "no mixer"), ffn, *["shared experts"] * bool(kind.shared_ff)])


def counted() -> str:
    """Return how many are read and how many refused."""
    found = compared()
    return (
        f"{len(found)} are read, {len(TEXT)} of them as the text of a model that sees or hears, and {len(REFUSED)} are "
        f"refused; compared with `transformers` {found.transformers.iloc[0]}."
    )
