"""Chapter 15, the design space: its figure."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from pimllm_chapters.design_space.compute import MM2
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, label, log_ticks, style

_GREY = "#999999"


def map_of(front: xr.Dataset, both: xr.Dataset) -> Figure:
    """Draw the front over power and over area, with the published machines on the same axes."""
    with style():
        drawn, axes = plt.subplots(1, 2, figsize=(8.2, 3.7), sharey=True)
        for ax, (name, scale, unit) in zip(axes, (("power_w", 1.0, ""), ("area_m2", MM2, "mm²")), strict=True):
            ax.scatter(front[name] * scale, front.tokens_per_s, s=3, color=_GREY, alpha=0.5, linewidths=0)
            edge = _edge(front[name].values * scale, front.tokens_per_s.values)
            ax.plot(*edge, "-", color="#009E73", drawstyle="steps-post")
            for system in both.system.values:
                here = both.sel(system=system)
                ax.plot(here[name] * scale, here.tokens_per_s, "o", ms=7, color=SYSTEM_COLOURS[str(system)])
                ax.annotate(str(system), (here[name].item() * scale, here.tokens_per_s.item()),
                            xytext=(0, 9) if system == "pim-llm" else (9, -3), textcoords="offset points",
                            ha="center" if system == "pim-llm" else "left",
                            color=SYSTEM_COLOURS[str(system)])  # fmt: skip
            ax.set(xscale="log", yscale="log", xlabel=label(front[name], unit))
            low, high = (np.log10(end) for end in ax.get_xlim())
            steps = (1, 3) if high - low < 2.5 else (1,)
            log_ticks(
                ax, "x", [m * 10.0**e for e in range(-3, 8) for m in steps if low <= np.log10(m * 10.0**e) <= high]
            )
            log_ticks(ax, "y", [10.0**e for e in range(-4, 7) if ax.get_ylim()[0] <= 10.0**e <= ax.get_ylim()[1]])
        axes[0].set_ylabel(label(front.tokens_per_s))
        plt.close(drawn)
    home = both.sel(system="pim-llm")
    alt = (
        f"Rate of {front.sizes['design']} Pareto-optimal designs of {front.attrs['points']} over mean power, left, and over "
        f"area, right, from {front.tokens_per_s.min().item():.3g} to {front.tokens_per_s.max().item():.3g} tokens/s. "
        f"PIM-LLM as published is at {home.tokens_per_s.item():.3g}."
    )
    return Figure(drawn, alt)


def _edge(costs: Any, rates: Any) -> tuple[Any, Any]:
    """Return the best rate for at most each cost, as a line."""
    order = np.lexsort((-rates, costs))
    return costs[order], np.maximum.accumulate(rates[order])
