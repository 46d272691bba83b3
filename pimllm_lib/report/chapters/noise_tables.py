"""Chapter 11: its tables, and the sentences that go with them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib.report.chapters.analog_noise import percent, setting, shipped
from pimllm_lib.report.noise_results import LEVELS
from pimllm_lib.report.noise_runs import agreement
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence

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


def band(at: xr.Dataset, name: str = "perplexity_rise") -> str:
    """Return a rise with its interval, in %."""
    middle, low, high = (100 * float(at[each]) for each in (name, f"{name}_low", f"{name}_high"))
    digits = 1 if abs(middle) >= 10 else 2
    return f"{middle:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def thresholds(ds: xr.Dataset) -> Table:
    """Return each curve's thresholds with their intervals, and how many trials stand behind each of its points."""
    rows = []
    for curve in map(str, ds.curve_name.values):
        mine = ds.sel(case=ds.curve == curve)
        rows.append({
            "departure": curve, **{f"{100 * level:g} % at": setting(ds, curve, level) for level in LEVELS},
            "tried from": f"{float(ds.least_setting.sel(curve_name=curve)):g}",
            "to": f"{float(ds.most_setting.sel(curve_name=curve)):g}", "trials a point": f"{float(mine.trials.max()):.0f}",
        })  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def points(ds: xr.Dataset) -> Table:
    """Return the published converter with ideal cells, and the published devices, a row each."""
    rows = [
        {"cells": "ideal", "reading": f"8 bits, {curve}", "rise (%)": band(at), "trials": f"{float(at.trials):.0f}"}
        for curve, at in _at(ds, 8.0)
    ]
    for case in ds.case.values[np.isin(ds.curve.values, list(READINGS))]:
        at = ds.sel(case=case)
        name = str(at.setting.item()) or "cells-mnsim"
        rows.append({"cells": DEVICES.get(name, name), "reading": READINGS[str(at.curve.item())], "rise (%)": band(at),
                     "trials": f"{float(at.trials):.0f}"})  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def _at(ds: xr.Dataset, bits: float) -> list[tuple[str, xr.Dataset]]:
    """Return the cases of so many bits on curves of converters."""
    known = [
        str(curve) for curve in ds.curve_name.values if str(curve).startswith(("worst case", "4 sigma", "unit step"))
    ]
    found = [(curve, ds.sel(case=(ds.curve == curve) & (ds.value == bits))) for curve in known]
    return [(curve, at.isel(case=0)) for curve, at in found if at.case.size]


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
    return Table(pd.DataFrame(rows))


def additivity(ds: xr.Dataset) -> Sentence:
    """Return whether single layers and single kinds add up to the whole."""
    whole = float(np.log1p(ds.perplexity_rise.sel(case="variation 0.4")))
    sums = [float(np.log1p(ds.perplexity_rise.sel(case=ds.curve == curve)).sum()) for curve in ("layer", "kind")]
    return Sentence(
        f"Layers by themselves add up to {100 * sums[0] / whole:.0f} % of the rise that all of them have together, "
        f"kinds of matrix to {100 * sums[1] / whole:.0f} %."
    )


def remedies(ds: xr.Dataset) -> Table:
    """Return each remedy beside its control: the change of the perplexity, paired, with its interval, and the cost."""
    rows = []
    for place in range(ds.comparison.size):
        at = ds.isel(comparison=place)
        low, high = float(at.remedy_effect_low), float(at.remedy_effect_high)
        verdict = "helps" if high < 0 else "harms" if low > 0 else f"none above {percent(max(-low, high))}"
        case, _, control = str(at.comparison.item()).partition(" against ")
        rows.append({"remedy": str(at.remedy.item()), "case": case, "control": control,
                     "perplexity (%)": band(at, "remedy_effect"),
                     "effect": verdict, "cost": str(at.cost.item())})  # fmt: skip
    return Table(pd.DataFrame(rows), long=True)


def sameness(ds: xr.Dataset) -> Sentence:
    """Return what the off resistance of ideal cells does, and the smallest effect that would have been seen."""
    cases = ds.sel(case=ds.curve == "off resistance, ideal cells")
    most = float(abs(cases.perplexity_rise).max())
    near = ds.sel(case="variation 0.1")
    width = float(near.perplexity_rise_high - near.perplexity_rise_low) / 2
    return Sentence(
        "Pairs cancel currents of off-cells: down to an on/off ratio of 2 the perplexity of otherwise ideal cells "
        f"changes by {100 * most:.1g} %. Chips do not differ there, so any change above rounding would be seen; where "
        f"they do, at a variation of 0.1, half an interval is {100 * width:.2g} %."
    )


