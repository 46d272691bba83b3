"""Chapter 15, the design space: its figure."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pimllm_chapters.design_space.compute import MM2
from pimllm_lib.report.figure import Figure, decades, label, log_ticks, note, panels, system_colours
from pimllm_lib.report.numbers import number, span
from pimllm_lib.report.tables import points

_GREY = "#999999"


def map_of(front: xr.Dataset, both: xr.Dataset) -> Figure:
    """Draw the front over power and over area, with the published machines on the same axes."""
    colours = system_colours(both.system.values)
    with panels(1, 2, figsize=(8.2, 3.7), sharey=True) as (drawn, axes):
        for ax, (name, scale, unit) in zip(axes, (("power_w", 1.0, ""), ("area_m2", MM2, "mm²")), strict=True):
            ax.scatter(front[name] * scale, front.tokens_per_s, s=3, color=_GREY, alpha=0.5, linewidths=0)
            costs, rates = front[name].values * scale, front.tokens_per_s.values
            order = np.lexsort((-rates, costs))
            best = np.maximum.accumulate(rates[order])  # for at most each cost
            ax.plot(costs[order], best, "-", color="#009E73", drawstyle="steps-post")
            for system, here in points(both, "system"):
                ax.plot(here[name] * scale, here.tokens_per_s, "o", ms=7, color=colours[system])
                by, side = ((0, 9), "center") if system == "pim-llm" else ((9, -3), "left")
                at = (here[name].item() * scale, here.tokens_per_s.item())
                note(ax, system, at, by, ha=side, color=colours[system])
            ax.set(xscale="log", yscale="log", xlabel=label(front[name], unit))
            low, high = (np.log10(end) for end in ax.get_xlim())
            log_ticks(ax, "x", decades(1, 3) if high - low < 2.5 else decades())
            log_ticks(ax, "y", decades())
        axes[0].set_ylabel(label(front.tokens_per_s))
    alt = (
        f"Rate of {front.sizes['design']} Pareto-optimal designs of {number(front.attrs['points'])} over mean power, left, "
        f"and over area, right, from {span(front.tokens_per_s)} tokens/s. In tokens/s there are beside: "
        f"{', '.join(f'{name} {here.tokens_per_s.item():.3g}' for name, here in points(both, 'system'))}."
    )
    return Figure(drawn, alt)
