"""The page of claims: every published number beside the computed ones, those that differ first, with a filter."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import pandas as pd

from pimllm_lib.core.conventions import PRESETS
from pimllm_lib.report.numbers import apart, known, rounded
from pimllm_lib.report.tables import boxed

#: Quantity of a claim -> the chapter that computes it.
CHAPTERS = {
    "projection_share": "01-operation-share", "projection_cycle_share": "01-operation-share",
    "tokens_per_s": "03-tokens-per-second", "speedup": "03-tokens-per-second",
    "array_share": "04-latency-breakdown", "analog_share": "04-latency-breakdown",
    "tokens_per_j": "05-energy", "energy_gain": "05-energy", "words_per_battery": "05-energy",
    "ops_per_s": "06-comparison", "ops_per_j": "06-comparison",
    "ops_per_s_lead": "06-comparison", "ops_per_j_lead": "06-comparison",
}  # fmt: skip
_WORDS, _NUMBERS = ("verdict", "claim"), ("published", *PRESETS, "ratio")


def table(every: pd.DataFrame, quantities: dict[str, str]) -> str:
    """Return `claims.every()` as HTML; quantities: claim -> what it is about.

    Rows that differ stand first. Each leads to its chapter and has an address of its own. Buttons above, which need no
    script, show those of one verdict or chapter.
    """
    ordered = every.sort_values("verdict", key=lambda verdict: verdict != "differs", kind="stable")
    rows = "".join(_row(str(i), row, CHAPTERS[quantities[str(i)]]) for i, row in ordered.iterrows())
    head = "".join(f"<th>{name}</th>" for name in _WORDS) + "".join(
        f'<th class="number">{name}</th>' for name in _NUMBERS
    )
    shown = boxed(
        f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>',
        f"{len(every)} published numbers, those that differ first",
    )
    groups = {"all": len(every), **every.verdict.value_counts(ascending=True).to_dict()}
    groups |= every.index.map(lambda i: _number(CHAPTERS[quantities[i]])).value_counts().sort_index().to_dict()
    return f'<div class="claims">{_buttons(groups)}{shown}</div>'


def _row(name: str, row: Any, chapter: str) -> str:
    link = f'<a href="results/{chapter}.html">chapter {chapter[:2]}</a>'
    reason = f'<p class="reason">{escape(row.reason)}</p>' if row.reason else ""
    computed = (known(row[preset], partial(rounded, digits=4)) for preset in PRESETS)
    cells = [escape(apart(row.published)), *computed, f"{row.ratio:.4f}"]
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return (
        f'<tr id="{name}" class="{row.verdict} {_number(chapter)}"><td>{row.verdict}</td>'
        f"<td>{escape(row.claim)} ({escape(row['where'])}; {link}){reason}</td>{numbers}</tr>"
    )


def _number(chapter: str) -> str:
    """Return the class of rows of a chapter."""
    return f"chapter-{chapter[:2]}"


def _buttons(groups: dict[str, int]) -> str:
    """Return radio buttons, and the rules that hide what they do not choose."""
    inputs = "".join(
        f'<label><input type="radio" name="shown" value="{name}"{" checked" * (name == "all")}> '
        f"{name.replace('-', ' ')} ({count})</label> "
        for name, count in groups.items()
    )
    hide = "".join(
        f'.claims:has(input[value="{name}"]:checked) tbody tr:not(.{name}) {{ display: none; }}'
        for name in groups
        if name != "all"
    )
    return f"<style>@media screen {{ {hide} }}</style><fieldset><legend>Show</legend>{inputs}</fieldset>"
