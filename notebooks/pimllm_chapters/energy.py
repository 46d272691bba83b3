"""Chapter 05, tokens from a joule: its figures, tables and sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core.axes import axis
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import ENERGY_PARTS, SUBSYSTEMS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import (
    MOST_NAMES,
    Figure,
    end_labels,
    label,
    legend,
    log_ticks,
    note,
    panels,
    stacked,
    system_colours,
)
from pimllm_lib.report.numbers import listed, number, span
from pimllm_lib.report.rivals import against_first, extremes, of_published
from pimllm_lib.report.tables import Table, crossed, points
from pimllm_lib.report.text import Sentence, escaped
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import by_part, compare, power, rivals, summary

#: Part -> colour, in the order they are stacked.
_COLOURS = {
    "array": "#0072B2", "ADC": "#E69F00", "DAC": "#F0E442", "crossbar": "#009E73", "buffers": "#7B3294",
    "digital": "#CC79A7", "memory": "#56B4E9", "static": "#999999", "others": "#444444",
}  # fmt: skip
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500)
#: How a gain is printed.
_GAIN = {"form": "+.1f", "unit": " %"}
#: The parts of a token's energy on the crossbar side.
_TILES = ("buffers", "ADC", "crossbar", "DAC", "digital")


def gains(compared: xr.Dataset) -> Figure:
    """Draw tokens per joule of each system over those of the first, a line a model: as published and corrected."""
    ratio = 1 + rivals(compared).energy_gain.sel(conventions=["as-published", "corrected"])
    contexts, colours = ratio.context_len.values, system_colours(ratio.system.values)
    base = str(compared.system.values[0])
    pairs = [(system, str(model)) for system in colours for model in ratio.model.values]
    with panels(1, 2, figsize=(7.6, 4.1), sharey=True) as (drawn, axes):
        for ax, name in zip(axes, ratio.conventions.values, strict=True):
            ax.set(xscale="log", yscale="log", title=str(name), xlabel=label(compared.context_len))
            ax.axhline(1, color="#777777", lw=1, ls=":")
            for system, model in pairs:
                line = ratio.sel(conventions=name, model=model, system=system)
                ax.plot(contexts, line, "-o", ms=3, color=colours[system], lw=1.4)
            log_ticks(ax, "x", contexts)
            ax.tick_params(axis="x", labelrotation=45)
        axes[0].set_ylabel(f"Tokens per joule, times those of {base}")
        axes[0].margins(y=0.07)
        log_ticks(axes[0], "y", _TICKS)
        for i, side in ((0, "left"), (-1, "right")):
            end = ratio.isel(conventions=i, context_len=i)
            ends = [(float(end.sel(model=m, system=s)), m, colours[s]) for s, m in pairs]
            if len(ends) <= MOST_NAMES:
                end_labels(axes[i], ends, contexts[i], side=side, gap=0.05)
        if len(colours) > 1:
            legend(drawn, {name: {"color": colour} for name, colour in colours.items()}, ncols=3)
    spans = [f"{name} {span(ratio.sel(conventions=name), '.2f')}" for name in ratio.conventions.values]
    alt = (
        f"Tokens per joule of {listed(colours)} over {base} against context length for {ratio.model.size} models: "
        f"{', '.join(spans)}."
    )
    return Figure(drawn, alt)


def parts(ds: xr.Dataset) -> Figure:
    """Draw the energy of a token by part for one model and context: a panel a convention, each with its own scale."""
    millijoules = 1e3 * by_part(ds, "energy_j", ENERGY_PARTS)
    most = (millijoules / millijoules.sum("part")).max(["system", "conventions"])
    names = [str(name) for name in millijoules.part.values if most.sel(part=name) > 0.002]
    systems = [str(name) for name in millijoules.system.values]
    high = 0.6 + (0.5 + 0.4 * len(systems)) * ds.conventions.size
    with panels(ds.conventions.size, 1, figsize=(7.6, high), squeeze=False) as (drawn, axes):
        for ax, counted in zip(axes.flat, ds.conventions.values, strict=True):
            mine = millijoules.sel(conventions=counted)
            ends = stacked(ax, systems, {name: mine.sel(part=name).values for name in names}, _COLOURS, height=0.7)
            for place, whole in enumerate(mine.sum("part").values):
                note(ax, number(whole), (ends[place], place), (4, 0), va="center")
            ax.margins(x=0.09)
            ax.invert_yaxis()
            ax.set_title(str(counted), fontsize=10, loc="left")
        axes.flat[-1].set_xlabel("Energy of a token (mJ), a scale for each panel")
        legend(drawn, axes.flat[0], ncols=min(8, len(names)), columnspacing=1.1, handlelength=1.2)
    sums = millijoules.sum("part")
    told = [f"{name} {listed(map(number, sums.sel(conventions=name).values))}" for name in ds.conventions.values]
    alt = (
        f"Energy of a token by part for {ds.model.item()} at {ds.context_len.item()} tokens, in mJ for {listed(systems)}: "
        f"{'; '.join(told)}."
    )
    return Figure(drawn, alt)


def words_table(compared: xr.Dataset) -> Table:
    """Return the words of one battery in millions, the baseline's last, a row a model, a column a context."""
    millions = xr.apply_ufunc(np.vectorize(lambda words: f"{words / 1e6:#.3g}".rstrip(".")), compared.words_per_battery)
    order = [str(name) for name in millions.system.values[::-1]]
    first, *others = (millions.sel(system=name, drop=True).astype(object) for name in order)
    told = sum((" / " + other for other in others), first)
    title = f"Words of one battery in millions: {' / '.join(order)}"
    return crossed(told.transpose("model", "context_len"), str, title=title)


