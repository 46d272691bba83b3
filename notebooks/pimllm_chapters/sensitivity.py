"""Chapter 13, sensitivity: what the ranges of the constants do to the headlines, and which constants do it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pimllm_lib.analysis import uncertainty
from pimllm_lib.analysis.claims import published
from pimllm_lib.analysis.robustness import BANDS, SIDES
from pimllm_lib.analysis.standing import CELLS
from pimllm_lib.analysis.uncertainty import Constant, constants
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, decades, log_ticks, panels
from pimllm_lib.report.numbers import frequency, known, listed, number, percent, span, with_unit
from pimllm_lib.report.tables import Table, crossed, points
from pimllm_lib.report.text import Sentence


def distributions(drawn: Sequence[Constant]) -> Table:
    """Return every constant that is drawn: nominal value, range, law, what it moves with, status, source."""
    rows = [
        {
            "constant": c.name,
            "nominal": with_unit(c.field, c.nominal),
            "from": with_unit(c.field, c.low),
            "to": with_unit(c.field, c.high),
            "law": c.law,
            "one draw with": "" if (shared := uncertainty.factor(c)) == c.name else shared,
            "status": c.status.replace("_", " "),
            "source": c.source,
        }
        for c in drawn
    ]
    return Table(rows, long=True, title="Constants that are drawn")


def decisions() -> Table:
    """Return which constants share a draw and which ranged ones are not drawn, with the reasons."""
    moved = [
        {"treated": f"one draw: {name}", "constants": ", ".join(names), "why": why}
        for name, (names, why) in uncertainty.TOGETHER.items()
    ]
    left = [{"treated": "held", "constants": name, "why": why} for name, why in uncertainty.LEFT_OUT.items()]
    return Table(moved + left, title="Constants that share a draw, and those that are not drawn")


def headline_table(ds: xr.Dataset) -> Table:
    """Return the bands of every headline at the first and the last context: catalog's own value, then 5, 50 and 95 %."""
    rows = []
    for model, n, at in points(ds.sel(context_len=_ends(ds)), "model", "context_len"):
        row = {"model": model, "context": n, "speed-up": _three(at.speedup)}
        row["gain in tokens/J (%)"] = _three(100 * at.energy_gain)
        for name, unit in (("tokens_per_s", "tokens/s"), ("tokens_per_j", "tokens/J"), ("power_w", "W")):
            row |= {f"{unit}, {system}": _three(each[name]) for system, each in points(at, "system")}
        rows.append(row | {"tiles (cm²)": _three(1e4 * at.tile_area_m2)})
    return Table(rows, long=True, title="Bands of every headline: the catalog's value, then 5, 50 and 95 %")


def _ends(ds: xr.Dataset) -> list[int]:
    """Return the first and the last context."""
    return list(dict.fromkeys(int(ds.context_len.values[i]) for i in (0, -1)))


def _three(value: xr.DataArray) -> str:
    own, low, middle, high = (number(value.sel(band=band).item()) for band in ("catalog", *BANDS))
    return f"{own} ({low}, {middle}, {high})"


def sign_table(ds: xr.Dataset) -> Table:
    """Return in how many draws PIM-LLM decodes more tokens for each joule, by model and context."""
    return crossed(ds.thriftier_share, frequency, title="Draws in which PIM-LLM decodes more tokens for each joule")


def by_quantity(ds: xr.Dataset) -> Table:
    """Return for each quantity that is claimed what holding means, and how many claims hold in most, some and no draws."""
    kinds = published().set_index("id").quantity.loc[ds.claim.values].to_numpy()
    rows = []
    for quantity in dict.fromkeys(kinds):
        share = ds.holding_share.values[kinds == quantity]
        some = int(((share > 0) & (share < 0.95)).sum())
        counts = {"in 95 % or more": int((share >= 0.95).sum()), "in some": some, "in none": int((share == 0).sum())}
        rows.append({"quantity": quantity, "kept": SIDES[quantity][0], "why": SIDES[quantity][1], **counts})
    return Table(rows, title="What holding means, and how many claims hold")


