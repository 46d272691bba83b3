"""Chapter 14, other models: families, weights of more bits, and which conclusions outlive both."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib import catalog
from pimllm_lib.axes import axis
from pimllm_lib.catalog.departures import departures
from pimllm_lib.errors import BadInput
from pimllm_lib.hardware import System
from pimllm_lib.hardware.weights import with_weight_bits
from pimllm_lib.llm import Decoder, parameter_count
from pimllm_lib.metrics import compare, summary
from pimllm_lib.parts import with_field
from pimllm_lib.report.figure import Figure, end_labels, label, log_ticks, style
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence
from pimllm_lib.schema import annotate
from pimllm_lib.system import evaluate

#: Both ways to count, the slips of the study left out of each, and their colours.
COUNTED = {"corrected": "#D55E00", "full-system": "#0072B2"}
#: Bits of the published machine's weights: a sign and one of magnitude, ternary.
PUBLISHED_BITS = 2
#: Side of a grid that holds a block of every model here; a side changes no result of a block that fits a smaller one.
GRID_SIDE = 128
_KEPT = (
    "latency_s", "energy_j", "macs", "tiles", "kv_bytes", "dram_bytes", "tokens_per_s", "tokens_per_j", "speedup",
    "energy_gain", "projection_share", "array_share", "analog_share",
)  # fmt: skip
_FAMILIES = ("as studied", "grouped heads", "window", "experts")


def family(decoder: Decoder) -> str:
    """Return the family of a model: what it has that the studied ones have not, the farthest from them first."""
    if np.any(decoder.n_experts > 1):
        return "experts"
    if np.any(decoder.window > 0):
        return "window"
    return "grouped heads" if np.any(decoder.n_kv_heads < decoder.n_heads) else "as studied"


def families(models: list[str]) -> dict[str, list[Decoder]]:
    """Return the models by family, those of each from the smallest to the largest."""
    found = sorted((catalog.model(name) for name in models), key=parameter_count)
    grouped = {name: [model for model in found if family(model) == name] for name in _FAMILIES}
    return {name: members for name, members in grouped.items() if members}


def counterparts(groups: dict[str, list[Decoder]]) -> dict[str, tuple[Decoder, Decoder]]:
    """Return for the largest model of each family but the first what it changes: the model without it, and the model.

    A mixture is held against one FFN as wide as its active experts together, which does as much work.
    """
    made = {}
    for name, members in groups.items():
        one = members[-1]
        if name == "grouped heads":
            made["as many KV heads as heads"] = replace(one, n_kv_heads=one.n_heads), one
        elif name == "window":
            made["no window"] = replace(one, window=0), one
        elif name == "experts":
            wide = one.d_ff * one.experts_per_token
            made["one FFN as wide as the active experts"] = (
                replace(one, n_experts=1, experts_per_token=1, d_ff=wide),
                one,
            )
    return {what: (replace(without, name=f"{one.name}, {what}"), one) for what, (without, one) in made.items()}


def machines(weight_bits: list[int]) -> list[System]:
    """Return TPU-LLM and PIM-LLM with weights of each number of bits, along an axis, on a grid that holds any block here."""
    wide = with_field(catalog.systems["pim-llm"], "pim.grid_side", GRID_SIDE)
    bits = axis(weight_bits=weight_bits) if len(weight_bits) > 1 else weight_bits[0]
    return [with_weight_bits(system, bits) for system in (catalog.systems["tpu-llm"], wide)]


def evaluated(groups: dict[str, list[Decoder]], context_len: list[int], weight_bits: list[int]) -> xr.Dataset:
    """Return both machines on every model and counterpart, context and number of weight bits.

    Dimensions: system, model, conventions, context_len and weight_bits. NaN where memory does not hold weights and cache of
    TPU-LLM, and with it no comparison.
    """
    models = [model for members in groups.values() for model in members]
    models += [without for without, _ in counterparts(groups).values()]
    tables = [
        xr.concat([_of_model(model, context_len, weight_bits, counted) for counted in COUNTED], "conventions")
        for model in models
    ]
    given = [*machines(weight_bits), *models]
    own = {key: value for item in given for key, value in departures(item).items()}
    whole = xr.concat(tables, "model", combine_attrs="drop").assign_attrs(user_values=json.dumps(own, sort_keys=True))
    whole["weight_bits"].attrs.update(long_name="bits of a weight", units="1")
    return annotate(whole.transpose("system", "model", "conventions", "context_len", "weight_bits"))


def _of_model(model: Decoder, context_len: list[int], weight_bits: list[int], counted: str) -> xr.Dataset:
    """Return everything at once where memory holds it, else point by point."""
    whole = _held(model, context_len, weight_bits, counted)
    if whole is None:
        single = [_held(model, [context], [bits], counted) for context, bits in product(context_len, weight_bits)]
        whole = xr.Dataset(coords={"context_len": context_len, "weight_bits": weight_bits})
        for point in single:
            whole = whole if point is None else whole.combine_first(point)
    if "speedup" not in whole:
        raise BadInput(f"memory holds {model.name} at none of {context_len} tokens; wanted a smaller model or context")
    return whole


def _held(model: Decoder, context_len: list[int], weight_bits: list[int], counted: str) -> xr.Dataset | None:
    """Return the results, None where memory does not hold weights and cache of every point."""
    try:
        ds = evaluate(
            system=machines(weight_bits),
            model=model,
            context_len=context_len,
            conventions=[counted],
            detail="component",
        )
    except BadInput as error:
        if "weights and key-value cache need" in str(error):
            return None
        raise
    bits = xr.DataArray(weight_bits, dims="weight_bits", coords={"weight_bits": weight_bits})
    kept = compare(summary(ds))[list(_KEPT)]
    return kept.broadcast_like(bits) if len(weight_bits) > 1 else kept.expand_dims(weight_bits=weight_bits)


@dataclass(frozen=True)
class Conclusion:
    """A conclusion of the study, where it stands, and what is true of a model and context if it holds.

    test: PIM-LLM's results of one family and one way to count, and those of the studied family -> one truth a point.
    """

    says: str
    stands: str
    test: Callable[[xr.Dataset, xr.Dataset], xr.DataArray]


def _grows(ds: xr.Dataset, studied: xr.Dataset) -> xr.DataArray:
    """Return for each pair of models whether the larger is sped up more; each is paired with the studied ones too."""
    both = ds if set(ds.model.values) == set(studied.model.values) else xr.concat([studied, ds], "model")
    own = set(ds.model.values)
    first = both.isel(context_len=0)
    size, gain, names = first.parameters.values, first.speedup.values, first.model.values
    pairs = [(i, j) for i in range(len(names)) for j in range(i) if size[i] != size[j] and own & {names[i], names[j]}]
    return xr.DataArray([bool((size[i] > size[j]) == (gain[i] > gain[j])) for i, j in pairs], dims="pair")


def _near(ds: xr.Dataset, tokens: int) -> xr.Dataset:
    """Return the results at the longest context up to so many tokens, at the shortest where all are longer."""
    within = [n for n in ds.context_len.values if n <= tokens]
    return ds.sel(context_len=max(within, default=ds.context_len.values.min()))


#: Thresholds are the printed ones: 97 % and 1 % of latency, 99 % of operations.
CONCLUSIONS = (
    Conclusion("faster than TPU-LLM", "rate chart", lambda ds, _: ds.speedup > 1),
    Conclusion("the larger the model, the larger the speed-up", "text", _grows),
    Conclusion(
        "the longer the context, the smaller the speed-up", "text", lambda ds, _: ds.speedup.diff("context_len") < 0
    ),
    Conclusion(
        "the array takes at least 97 % of latency at 4096 tokens",
        "text",
        lambda ds, _: _near(ds, 4096).array_share >= 0.97,
    ),
    Conclusion("crossbars, DACs and ADCs take less than 1 % of latency", "text", lambda ds, _: ds.analog_share < 0.01),
    Conclusion(
        "projections are at least 99 % of the operations at 128 tokens",
        "text, of larger models",
        lambda ds, _: _near(ds, 128).projection_share >= 0.99,
    ),
    Conclusion("more tokens/J than TPU-LLM", "abstract", lambda ds, _: ds.energy_gain > 0),
)


def verdict(true: xr.DataArray) -> str:
    """Return "holds" when a conclusion is true of every point, "fails" when of none, and else of how many it is.

    >>> verdict(xr.DataArray([True, False, True]))
    'depends: 2 of 3'
    """
    count = int(true.sum())
    if not true.size:
        return ""
    return {true.size: "holds", 0: "fails"}.get(count, f"depends: {count} of {true.size}")


def verdicts(ds: xr.Dataset, groups: dict[str, list[Decoder]], weight_bits: int = PUBLISHED_BITS) -> pd.DataFrame:
    """Return for each conclusion and each way to count the verdict in each family, with weights of some bits.

    Points that memory does not hold are left out.
    """
    rows = []
    for conclusion, counted in product(CONCLUSIONS, COUNTED):
        row = {"conclusion": conclusion.says, "where": conclusion.stands, "counted": counted}
        for name, members in groups.items():
            own, studied = (_pim(ds, counted, models, weight_bits) for models in (members, next(iter(groups.values()))))
            row[name] = verdict(conclusion.test(own, studied))
        rows.append(row)
    return pd.DataFrame(rows)


def _pim(ds: xr.Dataset, counted: str, models: list[Decoder], weight_bits: int) -> xr.Dataset:
    """Return PIM-LLM's results of some models under one way to count, where all of them are known, with their sizes."""
    at = {"system": "pim-llm", "conventions": counted, "model": [model.name for model in models]}
    here = ds.sel(at, drop=True).sel(weight_bits=weight_bits).drop_vars("weight_bits")
    sizes = ("model", [float(parameter_count(model)) for model in models])
    return here.dropna("context_len", subset=["speedup"]).assign(parameters=sizes)


