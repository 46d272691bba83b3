"""Chapter 12, attention in memory: what is computed; tables, figures and sentences are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, remedies, technologies
from pimllm_lib.axes import axis
from pimllm_lib.endurance import Use, lifetimes
from pimllm_lib.errors import BadInput, clip
from pimllm_lib.hardware import System
from pimllm_lib.kv_writing import token_cells
from pimllm_lib.llm import Decoder
from pimllm_lib.metrics import summary
from pimllm_lib.parts import with_field, with_fields
from pimllm_lib.schema import ATTENTION_OPS, PROJECTION_OPS, annotate
from pimllm_lib.system import evaluate

CONVENTIONS = "full-system"
#: The machine with attention in memory, and what of chapter 10 it stands beside.
IN_MEMORY, IMPROVED = "pim-attention", ("row groups", "packed heads", "800 MHz")
#: Machines that are compared -> what each is.
MACHINES = {
    "published": "attention on the array as published", "recommended": "row groups, what chapter 10 recommends",
    "improved": "row groups, packed heads and the faster clock, its best set that computes the same",
    "in memory": "attention in memory, on the recommended machine", "reading alone": "the same where writing is free",
}  # fmt: skip
#: The published machine counted as it was: no static power, no memory, no output head.
ENGINES_ALONE = "published, engines alone"
#: Makes writing free: the least that a part takes.
_FREE = {f"kv_pim.technology.cell.{name}": 1e-40 for name in ("write_s", "write_j")}


@dataclass(frozen=True)
class Setting:
    """What every part of the chapter asks about. row_context: contexts that tables show; gib: off-chip memory;
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
        """Refuse rows at contexts that are not evaluated, an unknown technology, and no time to last."""
        for n in self.row_context:
            if n not in self.context_len:
                raise BadInput(
                    f"row_context has {clip(n)}; wanted contexts of context_len, {clip(list(self.context_len))}"
                )
        technologies.spread(self.technology)
        if not self.lasting > 0:
            raise BadInput(f"lasting is {clip(self.lasting)}; wanted years above 0")

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
        return with_field(catalog.systems[name], "dram.capacity_bytes", self.gib * 2.0**30)

    def in_memory(self, technology: str = "") -> System:
        """Return the machine with attention in a technology at its median values; the setting's own unless named."""
        return technologies.fitted(self.home(IN_MEMORY), catalog.parts[technology or self.technology])

    def machines(self, decoder: Decoder) -> dict[str, tuple[System, Decoder]]:
        """Return the machines of `MACHINES`."""
        held = self.in_memory()
        found = {
            "published": self.home("pim-llm"), "recommended": self.home("pim-llm-groups"), "in memory": held,
            "reading alone": with_fields(held, _FREE),
        }  # fmt: skip
        pairs = {name: (system, decoder) for name, system in found.items()}
        pairs["improved"] = remedies.put(self.home("pim-llm"), decoder, IMPROVED)
        return {name: pairs[name] for name in MACHINES}


#: Energies to write a cell that are swept, in joules.
JOULES = tuple(float(x) for x in np.logspace(-15, -6, 28))


def measured(system: System, model: Decoder, context_len: Sequence[int], conventions: str = CONVENTIONS) -> xr.Dataset:
    """Return rate, efficiency and area of a machine along context_len: of the whole, and of the crossbars of keys and
    values; the energy of attention products with what they move; and the share of energy that writing takes.
    """
    ds = evaluate(system=system, model=model, context_len=list(context_len), conventions=conventions,
                  detail="component", variables=["latency_s", "energy_j", "area_m2"])  # fmt: skip
    one = ds.squeeze(["system", "model"], drop=True)
    found = summary(one)[["tokens_per_s", "tokens_per_j", "area_m2"]]
    written = one.energy_j.sel(component="kv_cells", drop=True).sum("op") / one.energy_j.sum(["op", "component"])
    held = one.area_m2.sel(op=list(ATTENTION_OPS)).sum(["op", "component"])
    attention = one.energy_j.sel(op=list(ATTENTION_OPS)).sum(["op", "component"])
    return annotate(found.assign(write_share=written, kv_area_m2=held, attention_j=attention))


