"""Chapter 03, rates and speed-up: its figures and its sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib import catalog
from pimllm_lib.analysis import claims
from pimllm_lib.analysis.claims import published
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput
from pimllm_lib.hardware import System
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import (
    MOST_NAMES,
    SYSTEM_COLOURS,
    Figure,
    decades,
    end_labels,
    label,
    legend,
    log_ticks,
    note,
    panels,
    system_colours,
)
from pimllm_lib.report.numbers import listed, span
from pimllm_lib.report.rivals import against_first, extremes, of_published
from pimllm_lib.report.text import Sentence, agreement, escaped, where
from pimllm_lib.system.metrics import rivals


def rates_and_speedup(compared: xr.Dataset, claims: pd.DataFrame) -> Figure:
    """Draw the decoding rates of all systems and the speed-up over the first, a line a model, published values as rings."""
    fast, contexts = rivals(compared), compared.context_len.values
    names, colours = [str(name) for name in compared.system.values], system_colours(compared.system.values)
    with panels(1, 2, figsize=(7.6, 4.2), width_ratios=[1, 1.25]) as (drawn, (left, right)):
        ends = []
        for system, colour in colours.items():
            _lines(left, compared.tokens_per_s.sel(system=system), colour)
            _rings(left, claims, "tokens_per_s", system)
            if system in fast.system.values:
                _lines(right, (gained := fast.speedup.sel(system=system)), colour)
                _rings(right, claims, "speedup", system)
                ends += [(float(gained.sel(model=m)[0]), str(m), colour) for m in fast.model.values]
        if len(names) > 2:
            legend(drawn, {name: {"color": colour} for name, colour in colours.items()}, ncols=3)
        else:
            _name_lines(left, compared.tokens_per_s.isel(context_len=0), colours)
        for ax, values in ((left, compared.tokens_per_s), (right, fast.speedup)):
            ax.set(xlabel=label(compared.context_len), ylabel=label(values))
            log_ticks(ax, "x", contexts)
            log_ticks(ax, "y", decades(1, 2, 5))
            ax.tick_params(axis="x", labelrotation=45)
        left.margins(y=0.09)
        right.margins(x=0.02)
        if len(ends) <= MOST_NAMES:
            end_labels(right, ends, contexts[0], side="left")
    alt = (
        f"Left: tokens per second of {listed(names)} against context length for {fast.model.size} models. Right: speed-up "
        f"over {names[0]}, from {span(fast.speedup, '.2f')}. Rings mark published values."
    )
    return Figure(drawn, alt)


def _name_lines(ax: Axes, first: xr.DataArray, colours: dict[str, str]) -> None:
    """Write the names of one or two systems at the first context: the slower below its lines, the other above."""
    slowest = first.mean("model").argmin("system").item() if first.sizes["system"] > 1 else -1
    for i, (system, colour) in enumerate(colours.items()):
        edge, up = (first[i].min(), -16) if i == slowest else (first[i].max(), 8)
        note(ax, system, (first.context_len.item(), edge.item()), (0, up), color=colour, fontweight="bold")


def _lines(ax: Axes, values: xr.DataArray, colour: str) -> None:
    """Draw a line a model over context, on log axes; thin where it may lie on one of a published machine."""
    ax.set(xscale="log", yscale="log")
    look: dict[str, Any] = {"color": colour, "lw": 1.8 if values.system.item() in SYSTEM_COLOURS else 1.0}
    for name in values.model.values:
        ax.plot(values.context_len, values.sel(model=name), "-" if values.context_len.size > 1 else ".", **look)


def _rings(ax: Axes, claims: pd.DataFrame, quantity: str, system: str) -> None:
    """Mark the printed values of one quantity that a claims table holds for a system."""
    rows = published().set_index("id").loc[claims.index]
    rows = rows[(rows.system == system) & (rows.quantity == quantity) & (rows.how_read == "printed label")]
    if len(rows):
        ax.plot(rows.context_len.astype(int), rows.value.astype(float), "o", mfc="none", mec="#777777", ms=5, mew=0.9)


def in_fewer_rows(system: str) -> System:
    """Return a system whose array has as many PEs in half the rows, a quarter of them, and so on down to one."""
    machine = catalog.system(system)
    array = getattr(machine, "array", None)
    if array is None:
        raise BadInput(f"{system} has no array; wanted a system with one, first of systems")
    rows = [array.rows]
    while rows[-1] > 1:
        rows.append(rows[-1] // 2 if rows[-1] % 2 == 0 else 1)
    along = axis(array_rows=rows)
    reshaped: System = replace(machine, array=replace(array, rows=along, cols=array.rows * array.cols / along))
    return reshaped


def array_shapes(summary: xr.Dataset, hybrid: xr.Dataset) -> Figure:
    """Draw the rate of one model at one context over the rows of the baseline's array of as many PEs, and the rival's."""
    rates, rival = summary.tokens_per_s.squeeze(), hybrid.tokens_per_s.item()
    rows, pes = rates.array_rows.values, summary.pe_count.squeeze().values
    own, other = rates.system.item(), hybrid.system.item()
    colours = system_colours([own, other])
    with panels(figsize=(7.2, 3.3)) as (drawn, ax):
        ax.plot(rows, rates, "-o", color=colours[own], ms=5)
        ax.axhline(rival, color=colours[other])
        note(ax, f"{other}: {rival:.1f} tokens/s", (rows[0], rival), (0, 6), color=colours[other])
        ax.set(xscale="log", yscale="log", ylabel=label(rates))
        ax.set_xlabel(f"Rows of the {own} array, at {pes[0]:.0f} PEs")
        ax.invert_xaxis()
        log_ticks(ax, "x", rows)
        ax.margins(y=0.22)
        for i, (dx, dy, side) in {0: (2, -16, "left"), -1: (0, 9, "right")}.items():
            text = f"{rows[i]:.0f} x {pes[i] / rows[i]:.0f}: {float(rates[i]):.2f} tokens/s"
            note(ax, text, (rows[i], rates[i]), (dx, dy), ha=side, color=colours[own])
        log_ticks(ax, "y", decades(1, 2, 5))
    alt = (
        f"Decoding rate of {rates.model.item()} at {rates.context_len.item()} tokens against the rows of an array of "
        f"{pes[0]:.0f} PEs. One long row changes the lead of {other} from {rival / float(rates[0]):.1f} to "
        f"{rival / float(rates[-1]):.1f} times."
    )
    return Figure(drawn, alt)


def shape_effect(reshaped: xr.Dataset, hybrid: xr.Dataset) -> Sentence:
    """Return how much of a lead is left against the same PEs in the best of the shapes."""
    rates, rival = reshaped.tokens_per_s.squeeze(), hybrid.tokens_per_s.item()
    best = rates.isel(array_rows=int(np.argmax(rates.values)))
    return Sentence(
        f"For {where(best)}, the lead over the first of these shapes is {rival / rates.isel(array_rows=0).item():.1f}. Over "
        f"the same PEs with {best.array_rows.item():.0f} row{'s' * (best.array_rows.item() > 1)} in place of "
        f"{rates.array_rows.values[0]:.0f} it is **{rival / best.item():.1f}**."
    )


def rates_said(compared: xr.Dataset) -> str:
    """Return how fast each system decodes beside the first, or how fast the only one does."""
    if compared.sizes["system"] == 1:
        told = f"{escaped(compared.system.item())} decodes {extremes(compared.tokens_per_s.squeeze('system'))} tokens/s"
    else:
        told = against_first(compared, "speedup", "{name} decodes {ends} as fast as {base}", unit=" times")
    return f"{told}, counted {escaped(compared.attrs['conventions'])}."


@of_published("How fast do these systems decode?", rates_said)
def box(compared: xr.Dataset) -> Box:
    """Return the box of the page: the range of speed-ups, and what the baseline's array is used for."""
    speedup = compared.speedup.sel(system="pim-llm")
    best, least = speedup.isel(speedup.argmax(...)), speedup.isel(speedup.argmin(...))
    use = span(100 * compared.utilisation.sel(system="tpu-llm"), ".1f")
    return Box(
        question="How much faster does PIM-LLM decode than the all-digital TPU-LLM?",
        answer=f"{least.item():.1f} times ({where(least)}) to {best.item():.1f} times ({where(best)}), counted "
        f"{escaped(compared.attrs['conventions'])}.",
        sure=f"{agreement(claims.check(compared))} No chip was measured.",
        decides=f"The context, and the baseline: its array does useful work in {use} % of its multiplier cycles.",
    )
