"""Chapter 11: other people's findings beside its own, each with where it was read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import xarray as xr

from pimllm_lib.report.chapters.analog_noise import percent, setting
from pimllm_lib.report.noise_results import LEVELS
from pimllm_lib.report.tables import Table

_ABSTRACT = "abstract, read at its source"


@dataclass(frozen=True)
class Finding:
    """What a work found; read: how much of it was seen; here: what this study has to say of it, from its numbers."""

    work: str
    says: str
    read: str
    here: Callable[[xr.Dataset], str]


def _rise(ds: xr.Dataset, case: str) -> str:
    return percent(float(ds.perplexity_rise.sel(case=case)))


def _rule(ds: xr.Dataset) -> str:
    worst, sigma = (_bits(ds, f"{name}, sign-magnitude") for name in ("worst case", "4 sigma"))
    return (
        f"Agrees for a range of all rows: a rise below 1 % takes {worst} bits. It is what a converter must resolve if "
        f"no sum may ever be lost; with a range set from data {sigma} bits do."
    )


def _bits(ds: xr.Dataset, curve: str) -> str:
    return setting(ds, curve, LEVELS[0]).partition(" ")[0]


def _faults(ds: xr.Dataset) -> str:
    return (
        f"Same direction, smaller here: 10 % of the cells stuck off give {_rise(ds, 'stuck off 0.1')}, stuck on "
        f"{_rise(ds, 'stuck on 0.1')}. Models a hundred times larger, another share of zeros and another text stand "
        "against ours; spare columns, a remedy of another kind, are in the table above."
    )


def _inputs(ds: xr.Dataset) -> str:
    return (
        f"Agrees in kind: one bit too few costs more than any programming error of published cells, and noise of "
        f"{setting(ds, 'output noise', LEVELS[0])} on-cell currents at a converter costs 1 %, where a variation may be "
        f"{setting(ds, 'variation', LEVELS[0])}."
    )


def _training(ds: xr.Dataset) -> str:
    at = ds.set_index(comparison="comparison").remedy_effect if "remedy_effect" in ds else None
    if at is None or "variation 0.6 noise against variation 0.6 control" not in at.comparison.values:
        return "Not computed for these models."
    strong, clean = (
        percent(float(at.sel(comparison=f"{case} noise against {case} control"))) for case in ("variation 0.6", "exact")
    )
    return (
        f"Noise in training changes the perplexity by {strong} at a variation of 0.6 and by {clean} without any "
        "noise, against a control of as many steps. Their training is far longer, with noise of inputs and clipping "
        "of weights too."
    )


FINDINGS = (
    Finding("ISAAC, isaac2016", "rows, cell bits and input bits set the resolution: 9 bits for 256 rows, 1-bit cells and "
            "inputs, 8 with its encoding", "second hand", _rule),
    Finding("ReTern, retern2025", "stuck-at faults raise the perplexity of ternary models of 700M and 3B weights; its "
            "remedies lower it by up to 35 %", _ABSTRACT, _faults),
    Finding("NORA, nora2025", "language models stand noise of weights and are very sensitive to quantisation and additive "
            "noise; rescaling brings the loss below 1 %", _ABSTRACT, _inputs),
    Finding("Rasch et al., rasch2023", "noise of inputs and outputs, not of weights, has the largest impact", _ABSTRACT,
            _inputs),
    Finding("Analog foundation models, analogfoundation2025", "trained with noise and static ranges, models keep what 4-bit "
            "weights and 8-bit activations have", _ABSTRACT, _training),
    Finding("Wu et al., memristorreasoning2026", "reasoning falls markedly, and differently from task to task", _ABSTRACT,
            lambda _: "Not tried here: a perplexity says little of it. Tolerance is a property of model and task."),
)  # fmt: skip


def placing(ds: xr.Dataset) -> Table:
    """Return other works' findings, how much of each was seen, and what the numbers here say of it."""
    rows = [{"work": f.work, "finds": f.says, "seen": f.read, "here": f.here(ds)} for f in FINDINGS]
    return Table(pd.DataFrame(rows), long=True)
