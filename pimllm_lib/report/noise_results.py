"""What noise studies say: changes against exact products, their intervals, and the thresholds of each curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.analog.cases import Case, cases
from pimllm_lib.errors import BadInput
from pimllm_lib.schema import annotate

#: Rises of the perplexity whose thresholds are looked for; share of resamples inside an interval; resamples.
LEVELS, INSIDE, RESAMPLES = (0.01, 0.1), 0.95, 2000
#: Students' t for that share and the two degrees of freedom of three models.
T_TWO = 4.303
#: The field of a curve along which more is better: bits of a converter.
BITS = "crossbar.adc.bits"


def losses(ds: xr.Dataset) -> xr.DataArray:
    """Return the loss of each trial; where chips do not differ, the one tried stands for all of them."""
    first = ds.held_out_loss.isel(device_seed=0, drop=True)
    filled: xr.DataArray = ds.held_out_loss.fillna(first)
    return filled.transpose("case", "training_seed", "device_seed", "text_block")


def rises(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.DataArray:
    """Return the loss of each case less that of the same model with exact products, in nats a token: paired, NaN-free.

    A case whose chips do not differ stands for every chip. Cases without crossbars to try are left out but for the one that
    has none: (case, training_seed, device_seed, text_block).
    """
    tried = [case for case in cases(spec["curves"]) if case.products != "exact"]
    clean = {case.tuned: case.name for case in cases(spec["curves"]) if case.products == "exact"}
    for case in tried:
        if case.tuned not in clean:
            raise BadInput(f"case {case.name} has no exact products beside it; wanted a curve with products: exact")
    loss, names = losses(ds), [case.name for case in tried]
    exact = loss.isel(device_seed=0, drop=True).sel(case=[clean[case.tuned] for case in tried])
    return loss.sel(case=names) - exact.drop_vars(("curve", "setting", "value")).assign_coords(case=names)


def weights(
    models: int, chips: int, blocks: int, *, resamples: int, hold: bool, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what each resample gives (resamples, models, chips), and text (resamples, blocks): a hierarchical bootstrap.

    Models are drawn with replacement, then chips within each, then blocks of text, which all share. hold: keep the models.
    """
    rng = np.random.default_rng(seed)
    drawn = np.tile(np.arange(models), (resamples, 1)) if hold else rng.integers(models, size=(resamples, models))
    picks = rng.multinomial(chips, np.full(chips, 1 / chips), size=(resamples, models)) / chips
    of_chips = np.zeros((resamples, models, chips))
    np.add.at(of_chips, (np.arange(resamples)[:, None], drawn), picks / models)
    return of_chips, rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples) / blocks


def resampled(rise: xr.DataArray, *, resamples: int = RESAMPLES, hold: bool = False) -> NDArray[Any]:
    """Return the mean rise of each case in each resample: (case, resamples). All cases share the draws, so they compare."""
    chips, text = weights(*rise.shape[1:], resamples=resamples, hold=hold)
    return np.asarray(np.einsum("ctdb,rtd,rb->cr", rise.values, chips, text, optimize=True))