def tile_table(ds: xr.Dataset) -> Table:
    """Return how the energy on the crossbar side of one token divides, in percent, and its sum: a row a convention.

    Systems without crossbars have no rows, and where there are several with them, each row names its own.
    """
    whole = by_part(ds, "energy_j", ENERGY_PARTS)
    tiled = whole.sel(part=list(_TILES)).sum("part").min("conventions") > 0
    frames = [_tiles(joules).assign(system=name) for name, joules in points(whole.sel(system=tiled), "system")]
    frame = pd.concat(frames) if frames else pd.DataFrame(columns=["conventions", "system"])
    shown = frame[["system", *frame.columns.drop("system")]] if len(frames) > 1 else frame.drop(columns="system")
    return Table(shown, title="Energy on the crossbar side of one token, in percent, and its sum")


def _tiles(joules: xr.DataArray) -> pd.DataFrame:
    tiles = joules.sel(part=list(_TILES))
    whole = tiles.sum("part")
    frame = crossed((100 * tiles / whole).transpose("conventions", "part"), "{:.2f}".format, "{}").frame
    frame["mJ a token"] = [f"{value:.3g}" for value in 1e3 * whole.values]
    frame["% of all energy"] = [f"{value:.3g}" for value in 100 * (whole / joules.sum("part")).values]
    return frame


def subsystem_table(ds: xr.Dataset) -> Table:
    """Return mean power, peak power and off-chip traffic of one token by subsystem; empty where there is none."""
    watts = power(ds)
    rows = []
    for name, components in SUBSYSTEMS.items():
        mine, drawn = ds.sel(component=list(components)).sum(["op", "component"]), watts.sel(subsystem=name)
        if not (mine.energy_j > 0).any():
            continue
        row = {"subsystem": name}
        values = {
            "mean mW": 1e3 * drawn.power_w,
            "peak mW": 1e3 * drawn.peak_power_w,
            "MB moved": 1e-6 * mine.dram_bytes,
        }
        for system in ds.system.values:
            at = {title: value.sel(system=system).item() for title, value in values.items()}
            row |= {f"{system} {title}": number(value) if value else "" for title, value in at.items()}
        rows.append(row)
    return Table(rows, title="Power and off-chip traffic of one token by subsystem")


def gating_table(systems: list[str], model: str, context_len: list[int]) -> Table | Sentence:
    """Return tokens per joule over the baseline for shares of static power that waiting tiles draw: a column a context.

    Of whole machines: the first is the baseline, and of the last one with tiles they wait.
    """
    base, *_ = machines = [catalog.system(name) for name in systems]
    tiled = [one for one in machines if one.pim is not None]
    if not tiled:
        return Sentence("None of these systems has tiles that wait.")
    gated = with_fields(tiled[-1], {"name": "gated", "pim.gated_share": axis(gated_share=[0.01, 0.05, 0.2, 1.0])})
    swept = evaluate(system=[base, gated], model=model, context_len=context_len, conventions="full-system")
    ratio = 1 + compare(summary(swept), base.name).energy_gain.sel(system="gated").squeeze("model", drop=True)
    named = ratio.assign_coords(gated_share=[f"{100 * share:g} %" for share in ratio.gated_share.values])
    return crossed(
        named.transpose("gated_share", "context_len"),
        "{:.3g}".format,
        corner="waiting tiles draw",
        title="Tokens per joule over the baseline, by what waiting tiles draw",
    )


#: Conventions -> how a sentence calls them.
_SAID = {"as-published": "as published", "corrected": "put right", "full-system": "with all that waits"}


def gains_said(compared: xr.Dataset) -> str:
    """Return the range of each system's gain over the first under each preset, or of what the only one gets."""
    told, alone = [], compared.sizes["system"] == 1
    for name in ("as-published", "corrected", "full-system"):
        mine = compared.sel(conventions=name)
        mine = mine.assign(gain=100 * mine.energy_gain)
        said = (
            extremes(mine.tokens_per_j.squeeze("system"))
            if alone
            else against_first(mine, "gain", "{name} {ends}", **_GAIN)
        )
        told.append(f"{name}, {said}")
    return (
        f"Tokens from a joule {'of' if alone else 'against'} {escaped(compared.system.values[0])}: {'. '.join(told)}."
    )


@of_published("Which of these systems takes less energy?", gains_said)
def box(compared: xr.Dataset) -> Box:
    """Return the box of the page: in how many pairs of model and context PIM-LLM is ahead, by what is counted."""
    gain = compared.energy_gain.sel(system="pim-llm")
    pairs = gain.model.size * gain.context_len.size
    ahead = {str(name): int((gain.sel(conventions=name) > 0).sum()) for name in gain.conventions.values}
    told = listed(f"{count} {_SAID.get(name, escaped(name))}" for name, count in ahead.items())
    bare = gain.sel(conventions=[name for name in ahead if name != "full-system"])
    return Box(
        question="Does PIM-LLM take less energy?",
        answer=f"Of {pairs} pairs of model and context, in {told}.",
        sure=f"Without what waits, gains are {span(100 * bare, '+.0f')} %. With it, an assumption decides.",
        decides="What is counted; then the [cells of SRAM and idle converters](17-standing-power.ipynb).",
    )
