"""Chapter 08, what the model was checked against: its figure, its tables and its sentences."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib.analysis.validation import LAYER_SIDE, USUAL, efficiency
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, legend, note, panels, stacked
from pimllm_lib.report.numbers import apart, listed, number, span
from pimllm_lib.report.tables import Table, points
from pimllm_lib.report.text import Sentence, escaped

_GROUP_COLOURS = {"word lines": "#999999", "inputs and cells": "#D55E00", "converters and digital": "#0072B2"}
#: Conversions of the layer beside AccelForge: a column in each of 16 rows of crossbars, bit by bit.
CONVERSIONS = LAYER_SIDE * (LAYER_SIDE // 256) * 8
#: Name of a macro in the catalog -> how it is called in text.
NAMES = {"neurram": "NeuRRAM", "yao2024": "Yao et al."}


def _called(macro: object) -> str:
    return NAMES.get(str(macro), str(macro))


def unexplained(peers: xr.Dataset) -> xr.DataArray:
    """Return what a report of SCALE-Sim has beyond the closed form and its known extra words."""
    left: xr.DataArray = peers.simulated - peers.closed_form - peers.reported_extra
    return left


def peer_table(peers: xr.Dataset) -> Table:
    """Return for each count how many products equal the report outright, how many by a known extra, how many not."""
    equal, left = peers.simulated == peers.closed_form, unexplained(peers) != 0
    rows = [
        {
            "count": name.replace("_", " "),
            "from": number(at.simulated.min().item()),
            "to": number(at.simulated.max().item()),
            "equal": int(at.equal.sum()),
            "known extra": int((~at.equal & ~at.left).sum()),
            "different": int(at.left.sum()),
        }
        for name, at in points(peers.assign(equal=equal, left=left), "count")
    ]
    return Table(rows, title="Products that equal the peer's report")


def block_table(ds: xr.Dataset) -> Table:
    """Return published and computed time (ns) and energy (nJ) of a block, a row a model."""
    rows = [
        {
            "model": name,
            "published (ns)": number(1e9 * point.published_block_s.item()),
            "computed (ns)": number(1e9 * point.block_s.item()),
            "published (nJ)": apart(f"{1e9 * point.published_block_j.item():.2f}"),
            "computed (nJ)": apart(f"{1e9 * point.block_j.item():.2f}"),
        }
        for name, point in points(ds, "model")
    ]
    return Table(rows, title="Time (ns) and energy (nJ) of a block, published and computed")


def layer_table(ds: xr.Dataset) -> Table:
    """Return energy (nJ) and time (ns) of the layer by part, a column for each estimate, and how often AccelForge's."""
    rows = [_layer_row(f"{part}, energy (nJ)", at.layer_j) for part, at in points(ds, "layer_part")]
    rows.append(_layer_row("all, energy (nJ)", ds.layer_j.sum("layer_part")))
    rows += [_layer_row(f"{stage}, time (ns)", at.layer_s) for stage, at in points(ds, "layer_stage")]
    return Table(
        [*rows, _layer_row("all, time (ns)", ds.layer_s.sum("layer_stage"))],
        title="Energy (nJ) and time (ns) of one layer by part, by estimate",
    )


def _layer_row(what: str, values: xr.DataArray) -> dict[str, str]:
    theirs = values.sel(estimate="AccelForge").item()
    row = {"of the layer": what, "AccelForge": number(1e9 * theirs) if theirs else "not modelled"}
    for name in values.estimate.values[1:]:
        ours = values.sel(estimate=name).item()
        row[str(name)] = number(1e9 * ours) + (f" ({number(ours / theirs)} x)" if theirs else "")
    return row


