"""Chapter 04, where a token's time goes: its figures, tables and sentences."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure

from pimllm_lib.core.schema import LATENCY_PARTS
from pimllm_lib.report.figure import Figure, end_labels, label, log_ticks, style
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence
from pimllm_lib.system.metrics import by_part

#: Part -> colour, in the order they are stacked: light beside dark, so that they differ in grey.
_COLOURS = {
    "array": "#0072B2", "network": "#E69F00", "buffers": "#7B3294", "crossbars and converters": "#009E73",
    "digital": "#CC79A7", "others": "#999999",
}  # fmt: skip
#: Percent below which a column of the table would hold zeros alone.
_SHOWN = 0.0005
#: A part that takes less than this share of every bar is not drawn.
_VISIBLE = 0.0005


def shares(ds: xr.Dataset, system: str = "pim-llm") -> Figure:
    """Draw how the time of a token divides, a panel a model, a stacked bar a context."""
    percent = _percent(ds.sel(system=system))
    count, columns = percent.model.size, min(4, percent.model.size)
    rows = -(-count // columns)
    with style():
        drawn, grid = plt.subplots(
            rows, columns, figsize=(7.6, 0.9 + 2.0 * rows), sharex=True, sharey=True, squeeze=False
        )
        for ax in grid.flat[count:]:
            ax.set_axis_off()
        for ax, name in zip(grid.flat, percent.model.values, strict=False):
            _stack(ax, percent.sel(model=name))
            ax.set_title(str(name), fontsize=10)
        for ax in grid.flat[max(0, count - columns) : count]:
            ax.tick_params(labelbottom=True)
        for ax in grid[:, 0]:
            ax.set_ylabel("Share of time (%)")
        drawn.supxlabel(label(ds.context_len), fontsize=10)
        _legend(drawn, grid.flat[0])
        plt.close(drawn)
    array = percent.sel(part="array")
    alt = (
        f"Shares of parts in the time of a {system} token, for {count} models over context length. The array takes "
        f"{array.min().item():.0f} to {array.max().item():.0f} %, more with longer context; the network most of the rest."
    )
    return Figure(drawn, alt)


def _percent(ds: xr.Dataset) -> xr.DataArray:
    """Return shares by part in percent, without parts that nobody would see."""
    table = by_part(ds, "latency_s", LATENCY_PARTS)
    percent = 100 * table / table.sum("part")
    seen = abs(percent).max([dim for dim in percent.dims if dim != "part"]) >= 100 * _VISIBLE
    return percent.sel(part=seen)


def _stack(ax: Axes, percent: xr.DataArray) -> None:
    """Draw a stacked bar a context."""
    places, bottom = np.arange(percent.context_len.size), np.zeros(percent.context_len.size)
    for name in percent.part.values:
        heights = percent.sel(part=name).values
        ax.bar(places, heights, bottom=bottom, color=_COLOURS[name], label=name, width=0.8)
        bottom = bottom + heights
    ax.set_xticks(places, [str(n) for n in percent.context_len.values], rotation=60)
    ax.set_ylim(0, 100)


def _legend(drawn: MplFigure, ax: Axes) -> None:
    """Write one legend above all panels."""
    handles, names = ax.get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, columnspacing=1.2)


def times(ds: xr.Dataset, crossed: xr.Dataset) -> Figure:
    """Draw the time of each part of one model over context, on log axes, and where attention reaches half."""
    table = 1e3 * by_part(ds, "latency_s", LATENCY_PARTS)
    table = table.sel(part=[str(name) for name in table.part.values if table.sel(part=name).max() > 1e-6])
    point = crossed.attention_half_tokens.item()
    with style():
        drawn, ax = plt.subplots(figsize=(7.6, 3.9))
        ax.set(xscale="log", yscale="log", xlabel=label(ds.context_len), ylabel="Time of a token (ms)")
        for name in table.part.values:
            ax.plot(ds.context_len, table.sel(part=name), "-o", ms=3.5, color=_COLOURS[name])
        if np.isfinite(point):
            ax.axvline(point, color="#777777", lw=1, ls=":")
            ax.annotate(f"half at {point:.0f}", (point, 0.96), xycoords=("data", "axes fraction"), xytext=(4, 0),
                        textcoords="offset points", color="#777777")  # fmt: skip
        low, high = np.log10(ax.get_ylim())
        log_ticks(ax, "y", [10.0**k for k in range(int(np.ceil(low)), int(np.floor(high)) + 1)])
        log_ticks(ax, "x", ds.context_len.values)
        ends = [(float(table.sel(part=name)[-1]), str(name), _COLOURS[name]) for name in table.part.values]
        end_labels(ax, ends, ds.context_len.values[-1], gap=0.07)
        plt.close(drawn)
    alt = (
        f"Time of a token of {ds.model.item()} by part against context length. The array's time grows with context. "
        f"Attention takes half from {_tokens(point)} on."
    )
    return Figure(drawn, alt)


def share_table(ds: xr.Dataset, system: str = "pim-llm") -> Table:
    """Return the shares of all parts for one model in percent, a row a context."""
    table = by_part(ds.sel(system=system), "latency_s", LATENCY_PARTS).squeeze("model", drop=True)
    percent = 100 * table / table.sum("part")
    percent = percent.sel(part=abs(percent).max("context_len") >= _SHOWN)
    frame = percent.transpose("context_len", "part").to_pandas().map(lambda value: f"{value:.3f}")
    return Table(frame.rename_axis(columns=None).rename_axis("context").reset_index())


def crossing_table(crossed: xr.Dataset) -> Table:
    """Return for each model where attention reaches half of the latency, a column a system."""
    table = crossed.attention_half_tokens.transpose("model", "system").to_pandas()
    return Table(table.map(_number).rename_axis(columns=None).reset_index())


def latency_answer(crossed: xr.Dataset, summary: xr.Dataset) -> Sentence:
    """Return from which context on attention decides in either system, and how little the crossbars take."""
    half = {name: _span(crossed.attention_half_tokens.sel(system=name)) for name in ("pim-llm", "tpu-llm")}
    analog = 100 * summary.analog_share.sel(system="pim-llm").max().item()
    return Sentence(
        f"**In PIM-LLM attention takes half of the time from {half['pim-llm']} of context on**, depending on the model; in "
        f"TPU-LLM from {half['tpu-llm']} on, counted {summary.attrs['conventions']}. Crossbars and their converters take at "
        f"most {analog:.2g} % of a PIM-LLM token."
    )


def halving(crossed: xr.Dataset, summary: xr.Dataset, reference: int) -> Sentence:
    """Return where the rates have halved, and what the last step in context still costs."""
    half = {name: _span(crossed.rate_half_tokens.sel(system=name)) for name in ("pim-llm", "tpu-llm")}
    last = summary.tokens_per_s.sel(system="pim-llm").isel(context_len=slice(-2, None))
    text = (
        f"Against the rate at {reference} tokens, PIM-LLM is at half from {half['pim-llm']} on, TPU-LLM from "
        f"{half['tpu-llm']} on."
    )
    if last.context_len.size == 2:
        kept = 100 * last.isel(context_len=1, drop=True) / last.isel(context_len=0, drop=True)
        first, second = last.context_len.values
        text += (
            f" From {first} to {second} tokens the rate of PIM-LLM falls to {kept.min().item():.1f} to "
            f"{kept.max().item():.1f} % of what it was."
        )
    return Sentence(text)


def _span(tokens: xr.DataArray) -> str:
    """Return the range of contexts over models, in words."""
    low, high = tokens.min().item(), tokens.max().item()
    if not np.isfinite(low):
        return "no context that was looked at"
    if np.isnan(tokens.values).any():
        return f"{low:.0f} tokens at the earliest"
    return f"{low:.0f} to {high:.0f} tokens" if low < high else f"{low:.0f} tokens"


def _tokens(value: float) -> str:
    return f"{value:.0f} tokens" if np.isfinite(value) else "no context that was looked at"


def _number(value: float) -> str:
    return "not reached" if pd.isna(value) else f"{value:.0f}"
