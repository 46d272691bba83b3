"""Sentences whose numbers come from a dataset, so that prose cannot drift from results."""

from __future__ import annotations

import pandas as pd
import xarray as xr


class Sentence(str):
    """Text that notebooks and pages show as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def baseline_answer(summary: xr.Dataset) -> Sentence:
    """Return the answer of the baseline page: the range of decoding rates and the use of the array."""
    use = 100 * summary.utilisation
    return Sentence(
        f"{rate_range(summary.tokens_per_s)}, with {use.min().item():.1f} to {use.max().item():.1f} % of the array's "
        f"multiplier cycles doing useful work."
    )


def rate_range(rates: xr.DataArray) -> Sentence:
    """Return the lowest and the highest rate, and where they stand."""
    fast, slow = rates.isel(rates.argmax(...)), rates.isel(rates.argmin(...))
    return Sentence(
        f"**Between {slow.item():.2f} tokens/s ({_where(slow)}) and {fast.item():.1f} tokens/s ({_where(fast)})**"
    )


def _where(point: xr.DataArray) -> str:
    return f"{point.model.item()} at {point.context_len.item()} tokens"


def agreement(checked: pd.DataFrame) -> Sentence:
    """Return how many published numbers the computed ones equal."""
    agree = int((checked.verdict == "agrees").sum())
    return Sentence(
        f"{agree} of the {len(checked)} published rates follow from one cycle formula to the printed digit."
    )


def rate_table(rates: xr.DataArray) -> str:
    """Return decoding rates as a Markdown table, a row a model, a column a context length."""
    contexts = rates.context_len.values
    head = (
        "| tokens per second at context | "
        + " | ".join(f"{n}" for n in contexts)
        + " |\n|---|"
        + "--:|" * len(contexts)
    )
    rows = [
        f"| {name} | " + " | ".join(f"{float(value):.2f}" for value in rates.sel(model=name).values) + " |"
        for name in rates.model.values
    ]
    return "\n".join([head, *rows])
