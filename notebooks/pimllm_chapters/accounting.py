"""Chapter 07, accounting: the waterfall from one preset to the next, and where headlines turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib.analysis import flips
from pimllm_lib.core.axes import axis
from pimllm_lib.core.conventions import ORDER, SLIPS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, decades, log_ticks, note, panels
from pimllm_lib.report.numbers import known, listed, span, with_unit
from pimllm_lib.report.tables import Table

_PANELS = {"speedup": "Speed-up of PIM-LLM", "efficiency": "Tokens/J of PIM-LLM over TPU-LLM"}
_FOR, _AGAINST, _PRESET = "#D55E00", "#0072B2", "#777777"


def way_and_alone(ds: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Return `ratios` along `conventions.walk`, and along `conventions.alone`."""
    found = ratios(ds)
    names = [str(name) for name in found.conventions.values]
    only = [name for name in names if name.startswith("only ")]
    return found.sel(conventions=[name for name in names if name not in only]), found.sel(conventions=only)


def ratios(ds: xr.Dataset) -> xr.Dataset:
    """Return speed-up and tokens/J of pim-llm over tpu-llm, both as ratios."""
    slow, fast = (ds.sel(system=name, drop=True) for name in ("tpu-llm", "pim-llm"))
    return xr.Dataset({"speedup": slow.latency_s / fast.latency_s, "efficiency": slow.energy_j / fast.energy_j})


def waterfall(way: xr.Dataset, alone: xr.Dataset) -> Figure:
    """Draw both ratios step by step on log axes, with the effect of each field alone as a ring.

    way, alone: `ratios` of one model and context along `conventions.walk` and `conventions.alone`.
    """
    names = [str(name) for name in way.conventions.values]
    steps = ["", *(f"{'-' if name in SLIPS else '+'} {name}" for name in ORDER)]
    labels = [name if name == step or not step else f"{step} = {name}" for name, step in zip(names, steps, strict=True)]
    with panels(1, 2, figsize=(7.6, 5.0), sharey=True) as (drawn, axes):
        for ax, (variable, title) in zip(axes, _PANELS.items(), strict=True):
            _steps(ax, names, way[variable].values, alone[variable].values)
            ax.set(xscale="log", xlabel=title)
            ax.axvline(1, color="#010203", lw=0.7, alpha=0.5)
            low, high = ax.get_xlim()
            log_ticks(ax, "x", decades(1, 3) if high / low < 1000 else decades(1))
            ax.grid(axis="x", alpha=0.25)
        axes[0].set_yticks(range(len(names)), labels)
        axes[0].invert_yaxis()
    ends = ", ".join(f"{way.speedup.sel(conventions=n).item():.2f} {n}" for n in ("as-published", "full-system"))
    alt = f"Steps from as-published to full-system for speed-up ({ends}) and tokens per joule; rings: each step alone."
    return Figure(drawn, alt)


def _steps(ax: Axes, names: list[str], values: Any, alone: Any) -> None:
    """Draw a bar from each value to the next, presets as ticks, and what each step does alone."""
    base = {True: values[0], False: values[names.index("corrected")]}
    for i, name in enumerate(names):
        before = values[i - 1] if i else values[0]
        if name[0] in "+-" or i:
            colour = _FOR if values[i] >= before else _AGAINST
            ax.plot([before, values[i]], [i, i], color=colour, lw=6, solid_capstyle="butt")
        note(ax, f"{values[i]:.3g}", (max(before, values[i]), i), (5, -3), fontsize=8)
        if i:
            slip = i <= names.index("corrected")
            shown = before * alone[i - 1] / base[slip]
            ax.plot([shown], [i], "o", mfc="none", mec=_PRESET, ms=6)
        if name[0] not in "+-":
            ax.plot([values[i]], [i], "|", color="#010203", ms=13, mew=2)


def box(ratio: xr.Dataset) -> Box:
    """Return the box of the page: what the three presets say, and which two choices move energy most.

    ratio: `ratios` along `conventions.walk`.
    """
    presets = [ratio.sel(conventions=name) for name in ("as-published", "corrected", "full-system")]
    pairs = ratio.model.size * ratio.context_len.size
    wins = [int((ds.efficiency > 1).sum()) for ds in presets]
    moved = abs(np.log(ratio.efficiency).diff("conventions")).mean(["model", "context_len"])
    steps = moved.sel(conventions=[name for name in moved.conventions.values if str(name)[0] in "+-"])
    most = steps.sortby(steps, ascending=False).conventions.values[:2]
    return Box(
        question="Does the way to count decide who wins?",
        answer=f"Of {pairs} pairs of model and context PIM-LLM takes less energy in {wins[0]} as published, {wins[1]} put "
        f"right, {wins[2]} as a [whole machine](17-standing-power.ipynb), which is {span(presets[2].speedup, '.1f')} times "
        "as fast.",
        sure="Each choice is named, and tried alone and in turn.",
        decides=f"For energy, {listed(f'`{str(name)[2:]}`' for name in most)} move most.",
    )


_ADC, _BUFFER, _CYCLE = "pim.tile.crossbar.adc.power_w", "pim.tile.buffer.fixed_s", "array.measured_cycle_energy_j"


def _gain(model: str, context_len: int, conventions: str) -> dict[str, Any]:
    return {"quantity": "energy_gain", "model": model, "context_len": context_len, "conventions": conventions}


#: Headline, quantity and case it is judged in, and each constant it may hang on.
HEADLINES: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    (
        "as published, OPT-6.7B at 128 tokens gains tokens/J",
        _gain("opt-6.7b", 128, "as-published"),
        (_ADC, _BUFFER, _CYCLE),
    ),
    ("as published, GPT2-355M at 4096 tokens gains tokens/J", _gain("gpt2-355m", 4096, "as-published"), (_ADC, _CYCLE)),
    (
        "corrected, OPT-6.7B at 4096 tokens gains tokens/J",
        _gain("opt-6.7b", 4096, "corrected"),
        (_ADC, _CYCLE),
    ),
    (
        "whole machine, the catalog's cells and idle share: OPT-6.7B at 128 tokens gains tokens/J",
        _gain("opt-6.7b", 128, "full-system"),
        ("pim.gated_share", "pim.tile.crossbar.adc.idle_share", "sram.leakage_w"),
    ),
    (
        "OPT-6.7B at 128 tokens decodes ten times faster",
        _gain("opt-6.7b", 128, "corrected") | {"quantity": "speedup", "level": 10.0},
        ("pim.network_bps", "array.rate_hz"),
    ),
)


def flip_table() -> Table:
    """Return for each headline the value of each constant at which it turns, beside the catalog's."""
    rows = []
    for headline, case, paths in HEADLINES:
        for path in paths:
            own, turned = flips.constant(path), flips.flip(path, **case)
            now = flips.margin(path, axis(value=[own]), **{"level": 0.0} | case).item() > 0
            rows.append({
                "headline": headline, "holds": "yes" if now else "no", "constant": path, "catalog": with_unit(path, own),
                "turns at": "never" if np.isnan(turned) else with_unit(path, turned), "factor": known(turned / own),
            })  # fmt: skip
    return Table(rows, long=True, title="Where each headline turns: the value of each constant, beside the catalog's")
