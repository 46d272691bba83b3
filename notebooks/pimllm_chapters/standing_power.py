"""Chapter 17, standing power: its figures, tables and sentences."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis.standing import CELLS, with_cells
from pimllm_lib.core import joining
from pimllm_lib.core.parts import field_of, with_fields
from pimllm_lib.hardware import System
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, legend, log_ticks, note, panels
from pimllm_lib.report.numbers import number, percent
from pimllm_lib.report.tables import Table, crossed, points
from pimllm_lib.report.text import Sentence, escaped

COLOURS = {"hp": "#D55E00", "lop": "#E69F00", "lstp": "#0072B2"}
#: Tiles that wake together -> how that is called.
WAKING = {"product": "a product at a time", "block": "a block at a time", "never": "all stay awake"}
#: Where the axis of idle shares ends: below it a converter is as good as off.
_LEAST = 1e-4


def turning_points(ds: xr.Dataset, woken: str = "product") -> Figure:
    """Draw the idle share at which the gain is none, a row for each kind of cells and temperature: left of a dot PIM-LLM
    takes less energy. Filled at the shortest context, open at the longest; a triangle where that is off the scale.
    """
    turning = ds.turning_idle_share.sel(woken=woken)
    rows = [(cells, kelvin) for cells in ds.cells.values for kelvin in ds.temperature_k.values[[0, -1]]]
    rows = list(dict.fromkeys(rows))
    with panels(figsize=(7.4, 1.3 + 0.52 * len(rows))) as (drawn, ax):
        for place, (cells, kelvin) in enumerate(rows):
            colour = COLOURS[cells]
            for end, face, up in ((0, colour, -0.13), (-1, "white", 0.13)):
                values = turning.sel(cells=cells, temperature_k=kelvin).isel(context_len=end).values
                there = values >= _LEAST
                ax.plot(values[there], np.full(there.sum(), place + up), "o", color=colour, mfc=face, ms=6)
                ax.plot(
                    np.full((~there).sum(), _LEAST), np.full((~there).sum(), place + up), "<", color=colour, mfc=face
                )
        own, most = (_share(end) for end in ("value", "high"))
        for share, said in ((own, "catalog"), (most, "a peer's\nassumption")):
            ax.axvline(share, color="#777777", lw=0.9, ls=":")
            note(ax, said, (share, -0.62), (3, 0), va="center", color="#555555")
        ax.set(xscale="log", ylim=(len(rows) - 0.5, -0.95), xlim=(_LEAST / 1.6, 1.6),
               xlabel="Share of its power that a waiting converter draws")  # fmt: skip
        ax.set_yticks(range(len(rows)), [f"{CELLS[cells]}, {kelvin:g} K" for cells, kelvin in rows])
        log_ticks(ax, "x", [0.0001, 0.001, 0.01, 0.1, 1])
        first, last = ds.context_len.values[[0, -1]]
        look = {"marker": "o", "ls": "none", "color": "#333333"}
        legend(drawn, {f"{first} tokens": look, f"{last} tokens": look | {"mfc": "white"},
                       "below 0.01 %, or never": look | {"marker": "<"}})  # fmt: skip
    told = []
    for cells, kelvin in rows:
        at = turning.sel(cells=cells, temperature_k=kelvin).isel(context_len=0)
        told.append(f"{CELLS[cells]} at {kelvin:g} K {number(at.min().item())} to {number(at.max().item())}")
    alt = (
        f"Idle share of converters at which PIM-LLM and TPU-LLM take the same energy at {first} tokens, over models: "
        f"{'; '.join(told)}."
    )
    return Figure(drawn, alt)


def _share(which: str) -> float:
    """Return the idle share of the catalog's converter, or an end of its range."""
    entry = catalog.parts.entries["adc-8bit"]["idle_share"]
    return float(entry["value"] if which == "value" else entry["range"][which == "high"])


def gain_table(ds: xr.Dataset, *, cells: str, temperature_k: float, idle_share: float, woken: str = "product") -> Table:
    """Return tokens a joule of PIM-LLM over TPU-LLM, a row a model and a column a context."""
    at = {"cells": cells, "temperature_k": temperature_k, "idle_share": idle_share, "woken": woken}
    return crossed(
        1 + ds.energy_gain.sel(at).transpose("model", "context_len"),
        "{:.2f}".format,
        title=f"Tokens a joule of PIM-LLM over TPU-LLM, cells for {CELLS[cells]}",
    )