def claim_table(ds: xr.Dataset) -> Table:
    """Return every published number: its side, its nominal ratio to print, and the share of draws in which it holds."""
    rows = published().set_index("id").loc[ds.claim.values]
    share, ratio = ds.holding_share.values, ds.claim_ratio.values
    shown = rows[["claim", "where"]].assign(
        published=rows.value + " " + rows.unit.where(rows.unit != "1", ""),
        kept=[SIDES[quantity][0] for quantity in rows.quantity],
        ratio=[known(x) for x in ratio],
        holds=["not to be had" if np.isnan(x) else frequency(x) for x in share],
    )
    return Table(
        shown.rename(columns={"where": "in the paper", "holds": "holds in draws"}),
        long=True,
        title="Published numbers, and the share of draws in which each holds",
    )


_PIM, _GREY, _LOW, _HIGH = SYSTEM_COLOURS["pim-llm"], "#777777", "#0072B2", "#D55E00"
_TITLES = {"speedup": "Tokens/s of PIM-LLM over TPU-LLM", "energy_gain": "Tokens/J of PIM-LLM over TPU-LLM"}
_SHOWN = 8


def box(ds: xr.Dataset) -> Box:
    """Return the box of the page: which signs hold in the draws, how many claims do, and which factor decides."""
    pairs, held, faster = ds.model.size * ds.context_len.size, ds.holding_share.dropna("claim"), ds.faster_share.min()
    always = "all" if faster == 1 else f"at least {frequency(faster)}"
    most, none = int((held >= 0.95).sum()), int((held == 0).sum())
    total = ds.total_order.sel(output="energy_gain").mean("case")
    most_of_it = str(total.factor.values[int(total.argmax("factor"))])
    return Box(
        question="What survives uncertain constants?",
        answer=f"For {pairs} pairs of model and context a whole PIM-LLM decodes faster in {always} of the draws and takes "
        f"less energy in {span(100 * ds.thriftier_share, '.2g')} %.",
        sure=f"Ranges are no distributions. Of {held.size} published numbers {most} hold in nearly all, {none} in no draw.",
        decides=f"For energy `{most_of_it}`; see [cells and what waits](17-standing-power.ipynb).",
        more=f"Drawn are, among others, {_drawn()}.",
    )


def corner_table(ds: xr.Dataset) -> Table:
    """Return between which shares of draws PIM-LLM decodes more tokens a joule, over all models: a row a corner, a column
    a context.
    """
    found = ds.corner_thriftier_share.stack(corner=["cells", "temperature_k"])
    rows = []
    for corner in found.corner.values:
        here = found.sel(corner=corner)
        row = {"cells of SRAM": CELLS[corner[0]], "chip": f"{corner[1]:g} K"}
        spans = {f"l = {n}": span(here.sel(context_len=n), frequency) for n in ds.context_len.values}
        rows.append(row | spans)
    return Table(rows, title="Draws in which PIM-LLM decodes more tokens a joule, by corner")


def _drawn() -> str:
    """Return between what the constants lie that decide about energy."""
    known = {constant.name: constant for constant in constants()}
    sram, idle = known["sram-8mb.leakage_w"], known["adc-8bit.idle_share"]
    return (
        f"SRAM that leaks {sram.low:.1g} to {sram.high:.2g} W, which is cool cells for low standby power to hot fast ones, "
        f"and converters that draw {percent(idle.low)} to {percent(idle.high)} idle"
    )


def spread(ds: xr.Dataset) -> Figure:
    """Draw the bands of speed-up and tokens/J over TPU-LLM, a row for each model at the first and the last context.

    Bar: from 5 to 95 % of the draws; stroke: median; ring: the catalog's own values.
    """
    rows = [(str(m), n) for m in ds.model.values for n in _ends(ds)]
    with panels(1, 2, figsize=(7.6, 1.1 + 0.27 * len(rows)), sharey=True) as (drawn, axes):
        for ax, (name, title) in zip(axes, _TITLES.items(), strict=True):
            value = ds[name] + (name == "energy_gain")
            for y, (model, n) in enumerate(rows):
                at = value.sel(model=model, context_len=n)
                low, middle, high = (at.sel(band=band).item() for band in BANDS)
                ax.plot([low, high], [y, y], color=_PIM, lw=6, alpha=0.55, solid_capstyle="butt")
                ax.plot([middle], [y], "|", color="#010203", ms=9, mew=1.6)
                ax.plot([at.sel(band="catalog").item()], [y], "o", mfc="none", mec="#010203", ms=5)
            ax.axvline(1, color="#010203", lw=0.8, alpha=0.6)
            ax.set(xscale="log", xlabel=title)
            log_ticks(ax, "x", decades(1, 3))
            ax.grid(axis="x", alpha=0.25)
        axes[0].set_yticks(range(len(rows)), [f"{m}, {n}" for m, n in rows])
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
    model, n = rows[0]
    first = ds.sel(model=model, context_len=n, band=["5 %", "95 %"])
    told = "; ".join(
        f"{title.lower()} {span(first[name] + (name == 'energy_gain'))}" for name, title in _TITLES.items()
    )
    alt = f"Bands over {len(rows)} pairs of model and context, 5 to 95 % of the draws. {model} at {n}: {told}."
    return Figure(drawn, alt)


