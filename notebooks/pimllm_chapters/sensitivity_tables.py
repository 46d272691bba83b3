"""Chapter 13, sensitivity: its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib.analysis import uncertainty
from pimllm_lib.analysis.claims import published
from pimllm_lib.analysis.robustness import BANDS, SIDES
from pimllm_lib.analysis.uncertainty import Constant
from pimllm_lib.core.units import UNITS, si_unit
from pimllm_lib.report.tables import Table


def distributions(drawn: Sequence[Constant]) -> Table:
    """Return every constant that is drawn: nominal value, range, law, what it moves with, status, source."""
    rows = [
        {
            "constant": c.name,
            "nominal": _readable(c.field, c.nominal),
            "from": _readable(c.field, c.low),
            "to": _readable(c.field, c.high),
            "law": c.law,
            "one draw with": "" if (shared := uncertainty.factor(c)) == c.name else shared,
            "status": c.status.replace("_", " "),
            "source": c.source,
        }
        for c in drawn
    ]
    return Table(pd.DataFrame(rows), long=True)


def decisions() -> Table:
    """Return which constants share a draw and which ranged ones are not drawn, with the reasons."""
    moved = [
        {"treated": f"one draw: {name}", "constants": ", ".join(names), "why": why}
        for name, (names, why) in uncertainty.TOGETHER.items()
    ]
    left = [{"treated": "held", "constants": name, "why": why} for name, why in uncertainty.LEFT_OUT.items()]
    return Table(pd.DataFrame(moved + left))


def _readable(field: str, value: float) -> str:
    """Return a value with the largest unit that keeps it at or above one."""
    si = si_unit(field)
    if si == "1" or value == 0:
        return _digits(value)
    fitting = sorted(((factor, symbol) for symbol, (unit, factor) in UNITS.items() if unit == si), reverse=True)
    factor, symbol = next(((f, s) for f, s in fitting if value / f >= 1 - 1e-9), fitting[-1])
    return f"{_digits(value / factor)} {symbol}"


def headline_table(ds: xr.Dataset) -> Table:
    """Return the bands of every headline at the first and the last context: catalog's own value, then 5, 50 and 95 %."""
    rows = []
    for model in ds.model.values:
        for n in dict.fromkeys(int(ds.context_len.values[i]) for i in (0, -1)):
            at = ds.sel(model=model, context_len=n)
            row = {"model": str(model), "context": n, "speed-up": _three(at.speedup)}
            row["gain in tokens/J (%)"] = _three(100 * at.energy_gain)
            for name, unit in (("tokens_per_s", "tokens/s"), ("tokens_per_j", "tokens/J"), ("power_w", "W")):
                for system in at.system.values:
                    row[f"{unit}, {system}"] = _three(at[name].sel(system=system))
            rows.append(row | {"tiles (cm²)": _three(1e4 * at.tile_area_m2)})
    return Table(pd.DataFrame(rows), long=True)


def _three(value: xr.DataArray) -> str:
    own, low, middle, high = (_digits(value.sel(band=band).item()) for band in ("catalog", *BANDS))
    return f"{own} ({low}, {middle}, {high})"


def sign_table(ds: xr.Dataset) -> Table:
    """Return in how many draws PIM-LLM decodes more tokens for each joule, by model and context."""
    table = ds.thriftier_share.to_pandas().map(percent)
    return Table(table.rename_axis(columns=None).rename(columns=lambda n: f"l = {n}").reset_index())


def by_quantity(ds: xr.Dataset) -> Table:
    """Return for each quantity that is claimed what holding means, and how many claims hold in most, some and no draws."""
    kinds = published().set_index("id").quantity.loc[ds.claim.values].to_numpy()
    rows = []
    for quantity in dict.fromkeys(kinds):
        share = ds.holding_share.values[kinds == quantity]
        some = int(((share > 0) & (share < 0.95)).sum())
        counts = {"in 95 % or more": int((share >= 0.95).sum()), "in some": some, "in none": int((share == 0).sum())}
        rows.append({"quantity": quantity, "kept": SIDES[quantity][0], "why": SIDES[quantity][1], **counts})
    return Table(pd.DataFrame(rows))


def claim_table(ds: xr.Dataset) -> Table:
    """Return every published number: its side, its nominal ratio to print, and the share of draws in which it holds."""
    rows = published().set_index("id").loc[ds.claim.values]
    share, ratio = ds.holding_share.values, ds.claim_ratio.values
    shown = rows[["claim", "where"]].assign(
        published=rows.value + " " + rows.unit.where(rows.unit != "1", ""),
        kept=[SIDES[quantity][0] for quantity in rows.quantity],
        ratio=["" if np.isnan(x) else f"{x:.3g}" for x in ratio],
        holds=["not to be had" if np.isnan(x) else percent(x) for x in share],
    )
    return Table(shown.rename(columns={"where": "in the paper", "holds": "holds in draws"}), long=True)


def percent(share: Any) -> str:
    """Return a share in percent: whole, small ones with the digit that tells them from none and from all."""
    value = 100 * float(share)
    digits = ".2g" if 0 < value < 1 else ".4g" if 99 < value < 100 else ".0f"
    return f"{value:{digits}} %"


def _digits(value: float) -> str:
    """Return a number with three digits, a large one whole."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