def _over_models(setting: Setting, made: Any) -> xr.Dataset:
    return annotate(xr.concat([made(d).expand_dims(model=[d.name]) for d in setting.decoders], "model"))


def compared(setting: Setting) -> xr.Dataset:
    """Return what the machines of `MACHINES` do: dimensions model, machine and context_len."""

    def one(decoder: Decoder) -> xr.Dataset:
        rows = [measured(*pair, setting.context_len) for pair in setting.machines(decoder).values()]
        return xr.concat(rows, xr.Variable("machine", list(MACHINES)))

    return _over_models(setting, one)


def by_technology(setting: Setting) -> xr.Dataset:
    """Return a row for each technology: dimensions model, technology, estimate, context_len, and use and allocation for
    lifetimes.

    NaN at both ends where no quantity behind a result has a range, see `technologies.BEHIND`.
    """

    def row(decoder: Decoder, name: str) -> xr.Dataset:
        spread = technologies.fitted(setting.home(IN_MEMORY), technologies.spread(name))
        costs = measured(spread, decoder, setting.context_len)
        years = lifetimes(system=spread, model=decoder, context_len=setting.context_len, uses=setting.uses)
        whole = xr.merge([costs, years])
        if "estimate" not in whole.dims:
            whole = whole.expand_dims(estimate=list(technologies.ESTIMATES))
        return _without_false_ends(whole, name)

    def one(decoder: Decoder) -> xr.Dataset:
        names = technologies.names()
        return xr.concat([row(decoder, name) for name in names], xr.Variable("technology", names))

    found = _over_models(setting, one)
    counts = [[technologies.published(name, field) for field in QUANTITIES] for name in technologies.names()]
    found["published_values"] = (("technology", "quantity"), np.array(counts, dtype=float))
    return annotate(_named(found.assign_coords(quantity=list(QUANTITIES)), "technology"))


#: Quantities of which a table says how many values were published.
QUANTITIES = ("endurance", "write_j", "write_s", "retention_s", "area_m2")
_COSTS = ("tokens_per_s", "tokens_per_j", "area_m2", "kv_area_m2", "write_share", "attention_j")


def _without_false_ends(row: xr.Dataset, name: str) -> xr.Dataset:
    """Return a row with NaN for both ends of what has no interval."""
    names = list(technologies.ESTIMATES)
    middle = xr.DataArray([e == "median" for e in names], {"estimate": names})
    behind = {"tokens_per_s": "tokens_per_s", "tokens_per_j": "tokens_per_j", "write_share": "tokens_per_j",
              "attention_j": "tokens_per_j", "area_m2": "area_m2", "kv_area_m2": "area_m2", "worn_years": "years",
              "first_failure_years": "years"}  # fmt: skip
    for variable, result in behind.items():
        value = row[variable] if "estimate" in row[variable].dims else row[variable] + 0 * middle
        row[variable] = value if technologies.has_interval(name, result) else value.where(middle)
    return row


def _named(ds: xr.Dataset, prefix: str) -> xr.Dataset:
    """Return the dataset with its costs named after what they are of, so that several fit into one."""
    return ds.rename({name: f"{prefix}_{name}" for name in _COSTS if name in ds})


def by_bits(setting: Setting, bits: Sequence[int] = (8, 4, 3)) -> xr.Dataset:
    """Return what keys and values of fewer bits do: dimensions model, kv_bits and context_len."""
    system = with_field(setting.in_memory(), "kv_pim.tile.crossbar.weight_bits", axis(kv_bits=list(bits)))

    def one(decoder: Decoder) -> xr.Dataset:
        return measured(system, decoder, setting.context_len)

    return annotate(_named(_over_models(setting, one), "bits"))


