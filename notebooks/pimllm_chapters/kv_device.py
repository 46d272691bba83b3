"""Chapter 12, attention in memory: the device that would be needed, and what the results are sensitive to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_chapters.kv_setting import FREE, RECOMMENDED, Setting, measured
from pimllm_chapters.long_setting import over_models
from pimllm_lib import catalog
from pimllm_lib.analysis import technologies
from pimllm_lib.analysis.endurance import lifetimes
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import annotate
from pimllm_lib.engines.writing import token_cells
from pimllm_lib.hardware import System
from pimllm_lib.workload.decoder import Decoder

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
