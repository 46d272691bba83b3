"""Sentences whose numbers come from a dataset, so that prose cannot drift from results."""

from __future__ import annotations

import xarray as xr


class Sentence(str):
    """Text that notebooks and pages show as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def baseline_answer(summary: xr.Dataset) -> Sentence:
    """Return the answer of the baseline page: the range of decoding rates and the use of the array."""
    rates, use = summary.tokens_per_s, summary.utilisation
    fast, slow = rates.isel(rates.argmax(...)), rates.isel(rates.argmin(...))
    return Sentence(
        f"**Between {slow.item():.2f} tokens/s ({_where(slow)}) and {fast.item():.1f} tokens/s ({_where(fast)})**, with "
        f"{100 * float(use.min()):.1f} to {100 * float(use.max()):.1f} % of the array's multiplier cycles doing useful work."
    )


def _where(point: xr.DataArray) -> str:
    return f"{point.model.item()} at {point.context_len.item()} tokens"


def rate_table(rates: xr.DataArray) -> str:
    """Return decoding rates as a Markdown table, a row a model, a column a context length."""
    contexts = rates.context_len.values
    head = "| model | " + " | ".join(f"{n} tokens" for n in contexts) + " |\n|---|" + "--:|" * len(contexts)
    rows = [
        f"| {name} | " + " | ".join(f"{float(value):.2f}" for value in rates.sel(model=name).values) + " |"
        for name in rates.model.values
    ]
    return "\n".join([head, *rows])
