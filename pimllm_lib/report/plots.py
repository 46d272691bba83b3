"""Figures that more than one chapter uses: Dataset in, Figure out. Labels and units come from the dataset's attributes."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib.core.schema import SUBSYSTEMS
from pimllm_lib.report.figure import Figure, style

#: Subsystem -> colour, and the order they are stacked in.
_SUBSYSTEM_COLOURS = {
    "array": "#0072B2", "pim": "#D55E00", "sram": "#56B4E9", "dram": "#CC79A7", "nonlinear": "#F0E442", "bus": "#009E73",
    "static": "#999999", "external": "#E69F00",
}  # fmt: skip


def breakdown(ds: xr.Dataset) -> Figure:
    """Draw how latency and energy divide between subsystems: a bar for each system and context."""
    whole = ds.squeeze("model", drop=True)
    bars = [(str(s), int(n)) for s in whole.system.values for n in whole.context_len.values]
    with style():
        drawn, axes = plt.subplots(1, 2, figsize=(7.6, 1.1 + 0.24 * len(bars)), sharey=True)
        for ax, variable in zip(axes, ("latency_s", "energy_j"), strict=True):
            _stacked(ax, whole[variable].sum("op"), bars)
            ax.set(xlabel=f"Share of {whole[variable].attrs['long_name']} (%)", xlim=(0, 100))
        axes[0].set_yticks(range(len(bars)), [f"{system}, {n}" for system, n in bars])
        axes[0].invert_yaxis()
        used: dict[str, Any] = {}
        for ax in axes:
            handles, names = ax.get_legend_handles_labels()
            used |= dict(zip(names, handles, strict=True))
        drawn.legend(
            list(used.values()),
            [str(name) for name in used],
            loc="outside lower center",
            ncols=len(used),
            frameon=False,
        )
        plt.close(drawn)
    alt = f"Shares of subsystems in latency and energy for {len(bars)} pairs of system and context."
    return Figure(drawn, alt)


def _stacked(ax: Axes, parts: xr.DataArray, bars: list[tuple[str, int]]) -> None:
    """Draw bars of subsystem shares, waiting for memory counted to the memory."""
    total = parts.sum("component")
    left = [0.0] * len(bars)
    for name, components in SUBSYSTEMS.items():
        mine = parts.sel(component=[*components, *(["stall"] if name == "dram" else [])]).sum("component")
        share = [float(100 * mine.sel(system=s, context_len=n) / total.sel(system=s, context_len=n)) for s, n in bars]
        if max(share) > 0.05:
            colour = _SUBSYSTEM_COLOURS[name]
            ax.barh(range(len(bars)), share, left=left, color=colour, label=name, height=0.72)
        left = [a + b for a, b in zip(left, share, strict=True)]
