"""Whole answers: a prompt, then tokens one by one while the context grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.joining import united
from pimllm_lib.core.schema import annotate
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import total


def generate(
    *, system: Any, model: Any, prompt: int, new_tokens: int, conventions: Any = "corrected", reader: Any = None
) -> xr.Dataset:
    """Return what an answer costs: `new_tokens` tokens after a prompt of `prompt` tokens.

    Prefill gives the first token; each further one is a decode step, whose context is everything before it. Dimensions
    as in `evaluate`, without context_len. reader: the one system that reads the prompt, itself where None: the same
    machine with another routing, for example, since what moving the cache between two machines takes is not counted.
    time_to_first_token_s, time_per_token_s (mean of the tokens after the first, NaN when there is none), answer_s,
    answer_j. Raises BadInput for a prompt or a number of tokens that is no whole number of at least 1.
    """
    for name, value in (("prompt", prompt), ("new_tokens", new_tokens)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise BadInput(f"{name} is {clip(value)}; wanted a whole number of at least 1")
    args = {"system": system, "model": model, "conventions": conventions, "variables": ["latency_s", "energy_j"]}
    reading = args if reader is None else args | {"system": reader}
    first = total(evaluate(context_len=prompt, phase="prefill", **reading)).isel(context_len=0, drop=True)
    if reader is not None:
        first = first.squeeze("system", drop=True)
    if new_tokens == 1:
        later = first * 0
    else:
        growing = np.arange(prompt + 1, prompt + new_tokens)
        later = total(evaluate(context_len=growing, **args)).sum("context_len")
    steps = new_tokens - 1
    return annotate(
        xr.Dataset(
            {
                "time_to_first_token_s": first.latency_s,
                "time_per_token_s": later.latency_s / steps if steps else later.latency_s * np.nan,
                "answer_s": first.latency_s + later.latency_s,
                "answer_j": first.energy_j + later.energy_j,
            },
            attrs=united([first.attrs, later.attrs]),
        )
    )
