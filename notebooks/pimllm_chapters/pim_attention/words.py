"""Chapter 12, attention in memory: its tables and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from pimllm_chapters.analog_noise.tables import rise
from pimllm_chapters.design_space.compute import MM2
from pimllm_chapters.pim_attention.compute import ENGINES_ALONE, cell_j
from pimllm_lib import catalog
from pimllm_lib.analysis import technologies
from pimllm_lib.core.units import HOUR, YEAR
from pimllm_lib.report.box import Box
from pimllm_lib.report.numbers import known, listed, number, power, rounded
from pimllm_lib.report.tables import Table, one_line, points, source_row
from pimllm_lib.report.text import Sentence, escaped

#: Uses that tables show: at full rate, and on a phone.
FULL, PHONE = "answers without pause", "a phone"
#: Quantities of a technology or its cell that the page lists; the parameters page has all.
_LISTED = ("endurance", "array_endurance", "weibull_shape", "cycles_per_write", "retention_s", "leakage_w", "row_parallel",
           "half_select_j", "erase_s", "erase_j", "write_s", "write_j", "write_pulses", "verify_j", "area_m2", "low_ohm",
           "high_ohm")  # fmt: skip
#: Whose endurances -> how a sentence says it.
_TOLD = {"arrays and products": "of arrays and products", "all published": "of all that was published"}
_UNITS = ((1.0, "s"), (60.0, "min"), (HOUR, "h"), (24 * HOUR, "d"))


def inputs() -> Table:
    """Return the main quantities of every technology, with their sources."""
    rows = []
    for name in technologies.names():
        tables = (catalog.parts.entries[name], catalog.parts.entries[technologies.named(name).cell.name])
        entries = ((field, table[field]) for field in _LISTED for table in tables if field in table)
        rows += [{"technology": name} | source_row(field, entry) for field, entry in entries]
    return Table(rows, long=True, title="Memory technologies and their sources")


def years(value: float) -> str:
    """Return years as they are said: in smaller units where they are few, no more digits than they deserve.

    >>> years(0.002), years(12.34), years(2.6e6), years(float("inf"))
    ('18 h', '12 y', '3·10⁶ y', 'never fails')
    """
    if not np.isfinite(value):
        return "never fails" if np.isinf(value) else "none published"
    for size, unit in _UNITS:
        if value * YEAR < 40 * size:
            return f"{value * YEAR / size:.2g} {unit}"
    return f"{rounded(value, 2 if value < 1e4 else 1) if value < 1e5 else power(value)} y"


def interval(values: xr.DataArray, said: Any = number) -> str:
    """Return a median with its interval, or with the words that there is none."""
    ends = [values.sel(estimate=e).item() for e in technologies.ESTIMATES]
    if not np.isfinite(ends[1]):
        return "no wear" if np.isinf(ends[1]) else "none published"
    low, middle, high = (said(end).replace(" ", "\u00a0") for end in ends)  # a line ends beside a number, not in it
    return f"{middle} (no\u00a0interval)" if np.isnan(ends[0]) else f"{middle} ({low} to {high})"


def by_technology(rows: xr.Dataset) -> Table:
    """Return a row for each technology and context, for the first model: medians, and from the worse to the better end."""
    table = []
    for name, n, here in points(rows.isel(model=0), "technology", "context_len"):
        ring = here.worn_years.sel(allocation="ring")
        lasts = {
            f"{word}, {population}": interval(ring.sel(use=use, population=population), years)
            for word, use in (("lasts", FULL), ("on a phone", PHONE)) for population in _TOLD
        }  # fmt: skip
        table.append({
            "technology": name, "context": n, "tokens/s": interval(here.technology_tokens_per_s),
            "tokens/J": interval(here.technology_tokens_per_j),
            "mm² of crossbars": interval(here.technology_kv_area_m2 * MM2), **lasts,
        })  # fmt: skip
    return Table(table, long=True, title="Each technology at each context, from the worse to the better end")


def placing(rows: xr.Dataset, technology: str, context: int) -> Table:
    """Return how the placing of tokens changes when cells fail: the first, and one in a hundred."""
    at = {"technology": technology, "context_len": context, "estimate": "median", "population": "all published"}
    table = (
        {"allocation": name, "use": use, "writes of the busiest cells": f"1 in {1 / here.cell_writes.item():.0f} tokens",
         "first cell fails": years(here.first_failure_years.item()), "1 % have failed": years(here.worn_years.item())}
        for name, use, here in points(rows.isel(model=0).sel(at), "allocation", "use")
    )  # fmt: skip
    return Table(table, title="How the placing of tokens moves when cells fail")


def bits(found: xr.Dataset) -> Table:
    """Return what fewer bits do for the first model."""
    rows = (
        {"bits of a key or value": b, "context": n,
         **_costs(here, "bits", {"attention, mJ": number(1e3 * here.bits_attention_j.item())})}
        for b, n, here in points(found.isel(model=0), "kv_bits", "context_len")
    )  # fmt: skip
    return Table(rows, title="What fewer bits do")


def _costs(here: xr.Dataset, of: str, more: dict[str, str]) -> dict[str, str]:
    """Return rate, efficiency, more, and area of one machine."""
    rate, efficiency, area = (here[f"{of}_{name}"].item() for name in ("tokens_per_s", "tokens_per_j", "kv_area_m2"))
    return {"tokens/s": number(rate), "tokens/J": number(efficiency)} | more | {"mm² of crossbars": number(area * MM2)}


def mixed(found: xr.Dataset) -> Table:
    """Return what a hot window in SRAM does at the longest context shown, for the first model."""
    last = found.isel(model=0, context_len=-1).sel(allocation="ring")
    rows = (
        {"behind it": name, "tokens in SRAM": n, **_costs(here, "mixed", {}),
         **{f"lasts, {use}": years(here.mixed_worn_years.sel(use=use).item()) for use in (FULL, PHONE)}}
        for name, n, here in points(last, "cold", "hot_tokens")
    )  # fmt: skip
    return Table(rows, long=True, title="A hot window in SRAM, at the longest context")


def needed(found: xr.Dataset) -> Table:
    """Return the device that would be needed, for every model."""
    rows = []
    for model, n, here in points(found, "model", "context_len"):
        row = {"model": model, "context": n}
        row |= {f"endurance, {use}": f"{here.needed_endurance.sel(use=use).item():.1e}" for use in (FULL, PHONE)}
        for name, joules in points(here.break_even_write_j, "against"):
            row[f"J a cell, as {name}"] = known(joules, ".1e", otherwise="none")
        rows.append(row)
    return Table(rows, long=True, title="The device that would be needed")


def sensitivity(found: xr.Dataset) -> Table:
    """Return what each change does to the first model, as factors, at every context shown."""
    rows, told = [], {"tokens/s": "tokens_per_s", "tokens/J": "tokens_per_j", "years": "worn_years"}
    for name, mine in points(found.isel(model=0), "change"):
        row = {"change": name}
        for n, here in points(mine, "context_len"):
            row |= {f"{what}, at {n}": f"{here[f'changed_{field}'].item():.3g} x" for what, field in told.items()}
        rows.append(row)
    return Table(rows, long=True, title="What each change does, as factors")


def accuracy(study: xr.Dataset) -> Table:
    """Return the rise of the perplexity of every case, with its interval and the trials behind it."""
    rows = (
        {"keys and values": str(here.curve.item()), "setting": str(here.setting.item()),
         "perplexity": f"{here.noisy_perplexity.item():.4g}", "rise (95 %)": rise(here),
         "trials": f"{here.trials.item():.0f}"}
        for _, here in points(study, "case")
    )  # fmt: skip
    return Table(rows, long=True, title="Rise of the perplexity of every case, with 95 % intervals")


def _lasting(rows: xr.Dataset, context: int, population: str, lasting: float) -> tuple[list[str], list[str]]:
    """Return the technologies whose median cells last answers without pause so many years, and those that do not."""
    at = {"context_len": context, "population": population, "estimate": "median", "allocation": "ring", "use": FULL}
    worn = rows.worn_years.isel(model=0).sel(at)
    lasts, fails = (worn.technology.values[ok.values].tolist() for ok in (worn >= lasting, worn < lasting))
    return lasts, fails


def box(rows: xr.Dataset, machines: xr.Dataset, contexts: tuple[int, int], lasting: float) -> Box:
    """Return the box of the page: the rate, and whose cells wear out; below it rate and energy at both contexts."""
    machines = machines.sel(context_len=list(contexts), machine=["in memory", "improved"])
    model, first = str(machines.model.values[0]), machines.isel(model=0, context_len=0)
    held, hybrid = (f"{rate:.3g}" for rate in first.tokens_per_s.values)
    share = rows.technology_write_share.isel(model=0).sel(context_len=contexts[0], estimate="median").max().item()
    worn = {said: _lasting(rows, contexts[0], population, lasting)[1] for population, said in _TOLD.items()}
    ratio = machines.sel(machine="in memory") / machines.sel(machine="improved")
    table = [
        {"model": name, "context": n, "tokens/s in memory": f"{at.tokens_per_s.sel(machine='in memory').item():.3g}",
         "tokens/s, best hybrid": f"{at.tokens_per_s.sel(machine='improved').item():.3g}",
         "tokens/J over the hybrid's": f"{ratio.tokens_per_j.sel(model=name, context_len=n).item():.3g} x"}
        for name, n, at in points(machines, "model", "context_len")
    ]  # fmt: skip
    failed = "; ".join(
        f"by the median endurance {said}, {listed(map(escaped, names or ['none']))}" for said, names in worn.items()
    )
    worn_out = " or ".join(str(len(names)) for names in worn.values())
    return Box(
        question="Would attention in memory pay?",
        answer=f"In memory {escaped(model)} decodes {held} tokens/s at {contexts[0]} tokens, where the best hybrid has "
        f"{hybrid}, while the cells last.",
        sure="Rates follow from sizes; endurances are few, and read second hand.",
        decides=f"Endurance: of {rows.technology.size} technologies {worn_out} wear out within {lasting:g} years, by whose "
        "endurances one takes.",
        more=one_line(Table(table, title="Attention in memory beside the best hybrid of chapter 10"))
        + f"\n\nAfter {lasting:g} years of answers without pause one in a hundred cells has failed of, {failed}. "
        f"Writing takes at most {100 * share:.2g} % of the energy of a token.",
    )


def engines(found: xr.Dataset, machines: xr.Dataset, contexts: tuple[int, int]) -> Sentence:
    """Return the gain as the published accounting has it, and what attention itself takes in either way of counting."""
    rates = found.engines_tokens_per_s.sel(context_len=list(contexts))
    ratio = rates.sel(counted="in memory") / rates.sel(counted="published")
    told = [f"{escaped(name)} {listed(each.values, '.3g')}" for name, each in points(ratio, "model")]
    names = ["published", "recommended", "in memory"]
    alone = found.engines_attention_j.isel(model=0).sel(context_len=contexts[0], counted=names)
    whole = machines.attention_j.isel(model=0).sel(context_len=contexts[0], machine=names)
    spent = [", ".join(f"{1e3 * value:.2g}" for value in values) for values in (alone.values, whole.values)]
    return Sentence(
        f"Counted as the paper counts, by the engines alone (`corrected`), attention in memory decodes so many times as "
        f"fast as PIM-LLM at {contexts[0]} and {contexts[1]} tokens: {'; '.join(told)}. Attention itself, "
        f"{', '.join(names)}, takes {spent[0]} mJ of {escaped(found.model.values[0])} at {contexts[0]} tokens that way, and "
        f"{spent[1]} mJ with the cache read from memory: in crossbars each score is converted once for every slice of a "
        "key and every bit of a query; on the array the cache comes from off the chip."
    )


def taken(found: xr.Dataset, machines: xr.Dataset, contexts: tuple[int, int]) -> Sentence:
    """Return what takes the time of a token of the first model in memory, and what static power takes of its energy."""
    told = []
    for n, mine in points(found.time_share.isel(model=0).sel(context_len=list(contexts)), "context_len"):
        parts = mine.sortby(mine, ascending=False).where(mine > 0.005, drop=True)
        shares = [f"{part} {100 * share.item():.0f} %" for part, share in points(parts, "part")]
        told.append(f"at {n} tokens {', '.join(shares)}")
    static = 100 * machines.static_share.isel(model=0).sel(machine="in memory", context_len=list(contexts))
    return Sentence(
        f"Of the time of a token of {escaped(found.model.values[0])} in memory, {'; '.join(told)}. Static power, of "
        f"gated tiles for the most part, takes {listed(static.values, '.3g')} % of its energy."
    )


def write_energy(found: xr.Dataset, context: int) -> Sentence:
    """Return how far write energy is from mattering."""
    here = found.break_even_write_j.isel(model=0).sel(context_len=context)
    dear, alone = max(technologies.names(), key=cell_j), here.sel(against=ENGINES_ALONE).item()
    reading = "none is small enough: reading the crossbars takes more than the array does"
    return Sentence(
        f"At {context} tokens {escaped(found.model.values[0])} breaks even with the published hybrid at "
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
    told = "; ".join(
        f"{population}, {use} {interval(ring.sel(population=population, use=use), years)}"
        for population in _TOLD for use in (FULL, PHONE)
    )  # fmt: skip
    lasts = "; ".join(
        f"by the endurance {said} {', '.join(_lasting(rows, context, name, lasting)[0])}"
        for name, said in _TOLD.items()
    )
    return Table([
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
                     f"{lasting:g} years without pause last: {lasts}."},
    ], long=True, title="Why attention was left out of memory, and what is computed")  # fmt: skip
