"""Chapter 19, machines that one can buy: its figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib import catalog
from pimllm_lib.analysis.beside import BUILT, needed
from pimllm_lib.analysis.devices import FACTOR, METHODS
from pimllm_lib.report.figure import Figure, decades, legend, log_ticks, note, panels
from pimllm_lib.report.numbers import known, listed, number, span, tokens
from pimllm_lib.report.tables import Table, points
from pimllm_lib.report.text import Sentence, escaped, what_stands

#: Machines made of whole parts: what else there is leaves most of a machine out.
WHOLE = tuple(name for name, (_, conventions) in BUILT.items() if conventions == "full-system")
_PIM, _BOUGHT = "#D55E00", "#0072B2"
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
    return Table(rows, long=True)


def rule_sentence(table: pd.DataFrame) -> Sentence:
    """Return within which factor the rule gives the measured rates, and how many rows lie outside."""
    outside = table[table.outside]
    ratio = span([table.ratio.min(), table.ratio.max()], ".2f")
    shares = ", ".join(
        f"{kind} {share:.0%}".replace("%", " %") for kind, share in table.groupby("kind").share.median().items()
    )
    return Sentence(
        f"**The rule gives {len(table) - len(outside)} of {len(table)} measured rates within a factor of {FACTOR:g}**; of all "
        f"it gives {ratio}. {len(outside)} rows lie outside, on {listed(map(escaped, dict.fromkeys(outside.device)))}. Of the "
        f"peak bandwidth the median row reaches: {shares}."
    )


def outliers(table: pd.DataFrame) -> Table:
    """Return the rows that the rule does not give, each with the reason."""
    rows = table[table.outside].sort_values("ratio")
    return Table(
        {
            "machine": row["device"], "model": row["model"], "runs": row["engine"], "tokens/s": number(row["tokens_per_s"]),
            "rule": number(row["rule_tokens_per_s"]), "ratio": f"{row['ratio']:.2f}", "why": row["why"],
        }
        for row in rows.to_dict("records")
    )  # fmt: skip


def verdicts(ds: xr.Dataset) -> xr.Dataset:
    """Return for each way of building PIM-LLM, model and context whether it beats the best that one can buy: in rate, and in
    measured energy. NaN where nobody measured one.
    """
    best = ds.bought_tokens_per_s.max("device"), ds.bought_energy_j.min("device")
    faster = (ds.tokens_per_s > best[0]).where(np.isfinite(best[0]))
    thriftier = (ds.energy_j < best[1]).where(np.isfinite(best[1]))
    return xr.Dataset({"faster": faster, "thriftier": thriftier, "both": faster.where(np.isfinite(thriftier)) * thriftier})


def answer(ds: xr.Dataset) -> Sentence:
    """Return the answer of the page: for which models and contexts a whole PIM-LLM beats what one can buy, and what would
    have to change.
    """
    won = verdicts(ds.sel(built=[name for name in WHOLE if name in ds.built.values]))

    def told(which: str) -> str:
        table = won[which]
        there = int(table.isel(built=0).notnull().sum())
        names = [str(name) for name in table.built.values if bool((table.sel(built=name) == 1).any())]
        count = {name: int((table.sel(built=name) == 1).sum()) for name in names}
        if not names:
            return f"in none of {there}"
        return f"in {listed(f'{count[name]} ({name})' for name in names)} of {there}"

    return Sentence(
        "**As a whole machine PIM-LLM decodes faster than the fastest machine that was measured with the same model "
        f"{told('faster')} pairs of model and context, with less energy than the thriftiest {told('thriftier')}, and both "
        f"{told('both')}.** Whole machines have the cells that stand beside their names, and converters that draw 1 % idle. "
        "As published, without what waits, no machine that one can buy takes as little energy, and any graphics card is "
        f"faster. {_phones(ds)}"
    )


def _phones(ds: xr.Dataset) -> str:
    """Return how whole machines stand beside phones, which are what the paper speaks of."""
    phones = ds.bought_tokens_per_s.sel(device=ds.device_kind == "phone").max("device")
    there = ds.sel(built=[name for name in WHOLE if name in ds.built.values]).tokens_per_s / phones
    told = [f"{name} {span(there.sel(built=name).dropna('model', how='all').values, '.2g')}" for name in there.built.values]
    return f"Over the rate of the fastest phone it has, over models and contexts: {listed(told)}."


def beside(ds: xr.Dataset, table: pd.DataFrame, model: str, contexts: list[int]) -> Figure:
    """Draw tokens a second against joules a token of one model: every way of building PIM-LLM, and what was measured.

    A panel a context. Bars: over the rows of a machine; energy of a rail is without memory, a lower bound.
    """
    with panels(1, len(contexts), figsize=(7.8, 4.6), sharex=True, sharey=True, squeeze=False) as (drawn, axes):
        for ax, context in zip(axes[0], contexts, strict=True):
            at = ds.sel(model=model, context_len=context)
            ax.plot(at.energy_j, at.tokens_per_s, "o", color=_PIM, ms=6)
            for name in at.built.values:
                one = at.sel(built=name)
                _word(ax, str(name), one.energy_j.item(), one.tokens_per_s.item(), _PIM)
            _devices(ax, at, table)
            ax.set(xscale="log", yscale="log", xlabel="Energy of a token (J)")
            ax.set_title(tokens(context), fontsize=10)
            ax.margins(0.16)
        for ax in axes[0]:
            log_ticks(ax, "x", decades(1))
            log_ticks(ax, "y", decades(1, 2, 5))
        axes[0][0].set_ylabel("Tokens a second")
        looks: dict[str, Any] = {"PIM-LLM": {"marker": "o", "ls": "none", "color": _PIM}}
        looks |= {
            f"measured: {how}" if how != "estimated" else how: {
                "marker": _MARKS[how], "ls": "none", "color": _BOUGHT, "mfc": "none" if how == "estimated" else _BOUGHT}
            for how in METHODS if how in set(table[table.model == model].method)
        }  # fmt: skip
        legend(drawn, looks, ncols=3)
    first = ds.sel(model=model, context_len=contexts[0])
    alt = (
        f"Tokens per second against joules per token of {model} at {listed(contexts)} tokens. At {contexts[0]} tokens PIM-LLM: "
        + "; ".join(
            f"{name} {number(one.tokens_per_s.item())} tokens/s and {number(one.energy_j.item())} J"
            for name, one in ((n, first.sel(built=n)) for n in first.built.values)
        )
        + f". Bought: up to {number(first.bought_tokens_per_s.max().item())} tokens/s, from "
        + f"{known(first.bought_energy_j.min().item())} J measured."
    )
    return Figure(drawn, alt)


def _word(ax: Axes, text: str, x: float, y: float, colour: str) -> None:
    note(ax, text, (x, y), (6, 3), color=colour, fontsize=7)


def _devices(ax: Axes, at: xr.Dataset, table: pd.DataFrame) -> None:
    """Draw machines that one can buy: energies as they were found, rates alone as lines at the edge."""
    mine = table[table.model == at.model.item()]
    for name in dict.fromkeys(mine.device):
        one = at.sel(device=name)
        ways = mine[(mine.device == name) & mine.energy_j.notna()].method
        rate = one.bought_tokens_per_s.item()
        if ways.empty:
            ax.axhline(rate, color=_BOUGHT, lw=0.5, alpha=0.35)
            continue
        how = ways.iloc[0]
        joules = (one.bought_estimated_j if how == "estimated" else one.bought_energy_j).item()
        rows = mine[mine.device == name].tokens_per_s
        bar = [[rate * (1 - rows.min() / rows.max())], [0]]
        face = "none" if how == "estimated" else _BOUGHT
        ax.errorbar(joules, rate, yerr=bar, fmt=_MARKS[how], color=_BOUGHT, mfc=face, ms=5, lw=1)
        _word(ax, name, joules, rate, _BOUGHT)


def best_table(ds: xr.Dataset) -> Table:
    """Return the best of whole machines and the best that one can buy, in rate and in energy: a row a model and context."""
    whole = ds.sel(built=[name for name in WHOLE if name in ds.built.values])
    rows = []
    for model, context, at in points(whole, "model", "context_len"):
        rate, joules = at.bought_tokens_per_s, at.bought_energy_j
        rows.append(
            {
                "model": model,
                "context": f"{context}",
                "PIM-LLM, tokens/s": _best(at.tokens_per_s, "built", least=False),
                "bought, tokens/s": _best(rate, "device", least=False),
                "PIM-LLM, J": _best(at.energy_j, "built", least=True),
                "bought, J measured": _best(joules, "device", least=True),
                "bought, J estimated": _best(at.bought_estimated_j, "device", least=True),
            }
        )
    return Table(rows, long=True)


def _best(values: xr.DataArray, dim: str, *, least: bool) -> str:
    there = values.dropna(dim)
    if not there.size:
        return "not measured"
    at = there.isel({dim: int((there.argmin if least else there.argmax)(dim))})
    return f"{number(at.item())} ({at[dim].item()})"


def break_even(ds: xr.Dataset, context_len: int, kinds: Mapping[str, str]) -> Table:
    """Return what a whole machine would have to become to reach the best of each kind of machine, each change alone.

    kinds: kind of device -> how it is called. A row a model, way of building and kind.
    """
    rows = []
    for model, built, at in points(ds.sel(context_len=context_len), "model", "built"):
        for kind, said in kinds.items():
            mine = at.sel(device=ds.device_kind == kind)
            rate = mine.bought_tokens_per_s.max().item() if mine.device.size else np.nan
            joules = np.nanmin(np.append(np.fmin(mine.bought_energy_j.values, mine.bought_estimated_j.values), np.inf))
            if not np.isfinite(rate):
                continue
            goal = joules if np.isfinite(joules) else at.energy_j.item()
            found = needed(model=model, context_len=context_len, tokens_per_s=rate, energy_j=goal, built=built)
            rows.append({"model": model, "PIM-LLM": built, "beside": said, **_changes(found, has_energy=np.isfinite(joules))})
    return Table(rows, long=True)


def _changes(found: dict[str, float], *, has_energy: bool) -> dict[str, str]:
    def factor(value: float, form: str) -> str:
        return "never" if np.isnan(value) else "as it is" if value == 1 else form.format(value)

    told = {
        "clock of the array": factor(found["clock"], "{:.2g} times"),
        "row groups": factor(found["row_groups"], "{:.0f}"),
    }
    energy = {name: factor(found[key], "{:.2g} times") for key, name in (("converter_power", "power of converters"), ("leakage", "what waits"))}
    return told | (energy if has_energy else dict.fromkeys(energy, "not known"))


def areas(ds: xr.Dataset) -> Table:
    """Return the area of each way of building PIM-LLM beside known dies of machines that one can buy."""
    rows = [
        {"machine": f"PIM-LLM {name}, {model}", "area (mm2)": number(1e6 * at.area_m2.item()), "of": "crossbars, array, memory"}
        for model, name, at in points(ds[["area_m2"]].isel(context_len=0), "model", "built")
    ]
    for name, device in catalog.devices.items():
        if getattr(device, "die_area_m2", None) is not None:
            rows.append({"machine": name, "area (mm2)": number(1e6 * device.die_area_m2), "of": "its main die"})
    return Table(rows, long=True)


def stands() -> str:
    """Return what whole machines hold for."""
    return what_stands()
