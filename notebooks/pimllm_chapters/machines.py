"""Chapter 19, machines that one can buy: its figures, tables and sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib import catalog
from pimllm_lib.analysis.beside import BUILT, WHOLE, needed, verdicts
from pimllm_lib.analysis.devices import FACTOR, METHODS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, decades, legend, log_ticks, note, panels, system_colours
from pimllm_lib.report.numbers import known, listed, number, percent, span, tokens
from pimllm_lib.report.tables import Table, points
from pimllm_lib.report.text import Sentence, escaped, most_won

#: Of which ways of building PIM-LLM the break-even is asked.
CHANGED = ("whole, low standby power", "whole, row groups")
_PIM, _BOUGHT = "#D55E00", "#0072B2"
#: Where words stand that would lie on others.
_WORDS = {"slips put right": ((0, 7), "center"), "whole, row groups": ((-6, 5), "right")}
_MARKS = {"rail": "^", "package": "s", "board": "o", "wall": "D", "estimated": "X"}


def measured_rows(table: pd.DataFrame) -> Table:
    """Return what was measured, a row a measurement: on what, of what, how, and where it stands."""
    rows = [
        {
            "machine": row["device"],
            "model": row["model"],
            "runs": f"{row['engine']}, {row['format']}",
            "context": f"{row['context']:g}",
            "tokens/s": number(row["tokens_per_s"]),
            "J a token": known(row["energy_j"], otherwise=""),
            "by": row["method"],
            "of the bandwidth": f"{100 * row['share']:.0f}\N{NO-BREAK SPACE}%",
            "over the rule": f"{row['ratio']:.2f}",
            "source": row["source"],
            "where": row["where"],
            "why": row["why"],
        }
        for row in table.to_dict("records")
    ]
    return Table(rows, long=True, title="What was measured, a row a measurement")


def rule_sentence(table: pd.DataFrame) -> Sentence:
    """Return within which factor the rule gives the measured rates, and how many rows lie outside."""
    outside = table[table.outside]
    ratio = span([table.ratio.min(), table.ratio.max()], ".2f")
    shares = listed(f"{kind} {percent(share)}" for kind, share in table.groupby("kind").share.median().items())
    return Sentence(
        f"**The rule gives {len(table) - len(outside)} of {len(table)} measured rates within a factor of {FACTOR:g}**; over "
        f"it they are {ratio}. {len(outside)} rows lie outside, on {listed(map(escaped, dict.fromkeys(outside.device)))}. "
        f"The median row reaches, of the peak bandwidth: {shares}."
    )


def outliers(table: pd.DataFrame) -> Table:
    """Return the rows that the rule does not give, each with the reason."""
    rows = table[table.outside].sort_values("ratio")
    shown = (
        {
            "machine": row["device"], "model": row["model"], "runs": row["engine"], "tokens/s": number(row["tokens_per_s"]),
            "rule": number(row["rule_tokens_per_s"]), "ratio": f"{row['ratio']:.2f}", "why": row["why"],
        }
        for row in rows.to_dict("records")
    )  # fmt: skip
    return Table(shown, title="Measurements that the rule does not give, each with the reason")


def measured_here(table: pd.DataFrame, rule: pd.DataFrame) -> Table:
    """Return what llama.cpp decodes on one core of the machine that this book was made on, over a copy and over the rule.

    rule: the rows of others, whose median share on cores the rule takes of the bandwidth.
    """
    share = rule[rule.kind == "cpu"].share.median()
    rows = (
        {
            "model": row["model"], "format": row["format"], "context": f"{row['context']}",
            "tokens/s": number(row["tokens_per_s"]), "MB a token": number(row["bytes"] / 1e6),
            "of a copy's bandwidth": percent(row["share"]), "over the rule": f"{row['share'] / share:.2f}",
        }
        for row in table.to_dict("records")
    )  # fmt: skip
    return Table(rows, long=True, title="What llama.cpp decodes here on one core")


def box(ds: xr.Dataset, shown: str) -> Box:
    """Return the box of the page: in how many pairs of model and context PIM-LLM beats what one can buy, and by what."""
    ds, others = _apart(ds)
    won = verdicts(ds)
    (fast, of, name), (thrifty, measured, _), (both, *_) = (
        most_won(won[key]) for key in ("faster", "thriftier", "both")
    )
    return Box(
        question="Is PIM-LLM ahead of phones, laptops and cards?",
        answer=f"At best ({name}) it is faster than the fastest in {fast} of {of} pairs of model "
        f"and context, thriftier than the thriftiest measured in {thrifty} of {measured}, and both in {both or 'none'}.",
        sure="Machines were measured by others; [converters that wait](17-standing-power.ipynb) are assumed.",
        decides="First the array: how many of its rows work.",
        more=f"{_phones(ds)} {_change(ds, shown)}{_rivals(others)}".strip(),
    )


def _apart(ds: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the ways of building PIM-LLM, and systems of a reader's own."""
    own = [name in BUILT for name in ds.built.values]
    return ds.isel(built=own), ds.isel(built=[not one for one in own])


