"""Chapter 10, long contexts: its tables and sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.design_space.compute import MM2
from pimllm_chapters.long_context.compute import CONVENTIONS, RECOMMENDED, Setting
from pimllm_lib import catalog
from pimllm_lib.analysis import remedies
from pimllm_lib.analysis.bounds import cache_floor
from pimllm_lib.report.box import Box
from pimllm_lib.report.numbers import known, listed, number, span
from pimllm_lib.report.tables import Table, points
from pimllm_lib.report.text import Sentence, escaped
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary
from pimllm_lib.workload.decoder import few_and_dense

#: Beyond this nothing is gained that a reader could see.
_EQUAL = 0.005


def ranking(found: xr.Dataset, models: int = 2) -> Table:
    """Return what each remedy does to the first so many models, best first.

    Factors on the rate, what it takes at the paper's context, and its place by rate gained per mm² and per W.
    """
    return Table(
        (row for _, mine in points(found.isel(model=slice(models)), "model") for row in _ranked(mine)),
        long=True,
        title="What each remedy does alone, best first",
    )


def _ranked(mine: xr.Dataset) -> list[dict[str, str]]:
    at, far = mine.context_len.values
    gain = mine.tokens_per_s / mine.tokens_per_s.sel(remedy="none")
    here = mine.sel(machine="published", context_len=at).drop_sel(remedy="none")
    first = gain.sel(machine="published", context_len=at)
    paid = {"mm²": here.more_area_m2 * MM2, "W": here.more_power_w}
    places = {unit: _places(here.more_tokens_per_s, cost) for unit, cost in paid.items()}

    def row(name: str) -> dict[str, str]:
        factors = gain.sel(remedy=name)
        told = {
            "model": mine.model.item(), "remedy": name,
            "computes the same": "yes" if remedies.REMEDIES[name].exact else "no",
            f"rate at {at}": _times(factors.sel(machine="published", context_len=at)),
            f"at {far}": _times(factors.sel(machine="published", context_len=far)),
            f"on the improved machine, at {far}": _times(factors.sel(machine="improved", context_len=far)),
        }  # fmt: skip
        for unit, cost in paid.items():
            more = cost.sel(remedy=name).item()
            told[f"{unit} more, at {at}"] = number(more) if more <= 0 else f"+{number(more)}"
            told[f"place by tokens/s per {unit}"] = places[unit].get(name, "")
        return told

    return [row(name) for name in sorted(remedies.REMEDIES, key=lambda name: -first.sel(remedy=name).item())]


def _places(gained: xr.DataArray, paid: xr.DataArray) -> dict[str, str]:
    """Return the place of each remedy that gains something, by its gain for each unit paid: 1 for those that pay none."""
    worth = {
        str(name): gain / cost if cost > 0 else np.inf
        for name, gain, cost in zip(gained.remedy.values, gained.values, paid.values, strict=True)
        if gain > _EQUAL
    }
    return {name: f"{1 + sum(other > value for other in worth.values())}" for name, value in worth.items()}


def _times(factor: xr.DataArray) -> str:
    return known(factor, ".2f", " x", otherwise="part of it")


def stack_table(stacked: xr.Dataset, setting: Setting) -> Table:
    """Return rates with remedies put on in turn, and how near the floor they are, at both contexts of the rankings."""
    rows = []
    for name, mine in points(stacked.sel(context_len=[setting.at, setting.far]), "put_on"):
        row = {"with": name if name == "none" else f"+ {name}"}
        for model, context, here in points(mine, "model", "context_len"):
            share = here.stack_tokens_per_s.item() / here.stack_floor_tokens_per_s.item()
            row[f"{model}, {context}"] = f"{here.stack_tokens_per_s.item():.3g} ({100 * share:.0f} %)"
        rows.append(row)
    return Table(rows, long=True, title="Rates with remedies put on in turn")


def design_table(designs: xr.Dataset, *, near: int) -> Table:
    """Return the smallest designs that reach the target, the most efficient first."""
    rates = {model: f"{at.target_tokens_per_s.item():.3g}" for model, at in points(designs, "model")}
    rows = [{"design": "rate to reach", "SRAM left": ""} | rates]
    for name, here in points(designs, "design"):
        row = {"design": name, "SRAM left": f"{100 * here.sram_share.item():.0f} %"}
        for model, one in points(here, "model"):
            row[model] = f"{one.design_tokens_per_s.item():.3g} ({one.own_tokens_per_s.item():.3g} at {near})"
        rows.append(row | {"tokens/J, geometric mean": f"{float(np.exp(np.log(here.design_tokens_per_j).mean())):.3g}"})
    return Table(
        pd.DataFrame(rows).fillna(""),
        long=True,
        title="The smallest designs that reach the target, the most efficient first",
    )


def answer_table(told: xr.Dataset) -> Table:
    """Return time to the first token, time and energy of a whole answer, by machine and by who reads the prompt."""
    rows = (
        {"model": model, "machine": machine, "prompt read on": reader,
         "first token, s": f"{here.time_to_first_token_s.item():.3g}", "answer, s": f"{here.answer_s.item():.3g}",
         "answer, J": number(here.answer_j.item())}
        for model, machine, reader, here in points(told, "model", "machine", "reader")
    )  # fmt: skip
    return Table(rows, long=True, title="Time and energy of a whole answer")


def turning(turned: xr.Dataset) -> Sentence:
    """Return where attention reaches half of a token's time: as published, recommended, and improved."""
    told = [
        f"{escaped(model)} {', '.join(known(tokens, '.0f', otherwise='beyond all') for tokens in at.attention_half_tokens)}"
        for model, at in points(turned, "model")
    ]
    return Sentence(
        f"Attention takes half of a token's time from so many tokens on, {', '.join(map(str, turned.machine.values))}: "
        f"{'; '.join(told)}."
    )


