"""Chapter 14, other models: its tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.other_models.compute import COUNTED, PUBLISHED_BITS, counterparts
from pimllm_lib import catalog
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence
from pimllm_lib.workload.decoder import Decoder, parameter_count


def verdict_table(found: pd.DataFrame) -> Table:
    """Return the verdicts for reading, a conclusion named once."""
    again = found.conclusion.duplicated()
    return Table(
        found.assign(conclusion=found.conclusion.mask(again, ""), where=found["where"].mask(again, "")), long=True
    )


def shapes(groups: dict[str, list[Decoder]]) -> Table:
    """Return the models by family with what sets them apart, their parameters, and where their sizes were read."""
    rows = []
    for name, model in ((name, model) for name, members in groups.items() for model in members):
        entry = catalog.models.entries.get(model.name, {})
        rows.append(
            {
                "family": name,
                "model": model.name,
                "parameters": f"{parameter_count(model) / 1e9:.3g} G",
                "KV heads": f"{model.n_kv_heads} of {model.n_heads}",
                "experts": f"{model.experts_per_token} of {model.n_experts}" if model.n_experts > 1 else "",
                "window": model.window if np.isfinite(model.window) else "",
                "source": entry.get("source", "user"),
                "where": entry.get("where", ""),
            }
        )
    return Table(pd.DataFrame(rows), long=True)


_COLUMNS = {
    "TPU-LLM tokens/s": ("tpu-llm", "tokens_per_s"), "PIM-LLM tokens/s": ("pim-llm", "tokens_per_s"),
    "TPU-LLM tokens/J": ("tpu-llm", "tokens_per_j"), "PIM-LLM tokens/J": ("pim-llm", "tokens_per_j"),
    "tiles": ("pim-llm", "tiles"), "cache": ("pim-llm", "kv_bytes"),
}  # fmt: skip


def effects(ds: xr.Dataset, groups: dict[str, list[Decoder]], context_len: int) -> Table:
    """Return by what factor each change alone moves rates, efficiencies, tiles and cache, at one context.

    More bits are the most evaluated, over the published, on the largest model that memory holds with both.
    """
    rows, here = [], ds.sel(context_len=context_len)
    for change, before, after in _changes(here, groups):
        for counted in COUNTED:
            row = {"change": change, "counted": counted}
            for column, (system, variable) in _COLUMNS.items():
                at = {"system": system, "conventions": counted}
                ratio = float(after[variable].sel(at)) / float(before[variable].sel(at) or np.nan)
                row[column] = "" if np.isnan(ratio) else f"{ratio:.3g} x"
            rows.append(row)
    return Table(pd.DataFrame(rows), long=True)


def _changes(here: xr.Dataset, groups: dict[str, list[Decoder]]) -> Iterator[tuple[str, xr.Dataset, xr.Dataset]]:
    """Yield each change in words with the results before and after it."""
    bits = _published(here)
    for what, (without, one) in counterparts(groups).items():
        found = here.sel(weight_bits=bits)
        yield f"{one.name}, against {what}", found.sel(model=without.name), found.sel(model=one.name)
    most = int(here.weight_bits.max())
    named = [model.name for members in groups.values() for model in members]
    full = here.speedup.sel(model=named, weight_bits=most, system="pim-llm").notnull().all("conventions")
    if most > bits and full.any():
        sizes = {model.name: parameter_count(model) for members in groups.values() for model in members}
        held = here.sel(model=max((name for name in named if full.sel(model=name)), key=lambda name: sizes[name]))
        yield f"{held.model.item()}, {most} against {bits} bits", held.sel(weight_bits=bits), held.sel(weight_bits=most)


def _published(ds: xr.Dataset) -> int:
    """Return the published bits of a weight, or the fewest where those were not evaluated."""
    known = ds.weight_bits.values
    return PUBLISHED_BITS if PUBLISHED_BITS in known else int(known.min())


def answer(ds: xr.Dataset, groups: dict[str, list[Decoder]], found: pd.DataFrame) -> Sentence:
    """Return the answer of the page: conclusions that hold in every family, and the range of both ratios."""
    parts, names = [], [model.name for members in groups.values() for model in members]
    for counted in COUNTED:
        rows = found[found.counted == counted]
        everywhere = int((rows[list(groups)].isin(["holds", ""])).all(axis=1).sum())
        at = {"system": "pim-llm", "conventions": counted, "model": names, "weight_bits": _published(ds)}
        here = ds.sel(at)
        known = here.energy_gain.notnull()
        parts.append(
            f"{everywhere} of {len(rows)} conclusions hold in every family counted {counted}, where PIM-LLM is "
            f"{here.speedup.min().item():.2g} to {here.speedup.max().item():.3g} times as fast as TPU-LLM and takes less "
            f"energy at {int((here.energy_gain > 0).sum())} of {int(known.sum())} points"
        )
    kinds = "family" if len(groups) == 1 else "families"
    return Sentence(f"**For {len(names)} models of {len(groups)} {kinds}, {parts[0]}; {parts[1]}.**")


def more_bits(ds: xr.Dataset, groups: dict[str, list[Decoder]]) -> Sentence:
    """Return what the most bits do to rate and energy of PIM-LLM, as a range over all models that memory holds."""
    names: Any = [model.name for members in groups.values() for model in members]
    here = ds.sel(system="pim-llm", model=names).isel(context_len=0)
    few, most = _published(ds), int(ds.weight_bits.max())
    told = []
    for counted in COUNTED:
        rows = here.sel(conventions=counted)
        spent, slow = (
            (rows[v].sel(weight_bits=most) / rows[v].sel(weight_bits=few)).dropna("model")
            for v in ("energy_j", "latency_s")
        )
        told.append(
            f"{spent.min().item():.2g} to {spent.max().item():.2g} times the energy and at most "
            f"{100 * (slow.max().item() - 1):.1g} % more time counted {counted}"
        )
    return Sentence(
        f"At {here.context_len.item()} tokens PIM-LLM needs, with {most} instead of {few} bits, {'; '.join(told)}."
    )
