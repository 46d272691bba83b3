"""Constants beside other tools, as their page shows them, with memories and converters, and what has no neighbour."""

from __future__ import annotations

from typing import Any

from pimllm_lib.analysis import constants
from pimllm_lib.report.numbers import number, span, with_unit
from pimllm_lib.report.tables import Table

#: Temperatures that the table of memories shows.
_KELVIN = (300, 350, 360)


def compared() -> str:
    """Return every constant beside its neighbours as HTML, a table for each group."""
    blocks = []
    for group, rows in constants.beside().groupby("group", sort=False):
        table = Table(_row(one) for one in rows.itertuples())
        blocks.append(f'<p class="part-name"><strong id="{group}">{str(group).capitalize()}</strong></p>')
        blocks.append(table._repr_html_())
    return "".join(blocks).replace("\n", "")


def _row(one: Any) -> dict[str, str]:
    """Return a constant and a neighbour for reading; one that lies outside has the reason why the range stays."""
    unit = "" if one.unit == "1" else f" {one.unit}"
    argued = constants.ARGUED.get(one.constant, one.why)
    size = "" if one.at != one.at else f", entry {int(one.at) + 1}"
    return {
        "constant": f"{one.constant}{size}",
        "ours": f"{number(one.ours)}{unit}",
        "status": one.status.replace("_", " "),
        "range": "none" if one.range is None else f"{one.range[0]:g} to {one.range[1]:g}",
        "theirs": f"{span([one.low, one.high], number)}{unit}",
        "of": f"{one.tool}: {one.configuration}" + f"; {one.how}" * bool(one.how),
        "verdict": one.verdict if one.verdict in ("inside", "no range") else f"{one.verdict}: {argued}",
    }


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
    return Table(rows)


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
    return Table(rows)


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