def verdict_table(found: pd.DataFrame) -> Table:
    """Return the verdicts for reading, a conclusion named once."""
    again = found.conclusion.duplicated()
    return Table(
        found.assign(conclusion=found.conclusion.mask(again, ""), where=found["where"].mask(again, "")), long=True
    )


def shapes(groups: dict[str, list[Decoder]]) -> Table:
    """Return the models by family with what sets them apart, their parameters, and where their sizes were read."""
    rows = []
    for name, model in ((name, model) for name, members in groups.items() for model in members):
        entry = catalog.models.entries.get(model.name, {})
        rows.append(
            {
                "family": name,
                "model": model.name,
                "parameters": f"{parameter_count(model) / 1e9:.3g} G",
                "KV heads": f"{model.n_kv_heads} of {model.n_heads}",
                "experts": f"{model.experts_per_token} of {model.n_experts}" if model.n_experts > 1 else "",
                "window": model.window or "",
                "source": entry.get("source", "user"),
                "where": entry.get("where", ""),
            }
        )
    return Table(pd.DataFrame(rows), long=True)


_COLUMNS = {
    "TPU-LLM tokens/s": ("tpu-llm", "tokens_per_s"), "PIM-LLM tokens/s": ("pim-llm", "tokens_per_s"),
    "TPU-LLM tokens/J": ("tpu-llm", "tokens_per_j"), "PIM-LLM tokens/J": ("pim-llm", "tokens_per_j"),
    "tiles": ("pim-llm", "tiles"), "cache": ("pim-llm", "kv_bytes"),
}  # fmt: skip


