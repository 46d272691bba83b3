"""Chapter 12, attention in memory: its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pimllm_lib import catalog, technologies
from pimllm_lib.report.chapters.long_figures import short
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, end_labels, log_ticks, style

_COLOURS = {
    "published": SYSTEM_COLOURS["pim-llm"], "recommended": "#CC79A7", "improved": "#009E73", "in memory": "#0072B2",
}  # fmt: skip
_GREY, _SHADES = "#777777", ("#56B4E9", "#0072B2", "#222222")
#: Years that are drawn; what lasts longer or shorter is at the edge.
_YEARS = (1e-3, 1e6)


def rates(machines: xr.Dataset) -> Figure:
    """Draw rate and efficiency over context, a column a model."""
    names, contexts = [str(name) for name in machines.model.values], machines.context_len.values
    shown = {"tokens_per_s": "Decoding rate (tokens/s)", "tokens_per_j": "Efficiency (tokens/J)"}
    with style():
        drawn, axes = plt.subplots(2, len(names), figsize=(1.4 + 2.5 * len(names), 5.4), sharex=True, squeeze=False)
        for row, (variable, text) in zip(axes, shown.items(), strict=True):
            row[0].set_ylabel(text)
            for ax, name in zip(row, names, strict=True):
                for machine, colour in _COLOURS.items():
                    values = machines[variable].sel(model=name, machine=machine)
                    ax.plot(contexts, values, "--" if machine == "improved" else "-", color=colour)
                ax.set(xscale="log", yscale="log")
                low, high = (np.log10(end) for end in ax.get_ylim())
                log_ticks(ax, "y", [10.0**e for e in range(int(np.ceil(low)), int(np.floor(high)) + 1)])
                _context_ticks(ax, contexts)
                if variable == "tokens_per_s":
                    ax.set_title(name, fontsize=10)
                else:
                    ax.set_xlabel("Context (tokens)")
        handles = [
            Line2D([], [], color=colour, ls="--" if name == "improved" else "-", label=name)
            for name, colour in _COLOURS.items()
        ]
        drawn.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        plt.close(drawn)
    last = machines.tokens_per_s.isel(context_len=-1)
    told = "; ".join(
        f"{name}: {', '.join(f'{last.sel(model=name, machine=m).item():.2g}' for m in _COLOURS)}" for name in names
    )
    return Figure(
        drawn, f"Decoding rate and efficiency over context: {', '.join(_COLOURS)}. Tokens per second at "
        f"{short(contexts[-1])} tokens, in this order: {told}."
    )  # fmt: skip


def _context_ticks(ax: Axes, contexts: Any) -> None:
    ticks = [n for i, n in enumerate(contexts) if i % 3 == 0]
    log_ticks(ax, "x", ticks)
    ax.set_xticklabels([short(n) for n in ticks])


def years(rows: xr.Dataset, allocation: str = "ring") -> Figure:
    """Draw the years until one in a hundred cells has failed, a line a technology, a colour a context, for the first
    model: answers without pause, and a phone.
    """
    names = [str(name) for name in rows.technology.values]
    uses = [str(use) for use in rows.use.values[1:]]
    worn = rows.worn_years.isel(model=0).sel(allocation=allocation)
    with style():
        drawn, axes = plt.subplots(1, len(uses), figsize=(9.2, 4.6), sharey=True, squeeze=False)
        for ax, use in zip(axes[0], uses, strict=True):
            for place, name in enumerate(names):
                _bars(ax, worn.sel(technology=name, use=use), len(names) - 1 - place)
            ax.set(
                xscale="log", xlim=(_YEARS[0] / 2, _YEARS[1] * 2), title=use, xlabel="Years until 1 % of the cells fail"
            )
            ax.title.set_fontsize(10)
            log_ticks(ax, "x", [1e-3, 1e-1, 1e1, 1e3, 1e5])
            ax.set_xticklabels(["0.001", "0.1", "10", "1000", "$10^5$"])
            ax.axvline(5, color=_GREY, lw=0.8, ls=":")
        axes[0, 0].set_yticks(range(len(names)), names[::-1])
        handles = [
            Line2D([], [], color=shade, marker="o", lw=1.4, label=f"{n} tokens of context")
            for n, shade in zip(rows.context_len.values, _SHADES, strict=False)
        ]
        handles.append(Line2D([], [], color=_GREY, lw=0.8, ls=":", label="5 years"))
        drawn.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        plt.close(drawn)
    middle = worn.sel(use=uses[0], estimate="median").isel(context_len=len(rows.context_len) // 2)
    told = ", ".join(f"{name} {_said(middle.sel(technology=name).item())}" for name in names)
    return Figure(
        drawn, f"Years until one in a hundred cells has failed, by technology and context, on a {allocation}. Medians for "
        f"{uses[0]} at {middle.context_len.item()} tokens: {told}."
    )  # fmt: skip


def _bars(ax: Axes, mine: xr.DataArray, place: int) -> None:
    """Draw one technology: a dot at the median, a line from low to high, an arrow beyond the edge; words where nothing
    wears.
    """
    if np.isinf(mine.sel(estimate="median")).all():
        ax.text(_YEARS[0], place, "no wear", color=_GREY, va="center", fontsize=9)
        return
    for i, shade in zip(range(mine.sizes["context_len"]), _SHADES, strict=False):
        low, middle, high = (
            np.clip(mine.sel(estimate=e).isel(context_len=i).item(), *_YEARS) for e in technologies.ESTIMATES
        )
        at = place + 0.22 * (1 - i)
        ax.plot([low, high], [at, at], "-", color=shade, lw=1.2)
        ax.plot([middle], [at], ">" if middle == _YEARS[1] else "o", color=shade, ms=4)


def _said(value: float) -> str:
    return "none" if np.isinf(value) else f"{value:.2g}"


def contours(needed: xr.Dataset, ratio: xr.Dataset, use: str, lasting: float) -> Figure:
    """Draw the device that would be needed, for the first model: above which endurance it lasts, and below which write
    energy it decodes more tokens a joule than the recommended hybrid; technologies beside.
    """
    contexts = needed.context_len.values
    cycles = np.logspace(3, 15, 61)
    unit = needed.needed_endurance.isel(model=0).sel(use=use) / lasting
    lasts = cycles[:, None] / unit.transpose("context_len").values
    gain = ratio.efficiency_ratio.isel(model=0).transpose("cell_write_j", "context_len")
    with style():
        drawn, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.6))
        for ax in (left, right):  # before any contour is named, so that its name lies on it
            ax.set(xscale="log", yscale="log", xlabel="Context (tokens)", xlim=(contexts[0], contexts[-1]))
        left.set_ylim(cycles[0], cycles[-1])
        right.set_ylim(float(gain.cell_write_j[0]), float(gain.cell_write_j[-1]))
        levels = [0.1, 1, lasting, 100, 1e4]
        drawn_years = left.contour(contexts, cycles, lasts, levels=sorted(levels), colors=_GREY, linewidths=1.1)
        left.clabel(drawn_years, fmt=lambda value: f"{value:g} years", fontsize=8)
        left.contourf(contexts, cycles, lasts, levels=[lasting, np.inf], colors=["#56B4E9"], alpha=0.18)
        left.set(ylabel="Endurance of a cell (cycles)", title=f"Lasts, {use}")
        _beside(left, {name: catalog.parts[name].endurance for name in technologies.names()})
        low, high = float(gain.min()), float(gain.max())
        lines = [level for level in (0.3, 0.7, 0.95, 1.0, 1.05, 1.5, 2.5) if low < level < high]
        drawn_gain = right.contour(contexts, gain.cell_write_j, gain, levels=lines, colors=_GREY, linewidths=1.1)
        right.clabel(drawn_gain, fmt=lambda value: f"{value:g} x", fontsize=8)
        right.contourf(contexts, gain.cell_write_j, gain, levels=[1, max(high, 1.001)], colors=["#56B4E9"], alpha=0.18)
        right.set(ylabel="Energy to write a cell (J)", title="Tokens/J over the recommended hybrid")
        _beside(
            right, {n: catalog.parts[n].cell.write_j * catalog.parts[n].cell.write_pulses for n in technologies.names()}
        )
        for ax in (left, right):
            ax.title.set_fontsize(10)
            _context_ticks(ax, contexts)
        plt.close(drawn)
    at = f"{needed.needed_endurance.isel(model=0).sel(use=use).min().item():.2g}"
    most = f"{needed.needed_endurance.isel(model=0).sel(use=use).max().item():.2g}"
    return Figure(
        drawn, f"Contours over context: endurance that lasts ({at} to {most} cycles for {lasting:g} years), and energy to "
        "write a cell below which attention in memory decodes more tokens a joule than the recommended hybrid."
    )  # fmt: skip


def _beside(ax: Axes, values: dict[str, float]) -> None:
    """Name technologies at their median at the right edge, moved apart where they crowd."""
    low, high = ax.get_ylim()
    inside = [(value, name, "#333333") for name, value in values.items() if low <= value <= high]
    for value, _, _ in inside:
        ax.plot([1.0, 1.02], [value, value], transform=ax.get_yaxis_transform(), color="#333333", lw=0.8, clip_on=False)
    end_labels(ax, inside, ax.get_xlim()[1], gap=0.05)


def accuracy(study: xr.Dataset, bits: Sequence[int] = (8, 4, 3)) -> Figure:
    """Draw the rise of the perplexity along the spread of a write, for keys and values of so many bits, and of cells as
    published.
    """
    markers = {8: "o", 4: "s", 3: "^"}
    with style():
        drawn, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.2), sharey=True, width_ratios=(1, 1.25))
        for n, shade in zip(bits, _SHADES[::-1], strict=False):
            mine = _curve(study, f"variation, {n} bits").sortby("value")
            left.fill_between(
                mine.value, 100 * mine.perplexity_rise_low, 100 * mine.perplexity_rise_high, color=shade, alpha=0.2
            )
            left.plot(mine.value, 100 * mine.perplexity_rise, f"-{markers[n]}", color=shade, ms=4, label=f"{n} bits")
            cells = _curve(study, f"cells, {n} bits", f"on/off 2, {n} bits")
            at = np.arange(cells.sizes["case"])
            right.errorbar(
                at + 0.2 * (1 - list(bits).index(n)), 100 * cells.perplexity_rise,
                yerr=100 * np.abs(np.stack([cells.perplexity_rise - cells.perplexity_rise_low,
                                            cells.perplexity_rise_high - cells.perplexity_rise])),
                fmt=markers[n], color=shade, ms=4, lw=1, ls="none",
            )  # fmt: skip
            right.set_xticks(at, [str(s).removeprefix("cells-") for s in cells.setting.values], rotation=40, ha="right")
        left.set(yscale="symlog", xlabel="Spread of a written conductance over its target",
                 ylabel="Rise of the perplexity (%)")  # fmt: skip
        left.set_yscale("symlog", linthresh=0.5)
        for ax in (left, right):
            ax.set_ylim(-0.3, 200)
            ax.yaxis.set_major_locator(FixedLocator([0, 0.5, 1, 3, 10, 30, 100]))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_locator(NullLocator())
            ax.axhline(1, color=_GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
        left.legend(frameon=False, title="keys and values of")
        plt.close(drawn)
    return Figure(drawn, "Rise of the perplexity with keys and values in analog cells, along the spread of a write and for "
                  "cells as published, with 95 % intervals.")  # fmt: skip


def _curve(study: xr.Dataset, *names: str) -> xr.Dataset:
    return study.sel(case=[str(c) for c, of in zip(study.case.values, study.curve.values, strict=True) if of in names])
