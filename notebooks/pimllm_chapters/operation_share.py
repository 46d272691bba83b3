"""Chapter 01, the one-bit share of a decoder's work: its figure and its sentences."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from pimllm_lib.analysis import claims
from pimllm_lib.core.schema import PROJECTION_OPS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, label, panels
from pimllm_lib.report.numbers import span
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence, agreement, escaped, where
from pimllm_lib.system import metrics

#: Variable of a summary -> what a panel of the heat map calls it.
_PANELS = {"projection_share": "of multiply-accumulates", "projection_cycle_share": "of array cycles"}
#: The published statement is about a share over this.
_BOUND = 0.99


def heat_map(summary: xr.Dataset) -> Figure:
    """Draw the share of projections in MACs and in array cycles, a row a model, a column a context length."""
    array = summary.sel(system="tpu-llm")
    models, contexts = array.model.values, array.context_len.values
    low = min(float(array[name].min()) for name in _PANELS)
    with panels(1, 2, figsize=(7.6, 1.3 + 0.36 * len(models)), sharey=True) as (drawn, axes):
        for ax, (name, title) in zip(axes, _PANELS.items(), strict=True):
            _cells(ax, array[name].transpose("model", "context_len").values, low)
            ax.set_title(f"Share {title}", fontsize=10)
            ax.set_xticks(np.arange(len(contexts)) + 0.5, contexts)
            ax.set_xlabel(label(array.context_len))
        axes[0].invert_yaxis()
        axes[0].set_yticks(np.arange(len(models)) + 0.5, models)
    ends = [f"from {span(array[name], '.3f')} {title}" for name, title in _PANELS.items()]
    alt = (
        f"Two heat maps over {len(models)} models and {len(contexts)} context lengths: the projections' share is "
        f"{' and '.join(ends)}. It grows with the model and falls with context. Framed cells are above {_BOUND}."
    )
    return Figure(drawn, alt)


def _cells(ax: Axes, shares: np.ndarray, low: float) -> None:
    """Draw one heat map with its numbers in the cells, those above the bound bold and framed."""
    scale = Normalize(min(low, _BOUND) - 0.1, 1.15)
    ax.pcolormesh(shares, cmap="Blues", norm=scale, edgecolors="#ffffff", linewidth=0.6)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(shares):
        over = value > _BOUND
        grey = np.dot(plt.get_cmap("Blues")(scale(value))[:3], (0.299, 0.587, 0.114))
        ax.text(
            column + 0.5, row + 0.5, f"{value:.3f}", ha="center", va="center", fontsize=8.5,
            color="#000000" if grey > 0.5 else "#ffffff", fontweight="bold" if over else "normal",
        )  # fmt: skip
        if over:
            ax.add_patch(Rectangle((column + 0.04, row + 0.05), 0.92, 0.9, fill=False, ec="#E69F00", lw=1.6))


def box(summary: xr.Dataset) -> Box:
    """Return the box of the page: the range of both shares."""
    macs, cycles = (span(100 * summary[name].sel(system="tpu-llm"), ".1f") for name in _PANELS)
    return Box(
        question="How much of decoding can crossbars take over?",
        answer=f"Over models and contexts, {macs} % of the multiply-accumulates and {cycles} % of the array's cycles.",
        sure=f"Exact: shapes and counting alone. {agreement(claims.check(summary))}",
        decides="Context over the model's width; and the output head, which is not counted and weighs most in small models.",
    )


def readings(ds: xr.Dataset) -> Table:
    """Return how many printed cells of the heat map come out under three readings of the word operation."""
    summary = metrics.summary(ds)
    reported = metrics.share(ds, "cycles", "op").sel(op=list(PROJECTION_OPS)).sum("op")
    shares = {
        "multiply-accumulates": summary.projection_share,
        "array cycles as the simulator reports them, one short for each product": reported,
        "array cycles, whole": summary.projection_cycle_share,
    }
    rows = []
    for reading, values in shares.items():
        checked = cells(claims.check(summary.assign(projection_cycle_share=values)))
        off = [place.removeprefix("heat-map-") for place in checked.index[checked.verdict != "agrees"]]
        named = ", ".join(off) if len(off) <= 3 else f"{len(off)} cells"
        agree = len(checked) - len(off)
        rows.append({"share of": reading, "cells as printed": f"{agree} of {len(checked)}", "other": named or "none"})
    return Table(rows, title="Printed cells that come out, by what an operation is")


def cells(checked: pd.DataFrame) -> pd.DataFrame:
    """Return the checked claims that are cells of the printed heat map."""
    return checked[checked.index.str.startswith("heat-map-")]


def array_effect(sizes: xr.Dataset) -> Sentence:
    """Return how far the cycle share of one model depends on the side of the array, which the MAC share does not."""
    shares, side = sizes.projection_cycle_share.squeeze(), sizes.array_side.values
    return Sentence(
        f"For {where(shares)} the share is {100 * shares.values[0]:.1f} % of the cycles of an array of {side[0]} x "
        f"{side[0]} PEs and {100 * shares.values[-1]:.1f} % of those of one of {side[-1]} x {side[-1]}. It is "
        f"{100 * sizes.projection_share.mean().item():.1f} % of the multiply-accumulates on any."
    )


def head_effect(summary: xr.Dataset, headed: xr.Dataset) -> Sentence:
    """Return the share at the shortest context with and without the output head among the operations."""
    plain, counted = (ds.projection_share.isel(system=0, context_len=0) for ds in (summary, headed))
    over = [int((shares > _BOUND).sum()) for shares in (plain, counted)]
    tokens, last = plain.context_len.item(), counted.isel(model=-1)
    return Sentence(
        f"Without the output head, {over[0]} of {plain.size} models have over {100 * _BOUND:.0f} % of their "
        f"multiply-accumulates in projections at {tokens} tokens. With it counted as work that is not one-bit, {over[1]} of "
        f"{plain.size} have; {escaped(last.model.item())} goes from {100 * plain.isel(model=-1).item():.2f} to "
        f"{100 * last.item():.2f} %."
    )