def effects(ds: xr.Dataset, groups: dict[str, list[Decoder]], context_len: int) -> Table:
    """Return by what factor each change alone moves rates, efficiencies, tiles and cache, at one context.

    More bits are the most evaluated, over the published, on the largest model that memory holds with both.
    """
    rows, here = [], ds.sel(context_len=context_len)
    for change, before, after in _changes(here, groups):
        for counted in COUNTED:
            row = {"change": change, "counted": counted}
            for column, (system, variable) in _COLUMNS.items():
                at = {"system": system, "conventions": counted}
                ratio = float(after[variable].sel(at)) / float(before[variable].sel(at) or np.nan)
                row[column] = "" if np.isnan(ratio) else f"{ratio:.3g} x"
            rows.append(row)
    return Table(pd.DataFrame(rows), long=True)


def _changes(here: xr.Dataset, groups: dict[str, list[Decoder]]) -> Iterator[tuple[str, xr.Dataset, xr.Dataset]]:
    """Yield each change in words with the results before and after it."""
    bits = _published(here)
    for what, (without, one) in counterparts(groups).items():
        found = here.sel(weight_bits=bits)
        yield f"{one.name}, against {what}", found.sel(model=without.name), found.sel(model=one.name)
    most = int(here.weight_bits.max())
    named = [model.name for members in groups.values() for model in members]
    full = here.speedup.sel(model=named, weight_bits=most, system="pim-llm").notnull().all("conventions")
    if most > bits and full.any():
        sizes = {model.name: parameter_count(model) for members in groups.values() for model in members}
        held = here.sel(model=max((name for name in named if full.sel(model=name)), key=lambda name: sizes[name]))
        yield f"{held.model.item()}, {most} against {bits} bits", held.sel(weight_bits=bits), held.sel(weight_bits=most)


