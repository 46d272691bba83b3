"""How one number comes about: formula, the parts it is made of, and every constant behind them with its source."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from pimllm_lib import catalog
from pimllm_lib.catalog.departures import is_catalogs
from pimllm_lib.core.conventions import SWITCHES
from pimllm_lib.core.errors import unknown
from pimllm_lib.core.parts import inside, meanings
from pimllm_lib.core.schema import COMPONENTS, VARIABLES
from pimllm_lib.system import metrics
from pimllm_lib.system.evaluation import evaluate

#: Figure of merit -> what it is made of: its formula, and the extensive variable that is taken apart.
MERITS = {
    "tokens_per_s": ("1 / latency_s", "latency_s"),
    "tokens_per_j": ("1 / energy_j", "energy_j"),
    "utilisation": ("array_macs / ((cycles + array_products) x pe_count)", "cycles"),
}
#: Extensive variable -> the column of a component's row that says how it comes about.
HOW = {"latency_s": "time", "busy_s": "time", "energy_j": "joules"}


def explain(variable: str, *, system: Any, model: Any, context_len: int, conventions: Any) -> list[str]:
    """Return lines that take one number apart. Raises BadInput for a variable that cannot be, and for unknown names."""
    known = [*MERITS, *(name for name, v in VARIABLES.items() if v.extensive)]
    if variable not in known:
        raise unknown("variable", variable, known)
    machine, decoder, counting = catalog.system(system), catalog.model(model), catalog.preset(conventions)
    args = {"system": machine, "model": decoder, "context_len": context_len, "conventions": counting}
    ds = evaluate(**args, detail="component")
    formula, whole = MERITS.get(variable, ("sum over products and components", variable))
    value = metrics.summary(ds)[variable].item()
    place = f"{machine.name}, {decoder.name}, {context_len} tokens, {counting.name}"
    lines = [
        f"{variable} = {value:.6g} {_unit(variable)}   ({place})",
        f"  {VARIABLES[variable].meaning}: {formula}",
        "",
    ]
    return lines + _parts(ds, whole) + _shape(decoder) + _counting(counting) + _constants(machine)


def _parts(ds: Any, variable: str) -> list[str]:
    """Return the largest contributions to an extensive variable, with what each is and how it comes about."""
    cells = ds[variable].squeeze(["system", "model", "context_len"], drop=True).to_series()
    total = cells.sum()
    lines = [f"{variable} = {total:.6g} {_unit(variable)}, of which"]
    largest = cells[cells != 0].sort_values(key=abs, ascending=False)
    for (op, component), value in largest.head(12).items():
        row = COMPONENTS[component]
        how = getattr(row, HOW.get(variable, "meaning")) or row.meaning
        lines.append(f"  {op:10} {component:14} {value:12.5g}  {100 * value / total:6.2f} %  {how}")
    if len(largest) > 12:
        rest = largest.iloc[12:].sum()
        lines.append(f"  {f'{len(largest) - 12} others':25} {rest:12.5g}  {100 * rest / total:6.2f} %")
    return [*lines, ""]


def _shape(decoder: Any) -> list[str]:
    """Return the fields that every shape has, the others that the model has otherwise than most, and where it is from."""
    said = {f.name: getattr(decoder, f.name) for f in fields(decoder) if f.name not in ("name", "blocks", "published")}
    usual = {f.name: f.default for f in fields(decoder)}
    sizes = [f"{name} = {value}" for name, value in said.items() if value != usual[name]]
    entry = catalog.models.entries.get(decoder.name, {})
    return [
        "model",
        *("  " + ", ".join(sizes[first : first + 7]) for first in range(0, len(sizes), 7)),
        *("  blocks: " + ", ".join(f"{name} = {value}" for name, value in kind.items()) for kind in decoder.blocks),
        f"  source: {entry.get('source', 'user')}, {entry.get('where', '')}".rstrip(", "),
        "",
    ]


def _counting(counting: Any) -> list[str]:
    on = [name for name in SWITCHES if getattr(counting, name)]
    return ["conventions", f"  on: {', '.join(on) or 'none'}", ""]


def _constants(machine: Any) -> list[str]:
    lines = ["constants"]
    for item in inside(machine):
        entries = catalog.parts.entries.get(item.name, {})
        for field in fields(item):
            value, entry = getattr(item, field.name), entries.get(field.name)
            if (
                field.name == "name"
                or is_dataclass(value)
                or value is None
                or (entry is None and value == field.default)
            ):
                continue
            said, source = value, "user"
            if isinstance(entry, dict) and is_catalogs(item, field.name):
                unit = entry.get("unit", "1")
                said = entry["value"] if unit == "1" else f"{entry['value']} {unit}"
                source = f"{entry['status']}: {entry['source']}, {entry.get('where') or entry.get('note', '')}"
            lines.append(f"  {item.name}.{field.name} = {said}  [{source}]  {meanings(type(item))[field.name]}")
    return lines


def _unit(variable: str) -> str:
    unit = VARIABLES[variable].unit
    return "" if unit == "1" else unit
