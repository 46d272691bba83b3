"""Chapter 06, operations per second and per joule beside earlier accelerators: its tables, figures and sentences."""

from __future__ import annotations

import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib.analysis import claims
from pimllm_lib.analysis.claims import SCALES, earlier, published
from pimllm_lib.core import joining
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import SYSTEM_COLOURS, Figure, decades, legend, log_ticks, note, panels, system_colours
from pimllm_lib.report.numbers import listed, number, span
from pimllm_lib.report.rivals import of_published
from pimllm_lib.report.tables import Table, points
from pimllm_lib.report.text import Sentence, agreement, escaped, where

#: Quantity -> the unit it is printed in.
UNITS = {"ops_per_s": "GOPS", "ops_per_j": "GOPS/W"}
#: The model whose printed rows the pairings are held against.
_QUESTIONED = "opt-6.7b"
_OWN = (_QUESTIONED, _QUESTIONED)
_GREY = "#777777"


def earlier_table() -> Table:
    """Return what is printed for earlier accelerators, and where."""
    rows = earlier().rename(columns={"context_len": "context", "how_read": "how read"})
    shown = rows.assign(printed=(rows.bound + " " + rows.value + " " + rows.unit).str.strip())
    return Table(
        shown[["accelerator", "model", "context", "printed", "where", "how read"]],
        long=True,
        title="What is printed for earlier accelerators",
    )


def in_print(values: xr.DataArray) -> xr.DataArray:
    """Return operations in the unit they are printed in."""
    scaled: xr.DataArray = values * SCALES[UNITS[str(values.name)]]
    return scaled


def operations(ops: xr.Dataset) -> Figure:
    """Draw operations per second and per joule of all systems, a row for each model and context.

    Rings: printed values; diamonds: earlier accelerators.
    """
    places = [(str(m), int(n)) for m in ops.model.values for n in ops.context_len.values]
    with panels(1, 2, figsize=(7.6, 1.6 + 0.42 * len(places)), sharey=True) as (drawn, axes):
        for ax, (quantity, unit) in zip(axes, UNITS.items(), strict=True):
            _dots(ax, in_print(ops[quantity]), places)
            rows, rivals = published(), earlier()
            _marks(ax, rows[(rows.system == "pim-llm") & (rows.quantity == quantity)], places, "o", "printed")
            _marks(ax, rivals[rivals.quantity == quantity], places, "D", "")
            ax.margins(x=0.38)
            log_ticks(ax, "x", decades(1, 2, 5))
            ax.set(xlabel=unit, ylim=(len(places) - 0.5, -0.9))
            ax.grid(axis="y", color=_GREY, alpha=0.25, lw=0.6)
        axes[0].set_yticks(range(len(places)), [f"{model}, {n}" for model, n in places])
        colours = system_colours(ops.system.values)
        if len(colours) > 2:
            legend(drawn, {name: {"marker": "o", "ls": "none", "color": colours[name]} for name in colours}, ncols=3)
    alt = (
        f"GOPS and GOPS per watt of {listed(colours)} for {len(places)} pairs of model and context, on log axes. Rings "
        "are printed values of pim-llm, diamonds those printed for earlier accelerators."
    )
    return Figure(drawn, alt)


def _dots(ax: Axes, values: xr.DataArray, places: list[tuple[str, int]]) -> None:
    """Draw a dot a system and row; of two systems the first dots have their names above, the smaller's to its left."""
    ax.set_xscale("log")
    for system, colour in system_colours(values.system.values).items():
        x = [values.sel(system=system, model=model, context_len=n).item() for model, n in places]
        ax.plot(x, range(len(places)), "o", color=colour, ms=5)
        if values.sizes["system"] > 2:
            continue
        side = "right" if x[0] == values.isel(model=0, context_len=0).min() else "left"
        note(ax, system, (x[0], 0), (0, 9), color=colour, fontweight="bold", ha=side)


