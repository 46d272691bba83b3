"""Chapter 14, other models: its figures."""

from __future__ import annotations

from itertools import product
from typing import Any

import xarray as xr

from pimllm_chapters.other_models.compute import COUNTED, published_bits
from pimllm_lib.report.figure import Figure, decades, end_labels, label, log_ticks, panels
from pimllm_lib.workload.decoder import Decoder


def lead_by_model(ds: xr.Dataset, groups: dict[str, list[Decoder]]) -> Figure:
    """Draw speed-up and tokens/J over TPU-LLM for every model, from the shortest context (filled) to the longest (open)."""
    rows = [row for name, members in groups.items() for row in (name, *(model.name for model in members))]
    here = ds.isel(system=-1).sel(weight_bits=published_bits(ds))
    ratios = {"Speed-up of PIM-LLM": here.speedup, "Tokens/J of PIM-LLM over TPU-LLM": here.energy_gain + 1}
    first, last = (here.context_len.values[i] for i in (0, -1))
    with panels(1, 2, figsize=(7.6, 1.2 + 0.29 * len(rows)), sharey=True) as (drawn, axes):
        for ax, (title, values) in zip(axes, ratios.items(), strict=True):
            for row, (shift, counted) in product(range(len(rows)), ((-0.16, "corrected"), (0.16, "full-system"))):
                if rows[row] not in groups:
                    held = values.sel(model=rows[row], conventions=counted).dropna("context_len").values
                    look: dict[str, Any] = {"color": COUNTED[counted], "ms": 4.5}
                    ax.plot(held, [row + shift] * held.size, "-", color=COUNTED[counted], lw=1.2)
                    ax.plot(held[:1], [row + shift] * held[:1].size, "o", **look)
                    ax.plot(held[-1:], [row + shift] * held[-1:].size, "o", mfc="none", **look)
            ax.axvline(1, color="#777777", lw=0.9, ls=":")
            ax.set(xscale="log", xlabel=title)
            log_ticks(ax, "x", decades(1, 3))
            ax.tick_params(axis="y", length=0)
        for name in axes[0].set_yticks(range(len(rows)), rows):
            name.label1.set_fontweight("bold" if name.label1.get_text() in groups else "normal")
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        for place, counted in (("left", "corrected"), ("right", "full-system")):
            axes[0].set_title(counted, color=COUNTED[counted], fontsize=10, loc=place)
        axes[1].set_title(f"filled {first}, open {last} tokens", fontsize=10, loc="right")
    alt = (
        f"Speed-up and tokens per joule over TPU-LLM of {len(rows) - len(groups)} models in {len(groups)} families, each "
        f"from {first} to {last} tokens, counted corrected and as a full system."
    )
    return Figure(drawn, alt)


def by_bits(ds: xr.Dataset, groups: dict[str, list[Decoder]]) -> Figure:
    """Draw tokens/J over TPU-LLM against the bits of a weight at the shortest context.

    A line for one model of each family: the largest that memory holds with the most bits.
    """
    here, drawn_ends = ds.isel(context_len=0, system=-1), []
    with panels(1, 2, figsize=(7.6, 3.3), sharey=True) as (drawn, axes):
        chosen = _most_held(here.energy_gain.sel(conventions="full-system"), groups)
        for ax, counted in zip(axes, COUNTED, strict=True):
            ratio = (here.energy_gain + 1).sel(conventions=counted)
            ax.set_title(counted, color=COUNTED[counted], fontsize=10)
            ax.axhline(1, color="#777777", lw=0.9, ls=":")
            ax.set(xlabel=label(here.weight_bits), xticks=here.weight_bits.values, yscale="log")
            ends = []
            for dash, model in zip(("-", "--", "-.", ":"), chosen, strict=False):
                line = ratio.sel(model=model).dropna("weight_bits")
                ax.plot(line.weight_bits, line, dash, marker="o", ms=3.5, color="#010203")
                ends.append((line.values[-1], model, "#010203"))
            drawn_ends.append((ax, ends))
        log_ticks(axes[0], "y", decades(1, 2, 5))
        for ax, ends in drawn_ends:  # places are apart on the shared axis only when all lines are drawn
            end_labels(ax, ends, here.weight_bits.values[-1], gap=0.075)
        axes[0].set_ylabel("Tokens/J over TPU-LLM")
    alt = (
        f"Tokens per joule of PIM-LLM over TPU-LLM with weights of {', '.join(map(str, ds.weight_bits.values))} bits at "
        f"{ds.context_len.values[0]} tokens, for a model of each family."
    )
    return Figure(drawn, alt)


def _most_held(ratio: xr.DataArray, groups: dict[str, list[Decoder]]) -> list[str]:
    """Return of each family the model that memory holds with the most bits, the largest of such."""
    known = ratio.count("weight_bits")
    return [
        max(reversed([one.name for one in group]), key=lambda n: int(known.sel(model=n))) for group in groups.values()
    ]