def winners(ds: xr.Dataset) -> Table:
    """Return in how many pairs of model and context PIM-LLM takes less energy: a row for each machine, a column a share."""
    first, last = ds.temperature_k.values[[0, -1]]
    rows = []
    for cells, kelvin, woken in [(c, k, w) for c in ds.cells.values for k in (first, last) for w in ds.woken.values]:
        here = ds.energy_gain.sel(cells=cells, temperature_k=kelvin, woken=woken)
        wins = (here > 0).sum(["model", "context_len"])
        row = {"cells of SRAM": CELLS[cells], "chip": f"{kelvin:g}\N{NO-BREAK SPACE}K", "tiles wake": WAKING[woken]}
        rows.append(row | {f"idle {percent(s)}": str(wins.sel(idle_share=s).item()) for s in ds.idle_share.values})
    return Table(rows, title="Pairs of model and context in which PIM-LLM takes less energy")


def pauses(ds: xr.Dataset) -> Table:
    """Return what each machine draws between answers, on average, and for a token: a row a machine and state."""
    rows = [
        {
            "machine": name,
            "between answers": state,
            "then draws (W)": number(at.standby_w.item()),
            "on average (W)": number(at.mean_power_w.item()),
            "a token takes (mJ)": number(1e3 * at.paused_token_j.item()),
        }
        for name, state, at in points(ds, "system", "state")
    ]
    return Table(rows, title="What each machine draws between answers, on average, and for a token")


def celled(systems: list[str], kinds: tuple[str, ...] = ("lstp", "hp")) -> list[System]:
    """Return systems with each kind of cells, named as the catalog names its own."""
    each = [(catalog.system(one), cells) for cells in kinds for one in systems]
    return [with_fields(with_cells(one, cells), {"name": f"{one.name}-{cells}"}) for one, cells in each]


def between(one: dict[str, xr.Dataset]) -> xr.Dataset:
    """Return datasets of `standing.duty`, one for each state, along the state."""
    return joining.concat(list(one.values()), "state", join="exact").assign_coords(state=list(one))


def box(ds: xr.Dataset) -> Box:
    """Return the box of the page: below which idle share PIM-LLM takes less energy, by cells."""
    at = ds.turning_idle_share.sel(woken="product")
    first, last = (at.isel(context_len=end) for end in (0, -1))

    def most(points: xr.DataArray, cells: str) -> str:
        worst = points.sel(cells=cells).fillna(0.0).min().item()
        return percent(worst) if worst > 0 else "never"

    told = "; ".join(f"{CELLS[str(c)]}, {most(first, str(c))} and {most(last, str(c))}" for c in ds.cells.values)
    return Box(
        question="Does PIM-LLM save energy, all counted?",
        answer=f"In every case, if a waiting converter draws less of its power than, at {first.context_len.item()} and "
        f"{last.context_len.item()} tokens, with SRAM for {told}.",
        sure=f"The catalog's {percent(_share('value'))} is assumed; sources go up to {percent(_share('high'))}.",
        decides="Cells of SRAM, temperature, idle converters.",
    )


def designer(ds: xr.Dataset, system: str = "pim-llm") -> Sentence:
    """Return what a design must reach to win in every pair of model and context, with cells that leak least."""
    best = str(ds.cells.values[-1])
    at = ds.turning_idle_share.sel(cells=best, woken="product").min("temperature_k").fillna(0.0)
    worst = at.where(at == at.min(), drop=True)
    model, context = (worst[dim].values[0] for dim in ("model", "context_len"))
    share, watts = at.min().item(), field_of(catalog.system(system), "pim.tile.crossbar.adc.power_w")
    return Sentence(
        f"With cells for {CELLS[best]} on both sides PIM-LLM has to have converters that wait at {percent(share)} of their "
        f"power, {number(1e6 * watts * share)} µW of {number(1e3 * watts)} mW, to take less energy as a whole machine in "
        f"every pair of model and context here; the hardest is {escaped(model)} at {context} tokens."
    )