def _marks(ax: Axes, rows: pd.DataFrame, places: list[tuple[str, int]], marker: str, word: str) -> None:
    """Mark printed values at their rows; `word` names the first, else each has its accelerator's name."""
    for row in rows.to_dict("records"):
        point = (row["model"], int(row["context_len"]))
        if point in places:
            x, y = float(row["value"]), places.index(point)
            ax.plot(x, y, marker, mfc="none", mec=_GREY, ms=10 if marker == "o" else 6, mew=1.2)
            if not word:
                bound = "below " if row["bound"] else ""
                note(ax, f"{row['accelerator']}: {bound}{row['value']}", (x, y), (-8, -16), color=_GREY)
            elif row["verdict"] != "agrees":
                note(ax, word, (x, y), (9, -4), color=_GREY)
                word = " "


def pairings(as_published: xr.Dataset, own_shapes: xr.Dataset) -> xr.DataArray:
    """Return printed over computed, less one, when operations of one model are multiplied by rates of another.

    as_published, own_shapes: summaries of pim-llm under the study's shapes and under the models' own. Operations come from
    both, rates from the first. Dimensions: claim, counts (whose operations), rates (whose rates).
    """
    rows = published()
    rows = rows[(rows.model == _QUESTIONED) & rows.quantity.isin(UNITS.keys()) & (rows.verdict == "differs")]
    own = own_shapes.macs.assign_coords(model=[f"{name}, own shape" for name in own_shapes.model.values])
    changed = (own.values != as_published.macs.values).any(axis=own.get_axis_num("context_len")).ravel()
    counts = joining.concat([as_published.macs, own.isel(model=changed)], "model").squeeze("system", drop=True)
    counts = counts.rename(model="counts")
    found = []
    for row in rows.to_dict("records"):
        merit = row["quantity"].replace("ops", "tokens")
        rates = as_published[merit].squeeze("system", drop=True).rename(model="rates")
        product = (counts * rates).sel(context_len=int(row["context_len"]), drop=True) * SCALES[row["unit"]]
        found.append((float(row["value"]) / product - 1).assign_coords(claim=f"{row['unit']}, {row['context_len']}"))
    pairs: xr.DataArray = joining.concat(found, "claim")
    return pairs


def worst(pairs: xr.DataArray) -> pd.Series:
    """Return the largest residual of each pairing over the printed numbers, in percent, smallest first."""
    return (100 * abs(pairs).max("claim")).to_series().sort_values()


def pairing_table(pairs: xr.DataArray, best: int = 3) -> Table:
    """Return the residuals of the closest pairings, and of the model with itself, number by number."""
    order = list(worst(pairs).index)
    shown = dict.fromkeys([*order[:best], *(pair for pair in order if pair == _OWN)])
    rows = (
        {"operations of": c, "rates of": r}
        | {claim: f"{100 * x.item():+.2f} %" for claim, x in points(pairs.sel(counts=c, rates=r), "claim")}
        for c, r in shown
    )
    return Table(rows, long=True, title="Residuals of the closest pairings, number by number")


def pairing_figure(pairs: xr.DataArray) -> Figure:
    """Draw the worst residual of every pairing on a log axis: a row for each model whose rates are used."""
    residual, names = worst(pairs), [str(name) for name in pairs.rates.values]
    best = residual.index[0]
    with panels(figsize=(7.2, 1.2 + 0.34 * len(names))) as (drawn, ax):
        for pair, value in residual.items():
            special = pair in (best, _OWN)
            colour, size = (SYSTEM_COLOURS["pim-llm"], 7) if special else (_GREY, 4)
            ax.plot(value, names.index(pair[1]), "o", color=colour, ms=size, mec="none", alpha=1 if special else 0.6)
        for pair in dict.fromkeys((best, _OWN)):
            if pair in residual.index:
                text, side = f"operations of {pair[0]}: {residual[pair]:.2f} %", "left" if pair == best else "center"
                at = (residual[pair], names.index(pair[1]))
                note(ax, text, at, (0, 8), ha=side, color=SYSTEM_COLOURS["pim-llm"])
        ax.set(xscale="log", xlabel="Largest departure from the printed numbers (%)", ylim=(len(names) - 0.5, -0.9))
        ax.set_yticks(range(len(names)), [f"rates of {name}" for name in names])
        log_ticks(ax, "x", (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10000))
    alt = (
        f"Largest departure from the printed rows of {_QUESTIONED} for {len(residual)} pairings of one model's operations "
        f"with another's rates. Closest: operations of {best[0]}, rates of {best[1]}, {residual.iloc[0]:.2f} %."
    )
    return Figure(drawn, alt)


