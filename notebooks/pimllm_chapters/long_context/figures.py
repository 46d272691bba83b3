"""Chapter 10, long contexts: its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D

from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, log_ticks, style

_PUBLISHED, _IMPROVED, _ALL, _GREY = SYSTEM_COLOURS["pim-llm"], "#009E73", "#0072B2", "#777777"
#: Bound of `bounds.BOUNDS` -> colour, from the array to the memory.
_BOUND_COLOURS = {
    "other work": "#999999", "multipliers": "#009E73", "idle": "#D55E00", "filling": "#E69F00", "SRAM": "#56B4E9",
    "cache memory": "#0072B2",
}  # fmt: skip


def short(tokens: float) -> str:
    """Return a number of tokens as it is said: 128, 4k, 1M."""
    for size, letter in ((2**20, "M"), (2**10, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{letter}"
    return f"{tokens:g}"


def rates(stacked: xr.Dataset, exact: int, holds: dict[str, float]) -> Figure:
    """Draw rates and efficiency over context, a column a model: published, improved, with all remedies; and the cache's
    floor.

    exact: remedies that compute the same, the first of the stack; holds: context whose cache fills a common memory.
    """
    names, contexts = [str(name) for name in stacked.model.values], stacked.context_len.values
    shown = {"stack_tokens_per_s": "Decoding rate (tokens/s)", "stack_tokens_per_j": "Efficiency (tokens/J)"}
    with style():
        drawn, axes = plt.subplots(2, len(names), figsize=(1.2 + 1.9 * len(names), 5.4), sharex=True, squeeze=False)
        for row, (variable, text) in zip(axes, shown.items(), strict=True):
            row[0].set_ylabel(text)
            for ax, name in zip(row, names, strict=True):
                mine = stacked.sel(model=name)
                floor = mine[variable.replace("stack", "stack_floor")].isel(put_on=0)
                ax.plot(contexts, floor, "--", color=_GREY, lw=1.1)
                if variable == "stack_tokens_per_s":
                    ax.set_title(name, fontsize=10)
                else:
                    ax.set_xlabel("Context (tokens)")
                for at, colour in ((0, _PUBLISHED), (exact, _IMPROVED), (-1, _ALL)):
                    ax.plot(contexts, mine[variable].isel(put_on=at), "-", color=colour)
                ax.axvline(holds[name], color=_GREY, lw=0.8, ls=":")
                ax.set(xscale="log", yscale="log", ylim=(mine[variable].min() / 1.5, 4 * mine[variable].max()))
                log_axes(ax, contexts, 6)
        _legend(drawn)
        plt.close(drawn)
    told = "; ".join(f"{name}: {_ends(stacked.stack_tokens_per_s.sel(model=name), exact)}" for name in names)
    alt = (
        f"Decoding rates and efficiency from {short(contexts[0])} to {short(contexts[-1])} tokens of context for "
        f"{len(names)} "
        f"models, as published, improved, and with all remedies. In tokens per second at the longest, in this order: {told}."
    )
    return Figure(drawn, alt)


def _ends(rate: xr.DataArray, exact: int) -> str:
    return ", ".join(f"{rate.isel(put_on=at, context_len=-1).item():.2g}" for at in (0, exact, -1))


def log_axes(ax: Axes, contexts: Any, every: int) -> None:
    """Put decades on the vertical axis, and every so-manieth context on the horizontal one."""
    low, high = (np.log10(end) for end in ax.get_ylim())
    log_ticks(ax, "y", [10.0**e for e in range(int(np.ceil(low)), int(np.floor(high)) + 1)])
    context_ticks(ax, contexts, every)


def context_ticks(ax: Axes, contexts: Any, every: int) -> None:
    """Put every so-manieth context on the horizontal axis."""
    ticks = _ticks(contexts, every)
    log_ticks(ax, "x", ticks)
    ax.set_xticklabels([short(n) for n in ticks])


def _ticks(contexts: Any, every: int) -> list[float]:
    """Return contexts a factor of 2^every apart, all where there are none: 128, 1k, 8k for 3."""
    return [n for n in contexts if np.log2(n) % every == 7 % every] or list(contexts)


def _legend(drawn: Any) -> None:
    lines = [
        (_PUBLISHED, "-", "as published"), (_IMPROVED, "-", "improved, computes the same"),
        (_ALL, "-", "with remedies that change the model"),
        (_GREY, "--", "reading the 8-bit cache once"), (_GREY, ":", "cache of 16 GiB"),
    ]  # fmt: skip
    handles = [Line2D([], [], color=colour, ls=dash, label=text) for colour, dash, text in lines]
    drawn.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def roofline(bounds: xr.Dataset) -> Figure:
    """Draw what bounds decoding: above, each bound of the published and of the improved machine over context for the
    first model; below, which one decides on each way, for the first two.
    """
    contexts, models = bounds.context_len.values, [str(name) for name in bounds.model.values[:2]]
    with style():
        drawn, axes = plt.subplots(2, 2, figsize=(8.4, 6.4), height_ratios=(1.15, 1))
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
        handles = [Line2D([], [], color=colour, lw=5, label=name) for name, colour in _BOUND_COLOURS.items()]
        drawn.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
        plt.close(drawn)
    told = "; ".join(
        f"{way}: {', '.join(_runs(bounds.decides.sel(model=model, way=way).values, contexts))}"
        for model in models
        for way in bounds.way.values
    )
    return Figure(
        drawn, f"Bounds of decoding over context, and which of them decides for {' and '.join(models)}. {told}."
    )


def _regions(ax: Axes, bounds: xr.Dataset, contexts: Any, *, named: bool) -> None:
    """Colour each way and context by the bound that decides."""
    ways = [str(way) for way in bounds.way.values]
    codes = np.array([[list(_BOUND_COLOURS).index(str(x)) for x in row] for row in bounds.decides.values])
    colours = ListedColormap(list(_BOUND_COLOURS.values()))
    ax.pcolormesh(np.arange(len(contexts) + 1), np.arange(len(ways) + 1), codes, cmap=colours, vmin=-0.5,
                  vmax=len(_BOUND_COLOURS) - 0.5, edgecolors="white", linewidth=0.6)  # fmt: skip
    ax.set_yticks(np.arange(len(ways)) + 0.5, ways if named else [""] * len(ways))
    shown = _ticks(contexts, 3)
    ax.set_xticks([list(contexts).index(n) + 0.5 for n in shown], [short(n) for n in shown])
    ax.set(xlabel="Context length (tokens)", title=f"{bounds.model.item()}, what decides")
    ax.invert_yaxis()


def _runs(decides: Sequence[str], contexts: Sequence[int]) -> list[str]:
    """Return each bound with the context from which on it decides."""
    return [
        f"{name} from {short(n)}"
        for i, (name, n) in enumerate(zip(decides, contexts, strict=True))
        if i == 0 or decides[i - 1] != name
    ]
