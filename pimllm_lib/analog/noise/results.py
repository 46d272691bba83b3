"""What noise studies say: changes against exact products, their intervals, and the thresholds of each curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from pimllm_lib.analog.noise.cases import Case, cases
from pimllm_lib.core import joining
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import annotate

#: Rises of the perplexity whose thresholds are looked for; share of resamples inside an interval; resamples.
LEVELS, INSIDE, RESAMPLES = (0.01, 0.1), 0.95, 2000
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


def by_models(means: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the 95 % interval of Student's t over models, the last axis of their means; NaN of a single one."""
    count = means.shape[-1]
    if count < 2:
        return np.full(means.shape[:-1], np.nan), np.full(means.shape[:-1], np.nan)
    half = stats.t.ppf((1 + INSIDE) / 2, count - 1) * means.std(axis=-1, ddof=1) / np.sqrt(count)
    return means.mean(axis=-1) - half, means.mean(axis=-1) + half


def summary(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.Dataset:
    """Return for each case the rise of the perplexity and its intervals: over everything, with models held, by Student's t.

    The last is that of the models' own means alone; a bootstrap of three cannot reach beyond them.
    """
    rise = rises(ds, spec)
    low, high = interval(resampled(rise))
    held_low, held_high = interval(resampled(rise, hold=True))
    means = rise.mean(("device_seed", "text_block"))
    t_low, t_high = by_models(means.transpose("case", "training_seed").values)
    drawn = {case.name: case.drawn for case in cases(spec["curves"])}
    seeds, chips = rise.sizes["training_seed"], rise.sizes["device_seed"]
    trials = [seeds * (chips if drawn[name] else 1) for name in rise.case.values]
    nats = {
        "perplexity_rise": means.mean("training_seed"), "perplexity_rise_low": low, "perplexity_rise_high": high,
        "chips_rise_low": held_low, "chips_rise_high": held_high,
        "models_rise_low": t_low, "models_rise_high": t_high,
    }  # fmt: skip
    found: dict[str, Any] = {name: ("case", np.expm1(np.asarray(values))) for name, values in nats.items()}
    read = losses(ds).sel(case=rise.case).mean(("training_seed", "device_seed", "text_block"))
    ratio = ds.noise_to_signal.sel(case=rise.case).mean("training_seed").transpose("case", "matrix")
    found |= {"noisy_perplexity": ("case", np.exp(read.values)), "noise_to_signal": ratio.reset_coords(drop=True)}
    found["trials"] = ("case", np.array(trials, dtype=float))
    return annotate(xr.Dataset(found, coords={key: rise[key] for key in ("case", "curve", "setting", "value")}))


def thresholds(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.Dataset:
    """Return where each curve reaches a rise of 1 and of 10 %, with its intervals: (curve_name, level).

    Between tried settings the logarithm of the rise is taken to be linear in that of the setting. Where the rise before is
    none, the threshold is NaN and its interval those two settings. It is 0 where even the first setting exceeds the level,
    and infinite where the last does not. Along bits it is the fewest with which, and with any more, the rise stays
    within the level: 0 where all tried do, infinite where none does. The interval by models is that of Student's t, of
    logarithms where the setting is no number of bits; NaN where a model has no threshold among the settings.
    """
    rise, tried = rises(ds, spec), {case.name: case for case in cases(spec["curves"])}
    drawn = np.expm1(resampled(rise))
    each = np.expm1(rise.mean(("device_seed", "text_block")).transpose("case", "training_seed").values)
    middle = np.expm1(np.log1p(each).mean(axis=1))
    fields = {str(curve): entry.get("field") for curve, entry in spec["curves"].items()}
    found: dict[str, list[list[float]]] = {}
    ends: dict[str, list[float]] = {"least_setting": [], "most_setting": []}
    for curve, all_places in _curves(rise, tried).items():
        places = sorted(all_places, key=lambda place: float(rise.value[place]))
        at, bits = rise.value.values[places], fields[curve] == BITS
        found[curve] = [_one(at, middle[places], drawn[places], each[places], level, bits) for level in LEVELS]
        ends["least_setting"].append(at[0])
        ends["most_setting"].append(at[-1])
    values = np.array(list(found.values())).reshape(len(found), len(LEVELS), len(_FOUND))
    data: dict[str, Any] = {name: (("curve_name", "level"), values[..., i]) for i, name in enumerate(_FOUND)}
    data |= {name: ("curve_name", settings) for name, settings in ends.items()}
    return annotate(xr.Dataset(data, coords={"curve_name": list(found), "level": list(LEVELS)}))


#: What `_one` gives, in order.
_FOUND = (
    "threshold", "threshold_low", "threshold_high", "models_threshold_low", "models_threshold_high", "threshold_share",
)  # fmt: skip


def _curves(rise: xr.DataArray, tried: Mapping[str, Case]) -> dict[str, list[int]]:
    """Return the places of the cases on each curve of at least two numbers above 0, all matrices being on crossbars."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(rise.case.values):
        case = tried[name]
        if case.value > 0 and case.only is None and not case.tuned:
            found.setdefault(case.curve, []).append(place)
    return {curve: places for curve, places in found.items() if len(places) > 1}


def _one(
    at: NDArray[Any], middle: NDArray[Any], drawn: NDArray[Any], each: NDArray[Any], level: float, bits: bool
) -> list[float]:
    """Return what `_FOUND` names: share is that of the resamples that have a threshold among the settings."""
    cross = fewest if bits else crossing
    all_of, here = cross(at, drawn, level), float(cross(at, middle[:, None], level)[0])
    inside = np.isfinite(all_of) & (all_of > 0)
    if np.isnan(here):
        first = int((middle > level).argmax())
        return [here, float(at[first - 1]), float(at[first]), np.nan, np.nan, float(inside.mean())]
    known = all_of[~np.isnan(all_of)]
    low, high = np.quantile(known, [(1 - INSIDE) / 2, (1 + INSIDE) / 2], method="nearest")
    models, apart = cross(at, each, level), np.full(2, np.nan)
    if np.isfinite(models).all() and (models > 0).all():
        apart = np.array(by_models(models)) if bits else np.exp(by_models(np.log(models)))
    return [here, float(low), float(high), *map(float, apart), float(inside.mean())]


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


def joined(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Return datasets of several studies as one, along cases and curves; a case of several is that of the first."""
    whole, *others = parts
    for part in others:
        along = "case" if "case" in part.dims else "curve_name"
        if along == "case":
            part = part.sel(case=[name not in whole.case.values for name in part.case.values])
        whole = joining.concat([whole, part], along, join="outer")
    return whole
