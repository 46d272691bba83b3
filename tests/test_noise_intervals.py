"""Intervals of noise studies: of every kind that is printed, how often they hold what they are made for, by simulation."""

import numpy as np
import pytest
import xarray as xr

from pimllm_lib.analog.noise import law, remedies, results, thresholds
from pimllm_lib.analog.noise.cases import cases
from pimllm_lib.analog.noise.intervals import half, interval, table

DIMS = ("case", "training_seed", "device_seed", "text_block")
BLOCKS = 16
#: Standard deviations of models, chips, text, models with text, and the rest, of one trial on one block. The first four are
#: those measured for cells that vary, for read noise, and for converters, in % of the rise; then limits.
PARTS = {
    "variation": (15, 13, 7, 0, 36), "read noise": (8, 0, 10, 7, 42), "4 bits": (20, 0, 10, 20, 0),
    "7 bits": (0, 0, 34, 48, 0), "models alone": (1, 0, 0, 0, 0), "text alone": (0, 0, 1, 0.3, 0),
    "chips": (0.3, 1, 0.3, 0, 0.3), "alike": (1, 1, 1, 1, 1),
    "nothing shared": (0, 0, 0, 0, 1), "models and text": (1, 0, 4, 0.2, 0),
}  # fmt: skip
#: Chips, and whether each reads its own blocks.
DESIGNS = {"crossed": (10, False), "one chip": (1, True), "nested": (4, True), "a chip a block": (16, True)}


def trials(count, models, parts, chips, nested, rng):
    """Return `count` studies of mean 0 (count, models, chips, blocks), NaN where a chip did not read a block."""
    of_model, of_chip, of_text, of_both, rest = parts
    found = of_model * rng.standard_normal((count, models, 1, 1)) + of_text * rng.standard_normal((count, 1, 1, BLOCKS))
    found = found + of_both * rng.standard_normal((count, models, 1, BLOCKS))
    found = found + of_chip * rng.standard_normal((count, models, chips, 1))
    found = found + rest * rng.standard_normal((count, models, chips, BLOCKS))
    own = np.arange(BLOCKS) * chips // BLOCKS == np.arange(chips)[:, None]
    return np.where(own | (not nested), found, np.nan)


def holding(count, models, parts, design, seed=0):
    """Return the share of studies whose interval holds the mean of everything, 0."""
    found = trials(count, models, PARTS[parts], *DESIGNS[design], np.random.default_rng(seed))
    tables = np.nanmean(found, axis=2)
    return float(np.mean(np.abs(tables.mean(axis=(1, 2))) <= half(tables)))


@pytest.mark.parametrize("models", [3, 10])
@pytest.mark.parametrize("design", ["crossed", "nested"])
def test_intervals_of_a_rise_hold_it_as_often_as_they_say(models, design):
    for parts in PARTS:
        assert 0.93 <= holding(2000, models, parts, design) <= 0.975, parts  # 2000: 0.97 is 0.005 from it


@pytest.mark.slow
@pytest.mark.parametrize("models", [3, 10])
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("parts", PARTS)
def test_intervals_of_a_rise_hold_it_in_every_design(models, design, parts):
    found = [holding(4000, models, parts, design, seed) for seed in range(4)]
    assert 0.935 <= np.mean(found) <= 0.97


@pytest.mark.parametrize("design", ["crossed", "nested", "a chip a block"])
def test_one_model_speaks_for_its_own_chips_and_text(design):
    rng, inside = np.random.default_rng(4), []
    for one in trials(1500, 1, (0, 1, 0.3, 0, 0.6), *DESIGNS[design], rng):
        low, high = interval(one)
        inside.append(low <= 0 <= high)
    assert 0.93 <= np.mean(inside) <= 0.97


