"""Chapter 12, attention in memory: the machines, and all that is computed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_chapters.long_context.compute import CONVENTIONS, along, over_models
from pimllm_lib import catalog
from pimllm_lib.analysis import remedies, technologies
from pimllm_lib.analysis.endurance import Use, lifetimes
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.core.schema import ATTENTION_OPS, ENERGY_PARTS, PROJECTION_OPS, annotate
from pimllm_lib.core.units import GIB
from pimllm_lib.engines.writing import token_cells
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary
from pimllm_lib.workload.decoder import Decoder

#: The machine with attention in memory, the recommended one that it is made of, and the best set of chapter 10.
IN_MEMORY, RECOMMENDED, IMPROVED = "pim-attention", "pim-llm-groups", ("row groups", "packed heads", "800 MHz")
#: What makes writing free: the least that a part takes.
FREE = {f"kv_pim.technology.cell.{name}": 1e-40 for name in ("write_s", "write_j")} | {
    "kv_pim.technology.verify_j": 0.0
}


@dataclass(frozen=True)
class Setting:
    """What every part of the chapter asks about.

    row_context: two or three contexts that tables show; gib: off-chip memory; technology: what keys and values lie in where
    only one is shown; lasting: years that a machine is to last.
    """

    models: tuple[str, ...]
    context_len: tuple[int, ...]
    row_context: tuple[int, ...]
    technology: str
    gib: float
    uses: tuple[Use, ...]
    lasting: float

    def __post_init__(self) -> None:
        """Refuse no models, rows at contexts that are not evaluated, an unknown technology, and no time to last."""
        if not self.models:
            raise BadInput("models are none; wanted at least one")
        for n in self.row_context:
            if n not in self.context_len:
                raise BadInput(
                    f"row_context has {clip(n)}; wanted contexts of context_len, {clip(list(self.context_len))}"
                )
        if not 2 <= len(set(self.row_context)) <= 3 or list(self.row_context) != sorted(set(self.row_context)):
            raise BadInput(f"row_context is {clip(list(self.row_context))}; wanted two or three contexts that grow")
        technologies.named(self.technology)
        for name in ("lasting", "gib"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} is {clip(getattr(self, name))}; wanted a number above 0")

    @property
    def shown(self) -> dict[str, list[int]]:
        """The contexts of the tables, to select from a result."""
        return {"context_len": list(self.row_context)}

    @property
    def decoders(self) -> list[Decoder]:
        """The models, from the catalog or from files."""
        return [catalog.model(name) for name in self.models]

    def home(self, name: str) -> System:
        """Return a catalog machine with so much off-chip memory."""
        return with_field(catalog.systems[name], "dram.capacity_bytes", self.gib * GIB)

    def in_memory(self, technology: str = "") -> System:
        """Return the machine with attention in a technology at its median values; the setting's own unless named."""
        return technologies.fitted(self.home(IN_MEMORY), technologies.named(technology or self.technology))

    def machines(self, decoder: Decoder) -> dict[str, tuple[System, Decoder]]:
        """Return the machines compared: attention on the array as published, and in memory.

        recommended: row groups, what chapter 10 recommends; improved: row groups, packed heads and the faster clock, its
        best set that computes the same; in memory: on the recommended machine; reading alone: where writing is free.
        """
        home, held = self.home("pim-llm"), self.in_memory()
        return {
            "published": (home, decoder), "recommended": (self.home(RECOMMENDED), decoder),
            "improved": remedies.put(home, decoder, IMPROVED), "in memory": (held, decoder),
            "reading alone": (with_fields(held, FREE), decoder),
        }  # fmt: skip


#: What `measured` returns.
COSTS = ("tokens_per_s", "tokens_per_j", "area_m2", "kv_area_m2", "attention_j", "write_share", "static_share")


