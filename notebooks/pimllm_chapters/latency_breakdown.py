"""Chapter 04, where a token's time goes: its figures, tables and sentences."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pimllm_lib.analysis import claims
from pimllm_lib.core.schema import LATENCY_PARTS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, decades, end_labels, label, legend, log_ticks, note, panels
from pimllm_lib.report.numbers import known, span
from pimllm_lib.report.tables import Table, crossed, points
from pimllm_lib.report.text import Sentence, agreement, escaped
from pimllm_lib.system.metrics import by_part

#: Part -> colour, in the order they are stacked: light beside dark, so that they differ in grey.
_COLOURS = {
    "array": "#0072B2", "network": "#E69F00", "buffers": "#7B3294", "crossbars and converters": "#009E73",
    "digital": "#CC79A7", "others": "#999999",
}  # fmt: skip
#: A part that takes less than so many percent everywhere is not drawn, and one that takes less than so many not listed.
_DRAWN, _LISTED = 0.05, 0.0005


def shares(ds: xr.Dataset, system: str = "pim-llm") -> Figure:
    """Draw how the time of a token divides, a panel a model, a stacked bar a context."""
    percent = _percent(ds.sel(system=system), _DRAWN)
    count, columns = percent.model.size, min(4, percent.model.size)
    rows = -(-count // columns)
    places = np.arange(percent.context_len.size)
    size = (7.6, 0.9 + 2.0 * rows)
    with panels(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False) as (drawn, grid):
        for ax in grid.flat[count:]:
            ax.set_axis_off()
        for ax, name in zip(grid.flat, percent.model.values, strict=False):
            bottom = np.zeros(places.size)
            for part, heights in points(percent.sel(model=name), "part"):
                ax.bar(places, heights.values, bottom=bottom, color=_COLOURS[part], label=part, width=0.8)
                bottom = bottom + heights.values
            ax.set_xticks(places, [str(n) for n in percent.context_len.values], rotation=60)
            ax.set_ylim(0, 100)
            ax.set_title(str(name), fontsize=10)
        for ax in grid.flat[max(0, count - columns) : count]:
            ax.tick_params(labelbottom=True)
        for ax in grid[:, 0]:
            ax.set_ylabel("Share of time (%)")
        drawn.supxlabel(label(ds.context_len), fontsize=10)
        legend(drawn, grid.flat[0], "upper", columnspacing=1.2)
    alt = (
        f"Shares of parts in the time of a {system} token, for {count} models over context length. The array takes "
        f"{span(percent.sel(part='array'), '.0f')} %, more with longer context; the network most of the rest."
    )
    return Figure(drawn, alt)


def _percent(ds: xr.Dataset, least: float) -> xr.DataArray:
    """Return shares by part in percent, without parts that are below `least` everywhere."""
    table = by_part(ds, "latency_s", LATENCY_PARTS)
    percent = 100 * table / table.sum("part")
    return percent.sel(part=abs(percent).max([dim for dim in percent.dims if dim != "part"]) >= least)


def times(ds: xr.Dataset, found: xr.Dataset) -> Figure:
    """Draw the time of each part of one model over context, on log axes, and where attention reaches half."""
    table = 1e3 * by_part(ds, "latency_s", LATENCY_PARTS)
    table = table.sel(part=[str(name) for name in table.part.values if table.sel(part=name).max() > 1e-6])
    point = found.attention_half_tokens
    with panels(figsize=(7.6, 3.9)) as (drawn, ax):
        ax.set(xscale="log", yscale="log", xlabel=label(ds.context_len), ylabel="Time of a token (ms)")
        for name in table.part.values:
            ax.plot(ds.context_len, table.sel(part=name), "-o", ms=3.5, color=_COLOURS[name])
        if np.isfinite(point):
            ax.axvline(point.item(), color="#777777", lw=1, ls=":")
            at = ("data", "axes fraction")
            note(ax, f"half at {point:.0f}", (point.item(), 0.96), (4, 0), xycoords=at, color="#777777")
        log_ticks(ax, "y", decades())
        log_ticks(ax, "x", ds.context_len.values)
        ends = [(float(table.sel(part=name)[-1]), str(name), _COLOURS[name]) for name in table.part.values]
        end_labels(ax, ends, ds.context_len.values[-1], gap=0.07)
    alt = (
        f"Time of a token of {ds.model.item()} by part against context length. The array's time grows with context. "
        f"Attention takes half from {_contexts(point)} on."
    )
    return Figure(drawn, alt)


def share_table(ds: xr.Dataset, system: str = "pim-llm") -> Table:
    """Return the shares of all parts for one model in percent, a row a context."""
    percent = _percent(ds.sel(system=system).squeeze("model", drop=True), _LISTED)
    return crossed(
        percent.transpose("context_len", "part"),
        "{:.3f}".format,
        "{}",
        "context",
        title="Shares of all parts of the latency, in percent",
    )


def crossing_table(found: xr.Dataset) -> Table:
    """Return for each model where attention reaches half of the latency, a column a system."""
    table = found.attention_half_tokens.transpose("model", "system")
    return crossed(
        table,
        lambda tokens: known(tokens, ".0f", otherwise="not reached"),
        "{}",
        title="Context at which attention reaches half of the latency",
    )


def box(found: xr.Dataset, summary: xr.Dataset) -> Box:
    """Return the box of the page: from which context on attention decides in either system, and what crossbars take."""
    half = {name: _contexts(found.attention_half_tokens.sel(system=name)) for name in ("pim-llm", "tpu-llm")}
    analog = 100 * summary.analog_share.sel(system="pim-llm").max().item()
    return Box(
        question="When does attention take half of a token's time?",
        answer=f"In PIM-LLM from {half['pim-llm']} on, by model; in TPU-LLM from {half['tpu-llm']} on.",
        sure=f"Found by search, counted {escaped(summary.attrs['conventions'])}. {agreement(claims.check(summary))}",
        decides=f"The array: crossbars with converters take at most {analog:.2g} % of a PIM-LLM token.",
    )


def halving(found: xr.Dataset, summary: xr.Dataset, reference: int) -> Sentence:
    """Return where the rates have halved, and what the last step in context still costs."""
    half = {name: _contexts(found.rate_half_tokens.sel(system=name)) for name in ("pim-llm", "tpu-llm")}
    last = summary.tokens_per_s.sel(system="pim-llm").isel(context_len=slice(-2, None))
    text = (
        f"Against the rate at {reference} tokens, PIM-LLM is at half from {half['pim-llm']} on, TPU-LLM from "
        f"{half['tpu-llm']} on."
    )
    if last.context_len.size == 2:
        kept = 100 * last.isel(context_len=1, drop=True) / last.isel(context_len=0, drop=True)
        first, second = last.context_len.values
        text += f" From {first} to {second} tokens the rate of PIM-LLM falls to {span(kept, '.1f')} % of what it was."
    return Sentence(text)


def _contexts(tokens: xr.DataArray) -> str:
    """Return the range of contexts over models, in words."""
    if not np.isfinite(tokens).any():
        return "no context that was looked at"
    return f"{tokens.min():.0f} tokens at the earliest" if np.isnan(tokens).any() else f"{span(tokens, '.0f')} tokens"
