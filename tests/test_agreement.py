"""The one rule for "the same": what rounding does is no change, and a change that matters has its name."""

import numpy as np
import pytest
import xarray as xr
from conftest import DATA

from pimllm_lib.archive import agreement, dataset, diff
from pimllm_lib.core.schema import VARIABLES

ARCHIVED = [path for folder in ("results", "studies") for path in sorted((DATA / folder).glob("*.nc"))]


def moved(ds, by, *ranks):
    """Return a result with values of every variable moved by so many of its tolerances.

    ranks: which ones, from 0, the smallest number of a variable, to 1, its largest.
    """
    fresh = ds.copy(deep=True)
    for name, kept in ds.data_vars.items():
        flat = kept.values.ravel()
        known = np.flatnonzero(np.isfinite(flat))
        ranked = known[np.argsort(np.abs(flat[known]), kind="stable")]
        at = np.unique(ranked[[int(rank * (known.size - 1)) for rank in ranks]])
        fresh[name].values.ravel()[at] += by * float(ds.attrs["tolerance"]) * agreement.scale(kept).ravel()[at]
    return fresh


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if i % 3 else ()) for i, path in enumerate(ARCHIVED)],
    ids=lambda path: path.stem,
)
def test_a_value_moved_by_ten_tolerances_is_named_and_one_moved_by_a_tenth_is_not(path):
    kept = dataset.load(path).map(lambda variable: variable.astype(float))
    assert diff.results(path.stem, kept, moved(kept, 0.1, 0, 0.5, 1)) == []
    for rank in (0, 0.5, 1):
        fresh = moved(kept, 10, rank)
        found = diff.results(path.stem, kept, fresh)
        assert [(change.variable, change.kind, change.moved) for change in found] == [
            (name, "moved", 1) for name in sorted(kept.data_vars) if not kept[name].equals(fresh[name])
        ]
    assert {change.variable for change in found} == {name for name in kept.data_vars if (kept[name] != 0).any()}


def of(name, values, dims):
    return xr.DataArray(np.array(values, dtype=float), dims=dims, name=name)


def test_a_part_is_compared_on_the_scale_of_the_whole_it_adds_to_and_a_whole_on_its_own():
    cost = of("energy_j", [[[1.0, 1e-12], [0.0, 1e-6]], [[1e-3, 0.0], [0.0, 0.0]]], ("model", "op", "component"))
    assert agreement.scale(cost)[0].tolist() == [[1, 1], [1, 1]]
    assert agreement.scale(cost)[1].tolist() == [[1e-3, 1e-3], [1e-3, 1e-3]]
    rate = of("tokens_per_s", [1e-6, 1e6], ("model",))
    assert agreement.scale(rate).tolist() == [1e-6, 1e6]


def test_a_difference_is_compared_on_the_scale_of_its_row_or_of_its_largest_value():
    assert agreement.scale(of("first_order", [-1e-11, 0.7], ("factor",))).tolist() == [1, 1]
    assert agreement.scale(of("energy_gain", [3.0], ("model",))).tolist() == [3]
    assert agreement.scale(of("more_power_w", [1e-16, -40.0], ("remedy",))).tolist() == [40, 40]


def test_what_is_no_number_or_has_no_end_agrees_with_its_like_alone():
    kept = of("tokens_per_s", [np.nan, np.inf, np.inf, 1.0, np.nan], ("model",))
    fresh = of("tokens_per_s", [np.nan, np.inf, -np.inf, np.inf, 1.0], ("model",))
    assert agreement.moved(kept, fresh, 1e-9).tolist() == [False, False, True, True, True]


def test_every_scale_is_a_size():
    assert all(row.scale == "largest" or row.scale >= 0 for row in VARIABLES.values())
