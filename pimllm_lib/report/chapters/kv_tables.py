"""Chapter 12, attention in memory: its tables and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.report.chapters.analog_noise import percent
from pimllm_lib.report.chapters.design_space import MM2
from pimllm_lib.report.chapters.kv_memory import ENGINES_ALONE
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence, spaced
from pimllm_lib.technologies import names as catalog_names

_FULL, _PHONE = "answers without pause", "a phone"


def _span(values: xr.DataArray, said: Any = spaced) -> str:
    """Return a median with its interval, or with the words that there is none."""
    low, middle, high = (values.sel(estimate=e).item() for e in ("low", "median", "high"))
    if np.isinf(middle):
        return "no wear"
    return f"{said(middle)} (no interval)" if np.isnan(low) else f"{said(middle)} ({said(low)} to {said(high)})"


def _years(value: float) -> str:
    """Return years as they are said: hours and days below one, no more digits than they deserve."""
    for size, unit in ((1 / 31557600, "s"), (1 / 525960, "min"), (1 / 8766, "h"), (1 / 365.25, "d")):
        if value < 40 * size:
            return f"{value / size:.2g} {unit}"
    return f"{float(f'{value:.2g}'):.3g} y" if value < 1e4 else f"1e{np.log10(value):.0f} y"


#: Quantities of a technology or its cell that the page lists; the parameters page has all.
_LISTED = ("endurance", "weibull_shape", "retention_s", "row_parallel", "leakage_w", "half_select_j", "erase_s", "write_s",
           "write_j", "write_pulses", "area_m2", "low_ohm", "high_ohm")  # fmt: skip


def inputs() -> Table:
    """Return the main quantities of every technology: value, range, how many were published, status, source and where."""
    rows = []
    for name in catalog_names():
        tables = (catalog.parts.entries[name], catalog.parts.entries[catalog.parts[name].cell.name])
        for field in _LISTED:
            entry = next((table[field] for table in tables if field in table), None)
            if entry is not None:
                unit = "" if entry["unit"] == "1" else f" {entry['unit']}"
                ends = " to ".join(f"{end:.3g}" for end in entry["range"]) if "range" in entry else "one value"
                rows.append({
                    "technology": name, "quantity": field, "value": f"{entry['value']:.3g}{unit}", "range": ends,
                    "n": entry.get("n", ""), "status": entry["status"].replace("_", " "), "source": entry["source"],
                    "where": entry.get("where") or entry.get("note", ""),
                })  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def technologies(rows: xr.Dataset) -> Table:
    """Return a row for each technology and context, for the first model: medians, and from the worse to the better end."""
    found, counts = rows.isel(model=0), rows.published_values
    table = []
    for name in map(str, rows.technology.values):
        for n in rows.context_len.values:
            here = found.sel(technology=name, context_len=n)
            ring = here.worn_years.sel(allocation="ring")
            table.append({
                "technology": name, "context": int(n),
                "tokens/s": _span(here.technology_tokens_per_s),
                "tokens/J": _span(here.technology_tokens_per_j),
                "mm² of crossbars": _span(here.technology_kv_area_m2 * MM2),
                f"lasts, {_FULL}": _span(ring.sel(use=_FULL), _years),
                f"lasts, {_PHONE}": _span(ring.sel(use=_PHONE), _years),
                "endurances published": f"{counts.sel(technology=name, quantity='endurance').item():.0f}",
            })  # fmt: skip
    return Table(pd.DataFrame(table), long=True)


def placing(rows: xr.Dataset, setting_technology: str, context: int) -> Table:
    """Return how the placing of tokens changes when cells fail: the first, and one in a hundred."""
    here = rows.isel(model=0).sel(technology=setting_technology, context_len=context, estimate="median")
    table = [
        {"allocation": str(name), "use": str(use),
         "writes of the busiest cells a token": f"1 in {1 / here.cell_writes.sel(allocation=name, use=use).item():.0f}",
         "first cell fails": _years(here.first_failure_years.sel(allocation=name, use=use).item()),
         "1 % have failed": _years(here.worn_years.sel(allocation=name, use=use).item())}
        for name in here.allocation.values for use in here.use.values
    ]  # fmt: skip
    return Table(pd.DataFrame(table))


def bits(found: xr.Dataset) -> Table:
    """Return what fewer bits do for the first model."""
    rows = [
        {"bits of a key or value": int(b), "context": int(n),
         "tokens/s": spaced(here.bits_tokens_per_s.item()), "tokens/J": spaced(here.bits_tokens_per_j.item()),
         "mm² of crossbars": spaced(here.bits_kv_area_m2.item() * MM2)}
        for b in found.kv_bits.values for n in found.context_len.values
        for here in [found.isel(model=0).sel(kv_bits=b, context_len=n)]
    ]  # fmt: skip
    return Table(pd.DataFrame(rows))


def mixed(found: xr.Dataset) -> Table:
    """Return what a hot window in SRAM does at the longest row, for the first model."""
    last = found.isel(model=0, context_len=-1).sel(allocation="ring")
    rows = [
        {"behind it": str(name), "tokens in SRAM": int(n), "tokens/s": spaced(here.mixed_tokens_per_s.item()),
         "tokens/J": spaced(here.mixed_tokens_per_j.item()), "mm² of crossbars": spaced(here.mixed_kv_area_m2.item() * MM2),
         f"lasts, {_FULL}": _forever(here.mixed_worn_years.sel(use=_FULL).item()),
         f"lasts, {_PHONE}": _forever(here.mixed_worn_years.sel(use=_PHONE).item())}
        for name in found.cold.values for n in found.hot_tokens.values for here in [last.sel(cold=name, hot_tokens=n)]
    ]  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def _forever(value: float) -> str:
    return "never written" if np.isinf(value) else _years(value)


def needed(found: xr.Dataset, contexts: list[int]) -> Table:
    """Return the device that would be needed, for every model, at the contexts of the rows."""
    rows = []
    for model in map(str, found.model.values):
        for n in contexts:
            here = found.sel(model=model, context_len=n)
            row = {"model": model, "context": n}
            row |= {f"cycles, {use}": f"{here.needed_endurance.sel(use=use).item():.1e}" for use in (_FULL, _PHONE)}
            row |= {f"J to write a cell, {a}": _joules(here.break_even_write_j.sel(against=a).item())
                    for a in map(str, found.against.values)}  # fmt: skip
            rows.append(row)
    return Table(pd.DataFrame(rows), long=True)


def _joules(value: float) -> str:
    return "none is small enough" if np.isnan(value) else f"{value:.1e}"


def accuracy(study: xr.Dataset) -> Table:
    """Return the rise of the perplexity of every case, with its intervals and the trials behind it."""
    rows = [
        {"keys and values": str(here.curve.item()), "setting": str(here.setting.item()),
         "perplexity": f"{here.noisy_perplexity.item():.4g}",
         "rise (95 %)": f"{percent(here.perplexity_rise.item())} ({percent(here.perplexity_rise_low.item())} to "
                        f"{percent(here.perplexity_rise_high.item())})",
         "by models": f"{percent(here.models_rise_low.item())} to {percent(here.models_rise_high.item())}",
         "trials": f"{here.trials.item():.0f}"}
        for here in (study.sel(case=name) for name in study.case.values)
    ]  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def statements(rows: xr.Dataset, alone: xr.Dataset, study: xr.Dataset, technology: str, context: int) -> Table:
    """Return why attention was left out of memory, and what is computed, for the first model."""
    here = rows.isel(model=0).sel(technology=technology, context_len=context, estimate="median")
    share = rows.technology_write_share.isel(model=0).sel(context_len=context)
    worst = share.sel(estimate=["low", "median"]).max()
    engines_share = alone.engines_write_share.isel(model=0).sel(context_len=context)
    dear = str(engines_share.technology.values[int(engines_share.argmax("technology"))])
    rise = {b: study.perplexity_rise.sel(case=f"bits {b}").item() for b in (8, 4)}
    ring = here.worn_years.sel(allocation="ring")
    lasting = [str(n) for n in rows.technology.values
               if rows.worn_years.isel(model=0).sel(technology=n, context_len=context, estimate="median", allocation="ring",
                                                    use=_FULL).item() > 5]  # fmt: skip
    reasons = [
        {"reason": "attention takes 8-bit integers", "where": "section I, in the words of the paper",
         "computed": f"Seven one-bit slices hold them: with ideal cells the perplexity rises by {percent(rise[8])} at "
                     f"8 bits, {percent(rise[4])} at 4."},
        {"reason": "energy of writing", "where": "a public summary of the paper; its passage was not read here",
         "computed": f"{100 * here.technology_write_share.item():.2g} % of a token's energy in {technology} at {context} "
                     f"tokens, {100 * worst.item():.2g} % in the worst technology at the worst end. By the engines alone "
                     f"{100 * engines_share.sel(technology=technology).item():.2g} %, at most "
                     f"{100 * engines_share.max().item():.2g} % ({dear})."},
        {"reason": "endurance of the devices", "where": "the same",
         "computed": f"One in a hundred {technology} cells has failed after {_years(ring.sel(use=_FULL).item())} of answers "
                     f"without pause, {_years(ring.sel(use=_PHONE).item())} on a phone. Beyond five years without pause: "
                     f"{', '.join(lasting)}."},
    ]  # fmt: skip
    return Table(pd.DataFrame(reasons), long=True)


def answer(rows: xr.Dataset, machines: xr.Dataset, technology: str, contexts: tuple[int, int]) -> Sentence:
    """Return the answer of the page, in one sentence and its conditions."""
    model = str(machines.model.values[0])
    near, far = (machines.tokens_per_s.isel(model=0).sel(context_len=n) for n in contexts)
    near_j, far_j = (machines.tokens_per_j.isel(model=0).sel(context_len=n) for n in contexts)

    def years(name: str) -> str:
        here = rows.worn_years.isel(model=0).sel(technology=name, context_len=contexts[0], allocation="ring", use=_FULL)
        return _span(here, _years)

    share = rows.technology_write_share.isel(model=0).sel(
        technology=technology, context_len=contexts[0], estimate="median"
    )
    return Sentence(
        f"**It is the endurance of some cells, and not the energy of writing, that speaks against attention in memory: "
        f"there {model} decodes {near.sel(machine='in memory').item():.3g} tokens/s at {contexts[0]} tokens and "
        f"{far.sel(machine='in memory').item():.3g} at {contexts[1]}, where the best hybrid of chapter 10 has "
        f"{near.sel(machine='improved').item():.3g} and {far.sel(machine='improved').item():.3g}, writing takes "
        f"{100 * share.item():.1g} % of the energy of a token, and one in a hundred RRAM cells has failed after "
        f"{years('rram')} of answers without pause, of PCM after {years('pcm')}, of STT-MRAM after "
        f"{years('stt-mram')}.** In brackets are the ends of what was published. It saves no energy: "
        f"{near_j.sel(machine='in memory').item():.3g} tokens/J against {near_j.sel(machine='improved').item():.3g}, and "
        f"{far_j.sel(machine='in memory').item():.3g} against {far_j.sel(machine='improved').item():.3g}."
    )


def engines(found: xr.Dataset, machines: xr.Dataset, contexts: tuple[int, int]) -> Sentence:
    """Return the gain as the published accounting has it, and what attention itself takes in either way of counting."""
    told = []
    for model in map(str, found.model.values):
        mine = found.engines_tokens_per_s.sel(model=model)
        ratio = mine.sel(counted="in memory") / mine.sel(counted="published")
        told.append(f"{model} {' and '.join(f'{ratio.sel(context_len=n).item():.3g}' for n in contexts)}")
    alone = 1e3 * found.engines_attention_j.isel(model=0).sel(context_len=contexts[0])
    whole = 1e3 * machines.attention_j.isel(model=0).sel(context_len=contexts[0])
    names = ("published", "recommended", "in memory")
    return Sentence(
        f"Counted as the paper counts, by the engines alone (`corrected`), attention in memory decodes so many times as "
        f"fast as PIM-LLM at {contexts[0]} and {contexts[1]} tokens: {'; '.join(told)}. Attention itself, "
        f"{', '.join(names)}, takes {', '.join(f'{alone.sel(counted=n).item():.2g}' for n in names)} mJ of "
        f"{found.model.values[0]} at {contexts[0]} tokens that way, and "
        f"{', '.join(f'{whole.sel(machine=n).item():.2g}' for n in names)} mJ with the cache read from memory: in crossbars "
        "each score is converted once for every slice of a key and every bit of a query, on the array the cache comes from "
        "off the chip."
    )


def times(found: xr.Dataset) -> Sentence:
    """Return what takes the time of a token of the first model in memory, at the shortest and at the longest row."""
    mine, told = found.time_share.isel(model=0), []
    for n in mine.context_len.values[[0, -1]]:
        parts = sorted(zip(mine.sel(context_len=n).values, map(str, mine.part.values), strict=True), reverse=True)
        said = [f"{part} {100 * share:.0f} %" for share, part in parts if share > 0.005]
        told.append(f"at {n} tokens {', '.join(said)}")
    return Sentence(f"Of the time of a token of {found.model.values[0]} in memory, {'; '.join(told)}.")


def gating(found: xr.Dataset) -> Sentence:
    """Return how the efficiency depends on what tiles draw when they are switched off."""
    mine = found.gated_efficiency_ratio.isel(model=0, context_len=-1)
    pairs = zip(mine.gated_share.values, mine.values, strict=True)
    told = ", ".join(f"{value:.2g} times with {100 * share:g} %" for share, value in pairs)
    return Sentence(
        f"At {mine.context_len.item()} tokens attention in memory has so many times the tokens/J of the recommended "
        f"machine, by the share of their static power that switched-off tiles still draw: {told}."
    )


def write_energy(found: xr.Dataset, context: int) -> Sentence:
    """Return how far write energy is from mattering."""
    here = found.break_even_write_j.isel(model=0).sel(context_len=context)
    dear = max(catalog_names(), key=_pulses_j)
    alone = here.sel(against=ENGINES_ALONE).item()
    said = (
        "by the engines alone at none: reading the crossbars takes more than the array does"
        if np.isnan(alone) else f"by the engines alone at {alone:.1e} J"
    )  # fmt: skip
    return Sentence(
        f"At {context} tokens {found.model.values[0]} breaks even with the published hybrid at "
        f"{here.sel(against='published').item():.1e} J to write a cell, whole machines counted; {said}. The dearest "
        f"write here, of {dear}, takes {_pulses_j(dear):.1e} J."
    )


def _pulses_j(name: str) -> float:
    """Return the energy to write a cell of a technology, all pulses of it."""
    cell = catalog.parts[name].cell
    return float(cell.write_pulses * cell.write_j)
