"""Chapter 12, attention in memory: its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from pimllm_chapters.long_context.figures import by_model, context_ticks
from pimllm_chapters.pim_attention.compute import cell_j
from pimllm_chapters.pim_attention.words import FULL
from pimllm_chapters.pim_attention.words import years as said
from pimllm_lib.analysis import technologies
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, end_labels, legend, log_ticks, panels
from pimllm_lib.report.numbers import span, tokens
from pimllm_lib.report.tables import points

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
    looks: dict[str, Any] = {
        name: {"color": colour, "ls": "--" if name == "improved" else "-"} for name, colour in _COLOURS.items()
    }
    with by_model(machines, shown, 1.4 + 2.5 * len(names), every=3) as (drawn, cells):
        for ax, variable, mine in cells:
            for machine, look in looks.items():
                ax.plot(contexts, mine[variable].sel(machine=machine), **look)
        legend(drawn, looks)
    last = machines.tokens_per_s.isel(context_len=-1).sel(machine=list(_COLOURS))
    told = "; ".join(f"{name}: {', '.join(f'{x:.2g}' for x in last.sel(model=name).values)}" for name in names)
    alt = (
        f"Decoding rate and efficiency over context: {', '.join(_COLOURS)}. Tokens per second at {tokens(contexts[-1])} "
        f"tokens, in this order: {told}."
    )
    return Figure(drawn, alt)


def years(rows: xr.Dataset, lasting: float, allocation: str = "ring") -> Figure:
    """Draw the years of answers without pause until one in a hundred cells has failed, for the first model.

    A line a technology, a colour a context: by the endurance of arrays and products, and by all that was published.
    """
    names = [str(name) for name in rows.technology.values]
    worn = rows.worn_years.isel(model=0).sel(allocation=allocation, use=FULL)
    with panels(1, rows.sizes["population"], figsize=(9.2, 4.6), sharey=True, squeeze=False) as (drawn, axes):
        for ax, population in zip(axes[0], map(str, rows.population.values[::-1]), strict=True):
            for place, name in enumerate(names[::-1]):
                _bars(ax, worn.sel(technology=name, population=population), place)
            ax.set(xscale="log", xlim=(_YEARS[0] / 2, _YEARS[1] * 2), xlabel="Years until 1 % of the cells have failed")
            ax.set_title(f"endurance of {population}", fontsize=10)
            log_ticks(ax, "x", [1e-3, 1e-1, 1e1, 1e3, 1e5])
            ax.set_xticklabels(["0.001", "0.1", "10", "1000", "10⁵"])
            ax.axvline(lasting, color=_GREY, lw=0.8, ls=":")
        axes[0, 0].set_yticks(range(len(names)), names[::-1])
        shades = zip(rows.context_len.values, _SHADES, strict=False)
        looks: dict[str, Any] = {f"{n} tokens of context": {"color": c, "marker": "o", "lw": 1.4} for n, c in shades}
        legend(drawn, looks | {f"{lasting:g} years": {"color": _GREY, "lw": 0.8, "ls": ":"}}, ncols=4)
    middle = worn.sel(estimate="median").isel(context_len=rows.sizes["context_len"] // 2)
    told = "; ".join(
        f"{population}: {', '.join(f'{name} {said(x.item())}' for name, x in points(mine, 'technology'))}"
        for population, mine in points(middle, "population")
    )
    alt = (
        f"Years of answers without pause until one in a hundred cells has failed, on a {allocation}. Medians at "
        f"{middle.context_len.item()} tokens, {told}."
    )
    return Figure(drawn, alt)


def _bars(ax: Axes, mine: xr.DataArray, place: int) -> None:
    """Draw one technology: a dot at the median, an arrow where it is beyond the edge, a line from low to high.

    Words where nothing wears and where nothing was published.
    """
    middle = mine.sel(estimate="median")
    if np.isinf(middle).all() or np.isnan(middle).all():
        words = "no wear" if np.isinf(middle).all() else "none published"
        ax.text(_YEARS[0], place, words, color=_GREY, va="center", fontsize=9)
        return
    for i, shade in zip(range(mine.sizes["context_len"]), _SHADES, strict=False):
        low, dot, high = np.clip(mine.isel(context_len=i).sel(estimate=list(technologies.ESTIMATES)).values, *_YEARS)
        at = place + 0.22 * (1 - i)
        ax.plot([low, high], [at, at], "-", color=shade, lw=1.2)
        ax.plot([dot], [at], {_YEARS[0]: "<", _YEARS[1]: ">"}.get(float(dot), "o"), color=shade, ms=4)


def contours(needed: xr.Dataset, ratio: xr.Dataset, lasting: float) -> Figure:
    """Draw the device that would be needed, for the first model, with technologies beside.

    Above which endurance it lasts answers without pause, and below which write energy it decodes more tokens a joule than
    the recommended hybrid.
    """
    cycles, contexts = np.logspace(3, 15, 61), needed.context_len.values
    unit = needed.needed_endurance.isel(model=0).sel(use=FULL)
    lasts = xr.DataArray(cycles, dims="cycles") / unit * lasting
    gain = ratio.efficiency_ratio.isel(model=0).transpose("cell_write_j", "context_len")
    with panels(1, 2, figsize=(9.4, 4.6)) as (drawn, (left, right)):
        years, factors = sorted({0.1, 1.0, float(lasting), 100.0, 1e4}), [0.3, 0.7, 0.95, 1.0, 1.05, 1.5, 2.5]
        _levels(left, contexts, cycles, lasts.values, years, lasting, "{:g} years")
        _levels(right, contexts, gain.cell_write_j.values, gain.values, factors, 1.0, "{:g} x")
        left.set(ylabel="Endurance of a cell (cycles)")
        left.set_title(f"Lasts {FULL}", fontsize=10)
        right.set(ylabel="Energy to write a cell (J)")
        right.set_title("Tokens/J over the recommended hybrid", fontsize=10)
        _beside(left, {name: technologies.named(name).endurance for name in technologies.names()})
        _beside(right, {name: cell_j(name) for name in technologies.names()})
    alt = (
        f"Contours over context: endurance that lasts ({span(unit, '.2g')} cycles for {lasting:g} years), and energy to "
        "write a cell below which attention in memory decodes more tokens a joule than the recommended hybrid."
    )
    return Figure(drawn, alt)


def _levels(ax: Axes, x: Any, y: Any, values: Any, levels: list[float], enough: float, form: str) -> None:
    """Draw contours with their names, and shade what is enough."""
    ax.set(xscale="log", yscale="log", xlabel="Context (tokens)", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    inside = [level for level in levels if values.min() < level < values.max()]
    if inside:
        lines = ax.contour(x, y, values, levels=inside, colors=_GREY, linewidths=1.1)
        ax.clabel(lines, fmt=form.format, fontsize=8)
    if values.max() > enough:
        ax.contourf(x, y, values, levels=[enough, np.inf], colors=["#56B4E9"], alpha=0.18)
    context_ticks(ax, x, 3)


def _beside(ax: Axes, values: dict[str, float]) -> None:
    """Name technologies at their median at the right edge, moved apart where they crowd."""
    low, high = ax.get_ylim()
    inside = [(value, name, "#555555") for name, value in values.items() if low <= value <= high]
    for value, _, colour in inside:
        ax.plot([1.0, 1.02], [value, value], transform=ax.get_yaxis_transform(), color=colour, lw=0.8, clip_on=False)
    end_labels(ax, inside, ax.get_xlim()[1], gap=0.05)


def accuracy(study: xr.Dataset, bits: Sequence[int] = (8, 4, 3)) -> Figure:
    """Draw the rise of the perplexity with keys and values of so many bits, along the spread of a write and for devices."""
    with panels(1, 2, figsize=(9.4, 4.2), sharey=True, width_ratios=(1, 1.25)) as (drawn, (left, right)):
        for i, (n, shade, marker) in enumerate(zip(bits, _SHADES[::-1], "os^", strict=False)):
            mine = _curve(study, f"variation, {n} bits").sortby("value")
            middle, low, high = _rises(mine)
            left.fill_between(mine.value, low, high, color=shade, alpha=0.2, lw=0)
            left.plot(mine.value, middle, f"-{marker}", color=shade, ms=4, label=f"{n} bits")
            cells = _curve(study, f"cells, {n} bits", f"on/off 2, {n} bits")
            at, (middle, low, high) = np.arange(cells.sizes["case"]), _rises(cells)
            apart = [middle - low, high - middle]
            right.errorbar(at + 0.2 * (1 - i), middle, yerr=np.abs(apart), fmt=marker, color=shade, ms=4, lw=1)
            right.set_xticks(at, [str(s).removeprefix("cells-") for s in cells.setting.values], rotation=40, ha="right")
        left.set(xlabel="Spread of a written conductance over its target", ylabel="Rise of the perplexity (%)")
        left.set_yscale("symlog", linthresh=0.5)
        left.set_ylim(-0.3, 200)
        for ax in (left, right):
            log_ticks(ax, "y", [0, 0.5, 1, 3, 10, 30, 100])
            ax.axhline(1, color=_GREY, lw=0.8, ls=(0, (4, 3)), zorder=0)
        left.legend(frameon=False, title="keys and values of")
    alt = (
        "Rise of the perplexity with keys and values in analog cells, along the spread of a write and for devices of the "
        "catalog, with 95 % intervals."
    )
    return Figure(drawn, alt)


def _rises(study: xr.Dataset) -> list[xr.DataArray]:
    """Return rises in percent, and the ends of their intervals."""
    return [100 * study[f"perplexity_rise{end}"] for end in ("", "_low", "_high")]


def _curve(study: xr.Dataset, *names: str) -> xr.Dataset:
    return study.sel(case=[str(c) for c, of in zip(study.case.values, study.curve.values, strict=True) if of in names])
