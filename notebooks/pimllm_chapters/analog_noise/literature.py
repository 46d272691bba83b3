"""Chapter 11, how much noise a crossbar may have: what other works found, and what the numbers here say of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from pimllm_chapters.analog_noise.tables import setting
from pimllm_lib.analog.noise.law import families
from pimllm_lib.analog.noise.thresholds import LEVELS
from pimllm_lib.report.numbers import percent
from pimllm_lib.report.tables import Table

_ABSTRACT = "abstract, read at its source"


def _rule(ds: xr.Dataset) -> str:
    worst, sigma = (setting(ds, f"{name}, sign-magnitude", LEVELS[0]) for name in ("worst case", "4 sigma"))
    return (
        f"Over a range of all rows a rise below 1 % takes {worst} bits, over a range set from data {sigma}. The rule "
        "is for converters that lose no sum at all."
    )


def _faults(ds: xr.Dataset) -> str:
    off, on = (percent(float(ds.perplexity_rise.sel(case=f"stuck {kind} 0.1"))) for kind in ("off", "on"))
    return (
        f"Faults raise it here too: by {off} with 10 % of the cells stuck off, {on} with as many stuck on. No closer "
        "comparison: other models, hundreds of times larger, another text, and rates of which the abstract says nothing."
    )


def _inputs(ds: xr.Dataset) -> str:
    found = families(ds)
    cells, outputs = (np.median(found[name]) for name in ("cells that vary or are stuck", "noise of reads and outputs"))
    return (
        f"At equal noise over signal, the loss rises {float(np.median(found['converters'])) / cells:.1f} times as "
        f"much by converters as by cells that vary or are stuck, and {outputs / cells:.1f} times by noise of reads "
        "and outputs (medians). Agrees on quantisation; noise of inputs and rescaling were not tried."
    )


def _training(ds: xr.Dataset) -> str:
    at = ds.remedy_effect
    names = {case: f"{case} noise against {case} control" for case in ("variation 0.6", "exact")}
    if not set(names.values()) <= set(map(str, at.comparison.values)):
        return "Not computed for these models."
    strong, clean = (percent(float(at.sel(comparison=name))) for name in names.values())
    return (
        f"Noise in training changes the perplexity by {strong} at a variation of 0.6 and by {clean} without noise, "
        "against a control of as many steps. Theirs is a long training with quantised inputs and outputs as well; "
        "ours a short one."
    )


#: Work, what it found, how much of it was seen, and what this study has to say of it, from its numbers.
FINDINGS: tuple[tuple[str, str, str, Callable[[xr.Dataset], str]], ...] = (
    ("ISAAC, isaac2016", "rows, cell bits and input bits set the resolution: 9 bits for 256 rows, 1-bit cells and inputs, "
     "8 with its encoding", "second hand", _rule),
    ("ReTern, retern2025", "stuck-at faults raise the perplexity of ternary models of 700M and 3B weights; its remedies "
     "lower it by up to 35 %", _ABSTRACT, _faults),
    ("NORA, nora2025", "language models stand noise of weights and are very sensitive to quantisation and additive noise; "
     "rescaling brings the loss below 1 %", _ABSTRACT, _inputs),
    ("Rasch et al., rasch2023", "noise of inputs and outputs, not of weights, has the largest impact", _ABSTRACT, _inputs),
    ("Analog foundation models, analogfoundation2025", "trained with noise and static ranges, models keep what 4-bit "
     "weights and 8-bit activations have", _ABSTRACT, _training),
    ("Wu et al., memristorreasoning2026", "reasoning falls markedly, and differently from task to task", _ABSTRACT,
     lambda _: "Not tried here: a perplexity says little of it. Tolerance is a property of model and task."),
)  # fmt: skip


def placing(ds: xr.Dataset) -> Table:
    """Return other works' findings, how much of each was seen, and what the numbers here say of it."""
    rows = ({"work": work, "finds": says, "seen": seen, "here": here(ds)} for work, says, seen, here in FINDINGS)
    return Table(rows, long=True, title="Other works' findings, and what the numbers here say of them")