def causes(ds: xr.Dataset, case: int = 0) -> Figure:
    """Draw what moves speed-up and tokens/J in one case: swings of single constants, and the factors' Sobol indices."""
    here = ds.isel(case=case)
    with panels(2, 2, figsize=(7.6, 5.2), width_ratios=(1.15, 1)) as (drawn, axes):
        for pair, (name, title) in zip(axes, _TITLES.items(), strict=True):
            _tornado(pair[0], here.swing.sel(output=name))
            pair[0].set_title(title, fontsize=9, loc="left")
            _bars(pair[1], here.sel(output=name))
        axes[1, 0].set_xlabel("Over nominal, one constant at an end")
        axes[1, 1].set_xlabel("Share of variance (logarithm)")
    top = {name: here.total_order.sel(output=name) for name in _TITLES}
    told = "; ".join(f"{name}: {t.factor.values[int(t.values.argmax())]} {t.max():.2f}" for name, t in top.items())
    return Figure(drawn, f"Swings and Sobol indices for {here.case.item()}. Largest total index, {told}.")


def _tornado(ax: Axes, swing: xr.DataArray) -> None:
    """Draw the constants that move an output most: blue towards the lower end of the range, orange towards the upper."""
    size = xr.apply_ufunc(np.abs, np.log(swing)).max("end")
    names = swing.constant.values[np.argsort(-size.values)[:_SHOWN]]
    for y, name in enumerate(names):
        for end, colour in (("low", _LOW), ("high", _HIGH)):
            ax.plot([1, swing.sel(constant=name, end=end).item()], [y, y], color=colour, lw=7, solid_capstyle="butt")
    ax.axvline(1, color="#010203", lw=0.8)
    ax.set(xscale="log", ylim=(_SHOWN - 0.4, -0.6))
    low, high = ax.get_xlim()
    log_ticks(ax, "x", decades(1, 3) if high / low > 4 else MaxNLocator(4).tick_values(low, high))
    ax.set_yticks(range(len(names)), names, fontsize=8)


def _bars(ax: Axes, ds: xr.Dataset) -> None:
    """Draw the largest total indices with their intervals; the filled part is the first-order index."""
    top = ds.isel(factor=np.argsort(-ds.total_order.values)[:_SHOWN])
    rows = range(top.factor.size)
    ax.barh(rows, top.total_order, color=_PIM, alpha=0.35, height=0.6, xerr=top.total_order_error, ecolor=_GREY)
    ax.barh(rows, top.first_order.clip(min=0), color=_PIM, height=0.34)
    ax.set(xlim=(0, 1.05), ylim=(_SHOWN - 0.4, -0.6))
    ax.set_yticks(list(rows), [str(name) for name in top.factor.values], fontsize=8)


def leading(ds: xr.Dataset, apart: xr.Dataset, tied: Sequence[str]) -> Sentence:
    """Return which factors are behind the spread, whether they act alone, and what the tie of some constants does.

    apart: `robustness.signs` with the constants that `tied` names drawn each for itself.
    """
    told = f"speed-up: {_leaders(ds, 'speedup')}; tokens/J: {_leaders(ds, 'energy_gain')}"
    both = [span(x.thriftier_share, frequency) for x in (ds, apart)]
    return Sentence(
        f"Mean total indices over {ds.case.size} cases, {told}. PIM-LLM takes less energy in {both[0]} of the draws; with "
        f"the {listed(tied)} untied, in {both[1]}."
    )


def _leaders(ds: xr.Dataset, name: str) -> str:
    total = ds.total_order.sel(output=name).mean("case")
    top = total.sortby(total, ascending=False)[:2]
    alone = ds.first_order.sel(output=name).sum("factor")
    names = " and ".join(f"{f} {percent(x)}" for f, x in zip(top.factor.values, top.values, strict=True))
    return f"{names} (all factors alone: {percent(alone.min())} to {percent(alone.max())} of the variance)"
