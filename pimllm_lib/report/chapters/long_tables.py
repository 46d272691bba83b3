"""Chapter 10, long contexts: its tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib import catalog, remedies
from pimllm_lib.metrics import summary
from pimllm_lib.report.chapters.design_space import MM2
from pimllm_lib.report.chapters.long_context import APART, CONVENTIONS, Setting
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence
from pimllm_lib.system import evaluate
from pimllm_lib.workload import cache_words

#: Beyond this nothing is gained that a reader could see.
_EQUAL = 0.005


def ranking(found: xr.Dataset, model: str) -> Table:
    """Return what each remedy does to one model, best first: factors on the rate, and what it takes at the paper's
    context.
    """
    mine = found.sel(model=model)
    at, far = mine.context_len.values
    home = mine.tokens_per_s.sel(remedy="none")
    gain = mine.tokens_per_s / home
    first = gain.sel(machine="published", context_len=at)
    rows = []
    for name in sorted(remedies.REMEDIES, key=lambda name: -first.sel(remedy=name).item()):
        here = mine.sel(remedy=name, machine="published", context_len=at)
        rows.append({
            "remedy": name,
            "computes the same": "yes" if remedies.REMEDIES[name].exact else "no",
            f"rate at {at}": _times(first.sel(remedy=name).item()),
            f"at {far}": _times(gain.sel(remedy=name, machine="published", context_len=far).item()),
            f"beside the others, at {far}": _times(gain.sel(remedy=name, machine="improved", context_len=far).item()),
            "mm² more": _signed(here.more_area_m2.item() * MM2),
            "tokens/s per mm²": _per(here.more_tokens_per_s.item(), here.more_area_m2.item() * MM2),
            "W more": _signed(here.more_power_w.item()),
            "tokens/s per W": _per(here.more_tokens_per_s.item(), here.more_power_w.item()),
        })  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def _times(factor: float) -> str:
    return "in it" if np.isnan(factor) else f"{factor:.2f} x"


def _signed(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:+,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:+.3g}"


def _per(gained: float, paid: float) -> str:
    """Return a gain for each unit paid; nothing where nothing is gained, and words where nothing is paid."""
    if gained <= _EQUAL:
        return ""
    return f"{gained / paid:.3g}" if paid > 0 else "takes none"


def stack_table(stacked: xr.Dataset, setting: Setting) -> Table:
    """Return rates with remedies put on one after another, and how near the floor they are, at both contexts of the
    rankings.
    """
    rows = []
    for name in map(str, stacked.put_on.values):
        row = {"with": name if name == "none" else f"+ {name}"}
        for model in map(str, stacked.model.values):
            for context in (setting.at, setting.far):
                here = stacked.sel(put_on=name, model=model, context_len=context)
                share = here.stack_tokens_per_s.item() / here.stack_floor_tokens_per_s.item()
                row[f"{model}, {context}"] = f"{here.stack_tokens_per_s.item():.3g} ({100 * share:.0f} %)"
        rows.append(row)
    return Table(pd.DataFrame(rows), long=True)


def turning(turned: xr.Dataset) -> Sentence:
    """Return where attention reaches half of a token's time, before and after."""
    told = [
        f"{model} from {_tokens(before)} to {_tokens(after)}"
        for model, (before, after) in zip(turned.model.values, turned.attention_half_tokens.values, strict=True)
    ]
    return Sentence(f"The context at which attention takes half of a token's time moves: {'; '.join(told)} tokens.")


def _tokens(value: float) -> str:
    return "beyond all" if np.isnan(value) else f"{value:.0f}"


def design_table(designs: xr.Dataset) -> Table:
    """Return the smallest designs that reach the target, the most efficient first."""
    models = [str(name) for name in designs.model.values]
    rows = [{"design": "rate to reach", "SRAM left": ""} | {
        f"{m}, tokens/s": f"{designs.target_tokens_per_s.sel(model=m).item():.3g}" for m in models
    }]  # fmt: skip
    for i, name in enumerate(map(str, designs.design.values)):
        here = designs.isel(design=i)
        row = {"design": name, "SRAM left": f"{100 * here.sram_share.item():.1f} %"}
        row |= {f"{m}, tokens/s": f"{here.design_tokens_per_s.sel(model=m).item():.3g}" for m in models}
        rows.append(row | {"tokens/J, mean": f"{float(np.exp(np.log(here.design_tokens_per_j).mean())):.3g}"})
    return Table(pd.DataFrame(rows).fillna(""), long=True)


def answer_table(told: xr.Dataset) -> Table:
    """Return time to the first token, time and energy of a whole answer, by machine and by who reads the prompt."""
    rows = []
    for model in map(str, told.model.values):
        for machine in map(str, told.machine.values):
            for reader in map(str, told.reader.values):
                here = told.sel(model=model, machine=machine, reader=reader)
                rows.append({
                    "model": model, "machine": machine, "prompt read on": reader,
                    "first token, s": f"{here.time_to_first_token_s.item():.3g}",
                    "answer, s": f"{here.answer_s.item():.3g}", "answer, J": f"{here.answer_j.item():.3g}",
                })  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def answer(designs: xr.Dataset, stacked: xr.Dataset, setting: Setting) -> Sentence:
    """Return the answer of the page: the rate of the first model before and after, and what is left to the floor."""
    model, best = setting.models[0], designs.isel(design=0)
    here = stacked.sel(model=model, context_len=setting.at).isel(put_on=0)
    before, after = here.stack_tokens_per_s.item(), best.design_tokens_per_s.sel(model=model).item()
    floor = here.stack_floor_tokens_per_s.item()
    dram = catalog.systems["pim-llm"].dram
    assert dram is not None
    return Sentence(
        f"**At {setting.at} tokens of context PIM-LLM decodes {before:.3g} tokens/s of {model}, and {after:.3g} "
        f"with one change "
        f"that takes no area: {best.design.item()}** (whole machine counted, one sequence, 8-bit cache, "
        f"{dram.name}). That is "
        f"{100 * after / floor:.0f} % of the {floor:.3g} at which the cache is read once for each token. From there on no "
        "arrangement of multipliers helps: only a smaller cache or a faster memory does."
    )


