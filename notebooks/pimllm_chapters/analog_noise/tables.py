"""Chapter 11, how much noise a crossbar may have: its tables, and numbers with their intervals."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pimllm_lib.analog.noise.law import families
from pimllm_lib.analog.noise.thresholds import LEVELS
from pimllm_lib.report.numbers import number, percent, rounded
from pimllm_lib.report.tables import Table, crossed

#: What the names of curves of converters start with.
CONVERTERS = ("worst case", "4 sigma", "unit step")
#: As it stands in the names of curves.
TWOS = "two's complement"


def setting(ds: xr.Dataset, curve: str, level: float, scale: float = 1.0, unit: str = "") -> str:
    """Return a threshold with its interval, in words where it is beyond what was tried."""
    at = ds.sel(curve_name=curve, level=level)
    middle, *ends = (scale * float(at[name]) for name in ("threshold", "threshold_low", "threshold_high"))
    least, most = scale * float(at.least_setting), scale * float(at.most_setting)
    if np.isinf(middle):
        return f"above {rounded(most)}{unit}"
    if middle == 0:
        return f"{'at most' if curve.startswith(CONVERTERS) else 'below'} {rounded(least)}{unit}"
    beyond = {0.0: f"below {rounded(least)}", np.inf: f"above {rounded(most)}"}
    low, high = (beyond.get(end) or rounded(end) for end in ends)
    return f"between {low} and {high}{unit}" if np.isnan(middle) else f"{rounded(middle)}{unit} ({low} to {high})"


#: Catalog name -> what it is.
DEVICES = {
    "cells-mnsim": "MNSIM's assumption", "cells-wan-1s": "RRAM after 1 s", "cells-wan-1d": "RRAM after 1 day",
    "cells-wan-2d": "RRAM after 2 days", "cells-milo": "RRAM, verified", "cells-pcm": "PCM after 1 day",
}  # fmt: skip
#: Curves of published devices -> how they are read.
READINGS = {
    "ideal conversion": "ideal conversion", "ideal conversion, on/off 4.5": "ideal conversion",
    "8 bits, one pass": "8 bits over 4 sigma, one pass", "8 bits, one pass, on/off 4.5": "8 bits over 4 sigma, one pass",
    "8 bits, plane by plane": "8 bits over 4 sigma, sign-magnitude",
    "as published, worst case": "8 bits over all rows, two's complement",
}  # fmt: skip


def rise(at: xr.Dataset) -> str:
    """Return a rise of the perplexity with its interval."""
    middle, low, high = (at[f"perplexity_rise{end}"].item() for end in ("", "_low", "_high"))
    return f"{percent(middle)} ({percent(low, '')} to {percent(high, '')})"


def band(at: xr.Dataset, name: str = "perplexity_rise") -> str:
    """Return a rise with its interval, in %."""
    middle, low, high = (100 * float(at[each]) for each in (name, f"{name}_low", f"{name}_high"))
    digits = 1 if abs(middle) >= 10 else 2
    return f"{middle:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def thresholds(ds: xr.Dataset) -> Table:
    """Return each curve's thresholds with their intervals, and the trials behind its points."""
    rows = []
    for curve in map(str, ds.curve_name.values):
        at, mine = ds.sel(curve_name=curve), ds.sel(case=ds.curve == curve)
        row = {"departure": curve}
        for level in LEVELS:
            row[f"{100 * level:g} % at"] = setting(ds, curve, level)
        tried = f"{number(float(at.least_setting))} to {number(float(at.most_setting))}"
        rows.append(row | {"tried": tried, "trials a point": f"{float(mine.trials.max()):.0f}"})
    return Table(rows, long=True, title="Thresholds of each departure, with 95 % intervals")


def points(ds: xr.Dataset) -> Table:
    """Return the published converter with ideal cells, and the published devices, a row each."""
    curves = [str(curve) for curve in ds.curve_name.values if str(curve).startswith(CONVERTERS)]
    alone = [(curve, ds.sel(case=(ds.curve == curve) & (ds.value == 8))) for curve in curves]
    told = [("ideal", f"8 bits, {curve}", at.isel(case=0)) for curve, at in alone if at.case.size]
    for case in ds.case.values[np.isin(ds.curve.values, list(READINGS))]:
        at = ds.sel(case=case)
        name = str(at.setting.item()) or "cells-mnsim"
        told.append((DEVICES.get(name, name), READINGS[str(at.curve.item())], at))
    rows = (
        {"cells": cells, "reading": reading, "rise (%)": band(at), "trials": f"{float(at.trials):.0f}"}
        for cells, reading, at in told
    )  # fmt: skip
    return Table(rows, long=True, title="The published converter with ideal cells, and the published devices")


def matrices(ds: xr.Dataset) -> Table:
    """Return what a variation in one layer, or one kind of matrix, does alone."""
    rows = []
    for case in ds.case.values[np.isin(ds.curve.values, ("layer", "kind"))]:
        at = ds.sel(case=case)
        touched = at.noise_to_signal.values[at.noise_to_signal.values > 0]
        kind = str(at.curve.item()) == "kind"
        rows.append({
            "on crossbars alone": f"{at.curve.item()} {at.setting.item()}", "matrices": len(touched), "rise (%)": band(at),
            "noise over signal": f"{touched.mean():.3f}" if touched.size else "",
            "kappa": f"{float(ds.kind_kappa.sel(kind=str(at.setting.item()))):.2f}" if kind else "",
        })  # fmt: skip
    return Table(rows, title="A variation in one layer, or in one kind of matrix, alone")


def remedies(ds: xr.Dataset) -> Table:
    """Return each remedy beside its control: the change of the perplexity, paired, with its interval, and the cost."""
    rows = []
    for place in range(ds.comparison.size):
        at = ds.isel(comparison=place)
        low, high = (float(at[f"remedy_effect_{end}"]) for end in ("low", "high"))
        verdict = "helps" if high < 0 else "harms" if low > 0 else f"none above {percent(max(-low, high))}"
        case, _, control = str(at.comparison.item()).partition(" against ")
        rows.append({"remedy": str(at.remedy.item()), "case": case, "control": control,
                     "perplexity (%)": band(at, "remedy_effect"), "effect": verdict,
                     "cost": str(at.cost.item())})  # fmt: skip
    return Table(rows, long=True, title="Each remedy beside its control")


def kappas(ds: xr.Dataset) -> Table:
    """Return rise over noise to signal of each family: cases, least, median and greatest."""
    rows = []
    for family, found in families(ds).items():
        if len(found):
            told = [f"{value:.2f}" for value in np.quantile(found, (0, 0.5, 1))]
            row = {"departures": family, "cases": len(found)}
            rows.append(row | dict(zip(("least", "median", "greatest"), told, strict=True)))
    return Table(rows, title="Rise of the loss over noise to signal, by family")


def wide(ds: xr.Dataset) -> Table:
    """Return noise over signal in random matrices of each shape."""
    found = ds.wide_noise_to_signal.transpose("shape", "departure")
    return crossed(
        found, "{:.2g}".format, "{}", "inputs x outputs", title="Noise over signal in random matrices of each shape"
    )