def _rivals(ds: xr.Dataset) -> str:
    """Return in how many pairs of model and context systems of a reader's own beat what one can buy."""
    if not ds.sizes["built"]:
        return ""
    won = verdicts(ds)
    told = (
        f"{escaped(name)} is faster in {int((at.faster == 1).sum())} of {int(at.faster.notnull().sum())}, takes less energy "
        f"in {int((at.thriftier == 1).sum())} of {int(at.thriftier.notnull().sum())}, and does both in "
        f"{int((at.both == 1).sum())}"
        for name, at in points(won, "built")
    )
    return f"\n\nAs a whole machine, too, {'; '.join(told)}. The text of this page was written without it."


def _whole(ds: xr.Dataset) -> list[str]:
    """Return what is made of whole parts: ways of building PIM-LLM, and systems of a reader's own."""
    return [str(name) for name in ds.built.values if name in WHOLE or name not in BUILT]


def _phones(ds: xr.Dataset) -> str:
    """Return how whole machines stand beside phones, which are what the paper speaks of."""
    phones = ds.bought_tokens_per_s.where(ds.device_kind == "phone").max("device")
    there = (ds.tokens_per_s / phones).sel(built=[name for name in WHOLE if name in ds.built.values])
    told = [f"{span(one.values[np.isfinite(one.values)], '.2g')} ({name})" for name, one in points(there, "built")
            if np.isfinite(one).any()]  # fmt: skip
    return f"Over the rate of the fastest phone it has, over models and contexts, {listed(told)} times." if told else ""


def _change(ds: xr.Dataset, model: str) -> str:
    """Return what one whole machine would have to become to stand beside the best phone or, without one, laptop."""
    context, built = int(ds.context_len[0]), "whole, low standby power"
    at = ds.sel(model=model, context_len=context)
    for kind, said in {"phone": "phone", "unified": "laptop"}.items():
        mine = at.where(ds.device_kind == kind)
        rate, joules = (
            mine.bought_tokens_per_s.max().item(),
            mine.bought_energy_j.fillna(mine.bought_estimated_j).min().item(),
        )
        if np.isfinite(rate) and np.isfinite(joules) and built in ds.built.values:
            found = needed(model=model, context_len=context, tokens_per_s=rate, energy_j=joules, built=built)
            told = "; ".join(f"{what}: {how}" for what, how in _changes(found, has_energy=True).items())
            return (
                f"To stand beside the best {said} with {escaped(model)} at {context} tokens the machine with low standby "
                f"power would need, each alone: {told}."
            )
    return ""