def recommended(designs: xr.Dataset, *, kept: float, near: int) -> Sentence:
    """Return which design is recommended, and out of how many."""
    best = designs.isel(design=0)
    over = (best.design_tokens_per_s / best.target_tokens_per_s * kept).min().item()
    points, reaching = (f"{designs.attrs[name]:,}".replace(",", " ") for name in ("points", "reaching"))
    return Sentence(
        f"Of {points} designs, {reaching} fit the area of the published digital half and keep at least "
        f"{100 * kept:.0f} % of "
        f"PIM-LLM's rate at {near} tokens for every model here; {designs.sizes['design']} do it with a single change. "
        f"**Recommended is the most efficient of these, {best.design.item()}.** It gives up "
        f"{100 * (1 - best.sram_share.item()):.0f} % of the on-chip memory for ports and keeps {100 * over:.0f} % "
        f"or more of the rate."
    )


def strict(setting: Setting, *, kept: float, near: int) -> Sentence:
    """Return what becomes of the same demand on the rate as published: whether the cache can be read that fast at all.
    """
    model = setting.decoders[0]
    rate = summary(evaluate(system="pim-llm", model=model, context_len=near, conventions="as-published",
                            variables=["latency_s"])).tokens_per_s.item()  # fmt: skip
    system = catalog.systems["pim-llm"]
    assert system.dram is not None
    assert system.storage is not None
    target, bits = kept * rate, system.storage.kv_bits
    floor = system.dram.bandwidth_bps / (cache_words(model, setting.at) * bits)
    verdict = "no design reaches it with this memory and cache" if floor < target else "the memory allows it"
    return Sentence(
        f"Held against its rate as published, without output head and memory, the demand is {target:.3g} tokens/s for "
        f"{model.name}, and reading its {bits}-bit cache of {setting.at} tokens once for each allows {floor:.3g}: "
        f"{verdict}. "
        f"It would take at most {bits * floor / target:.2g} bits a number, or {target / floor:.2g} times the bandwidth."
    )


def robust(drawn: xr.Dataset, *, kept: float) -> Sentence:
    """Return how far uncertain constants move the recommendation."""
    ends = (100 * drawn.kept_rate.isel(quantile=at).values for at in (0, -1))
    told = [f"{model}, {low:.0f} to {high:.0f} %" for model, low, high in zip(drawn.model.values, *ends, strict=True)]
    return Sentence(
        f"With every uncertain constant drawn from its range, at least {100 * kept:.0f} % is kept in "
        f"{100 * drawn.holding_share.min().item():.0f} % of draws or more; nine draws of ten lie within: {'; '.join(told)}."
    )


def one_row(setting: Setting) -> Sentence:
    """Return how near one row of 1024 PEs with overlapped folds comes to 1024 multiplications a cycle, product by
    product.
    """
    system, model = setting.put(setting.decoders[0], ["one row of 1024", "overlapped folds"])
    on_array = replace(system, routing=dict.fromkeys(system.routing, "array"))
    ds = evaluate(system=on_array, model=model, context_len=setting.at, conventions="corrected", detail="op",
                  variables=["array_macs", "cycles"]).squeeze(drop=True)  # fmt: skip
    each = {op: (ds.array_macs / ds.cycles).sel(op=op).item() for op in ("q", "score", "av")}
    return Sentence(
        f"One row of 1024 with overlapped folds does {each['q']:.0f} multiplications a cycle in a query projection of "
        f"{model.name}, {each['score']:.0f} in scores at {setting.at} tokens, and {each['av']:.0f} in weighted values, "
        "which are only as many columns wide as a head."
    )


def apart() -> Sentence:
    """Return what does not go on the stack, and why."""
    return Sentence("Not on the stack: " + "; ".join(f"*{name}* {why}" for name, why in APART.items()) + ".")


def on_top(setting: Setting, exact: Sequence[str], name: str) -> Sentence:
    """Return what one remedy that stands apart does to each model on the improved machine, near and far."""
    told = []
    for decoder in setting.decoders:
        rates = []
        for names in (exact, [*exact, name]):
            system, model = setting.put(decoder, names)
            ds = evaluate(system=system, model=model, context_len=[setting.at, setting.far], conventions=CONVENTIONS,
                          variables=["latency_s"])  # fmt: skip
            rates.append(1 / ds.latency_s.values.ravel())
        near, far = rates[1] / rates[0]
        told.append(f"{decoder.name} {near:.2f} and {far:.2f}")
    return Sentence(
        f"On the improved machine {name} multiplies the rate at {setting.at} and {setting.far} tokens by: {'; '.join(told)}."
    )
