"""Sentences whose numbers come from a dataset, so that prose cannot drift from results."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr


class Sentence(str):
    """Text that notebooks and pages show as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def speedup_answer(compared: xr.Dataset) -> Sentence:
    """Return the answer of the speed-up page: the range of speed-ups, and what the baseline's array is used for."""
    speedup = compared.speedup.sel(system="pim-llm")
    use = 100 * compared.utilisation.sel(system="tpu-llm")
    best, least = speedup.isel(speedup.argmax(...)), speedup.isel(speedup.argmin(...))
    return Sentence(
        f"**PIM-LLM decodes {least.item():.1f} times ({_where(least)}) to {best.item():.1f} times ({_where(best)}) as fast "
        f"as TPU-LLM**, counted {compared.attrs['conventions']}. The baseline does useful work in {use.min().item():.1f} to "
        f"{use.max().item():.1f} % of its multiplier cycles."
    )


def _where(point: xr.DataArray) -> str:
    return f"{point.model.item()} at {point.context_len.item()} tokens"


def shape_effect(reshaped: xr.Dataset, hybrid: xr.Dataset) -> Sentence:
    """Return how much of a lead is left against the same PEs in the best of the shapes."""
    rates, rival = reshaped.tokens_per_s.squeeze(), hybrid.tokens_per_s.item()
    best = rates.isel(array_rows=int(np.argmax(rates.values)))
    return Sentence(
        f"For {_where(best)}, the lead over the published shape is {rival / rates.isel(array_rows=0).item():.1f}. Over the "
        f"same PEs with {best.array_rows.item():.0f} row in place of {rates.array_rows.values[0]:.0f} it is "
        f"**{rival / best.item():.1f}**."
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
        f"| {name} | " + " | ".join(f"{float(value):.2f}" for value in rates.sel(model=name).values) + " |"
        for name in rates.model.values
    ]
    return "\n".join([head, *rows])