def test_an_interval_is_the_hand_computed_one():
    found = np.array([[1.0, 2, 3], [3, 4, 5]])[:, None, :]  # rows differ by 2, columns by 1, nothing else
    rows, columns = 3 * 2.0, 2 * 1.0  # mean squares
    quantiles = 12.706205, 4.302653  # of 1 and 2 degrees of freedom
    want = np.sqrt(8 / 6) * 8 / (rows / quantiles[0] + columns / quantiles[1])
    assert interval(found) == pytest.approx((3 - want, 3 + want), rel=1e-6)
    assert interval(np.full((3, 2, 4), 0.25)) == (0.25, 0.25)
    assert np.isnan(interval(np.ones((1, 1, 1)))).all()
    assert half(np.array([[1.0], [2], [3]])) == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)


def test_a_table_has_a_row_a_model_and_of_one_model_a_row_a_chip():
    crossed = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(table(crossed), crossed.mean(axis=1))
    np.testing.assert_array_equal(table(crossed[:1]), crossed[0])
    own = np.where(np.arange(4) // 2 == np.arange(2)[:, None], np.arange(8.0).reshape(2, 4), np.nan)
    np.testing.assert_array_equal(table(np.stack([own, own + 1])), [[0, 1, 6, 7], [1, 2, 7, 8]])
    np.testing.assert_array_equal(table(own[None]), [[0.5, 6.5]])
    unread = np.where(np.arange(4) % 2, np.nan, crossed)
    np.testing.assert_array_equal(table(unread), crossed.mean(axis=1)[:, ::2])


AT, RISES = np.array([0.1, 0.2, 0.4, 0.6]), np.array([0.003, 0.013, 0.065, 0.185])


def thresholds_holding(count, models, parts, design, alike, seed=0):
    """Return for each level the share of studies whose interval holds the threshold of the mean rises.

    alike: the correlation between deviations at different settings.
    """
    rng, chips = np.random.default_rng(seed), DESIGNS[design]
    sizes = np.array(PARTS[parts]) / (1 if max(PARTS[parts]) > 1 else 10) / (100 if max(PARTS[parts]) > 4 else 1)
    common, *own = (np.nanmean(trials(count, models, sizes, *chips, rng), axis=2) for _ in range(1 + len(AT)))
    inside = np.zeros((count, len(thresholds.LEVELS)))
    for i in range(count):
        apart = [alike * common[i] + np.sqrt(1 - alike**2) * each[i] for each in own]
        grid, band = thresholds.refined(AT, np.log1p(RISES)[:, None, None] * (1 + np.array(apart)))
        for j, level in enumerate(thresholds.LEVELS):
            low, high = thresholds.excluding(grid, band, level)
            inside[i, j] = low <= thresholds.crossing(AT, RISES[:, None], level)[0] <= high
    return inside.mean(axis=0)


@pytest.mark.parametrize("models", [3, 10])
def test_intervals_of_a_threshold_hold_it_as_often_as_they_say(models):
    found = thresholds_holding(600, models, "variation", "nested", 0.7)
    assert ((found >= 0.93) & (found <= 0.97)).all(), found


@pytest.mark.slow
@pytest.mark.parametrize("models", [3, 10])
@pytest.mark.parametrize(("design", "alike"), [("nested", 0), ("crossed", 0.9)])
@pytest.mark.parametrize("parts", ["variation", "read noise", "4 bits", "7 bits", "alike"])
def test_intervals_of_a_threshold_hold_it_whatever_varies(models, design, parts, alike):
    found = thresholds_holding(3000, models, parts, design, alike)
    assert ((found >= 0.93) & (found <= 0.975)).all(), found  # 3000 studies: 0.97 is 0.006 from 0.975


def test_the_fewest_bits_are_held_by_those_of_both_ends():
    nats = np.log1p([[[0.40, 0.42]], [[0.080, 0.085]], [[0.030, 0.031]]]).transpose(
        0, 2, 1
    )  # three settings, two models
    band = thresholds.band(nats)
    assert (np.diff(band[:, [1, 0, 2]]) > 0).all()
    assert thresholds.fewest(np.array([4.0, 5, 6]), band, 0.1).tolist() == [5, 5, 6]


def study(values, settings=(0.1, 0.2), models=3, chips=4):
    """Return a spec of cells that vary, and a study of these losses by case name, NaN as given."""
    spec = {
        "curves": {"exact": {"products": "exact"}, "variation": {"field": "devices.variation", "values": [*settings]}}
    }
    listed = cases(spec["curves"])
    losses = np.stack([np.broadcast_to(values[case.name], (models, chips, BLOCKS)) for case in listed])
    coords = {"case": [case.name for case in listed]}
    coords |= {key: ("case", [getattr(case, key) for case in listed]) for key in ("curve", "setting", "value")}
    ratio = np.array([[[case.devices.variation**2] * 2] * models for case in listed])
    data = {"held_out_loss": (DIMS, losses), "noise_to_signal": (("case", "training_seed", "matrix"), ratio)}
    return spec, xr.Dataset(data, coords=coords)


def simulated(seed, design, models):
    """Return a study whose kappa is 1.1 in the mean, with deviations as measured for cells that vary."""
    rng, (chips, nested) = np.random.default_rng(seed), DESIGNS[design]
    common = trials(1, models, np.array(PARTS["variation"]) / 100, chips, nested, rng)[0]
    losses = {"exact": np.where(np.arange(chips)[:, None] == 0, 2.0, np.nan)}
    losses |= {f"variation {v}": 2 + 1.1 * v**2 * (1 + common) for v in (0.1, 0.2)}
    return study(losses, models=models, chips=chips)


def kappa_holding(count, design, models):
    inside = []
    for seed in range(count):
        spec, ds = simulated(seed, design, models)
        ends = law.kappa_ends(results.summary(ds, spec), ds, spec)
        inside.append(float(ends.kappa_low) <= 1.1 <= float(ends.kappa_high))
    return np.mean(inside)


def effects_holding(count, design, models):
    """Return the share of studies whose interval of a remedy's effect holds it: 2 % less, with its own deviations."""
    rng, (chips, nested), inside = np.random.default_rng(1), DESIGNS[design], []
    item = remedies.REMEDIES["one gain against drift"][0]
    for _ in range(count):
        control, apart = trials(2, models, np.array(PARTS["variation"]) / 100, chips, nested, rng)
        losses = np.stack([2 + control, 2 + control + np.log(0.98) + 0.02 * apart])
        ds = xr.Dataset({"held_out_loss": (DIMS, losses)}, coords={"case": [item.control, item.case]})
        found = remedies.effects({"noise-cells": ds, "noise-combined": ds, "noise-converters": ds})
        assert found.comparison.size == 1
        inside.append(float(found.remedy_effect_low[0]) <= -0.02 <= float(found.remedy_effect_high[0]))
    return np.mean(inside)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["crossed", "nested"])
