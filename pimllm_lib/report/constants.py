"""Constants beside other tools, as their page shows them, with memories and converters, and what has no neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from pimllm_lib import catalog
from pimllm_lib.analysis import constants
from pimllm_lib.report.numbers import span, with_unit
from pimllm_lib.report.tables import Table

NO_BREAK = "\N{NO-BREAK SPACE}"

#: Temperatures that the table of memories shows.
_KELVIN = (300, 350, 360)


def compared() -> str:
    """Return every constant beside its neighbours as HTML, a table for each group."""
    blocks = []
    for group, rows in constants.beside().groupby("group", sort=False):
        blocks.append(f'<p class="part-name beside"><strong id="{group}">{str(group).capitalize()}</strong></p>')
        blocks.append(Table(_rows(rows), title=f"{str(group).capitalize()} beside other tools")._repr_html_())
    return "".join(blocks).replace("\n", "")


def _rows(found: pd.DataFrame) -> Iterator[dict[str, str]]:
    """Yield the comparisons of a group for reading, those of one constant together; what is said of it stands once."""
    for (name, at), rows in found.groupby(["constant", found["at"].fillna(-1)], sort=False):
        part, field = name.split(".")
        one, entries = rows.iloc[0], catalog.parts.entries[part]
        ours = {
            "constant": f"{field} of {part}" + (f", {entries['sizes_bytes']['value'][int(at)]} KiB" if at >= 0 else ""),
            "ours": _said(field, one.ours * one.si),
            "range": "none" if one.range is None else " to ".join(_said(field, end * one.si) for end in one.range),
            "status": one.status.replace("_", " "),
        }
        for neighbour in rows.itertuples():
            yield ours | _theirs(field, neighbour)
            ours = dict.fromkeys(ours, "")


def _theirs(field: str, one: Any) -> dict[str, str]:
    """Return a neighbour for reading; one that lies outside has the reason why the range stays."""
    argued = f" ({constants.ARGUED.get(one.constant, one.why)})" * (one.verdict in ("outside", "partly"))
    return {
        "theirs": span([one.low * one.si, one.high * one.si], lambda value: _said(field, value)),
        "verdict": one.verdict,
        "whose": f"{one.tool}: {one.configuration}{'; ' * bool(one.how)}{one.how}{argued}",
    }


def _said(field: str, value: float) -> str:
    return with_unit(field, value).replace(" ", NO_BREAK)


def memories() -> Table:
    """Return memories as CACTI 7 has them, by size, cells and temperature."""
    rows = []
    for keys, lines in constants.sram().groupby(["node_nm", "port_bits", "size_bytes", "cell"], sort=False):
        node, bits, size, cell = keys
        at, one = lines.set_index("temperature_k"), lines.iloc[0]
        rows.append(
            {
                "size": with_unit("size_bytes", size), "port (bit)": f"{bits}", "node (nm)": f"{node}", "cells": cell,
                **{f"leakage, {k} K": with_unit("leakage_w", at.leakage_w[k]) for k in _KELVIN},
                "read": with_unit("read_j", one.read_j), "access": with_unit("access_s", one.access_s),
                "area": with_unit("area_m2", one.area_m2),
            }
        )  # fmt: skip
    return Table(rows, title="Memories as CACTI 7 has them")


def converters() -> Table:
    """Return energy, leakage and area of a converter by resolution, as hwcomponents-adc has them at 1.28 GS/s and 45 nm."""
    told = constants.said().value
    rows = [
        {
            "bits": f"{bits}",
            **{
                called: with_unit(field, told[f"adc-{bits}bit-1280-45nm", field])
                for called, field in (("conversion", "convert_j"), ("leakage", "leakage_w"), ("area", "area_m2"))
            },
        }
        for bits in (4, 6, 8, 10)
    ]
    return Table(rows, title="Converters as hwcomponents-adc has them")


def without() -> str:
    """Return, in Markdown, which assumed and fitted constants have no neighbour, and why no tool searched has one."""
    lines = []
    for reason, names in constants.without().items():
        fields = sorted({name.split(".")[1] for name in names})
        lines.append(f"- {reason} ({len(names)} constants): {', '.join(f'`{field}`' for field in fields)}.")
    return "\n".join(lines)


def counted() -> str:
    """Return how many comparisons there are, and how many lie inside and outside of our ranges."""
    verdicts = constants.beside().verdict.value_counts()
    return (
        f"Of {verdicts.sum()} comparisons, {verdicts['inside']} lie inside the range of the constant, "
        f"{verdicts.get('partly', 0) + verdicts.get('outside', 0)} outside of it or partly so, and "
        f"{verdicts['no range']} are of literature values that have none."
    )