def measured(system: System, model: Decoder, context_len: Sequence[int], conventions: str = CONVENTIONS) -> xr.Dataset:
    """Return `COSTS` of a machine, along context_len.

    kv_area_m2: of the crossbars of keys and values; attention_j: of attention products with what they move; write_share,
    static_share: shares of a token's energy.
    """
    ds = evaluate(system=system, model=model, context_len=list(context_len), conventions=conventions,
                  detail="component", variables=["latency_s", "energy_j", "area_m2"])  # fmt: skip
    one = ds.squeeze(["system", "model"], drop=True)
    found, whole = summary(one)[["tokens_per_s", "tokens_per_j", "area_m2"]], one.energy_j.sum(["op", "component"])
    attention = one[["energy_j", "area_m2"]].sel(op=list(ATTENTION_OPS)).sum(["op", "component"])
    by_component = one.energy_j.sum("op") / whole
    return annotate(found.assign(
        kv_area_m2=attention.area_m2, attention_j=attention.energy_j,
        write_share=by_component.sel(component="kv_cells", drop=True),
        static_share=by_component.sel(component=list(ENERGY_PARTS["static"])).sum("component"),
    ))  # fmt: skip


def named(ds: xr.Dataset, prefix: str) -> xr.Dataset:
    """Return a dataset with its costs named after what they are of, so that several fit into one."""
    return ds.rename({name: f"{prefix}_{name}" for name in COSTS if name in ds})


#: Quantities of which a table says how many values were published.
QUANTITIES = ("endurance", "array_endurance", "write_j", "write_s", "retention_s", "area_m2")
_LASTING = ["first_failure_years", "worn_years"]
#: What has an interval where published ranges are behind it.
_BEHIND = {
    "tokens_per_s": "tokens_per_s", "tokens_per_j": "tokens_per_j", "write_share": "tokens_per_j",
    "static_share": "tokens_per_j", "attention_j": "tokens_per_j", "area_m2": "area_m2", "kv_area_m2": "area_m2",
}  # fmt: skip


@over_models
def compared(setting: Setting, decoder: Decoder) -> xr.Dataset:
    """Return what the machines of the setting do: dimensions model, machine and context_len."""
    machines = setting.machines(decoder)
    return along("machine", {name: measured(*pair, setting.context_len) for name, pair in machines.items()})


@over_models
def by_technology(setting: Setting, decoder: Decoder) -> xr.Dataset:
    """Return a row for each technology.

    Dimensions: model, technology, estimate, context_len, and population, use and allocation for lifetimes. NaN at both ends
    where no published range is behind a result, and where a population has no endurance.
    """

    def row(name: str) -> xr.Dataset:
        spread = technologies.fitted(setting.home(IN_MEMORY), technologies.spread(name))
        costs = measured(spread, decoder, setting.context_len)
        for variable, result in _BEHIND.items():
            costs[variable] = _ended(costs[variable], technologies.has_interval(name, technologies.BEHIND[result]))
        each = {population: _years(setting, decoder, name, population) for population in technologies.POPULATIONS}
        years = along("population", {population: ds[_LASTING] for population, ds in each.items()})
        return joining.merge([costs, years]).assign(cell_writes=next(iter(each.values())).cell_writes)

    return named(along("technology", {name: row(name) for name in technologies.names()}), "technology")


def published_values() -> xr.Dataset:
    """Return how many values were published of each quantity of each technology."""
    names = technologies.names()
    counts = np.array([[technologies.published(name, field) for field in QUANTITIES] for name in names], dtype=float)
    dims = ("technology", "quantity")
    return xr.Dataset({"published_values": (dims, counts)}, {"technology": names, "quantity": list(QUANTITIES)})


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


@over_models
def by_bits(setting: Setting, decoder: Decoder, bits: Sequence[int] = (8, 4, 3)) -> xr.Dataset:
    """Return what keys and values of fewer bits do: dimensions model, kv_bits and context_len."""
    system = with_field(setting.in_memory(), "kv_pim.tile.crossbar.weight_bits", axis(kv_bits=list(bits)))
    return named(measured(system, decoder, setting.context_len), "bits")