def beside(ds: xr.Dataset, table: pd.DataFrame, model: str, contexts: list[int]) -> Figure:
    """Draw tokens a second against joules a token of one model, a panel a context: PIM-LLM, and what was measured.

    Bars of PIM-LLM: what converters draw while they wait; whole machines of the three kinds of cells are joined. Bars of
    machines: over their rows; modes of one machine are joined, and rates without an energy are lines.
    """
    mine = table[table.model == model]
    with panels(1, len(contexts), figsize=(7.8, 4.4), sharex=True, sharey=True, squeeze=False) as (drawn, axes):
        for ax, context in zip(axes[0], contexts, strict=True):
            at = ds.sel(model=model, context_len=context)
            _hybrids(ax, at)
            _devices(ax, at, mine)
            ax.set(xscale="log", yscale="log", xlabel="Energy of a token (J)")
            ax.set_title(f"{tokens(context)} tokens", fontsize=10)
            ax.margins(0.14)
        for ax in axes[0]:
            log_ticks(ax, "x", decades(1))
            log_ticks(ax, "y", decades(1, 2, 5))
        axes[0][0].set_ylabel("Tokens a second")
        own = system_colours(name for name in ds.built.values if name not in BUILT)
        looks: dict[str, Any] = {
            name: {"marker": "o", "ls": "none", "color": colour} for name, colour in ({"PIM-LLM": _PIM} | own).items()
        }
        looks |= {
            how if how == "estimated" else f"measured: {how}": {"ls": "none", **_look(how)}
            for how in METHODS if how in set(mine.method)
        }  # fmt: skip
        legend(drawn, looks | {"rate alone": {"color": _BOUGHT, "lw": 0.6}}, ncols=3)
    first = ds.sel(model=model, context_len=contexts[0])
    told = "; ".join(
        f"{name} {number(one.tokens_per_s.item())} tokens/s and {number(one.energy_j.item())} J"
        for name, one in ((name, first.sel(built=name)) for name in first.built.values)
    )
    alt = (
        f"Tokens per second against joules per token of {model} at {listed(contexts)} tokens. At {contexts[0]}, PIM-LLM: "
        f"{told}. Bought: up to {number(first.bought_tokens_per_s.max().item())} tokens/s, from "
        f"{known(first.bought_energy_j.min().item())} J measured."
    )
    return Figure(drawn, alt)


def _look(how: str) -> dict[str, Any]:
    return {"marker": _MARKS[how], "color": _BOUGHT, "mfc": "none" if how == "estimated" else _BOUGHT}


def _hybrids(ax: Axes, at: xr.Dataset) -> None:
    cells = [name for name in WHOLE if name in at.built.values and "groups" not in name]
    colours = dict.fromkeys(BUILT, _PIM) | system_colours(name for name in at.built.values if name not in BUILT)
    if cells:
        ax.plot(at.energy_j.sel(built=cells), at.tokens_per_s.sel(built=cells), color=_PIM, lw=1)
    for name in map(str, at.built.values):
        one = at.sel(built=name)
        joules = one.energy_j.item()
        bar = [[joules - one.energy_least_j.item()], [one.energy_most_j.item() - joules]]
        ax.errorbar(joules, one.tokens_per_s.item(), xerr=bar, fmt="o", color=colours[name], ms=5, lw=0.8)
        if name in BUILT and name not in cells[1:]:
            word = "whole machine" if name in cells else name.removeprefix("whole, ")
            by, side = _WORDS.get(name, ((0, -13), "center"))
            note(ax, word, (joules, one.tokens_per_s.item()), by, color=colours[name], fontsize=7.5, ha=side)


