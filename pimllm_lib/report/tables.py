"""Tables a page shows: inputs with their sources, results with readable numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from itertools import cycle, product
from typing import Any

import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.catalog.unread import REFUSED
from pimllm_lib.core.parts import inside, meanings
from pimllm_lib.core.schema import VARIABLES
from pimllm_lib.report.numbers import apart, number, raised, rounded, unit_shown
from pimllm_lib.workload.decoder import kinds
from pimllm_lib.workload.shapes import as_published, parameter_count

#: A number, a share or a ratio, and a text that is nothing but one, or several beside each other.
_ONE = r"[-+]?[\d.]+(?:\u202f\d{3})*(?:e[-+]?\d+)?(?: [%x])?"
_NUMBER = re.compile(rf"{_ONE}(?: / {_ONE})*(?: \({_ONE}\))?")


class Table:
    """Rows or a data frame as a reader wants it: whole texts, numbers on the right, no row numbers. `frame` is the data."""

    def __init__(
        self, rows: pd.DataFrame | Iterable[Mapping[str, Any]], *, long: bool = False, title: str = ""
    ) -> None:
        """Keep the rows as a frame; every cell is shown as its text. A long table scrolls in a box of its own.

        title: what its caption says, without a full stop; a long table adds how many rows there are.
        """
        self.frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        self.long, self.title = long, title

    def _repr_html_(self) -> str:
        texts = self.frame.astype(str)
        sides = cycle("" if _worded(column) else ' class="number"' for _, column in texts.items())
        html = re.sub(
            r"<t[hd](?=>)",
            lambda cell: cell[0] + next(sides),
            texts.map(raised).to_html(index=False, border=0, na_rep=""),
        )
        return boxed(html, self.title, rows=len(self.frame) if self.long else None)

    def __repr__(self) -> str:
        """Return the table as plain text."""
        return str(self.frame.to_string(index=False))


def _worded(column: pd.Series[str]) -> bool:
    """Return whether a column of texts is words, which stand on the left: no more of it is numbers than is not."""
    said = [text for text in column if text]
    return sum(_NUMBER.fullmatch(text) is not None for text in said) <= len(said) / 2


def boxed(table: str, title: str = "", rows: int | None = None) -> str:
    """Return a table in a box that scrolls, which the keyboard reaches: with its caption, headers that say what they head.

    rows: how many rows a long table has, which its caption says, since its box shows the first of them.
    """
    table = re.sub(r"<th(?=[ >])", '<th scope="col"', re.sub(r"<th[^>]*></th>", "<td></td>", table))
    said = ", ".join(part for part in (escape(title), "" if rows is None else f"{rows} rows") if part)
    if said:
        table = re.sub(r"(<table[^>]*>)", lambda start: f"{start[1]}<caption>{said}</caption>", table, count=1)
    box, label = "table-box" if rows is None else "long-table", said or "Table"
    return f'<div class="{box}" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def one_line(table: Table) -> str:
    """Return a table as HTML without line ends, so that Markdown leaves it alone."""
    return table._repr_html_().replace("\n", "")


def points(ds: Any, *dims: str) -> Iterator[tuple[Any, ...]]:
    """Yield the labels of each point along some dimensions, and the dataset or array there."""
    for labels in product(*(ds[dim].values.tolist() for dim in dims)):
        yield *labels, ds.sel(dict(zip(dims, labels, strict=True)))


def crossed(
    values: xr.DataArray, said: Callable[[float], str], column: str = "l = {}", corner: str = "", title: str = ""
) -> Table:
    """Return values of two dimensions: a row for each label of the first, a column for each of the second.

    corner: the name of the first where it is not its own. title: of the table, where it is not the meaning of the values.
    """
    title = title or str(values.attrs.get("long_name", ""))
    frame = values.to_pandas().map(said).rename_axis(columns=None).rename(columns=column.format)
    return Table(frame.rename_axis(corner or frame.index.name).reset_index(), title=title[:1].upper() + title[1:])


def sources(*names: str) -> Table:
    """Return every quantity of catalog parts and devices, that of the widest range first: value as printed, source."""
    rows = sorted(
        ((name, field, entry) for name in names for field, entry in _quantities(name)), key=lambda row: -_width(row[2])
    )
    shown = [{"part": name} | source_row(field, entry) for name, field, entry in rows]
    frame = pd.DataFrame(shown).rename(columns={"where or why": "where"})
    return Table(frame, long=True, title="Constants, those of the widest range first")


def _width(entry: Mapping[str, Any]) -> float:
    """Return the upper end of a range over the lower one, infinite from zero or below on, 0 where there is none."""
    low, high = entry.get("range", (1.0, 0.0))
    return float(high / low) if low > 0 else float("inf")


def _with_unit(entry: dict[str, Any]) -> str:
    value, unit = entry["value"], entry.get("unit", "1")
    items = value if isinstance(value, list) else [value]
    told = ", ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in items)
    return told if unit == "1" else f"{told} {unit_shown(unit)}"


def shapes(names: list[str], conventions: str) -> Table:
    """Return the shapes that are evaluated for the named models under a set of conventions."""
    preset = catalog.preset(conventions)
    fields = ["n_layers", "d_model", "d_ff", "gated", "n_heads", "n_kv_heads", "head_dim"]
    shaped = [
        as_published(catalog.model(name), d_ff=preset.published_ffn_width, gated=preset.published_ffn_gate)
        for name in names
    ]
    return Table(
        ({"model": m.name} | {f: getattr(m, f) for f in fields} for m in shaped), title=f"Shapes, counted {conventions}"
    )


def grid(values: xr.DataArray, decimals: int) -> Table:
    """Return a result that varies by model, context and system only, rounded for reading: a row a system and model."""
    if values.sizes.get("system", 1) > 1:
        each = {name: grid(one, decimals) for name, one in points(values, "system")}
        frame = pd.concat([table.frame.assign(system=name) for name, table in each.items()])
        return Table(frame[["system", *frame.columns.drop("system")]], title=next(iter(each.values())).title)
    table = values.squeeze([d for d in values.dims if d not in ("model", "context_len")])
    return crossed(table.transpose("model", "context_len"), f"{{:.{decimals}f}}".format)


def claims(checked: pd.DataFrame) -> Table:
    """Return checked claims for reading: the computed value with four digits, its ratio to the published one."""
    shown = checked.assign(
        published=checked.published.map(apart), computed=[rounded(value, 4) for value in checked.computed],
        ratio=checked.ratio.map("{:.4f}".format),
    )  # fmt: skip
    title = "Published numbers and computed ones"
    return Table(shown.rename(columns={"where": "in the paper"}), long=True, title=title)


def systems(compared: xr.Dataset) -> Table:
    """Return rates, efficiency and what they are against the baseline, a row for each system and context."""
    names = ["tokens_per_s", "tokens_per_j", "speedup", "energy_gain"]
    frame = compared[names].squeeze("model", drop=True).to_dataframe().reset_index()
    numbers = {name: frame[name].map("{:.4g}".format) for name in names[:3]}
    return Table(frame.assign(**numbers, energy_gain=(100 * frame.energy_gain).map("{:+.1f} %".format)),
                 title="Rates and efficiency")  # fmt: skip


def all_sources() -> str:
    """Return every quantity of every part and device of the catalog as HTML, with what uses it: a heading for each class."""
    users, by_class = _users(), dict[str, list[str]]()
    for name, table in _entries().items():
        by_class.setdefault(table["part"], []).append(_one_part(name, table, users.get(name, [])))
    sections = (
        f'<section id="{cls}"><h2>{cls} ({len(blocks)})</h2>{"".join(blocks)}</section>'
        for cls, blocks in by_class.items()
    )
    links = ", ".join(f'<a href="#{cls}">{cls}</a>' for cls in by_class)
    return f"<p>By class of part: {links}.</p>{''.join(sections)}".replace("\n", "")


def _one_part(name: str, table: Mapping[str, Any], users: list[str]) -> str:
    """Return a part with its quantities, what it is made of, and the systems that use it."""
    bought = name in catalog.devices
    used = ", ".join(users) or ("data/machines.csv" if bought else "no system of the catalog")
    inner = ", ".join(
        f'{field}: <a href="#{value}">{value}</a>' for field, value in table.items() if _names_a_part(field, value)
    )
    made = f"Made of {inner}. " if inner else ""
    said = meanings(type((catalog.devices if bought else catalog.parts)[name]))
    rows = []
    for field, entry in _quantities(name):
        row = source_row(field, entry)
        ranged = f"; {row['range']}" if row["range"] else ""
        how = f": {row['where or why']}" if row["where or why"] else ""
        rows.append({
            "quantity": f"{field}: {said[field].replace('`', '')}", "value; range": row["value"] + ranged,
            "source": row["source"], "how known": row["status"] + how,
        })  # fmt: skip
    summary = escape(table["summary"][:1].upper() + table["summary"][1:])
    about = f'<p class="about">{summary}. {made}Used by {escape(used)}.</p>'
    shown = Table(rows, title=f"Constants of {name}")._repr_html_() if rows else ""
    return f'<h3 id="{name}">{name}</h3>{about}{shown}'


def uses() -> dict[str, list[str]]:
    """Return for each source, a key of the bibliography, the parts, devices and models of the catalog that rest on it."""
    found: dict[str, list[str]] = {}
    for name in _entries():
        for _, entry in _quantities(name):
            found.setdefault(entry["source"], []).append(name)
    for name, table in catalog.models.entries.items():
        found.setdefault(table["source"], []).append(name)
    return {key: list(dict.fromkeys(names)) for key, names in found.items()}


def _quantities(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(field, entry) for field, entry in _entries()[name].items() if isinstance(entry, dict)]


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
    return Table(rows, long=True, title="Models of the catalog")


def refused_families() -> Table:
    """Return the families of causal models that are refused, by the reason."""
    alike: dict[str, list[str]] = {}
    for family, reason in REFUSED.items():
        alike.setdefault(reason, []).append(family)
    rows = [{"families": ", ".join(families), "reason": reason} for reason, families in alike.items()]
    return Table(rows, title="Families that are refused")


def variables() -> Table:
    """Return every result variable: meaning, unit, whether it sums over products and components, and a scale it states."""
    return Table(
        (
            {
                "variable": name,
                "meaning": v.meaning,
                "unit": v.unit,
                "sums": "yes" if v.extensive else "no",
                "scale": f"{v.scale:g}" if isinstance(v.scale, float) and v.scale else v.scale or "",
            }
            for name, v in VARIABLES.items()
        ),
        title="Result variables",
    )
