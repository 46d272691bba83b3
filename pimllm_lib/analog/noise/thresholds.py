"""Where a curve of a noise study reaches a rise of the perplexity, and the settings that trials do not exclude."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.analog.noise.cases import Case, cases
from pimllm_lib.analog.noise.intervals import half, table
from pimllm_lib.analog.noise.results import rises
from pimllm_lib.core.schema import annotate

#: Rises of the perplexity whose thresholds are looked for.
LEVELS = (0.01, 0.1)
#: The field of a curve along which more is better: bits of a converter.
BITS = "crossbar.adc.bits"
#: Points between two settings at which an interval is looked at.
_POINTS = 32


def thresholds(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.Dataset:
    """Return where each curve reaches a rise of 1 and of 10 %, with its interval: (curve_name, level).

    Between tried settings the logarithm of the rise is taken to be linear in that of the setting. Where the rise before is
    none, the threshold is NaN, between two settings. It is 0 where even the first setting exceeds the level, and infinite
    where the last does not. Along bits it is the fewest with which, and with any more, the rise stays within the level: 0
    where all tried do, infinite where none does.

    The interval goes from the first setting at which the interval of the rise, see `intervals`, reaches up to the level, to
    the first at which all of it lies above: what a test at 5 % does not exclude, as of Fieller's for a ratio. Between tried
    settings the rise is the interpolated one, whose trials are, to first order, the weighted ones of both. Along bits,
    which are whole, it holds the fewest bits more often than 95 %.
    """
    rise, tried = rises(ds, spec), {case.name: case for case in cases(spec["curves"])}
    fields = {str(curve): entry.get("field") for curve, entry in spec["curves"].items()}
    found: dict[str, list[list[float]]] = {}
    ends: dict[str, list[float]] = {"least_setting": [], "most_setting": []}
    for curve, all_places in _curves(rise, tried).items():
        places = sorted(all_places, key=lambda place: float(rise.value[place]))
        at, nats = rise.value.values[places], np.stack([table(one) for one in rise.values[places]])
        middle = np.expm1(nats.mean(axis=(1, 2)))[:, None]
        if fields[curve] == BITS:
            found[curve] = [[*map(float, fewest(at, band(nats), level))] for level in LEVELS]
        else:
            grid, within = refined(at, nats)
            found[curve] = [
                [float(crossing(at, middle, level)[0]), *excluding(grid, within, level)] for level in LEVELS
            ]
        ends["least_setting"].append(at[0])
        ends["most_setting"].append(at[-1])
    names = ("threshold", "threshold_low", "threshold_high")
    values = np.array(list(found.values())).reshape(len(found), len(LEVELS), len(names))
    data: dict[str, Any] = {name: (("curve_name", "level"), values[..., i]) for i, name in enumerate(names)}
    data |= {name: ("curve_name", settings) for name, settings in ends.items()}
    return annotate(xr.Dataset(data, coords={"curve_name": list(found), "level": list(LEVELS)}))


def _curves(rise: xr.DataArray, tried: Mapping[str, Case]) -> dict[str, list[int]]:
    """Return the places of the cases on each curve of at least two numbers above 0, all matrices being on crossbars."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(rise.case.values):
        case = tried[name]
        if case.value > 0 and case.only is None and not case.tuned:
            found.setdefault(case.curve, []).append(place)
    return {curve: places for curve, places in found.items() if len(places) > 1}


def band(nats: NDArray[Any]) -> NDArray[Any]:
    """Return mean, lower and upper end of the relative rise of tables (settings, rows, columns): (settings, 3)."""
    middle, by = nats.mean(axis=(-2, -1)), np.nan_to_num(half(nats))
    return np.asarray(np.expm1(np.stack([middle, middle - by, middle + by], axis=-1)))


def refined(at: NDArray[Any], nats: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return settings (points,), with more of them wherever a rise can be interpolated, and the `band` of their rises."""
    grid, found = [at[:1]], [band(nats[:1])]
    middle = np.expm1(nats.mean(axis=(1, 2)))
    for i in range(len(at) - 1):
        if min(middle[i : i + 2]) <= 0:  # anywhere between: the upper end may rise at once, the lower one at last
            here, there = found[-1][-1], band(nats[i + 1])
            grid.append(at[i : i + 2])
            found.append(np.tile([np.nan, here[1], there[2]], (2, 1)))
        else:
            share = np.linspace(0, 1, _POINTS + 1)[1:-1]
            rise = middle[i] ** (1 - share) * middle[i + 1] ** share
            # d ln(1 + rise) = rise / (1 + rise) d ln rise, and d ln rise of each end is (1 + its rise) / its rise d nats
            weights = np.stack([1 - share, share]) * ((1 + 1 / middle[i : i + 2])[:, None] / (1 + 1 / rise))
            apart = nats[i : i + 2] - nats[i : i + 2].mean(axis=(1, 2), keepdims=True)
            within = np.einsum("sp,src->prc", weights, apart) + np.log1p(rise)[:, None, None]
            grid.append(at[i] ** (1 - share) * at[i + 1] ** share)
            found.append(band(within))
        grid.append(at[i + 1 : i + 2])
        found.append(band(nats[i + 1 : i + 2]))
    return np.concatenate(grid), np.concatenate(found)


def excluding(at: NDArray[Any], within: NDArray[Any], level: float) -> tuple[float, float]:
    """Return between which settings a band (settings, 3) may reach a level: 0 before all of them, infinite after."""
    return _first(at, within[:, 2], level), _first(at, within[:, 1], level)


def _first(at: NDArray[Any], end: NDArray[Any], level: float) -> float:
    over = end > level
    first = int(over.argmax())
    if first == 0:
        return 0.0 if over.any() else np.inf
    share = (level - end[first - 1]) / (end[first] - end[first - 1])
    return float(at[first - 1] ** (1 - share) * at[first] ** share)


def crossing(at: NDArray[Any], rise: NDArray[Any], level: float) -> NDArray[Any]:
    """Return where each column of rises (settings, columns) first exceeds a level, settings growing: see `thresholds`."""
    over, columns = rise > level, np.arange(rise.shape[1])
    first = over.argmax(axis=0)
    before = np.maximum(first - 1, 0)
    x, y0, y1 = np.log(at), rise[before, columns], rise[first, columns]
    usable = (y0 > 0) & (y1 > y0)
    y0, y1 = np.where(usable, y0, 1.0), np.where(usable, y1, np.e)
    inside = np.exp(x[before] + np.log(level / y0) / np.log(y1 / y0) * (x[first] - x[before]))
    found = np.where(usable, inside, np.nan)
    return np.where(over.any(axis=0), np.where(first == 0, 0.0, found), np.inf)


def fewest(at: NDArray[Any], rise: NDArray[Any], level: float) -> NDArray[Any]:
    """Return the fewest bits of each column (settings, columns), bits growing, from which on no rise exceeds the level."""
    fine = np.logical_and.accumulate((rise <= level)[::-1], axis=0)[::-1]
    return np.where(fine.all(axis=0), 0.0, np.where(fine.any(axis=0), at[fine.argmax(axis=0)], np.inf))