@over_models
def mixed(
    setting: Setting, decoder: Decoder, cold: Sequence[str], hot_tokens: Sequence[int], hot: str = "sram-cim"
) -> xr.Dataset:
    """Return what a hot window does: dimensions model, cold, hot_tokens, context_len, and use and allocation."""
    window = technologies.named(hot)

    def row(name: str, tokens: int) -> xr.Dataset:
        system = setting.in_memory(name)
        assert system.kv_pim is not None
        if tokens:
            latest = replace(system.kv_pim, name=hot, technology=window)
            system = with_fields(system, {"kv_pim.hot": latest, "kv_pim.hot_tokens": tokens})
        years = lifetimes(system=system, model=decoder, context_len=setting.context_len, uses=setting.uses)
        return measured(system, decoder, setting.context_len).assign(mixed_worn_years=years.worn_years)

    found = {name: along("hot_tokens", {n: row(name, n) for n in hot_tokens}) for name in cold}
    return named(along("cold", found), "mixed")


@over_models
def published_way(setting: Setting, decoder: Decoder) -> xr.Dataset:
    """Return what the engines alone have: dimensions model, context_len, and counted or technology.

    engines_tokens_per_s, engines_attention_j: of the hybrids and of attention in memory; engines_write_share: what
    writing takes of a token's energy, by technology.
    """

    def alone(system: System) -> xr.Dataset:
        return measured(system, decoder, setting.context_len, "corrected")

    machines = {"published": setting.home("pim-llm"), "recommended": setting.home(RECOMMENDED),
                "in memory": setting.in_memory()}  # fmt: skip
    both = along("counted", {name: alone(system)[["tokens_per_s", "attention_j"]] for name, system in machines.items()})
    shares = {name: alone(setting.in_memory(name)).write_share for name in technologies.names()}
    renamed = both.rename(tokens_per_s="engines_tokens_per_s", attention_j="engines_attention_j")
    return renamed.assign(engines_write_share=along("technology", shares))


@over_models
def times(setting: Setting, decoder: Decoder) -> xr.Dataset:
    """Return the share of a token's time in memory by what takes it: dimensions model, part and context_len."""
    ds = evaluate(system=setting.in_memory(), model=decoder, context_len=list(setting.context_len),
                  conventions=CONVENTIONS, detail="component", variables=["latency_s"])  # fmt: skip
    spent = ds.latency_s.squeeze(["system", "model"], drop=True)
    bus, by_op = spent.sel(component="bus", drop=True).sum("op"), spent.drop_sel(component="bus").sum("component")
    parts = {
        "output head": by_op.sel(op="lm_head", drop=True), "projections": by_op.sel(op=list(PROJECTION_OPS)).sum("op"),
        "crossbars of keys and values": by_op.sel(op=list(ATTENTION_OPS)).sum("op"), "vectors between the halves": bus,
    }  # fmt: skip
    whole = spent.sum(["op", "component"])
    parts["everything else"] = whole - sum(parts.values())
    return xr.Dataset({"time_share": along("part", parts) / whole})


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
    whole = joining.merge([*parts, study, published_values()], join="exact", compat="no_conflicts")
    for name, said in labels.items():
        if name in whole.coords:
            whole[name].attrs["long_name"] = said
    whole["cell_write_j"].attrs["units"] = "J"
    return annotate(whole)


#: The published machine counted as it was: no static power, no memory, no output head.
ENGINES_ALONE = "published, engines alone"
#: Slope of the distribution of cells that a needed endurance is for.
SLOPE = 2.0
#: Energies to write a cell that are swept, in joules.
JOULES = tuple(float(x) for x in np.logspace(-15, -6, 28))


