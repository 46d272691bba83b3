"""What a reader sees first: the answer in lines, each counted another way, and one figure of the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.analysis.beside import WHOLE, verdicts
from pimllm_lib.archive import dataset
from pimllm_lib.report.card import SIZE, png
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, decades, log_ticks, panels
from pimllm_lib.report.numbers import listed, number, span
from pimllm_lib.report.text import escaped, most_won

#: Conventions -> how they are called here, and the chapter that has them.
COUNTED = {
    "as-published": ("As published", "03-tokens-per-second"),
    "corrected": ("Put right", "07-accounting"),
    "full-system": ("As a whole machine", "17-standing-power"),
}
#: The multipliers that never idle of chapter 09, and the same with weights and cache from off-chip memory.
IDLE, FED = "1024 lanes", "1024 lanes, LPDDR"
#: Datasets that the answer is computed from.
READ = ("05-energy", "09-routing", "13-sensitivity", "19-machines-one-can-buy")
_SPEED, _JOULES = "Tokens per second, PIM-LLM over the other", "Tokens per joule, PIM-LLM over the other"


@dataclass(frozen=True)
class Row:
    """PIM-LLM against something: what that is, the chapter, and what times its tokens/s and tokens/J PIM-LLM has."""

    name: str
    slug: str
    faster: xr.DataArray
    thriftier: xr.DataArray

    @property
    def link(self) -> str:
        """The name as a link to the chapter, from a page at the book's root."""
        return f"[{self.name}](results/{self.slug}.ipynb)"


def datasets() -> str:
    """Return links to where the chapters say what their datasets are, with hash and citation."""
    return ", ".join(f'<a href="results/{slug}.html#where-this-comes-from">{slug}</a>' for slug in READ)


def rows(results: Path) -> list[Row]:
    """Return what PIM-LLM is held against, from the archived datasets in a folder."""
    found, paper = [], _over(results / "05-energy.nc", "tpu-llm")
    for name, (said, slug) in COUNTED.items():
        ratio = paper.sel(conventions=name)
        found.append(Row(said, slug, ratio.latency_s, ratio.energy_j))
    for unit, said in ((IDLE, "Against what never idles"), (FED, "The same, fed from memory")):
        ratio = _over(results / "09-routing.nc", unit)
        found.append(Row(said, "09-routing", ratio.latency_s, ratio.energy_j))
    buy = dataset.load(results / "19-machines-one-can-buy.nc")
    whole = buy.sel(built=[name for name in WHOLE if name in buy.built.values])
    rate, joules = whole.tokens_per_s.max("built"), whole.energy_j.min("built")
    found.append(
        Row("Against what one can buy", "19-machines-one-can-buy",
            rate / buy.bought_tokens_per_s.max("device"), buy.bought_energy_j.min("device") / joules)
    )  # fmt: skip
    return found


def _over(path: Path, other: str) -> xr.Dataset:
    """Return latency and energy of a system over those of PIM-LLM, from an archived dataset."""
    ds = dataset.load(path)[["latency_s", "energy_j"]]
    whole = ds.sum([dim for dim in ("op", "component") if dim in ds.dims])
    ratio: xr.Dataset = whole.sel(system=other, drop=True) / whole.sel(system="pim-llm", drop=True)
    return ratio


def lines(found: list[Row], results: Path) -> str:
    """Return the answer as a Markdown list, a line for each way to count it."""
    published, corrected, whole, idle, fed, bought = found
    told = [
        f"- **{published.link}:** {_times(published.faster)} as fast as TPU-LLM; less energy for a token in "
        f"{_won(published)} pairs of model and context.",
        f"- **{corrected.link}:** {_times(corrected.faster)} as fast; less energy in {_won(corrected)} pairs.",
    ]
    drawn = dataset.load(results / "13-sensitivity.nc").thriftier_share
    told.append(
        f"- **{whole.link}:** {_times(whole.faster)} as fast; less energy in {_won(whole)} pairs, and in "
        f"{span(100 * drawn, '.0f')} % of the draws of [uncertain constants](results/13-sensitivity.ipynb)."
    )
    one = idle.faster.squeeze("model")
    (near, first), (far, last) = (
        (n, number(one.sel(context_len=n).item(), 2)) for n in one.context_len.values[[0, -1]]
    )
    model, thrifty = escaped(one.model.item()), _times(idle.thriftier, ".2f")
    told.append(
        f"- **{idle.link}**, as many multipliers, with {model}, as published: {first} times as fast at {near} tokens, "
        f"{last} times at {far}; {thrifty} the tokens per joule, {_times(fed.thriftier, '.0f')} where the other alone pays "
        "for memory."
    )
    told.append(f"- **{bought.link}:** {_bought(dataset.load(results / f'{bought.slug}.nc'))}")
    return "\n".join(told)


