"""Sentences whose numbers come from a dataset, so that prose cannot drift from results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis.beside import WHOLE, verdicts
from pimllm_lib.analysis.claims import is_the_catalogs
from pimllm_lib.analysis.uncertainty import SYSTEMS
from pimllm_lib.core.errors import one_line
from pimllm_lib.report.numbers import listed, percent
from pimllm_lib.system.metrics import rivals

P = ParamSpec("P")

#: What begins markup in Markdown, in HTML and in formulas; an underscore within a word does not.
_MARKUP = re.compile(r"[<>&\"'`*\[\]{}$|~\\^#!]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")


def escaped(name: object) -> str:
    """Return a name, or whatever came from a file, so that Markdown and HTML show it as it is, on one line.

    >>> escaped("<b>x</b>"), escaped("opt-6.7b"), escaped("my_model")
    ('&#60;b&#62;x&#60;/b&#62;', 'opt-6.7b', 'my_model')
    """
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", one_line(str(name)))


#: What the buffers of the published machine are.
_BUFFERS = "buffers of the published table, which are fast cells"


class Sentence(str):
    """Text that notebooks and pages show as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def where(point: xr.DataArray) -> str:
    """Return the model and context length of one value of a result."""
    return f"{escaped(point.model.item())} at {point.context_len.item()} tokens"


def called(name: object) -> str:
    """Return the name of a system as prose has it."""
    return str(name).upper() if name in SYSTEMS else escaped(name)


def are_published(ds: xr.Dataset) -> bool:
    """Return whether the systems of a result are the two of the paper, and what the catalog has under their names."""
    return list(ds.system.values) == list(SYSTEMS) and all(is_the_catalogs(ds, name) for name in SYSTEMS)


def of_published(otherwise: Callable[P, str]) -> Callable[[Callable[P, Sentence]], Callable[P, Sentence]]:
    """Make a sentence about the published machines give way to another one where a result is of other systems.

    Both are called with the same datasets. The other sentence ends with what the text around it is about.
    """

    def made(said: Callable[P, Sentence]) -> Callable[P, Sentence]:
        @wraps(said)
        def chosen(*asked: P.args, **named: P.kwargs) -> Sentence:
            results = [one for one in asked if isinstance(one, xr.Dataset) and "system" in one.dims]
            if all(map(are_published, results)):
                return said(*asked, **named)
            return Sentence(f"{otherwise(*asked, **named)}{written_about(results[0].system.values)}")

        return chosen

    return made


def written_about(names: Iterable[object]) -> str:
    """Return what the text around computed sentences is about, where these are about systems of a reader's own."""
    return (
        f"\n\nWhat is computed on this page is of {listed(map(escaped, names))}; the text in between was written about "
        "TPU-LLM and PIM-LLM as published."
    )


def stand_ins(systems: Sequence[str]) -> Sentence | None:
    """Return which systems the names of the published two stand for on a page, None where these are meant themselves."""
    base, rival = (catalog.system(one) for one in systems)
    if all(one is catalog.systems[name] for name, one in zip(SYSTEMS, (base, rival), strict=True)):
        return None
    return Sentence(
        f"**On this page TPU-LLM stands for {escaped(base.name)}, PIM-LLM for {escaped(rival.name)}**, in figures and "
        "tables too; what is not computed was written about the two as published."
    )


def ends(values: xr.DataArray, form: str = ".3g", unit: str = "") -> str:
    """Return the least and the largest of some values, each with its model and context."""
    least, most = (values.isel(at) for at in (values.argmin(...), values.argmax(...)))
    one = f"{least.item():{form}}{unit} ({where(least)})"
    return one if least.equals(most) else f"{one} to {most.item():{form}}{unit} ({where(most)})"


