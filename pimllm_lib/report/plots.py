"""One function a figure: Dataset in, Figure out. Labels and units come from the dataset's attributes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib.report.figure import ACCENT, SYSTEM_COLOURS, Figure, end_labels, label, log_ticks, style

_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def tokens_per_second(summary: xr.Dataset, claims: pd.DataFrame, system: str) -> Figure:
    """Draw the decoding rate of one system over context, a line a model, published values as rings."""
    rates, colour = summary.tokens_per_s.sel(system=system), SYSTEM_COLOURS.get(system, ACCENT)
    contexts = rates.context_len.values
    with style():
        drawn, ax = plt.subplots(figsize=(7.2, 4.3))
        ax.set(xscale="log", yscale="log", xlabel=label(rates.context_len), ylabel=label(rates))
        for name in rates.model.values:
            ax.plot(contexts, rates.sel(model=name), "-" if contexts.size > 1 else ".", color=colour)
        _rings(ax, summary, claims, system)
        log_ticks(ax, "x", contexts)
        log_ticks(ax, "y", [tick for tick in _TICKS if _within(tick, rates)])
        end_labels(ax, [(float(rates.sel(model=m)[-1]), str(m), colour) for m in rates.model.values], contexts[-1])
        plt.close(drawn)
    alt = (
        f"Tokens per second of {system} against context length for {rates.model.size} models, from "
        f"{float(rates.min()):.2f} to {float(rates.max()):.2f}; rings mark published values, on the lines."
    )
    return Figure(drawn, alt)


def _rings(ax: Axes, summary: xr.Dataset, claims: pd.DataFrame, system: str) -> None:
    """Mark the published values a claims table holds for the system."""
    from pimllm_lib.report.claims import published

    rows = published().set_index("id").loc[claims.index]
    rows = rows[(rows.system == system) & (rows.quantity == "tokens_per_s")]
    if len(rows):
        ax.plot(rows.context_len.astype(int), rows.value.astype(float), "o", mfc="none", mec="#777777",
                ms=6.5, mew=1.1, ls="none")  # fmt: skip


def _within(tick: float, rates: xr.DataArray) -> bool:
    return float(rates.min()) / 1.6 <= tick <= float(rates.max()) * 1.6


def array_shapes(summary: xr.Dataset) -> Figure:
    """Draw the decoding rate of one model at one context over the number of array rows, at an equal number of PEs."""
    rates = summary.tokens_per_s.squeeze()
    rows, pes = rates.array_rows.values, summary.pe_count.squeeze().values
    with style():
        drawn, ax = plt.subplots(figsize=(7.2, 3.2))
        ax.plot(rows, rates, "-o", color=SYSTEM_COLOURS["tpu-llm"], ms=5)
        ax.set(xscale="log", yscale="log", xlabel=f"Array rows, at {pes[0]:.0f} PEs", ylabel=label(rates))
        ax.invert_xaxis()
        log_ticks(ax, "x", rows)
        log_ticks(ax, "y", [tick for tick in _TICKS if _within(tick, rates)])
        for i, (dx, dy, side) in {0: (0, -16, "left"), -1: (0, 8, "right")}.items():
            text = f"{rows[i]:.0f} x {pes[i] / rows[i]:.0f}: {float(rates[i]):.2f} tokens/s"
            ax.annotate(text, (rows[i], rates[i]), xytext=(dx, dy), textcoords="offset points", ha=side)
        ax.margins(y=0.2)
        plt.close(drawn)
    gain = float(rates.max() / rates[0])
    alt = (
        f"Decoding rate of {rates.model.item()} at {rates.context_len.item()} tokens against array rows "
        f"at {pes[0]:.0f} PEs: one long row decodes "
        f"{gain:.1f} times as fast as {rows[0]:.0f} rows."
    )
    return Figure(drawn, alt)