def layer_answer(ds: xr.Dataset) -> Sentence:
    """Return how far apart both are, and why, part by part."""
    nj, time = 1e9 * ds.layer_j, 1e9 * ds.layer_s
    theirs, there = nj.sel(estimate="AccelForge", drop=True), time.sel(estimate="AccelForge", drop=True)
    ours, here = (x.drop_sel(estimate="AccelForge") for x in (nj, time))
    times = ours.sum("layer_part") / theirs.sum()
    told = listed(f"{at.item():.2g} times as much counted `{name}`" for name, at in points(times, "estimate"))
    each = [f"{1e3 * x / CONVERSIONS:.3g}" for x in nj.sel(layer_part="converters").values]
    more = {part: at.values for part, at in points(theirs / ours, "layer_part")}
    cells, drivers = (span(more[part], ".2g") for part in ("cells", "row drivers"))
    digital = span(1 / more["columns and digital"], ".2g")
    arrays, rest = here.sel(layer_stage="arrays"), here.drop_sel(layer_stage="arrays").sum("layer_stage")
    return Sentence(
        f"**AccelForge has {theirs.sum().item():.0f} nJ for the layer. This model has {told}.** Why, part by part:\n\n"
        f"- Converters: both make {number(CONVERSIONS)} conversions. One takes {each[0]} pJ there, a fifth of that leakage, "
        f"and {listed(each[1:])} pJ here, by what the rate of a converter is read as.\n"
        f"- Cells take {cells} times ours: half of the inputs are on there, and the published read duty is a tenth.\n"
        f"- Row drivers take {drivers} times ours: the charge of a word line there, a power for the time they work here.\n"
        f"- Columns and digital parts take {digital} times theirs, which are drivers of columns alone. The adders that join "
        f"crossbars would have to be written for that macro.\n"
        f"- Buffers, {listed(ours.sel(layer_part='buffers').values, '.0f')} nJ here, are not in it.\n"
        f"- Time: {there.sum().item():.0f} ns there, 31 ns for each of eight bits. Here the arrays take "
        f"{listed(arrays.values, '.0f')} ns, and buffers and the way between tiles {listed(rest.values, '.0f')} ns more."
    )


def agreeing_blocks(ds: xr.Dataset) -> int:
    """Return how many blocks have the published time and energy to the printed digit."""
    times = (1e9 * ds.block_s).round(0) == (1e9 * ds.published_block_s).round(0)
    energies = (1e9 * ds.block_j).round(2) == (1e9 * ds.published_block_j).round(2)
    return int((times & energies).sum())


def ratios(ds: xr.Dataset) -> xr.DataArray:
    """Return predicted over measured efficiency by macro and source of the converter's energy."""
    return efficiency(ds.mac_j) / efficiency(ds.measured_mac_j)


def hindcast_table(ds: xr.Dataset) -> Table:
    """Return measured and predicted TOPS/W and their ratio, a row for each macro and converter."""
    rows = [
        {
            "macro": _called(name),
            "energy of a conversion": source,
            "measured (TOPS/W)": f"{efficiency(at.measured_mac_j).item():.3g}",
            "predicted (TOPS/W)": f"{efficiency(at.mac_j).item():.3g}",
            "ratio": f"{ratios(at).item():.2f}",
        }
        for name, source, at in points(ds, "macro", "converter")
    ]
    return Table(rows, title="Measured and predicted TOPS/W of macros")


def band_table(ds: xr.Dataset) -> Table:
    """Return the ratio of predicted to measured efficiency with one constant of the cell at either end of its range."""
    rows = []
    for name, constant, at in points(ds, "macro", "constant"):
        ends = efficiency(at.band_mac_j) / efficiency(at.measured_mac_j)
        low, own, high = (f"{x.item():.2f}" for x in (ends[0], ratios(at).sel(converter=USUAL), ends[1]))
        if ends.diff("end").item():
            ratio = {"ratio, low end": low, "ratio": own, "ratio, high end": high}
            rows.append({"macro": _called(name), "constant": constant, **ratio})
    return Table(rows, title="Predicted over measured efficiency, one constant of the cell at either end of its range")


def hindcast(ds: xr.Dataset) -> Figure:
    """Draw measured and predicted energy of a MAC by group, a panel a macro, a bar for each converter."""
    with panels(ds.macro.size, 1, figsize=(7.4, 0.5 + 1.75 * ds.macro.size), squeeze=False) as (drawn, axes):
        for ax, name in zip(axes[:, 0], ds.macro.values, strict=True):
            _bars(ax, ds.sel(macro=name))
            ax.set_title(_called(name), loc="left", fontsize=10, fontweight="bold")
        axes[-1, 0].set_xlabel("Energy of one multiply-accumulate (fJ)")
        legend(drawn, axes[0, 0])
    found = ratios(ds).sel(converter=USUAL)
    alt = "Measured and predicted energy of a multiply-accumulate. Predicted over measured efficiency: " + "; ".join(
        f"{name} {found.sel(macro=name).item():.2f}" for name in ds.macro.values
    )
    return Figure(drawn, alt + ".")