def mixed(setting: Setting, cold: Sequence[str], hot_tokens: Sequence[int], hot: str = "sram-cim") -> xr.Dataset:
    """Return what a hot window does: dimensions model, cold, hot_tokens, context_len, and use and allocation."""

    def row(decoder: Decoder, name: str, tokens: int) -> xr.Dataset:
        system = setting.in_memory(name)
        assert system.kv_pim is not None
        if tokens:
            window = replace(system.kv_pim, name=hot, technology=catalog.parts[hot])
            system = with_fields(system, {"kv_pim.hot": window, "kv_pim.hot_tokens": tokens})
        years = lifetimes(system=system, model=decoder, context_len=setting.context_len, uses=setting.uses)
        costs = measured(system, decoder, setting.context_len).assign(worn_years=years.worn_years)
        return costs.rename(worn_years="mixed_worn_years")

    def one(decoder: Decoder) -> xr.Dataset:
        rows = [
            xr.concat(
                [row(decoder, name, tokens) for tokens in hot_tokens], xr.Variable("hot_tokens", list(hot_tokens))
            )
            for name in cold
        ]
        return xr.concat(rows, xr.Variable("cold", list(cold)))

    return annotate(_named(_over_models(setting, one), "mixed"))


def needed(setting: Setting, machines: xr.Dataset, *, shape: float = 2.0) -> xr.Dataset:
    """Return the device that would be needed: dimensions model, context_len, use and against.

    needed_endurance: cycles that half of the cells survive, so that one in a hundred has failed after `lasting` years on a
    ring. break_even_write_j: energy to write a cell at which a token takes as much as on another machine; NaN where
    none is small enough. shape: of the distribution of cells.
    """
    system = setting.in_memory()
    assert system.kv_pim is not None
    unit = replace(system.kv_pim.technology, endurance=1.0, weibull_shape=shape, cycles_per_write=1.0)
    bare = with_fields(system, {"kv_pim.technology": unit, "kv_pim.refreshed": False})
    cells = 2 * number_cells(system.kv_pim)

    def one(decoder: Decoder) -> xr.Dataset:
        years = lifetimes(system=bare, model=decoder, context_len=setting.context_len, uses=setting.uses)
        mine = machines.sel(model=decoder.name)
        written = cells * decoder.n_kv_heads * decoder.head_dim * decoder.n_layers
        taken_j = 1 / mine.tokens_per_j
        whole = (taken_j - taken_j.sel(machine="reading alone")).sel(machine=["published", "recommended", "improved"])
        home, free = (
            measured(system, decoder, setting.context_len, "corrected")
            for system in (setting.home("pim-llm"), with_fields(setting.in_memory(), _FREE))
        )
        alone = (1 / home.tokens_per_j - 1 / free.tokens_per_j).expand_dims(machine=[ENGINES_ALONE])
        against = xr.concat([whole, alone], "machine").rename(machine="against") / written
        return xr.Dataset({
            "needed_endurance": setting.lasting / years.worn_years.sel(allocation="ring", drop=True),
            "break_even_write_j": against.where(against > 0),
        })  # fmt: skip

    return _over_models(setting, one)


def swept(setting: Setting, joules: Sequence[float]) -> xr.Dataset:
    """Return efficiency over that of the recommended machine, along cell_write_j, for each context."""

    def one(decoder: Decoder) -> xr.Dataset:
        held = with_fields(setting.in_memory(), {
            "kv_pim.technology.cell.write_j": axis(cell_write_j=list(joules)), "kv_pim.technology.cell.write_pulses": 1,
        })  # fmt: skip
        home = measured(setting.home("pim-llm-groups"), decoder, setting.context_len).tokens_per_j
        return xr.Dataset({"efficiency_ratio": measured(held, decoder, setting.context_len).tokens_per_j / home})

    return _over_models(setting, one)