def hypothesis(pairs: xr.DataArray) -> Sentence:
    """Return which pairing comes closest to the printed rows, and how far the next ones are."""
    residual = worst(pairs)
    (counts, rates), (next_counts, next_rates) = residual.index[:2]
    text = (
        f"Of {len(residual)} pairings, **operations of {escaped(counts)} times rates of {escaped(rates)}** come "
        f"closest to the {pairs.sizes['claim']} printed numbers, within {residual.iloc[0]:.2f} %. The next is "
        f"{escaped(next_counts)} with rates of {escaped(next_rates)}, within {residual.iloc[1]:.2f} %."
    )
    if _OWN in residual:
        text += f" {_QUESTIONED} with its own rates departs by up to {residual[_OWN]:.0f} %."
    return Sentence(text)


def operations_said(ops: xr.Dataset) -> str:
    """Return the range of each system, and its leads over what is printed for earlier accelerators."""
    told = []
    for name in ops.system.values:
        rates = (span(in_print(ops[what].sel(system=name)), ".4g") for what in UNITS)
        told.append("{} does {} GOPS and {} GOPS/W".format(escaped(name), *rates))
    leads = [
        f" For {where(lead)} that is, over the {row['value']} {row['unit']} printed{' as a bound' * bool(row['bound'])} for "
        f"{row['accelerator']}, "
        + listed(f"{one.item():.2f} times ({escaped(name)})" for name, one in points(lead, "system"))
        for row in earlier().to_dict("records") if _there(ops, row) for lead in [_leads(ops, row)]
    ]  # fmt: skip
    return f"{'; '.join(told)}, counted {escaped(ops.attrs['conventions'])}.{''.join(f'{one}.' for one in leads)}"


@of_published("How do these systems stand to earlier accelerators?", operations_said)
def box(ops: xr.Dataset) -> Box:
    """Return the box of the page: both systems beside what is printed for earlier accelerators."""
    leads = [_lead(ops, row) for row in earlier().to_dict("records") if _there(ops, row)]
    fast = ops.sel(system="pim-llm")
    own = f"{span(in_print(fast.ops_per_s), '.2f')} GOPS and {span(in_print(fast.ops_per_j), '.0f')} GOPS/W"
    told = listed(leads) if leads else own
    return Box(
        question="How does PIM-LLM stand to earlier accelerators?",
        answer=f"PIM-LLM has {told}, counted alike.",
        sure=str(agreement(claims.check(ops))),
        decides="Model, context and what is called an operation: the other numbers are as printed, of other models.",
    )


def _there(ops: xr.Dataset, row: dict[str, str]) -> bool:
    return row["model"] in ops.model.values and int(row["context_len"]) in ops.context_len.values


def _lead(ops: xr.Dataset, row: dict[str, str]) -> str:
    """Return how both systems stand to one printed number."""
    lead = _leads(ops, row)
    bound = "over " if row["bound"] == "below" else ""
    fast, slow = lead.sel(system="pim-llm").item(), lead.sel(system="tpu-llm").item()
    return f"{bound}{fast:.2f} times the {row['unit']} printed for {row['accelerator']} (TPU-LLM {bound}{slow:.2f})"


def _leads(ops: xr.Dataset, row: dict[str, str]) -> xr.DataArray:
    """Return how all systems stand to one printed number."""
    return ops[f"{row['quantity']}_lead"].sel(model=row["model"], context_len=int(row["context_len"]))


def by_conventions(ops: xr.Dataset) -> Table:
    """Return operations under each set of conventions at the points of earlier accelerators, or at the first of all."""
    rivals = [row for row in earlier().to_dict("records") if _there(ops, row)]
    first = (str(ops.model.values[0]), int(ops.context_len.values[0]))
    rows = []
    for model, n in [(row["model"], int(row["context_len"])) for row in rivals] or [first]:
        for name, cell in points(ops.sel(model=model, context_len=n), "conventions"):
            row = {"model": model, "context": n, "conventions": name}
            for quantity, unit in UNITS.items():
                values = in_print(cell[quantity])
                row |= {f"{system} {unit}": number(values.sel(system=system).item()) for system in ops.system.values}
            rows.append(row)
    return Table(rows, title="Operations under each set of conventions")
