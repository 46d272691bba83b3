"""Chapter 10, long contexts: its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as MplFigure

from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, decades, legend, log_ticks, panels
from pimllm_lib.report.numbers import listed, number, tokens
from pimllm_lib.report.tables import points

_PUBLISHED, _IMPROVED, _ALL, _GREY = SYSTEM_COLOURS["pim-llm"], "#009E73", "#0072B2", "#777777"
#: Bound of `bounds.BOUNDS` -> colour, from the array to the memory.
_BOUND_COLOURS = {
    "other work": "#999999", "multipliers": "#009E73", "idle": "#D55E00", "filling": "#E69F00", "SRAM": "#56B4E9",
    "cache memory": "#0072B2",
}  # fmt: skip
#: Line of the figure of rates -> its look.
_LINES = {
    "as published": {"color": _PUBLISHED}, "improved, computes the same": {"color": _IMPROVED},
    "with remedies that change the model": {"color": _ALL}, "reading the 8-bit cache once": {"color": _GREY, "ls": "--"},
    "cache of 16 GiB": {"color": _GREY, "ls": ":"},
}  # fmt: skip


def rates(stacked: xr.Dataset, exact: int, holds: dict[str, float]) -> Figure:
    """Draw rates and efficiency over context, a column a model: published, improved, with all remedies; the cache's floor.

    exact: remedies that compute the same, the first of the stack; holds: context whose cache fills a common memory.
    """
    names, contexts = [str(name) for name in stacked.model.values], stacked.context_len.values
    shown = {"stack_tokens_per_s": "Decoding rate (tokens/s)", "stack_tokens_per_j": "Efficiency (tokens/J)"}
    with by_model(stacked, shown, 1.2 + 1.9 * len(names), every=6) as (drawn, cells):
        for ax, variable, mine in cells:
            floor = mine[variable.replace("stack", "stack_floor")].isel(put_on=0)
            ax.plot(contexts, floor, "--", color=_GREY, lw=1.1)
            for at, colour in ((0, _PUBLISHED), (exact, _IMPROVED), (-1, _ALL)):
                ax.plot(contexts, mine[variable].isel(put_on=at), "-", color=colour)
            ax.axvline(holds[mine.model.item()], color=_GREY, lw=0.8, ls=":")
            ax.set(ylim=(mine[variable].min() / 1.5, 4 * mine[variable].max()))
        legend(drawn, _LINES, ncols=3)
    last = stacked.stack_tokens_per_s.isel(context_len=-1, put_on=[0, exact, -1])
    told = "; ".join(f"{name}: {', '.join(number(x, 2) for x in last.sel(model=name).values)}" for name in names)
    alt = (
        f"Decoding rates and efficiency from {tokens(contexts[0])} to {tokens(contexts[-1])} tokens of context for "
        f"{len(names)} models, as published, improved, and with all remedies. In tokens per second at the longest, in this "
        f"order: {told}."
    )
    return Figure(drawn, alt)


@contextmanager
def by_model(
    ds: xr.Dataset, shown: Mapping[str, str], width: float, *, every: int
) -> Iterator[tuple[MplFigure, list[tuple[Axes, str, xr.Dataset]]]]:
    """Yield a figure and its panels, each with the variable and the results of the model that it is for.

    A row for each variable that is shown, with its label; a column for each model; context on the horizontal axis.
    """
    columns, cells = list(points(ds, "model")), []
    with panels(len(shown), len(columns), figsize=(width, 5.4), sharex=True, squeeze=False) as (drawn, axes):
        for row, (variable, text) in zip(axes, shown.items(), strict=True):
            row[0].set_ylabel(text)
            for ax, (_, mine) in zip(row, columns, strict=True):
                ax.set(xscale="log", yscale="log")
                log_axes(ax, ds.context_len.values, every)
                cells.append((ax, variable, mine))
        for top, bottom, (name, _) in zip(axes[0], axes[-1], columns, strict=True):
            top.set_title(name, fontsize=10)
            bottom.set_xlabel("Context (tokens)")
        yield drawn, cells


def log_axes(ax: Axes, contexts: Any, every: int) -> None:
    """Put decades on the vertical axis, and every so-manieth context on the horizontal one."""
    log_ticks(ax, "y", decades())
    context_ticks(ax, contexts, every)


def context_ticks(ax: Axes, contexts: Any, every: int) -> None:
    """Put every so-manieth context on the horizontal axis."""
    ticks = _ticks(contexts, every)
    log_ticks(ax, "x", ticks)
    ax.set_xticklabels([tokens(n) for n in ticks])


def _ticks(contexts: Any, every: int) -> list[float]:
    """Return contexts a factor of 2^every apart, all where there are none: 128, 1k, 8k for 3."""
    return [n for n in contexts if np.log2(n) % every == 7 % every] or list(contexts)


def roofline(bounds: xr.Dataset) -> Figure:
    """Draw what bounds decoding over context.

    Above, each bound of the published and of the improved machine for the first model; below, which one decides on each
    way, for the first two.
    """
    contexts, models = bounds.context_len.values, [str(name) for name in bounds.model.values[:2]]
    with panels(2, 2, figsize=(8.4, 6.4), height_ratios=(1.15, 1)) as (drawn, axes):
        for ax, way in zip(axes[0], bounds.way.values[[0, -1]], strict=True):
            for name, colour in _BOUND_COLOURS.items():
                times = 1e3 * bounds.bound_s.sel(model=models[0], way=way, bound=name)
                ax.plot(contexts, times.where(times > 0), "--" if name == "cache memory" else "-", color=colour)
            low, high = 1e3 * bounds.bound_s.isel(model=0, way=[0, -1]).quantile([0.02, 1]).values
            ax.set(xscale="log", yscale="log", ylim=(max(low, 1e-2), 2 * high), title=f"{models[0]}, {way}")
            log_axes(ax, contexts, 3)
        axes[0, 0].set_ylabel("Time of a token (ms)")
        for ax, model in zip(axes[1], models, strict=False):
            _regions(ax, bounds.sel(model=model), contexts, named=model == models[0])
        for ax in axes[1, len(models) :]:
            ax.set_visible(False)
        legend(drawn, {name: {"color": colour, "lw": 5} for name, colour in _BOUND_COLOURS.items()})
    each = points(bounds.isel(model=slice(2)), "model", "way")
    told = "; ".join(f"{way}: {', '.join(_runs(at.decides.values, contexts))}" for _, way, at in each)
    return Figure(drawn, f"Bounds of decoding over context, and which of them decides for {listed(models)}. {told}.")


def _regions(ax: Axes, bounds: xr.Dataset, contexts: Any, *, named: bool) -> None:
    """Colour each way and context by the bound that decides."""
    ways = [str(way) for way in bounds.way.values]
    codes = np.array([[list(_BOUND_COLOURS).index(str(x)) for x in row] for row in bounds.decides.values])
    colours = ListedColormap(list(_BOUND_COLOURS.values()))
    ax.pcolormesh(np.arange(len(contexts) + 1), np.arange(len(ways) + 1), codes, cmap=colours, vmin=-0.5,
                  vmax=len(_BOUND_COLOURS) - 0.5, edgecolors="white", linewidth=0.6)  # fmt: skip
    ax.set_yticks(np.arange(len(ways)) + 0.5, ways if named else [""] * len(ways))
    shown = _ticks(contexts, 3)
    ax.set_xticks([list(contexts).index(n) + 0.5 for n in shown], [tokens(n) for n in shown])
    ax.set(xlabel="Context length (tokens)", title=f"{bounds.model.item()}, what decides")
    ax.invert_yaxis()


def _runs(decides: Sequence[str], contexts: Sequence[int]) -> list[str]:
    """Return each bound with the context from which on it decides."""
    return [
        f"{name} from {tokens(n)}"
        for i, (name, n) in enumerate(zip(decides, contexts, strict=True))
        if i == 0 or decides[i - 1] != name
    ]
