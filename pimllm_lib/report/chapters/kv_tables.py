"""Chapter 12, attention in memory: its tables and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib.report.chapters.analog_noise import percent
from pimllm_lib.report.chapters.design_space import MM2
from pimllm_lib.report.chapters.kv_memory import ENGINES_ALONE
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence, spaced

_FULL, _PHONE = "answers without pause", "a phone"


def _span(values: xr.DataArray, said: Any = spaced) -> str:
    """Return a median with its interval, or with the words that there is none."""
    low, middle, high = (values.sel(estimate=e).item() for e in ("low", "median", "high"))
    if np.isinf(middle):
        return "no wear"
    return f"{said(middle)} (no interval)" if np.isnan(low) else f"{said(middle)} ({said(low)} to {said(high)})"


def _years(value: float) -> str:
    """Return years as they are said: hours and days below one, no more digits than they deserve."""
    for size, unit in ((1 / 8766, "h"), (1 / 365.25, "d")):
        if value < 40 * size:
            return f"{value / size:.2g} {unit}"
    return f"{float(f'{value:.2g}'):.3g} y" if value < 1e4 else f"1e{np.log10(value):.0f} y"


def technologies(rows: xr.Dataset) -> Table:
    """Return a row for each technology and context, for the first model: medians, and from the worse to the better end."""
    found, counts = rows.isel(model=0), rows.published_values
    table = []
    for name in map(str, rows.technology.values):
        for n in rows.row_context.values:
            here = found.sel(technology=name, row_context=n)
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
    here = rows.isel(model=0).sel(technology=setting_technology, row_context=context, estimate="median")
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
        for b in found.kv_bits.values for n in found.row_context.values
        for here in [found.isel(model=0).sel(kv_bits=b, row_context=n)]
    ]  # fmt: skip
    return Table(pd.DataFrame(rows))


def mixed(found: xr.Dataset) -> Table:
    """Return what a hot window in SRAM does at the longest row, for the first model."""
    last = found.isel(model=0, row_context=-1).sel(allocation="ring")
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


def statements(rows: xr.Dataset, machines: xr.Dataset, study: xr.Dataset, technology: str, context: int) -> Table:
    """Return why attention was left out of memory, and what is computed, for the first model."""
    here = rows.isel(model=0).sel(technology=technology, row_context=context, estimate="median")
    share = rows.technology_write_share.isel(model=0).sel(row_context=context)
    worst = share.sel(estimate=["low", "median"]).max()
    rise = {b: study.perplexity_rise.sel(case=f"bits {b}").item() for b in (8, 4)}
    ring = here.worn_years.sel(allocation="ring")
    lasting = [str(n) for n in rows.technology.values
               if rows.worn_years.isel(model=0).sel(technology=n, row_context=context, estimate="median", allocation="ring",
                                                    use=_FULL).item() > 5]  # fmt: skip
    return Table(pd.DataFrame([
        {"reason": "attention takes 8-bit integers", "where": "section I, in the words of the paper",
         "computed": f"Seven one-bit slices hold them: the perplexity rises by {percent(rise[8])} with ideal cells of 8 bits, "
                     f"{percent(rise[4])} of 4."},
        {"reason": "energy of writing", "where": "a public summary of the paper; its passage was not read here",
         "computed": f"{100 * here.technology_write_share.item():.2g} % of a token's energy in {technology} at {context} "
                     f"tokens; {100 * worst.item():.2g} % in the worst technology at the worst end."},
        {"reason": "endurance of the devices", "where": "the same",
         "computed": f"One in a hundred {technology} cells has failed after {_years(ring.sel(use=_FULL).item())} of answers "
                     f"without pause, {_years(ring.sel(use=_PHONE).item())} on a phone. Beyond five years without pause: "
                     f"{', '.join(lasting)}."},
    ]), long=True)  # fmt: skip


def answer(rows: xr.Dataset, machines: xr.Dataset, technology: str, contexts: tuple[int, int]) -> Sentence:
    """Return the answer of the page, in one sentence and its conditions."""
    model = str(machines.model.values[0])
    near, far = (machines.tokens_per_s.isel(model=0).sel(context_len=n) for n in contexts)
    near_j, far_j = (machines.tokens_per_j.isel(model=0).sel(context_len=n) for n in contexts)

    def years(name: str) -> str:
        here = rows.worn_years.isel(model=0).sel(technology=name, row_context=contexts[0], allocation="ring", use=_FULL)
        return _span(here, _years)

    share = rows.technology_write_share.isel(model=0).sel(technology=technology, row_context=contexts[0], estimate="median")
    return Sentence(
        f"**It is the endurance of some cells that keeps attention out of memory, and no longer the energy of writing: in "
        f"crossbars {model} decodes {near.sel(machine='in memory').item():.3g} tokens/s at {contexts[0]} tokens and "
        f"{far.sel(machine='in memory').item():.3g} at {contexts[1]}, where the best hybrid of chapter 10 has "
        f"{near.sel(machine='improved').item():.3g} and {far.sel(machine='improved').item():.3g}, writing takes "
        f"{100 * share.item():.1g} % of the energy of a token, and one in a hundred RRAM cells has failed after "
        f"{years('rram')} of answers without pause, of PCM after {years('pcm')}, of STT-MRAM after "
        f"{years('stt-mram')}.** In brackets are the ends of what was published. It saves no energy: "
        f"{near_j.sel(machine='in memory').item():.3g} tokens/J against {near_j.sel(machine='improved').item():.3g}, and "
        f"{far_j.sel(machine='in memory').item():.3g} against {far_j.sel(machine='improved').item():.3g}."
    )


def engines(found: xr.Dataset, contexts: tuple[int, int]) -> Sentence:
    """Return the gain as the published accounting has it."""
    told = []
    for model in map(str, found.model.values):
        mine = found.engines_tokens_per_s.sel(model=model)
        ratio = mine.sel(counted="in memory") / mine.sel(counted="published")
        told.append(f"{model} {ratio.sel(row_context=contexts[0]).item():.3g} and {ratio.sel(row_context=contexts[1]).item():.3g}")
    return Sentence(
        f"Counted as the paper counts, by the engines alone (`corrected`), attention in memory decodes so many times as fast "
        f"as PIM-LLM at {contexts[0]} and {contexts[1]} tokens: {'; '.join(told)}."
    )


def write_energy(found: xr.Dataset, context: int) -> Sentence:
    """Return how far write energy is from mattering."""
    here = found.break_even_write_j.isel(model=0).sel(context_len=context)
    return Sentence(
        f"At {context} tokens {found.model.values[0]} breaks even with the published hybrid at "
        f"{here.sel(against='published').item():.1e} J to write a cell, whole machines counted, and at "
        f"{here.sel(against=ENGINES_ALONE).item():.1e} J by the engines alone. The dearest cell here, flash, takes 1e-10 J."
    )