def _published(ds: xr.Dataset) -> int:
    """Return the published bits of a weight, or the fewest where those were not evaluated."""
    known = ds.weight_bits.values
    return PUBLISHED_BITS if PUBLISHED_BITS in known else int(known.min())


def answer(ds: xr.Dataset, groups: dict[str, list[Decoder]], found: pd.DataFrame) -> Sentence:
    """Return the answer of the page: conclusions that hold in every family, and the range of both ratios."""
    parts, names = [], [model.name for members in groups.values() for model in members]
    for counted in COUNTED:
        rows = found[found.counted == counted]
        everywhere = int((rows[list(groups)].isin(["holds", ""])).all(axis=1).sum())
        at = {"system": "pim-llm", "conventions": counted, "model": names, "weight_bits": _published(ds)}
        here = ds.sel(at)
        known = here.energy_gain.notnull()
        parts.append(
            f"{everywhere} of {len(rows)} conclusions hold in every family counted {counted}, where PIM-LLM is "
            f"{here.speedup.min().item():.2g} to {here.speedup.max().item():.3g} times as fast as TPU-LLM and takes less "
            f"energy at {int((here.energy_gain > 0).sum())} of {int(known.sum())} points"
        )
    kinds = "family" if len(groups) == 1 else "families"
    return Sentence(f"**For {len(names)} models of {len(groups)} {kinds}, {parts[0]}; {parts[1]}.**")


def lead_by_model(ds: xr.Dataset, groups: dict[str, list[Decoder]]) -> Figure:
    """Draw speed-up and tokens/J over TPU-LLM for every model, from the shortest context (filled) to the longest (open)."""
    rows = [row for name, members in groups.items() for row in (name, *(model.name for model in members))]
    here = ds.sel(system="pim-llm", weight_bits=_published(ds))
    panels = {"Speed-up of PIM-LLM": here.speedup, "Tokens/J of PIM-LLM over TPU-LLM": here.energy_gain + 1}
    first, last = (here.context_len.values[i] for i in (0, -1))
    with style():
        drawn, axes = plt.subplots(1, 2, figsize=(7.6, 1.2 + 0.29 * len(rows)), sharey=True)
        for ax, (title, values) in zip(axes, panels.items(), strict=True):
            for row, (shift, counted) in product(range(len(rows)), ((-0.16, "corrected"), (0.16, "full-system"))):
                if rows[row] not in groups:
                    _span(ax, row + shift, values.sel(model=rows[row], conventions=counted), COUNTED[counted])
            ax.axvline(1, color="#777777", lw=0.9, ls=":")
            ax.set(xscale="log", xlabel=title)
            low, high = ax.get_xlim()
            log_ticks(ax, "x", [t for t in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if low <= t <= high])
        for name in axes[0].set_yticks(range(len(rows)), rows):
            name.label1.set_fontweight("bold" if name.label1.get_text() in groups else "normal")
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        axes[0].tick_params(axis="y", length=0)
        axes[1].tick_params(axis="y", length=0)
        for place, counted in (("left", "corrected"), ("right", "full-system")):
            axes[0].set_title(counted, color=COUNTED[counted], fontsize=10, loc=place)
        axes[1].set_title(f"filled {first}, open {last} tokens", fontsize=10, loc="right")
        plt.close(drawn)
    alt = (
        f"Speed-up and tokens per joule over TPU-LLM of {len(rows) - len(groups)} models in {len(groups)} families, each "
        f"from {first} to {last} tokens, counted corrected and as a full system."
    )
    return Figure(drawn, alt)