def interval(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both ends of the middle 95 % along the last axis."""
    low, high = np.quantile(values, [(1 - INSIDE) / 2, (1 + INSIDE) / 2], axis=-1)
    return low, high


def summary(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.Dataset:
    """Return for each case the rise of the perplexity and its intervals: over everything, with models held, by Student's t.

    The last is that of the models' own means alone; a bootstrap of three cannot reach beyond them.
    """
    rise = rises(ds, spec)
    low, high = interval(resampled(rise))
    held_low, held_high = interval(resampled(rise, hold=True))
    means = rise.mean(("device_seed", "text_block"))
    half = T_TWO / np.sqrt(3) * means.std("training_seed", ddof=1) if means.sizes["training_seed"] == 3 else np.nan
    drawn = {case.name: case.drawn for case in cases(spec["curves"])}
    trials = [
        rise.sizes["training_seed"] * (rise.sizes["device_seed"] if drawn[name] else 1) for name in rise.case.values
    ]
    nats = {
        "perplexity_rise": means.mean("training_seed"), "perplexity_rise_low": low, "perplexity_rise_high": high,
        "chips_rise_low": held_low, "chips_rise_high": held_high,
        "models_rise_low": means.mean("training_seed") - half, "models_rise_high": means.mean("training_seed") + half,
    }  # fmt: skip
    found = {name: ("case", np.expm1(np.asarray(values))) for name, values in nats.items()}
    ratio = ds.noise_to_signal.sel(case=rise.case).mean("training_seed").transpose("case", "matrix")
    kept = {key: rise[key] for key in ("case", "curve", "setting", "value")}
    data = {
        **found,
        "noise_to_signal": ratio.reset_coords(drop=True),
        "trials": ("case", np.array(trials, dtype=float)),
    }
    return annotate(xr.Dataset(data, coords=kept))


def thresholds(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.Dataset:
    """Return where each curve reaches a rise of 1 and of 10 %, with its interval: (curve_name, level).

    Between tried settings the logarithm of the rise is taken to be linear in that of the setting. Beyond them the
    threshold is 0 where even the first setting exceeds the level, and infinite where the last does not. Along bits it is
    the fewest with which, and with any more, the rise stays within the level; infinite where there are none.
    """
    rise, tried = rises(ds, spec), {case.name: case for case in cases(spec["curves"])}
    drawn, middle = (
        np.expm1(resampled(rise)),
        np.expm1(rise.mean(("training_seed", "device_seed", "text_block")).values),
    )
    fields = {str(curve): entry.get("field") for curve, entry in spec["curves"].items()}
    names, found, least, most = [], [], [], []
    for curve, places in _curves(rise, tried).items():
        places = sorted(places, key=lambda place: float(rise.value[place]))
        at, bits = rise.value.values[places], fields[curve] == BITS
        names.append(curve)
        least.append(at.min())
        most.append(at.max())
        found.append([_one(at, middle[places], drawn[places], level, bits) for level in LEVELS])
    values = np.array(found).reshape(len(names), len(LEVELS), 4)
    each = ("threshold", "threshold_low", "threshold_high", "threshold_share")
    data: dict[str, Any] = {name: (("curve_name", "level"), values[..., i]) for i, name in enumerate(each)}
    data |= {"least_setting": ("curve_name", least), "most_setting": ("curve_name", most)}
    return annotate(xr.Dataset(data, coords={"curve_name": names, "level": list(LEVELS)}))


def _curves(rise: xr.DataArray, tried: Mapping[str, Case]) -> dict[str, list[int]]:
    """Return the places of the cases on each curve of at least two numbers above 0, all matrices being on crossbars."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(rise.case.values):
        case = tried[name]
        if case.value > 0 and case.only is None and not case.tuned:
            found.setdefault(tried[name].curve, []).append(place)
    return {curve: places for curve, places in found.items() if len(places) > 1}


def _one(at: NDArray[Any], middle: NDArray[Any], drawn: NDArray[Any], level: float, bits: bool) -> list[float]:
    """Return a threshold, both ends of its interval, and the share of resamples that have it among the settings."""
    cross = fewest if bits else crossing
    all_of = cross(at, drawn, level)
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(all_of, [(1 - INSIDE) / 2, (1 + INSIDE) / 2], method="nearest")
    inside = np.isfinite(all_of) & (all_of > 0)
    return [float(cross(at, middle[:, None], level)[0]), float(low), float(high), float(inside.mean())]


def crossing(at: NDArray[Any], rise: NDArray[Any], level: float) -> NDArray[Any]:
    """Return where each column of rises (settings, columns) first exceeds a level, settings growing: see `thresholds`."""
    x, y = np.log(at)[:, None], np.log(np.maximum(rise, 1e-9))
    over = rise > level
    first = over.argmax(axis=0)
    columns, before = np.arange(rise.shape[1]), np.maximum(first - 1, 0)
    y0, y1 = y[before, columns], y[first, columns]
    share = np.where(y1 > y0, (np.log(level) - y0) / np.where(y1 > y0, y1 - y0, 1), 0)
    inside = np.exp(x[before, 0] + share * (x[first, 0] - x[before, 0]))
    return np.where(over.any(axis=0), np.where(first == 0, 0.0, inside), np.inf)


def fewest(at: NDArray[Any], rise: NDArray[Any], level: float) -> NDArray[Any]:
    """Return the fewest bits of each column (settings, columns), bits growing, from which on no rise exceeds the level."""
    fine = np.logical_and.accumulate((rise <= level)[::-1], axis=0)[::-1]
    return np.where(fine.any(axis=0), at[fine.argmax(axis=0)], np.inf)


def joined(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Return datasets of several studies as one, along cases and curves; a case of several is that of the first."""
    whole: xr.Dataset | None = None
    for part in parts:
        if whole is not None and "case" in part.dims:
            part = part.sel(case=[name not in whole.case.values for name in part.case.values])
        along = "case" if "case" in part.dims else "curve_name"
        whole = part if whole is None else xr.concat([whole, part], along, join="outer")
    assert whole is not None
    return whole