@over_models
def needed(setting: Setting, decoder: Decoder, machines: xr.Dataset) -> xr.Dataset:
    """Return the device that would be needed: dimensions model, context_len, use and against.

    needed_endurance: cycles that half of the cells survive, so that one in a hundred has failed after `lasting` years
    on a ring, for the slope `SLOPE`. break_even_write_j: energy to write a cell at which a token takes as much as on
    another machine; NaN where none is small enough.
    """
    system = setting.in_memory()
    assert system.kv_pim is not None
    kv, free = system.kv_pim, with_fields(system, FREE)
    unit = replace(kv.technology, endurance=1.0, weibull_shape=SLOPE, cycles_per_write=1.0)
    bare = with_fields(system, {"kv_pim.technology": unit, "kv_pim.refreshed": False})
    years = lifetimes(system=bare, model=decoder, context_len=setting.context_len, uses=setting.uses)
    taken_j = 1 / machines.tokens_per_j.sel(model=decoder.name, drop=True)
    whole = (taken_j - taken_j.sel(machine="reading alone")).sel(machine=["published", "recommended", "improved"])
    held, bought = (
        1 / measured(each, decoder, setting.context_len, "corrected").tokens_per_j
        for each in (setting.home("pim-llm"), free)
    )
    engines = (held - bought).expand_dims(machine=[ENGINES_ALONE])
    against = joining.concat([whole, engines], "machine").rename(machine="against") / token_cells(kv, decoder)
    return xr.Dataset({
        "needed_endurance": setting.lasting / years.worn_years.sel(allocation="ring", drop=True),
        "break_even_write_j": against.where(against > 0),
    })  # fmt: skip


@over_models
def swept(setting: Setting, decoder: Decoder, joules: Sequence[float] = JOULES) -> xr.Dataset:
    """Return efficiency over that of the recommended machine, along cell_write_j, for each context."""
    held = with_fields(setting.in_memory(), {
        "kv_pim.technology.cell.write_j": axis(cell_write_j=list(joules)), "kv_pim.technology.cell.write_pulses": 1,
    })  # fmt: skip
    home = measured(setting.home(RECOMMENDED), decoder, setting.context_len).tokens_per_j
    return xr.Dataset({"efficiency_ratio": measured(held, decoder, setting.context_len).tokens_per_j / home})


def cell_j(technology: str) -> float:
    """Return the energy to write a cell of a technology: its pulses, their verification, and erasing it."""
    tech = technologies.named(technology)
    return float(tech.cell.write_pulses * (tech.cell.write_j + tech.verify_j) + tech.erase_j)


@over_models
def sensitivity(setting: Setting, decoder: Decoder) -> xr.Dataset:
    """Return what one change does to attention in memory: dimensions model, change and context_len.

    changed_tokens_per_s, changed_tokens_per_j, changed_worn_years: over those without the change.
    """

    def results(machine: System) -> xr.Dataset:
        years = lifetimes(system=machine, model=decoder, context_len=setting.context_len, uses=setting.uses[1:2])
        costs = measured(machine, decoder, setting.context_len)[["tokens_per_s", "tokens_per_j"]]
        return costs.assign(worn_years=years.worn_years.sel(allocation="ring", drop=True).squeeze("use", drop=True))

    system = setting.in_memory()
    home = results(system)
    changed = {name: results(with_fields(system, change)) for name, change in _changes(system).items()}
    found = along("change", {
        name: (ds / home).assign_attrs(joining.united([ds.attrs, home.attrs])) for name, ds in changed.items()
    })  # fmt: skip
    return found.rename({str(name): f"changed_{name}" for name in found})


def _changes(system: System) -> dict[str, Mapping[str, Any]]:
    """Return the changes that are tried: constants at the ends of their ranges, and choices of the design."""
    assert system.kv_pim is not None
    assert system.bus is not None
    tech = system.kv_pim.technology
    table = catalog.parts.entries.get(tech.name, {})
    slopes = table.get("weibull_shape", {}).get("range", [])
    gates = catalog.parts.entries["pim-published"]["gated_share"]["range"]
    return {
        "a bus twice as fast": {"bus.rate_bps": 2 * system.bus.rate_bps},
        **{
            f"gated tiles draw {100 * share:g} % of their static power": dict.fromkeys(
                ("pim.gated_share", "kv_pim.gated_share"), share
            )
            for share in gates
        },
        **{f"slope of cells {slope:g}": {"kv_pim.technology.weibull_shape": slope} for slope in slopes},
        "every pulse wears like a write": {"kv_pim.technology.cycles_per_write": tech.cell.write_pulses},
        "written before it is read": {"kv_pim.behind": False},
        "a crossbar for each head": {"kv_pim.most_heads": 1},
    }