def _span(ax: Axes, row: float, values: xr.DataArray, colour: str) -> None:
    """Draw one model's values over context: filled at the shortest, open at the longest known."""
    known = values.dropna("context_len").values
    if known.size:
        ax.plot(known, [row] * known.size, "-", color=colour, lw=1.2)
        ax.plot(known[:1], [row], "o", color=colour, ms=4.5)
        ax.plot(known[-1:], [row], "o", color=colour, mfc="none", ms=4.5)


def by_bits(ds: xr.Dataset, groups: dict[str, list[Decoder]]) -> Figure:
    """Draw tokens/J over TPU-LLM against the bits of a weight at the shortest context, a line for one model of each
    family: the largest that memory holds with the most bits.
    """
    here, drawn_ends = ds.isel(context_len=0).sel(system="pim-llm"), []
    with style():
        drawn, axes = plt.subplots(1, 2, figsize=(7.6, 3.3), sharey=True)
        chosen = _most_held(here.energy_gain.sel(conventions="full-system"), groups)
        for ax, counted in zip(axes, COUNTED, strict=True):
            ratio = (here.energy_gain + 1).sel(conventions=counted)
            ax.set_title(counted, color=COUNTED[counted], fontsize=10)
            ax.axhline(1, color="#777777", lw=0.9, ls=":")
            ax.set(xlabel=label(here.weight_bits), xticks=here.weight_bits.values, yscale="log")
            ends = _lines(ax, ratio, chosen)
            drawn_ends.append((ax, ends))
        low, high = axes[0].get_ylim()
        log_ticks(axes[0], "y", [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low <= t <= high])
        for ax, ends in drawn_ends:  # places are apart on the shared axis only when all lines are drawn
            end_labels(ax, ends, here.weight_bits.values[-1], gap=0.075)
        axes[0].set_ylabel("Tokens/J over TPU-LLM")
        plt.close(drawn)
    return Figure(
        drawn,
        f"Tokens per joule of PIM-LLM over TPU-LLM with weights of {', '.join(map(str, ds.weight_bits.values))} bits at "
        f"{ds.context_len.values[0]} tokens, for a model of each family.",
    )


def _most_held(ratio: xr.DataArray, groups: dict[str, list[Decoder]]) -> dict[str, str]:
    """Return family -> the model that memory holds with the most bits, the largest of such."""
    known = ratio.notnull().sum("weight_bits")
    return {
        name: max(enumerate(members), key=lambda pair: (int(known.sel(model=pair[1].name)), pair[0]))[1].name
        for name, members in groups.items()
    }


def _lines(ax: Axes, ratio: xr.DataArray, chosen: dict[str, str]) -> list[tuple[float, str, str]]:
    """Draw one line a family, each in its own dash; return where it ends and the model's name."""
    ends = []
    for dash, model in zip(("-", "--", "-.", ":"), chosen.values(), strict=False):
        line = ratio.sel(model=model).dropna("weight_bits")
        ax.plot(line.weight_bits, line, dash, marker="o", ms=3.5, color="#010203")
        ends.append((line.values[-1], model, "#010203"))
    return ends


def more_bits(ds: xr.Dataset, groups: dict[str, list[Decoder]]) -> Sentence:
    """Return what the most bits do to rate and energy of PIM-LLM, as a range over all models that memory holds."""
    names: Any = [model.name for members in groups.values() for model in members]
    here = ds.sel(system="pim-llm", model=names).isel(context_len=0)
    few, most = _published(ds), int(ds.weight_bits.max())
    told = []
    for counted in COUNTED:
        rows = here.sel(conventions=counted)
        spent, slow = (
            (rows[v].sel(weight_bits=most) / rows[v].sel(weight_bits=few)).dropna("model")
            for v in ("energy_j", "latency_s")
        )
        told.append(
            f"{spent.min().item():.2g} to {spent.max().item():.2g} times the energy and at most "
            f"{100 * (slow.max().item() - 1):.1g} % more time counted {counted}"
        )
    return Sentence(
        f"At {here.context_len.item()} tokens PIM-LLM needs, with {most} instead of {few} bits, {'; '.join(told)}."
    )
