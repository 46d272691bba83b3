"""Chapter 12, attention in memory: its tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.analog_noise import percent
from pimllm_chapters.design_space import MM2
from pimllm_lib import catalog
from pimllm_lib.analysis import technologies
from pimllm_lib.core.units import HOUR, YEAR
from pimllm_lib.report.tables import Table, source_row
from pimllm_lib.report.text import spaced

#: Uses that tables show: at full rate, and on a phone.
FULL, PHONE = "answers without pause", "a phone"
#: Quantities of a technology or its cell that the page lists; the parameters page has all.
_LISTED = ("endurance", "array_endurance", "weibull_shape", "cycles_per_write", "retention_s", "leakage_w", "row_parallel",
           "half_select_j", "erase_s", "erase_j", "write_s", "write_j", "write_pulses", "verify_j", "area_m2", "low_ohm",
           "high_ohm")  # fmt: skip
_UNITS = ((1.0, "s"), (60.0, "min"), (HOUR, "h"), (24 * HOUR, "d"))


def inputs() -> Table:
    """Return the main quantities of every technology, with their sources."""
    rows = []
    for name in technologies.names():
        tables = (catalog.parts.entries[name], catalog.parts.entries[technologies.named(name).cell.name])
        entries = ((field, table[field]) for field in _LISTED for table in tables if field in table)
        rows += [{"technology": name} | source_row(field, entry) for field, entry in entries]
    return Table(pd.DataFrame(rows), long=True)


def years(value: float) -> str:
    """Return years as they are said: in smaller units where they are few, no more digits than they deserve.

    >>> years(0.002), years(12.34), years(2.6e6), years(float("inf"))
    ('18 h', '12 y', '3e6 y', 'never fails')
    """
    if not np.isfinite(value):
        return "never fails" if np.isinf(value) else "none published"
    for size, unit in _UNITS:
        if value * YEAR < 40 * size:
            return f"{value * YEAR / size:.2g} {unit}"
    if value < 1e4:
        return f"{float(f'{value:.2g}'):.4g} y"
    return f"{value:.0e} y".replace("e+0", "e").replace("e+", "e")


def span(values: xr.DataArray, said: Any = spaced) -> str:
    """Return a median with its interval, or with the words that there is none."""
    ends = [values.sel(estimate=e).item() for e in technologies.ESTIMATES]
    if not np.isfinite(ends[1]):
        return "no wear" if np.isinf(ends[1]) else "none published"
    low, middle, high = (said(end).replace(" ", "\u00a0") for end in ends)  # a line ends beside a number, not in it
    return f"{middle} (no\u00a0interval)" if np.isnan(ends[0]) else f"{middle} ({low} to {high})"


def by_technology(rows: xr.Dataset) -> Table:
    """Return a row for each technology and context, for the first model: medians, and from the worse to the better end."""
    found, table = rows.isel(model=0), []
    for name in map(str, rows.technology.values):
        for n in rows.context_len.values:
            here = found.sel(technology=name, context_len=n)
            ring = here.worn_years.sel(allocation="ring")
            table.append({
                "technology": name, "context": int(n), "tokens/s": span(here.technology_tokens_per_s),
                "tokens/J": span(here.technology_tokens_per_j), "mm² of crossbars": span(here.technology_kv_area_m2 * MM2),
                "lasts, arrays and products": span(ring.sel(use=FULL, population="arrays and products"), years),
                "lasts, all published": span(ring.sel(use=FULL, population="all published"), years),
                "on a phone, arrays and products": span(ring.sel(use=PHONE, population="arrays and products"), years),
                "on a phone, all published": span(ring.sel(use=PHONE, population="all published"), years),
            })  # fmt: skip
    return Table(pd.DataFrame(table), long=True)


def placing(rows: xr.Dataset, technology: str, context: int) -> Table:
    """Return how the placing of tokens changes when cells fail: the first, and one in a hundred."""
    here = rows.isel(model=0).sel(
        technology=technology, context_len=context, estimate="median", population="all published"
    )
    table = [
        {"allocation": str(name), "use": str(use),
         "writes of the busiest cells": f"1 in {1 / here.cell_writes.sel(allocation=name, use=use).item():.0f} tokens",
         "first cell fails": years(here.first_failure_years.sel(allocation=name, use=use).item()),
         "1 % have failed": years(here.worn_years.sel(allocation=name, use=use).item())}
        for name in here.allocation.values for use in here.use.values
    ]  # fmt: skip
    return Table(pd.DataFrame(table))


def bits(found: xr.Dataset) -> Table:
    """Return what fewer bits do for the first model."""
    rows = [
        {"bits of a key or value": int(b), "context": int(n), "tokens/s": spaced(here.bits_tokens_per_s.item()),
         "tokens/J": spaced(here.bits_tokens_per_j.item()), "attention, mJ": spaced(1e3 * here.bits_attention_j.item()),
         "mm² of crossbars": spaced(here.bits_kv_area_m2.item() * MM2)}
        for b in found.kv_bits.values for n in found.context_len.values
        for here in [found.isel(model=0).sel(kv_bits=b, context_len=n)]
    ]  # fmt: skip
    return Table(pd.DataFrame(rows))


def mixed(found: xr.Dataset) -> Table:
    """Return what a hot window in SRAM does at the longest context shown, for the first model."""
    last = found.isel(model=0, context_len=-1).sel(allocation="ring")
    rows = [
        {"behind it": str(name), "tokens in SRAM": int(n), "tokens/s": spaced(here.mixed_tokens_per_s.item()),
         "tokens/J": spaced(here.mixed_tokens_per_j.item()), "mm² of crossbars": spaced(here.mixed_kv_area_m2.item() * MM2),
         f"lasts, {FULL}": years(here.mixed_worn_years.sel(use=FULL).item()),
         f"lasts, {PHONE}": years(here.mixed_worn_years.sel(use=PHONE).item())}
        for name in found.cold.values for n in found.hot_tokens.values for here in [last.sel(cold=name, hot_tokens=n)]
    ]  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def needed(found: xr.Dataset) -> Table:
    """Return the device that would be needed, for every model."""
    rows = []
    for model in map(str, found.model.values):
        for n in found.context_len.values:
            here = found.sel(model=model, context_len=n)
            row: dict[str, Any] = {"model": model, "context": int(n)}
            row |= {f"endurance, {use}": f"{here.needed_endurance.sel(use=use).item():.1e}" for use in (FULL, PHONE)}
            for name in map(str, found.against.values):
                joules = here.break_even_write_j.sel(against=name).item()
                row[f"J a cell, as {name}"] = "none" if np.isnan(joules) else f"{joules:.1e}"
            rows.append(row)
    return Table(pd.DataFrame(rows), long=True)


def sensitivity(found: xr.Dataset) -> Table:
    """Return what each change does to the first model, as factors, at every context shown."""
    rows = []
    for name in map(str, found.change.values):
        row = {"change": name}
        for n in found.context_len.values:
            here = found.isel(model=0).sel(change=name, context_len=n)
            row |= {f"{what}, at {n}": f"{here[f'changed_{field}'].item():.3g} x" for what, field in
                    (("tokens/s", "tokens_per_s"), ("tokens/J", "tokens_per_j"), ("years", "worn_years"))}  # fmt: skip
        rows.append(row)
    return Table(pd.DataFrame(rows), long=True)


def rise(case: xr.Dataset) -> str:
    """Return the rise of the perplexity of a case with its 95 % interval."""
    low, high = (percent(case[f"perplexity_rise_{end}"].item()) for end in ("low", "high"))
    return f"{percent(case.perplexity_rise.item())} ({low} to {high})"


def accuracy(study: xr.Dataset) -> Table:
    """Return the rise of the perplexity of every case, with its intervals and the trials behind it."""
    rows = [
        {"keys and values": str(here.curve.item()), "setting": str(here.setting.item()),
         "perplexity": f"{here.noisy_perplexity.item():.4g}", "rise (95 %)": rise(here),
         "by models": f"{percent(here.models_rise_low.item())} to {percent(here.models_rise_high.item())}",
         "trials": f"{here.trials.item():.0f}"}
        for here in (study.sel(case=name) for name in study.case.values)
    ]  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)