def against_first(compared: xr.Dataset, variable: str, said: str, *, form: str = ".3g", unit: str = "") -> str:
    """Return for each system but the first how it stands to the first, `said` with {name}, {ends} and {base} filled in."""
    base = escaped(compared.system.values[0])
    told = (
        said.format(name=escaped(name), ends=ends(compared[variable].sel(system=name), form, unit), base=base)
        for name in rivals(compared).system.values
    )
    return "; ".join(told)


def what_stands(system: str = "pim-llm") -> str:
    """Return what the energy of a whole machine holds for: cells and temperature of SRAM, and what converters draw idle."""
    machine: Any = catalog.system(system)
    buffer, adc = machine.pim.tile.buffer, machine.pim.tile.crossbar.adc
    return (
        f"{_BUFFERS if buffer.name == 'buffer-90nm' else f'buffers {escaped(buffer.name)}'} at "
        f"{buffer.temperature_k:g} K, SRAM that leaks "
        f"{machine.sram.leaking_w:g} W, converters that draw {percent(adc.idle_share)} idle"
    )


def bought_answer(ds: xr.Dataset) -> Sentence:
    """Return how often a whole machine beats the best that one can buy, from the dataset of the chapter on these."""
    won = verdicts(ds).sel(built=[name for name in WHOLE if name in ds.built.values])

    def best(which: str) -> str:
        table = won[which]
        wins: xr.DataArray = (table == 1).sum(["model", "context_len"])
        of, most = table.isel(built=0).notnull().sum().item(), wins.values.max()
        name = str(wins.built.values[wins.values.argmax()])
        return f"{most} of {of} pairs of model and context ({name})"

    return Sentence(
        "Beside machines that one can buy, with the same one-bit models, at best a whole PIM-LLM is faster than the fastest "
        f"in {best('faster')}, and takes less energy than the thriftiest that was measured in {best('thriftier')}."
    )


def agreement(checked: pd.DataFrame) -> Sentence:
    """Return how many published numbers the computed ones equal."""
    agree = int((checked.verdict == "agrees").sum())
    return Sentence(f"{agree} of {len(checked)} published numbers come out as printed.")


def rate_table(rates: xr.DataArray, corner: str) -> str:
    """Return values as a Markdown table, a row a model, a column a context length."""
    contexts = rates.context_len.values
    head = f"| {corner} | " + " | ".join(f"{n}" for n in contexts) + " |\n|---|" + "--:|" * len(contexts)
    rows = [
        f"| {escaped(name)} | " + " | ".join(f"{float(value):.2f}" for value in rates.sel(model=name).values) + " |"
        for name in rates.model.values
    ]
    return "\n".join([head, *rows])


def rates_said(compared: xr.Dataset) -> str:
    """Return how fast each system decodes beside the first, or how fast the only one does."""
    counted = escaped(compared.attrs["conventions"])
    if compared.sizes["system"] == 1:
        rates = ends(compared.tokens_per_s.squeeze("system"), unit=" tokens/s")
        return f"**{escaped(compared.system.item())} decodes {rates}**, counted {counted}."
    told = against_first(compared, "speedup", "{name} decodes {ends} as fast as {base}", unit=" times")
    return f"**{told}**, counted {counted}."


@of_published(rates_said)
def speedup_answer(compared: xr.Dataset) -> Sentence:
    """Return the answer of the speed-up page: the range of speed-ups, and what the baseline's array is used for."""
    speedup = compared.speedup.sel(system="pim-llm")
    use = 100 * compared.utilisation.sel(system="tpu-llm")
    best, least = speedup.isel(speedup.argmax(...)), speedup.isel(speedup.argmin(...))
    return Sentence(
        f"**PIM-LLM decodes {least.item():.1f} times ({where(least)}) to {best.item():.1f} times ({where(best)}) as fast "
        f"as TPU-LLM**, counted {escaped(compared.attrs['conventions'])}. The baseline does useful work in "
        f"{use.min().item():.1f} to "
        f"{use.max().item():.1f} % of its multiplier cycles."
    )
