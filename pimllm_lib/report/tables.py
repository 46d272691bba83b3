"""Tables a page shows: inputs with their sources, results with readable numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from itertools import product
from typing import Any

import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.catalog.unread import REFUSED
from pimllm_lib.core.conventions import PRESETS
from pimllm_lib.core.parts import inside, meanings
from pimllm_lib.core.schema import VARIABLES
from pimllm_lib.report.numbers import known, number
from pimllm_lib.workload.decoder import kinds
from pimllm_lib.workload.shapes import as_published, parameter_count

#: A cell that holds nothing but a number.
_NUMBER = re.compile(r"<td>(-?[\d.]+(?:\u202f\d{3})*(?:e[-+]?\d+)?)</td>")


class Table:
    """Rows or a data frame as a reader wants it: whole texts, numbers on the right, no row numbers. `frame` is the data."""

    def __init__(self, rows: pd.DataFrame | Iterable[Mapping[str, Any]], *, long: bool = False) -> None:
        """Keep the rows as a frame; every cell is shown as its text. A long table scrolls in a box of its own."""
        self.frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        self.long = long

    def _repr_html_(self) -> str:
        html: str = self.frame.astype(str).to_html(index=False, border=0, na_rep="")
        html = _NUMBER.sub(r'<td class="number">\1</td>', html)
        return f'<div class="{"long-table" if self.long else "table-box"}">{html}</div>'

    def __repr__(self) -> str:
        """Return the table as plain text."""
        return str(self.frame.to_string(index=False))


def points(ds: Any, *dims: str) -> Iterator[tuple[Any, ...]]:
    """Yield the labels of each point along some dimensions, and the dataset or array there."""
    for labels in product(*(ds[dim].values.tolist() for dim in dims)):
        yield *labels, ds.sel(dict(zip(dims, labels, strict=True)))


def crossed(values: xr.DataArray, said: Callable[[float], str], column: str = "l = {}", corner: str = "") -> Table:
    """Return values of two dimensions: a row for each label of the first, a column for each of the second.

    corner: the name of the first where it is not its own.
    """
    frame = values.to_pandas().map(said).rename_axis(columns=None).rename(columns=column.format)
    return Table(frame.rename_axis(corner or frame.index.name).reset_index())


def sources(*names: str) -> Table:
    """Return every quantity of catalog parts and devices: value and unit as printed, status, source, where in it."""
    rows = [{"part": name} | row for name in names for row in _of_part(name)]
    return Table(pd.DataFrame(rows).drop(columns="range").rename(columns={"where or why": "where"}), long=True)


def _with_unit(entry: dict[str, Any]) -> str:
    value, unit = entry["value"], entry.get("unit", "1")
    items = value if isinstance(value, list) else [value]
    told = ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in items)
    return told if unit == "1" else f"{told} {unit}"


def shapes(names: list[str], conventions: str) -> Table:
    """Return the shapes that are evaluated for the named models under a set of conventions."""
    preset = catalog.preset(conventions)
    fields = ["n_layers", "d_model", "d_ff", "gated", "n_heads", "n_kv_heads", "head_dim"]
    shaped = [
        as_published(catalog.model(name), d_ff=preset.published_ffn_width, gated=preset.published_ffn_gate)
        for name in names
    ]
    return Table({"model": m.name} | {f: getattr(m, f) for f in fields} for m in shaped)


def grid(values: xr.DataArray, decimals: int) -> Table:
    """Return a result that varies by model and context only, rounded for reading."""
    table = values.squeeze([d for d in values.dims if d not in ("model", "context_len")])
    return crossed(table.transpose("model", "context_len"), f"{{:.{decimals}f}}".format)


def claims(checked: pd.DataFrame) -> Table:
    """Return checked claims for reading: the computed value with four digits, its ratio to the published one."""
    shown = checked.assign(computed=checked.computed.map("{:.4g}".format), ratio=checked.ratio.map("{:.4f}".format))
    return Table(shown.rename(columns={"where": "in the paper"}), long=True)


def systems(compared: xr.Dataset) -> Table:
    """Return rates, efficiency and what they are against the baseline, a row for each system and context."""
    names = ["tokens_per_s", "tokens_per_j", "speedup", "energy_gain"]
    frame = compared[names].squeeze("model", drop=True).to_dataframe().reset_index()
    numbers = {name: frame[name].map("{:.4g}".format) for name in names[:3]}
    return Table(frame.assign(**numbers, energy_gain=(100 * frame.energy_gain).map("{:+.1f} %".format)))


def all_claims(every: pd.DataFrame) -> Table:
    """Return every published number with what each preset gives, for reading."""
    numbers = {name: every[name].map(lambda value: known(value, ".4g")) for name in PRESETS}
    shown = every.assign(**numbers, ratio=every.ratio.map("{:.4f}".format))
    return Table(shown[["claim", "where", "published", *PRESETS, "ratio", "verdict", "reason"]])


def all_sources() -> str:
    """Return every quantity of every part and device of the catalog as HTML, a table for each, with what uses it."""
    users, blocks = _users(), []
    for name, table in _entries().items():
        bought = name in catalog.devices
        used = ", ".join(users.get(name, [])) or ("data/machines.csv" if bought else "no system of the catalog")
        inner = ", ".join(f"{field}: {value}" for field, value in table.items() if _names_a_part(field, value))
        about = f"{table['part']}: {table['summary']}. {'Made of ' + inner + '. ' if inner else ''}Used by {used}."
        blocks.append(f'<p class="part-name"><strong id="{name}">{name}</strong>, {escape(about)}</p>')
        said = meanings(type((catalog.devices if bought else catalog.parts)[name]))
        rows = [
            row | {"quantity": f"{(field := row['quantity'])}: {said[field].replace('`', '')}"}
            for row in _of_part(name)
        ]
        blocks.append(Table(rows)._repr_html_() if rows else "")
    return "".join(blocks).replace("\n", "")


def _of_part(name: str) -> list[dict[str, str]]:
    return [source_row(field, entry) for field, entry in _entries()[name].items() if isinstance(entry, dict)]


def _entries() -> dict[str, dict[str, Any]]:
    return {**catalog.parts.entries, **catalog.devices.entries}


def _names_a_part(field: str, value: Any) -> bool:
    return isinstance(value, str) and field not in ("part", "summary")


def source_row(field: str, entry: dict[str, Any]) -> dict[str, str]:
    """Return a quantity of the catalog for reading: value, range and how many published values it spans, source."""
    span = " to ".join(f"{x:g}" for x in entry.get("range", []))
    return {
        "quantity": field,
        "value": _with_unit(entry),
        "range": span + (f"{' ' * bool(span)}(n = {entry['n']})" if "n" in entry else ""),
        "status": entry["status"].replace("_", " "),
        "source": entry["source"],
        "where or why": entry.get("where") or entry.get("note", ""),
    }


def _users() -> dict[str, list[str]]:
    """Return for each part the catalog systems it is in, at any depth."""
    users: dict[str, list[str]] = {}
    for name, machine in catalog.systems.items():
        for item in inside(machine):
            users.setdefault(item.name, []).append(name)
    return users


def all_models() -> Table:
    """Return every model of the catalog: shape, parameters and source."""
    fields = ["n_layers", "d_model", "d_ff", "gated", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "n_experts",
              "window", "levels", "scale_group", "head_levels"]  # fmt: skip
    rows = [
        {"model": name, **{f: str(getattr(m, f)).replace("inf", "") for f in fields},
         "blocks": ", ".join(f"{kind.n_layers} {kind.mixer}" for kind in kinds(m) if m.blocks),
         "parameters": number(parameter_count(m)),
         "source": catalog.models.entries[name]["source"], "where": catalog.models.entries[name]["where"]}
        for name, m in catalog.models.items()
    ]  # fmt: skip
    return Table(rows)


def refused_families() -> Table:
    """Return the families of causal models that are refused, by the reason."""
    alike: dict[str, list[str]] = {}
    for family, reason in REFUSED.items():
        alike.setdefault(reason, []).append(family)
    return Table({"families": ", ".join(families), "reason": reason} for reason, families in alike.items())


def variables() -> Table:
    """Return every result variable: unit, meaning, whether it sums over products and components, and a scale it states."""
    return Table(
        {
            "variable": name,
            "unit": v.unit,
            "sums": "yes" if v.extensive else "no",
            "scale": f"{v.scale:g}" if isinstance(v.scale, float) and v.scale else v.scale or "",
            "meaning": v.meaning,
        }
        for name, v in VARIABLES.items()
    )
