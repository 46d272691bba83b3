"""Figures that more than one chapter uses: Dataset in, Figure out. Labels and units come from the dataset's attributes."""

from __future__ import annotations

import xarray as xr

from pimllm_lib.core.schema import SUBSYSTEMS
from pimllm_lib.report.figure import Figure, legend, panels, stacked

_COLOURS = {
    "array": "#0072B2", "pim": "#D55E00", "sram": "#56B4E9", "dram": "#CC79A7", "kv_store": "#882255", "kv_cells": "#661100",
    "nonlinear": "#F0E442", "bus": "#009E73", "static": "#999999", "external": "#E69F00",
}  # fmt: skip


def breakdown(ds: xr.Dataset) -> Figure:
    """Draw how latency and energy divide between subsystems: a bar for each system and context."""
    whole = ds.squeeze("model", drop=True)
    bars = [(str(s), int(n)) for s in whole.system.values for n in whole.context_len.values]
    shares = {variable: _shares(whole[variable].sum("op"), bars) for variable in ("latency_s", "energy_j")}
    seen = {name for parts in shares.values() for name, share in parts.items() if max(share) > 0.05}
    with panels(1, 2, figsize=(7.6, 1.1 + 0.24 * len(bars)), sharey=True) as (drawn, axes):
        for ax, (variable, parts) in zip(axes, shares.items(), strict=True):
            stacked(ax, range(len(bars)), {name: parts[name] for name in parts if name in seen}, _COLOURS, height=0.72)
            ax.set(xlabel=f"Share of {whole[variable].attrs['long_name']} (%)", xlim=(0, 100))
        axes[0].set_yticks(range(len(bars)), [f"{system}, {n}" for system, n in bars])
        axes[0].invert_yaxis()
        legend(drawn, axes[0])
    alt = f"Shares of subsystems in latency and energy for {len(bars)} pairs of system and context."
    return Figure(drawn, alt)


def _shares(parts: xr.DataArray, bars: list[tuple[str, int]]) -> dict[str, list[float]]:
    """Return the shares of each subsystem in percent, a bar each, waiting for memory counted to the memory."""
    percent = 100 * parts / parts.sum("component")
    summed = {
        name: percent.sel(component=[*components, *(["stall"] if name == "dram" else [])]).sum("component")
        for name, components in SUBSYSTEMS.items()
    }
    return {name: [float(mine.sel(system=s, context_len=n)) for s, n in bars] for name, mine in summed.items()}
