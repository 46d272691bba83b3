"""Chapter 18, one-bit models: its figures, tables and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis.scales import CONVERTERS, WAYS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, decades, label, legend, log_ticks, panels, system_colours
from pimllm_lib.report.numbers import listed, number, percent, span
from pimllm_lib.report.rivals import called, written_about
from pimllm_lib.report.tables import Table, points
from pimllm_lib.report.text import Sentence, escaped, what_stands
from pimllm_lib.system.metrics import rivals
from pimllm_lib.workload.decoder import FEW, Decoder
from pimllm_lib.workload.products import stored_bytes
from pimllm_lib.workload.shapes import parameter_count

#: How accounting conventions, and ways to read groups, are called here.
COUNTED = {"as-published": "as published", "full-system": "as a whole machine"}
READ = {"rows": "rows in turns", "crossbars": "crossbars of a group's height"}
_COLOURS = dict(zip(WAYS, ("#0072B2", "#D55E00"), strict=True))
_LINES = dict(zip(CONVERTERS, ("-", "--"), strict=True))
_NONE = {"scale_group": np.inf, "converter": CONVERTERS[0], "way": WAYS[0]}
_DRAWN = {
    "energy of a token, as published": ("energy_j", "as-published"),
    "energy of a token, whole machine": ("energy_j", "full-system"),
    "area, whole machine": ("area_m2", "full-system"),
}


def times(ds: xr.Dataset, name: str, **at: Any) -> xr.DataArray:
    """Return a variable over what it is with one scale a matrix and rows read together."""
    return (ds[name] / ds[name].sel(_NONE)).sel(at)


def box(ds: xr.Dataset, model: str, group: float, system: str = "pim-llm") -> Box:
    """Return the box of the page: what scales of groups take over one a matrix, as published and as a whole machine."""
    at: dict[str, Any] = {"scale_group": group, "way": WAYS[0], "converter": CONVERTERS[0]}
    more = {form: percent(times(ds, "energy_j", **at, conventions=form).item() - 1) for form in COUNTED}
    area = percent(times(ds, "area_m2", **at, conventions="full-system").item() - 1)
    name = catalog.system(system).name
    reads = span(times(ds, "conversions", **at).values, ".3g")
    joules = ds.energy_j.sel(conventions="as-published", scale_group=group, way=WAYS[0])
    saved = 1 - (joules.sel(converter=CONVERTERS[1]) / joules.sel(converter=CONVERTERS[0])).item()
    bits = ds.converter_bits.sel(scale_group=group, converter=CONVERTERS[1]).item()
    return Box(
        question="What does a scale for each group of weights cost?",
        answer=f"For {escaped(model)}, {group:g} weights a scale: {reads} times the conversions, {more['as-published']} "
        f"more energy as published, {more['full-system']} with [what waits](17-standing-power.ipynb), {area} more area.",
        sure="The multiplier's width and area are assumed.",
        decides=f"Rows read together: sums of {group:g} rows need {bits:g} bits, which saves {percent(saved)}.",
        more=f"{_lower(ds)}{'' if name == 'pim-llm' else written_about([name])}",
    )


def _lower(ds: xr.Dataset) -> str:
    """Return what crossbars of a group's height take over rows in turns, wherever groups are smaller than crossbars."""
    small = ds.sel(scale_group=ds.scale_group[ds.scale_group < 256])
    over = {
        what: span((small[name].sel(way="crossbars") / small[name].sel(way="rows")).values, ".3g")
        for name, what in (("latency_s", "time"), ("energy_j", "energy"), ("area_m2", "area"))
    }
    told = listed(f"{factors} times the {what}" for what, factors in over.items())
    return (
        f"Crossbars of a group's height, over all small groups, converters and ways of counting, take {told} of that."
    )