def _devices(ax: Axes, at: xr.Dataset, mine: pd.DataFrame) -> None:
    """Draw machines that one can buy, the modes of one joined."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name in dict.fromkeys(mine.device):
        one, rows = at.sel(device=name), mine[mine.device == name]
        ways, rate = rows[rows.energy_j.notna()].method, one.bought_tokens_per_s.item()
        if ways.empty:
            ax.axhline(rate, color=_BOUGHT, lw=0.5, alpha=0.35)
            continue
        how = ways.iloc[0]
        joules = (one.bought_estimated_j if how == "estimated" else one.bought_energy_j).item()
        bar = [[rate * (1 - rows.tokens_per_s.min() / rows.tokens_per_s.max())], [0]]
        ax.errorbar(joules, rate, yerr=bar, fmt="none", color=_BOUGHT, lw=1)
        ax.plot(joules, rate, ls="none", ms=5, **_look(how))
        lines.setdefault(re.sub(r"-(\d+w|maxn)$", "", name), []).append((joules, rate))
    for name, places in lines.items():
        ax.plot(*zip(*places, strict=True), color=_BOUGHT, lw=0.8)
        note(ax, name, places[-1], (6, 4), color=_BOUGHT, fontsize=7.5)


def best_table(ds: xr.Dataset) -> Table:
    """Return the best of whole machines and the best that one can buy, in rate and in energy: a row a model and context."""
    whole = ds.sel(built=_whole(ds))
    rows = []
    for model, context, at in points(whole, "model", "context_len"):
        rate, joules = at.bought_tokens_per_s, at.bought_energy_j
        rows.append(
            {
                "model": model,
                "context": f"{context}",
                "whole machines, tokens/s": _best(at.tokens_per_s, "built", least=False),
                "bought, tokens/s": _best(rate, "device", least=False),
                "whole machines, J": _best(at.energy_j, "built", least=True),
                "bought, J measured": _best(joules, "device", least=True),
                "bought, J estimated": _best(at.bought_estimated_j, "device", least=True),
            }
        )
    return Table(rows, long=True, title="The best of whole machines and the best that one can buy")


def _best(values: xr.DataArray, dim: str, *, least: bool) -> str:
    there = values.dropna(dim)
    if not there.size:
        return "not measured"
    at = there.isel({dim: int((there.argmin if least else there.argmax)(dim))})
    return f"{number(at.item())} ({at[dim].item()})"


def break_even(ds: xr.Dataset, context_len: int, kinds: Mapping[str, str], systems: Sequence[str]) -> Table:
    """Return what a whole machine would have to become to reach the best of each kind of machine, each change alone.

    kinds: kind of device -> how it is called; systems: a reader's own in the dataset. A row a model, machine and kind.
    """
    rows, ds = [], ds.sel(built=[name for name in _whole(ds) if name in CHANGED or name not in BUILT])
    for model, built, at in points(ds.sel(context_len=context_len), "model", "built"):
        for kind, said in kinds.items():
            mine = at.sel(device=ds.device_kind == kind)
            rate = mine.bought_tokens_per_s.max().item() if mine.device.size else np.nan
            joules = np.nanmin(np.append(np.fmin(mine.bought_energy_j.values, mine.bought_estimated_j.values), np.inf))
            if not np.isfinite(rate):
                continue
            goal = joules if np.isfinite(joules) else at.energy_j.item()
            found = needed(model=model, context_len=context_len, tokens_per_s=rate, energy_j=goal, built=built,
                           systems=systems)  # fmt: skip
            rows.append(
                {"model": model, "machine": built, "beside": said, **_changes(found, has_energy=np.isfinite(joules))}
            )
    return Table(rows, long=True, title="What a whole machine would have to become, each change alone")


def _changes(found: dict[str, float], *, has_energy: bool) -> dict[str, str]:
    def factor(value: float, form: str) -> str:
        return "never" if np.isnan(value) else "as it is" if value == 1 else form.format(value)

    told = {
        "clock of the array": factor(found["clock"], "{:.2g} times"),
        "row groups": factor(found["row_groups"], "{:.0f}"),
    }
    energy = {
        name: factor(found[key], "{:.2g} times")
        for key, name in (("converter_power", "power of converters"), ("leakage", "what waits"))
    }
    return told | (energy if has_energy else dict.fromkeys(energy, "not known"))


def areas(ds: xr.Dataset) -> Table:
    """Return the area of each way of building PIM-LLM beside known dies of machines that one can buy."""
    rows = [
        {
            "machine": f"{'PIM-LLM ' * (name in BUILT)}{name}, {model}",
            "area (mm²)": number(1e6 * at.area_m2.item()),
            "of": "crossbars, array, memory",
        }
        for model, name, at in points(ds[["area_m2"]].isel(context_len=0), "model", "built")
    ]
    dies = {name: device.die_area_m2 for name, device in catalog.devices.items() if device.die_area_m2 is not None}
    rows += [{"machine": name, "area (mm²)": number(1e6 * area), "of": "its main die"} for name, area in dies.items()]
    return Table(rows, long=True, title="Area of PIM-LLM beside known dies")
