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

from pimllm_lib.bounds import BOUNDS
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, label, log_ticks, style

_PUBLISHED, _IMPROVED, _ALL, _GREY = SYSTEM_COLOURS["pim-llm"], "#009E73", "#0072B2", "#777777"
#: Bound -> colour, from the array to the memory.
_BOUND_COLOURS = {
    "multipliers": "#009E73", "idle": "#D55E00", "filling": "#E69F00", "SRAM": "#56B4E9", "cache memory": "#0072B2",
}  # fmt: skip


def short(tokens: float) -> str:
    """Return a number of tokens as it is said: 128, 4k, 1M."""
    for size, letter in ((2**20, "M"), (2**10, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{letter}"
    return f"{tokens:g}"


def rates(stacked: xr.Dataset, exact: int, holds: dict[str, float]) -> Figure:
    """Draw rates over context, a panel a model: published, improved, with all remedies; and the floors of both caches.

    exact: remedies that compute the same, the first of the stack; holds: context whose cache fills a common memory.
    """
    rate, floor = stacked.stack_tokens_per_s, stacked.stack_floor_tokens_per_s
    names, contexts = [str(name) for name in stacked.model.values], stacked.context_len.values
    columns = min(2, len(names))
    with style():
        rows = -(-len(names) // columns)
        drawn, axes = plt.subplots(rows, columns, figsize=(8.2, 0.6 + 3 * rows), sharex=True, squeeze=False)
        for ax, name in zip(axes.flat, names, strict=False):
            mine, low = rate.sel(model=name), floor.sel(model=name)
            ax.plot(contexts, low.isel(put_on=0), "--", color=_GREY, lw=1.1)
            for at, colour in ((0, _PUBLISHED), (exact, _IMPROVED), (-1, _ALL)):
                ax.plot(contexts, mine.isel(put_on=at), "-", color=colour)
            ax.axvline(holds[name], color=_GREY, lw=0.8, ls=":")
            ax.set(xscale="log", yscale="log", title=name, ylim=(mine.min() / 1.5, 4 * mine.max()))
            _axes(ax, contexts)
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel(label(rate).split(" with")[0] + " (tokens/s)")
        for ax in axes[-1]:
            ax.set_xlabel("Context length (tokens)")
        _legend(drawn)
        plt.close(drawn)
    told = "; ".join(
        f"{name}: {', '.join(f'{rate.sel(model=name).isel(put_on=at, context_len=-1).item():.2g}' for at in (0, exact, -1))}"
        for name in names
    )
    alt = (
        f"Decoding rates from {short(contexts[0])} to {short(contexts[-1])} tokens of context for {len(names)} models, as "
        f"published, improved, and with all remedies. In tokens per second at the longest, in this order: {told}."
    )
    return Figure(drawn, alt)


def _axes(ax: Axes, contexts: Any) -> None:
    low, high = (np.log10(end) for end in ax.get_ylim())
    log_ticks(ax, "y", [10.0**e for e in range(int(np.ceil(low)), int(np.floor(high)) + 1)])
    _tokens(ax, contexts)


def _tokens(ax: Axes, contexts: Any) -> None:
    ticks = [n for n in contexts if np.log2(n) % 3 == 1] or list(contexts)
    log_ticks(ax, "x", ticks)
    ax.set_xticklabels([short(n) for n in ticks])


def _legend(drawn: Any) -> None:
    lines = [
        (_PUBLISHED, "-", "as published"), (_IMPROVED, "-", "improved, computes the same"), (_ALL, "-", "all remedies"),
        (_GREY, "--", "reading the 8-bit cache once"), (_GREY, ":", "cache of 16 GiB"),
    ]  # fmt: skip
    handles = [Line2D([], [], color=colour, ls=dash, label=text) for colour, dash, text in lines]
    drawn.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def roofline(bounds: xr.Dataset) -> Figure:
    """Draw what bounds attention: left, each bound of the published machine over context; right, which one decides."""
    contexts, ways = bounds.context_len.values, [str(way) for way in bounds.way.values]
    first = bounds.bound_s.isel(way=0)
    with style():
        drawn, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.7), width_ratios=(1, 1.15))
        for name, colour in _BOUND_COLOURS.items():
            times = 1e3 * first.sel(bound=name)
            left.plot(contexts, times, "--" if name == "cache memory" else "-", color=colour)
        left.set(
            xscale="log", yscale="log", xlabel="Context length (tokens)", ylabel="Time for a token's attention (ms)"
        )
        _axes(left, contexts)
        left.set_title("as published")
        codes = np.array([[list(BOUNDS).index(str(x)) for x in row] for row in bounds.decides.values])
        colours = ListedColormap([_BOUND_COLOURS[name] for name in BOUNDS])
        right.pcolormesh(np.arange(len(contexts) + 1), np.arange(len(ways) + 1), codes, cmap=colours, vmin=-0.5,
                         vmax=len(BOUNDS) - 0.5, edgecolors="white", linewidth=0.6)  # fmt: skip
        right.set_yticks(np.arange(len(ways)) + 0.5, ways)
        shown = [i for i, n in enumerate(contexts) if np.log2(n) % 3 == 1] or list(range(len(contexts)))
        right.set_xticks([i + 0.5 for i in shown], [short(contexts[i]) for i in shown])
        right.set(xlabel="Context length (tokens)", title="what decides")
        right.invert_yaxis()
        handles = [Line2D([], [], color=colour, lw=5, label=name) for name, colour in _BOUND_COLOURS.items()]
        drawn.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
        plt.close(drawn)
    told = "; ".join(f"{way}: {', '.join(_runs(bounds.decides.values[i], contexts))}" for i, way in enumerate(ways))
    return Figure(drawn, f"Bounds of attention over context, and which of them decides. {told}.")


def _runs(decides: Sequence[str], contexts: Sequence[int]) -> list[str]:
    """Return each bound with the context from which on it decides."""
    return [
        f"{name} from {short(n)}"
        for i, (name, n) in enumerate(zip(decides, contexts, strict=True))
        if i == 0 or decides[i - 1] != name
    ]