def costs(ds: xr.Dataset) -> Figure:
    """Draw what smaller groups cost over one scale a matrix, a panel a quantity, a line a way to read them."""
    groups = ds.scale_group.values
    places = np.arange(groups.size)
    names = [f"{group:g}".replace("inf", "all") for group in groups]
    with panels(1, 3, figsize=(7.6, 3.5), sharex=True) as (drawn, axes):
        for ax, (title, (name, form)) in zip(axes, _DRAWN.items(), strict=True):
            for way in WAYS:
                for converter in CONVERTERS:
                    line = times(ds, name, conventions=form, way=way, converter=converter)
                    ax.plot(places, line, _LINES[converter], color=_COLOURS[way], marker="o", ms=4)
            ax.set(yscale="log", xlabel="Weights that share a scale")
            ax.set_title(title, fontsize=9.5)
            ax.set_xticks(places, names)
            low, high = ax.get_ylim()
            log_ticks(ax, "y", [tick for tick in (1, 1.2, 1.5, 2, 3, 4, 5, 7, 10) if low <= tick <= high * 1.02])
        axes[0].set_ylabel("Times one scale a matrix")
        looks = {READ[way]: {"color": _COLOURS[way]} for way in WAYS}
        looks |= {f"{name}{' converters' if i == 0 else ' a converter'}": {"color": "#555555", "ls": _LINES[name]}
                  for i, name in enumerate(CONVERTERS)}  # fmt: skip
        legend(drawn, looks, ncols=2)
    ends = {
        title: ", ".join(
            f"{READ[way]} {span(times(ds, name, conventions=form, way=way).values, '.3g')}" for way in WAYS
        )
        for title, (name, form) in _DRAWN.items()
    }
    told = "; ".join(f"{title}: {said}" for title, said in ends.items())
    return Figure(drawn, f"Factors over one scale a matrix for groups down to {groups.min():g} weights. {told}.")


def conversions(ds: xr.Dataset, form: str = "as-published") -> Table:
    """Return conversions, converters and multipliers by group: a row a group."""
    rows = []
    for group in ds.scale_group.values:
        at = ds.sel(scale_group=group, conventions=form, converter=CONVERTERS[0])
        rows.append(
            {
                "weights that share a scale": f"{group:g}".replace("inf", "all of a matrix"),
                "conversions a token (M)": number(at.conversions.sel(way="rows").item() / 1e6),
                "bits that lose nothing": f"{at.lossless_bits.item():g}",
                "tiles, rows in turns": number(at.tiles.sel(way="rows").item()),
                "tiles, lower crossbars": number(at.tiles.sel(way="crossbars").item()),
                "multipliers' share of energy": percent(at.rescale_energy_share.sel(way="rows").item()),
                "multipliers' share of area": percent(at.rescale_area_share.sel(way="rows").item()),
            }
        )
    return Table(rows, title="Conversions, converters and multipliers by scale group")


def cells(held: xr.Dataset, zeros: xr.DataArray, binary: str, system: str = "pim-llm") -> Sentence:
    """Return what binary weights take in single cells over pairs, and how little the share of zeros moves."""
    ratio = held.sel(held="single") / held.sel(held="pair")
    moved = 1 - (zeros / zeros.isel(zeros=0)).isel(zeros=-1)
    single = listed(
        f"{said} {ratio.energy_j.sel(conventions=form).item():.3f} times the energy and "
        f"{ratio.area_m2.sel(conventions=form).item():.2f} times the area"
        for form, said in COUNTED.items()
    )
    fallen = listed(f"{percent(moved.sel(conventions=form).item())} {said}" for form, said in COUNTED.items())
    (first, last), stands = zeros.zeros.values[[0, -1]], what_stands(system)
    return Sentence(
        f"{escaped(binary)} in single cells takes, over pairs, {single} ({stands}): half of the cells go, and a "
        f"column with a converter of its own comes. From {percent(first)} to {percent(last)} zeros the energy of a token "
        f"falls by {fallen} ({stands}): worth printing, as `pimllm describe` does, and not worth a model of its own."
    )


def _told(levels: Any, group: Any) -> str:
    kind = {2: "binary", 3: "ternary"}.get(int(levels), f"{np.log2(float(levels)):.0f} bits")
    return kind if np.isinf(group) else f"{kind}, {group:g} a scale"