def _times(values: xr.DataArray, form: str = ".1f") -> str:
    return f"{span(values, form)} times"


def _won(row: Row) -> str:
    return f"{int((row.thriftier > 1).sum())} of {row.thriftier.size}"


def _bought(ds: xr.Dataset) -> str:
    """Return how often a whole machine beats the best that one can buy, from the dataset of the chapter on these."""
    (fast, of, name), (thrifty, measured, other), (both, *_) = (
        most_won(table) for table in verdicts(ds)[["faster", "thriftier", "both"]].values()
    )
    return (
        f"with the same models, at best ({listed(dict.fromkeys([name, other]))}) faster than the fastest in {fast} of {of} "
        f"pairs, less energy than the thriftiest measured in {thrifty} of {measured}, both at once in {both or 'none'}."
    )


def figure(found: list[Row]) -> Figure:
    """Draw both ratios on log axes, a row for each way to count, a stroke for each pair of model and context."""
    with panels(1, 2, figsize=(7.6, 3.6), sharey=True) as (drawn, axes):
        _draw(axes, found, 9)
    told = "; ".join(f"{row.name.lower()} {_span(row.faster)} and {_span(row.thriftier)}" for row in found)
    alt = (
        "PIM-LLM over what it is held against, in tokens per second and in tokens per joule, a stroke a pair of model and "
        f"context: {told}. Right of the line PIM-LLM is ahead. What one can buy is held against the best whole one."
    )
    return Figure(drawn, alt)


def _span(values: xr.DataArray) -> str:
    return span(values, lambda value: number(value, 2))


def _draw(axes: Any, found: list[Row], size: float) -> None:
    """Draw a panel for each ratio; what a row is stands above it, so that names take no width from a phone."""
    colour = SYSTEM_COLOURS["pim-llm"]
    for ax, title, pick in zip(axes, (_SPEED, _JOULES), ("faster", "thriftier"), strict=True):
        for y, row in enumerate(found):
            ax.plot([1, 1], [y - 0.22, y + 0.22], color="#777777", lw=1)
            values = getattr(row, pick).values.ravel()
            values = values[np.isfinite(values)]
            ax.plot(
                [values.min(), values.max()], [y, y], color=colour, lw=0.7 * size, alpha=0.35, solid_capstyle="butt"
            )
            x, none = np.repeat(values, 3), np.full(values.size, np.nan)
            heights = np.stack([np.full(values.size, y - 0.13), np.full(values.size, y + 0.13), none], axis=1)
            ax.plot(x, heights.ravel(), color=colour, lw=0.13 * size)
            ax.text(0.01, y - 0.36, f"{row.name}: {_span(getattr(row, pick))}", fontsize=size, va="center",
                    transform=ax.get_yaxis_transform())  # fmt: skip
        ax.set(xscale="log", xlim=(0.08, 150), ylim=(len(found) - 0.6, -0.7), yticks=[])
        ax.set_xlabel(title, fontsize=size)
        ax.spines["left"].set_visible(False)
        ax.tick_params(labelsize=size)
        log_ticks(ax, "x", decades(1))


def card(found: list[Row], title: str = "What does analog PIM buy a 1-bit LLM?") -> bytes:
    """Return the figure as a picture of 1200 x 630 pixels on white, under a title, for those who link to the book."""
    with panels(1, 2, **SIZE, sharey=True) as (drawn, axes):
        _draw(axes, found, 17)
        drawn.suptitle(title, fontsize=27, fontweight="bold")
        return png(drawn)
