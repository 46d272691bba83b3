"""Chapter 10, long contexts: its tables and sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.design_space import MM2
from pimllm_chapters.long_setting import Setting
from pimllm_lib.analysis import remedies
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import spaced

#: Beyond this nothing is gained that a reader could see.
_EQUAL = 0.005


def ranking(found: xr.Dataset, models: int = 2) -> Table:
    """Return what each remedy does to the first so many models, best first: factors on the rate, what it takes at the
    paper's context, and its place by rate gained per mm² and per W.
    """
    return Table(
        pd.DataFrame([row for i in range(min(models, found.sizes["model"])) for row in _ranked(found.isel(model=i))]),
        long=True,
    )


def _ranked(mine: xr.Dataset) -> list[dict[str, str]]:
    at, far = mine.context_len.values
    gain = mine.tokens_per_s / mine.tokens_per_s.sel(remedy="none")
    here = mine.sel(machine="published", context_len=at).drop_sel(remedy="none")
    first = gain.sel(machine="published", context_len=at)
    paid = {"mm²": here.more_area_m2 * MM2, "W": here.more_power_w}
    places = {unit: _places(here.more_tokens_per_s, cost) for unit, cost in paid.items()}

    def row(name: str) -> dict[str, str]:
        factors = {
            f"rate at {at}": first.sel(remedy=name),
            f"at {far}": gain.sel(remedy=name, machine="published", context_len=far),
            f"on the improved machine, at {far}": gain.sel(remedy=name, machine="improved", context_len=far),
        }
        told = {"model": mine.model.item(), "remedy": name, "computes the same": "no"}
        told |= {"computes the same": "yes"} if remedies.REMEDIES[name].exact else {}
        told |= {title: _times(factor.item()) for title, factor in factors.items()}
        for unit, cost in paid.items():
            told[f"{unit} more, at {at}"] = _signed(cost.sel(remedy=name).item())
            told[f"place by tokens/s per {unit}"] = places[unit].get(name, "")
        return told

    return [row(name) for name in sorted(remedies.REMEDIES, key=lambda name: -first.sel(remedy=name).item())]


def _places(gained: xr.DataArray, paid: xr.DataArray) -> dict[str, str]:
    """Return the place of each remedy that gains something by what it gains for each unit paid: 1 for those that pay
    none.
    """
    worth = {
        str(name): gain / cost if cost > 0 else np.inf
        for name, gain, cost in zip(gained.remedy.values, gained.values, paid.values, strict=True)
        if gain > _EQUAL
    }
    return {name: f"{1 + sum(other > value for other in worth.values())}" for name, value in worth.items()}


def _times(factor: float) -> str:
    return "part of it" if np.isnan(factor) else f"{factor:.2f} x"


def _signed(value: float) -> str:
    if value == 0:
        return "0"
    return ("+" if value > 0 else "-") + spaced(abs(value))


def stack_table(stacked: xr.Dataset, setting: Setting) -> Table:
    """Return rates with remedies put on one after another, and how near the floor they are, at both contexts of the
    rankings.
    """
    rows = []
    for name in map(str, stacked.put_on.values):
        row = {"with": name if name == "none" else f"+ {name}"}
        for model in map(str, stacked.model.values):
            for context in (setting.at, setting.far):
                here = stacked.sel(put_on=name, model=model, context_len=context)
                share = here.stack_tokens_per_s.item() / here.stack_floor_tokens_per_s.item()
                row[f"{model}, {context}"] = f"{here.stack_tokens_per_s.item():.3g} ({100 * share:.0f} %)"
        rows.append(row)
    return Table(pd.DataFrame(rows), long=True)


def design_table(designs: xr.Dataset, *, near: int) -> Table:
    """Return the smallest designs that reach the target, the most efficient first."""
    models = [str(name) for name in designs.model.values]
    head = {"design": "rate to reach", "SRAM left": ""}
    rows = [head | {m: f"{designs.target_tokens_per_s.sel(model=m).item():.3g}" for m in models}]
    for i, name in enumerate(map(str, designs.design.values)):
        here = designs.isel(design=i)
        row = {"design": name, "SRAM left": f"{100 * here.sram_share.item():.0f} %"}
        for m in models:
            one = here.sel(model=m)
            row[m] = f"{one.design_tokens_per_s.item():.3g} ({one.own_tokens_per_s.item():.3g} at {near})"
        rows.append(row | {"tokens/J, geometric mean": f"{float(np.exp(np.log(here.design_tokens_per_j).mean())):.3g}"})
    return Table(pd.DataFrame(rows).fillna(""), long=True)


def answer_table(told: xr.Dataset) -> Table:
    """Return time to the first token, time and energy of a whole answer, by machine and by who reads the prompt."""
    rows = []
    for model in map(str, told.model.values):
        for machine in map(str, told.machine.values):
            for reader in map(str, told.reader.values):
                here = told.sel(model=model, machine=machine, reader=reader)
                rows.append({
                    "model": model, "machine": machine, "prompt read on": reader,
                    "first token, s": f"{here.time_to_first_token_s.item():.3g}",
                    "answer, s": f"{here.answer_s.item():.3g}", "answer, J": spaced(here.answer_j.item()),
                })  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)
