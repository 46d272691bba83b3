"""Sentences whose numbers come from a dataset, so that prose cannot drift from results."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis.beside import WHOLE
from pimllm_lib.core.errors import one_line
from pimllm_lib.report.numbers import percent, raised

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
        return raised(self)


def where(point: xr.DataArray) -> str:
    """Return the model and context length of one value of a result."""
    return f"{escaped(point.model.item())} at {point.context_len.item()} tokens"


def what_stands(system: str = "pim-llm") -> str:
    """Return what the energy of a whole machine holds for: cells and temperature of SRAM, and what converters draw idle."""
    machine: Any = catalog.system(system)
    buffer, adc = machine.pim.tile.buffer, machine.pim.tile.crossbar.adc
    return (
        f"{_BUFFERS if buffer.name == 'buffer-90nm' else f'buffers {escaped(buffer.name)}'} at "
        f"{buffer.temperature_k:g} K, SRAM that leaks "
        f"{machine.sram.leaking_w:g} W, converters that draw {percent(adc.idle_share)} idle"
    )


def most_won(verdicts: xr.DataArray) -> tuple[int, int, str]:
    """Return in how many pairs of model and context the best way of building PIM-LLM wins, of how many, and its name.

    verdicts: one of `beside.verdicts`, along built, of which whole machines alone count.
    """
    whole = verdicts.sel(built=[name for name in WHOLE if name in verdicts.built.values])
    wins = (whole == 1).sum(["model", "context_len"]).values
    best = int(wins.argmax())
    return (
        int(wins[best]),
        int(whole.isel(built=0).notnull().sum()),
        str(whole.built.values[best]).removeprefix("whole, "),
    )


def agreement(checked: pd.DataFrame) -> Sentence:
    """Return how many published numbers the computed ones equal."""
    if checked.empty:
        return Sentence("No published number is of these points.")
    agree = int((checked.verdict == "agrees").sum())
    return Sentence(f"{agree} of {len(checked)} published numbers come out as printed.")
