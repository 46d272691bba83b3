"""The one rule for "the same": what rounding does is no change, and a change that matters has its name."""

import numpy as np
import pytest
import xarray as xr

from pimllm_lib.report import agreement, archive, diff, paths
from pimllm_lib.schema import VARIABLES

ARCHIVED = [*sorted(paths.RESULTS.glob("*.nc")), *sorted(paths.STUDIES.glob("*.nc"))]


def moved_at(kept, place, by):
    """Return a variable with one value moved by so many of its tolerances."""
    fresh = kept.copy(deep=True)
    fresh.values[place] += by.values[place]
    return fresh


def places(kept):
    """Return where the largest, the smallest and a middle value of a variable stand, of those that are numbers."""
    known = np.argwhere(np.isfinite(kept.values))
    ranked = known[np.argsort(np.abs(kept.values[tuple(known.T)]), kind="stable")]
    return {tuple(ranked[i]) for i in (0, len(ranked) // 2, -1)}


@pytest.mark.parametrize("path", ARCHIVED, ids=lambda path: path.stem)
def test_a_value_moved_by_ten_tolerances_is_named_and_one_moved_by_a_tenth_is_not(path):
    ds = archive.load(path)
    tolerance = float(ds.attrs["tolerance"])
    for name in ds.data_vars:
        one = ds[[name]]
        one[name] = one[name].astype(float)
        step = agreement.allowed(one[name], tolerance)
        for place in places(one[name]):
            (change,) = diff.results(path.stem, one, one.assign({name: moved_at(one[name], place, 10 * step + 1e-300)}))
            assert (change.kind, change.variable, change.moved) == ("moved", name, 1)
            assert diff.results(path.stem, one, one.assign({name: moved_at(one[name], place, 0.1 * step)})) == []


def of(name, values, dims):
    return xr.DataArray(np.array(values, dtype=float), dims=dims, name=name)


def test_a_part_is_compared_on_the_scale_of_the_whole_it_adds_to_and_a_whole_on_its_own():
    cost = of("energy_j", [[[1.0, 1e-12], [0.0, 1e-6]], [[1e-3, 0.0], [0.0, 0.0]]], ("model", "op", "component"))
    assert agreement.scale(cost).values[0].tolist() == [[1, 1], [1, 1]]
    assert agreement.scale(cost).values[1].tolist() == [[1e-3, 1e-3], [1e-3, 1e-3]]
    rate = of("tokens_per_s", [1e-6, 1e6], ("model",))
    assert agreement.scale(rate).values.tolist() == [1e-6, 1e6]


def test_a_difference_is_compared_on_the_scale_of_its_row_or_of_its_largest_value():
    assert agreement.scale(of("first_order", [-1e-11, 0.7], ("factor",))).values.tolist() == [1, 1]
    assert agreement.scale(of("energy_gain", [3.0], ("model",))).values.tolist() == [3]
    assert agreement.scale(of("more_power_w", [1e-16, -40.0], ("remedy",))).values.tolist() == [40, 40]


def test_what_is_no_number_or_has_no_end_agrees_with_its_like_alone():
    kept = of("tokens_per_s", [np.nan, np.inf, np.inf, 1.0, np.nan], ("model",))
    fresh = of("tokens_per_s", [np.nan, np.inf, -np.inf, np.inf, 1.0], ("model",))
    assert agreement.moved(kept, fresh, 1e-9).tolist() == [False, False, True, True, True]


def test_every_scale_is_a_size():
    assert all(row.scale == "largest" or row.scale >= 0 for row in VARIABLES.values())