def box(designs: xr.Dataset, stacked: xr.Dataset, setting: Setting) -> Box:
    """Return the box of the page: the rate of the first model before and after, and what is left to the floor."""
    model, best = str(stacked.model.values[0]), designs.isel(design=0)
    here = stacked.sel(model=model, context_len=setting.at).isel(put_on=0)
    before, after = here.stack_tokens_per_s.item(), best.design_tokens_per_s.sel(model=model).item()
    reading = 1e3 / here.stack_floor_tokens_per_s.item()
    return Box(
        question="How can PIM-LLM keep its rate at long contexts?",
        answer=f"At {setting.at} tokens it decodes {before:.3g} tokens/s of {escaped(model)}, and {after:.3g} once rows of "
        f"its array work apart, in the same area ({best.design.item()}).",
        sure="All is counted; areas of ports are assumed.",
        decides=f"The cache: {reading:.0f} of then {1e3 / after:.0f} ms a token read it, whatever the multipliers.",
    )


def recommended(designs: xr.Dataset, setting: Setting, *, kept: float, near: int) -> Sentence:
    """Return which design is recommended, out of how many, and what its yardstick is made of."""
    best, model = designs.isel(design=0), setting.decoders[0]
    over = (best.design_tokens_per_s / best.target_tokens_per_s * kept).min().item()
    own = 100 * best.design_tokens_per_s / best.own_tokens_per_s
    count, reaching = (number(designs.attrs[name]) for name in ("points", "reaching"))
    least = designs.design.values[int(designs.sram_share.argmax("design"))]
    ds = evaluate(system=setting.hybrid, model=model, context_len=near, conventions=CONVENTIONS, detail="op",
                  variables=["latency_s"])  # fmt: skip
    head = (ds.latency_s.sel(op="lm_head").sum() / ds.latency_s.sum()).item()
    taken = f"{100 * head:.2g} % of PIM-LLM's time at {near} tokens is the output head of {escaped(model.name)}"
    yardstick = (
        f"{taken}, whose few-valued weights lie on crossbars." if "lm_head" in few_and_dense(model)[0]
        else f"The yardstick is slow: {taken} on the same idling array."
    )  # fmt: skip
    return Sentence(
        f"Of {count} designs, {reaching} have the area of the published digital half, its cache and its off-chip memory, "
        f"and at {setting.at} tokens at least {100 * kept:.0f} % of the rate that PIM-LLM has at {near}, for every model "
        f"here; {designs.sizes['design']} of them with a single change. **Recommended is the most efficient of these, "
        f"{best.design.item()}**; the one that takes least from the on-chip memory is {least}. The recommended design has "
        f"{100 * over:.0f} % or more of that rate. {yardstick} Of its own rate at {near} tokens the design keeps "
        f"{span(own, '.0f')} %."
    )