def failures(ds: xr.Dataset) -> Sentence:
    """Return where converters fail and how, where cells do, and how steep either is."""
    curve = ds.sel(case=ds.curve == "variation")
    slope = float(np.polyfit(np.log(curve.value), np.log(np.log1p(curve.perplexity_rise)), 1)[0])
    planes = ds.sel(case=ds.curve == "4 sigma, sign-magnitude").sortby("value")
    rise = np.log1p(planes.perplexity_rise.values)
    step = float(np.exp(np.mean(np.log(rise[:2] / rise[1:3]))))
    onset = setting(ds, "4 sigma, sign-magnitude", LEVELS[0])
    return Sentence(
        f"Cells fail smoothly: the rise grows with the power {slope:.2f} of the variation, from 1 % at "
        f"{setting(ds, 'variation', LEVELS[0])} to 10 % at {setting(ds, 'variation', LEVELS[1])}. Converters fail at "
        f"an edge: over 4 sigma it lies at {onset} bits, and each bit fewer multiplies the rise by {step:.1f}. Where "
        "a range is the worst case, a converter spends most of its codes on sums that never come, and the edge moves "
        "up by the difference."
    )


def vanishing(ds: xr.Dataset) -> Sentence:
    """Return where the noise of a coarse step sits: in the projection whose inputs are sparse."""
    down = np.array([str(name).endswith(".down") for name in ds.matrix.values])

    def told(curve: str) -> str:
        at = ds.sel(case=(ds.curve == f"worst case, {curve}") & (ds.value == 8)).isel(case=0)
        here, there = (float(at.noise_to_signal.values[mine].mean()) for mine in (down, ~down))
        return (
            f"{here:.2g} there, {there:.2g} elsewhere and a rise of {percent(float(at.perplexity_rise))} with {curve}"
        )

    return Sentence(
        "With 8 bits over all rows a step is two on-cells, and a sum of one cell reads as nothing, ties going to "
        "even. Sums are that small behind the squared ReLU, in the down projection: noise over signal is "
        f"{told('sign-magnitude')}, {told(_TWOS)}. The first loses the signal itself, the second adds what looks like "
        "noise: the smaller error does the greater harm."
    )


#: As it stands in the names of curves.
_TWOS = "two's complement"


def law_found(ds: xr.Dataset) -> Sentence:
    """Return how well one kappa predicts the rises of cells and of converters."""
    told = (ds.loss_rise > 1e-3) & (ds.loss_rise < 0.3)
    off = np.log((ds.law_rise / ds.loss_rise).where(told))
    is_bits = ds.curve.str.match("worst case|4 sigma|unit step").values
    cells, bits = off.isel(case=~is_bits).dropna("case"), off.isel(case=is_bits).dropna("case")
    by_kind = np.log((ds.kinds_rise / ds.loss_rise).where(told)).isel(case=~is_bits).sel(case=cells.case)
    return (
        Sentence(
            f"One kappa of {float(ds.kappa):.2f}, taken from the variation, predicts the rises of {cells.size} other "
            f"cases of cells, from 0.1 to 30 %, within factors of {float(np.exp(cells.min())):.2f} and "
            f"{float(np.exp(cells.max())):.2f} (a kappa for each kind of matrix: {float(np.exp(by_kind.min())):.2f} "
            f"and {float(np.exp(by_kind.max())):.2f}), those of {bits.size} cases of converters within "
            f"{float(np.exp(bits.min())):.2f} and {float(np.exp(bits.max())):.2f}."
        )
        if bits.size and cells.size
        else Sentence("Too few cases for the law.")
    )


def wide(ds: xr.Dataset) -> Table:
    """Return noise over signal in random matrices of each shape."""
    found = ds.wide_noise_to_signal
    shown = {str(name): [f"{value:.2g}" for value in found.sel(departure=name).values] for name in ds.departure.values}
    return Table(pd.DataFrame({"inputs x outputs": ds["shape"].values.astype(str), **shown}))


def widths(ds: xr.Dataset) -> Sentence:
    """Return what the width of a matrix does to noise over signal, departure by departure."""
    first, last = ds.wide_noise_to_signal.isel(shape=0), ds.wide_noise_to_signal.isel(shape=-1)
    parts = [f"{float(value):.2g} for {name}" for name, value in zip(ds.departure.values, last / first, strict=True)]
    return Sentence(
        f"From {ds['shape'].values[0]} to {ds['shape'].values[-1]} noise over signal changes by factors of "
        f"{', '.join(parts)}."
    )


def checked(ds: xr.Dataset, found: Mapping[str, xr.Dataset]) -> Sentence:
    """Return how far trials computed again are from the archived ones or, of a smaller study, how many cases agree."""
    if "again" in ds.dims:
        apart, names = abs(ds.recomputed_loss / ds.archived_loss - 1), ", ".join(map(str, ds.again.values))
        return Sentence(
            f"Computed again on this page, for the first chip of the first model: {names}. The losses are within "
            f"{float(apart.max()):.1e} of the archived ones."
        )
    if not shipped(ds):
        return Sentence("Another text or other models: no archived study to compare with.")
    agree, count = agreement(found)
    return Sentence(f"In {agree} of {count} cases the interval of this study overlaps with that of the archived one.")