def shapes(models: list[Decoder]) -> Table:
    """Return the models with what their weights are, how many bytes they take, and where that was read."""
    rows = []
    for model in models:
        entry = catalog.models.entries.get(model.name, {})
        rows.append(
            {
                "model": model.name,
                "parameters": f"{parameter_count(model) / 1e9:.3g} G",
                "projections": _told(model.levels, model.scale_group),
                "output head": _told(model.head_levels, np.inf),
                "stored (GB)": number(float(stored_bytes(model)) / 1e9),
                "source": entry.get("source", "user"),
                "where": entry.get("where", ""),
            }
        )
    return Table(rows, long=True, title="Models, what their weights are, and how many bytes they take")


def rates(ds: xr.Dataset, decoders: list[Decoder], context_len: int, form: str = "full-system") -> Figure:
    """Draw tokens a second and a joule of all systems, a row a model, those with a head of few bits in bold."""
    at = ds.sel(context_len=context_len, conventions=form)
    models = [str(name) for name in at.model.values]
    places, colours = np.arange(len(models))[::-1], system_colours(at.system.values)
    with panels(1, 2, figsize=(7.6, 1.2 + 0.27 * len(models)), sharey=True) as (drawn, axes):
        for ax, name in zip(axes, ("tokens_per_s", "tokens_per_j"), strict=True):
            ends = [at[name].sel(system=system).values for system in colours]
            ax.hlines(places, np.min(ends, axis=0), np.max(ends, axis=0), color="#999999", lw=1)
            for colour, values in zip(colours.values(), ends, strict=True):
                ax.plot(values, places, "o", color=colour, ms=5)
            ax.set(xscale="log", xlabel=label(at[name]))
            log_ticks(ax, "x", decades(1, 2, 5) if np.ptp(np.log10(np.concatenate(ends))) < 2 else decades(1))
        axes[0].set_yticks(places, models, fontsize=8.5)
        for text, decoder in zip(axes[0].get_yticklabels(), decoders, strict=True):
            text.set_fontweight("bold" if int(decoder.head_levels) <= FEW else "normal")
        legend(
            drawn, {name: {"marker": "o", "ls": "none", "color": colour} for name, colour in colours.items()}, ncols=3
        )
    lead = rivals(at).speedup
    alt = (
        f"Tokens per second and per joule of {listed(colours)} at {context_len} tokens, counted {COUNTED[form]}, a row a "
        f"model. The speed-up is {span(lead.values, '.3g')}. Names in bold have an output head of few bits, on crossbars."
    )
    return Figure(drawn, alt)


def leads(ds: xr.Dataset, context_len: int) -> Table:
    """Return speed-up and tokens a joule over the first system, a row a model and other one, two columns for each way of
    counting.
    """
    at, rows = rivals(ds.sel(context_len=context_len)), []
    for model, system, here in points(at, "model", "system"):
        row = {"model": model} | ({"system": system} if at.system.size > 1 else {})
        for form, said in COUNTED.items():
            one = here.sel(conventions=form)
            row |= {
                f"tokens/s, {said}": f"{one.speedup.item():.2f}",
                f"tokens/J, {said}": f"{1 + one.energy_gain.item():.2f}",
            }
        rows.append(row)
    return Table(rows, title=f"Speed-up and tokens a joule over {called(ds.system.values[0])}")


def head_sentence(ds: xr.Dataset, wide: xr.Dataset, model: str) -> Sentence:
    """Return what a head of few bits does: the same model with one of 8 bits beside it."""
    at = {"conventions": "full-system", "context_len": (context := int(ds.context_len[0]))}
    few, many = (one.speedup.isel(system=-1).sel(at).item() for one in (ds.sel(model=model), wide))
    return Sentence(
        "A head of few bits lies on crossbars, one of 8 bits runs on the array in both machines. As a whole machine at "
        f"{context} tokens {escaped(model)} is sped up {few:.3g} times; with a head of 8 bits it would be {many:.3g}."
    )
