"""Chapter 12, attention in memory: its sentences, and the paper's reasons beside computed numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.kv_device import ENGINES_ALONE, cell_j
from pimllm_chapters.kv_tables import FULL, PHONE, rise, span, years
from pimllm_lib.analysis import technologies
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence

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
