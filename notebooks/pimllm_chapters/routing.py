"""Chapter 09, routing and baselines: its tables, figures and sentences."""

from __future__ import annotations

from textwrap import fill

import xarray as xr

from pimllm_lib.analysis.baselines import VectorUnit
from pimllm_lib.core import joining
from pimllm_lib.core.schema import SUBSYSTEMS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, decades, end_labels, label, log_ticks, note, panels
from pimllm_lib.report.numbers import number, rounded
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence, escaped
from pimllm_lib.system.metrics import power

_PIM = SYSTEM_COLOURS["pim-llm"]
_GREY = "#777777"


def routings(rates: xr.DataArray) -> Figure:
    """Draw decoding rates over context, a line for each routing, with its gain over the first at the shortest context."""
    lines = rates.squeeze("model", drop=True)
    contexts, names = lines.context_len.values, [str(name) for name in lines.system.values]
    colours = {name: SYSTEM_COLOURS.get(name, _GREY) for name in names}
    with panels(figsize=(7.2, 3.6)) as (drawn, ax):
        for name in names:
            ax.plot(contexts, lines.sel(system=name), "-o", color=colours[name], ms=4)
        ax.set(xscale="log", yscale="log", xlabel=label(lines.context_len), ylabel=label(rates))
        log_ticks(ax, "x", contexts)
        log_ticks(ax, "y", decades(1, 2, 5))
        first = lines.isel(context_len=0)
        gain = first / first.isel(system=0)
        ends = [(first.values[i], f"{name}, {gain.values[i]:.1f} x", colours[name]) for i, name in enumerate(names)]
        end_labels(ax, ends, contexts[0], side="left", gap=0.08)
    alt = (
        f"Decoding rate of {rates.model.item()} over context for {len(names)} routings. At {contexts[0]} tokens, over "
        f"that of {names[0]}: " + ", ".join(f"{name} {x:.1f}" for name, x in zip(names, gain.values, strict=True)) + "."
    )
    return Figure(drawn, alt)


def leads(rates: xr.DataArray, same_unit: xr.DataArray, unit: str) -> xr.DataArray:
    """Return the rate of pim-llm over each baseline: dimensions baseline and context_len.

    same_unit: rates of pim-llm with its attention on the vector unit called `unit`; its lead over that unit is the last.
    """
    rates = rates.squeeze("model")
    baselines = [str(name) for name in rates.system.values if name != "pim-llm"]
    lead = rates.sel(system="pim-llm", drop=True) / rates.sel(system=baselines)
    last = (same_unit.squeeze(["model", "system"], drop=True) / rates.sel(system=unit, drop=True)).expand_dims(
        system=[f"{unit}, for attention of pim-llm too"]
    )
    both: xr.DataArray = joining.concat([lead, last], "system").rename(system="baseline")
    return both.assign_attrs(long_name="lead of pim-llm in decoding rate", units="1")


def lead_over_baselines(lead: xr.DataArray) -> Figure:
    """Draw the lead over every baseline on a log axis, a row each: filled at the shortest context, open at the longest."""
    names = [str(name) for name in lead.baseline.values]
    ends = {int(lead.context_len.values[i]): lead.isel(context_len=i) for i in (0, -1)}
    with panels(figsize=(7.4, 1.3 + 0.42 * len(names))) as (drawn, ax):
        ax.axvline(1, color=_GREY, lw=0.9, ls=":")
        for i, (context, values) in enumerate(ends.items()):
            ax.plot(values, range(len(names)), "o", color=_PIM, mfc=_PIM if i == 0 else "none", ms=6)
            note(ax, f"{context} tokens", (values[0], 0), (0, 11), color=_PIM, ha="left" if i == 0 else "right")
        for row, pair in enumerate(zip(*(end.values for end in ends.values()), strict=True)):
            for value in dict.fromkeys((max(pair), min(pair))):  # the larger to the right, the smaller to the left
                by, side = (7, "left") if value == max(pair) else (-7, "right")
                note(ax, _times(value), (value, row), (by, 0), ha=side, va="center")
        ax.set(xscale="log", xlabel="Rate of pim-llm over that of the baseline", ylim=(len(names) - 0.5, -0.9))
        ax.set_yticks(range(len(names)), [fill(name, 24) for name in names])
        low, high = lead.min().item(), lead.max().item()
        ax.set_xlim(low / 10 ** (0.75 * len(_times(low))), high * 60)  # room for the longest ratio, on a phone too
        log_ticks(ax, "x", [tick for tick in decades(every=2) if tick > low / 3])
    first, last = (lead.isel(context_len=i) for i in (0, -1))
    told = "; ".join(f"{n}: {a:.3g} and {b:.3g}" for n, a, b in zip(names, first.values, last.values, strict=True))
    alt = f"Lead of pim-llm in decoding rate at {' and '.join(map(str, ends))} tokens over each baseline. {told}."
    return Figure(drawn, alt)


def _times(value: float) -> str:
    """Return a ratio with two digits, a small one as one over a number."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}" if value >= 0.1 else f"1/{rounded(1 / value)}"


def baseline_table(summary: xr.Dataset, units: list[VectorUnit]) -> Table:
    """Return multipliers, rate and efficiency of each machine at the shortest and the longest context."""
    whole, lanes = summary.squeeze("model", drop=True), {unit.name: unit.lanes for unit in units}
    rows = []
    for name in map(str, whole.system.values):
        cell = whole.sel(system=name)
        row = {"machine": name, "PEs or lanes": number(lanes.get(name, cell.pe_count.item()))}
        for i in dict.fromkeys((0, whole.sizes["context_len"] - 1)):
            here = cell.isel(context_len=i)
            for variable, unit in (("tokens_per_s", "tokens/s"), ("tokens_per_j", "tokens/J")):
                row[f"{unit} at {here.context_len.item()}"] = number(here[variable].item())
        rows.append(row)
    return Table(rows, long=True, title="Multipliers, rate and efficiency of each machine")


def box(lead: xr.DataArray, unit: str, baseline: str = "tpu-llm") -> Box:
    """Return the box of the page: the lead over the published baseline and over equal multipliers, at both ends."""
    ends = [lead.isel(context_len=i) for i in (0, -1)]
    first, last = (end.context_len.item() for end in ends)
    over, even = ([_times(end.sel(baseline=name).item()) for end in ends] for name in (baseline, unit))
    same = [_times(end.isel(baseline=-1).item()) for end in ends]
    return Box(
        question="How much of the lead is the baseline's doing?",
        answer=f"PIM-LLM is {over[0]} times as fast as TPU-LLM at {first} tokens, {over[1]} times at {last}; beside as many "
        f"multipliers that never idle, {even[0]} and {even[1]} times.",
        sure="Such a unit is a bound; real ones wait.",
        decides=f"PIM-LLM's own array: with such a unit for attention it leads {same[0]} and {same[1]} times.",
    )


def budgets(tiles: xr.Dataset, units: list[VectorUnit]) -> Sentence:
    """Return what the crossbar tiles draw and take, and how many multipliers each unit has for it."""
    peak = power(tiles).peak_power_w.sel(subsystem="pim").max().item()
    area = tiles.area_m2.sel(component=list(SUBSYSTEMS["pim"])).isel(context_len=0).sum().item()
    counts = "; ".join(f"{unit.name}, {number(unit.lanes)}" for unit in units)
    return Sentence(
        f"The hungriest product on the crossbars of {escaped(tiles.model.item())} draws {peak:.2g} W over its working "
        f"time, and the tiles of all blocks take {number(1e4 * area)} cm². Multipliers for that: {counts}."
    )
