"""Chapter 12, attention in memory: its tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.analog_noise.words import percent
from pimllm_chapters.design_space.compute import MM2
from pimllm_chapters.pim_attention.compute import ENGINES_ALONE, cell_j
from pimllm_lib import catalog
from pimllm_lib.analysis import technologies
from pimllm_lib.core.units import HOUR, YEAR
from pimllm_lib.report.tables import Table, source_row
from pimllm_lib.report.text import Sentence, spaced

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


_TOLD = {"arrays and products": "of arrays and products", "all published": "of all that was published"}


def _both(values: Iterable[float]) -> str:
    return " and ".join(f"{value:.3g}" for value in values)


def _lasting(rows: xr.Dataset, context: int, population: str, lasting: float) -> tuple[list[str], list[str]]:
    """Return the technologies whose median cells last answers without pause so many years, and those that do not."""
    worn = rows.worn_years.isel(model=0).sel(
        context_len=context, population=population, estimate="median", allocation="ring", use=FULL
    )
    known = worn.dropna("technology")
    lasts, fails = ([str(n) for n in known.technology.values[ok.values]] for ok in (known >= lasting, known < lasting))
    return lasts, fails


def answer(rows: xr.Dataset, machines: xr.Dataset, contexts: tuple[int, int], lasting: float) -> Sentence:
    """Return the answer of the page: rates, what writing takes, and whose cells wear out."""
    model, rate = str(machines.model.values[0]), machines.tokens_per_s.isel(model=0).sel(context_len=list(contexts))
    share = rows.technology_write_share.isel(model=0).sel(context_len=contexts[0], estimate="median")
    dear = str(share.technology.values[int(share.argmax("technology"))])
    told = []
    for population, said in _TOLD.items():
        _, fails = _lasting(rows, contexts[0], population, lasting)
        told.append(f"by the median endurance {said} {', '.join(fails) or 'none'}")
    gains = machines.tokens_per_j.sel(machine="in memory") / machines.tokens_per_j.sel(machine="improved")
    efficiency = [
        f"{name} {_both(gains.sel(model=name, context_len=list(contexts)).values)}" for name in gains.model.values
    ]
    return Sentence(
        f"**In memory {model} decodes {_both(rate.sel(machine='in memory').values)} tokens/s at {contexts[0]} and "
        f"{contexts[1]} tokens, where the best hybrid of chapter 10 has {_both(rate.sel(machine='improved').values)}; the "
        f"energy of writing is at most {100 * share.max().item():.2g} % of a token's ({dear}); what speaks against it is "
        f"endurance: within {lasting:g} years of answers without pause one in a hundred cells has failed, "
        f"{'; '.join(told)}.** Tokens/J are, at these contexts, so many times those of the best hybrid: "
        f"{'; '.join(efficiency)}."
    )  # fmt: skip


def engines(found: xr.Dataset, machines: xr.Dataset, contexts: tuple[int, int]) -> Sentence:
    """Return the gain as the published accounting has it, and what attention itself takes in either way of counting."""
    ratio = found.engines_tokens_per_s.sel(counted="in memory") / found.engines_tokens_per_s.sel(counted="published")
    told = [f"{name} {_both(ratio.sel(model=name, context_len=list(contexts)).values)}" for name in found.model.values]
    names = ["published", "recommended", "in memory"]
    alone = 1e3 * found.engines_attention_j.isel(model=0).sel(context_len=contexts[0], counted=names)
    whole = 1e3 * machines.attention_j.isel(model=0).sel(context_len=contexts[0], machine=names)
    listed = [", ".join(f"{value:.2g}" for value in values) for values in (alone.values, whole.values)]
    return Sentence(
        f"Counted as the paper counts, by the engines alone (`corrected`), attention in memory decodes so many times as "
        f"fast as PIM-LLM at {contexts[0]} and {contexts[1]} tokens: {'; '.join(told)}. Attention itself, "
        f"{', '.join(names)}, takes {listed[0]} mJ of {found.model.values[0]} at {contexts[0]} tokens that way, and "
        f"{listed[1]} mJ with the cache read from memory: in crossbars each score is converted once for every slice of a "
        "key and every bit of a query; on the array the cache comes from off the chip."
    )


def taken(found: xr.Dataset, machines: xr.Dataset, contexts: tuple[int, int]) -> Sentence:
    """Return what takes the time of a token of the first model in memory, and what static power takes of its energy."""
    mine, told = found.time_share.isel(model=0), []
    for n in contexts:
        parts = sorted(zip(mine.sel(context_len=n).values, map(str, mine.part.values), strict=True), reverse=True)
        told.append(
            f"at {n} tokens {', '.join(f'{part} {100 * share:.0f} %' for share, part in parts if share > 0.005)}"
        )
    static = 100 * machines.static_share.isel(model=0).sel(machine="in memory", context_len=list(contexts))
    return Sentence(
        f"Of the time of a token of {found.model.values[0]} in memory, {'; '.join(told)}. Static power, of gated tiles "
        f"for the most part, takes {_both(static.values)} % of its energy."
    )


def write_energy(found: xr.Dataset, context: int) -> Sentence:
    """Return how far write energy is from mattering."""
    here = found.break_even_write_j.isel(model=0).sel(context_len=context)
    dear, alone = max(technologies.names(), key=cell_j), here.sel(against=ENGINES_ALONE).item()
    reading = "none is small enough: reading the crossbars takes more than the array does"
    return Sentence(
        f"At {context} tokens {found.model.values[0]} breaks even with the published hybrid at "
        f"{here.sel(against='published').item():.1e} J to write a cell, whole machines counted; by the engines alone "
        f"{reading if np.isnan(alone) else f'at {alone:.1e} J'}. The dearest write here, of {dear}, takes "
        f"{cell_j(dear):.1e} J."
    )


def failed(study: xr.Dataset) -> Sentence:
    """Return what a hundredth of failed cells does to a model, where the study has it."""
    cases = {f"{kind}, {n} bits": f"failed cells, {kind}, {n} bits 0.01" for n in (8, 4) for kind in ("off", "on")}
    told = [f"{said} {rise(study.sel(case=case))}" for said, case in cases.items() if case in study.case.values]
    return Sentence(
        f"With one cell in a hundred stuck the perplexity rises by: {'; '.join(told) or 'not tried'}. That is what one in a "
        "hundred failed cells means here."
    )


def reasons(
    rows: xr.Dataset, alone: xr.Dataset, study: xr.Dataset, technology: str, context: int, lasting: float
) -> Table:
    """Return why attention was left out of memory, and what is computed, for the first model."""
    first = rows.isel(model=0).sel(context_len=context)
    share, ring = first.technology_write_share, first.worn_years.sel(technology=technology, allocation="ring")
    engines_share = alone.engines_write_share.isel(model=0).sel(context_len=context)
    dear = str(engines_share.technology.values[int(engines_share.argmax("technology"))])
    ends = {f"{population}, {use}": span(ring.sel(population=population, use=use), years)
            for population in _TOLD for use in (FULL, PHONE)}  # fmt: skip
    told = "; ".join(f"{name} {value}" for name, value in ends.items())
    lasts = {said: ", ".join(_lasting(rows, context, name, lasting)[0]) for name, said in _TOLD.items()}
    return Table(pd.DataFrame([
        {"reason": "attention takes 8-bit integers", "where": "section I, in the words of the paper",
         "computed": "Slices of one bit hold them: with ideal cells the perplexity rises by "
                     f"{rise(study.sel(case='bits 8'))} at 8 bits, {rise(study.sel(case='bits 4'))} at 4."},
        {"reason": "energy of writing", "where": "a public summary of the paper; its passage was not read here",
         "computed": f"{100 * share.sel(technology=technology, estimate='median').item():.2g} % of a token's energy in "
                     f"{technology}, at most {100 * share.max().item():.2g} %; by the engines alone "
                     f"{100 * engines_share.sel(technology=technology).item():.2g} %, at most "
                     f"{100 * engines_share.max().item():.2g} % ({dear})."},
        {"reason": "endurance of the devices", "where": "the same",
         "computed": f"One in a hundred {technology} cells has failed after: {told}. "
                     f"{lasting:g} years without pause last: "
                     f"{'; '.join(f'by the endurance {said} {names}' for said, names in lasts.items())}."},
    ]), long=True)  # fmt: skip