def published_way(setting: Setting) -> xr.Dataset:
    """Return what the engines alone have: dimensions model, context_len, and counted or technology.

    engines_tokens_per_s, engines_attention_j: of the hybrids and of attention in memory; engines_write_share: what
    writing takes of a token's energy, by technology.
    """

    def alone(system: System, decoder: Decoder) -> xr.Dataset:
        return measured(system, decoder, setting.context_len, "corrected")

    def one(decoder: Decoder) -> xr.Dataset:
        machines = {"published": setting.home("pim-llm"), "recommended": setting.home("pim-llm-groups"),
                    "in memory": setting.in_memory()}  # fmt: skip
        rows = [alone(system, decoder)[["tokens_per_s", "attention_j"]] for system in machines.values()]
        names = technologies.names()
        shares = [alone(setting.in_memory(name), decoder).write_share for name in names]
        both = xr.concat(rows, xr.Variable("counted", list(machines)))
        return both.rename(tokens_per_s="engines_tokens_per_s", attention_j="engines_attention_j").assign(
            engines_write_share=xr.concat(shares, xr.Variable("technology", names))
        )

    return _over_models(setting, one)


def gating(setting: Setting, shares: Sequence[float]) -> xr.Dataset:
    """Return the efficiency of attention in memory over that of the recommended machine, along gated_share: what tiles
    that are switched off still draw, those of weights too.
    """

    def ratio(decoder: Decoder, share: float) -> xr.DataArray:
        held, home = (
            measured(with_field(system, "pim.gated_share", share), decoder, setting.context_len).tokens_per_j
            for system in (setting.in_memory(), setting.home("pim-llm-groups"))
        )
        found: xr.DataArray = held / home
        return found

    def one(decoder: Decoder) -> xr.Dataset:
        rows = [ratio(decoder, share) for share in shares]
        return xr.Dataset({"gated_efficiency_ratio": xr.concat(rows, xr.Variable("gated_share", list(shares)))})

    return _over_models(setting, one)


def times(setting: Setting) -> xr.Dataset:
    """Return the share of a token's time in memory by what takes it: dimensions model, part and context_len."""

    def one(decoder: Decoder) -> xr.Dataset:
        ds = evaluate(system=setting.in_memory(), model=decoder, context_len=list(setting.context_len),
                      conventions=CONVENTIONS, detail="component", variables=["latency_s"])  # fmt: skip
        spent = ds.latency_s.squeeze(["system", "model"], drop=True)
        whole, bus = spent.sum(["op", "component"]), spent.sel(component="bus").sum("op")
        by_op = spent.drop_sel(component="bus").sum("component")
        parts = {
            "output head": by_op.sel(op="lm_head"), "projections": by_op.sel(op=list(PROJECTION_OPS)).sum("op"),
            "crossbars of keys and values": by_op.sel(op=list(ATTENTION_OPS)).sum("op"), "softmax": by_op.sel(op="softmax"),
            "vectors between the halves": bus,
        }  # fmt: skip
        table = xr.concat([value.drop_vars("op", errors="ignore") for value in parts.values()],
                          xr.Variable("part", list(parts)))  # fmt: skip
        return xr.Dataset({"time_share": table.drop_vars("component", errors="ignore") / whole})

    return _over_models(setting, one)


def gathered(*parts: xr.Dataset, study: xr.Dataset) -> xr.Dataset:
    """Return everything the chapter computes as one dataset."""
    labels: Mapping[str, str] = {
        "machine": "where attention is done", "technology": "memory technology of keys and values",
        "estimate": "ends of the published ranges: worse, median, better",
        "use": "how the machine is used", "allocation": "how slots are given to tokens",
        "quantity": "quantity of a technology",
        "kv_bits": "bits of a key or value", "cold": "technology behind the hot window", "hot_tokens": "tokens in SRAM",
        "against": "machine it breaks even with", "cell_write_j": "energy to write a cell", "case": "what is tried",
        "counted": "machine, its engines alone", "gated_share": "share of static power that a gated tile draws",
        "part": "what takes a token's time",
    }  # fmt: skip
    whole = xr.merge([*parts, study], join="exact", combine_attrs="drop_conflicts", compat="no_conflicts")
    for name, said in labels.items():
        if name in whole.coords:
            whole[name].attrs["long_name"] = said
    whole["cell_write_j"].attrs["units"] = "J"
    return annotate(whole)