@pytest.mark.parametrize("models", [3, 10])
@pytest.mark.parametrize("share", [kappa_holding, effects_holding])
def test_intervals_of_kappa_and_of_a_remedy_hold_them_as_often_as_they_say(share, design, models):
    assert 0.93 <= share(1500, design, models) <= 0.97


def test_the_effect_of_a_remedy_is_paired_and_a_chip_that_is_read_alone_stands_for_all():
    rng, item = np.random.default_rng(3), remedies.REMEDIES["one gain against drift"][0]
    apart = 0.1 * rng.standard_normal((3, 4, BLOCKS))
    alone = np.where(np.arange(4)[:, None] == 0, 2 + 0 * apart, np.nan)
    ds = xr.Dataset({"held_out_loss": (DIMS, [alone, 2 + apart])}, coords={"case": [item.control, item.case]})
    found = remedies.effects({"noise-cells": ds, "noise-combined": ds, "noise-converters": ds})
    ends = [float(found[f"remedy_effect_{end}"][0]) for end in ("low", "high")]
    np.testing.assert_allclose(np.log1p(ends), interval(apart))
    assert float(found.remedy_effect[0]) == pytest.approx(np.expm1(apart.mean()))


def test_kappas_interval_is_that_of_the_rise_over_a_ratio_that_is_known():
    spec, ds = simulated(0, "nested", 10)
    told = results.summary(ds, spec)
    ends = law.kappa_ends(told, ds, spec)
    one = results.rises(ds, spec).sel(case="variation 0.1") / 0.01  # both settings deviate alike
    np.testing.assert_allclose([float(ends.kappa_low), float(ends.kappa_high)], interval(one.values))
