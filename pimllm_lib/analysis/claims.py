"""What was published beside what is computed, and whether they agree to the printed digit."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core import joining
from pimllm_lib.core.conventions import PRESETS
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import fingerprint
from pimllm_lib.core.paths import DATA
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import battery, compare, lead, operations, summary

#: How a number was shortened for print -> how to shorten ours. Text that cuts digits off says so in its row.
ROUNDINGS = {"rounded": ROUND_HALF_EVEN, "truncated": ROUND_DOWN}
#: Under which the paper counts words for a battery: 5 Wh, and three tokens for two words.
BATTERY = {"battery_wh": 5.0, "tokens_per_word": 1.5}
#: Words of a claim that names a bound -> whether a computed value keeps it.
BOUNDS: dict[str, Callable[[float, float], bool]] = {"at least": operator.ge, "below": operator.lt}

#: Unit of print -> how many of it make one of the variable's own unit. Any other unit in print is the variable's own.
SCALES = {"%": 100.0, "GOPS": 1e-9, "GOPS/W": 1e-9}
#: What the paper holds its machine against, and what a ratio of a machine to itself is.
BASELINE = "tpu-llm"
_RATIOS = {"speedup": 1.0, "energy_gain": 0.0}


def published() -> pd.DataFrame:
    """Return data/published.csv: one row per published number, values as printed (text)."""
    return pd.read_csv(DATA / "published.csv", dtype=str, keep_default_na=False)


def earlier() -> pd.DataFrame:
    """Return data/earlier.csv: what is printed for earlier accelerators, values as printed (text)."""
    return pd.read_csv(DATA / "earlier.csv", dtype=str, keep_default_na=False)


def earlier_values() -> xr.Dataset:
    """Return the printed numbers of earlier accelerators in SI units along model and context_len, the largest of each."""
    rows = earlier()
    value = rows.value.astype(float) / rows.unit.map(SCALES)
    table = rows.assign(value=value, context_len=rows.context_len.astype(int))
    best = table.groupby(["quantity", "model", "context_len"]).value.max()
    return xr.Dataset({name: xr.DataArray.from_series(best[name]) for name in rows.quantity.unique()})


def as_printed(value: float, decimals: int, rounding: str) -> str:
    """Return a number shortened as the publication shortened it.

    >>> as_printed(79.289, 1, "truncated"), as_printed(79.289, 1, "rounded")
    ('79.2', '79.3')
    >>> as_printed(79.289, -1, "rounded")
    '80'
    """
    step = Decimal(1).scaleb(-decimals)
    return f"{Decimal(value).quantize(step, rounding=ROUNDINGS[rounding]):f}"


def verdict(claim: dict[str, str], computed: float) -> str:
    """Return "agrees" when a computed value is what is printed, or keeps the printed bound; else "differs"."""
    if claim["rounding"] in BOUNDS:
        holds = BOUNDS[claim["rounding"]](computed, float(claim["value"]))
    else:
        holds = as_printed(computed, int(claim["decimals"]), claim["rounding"]) == claim["value"]
    return "agrees" if holds else "differs"


def check(ds: xr.Dataset) -> pd.DataFrame:
    """Return the claims a dataset can answer: claim, where, published, computed, ratio, verdict.

    A row is answered when the dataset has its quantity as a variable and its system, model and context as labels, and was
    counted as published, alone or selected from several conventions.
    Both numbers are in the unit of print: shares and gains in percent, operations in GOPS.
    """
    rows = published()
    rows = rows[[_answers(ds, claim) for claim in rows.to_dict("records")]]
    return _beside(rows, {"computed": [float(in_print(claim, ds)) for claim in rows.to_dict("records")]}, "computed")


def _beside(rows: pd.DataFrame, computed: Mapping[str, list[float]], judged: str) -> pd.DataFrame:
    """Return published numbers beside columns of computed ones; ratio and verdict are of the column that is judged."""
    claims = rows.to_dict("records")
    units = [f" {claim['unit']}" if claim["unit"] in SCALES else "" for claim in claims]
    verdicts = [verdict(claim, value) for claim, value in zip(claims, computed[judged], strict=True)]
    table = rows[["id", "claim", "where"]].assign(published=rows.value + units, **computed)
    return table.assign(ratio=table[judged] / rows.value.astype(float), verdict=verdicts).set_index("id")


def _answers(ds: xr.Dataset, claim: dict[str, str]) -> bool:
    counted = ds.coords.get("conventions", ds.attrs.get("conventions"))
    return (
        claim["quantity"] in ds
        and np.ndim(counted) == 0
        and str(np.asarray(counted)) == "as-published"
        and claim["system"] in ds.system.values
        and claim["model"] in ds.model.values
        and int(claim["context_len"]) in ds.context_len.values
        and set(ds[claim["quantity"]].dims) <= {"system", "model", "context_len"}
        and all(is_the_catalogs(ds, claim[kind]) for kind in ("system", "model"))
        and (claim["quantity"] not in _RATIOS or _against_published(ds, claim["quantity"]))
    )


def _against_published(ds: xr.Dataset, ratio: str) -> bool:
    """Return whether a ratio is to the published baseline, which then is what it is to itself."""
    there = BASELINE in ds.system.values and is_the_catalogs(ds, BASELINE)
    return there and bool((ds[ratio].sel(system=BASELINE) == _RATIOS[ratio]).all())


def is_the_catalogs(ds: xr.Dataset, name: str) -> bool:
    """Return whether what bears a name in a dataset is what the catalog has under it, as far as the dataset tells."""
    printed = [item for item in joining.entries(ds.attrs) if item.startswith(f"{name}=")]
    registry = catalog.systems if name in catalog.systems else catalog.models
    return all(item == f"{name}={fingerprint(registry[name])}" for item in printed)


def in_print(claim: Mapping[str, str], ds: xr.Dataset) -> Any:
    """Return what a dataset holds for a claim, in the unit of print, along the dimensions that it has beside."""
    where = {"system": claim["system"], "model": claim["model"], "context_len": int(claim["context_len"])}
    return ds[claim["quantity"]].sel(where).values * SCALES.get(claim["unit"], 1.0)


def answers(models: list[str], contexts: list[int], conventions: str) -> dict[str, xr.Dataset]:
    """Return for each model what answers the published numbers about it; nothing for one that the memory does not hold."""
    both = ["tpu-llm", "pim-llm"]
    try:
        ds = evaluate(system=both, model=models, context_len=contexts, conventions=conventions, detail="component")
        return dict.fromkeys(models, merits(compare(summary(ds))))
    except BadInput:
        if len(models) == 1:
            return {}
        half = len(models) // 2
        return answers(models[:half], contexts, conventions) | answers(models[half:], contexts, conventions)


def merits(compared: xr.Dataset) -> xr.Dataset:
    """Return a comparison with the figures of merit that only published numbers need: words, operations, leads."""
    return lead(operations(battery(compared, **BATTERY)), earlier_values())


def every() -> pd.DataFrame:
    """Return every published number with what the library computes under each preset, the verdict, and the reason.

    Columns: claim, where, published, one for each preset, ratio (as-published over published), verdict, committed, reason.
    A preset under which a number cannot be had, such as a model too large for memory, has NaN.
    """
    return _every((DATA / "published.csv").read_bytes()).copy()


@lru_cache(maxsize=1)  # pages, tables and verify ask for it, and it takes seconds
def _every(printed: bytes) -> pd.DataFrame:
    rows = published()
    found = {name: _answered(rows, name) for name in PRESETS}
    return _beside(rows, found, "as-published").assign(committed=list(rows.verdict), reason=list(rows.reason))


def _answered(rows: pd.DataFrame, conventions: str) -> list[float]:
    """Return what each row comes to under one preset."""
    by_model = answers(list(rows.model.unique()), sorted({int(n) for n in rows.context_len}), conventions)
    claims = rows.to_dict("records")
    return [float(in_print(c, by_model[c["model"]])) if c["model"] in by_model else float("nan") for c in claims]


def moved(table: pd.DataFrame | None = None) -> list[str]:
    """Return one line for each published number whose verdict is not the committed one."""
    table = every() if table is None else table
    rows = table[table.verdict != table.committed].reset_index().to_dict("records")
    return [f"claim {row['id']} {row['verdict']}, and its committed verdict is {row['committed']}" for row in rows]
