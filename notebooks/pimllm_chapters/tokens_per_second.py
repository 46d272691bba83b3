"""Chapter 03, rates and speed-up: its figures and its sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib.analysis import claims
from pimllm_lib.analysis.claims import published
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, decades, end_labels, label, log_ticks, note, panels
from pimllm_lib.report.numbers import span
from pimllm_lib.report.text import Sentence, agreement, escaped, where


def rates_and_speedup(compared: xr.Dataset, claims: pd.DataFrame) -> Figure:
    """Draw the decoding rates of both systems and the speed-up over context, a line a model, published values as rings."""
    fast = compared.sel(system="pim-llm")
    contexts = compared.context_len.values
    with panels(1, 2, figsize=(7.6, 4.2), width_ratios=[1, 1.25]) as (drawn, (left, right)):
        for system, colour in SYSTEM_COLOURS.items():
            rates = compared.tokens_per_s.sel(system=system)
            _lines(left, rates, colour)
            _rings(left, claims, "tokens_per_s", system)
            first = rates.isel(context_len=0)
            edge, up = (first.min(), -16) if system == "tpu-llm" else (first.max(), 8)
            note(left, system, (contexts[0], edge.item()), (0, up), color=colour, fontweight="bold")
        _lines(right, fast.speedup, SYSTEM_COLOURS["pim-llm"])
        _rings(right, claims, "speedup", "pim-llm")
        ends = [(float(fast.speedup.sel(model=m)[0]), str(m), SYSTEM_COLOURS["pim-llm"]) for m in fast.model.values]
        for ax, values in ((left, compared.tokens_per_s), (right, fast.speedup)):
            ax.set(xlabel=label(compared.context_len), ylabel=label(values))
            log_ticks(ax, "x", contexts)
            log_ticks(ax, "y", decades(1, 2, 5))
            ax.tick_params(axis="x", labelrotation=45)
        left.margins(y=0.09)
        right.margins(x=0.02)
        end_labels(right, ends, contexts[0], side="left")
    alt = (
        f"Left: tokens per second of both systems against context length for {fast.model.size} models. Right: speed-up of "
        f"pim-llm over tpu-llm, from {span(fast.speedup, '.2f')}, falling with context. Rings mark published values."
    )
    return Figure(drawn, alt)


def _lines(ax: Axes, values: xr.DataArray, colour: str) -> None:
    """Draw a line a model over context, on log axes."""
    ax.set(xscale="log", yscale="log")
    for name in values.model.values:
        ax.plot(values.context_len, values.sel(model=name), "-" if values.context_len.size > 1 else ".", color=colour)


def _rings(ax: Axes, claims: pd.DataFrame, quantity: str, system: str) -> None:
    """Mark the printed values of one quantity that a claims table holds for a system."""
    rows = published().set_index("id").loc[claims.index]
    rows = rows[(rows.system == system) & (rows.quantity == quantity) & (rows.how_read == "printed label")]
    if len(rows):
        ax.plot(rows.context_len.astype(int), rows.value.astype(float), "o", mfc="none", mec="#777777", ms=5, mew=0.9)


def array_shapes(summary: xr.Dataset, hybrid: xr.Dataset) -> Figure:
    """Draw the rate of one model at one context over the rows of the baseline's array of as many PEs, and the hybrid's."""
    rates, rival = summary.tokens_per_s.squeeze(), hybrid.tokens_per_s.item()
    rows, pes = rates.array_rows.values, summary.pe_count.squeeze().values
    with panels(figsize=(7.2, 3.3)) as (drawn, ax):
        ax.plot(rows, rates, "-o", color=SYSTEM_COLOURS["tpu-llm"], ms=5)
        ax.axhline(rival, color=SYSTEM_COLOURS["pim-llm"])
        note(ax, f"pim-llm: {rival:.1f} tokens/s", (rows[0], rival), (0, 6), color=SYSTEM_COLOURS["pim-llm"])
        ax.set(xscale="log", yscale="log", ylabel=label(rates))
        ax.set_xlabel(f"Rows of the tpu-llm array, at {pes[0]:.0f} PEs")
        ax.invert_xaxis()
        log_ticks(ax, "x", rows)
        ax.margins(y=0.22)
        for i, (dx, dy, side) in {0: (2, -16, "left"), -1: (0, 9, "right")}.items():
            text = f"{rows[i]:.0f} x {pes[i] / rows[i]:.0f}: {float(rates[i]):.2f} tokens/s"
            note(ax, text, (rows[i], rates[i]), (dx, dy), ha=side, color=SYSTEM_COLOURS["tpu-llm"])
        log_ticks(ax, "y", decades(1, 2, 5))
    alt = (
        f"Decoding rate of {rates.model.item()} at {rates.context_len.item()} tokens against the rows of an array of "
        f"{pes[0]:.0f} PEs. One long row lowers the lead of pim-llm from {rival / float(rates[0]):.1f} to "
        f"{rival / float(rates[-1]):.1f} times."
    )
    return Figure(drawn, alt)


def shape_effect(reshaped: xr.Dataset, hybrid: xr.Dataset) -> Sentence:
    """Return how much of a lead is left against the same PEs in the best of the shapes."""
    rates, rival = reshaped.tokens_per_s.squeeze(), hybrid.tokens_per_s.item()
    best = rates.isel(array_rows=int(np.argmax(rates.values)))
    return Sentence(
        f"For {where(best)}, the lead over the published shape is {rival / rates.isel(array_rows=0).item():.1f}. Over the "
        f"same PEs with {best.array_rows.item():.0f} row in place of {rates.array_rows.values[0]:.0f} it is "
        f"**{rival / best.item():.1f}**."
    )


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
