"""Chapter 10, long contexts: its sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_chapters.long_setting import CONVENTIONS, RECOMMENDED, Setting
from pimllm_lib import catalog
from pimllm_lib.analysis import remedies
from pimllm_lib.analysis.bounds import cache_floor
from pimllm_lib.report.text import Sentence, spaced
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary


def turning(turned: xr.Dataset) -> Sentence:
    """Return where attention reaches half of a token's time: as published, recommended, and improved."""
    told = [
        f"{model} {', '.join(map(_tokens, found))}"
        for model, found in zip(turned.model.values, turned.attention_half_tokens.values, strict=True)
    ]
    return Sentence(
        f"Attention takes half of a token's time from so many tokens on, {', '.join(map(str, turned.machine.values))}: "
        f"{'; '.join(told)}."
    )


def _tokens(value: float) -> str:
    return "beyond all" if np.isnan(value) else f"{value:.0f}"


def answer(designs: xr.Dataset, stacked: xr.Dataset, setting: Setting) -> Sentence:
    """Return the answer of the page: the rate of the first model before and after, and what is left to the floor."""
    model, best = str(stacked.model.values[0]), designs.isel(design=0)
    here = stacked.sel(model=model, context_len=setting.at).isel(put_on=0)
    before, after = here.stack_tokens_per_s.item(), best.design_tokens_per_s.sel(model=model).item()
    floor = here.stack_floor_tokens_per_s.item()
    dram = catalog.systems["pim-llm"].dram
    assert dram is not None
    return Sentence(
        f"**At {setting.at} tokens of context PIM-LLM decodes {before:.3g} tokens/s of {model}, and {after:.3g} "
        f"once the rows of "
        f"its array work apart, in the same area** (one change: {best.design.item()}; whole machine counted, one "
        f"sequence, 8-bit "
        f"cache, {dram.name}). Of the {1e3 / after:.0f} ms of a token, {1e3 / floor:.0f} are the reading of the "
        f"cache, which no "
        f"arrangement of multipliers shortens, and {1e3 / after - 1e3 / floor:.0f} are everything else."
    )


def recommended(designs: xr.Dataset, setting: Setting, *, kept: float, near: int) -> Sentence:
    """Return which design is recommended, out of how many, and what its yardstick is made of."""
    best, model = designs.isel(design=0), setting.decoders[0]
    over = (best.design_tokens_per_s / best.target_tokens_per_s * kept).min().item()
    own = best.design_tokens_per_s / best.own_tokens_per_s
    points, reaching = (spaced(designs.attrs[name]) for name in ("points", "reaching"))
    least = designs.design.values[int(designs.sram_share.argmax("design"))]
    ds = evaluate(system=setting.hybrid, model=model, context_len=near, conventions=CONVENTIONS, detail="op",
                  variables=["latency_s"])  # fmt: skip
    head = (ds.latency_s.sel(op="lm_head").sum() / ds.latency_s.sum()).item()
    return Sentence(
        f"Of {points} designs, {reaching} have the area of the published digital half, its cache and its off-chip "
        f"memory, and at "
        f"{setting.at} tokens at least {100 * kept:.0f} % of the rate that PIM-LLM has at {near}, for every model here; "
        f"{designs.sizes['design']} of them with a single change. **Recommended is the most efficient of these, "
        f"{best.design.item()}**; the one that takes least from the on-chip memory is {least}. The recommended design has "
        f"{100 * over:.0f} % or more of that rate. The yardstick is slow: {100 * head:.0f} % of PIM-LLM's time at "
        f"{near} tokens "
        f"is the output head of {model.name} on the same idling array. Of its own rate at {near} tokens the design keeps "
        f"{100 * own.min().item():.0f} to {100 * own.max().item():.0f} %."
    )


def strict(designs: xr.Dataset, setting: Setting, *, kept: float, near: int) -> Sentence:
    """Return what becomes of the demand on the rate as published: whether the cache can be read that fast at all."""
    model, home = setting.decoders[0], catalog.systems["pim-llm"]
    point: dict[str, Any] = {"model": model, "conventions": "as-published", "variables": ["latency_s"]}
    rate = summary(evaluate(system=home, context_len=near, **point)).tokens_per_s.item()
    counted = summary(evaluate(system=RECOMMENDED, context_len=setting.at, **point)).tokens_per_s.item()
    floor = cache_floor(system=home, model=model, context_len=setting.at).item()
    target, best = kept * rate, designs.best_tokens_per_s.sel(model=model.name)
    reach = (
        "none does, since reading the 8-bit cache alone allows" if floor < target else "reading the 8-bit cache allows"
    )
    told = [
        f"{bits} bits and {memory}, {best.sel(kv_bits=bits, memory=memory).item():.3g}"
        for bits, memory in ((8, "lpddr5-6400"), (8, "lpddr5x-8533"), (3, "lpddr5-6400"), (3, "lpddr5x-8533"))
    ]
    return Sentence(
        f"As published, without output head and memory, PIM-LLM has {rate:.3g} tokens/s of {model.name} at {near} "
        f"tokens. Counted "
        f"that way the recommended design has {counted:.3g} at {setting.at}. If the whole machine is to reach "
        f"{100 * kept:.0f} % of it, {target:.3g}, {reach} {floor:.3g}. The best of all designs with a cache of "
        f"{'; '.join(told)}."
    )


def robust(drawn: xr.Dataset, *, kept: float, draws: int) -> Sentence:
    """Return how far uncertain constants move the recommendation."""
    ends = (100 * drawn.kept_rate.isel(quantile=at).values for at in (0, -1))
    told = [f"{model}, {low:.0f} to {high:.0f} %" for model, low, high in zip(drawn.model.values, *ends, strict=True)]
    holding = round(draws * drawn.holding_share.min().item())
    left = [f"{100 * share:.0f}" for share in _sram_left()]
    return Sentence(
        f"With the uncertain constants of both machines drawn from their ranges, it has at least {100 * kept:.0f} % in "
        f"{'all' if holding == draws else f'at least {holding} of'} {draws} draws; nine of ten lie within: "
        f"{'; '.join(told)}. "
        f"Its price is not among these: at the ends of the range of a port's area, {' and '.join(left)} % of the "
        f"on-chip memory "
        "are left."
    )


def _sram_left() -> list[float]:
    """Return the share of the on-chip memory that the recommended ports leave, at both ends of what a port may take."""
    home, sram = remedies.provisioned(catalog.systems["pim-llm"]).sram, catalog.systems[RECOMMENDED].sram
    assert home is not None
    assert sram is not None
    more = float((sram.port_bits - home.port_bits) / home.area_m2)
    entry = catalog.parts.entries[home.name]["port_bit_area_m2"]
    return [1 - more * bound / entry["value"] * home.port_bit_area_m2 for bound in entry["range"]]


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
        f"If the array did the projections too and memory were not counted, one row of 1024 with overlapped folds "
        f"would do {each['q']:.0f} multiplications a cycle in a query projection of "
        f"{model.name}, {each['score']:.0f} in scores at {setting.at} tokens, and {each['av']:.0f} in weighted values, "
        "which are only as many columns wide as a head."
    )
