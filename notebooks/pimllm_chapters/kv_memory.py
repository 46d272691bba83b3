"""Chapter 12, attention in memory: machines, technologies, bits, hot windows, and what takes time and energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_chapters.kv_setting import IN_MEMORY, MACHINES, RECOMMENDED, Setting, measured, named
from pimllm_chapters.long_setting import CONVENTIONS, over_models
from pimllm_lib.analysis import technologies
from pimllm_lib.analysis.endurance import lifetimes
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.core.schema import ATTENTION_OPS, PROJECTION_OPS, annotate
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.workload.decoder import Decoder

#: Quantities of which a table says how many values were published.
QUANTITIES = ("endurance", "array_endurance", "write_j", "write_s", "retention_s", "area_m2")
_LASTING = ["first_failure_years", "worn_years"]
#: What has an interval where published ranges are behind it.
_BEHIND = {
    "tokens_per_s": "tokens_per_s", "tokens_per_j": "tokens_per_j", "write_share": "tokens_per_j",
    "static_share": "tokens_per_j", "attention_j": "tokens_per_j", "area_m2": "area_m2", "kv_area_m2": "area_m2",
}  # fmt: skip


def compared(setting: Setting) -> xr.Dataset:
    """Return what the machines of `MACHINES` do: dimensions model, machine and context_len."""

    def one(decoder: Decoder) -> xr.Dataset:
        rows = [measured(*pair, setting.context_len) for pair in setting.machines(decoder).values()]
        return joining.concat(rows, xr.Variable("machine", list(MACHINES)))

    return annotate(over_models(setting.decoders, one))


def by_technology(setting: Setting) -> xr.Dataset:
    """Return a row for each technology: dimensions model, technology, estimate, context_len, and population, use and
    allocation for lifetimes.

    NaN at both ends where no published range is behind a result, and where a population has no endurance.
    """

    def row(decoder: Decoder, name: str) -> xr.Dataset:
        spread = technologies.fitted(setting.home(IN_MEMORY), technologies.spread(name))
        costs = measured(spread, decoder, setting.context_len)
        for variable, result in _BEHIND.items():
            costs[variable] = _ended(costs[variable], technologies.has_interval(name, technologies.BEHIND[result]))
        each = [_years(setting, decoder, name, population) for population in technologies.POPULATIONS]
        years = joining.concat([ds[_LASTING] for ds in each], xr.Variable("population", list(technologies.POPULATIONS)))
        return joining.merge([costs, years]).assign(cell_writes=each[0].cell_writes)

    def one(decoder: Decoder) -> xr.Dataset:
        names = technologies.names()
        return joining.concat([row(decoder, name) for name in names], xr.Variable("technology", names))

    found = over_models(setting.decoders, one)
    counts = [[technologies.published(name, field) for field in QUANTITIES] for name in technologies.names()]
    found["published_values"] = (("technology", "quantity"), np.array(counts, dtype=float))
    return annotate(named(found.assign_coords(quantity=list(QUANTITIES)), "technology"))


def _years(setting: Setting, decoder: Decoder, name: str, population: str) -> xr.Dataset:
    asked: dict[str, Any] = {"model": decoder, "context_len": setting.context_len, "uses": setting.uses}
    field = technologies.POPULATIONS[population]
    try:
        spread = technologies.spread(name, population)
    except BadInput:  # no array of it was published
        none = lifetimes(system=technologies.fitted(setting.home(IN_MEMORY), technologies.spread(name)), **asked)
        return none.assign({name: none[name] * np.nan for name in _LASTING})
    years = lifetimes(system=technologies.fitted(setting.home(IN_MEMORY), spread), **asked)
    spanned = technologies.has_interval(name, (field,))
    return years.assign({name: _ended(years[name], spanned) for name in _LASTING})


def _ended(value: xr.DataArray, spanned: bool) -> xr.DataArray:
    """Return a value along estimate, with NaN at both ends where it is not spanned."""
    names = list(technologies.ESTIMATES)
    middle = xr.DataArray([name == "median" for name in names], {"estimate": names})
    wide = value if "estimate" in value.dims else value.expand_dims(estimate=names)
    return wide if spanned else wide.where(middle)


def by_bits(setting: Setting, bits: Sequence[int] = (8, 4, 3)) -> xr.Dataset:
    """Return what keys and values of fewer bits do: dimensions model, kv_bits and context_len."""
    system = with_field(setting.in_memory(), "kv_pim.tile.crossbar.weight_bits", axis(kv_bits=list(bits)))
    found = over_models(setting.decoders, lambda decoder: measured(system, decoder, setting.context_len))
    return annotate(named(found, "bits"))


def mixed(setting: Setting, cold: Sequence[str], hot_tokens: Sequence[int], hot: str = "sram-cim") -> xr.Dataset:
    """Return what a hot window does: dimensions model, cold, hot_tokens, context_len, and use and allocation."""
    window = technologies.named(hot)

    def row(decoder: Decoder, name: str, tokens: int) -> xr.Dataset:
        system = setting.in_memory(name)
        assert system.kv_pim is not None
        if tokens:
            latest = replace(system.kv_pim, name=hot, technology=window)
            system = with_fields(system, {"kv_pim.hot": latest, "kv_pim.hot_tokens": tokens})
        years = lifetimes(system=system, model=decoder, context_len=setting.context_len, uses=setting.uses)
        return measured(system, decoder, setting.context_len).assign(mixed_worn_years=years.worn_years)

    def one(decoder: Decoder) -> xr.Dataset:
        rows = [
            joining.concat([row(decoder, name, n) for n in hot_tokens], xr.Variable("hot_tokens", list(hot_tokens)))
            for name in cold
        ]
        return joining.concat(rows, xr.Variable("cold", list(cold)))

    return annotate(named(over_models(setting.decoders, one), "mixed"))


def published_way(setting: Setting) -> xr.Dataset:
    """Return what the engines alone have: dimensions model, context_len, and counted or technology.

    engines_tokens_per_s, engines_attention_j: of the hybrids and of attention in memory; engines_write_share: what
    writing takes of a token's energy, by technology.
    """

    def alone(system: System, decoder: Decoder) -> xr.Dataset:
        return measured(system, decoder, setting.context_len, "corrected")

    def one(decoder: Decoder) -> xr.Dataset:
        machines = {"published": setting.home("pim-llm"), "recommended": setting.home(RECOMMENDED),
                    "in memory": setting.in_memory()}  # fmt: skip
        rows = [alone(system, decoder)[["tokens_per_s", "attention_j"]] for system in machines.values()]
        shares = [alone(setting.in_memory(name), decoder).write_share for name in technologies.names()]
        both = joining.concat(rows, xr.Variable("counted", list(machines)))
        renamed = both.rename(tokens_per_s="engines_tokens_per_s", attention_j="engines_attention_j")
        return renamed.assign(
            engines_write_share=joining.concat(shares, xr.Variable("technology", technologies.names()))
        )

    return annotate(over_models(setting.decoders, one))


def times(setting: Setting) -> xr.Dataset:
    """Return the share of a token's time in memory by what takes it: dimensions model, part and context_len."""

    def one(decoder: Decoder) -> xr.Dataset:
        ds = evaluate(system=setting.in_memory(), model=decoder, context_len=list(setting.context_len),
                      conventions=CONVENTIONS, detail="component", variables=["latency_s"])  # fmt: skip
        spent = ds.latency_s.squeeze(["system", "model"], drop=True)
        bus, by_op = spent.sel(component="bus", drop=True).sum("op"), spent.drop_sel(component="bus").sum("component")
        parts = {
            "output head": by_op.sel(op="lm_head", drop=True), "projections": by_op.sel(op=list(PROJECTION_OPS)).sum("op"),
            "crossbars of keys and values": by_op.sel(op=list(ATTENTION_OPS)).sum("op"),
            "vectors between the halves": bus,
        }  # fmt: skip
        whole = spent.sum(["op", "component"])
        parts["everything else"] = whole - sum(parts.values())
        return xr.Dataset({"time_share": joining.concat(parts.values(), xr.Variable("part", list(parts))) / whole})

    return annotate(over_models(setting.decoders, one))


def gathered(*parts: xr.Dataset, study: xr.Dataset) -> xr.Dataset:
    """Return everything the chapter computes as one dataset."""
    labels: Mapping[str, str] = {
        "machine": "where attention is done", "technology": "memory technology of keys and values",
        "estimate": "every quantity at the worse end of its range, at its median, at the better end",
        "population": "whose endurances", "use": "how the machine is used", "allocation": "how slots are given to tokens",
        "quantity": "quantity of a technology", "kv_bits": "bits of a key or value", "part": "what takes a token's time",
        "cold": "technology behind the hot window", "hot_tokens": "tokens in SRAM", "against": "machine it breaks even with",
        "cell_write_j": "energy to write a cell", "case": "what is tried", "counted": "machine, its engines alone",
        "change": "what is changed",
    }  # fmt: skip
    whole = joining.merge([*parts, study], join="exact", compat="no_conflicts")
    for name, said in labels.items():
        if name in whole.coords:
            whole[name].attrs["long_name"] = said
    whole["cell_write_j"].attrs["units"] = "J"
    return annotate(whole)
