"""Chapter 04, where a token's time goes: its figures, tables and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis import claims
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import LATENCY_PARTS
from pimllm_lib.hardware import System
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, decades, end_labels, label, legend, log_ticks, note, panels
from pimllm_lib.report.numbers import known, span
from pimllm_lib.report.rivals import called, of_published
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


def shares(ds: xr.Dataset) -> Figure:
    """Draw how the time of a token of the last system divides, a panel a model down the columns, a stacked bar a context."""
    ds = ds.isel(system=-1)
    percent = _percent(ds, _DRAWN)
    count = percent.model.size
    rows = -(-count // 4)
    places = np.arange(percent.context_len.size)
    size = (7.6, 0.9 + 2.0 * rows)
    with panels(rows, -(-count // rows), figsize=size, sharex=True, sharey=True, squeeze=False) as (drawn, grid):
        spots = grid.T.flat
        for ax in spots[count:]:
            ax.set_visible(False)
        for ax, name in zip(spots, percent.model.values, strict=False):
            bottom = np.zeros(places.size)
            for part, heights in points(percent.sel(model=name), "part"):
                ax.bar(places, heights.values, bottom=bottom, color=_COLOURS[part], label=part, width=0.8)
                bottom = bottom + heights.values
            ax.set_xticks(places, [str(n) for n in percent.context_len.values], rotation=60)
            ax.set_ylim(0, 100)
            ax.set_title(str(name), fontsize=10)
        spots[count - 1].tick_params(labelbottom=True)
        for ax in grid[:, 0]:
            ax.set_ylabel("Share of time (%)")
        drawn.supxlabel(label(ds.context_len), fontsize=10)
        legend(drawn, grid.flat[0], "upper", columnspacing=1.2)
    alt = (
        f"Shares of parts in the time of a {ds.system.item()} token, for {count} models over context length. The array "
        f"takes {span(percent.sel(part='array'), '.0f')} %, more with longer context; the network most of the rest."
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


def share_table(ds: xr.Dataset) -> Table:
    """Return the shares of all parts for the last system and one model in percent, a row a context."""
    ds = ds.isel(system=-1)
    percent = _percent(ds.squeeze("model", drop=True), _LISTED)
    return crossed(
        percent.transpose("context_len", "part"),
        "{:.3f}".format,
        "{}",
        "context",
        title=f"Shares of all parts of the latency of {ds.system.item()}, in percent",
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


def quicker(name: str) -> list[System]:
    """Return a system, and the same with one part made quicker at a time: ten times the rate of the network, buffers with
    the time of their own table, ten times the clock of the array. Parts that it has not are left out.
    """
    machine = catalog.system(name)
    made: dict[str, dict[str, Any]] = {}
    if machine.pim is not None:
        made["network x 10"] = {"pim.network_bps": 10 * machine.pim.network_bps}
        made["quick buffers"] = {"pim.tile.buffer.fixed_s": None}
    made["array x 10"] = {"array.rate_hz": 10 * machine.array.rate_hz}
    return [machine, *(with_fields(machine, {"name": what, **fields}) for what, fields in made.items())]


def halves_said(found: xr.Dataset, summary: xr.Dataset) -> str:
    """Return from which context on attention takes half of the time of each system."""
    half = found.attention_half_tokens
    told = (f"in {escaped(name)} from {_contexts(half.sel(system=name))} on" for name in half.system.values)
    return f"Attention takes half of the time {'; '.join(told)}, counted {escaped(summary.attrs['conventions'])}."


@of_published("When does attention take half of a token's time?", halves_said)
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
    names = [str(name) for name in found.system.values[::-1]]
    first, *others = (f"from {_contexts(found.rate_half_tokens.sel(system=name))} on" for name in names)
    last = summary.tokens_per_s.isel(system=-1, context_len=slice(-2, None))
    told = [f"{called(names[0])} is at half {first}", *map("{} {}".format, map(called, names[1:]), others)]
    text = f"Against the rate at {reference} tokens, {', '.join(told)}."
    if last.context_len.size == 2:
        kept = 100 * last.isel(context_len=1, drop=True) / last.isel(context_len=0, drop=True)
        first, second = last.context_len.values
        fallen = f"falls to {span(kept, '.1f')} % of what it was"
        text += f" From {first} to {second} tokens the rate of {called(names[0])} {fallen}."
    return Sentence(text)


def _contexts(tokens: xr.DataArray) -> str:
    """Return the range of contexts over models, in words."""
    if not np.isfinite(tokens).any():
        return "no context that was looked at"
    return f"{tokens.min():.0f} tokens at the earliest" if np.isnan(tokens).any() else f"{span(tokens, '.0f')} tokens"
