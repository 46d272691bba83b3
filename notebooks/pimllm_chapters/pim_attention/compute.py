"""Chapter 12, attention in memory: the machines, and all that is computed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_chapters.long_context.compute import CONVENTIONS, over_models
from pimllm_lib import catalog
from pimllm_lib.analysis import remedies, technologies
from pimllm_lib.analysis.endurance import Use, lifetimes
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.core.schema import ATTENTION_OPS, PROJECTION_OPS, annotate
from pimllm_lib.core.units import GIB
from pimllm_lib.engines.writing import token_cells
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary
from pimllm_lib.workload.decoder import Decoder

#: The machine with attention in memory, the recommended one that it is made of, and the best set of chapter 10.
IN_MEMORY, RECOMMENDED, IMPROVED = "pim-attention", "pim-llm-groups", ("row groups", "packed heads", "800 MHz")
#: Machines that are compared -> what each is.
MACHINES = {
    "published": "attention on the array as published", "recommended": "row groups, what chapter 10 recommends",
    "improved": "row groups, packed heads and the faster clock, its best set that computes the same",
    "in memory": "attention in memory, on the recommended machine", "reading alone": "the same where writing is free",
}  # fmt: skip
#: What makes writing free: the least that a part takes.
FREE = {f"kv_pim.technology.cell.{name}": 1e-40 for name in ("write_s", "write_j")} | {
    "kv_pim.technology.verify_j": 0.0
}


@dataclass(frozen=True)
class Setting:
    """What every part of the chapter asks about. row_context: two or three contexts that tables show; gib: off-chip memory;
    technology: what keys and values lie in where only one is shown; lasting: years that a machine is to last.
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
        """Return the machines of `MACHINES`."""
        held = self.in_memory()
        found = {
            "published": self.home("pim-llm"), "recommended": self.home(RECOMMENDED), "in memory": held,
            "reading alone": with_fields(held, FREE),
        }  # fmt: skip
        pairs = {name: (system, decoder) for name, system in found.items()}
        pairs["improved"] = remedies.put(self.home("pim-llm"), decoder, IMPROVED)
        return {name: pairs[name] for name in MACHINES}


#: What `measured` returns.
COSTS = ("tokens_per_s", "tokens_per_j", "area_m2", "kv_area_m2", "attention_j", "write_share", "static_share")


def measured(system: System, model: Decoder, context_len: Sequence[int], conventions: str = CONVENTIONS) -> xr.Dataset:
    """Return `COSTS` of a machine, along context_len: kv_area_m2 of the crossbars of keys and values; attention_j of
    attention products with what they move; write_share, static_share: shares of a token's energy.
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
        static_share=by_component.sel(component=["leakage", "standby"]).sum("component"),
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


#: The published machine counted as it was: no static power, no memory, no output head.
ENGINES_ALONE = "published, engines alone"
#: Slope of the distribution of cells that a needed endurance is for.
SLOPE = 2.0
#: Energies to write a cell that are swept, in joules.
JOULES = tuple(float(x) for x in np.logspace(-15, -6, 28))


def needed(setting: Setting, machines: xr.Dataset) -> xr.Dataset:
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

    def one(decoder: Decoder) -> xr.Dataset:
        years = lifetimes(system=bare, model=decoder, context_len=setting.context_len, uses=setting.uses)
        taken_j = 1 / machines.tokens_per_j.sel(model=decoder.name, drop=True)
        whole = (taken_j - taken_j.sel(machine="reading alone")).sel(machine=["published", "recommended", "improved"])
        alone = [
            1 / measured(each, decoder, setting.context_len, "corrected").tokens_per_j
            for each in (setting.home("pim-llm"), free)
        ]
        engines = (alone[0] - alone[1]).expand_dims(machine=[ENGINES_ALONE])
        against = joining.concat([whole, engines], "machine").rename(machine="against") / token_cells(kv, decoder)
        return xr.Dataset({
            "needed_endurance": setting.lasting / years.worn_years.sel(allocation="ring", drop=True),
            "break_even_write_j": against.where(against > 0),
        })  # fmt: skip

    return annotate(over_models(setting.decoders, one))


def swept(setting: Setting, joules: Sequence[float] = JOULES) -> xr.Dataset:
    """Return efficiency over that of the recommended machine, along cell_write_j, for each context."""
    held = with_fields(setting.in_memory(), {
        "kv_pim.technology.cell.write_j": axis(cell_write_j=list(joules)), "kv_pim.technology.cell.write_pulses": 1,
    })  # fmt: skip

    def one(decoder: Decoder) -> xr.Dataset:
        home = measured(setting.home(RECOMMENDED), decoder, setting.context_len).tokens_per_j
        return xr.Dataset({"efficiency_ratio": measured(held, decoder, setting.context_len).tokens_per_j / home})

    return annotate(over_models(setting.decoders, one))


def cell_j(technology: str) -> float:
    """Return the energy to write a cell of a technology: its pulses, their verification, and erasing it."""
    tech = technologies.named(technology)
    return float(tech.cell.write_pulses * (tech.cell.write_j + tech.verify_j) + tech.erase_j)


def sensitivity(setting: Setting) -> xr.Dataset:
    """Return what one change does to attention in memory: dimensions model, change and context_len.

    changed_tokens_per_s, changed_tokens_per_j, changed_worn_years: over those without the change.
    """
    system = setting.in_memory()

    def results(machine: System, decoder: Decoder) -> xr.Dataset:
        years = lifetimes(system=machine, model=decoder, context_len=setting.context_len, uses=setting.uses[1:2])
        costs = measured(machine, decoder, setting.context_len)[["tokens_per_s", "tokens_per_j"]]
        return costs.assign(worn_years=years.worn_years.sel(allocation="ring", drop=True).squeeze("use", drop=True))

    def one(decoder: Decoder) -> xr.Dataset:
        home, changes = results(system, decoder), _changes(system)
        changed = [results(with_fields(system, change), decoder) for change in changes.values()]
        rows = [(ds / home).assign_attrs(joining.united([ds.attrs, home.attrs])) for ds in changed]
        found = joining.concat(rows, xr.Variable("change", list(changes)))
        return found.rename({str(name): f"changed_{name}" for name in found})

    return annotate(over_models(setting.decoders, one))


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
        **{f"gated tiles draw {100 * share:g} % of their static power": {"pim.gated_share": share} for share in gates},
        **{f"slope of cells {slope:g}": {"kv_pim.technology.weibull_shape": slope} for slope in slopes},
        "every pulse wears like a write": {"kv_pim.technology.cycles_per_write": tech.cell.write_pulses},
        "written before it is read": {"kv_pim.behind": False},
        "a crossbar for each head": {"kv_pim.most_heads": 1},
    }