def _bars(ax: Axes, one: xr.Dataset) -> None:
    """Draw the bars of one macro: measured first, predictions below, the efficiency at the end of each."""
    bars = {"measured": one.measured_mac_j} | {str(c): one.mac_j.sel(converter=c) for c in one.converter.values}
    widths = {group: [1e15 * parts.sel(group=group).item() for parts in bars.values()] for group in _GROUP_COLOURS}
    ends = stacked(ax, range(len(bars)), widths, _GROUP_COLOURS, height=0.7)
    for place, bar in enumerate(ax.patches):
        bar.set_alpha(0.62 if place % len(bars) else 1.0)  # what was measured stands out
    for row, parts in enumerate(bars.values()):
        note(ax, f"{efficiency(parts).item():.3g} TOPS/W", (ends[row], row), (4, 0), va="center")
    ax.set_yticks(range(len(bars)), list(bars))
    ax.invert_yaxis()
    ax.margins(x=0.2)
    ax.set_xlim(left=0)


def box(peers: xr.Dataset, published: xr.Dataset, macros: xr.Dataset) -> Box:
    """Return the box of the page: what agrees, and by how much the hindcast misses."""
    equal, left = int((peers.simulated == peers.closed_form).sum()), int((unexplained(peers) != 0).sum())
    extra, total = peers.simulated.size - equal - left, peers.simulated.size
    ratio = ratios(macros)
    told = " and ".join(
        f"{ratio.sel(macro=name, converter=USUAL).item():.2f} ({_called(name)})" for name in macros.macro.values
    )
    parts = macros.mac_j.sel(converter=USUAL) / macros.measured_mac_j.where(macros.measured_mac_j > 0)
    worst = max(parts.max().item(), 1 / parts.where(parts > 0).min().item())
    moves = (ratio.max("converter") / ratio.min("converter")).max().item()
    return Box(
        question="Can the numbers be believed?",
        answer=f"Of {total} counts of SCALE-Sim {equal} are equal, {extra} by a known extra, {left} otherwise; of published "
        f"blocks {agreeing_blocks(published)} of {published.model.size}; measured chips: {told} times the efficiency.",
        sure=f"Two chips are few; parts miss by up to {worst:.0f} times.",
        decides=f"The energy of a conversion, which moves efficiency {moves:.0f}-fold.",
    )


def spread(ds: xr.Dataset) -> Sentence:
    """Return how well each part of a macro is predicted, and how much hangs on the energy of a conversion."""
    ratio, lines = ratios(ds), []
    for name in ds.macro.values:
        one, ends = ds.sel(macro=name), ratio.sel(macro=name)
        found = 100 * one.mac_j.sel(converter=USUAL) / one.measured_mac_j.where(one.measured_mac_j > 0)
        parts = [f"{group} {found.sel(group=group).item():.0f} %" for group in found.dropna("group")["group"].values]
        lines.append(
            f"- {_called(name)}, predicted over measured energy: {', '.join(parts)}. Depending on the converter, the ratio "
            f"of efficiencies runs from {span(ends, '.2f')}."
        )
    return Sentence("\n".join(lines))


def meaning(published: xr.Dataset, macros: xr.Dataset) -> Sentence:
    """Return what the worst miss on the side of the inputs would change in a block of PIM-LLM."""
    block = published.isel(model=-1)
    before = macros.drop_sel(group="converters and digital")  # all of a macro that comes before its converters
    found = before.mac_j.sel(converter=USUAL).sum("group") / before.measured_mac_j.sum("group")
    name, factor = found.macro.values[int(found.argmin("macro"))], 1 / found.min().item()
    more = 100 * block.input_share.item() * (factor - 1)
    return Sentence(
        f"In a block of {escaped(block.model.item())}, input converters and cells take "
        f"{100 * block.input_share.item():.2f} % of the "
        f"energy. Were they off by the factor found for {_called(name)}, {factor:.1f}, the energy of the block "
        f"would change by {more:+.1f} %."
    )