def strict(designs: xr.Dataset, setting: Setting, *, kept: float, near: int) -> Sentence:
    """Return what becomes of the demand on the rate as published: whether the cache can be read that fast at all."""
    model, home = setting.decoders[0], catalog.systems["pim-llm"]
    point: dict[str, Any] = {"model": model, "conventions": "as-published", "variables": ["latency_s"]}
    rate = summary(evaluate(system=home, context_len=near, **point)).tokens_per_s.item()
    counted = summary(evaluate(system=RECOMMENDED, context_len=setting.at, **point)).tokens_per_s.item()
    floor = cache_floor(system=home, model=model, context_len=setting.at).item()
    target, best = kept * rate, designs.best_tokens_per_s.sel(model=model.name)
    reach = "none does, since reading the 8-bit cache alone" if floor < target else "reading the 8-bit cache"
    told = [
        f"{bits} bits and {memory}, {best.sel(kv_bits=bits, memory=memory).item():.3g}"
        for bits, memory in ((8, "lpddr5-6400"), (8, "lpddr5x-8533"), (3, "lpddr5-6400"), (3, "lpddr5x-8533"))
    ]
    return Sentence(
        f"As published, without output head and memory, PIM-LLM has {rate:.3g} tokens/s of {escaped(model.name)} at "
        f"{near} tokens. "
        f"Counted that way the recommended design has {counted:.3g} at {setting.at}. If the whole machine is to reach "
        f"{100 * kept:.0f} % of it, {target:.3g}, {reach} allows {floor:.3g}. The best of all designs with a cache of "
        f"{'; '.join(told)}."
    )


def robust(drawn: xr.Dataset, *, kept: float, draws: int) -> Sentence:
    """Return how far uncertain constants move the recommendation."""
    told = [f"{escaped(model)}, {span(100 * at.kept_rate, '.0f')} %" for model, at in points(drawn, "model")]
    holding = round(draws * drawn.holding_share.min().item())
    return Sentence(
        f"With the uncertain constants of both machines drawn from their ranges, it has at least {100 * kept:.0f} % in "
        f"{'all' if holding == draws else f'at least {holding} of'} {draws} draws; nine of ten lie within: "
        f"{'; '.join(told)}. Its price is not among these: at the ends of the range of a port's area, "
        f"{listed(_sram_left(), '.0f')} % of the on-chip memory are left."
    )


def _sram_left() -> list[float]:
    """Return what % of the on-chip memory the recommended ports leave, at both ends of what a port may take."""
    home, sram = remedies.provisioned(catalog.systems["pim-llm"]).sram, catalog.systems[RECOMMENDED].sram
    assert home is not None
    assert sram is not None
    more = float((sram.port_bits - home.port_bits) / home.area_m2)
    entry = catalog.parts.entries[home.name]["port_bit_area_m2"]
    return [100 * (1 - more * bound / entry["value"] * home.port_bit_area_m2) for bound in entry["range"]]


def one_row(setting: Setting) -> Sentence:
    """Return how near one row of 1024 PEs with overlapped folds comes to 1024 multiplications a cycle, by product."""
    system, model = setting.put(setting.decoders[0], ["one row of 1024", "overlapped folds"])
    on_array = replace(system, routing=dict.fromkeys(system.routing, "array"))
    ds = evaluate(system=on_array, model=model, context_len=setting.at, conventions="corrected", detail="op",
                  variables=["array_macs", "cycles"]).squeeze(drop=True)  # fmt: skip
    each = {op: (ds.array_macs / ds.cycles).sel(op=op).item() for op in ("q", "score", "av")}
    return Sentence(
        f"If the array did the projections too and memory were not counted, one row of 1024 with overlapped folds would do "
        f"{each['q']:.0f} multiplications a cycle in a query projection of {escaped(model.name)}, {each['score']:.0f} "
        f"in scores at {setting.at} tokens, and {each['av']:.0f} in weighted values, which are only as many columns "
        "wide as a head."
    )
