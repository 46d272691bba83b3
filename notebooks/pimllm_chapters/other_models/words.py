"""Chapter 14, other models: its tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.other_models.compute import COUNTED, counterparts, named, published_bits
from pimllm_lib import catalog
from pimllm_lib.report.box import Box
from pimllm_lib.report.numbers import known, span
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence
from pimllm_lib.workload.decoder import Decoder, kinds
from pimllm_lib.workload.shapes import parameter_count


def verdict_table(found: pd.DataFrame) -> Table:
    """Return the verdicts for reading, a conclusion named once."""
    again = found.conclusion.duplicated()
    once = {name: found[name].mask(again, "") for name in ("conclusion", "where")}
    return Table(found.assign(**once), long=True, title="Verdicts by model")


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
                "KV heads": _each(model, lambda kind: f"{kind.n_kv_heads} of {kind.n_heads}"),
                "experts": _each(model, lambda k: f"{k.experts_per_token} of {k.n_experts}" if k.n_experts > 1 else ""),
                "window": _each(model, lambda kind: str(kind.window) if np.isfinite(kind.window) else ""),
                "other mixers": _each(model, lambda kind: kind.mixer if kind.mixer != "attention" else ""),
                "source": entry.get("source", "user"),
                "where": entry.get("where", ""),
            }
        )
    return Table(rows, long=True, title="Models by family, with what sets them apart")


def _each(model: Decoder, said: Callable[[Decoder], str]) -> str:
    """Return what is said of each kind of a model's blocks, once."""
    return ", ".join(dict.fromkeys(filter(None, map(said, kinds(model)))))


_COLUMNS = {
    "TPU-LLM tokens/s": (0, "tokens_per_s"), "PIM-LLM tokens/s": (1, "tokens_per_s"),
    "TPU-LLM tokens/J": (0, "tokens_per_j"), "PIM-LLM tokens/J": (1, "tokens_per_j"),
    "tiles": (1, "tiles"), "cache": (1, "kv_bytes"),
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
                now, was = (ds[variable].isel(system=system).sel(conventions=counted) for ds in (after, before))
                ratio = float(now) / float(was or np.nan)
                row[column] = known(ratio, ".3g", unit=" x")
            rows.append(row)
    return Table(rows, long=True, title="What each change alone moves, as factors")


def _changes(here: xr.Dataset, groups: dict[str, list[Decoder]]) -> Iterator[tuple[str, xr.Dataset, xr.Dataset]]:
    """Yield each change in words with the results before and after it."""
    bits = published_bits(here)
    for what, (without, one) in counterparts(groups).items():
        found = here.sel(weight_bits=bits)
        yield f"{one.name}, against {what}", found.sel(model=without.name), found.sel(model=one.name)
    most = int(here.weight_bits.max())
    sizes: Any = {model.name: parameter_count(model) for members in groups.values() for model in members}
    full = here.speedup.isel(system=-1).sel(model=list(sizes), weight_bits=most).notnull().all("conventions")
    if most > bits and full.any():
        held = here.sel(model=max(full.model.values[full.values], key=sizes.get))
        yield f"{held.model.item()}, {most} against {bits} bits", held.sel(weight_bits=bits), held.sel(weight_bits=most)


def box(ds: xr.Dataset, groups: dict[str, list[Decoder]], found: pd.DataFrame) -> Box:
    """Return the box of the page: conclusions that hold in every family, and the range of both ratios."""
    everywhere = []
    for counted in COUNTED:
        rows = found[found.counted == counted]
        everywhere.append(int((rows[list(groups)].isin(["holds", ""])).all(axis=1).sum()))
    here = ds.isel(system=-1).sel(conventions="full-system", model=named(groups), weight_bits=published_bits(ds))
    won, speedup = int((here.energy_gain > 0).sum()), span(here.speedup, ".2g")
    return Box(
        question="Are the models of the study special?",
        answer=f"Of {len(rows)} conclusions {everywhere[0]} hold in all {len(groups)} families put right, {everywhere[1]} "
        f"as [whole machines](17-standing-power.ipynb), which are {speedup} times as fast, with less energy at {won} of "
        f"{int(here.energy_gain.count())} points.",
        sure="Shapes are the models' own; their quality is not judged.",
        decides="The output head, static power, and windows, which bound attention.",
    )


def more_bits(ds: xr.Dataset, groups: dict[str, list[Decoder]]) -> Sentence:
    """Return what the most bits do to rate and energy of PIM-LLM, as a range over all models that memory holds."""
    here = ds.sel(model=named(groups)).isel(context_len=0, system=-1)
    few, most = published_bits(ds), int(ds.weight_bits.max())
    told = []
    for counted in COUNTED:
        rows = here[["energy_j", "latency_s"]].sel(conventions=counted)
        more = rows.sel(weight_bits=most) / rows.sel(weight_bits=few)
        told.append(
            f"{span(more.energy_j, '.2g')} times the energy and at most {100 * (more.latency_s.max().item() - 1):.1g} % "
            f"more time counted {counted}"
        )
    return Sentence(
        f"At {here.context_len.item()} tokens PIM-LLM needs, with {most} instead of {few} bits, {'; '.join(told)}."
    )
