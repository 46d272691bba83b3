"""Energy against accuracy: converters the catalog has are its own, the published design is evaluate's, fronts are fronts."""

import numpy as np
import pytest
import xarray as xr

import pimllm_lib as pl
from pimllm_chapters.analog_noise import energy as page
from pimllm_lib.analog.noise import energy as noise_energy
from pimllm_lib.catalog.converters import PARTS, converters
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_field

RISES = {3: 0.6, 4: 0.09, 5: 0.02, 6: 0.006, 7: 0.003, 8: 0.0015, 9: 0.001}
CASE = {"model": "opt-6.7b", "context_len": 1024}


def along(rises):
    return xr.DataArray(list(rises.values()), dims="adc_bits", coords={"adc_bits": list(rises)})


def with_rises(designs, rises):
    rise = along(rises)
    return noise_energy.against(designs.sel(adc_bits=list(rises)), rise, 0.6 * rise - 0.0008, 1.4 * rise + 0.0005)


@pytest.fixture(scope="module")
def bare():
    return noise_energy.designs(list(RISES), **CASE)


@pytest.fixture(scope="module")
def ds(bare):
    return with_rises(bare, RISES)


def test_converters_of_the_catalog_are_its_own_and_those_between_are_geometric_means():
    four, five, six, nine = converters([4, 5, 6, 9])
    assert four is pl.catalog.parts["adc-4bit"]
    assert six is pl.catalog.parts["adc-6bit"]
    assert (five.name, nine.name) == ("interpolated", "extrapolated")
    assert five.power_w == pytest.approx(np.sqrt(0.7e-3 * 1.26e-3))
    assert five.rate_hz == pytest.approx(1e9)
    assert nine.power_w == pytest.approx(2e-3 * np.sqrt(2 / 1.26))  # half of the step from 6 to 8 bits further
    assert nine.rate_hz == pytest.approx(1.28e9 * np.sqrt(1.28))
    assert converters(list(range(1, 17)))[-1].bits == 16


@pytest.mark.parametrize("bits", [[0], [17], [4, 4], [4.5], [True], []])
def test_bits_that_no_converter_has_are_refused(bits):
    with pytest.raises(BadInput, match=r"bits are .*; wanted different whole numbers from 1 to 16"):
        converters(bits)


def test_designs_without_the_published_resolution_and_rises_without_one_are_refused(bare):
    with pytest.raises(BadInput, match=r"bits are \[4, 6\]; wanted 8, the published ones, among them"):
        noise_energy.designs([4, 6], **CASE)
    rise = along({8: 0.1})
    with pytest.raises(BadInput, match=r"missing for \[3, 4, 5, 6, 7, 9\] bits"):
        noise_energy.against(bare, rise, rise, rise)


def test_the_published_design_is_what_evaluate_says(ds):
    one = pl.evaluate(system="pim-llm", conventions=list(noise_energy.CONVENTIONS), **CASE).squeeze()
    home = ds.sel(noise_energy.HOME)
    np.testing.assert_allclose(home.energy_j, one.energy_j, rtol=1e-12)
    np.testing.assert_allclose(home.tokens_per_s, 1 / one.latency_s, rtol=1e-12)


def test_energy_grows_with_bits_and_not_with_the_rate_where_nothing_waits(ds):
    energy = ds.energy_j.sel(conventions="corrected", adcs_per_crossbar=128)
    assert (energy.diff("adc_bits") > 0).all()
    np.testing.assert_allclose(energy.max("adc_rate_share"), energy.min("adc_rate_share"), rtol=1e-12)


@pytest.mark.parametrize("name", PARTS)
def test_a_whole_converter_of_the_catalog_in_the_machine_costs_the_same(ds, name):
    part = pl.catalog.parts[name]
    system = with_field(pl.catalog.systems["pim-llm"], "pim.tile.crossbar.adc", part)
    one = pl.evaluate(system=system, conventions=list(noise_energy.CONVENTIONS), **CASE).squeeze()
    np.testing.assert_allclose(ds.energy_j.sel(noise_energy.HOME | {"adc_bits": part.bits}), one.energy_j, rtol=1e-12)


@pytest.mark.parametrize("conventions", noise_energy.CONVENTIONS)
def test_no_design_dominates_one_of_the_front_and_the_knee_lies_on_it(ds, conventions):
    front, knee = noise_energy.front(ds, conventions), noise_energy.knee(ds, conventions)
    energy, rise = xr.broadcast(ds.energy_j.sel(conventions=conventions), ds.perplexity_rise)
    for x, y in zip(front.energy_j.values, front.perplexity_rise.values, strict=True):
        better = (energy <= x * (1 - 1e-9)) & (rise <= y) | (energy <= x * (1 + 1e-9)) & (rise < y)
        assert not better.any()
    assert knee.energy_j.item() in front.energy_j.values
    assert knee.attrs["below_chord"] > 0
    assert f"Under {conventions} the knee is {knee.adc_bits.item()} bits" in page.answer(ds)


def test_the_knee_is_the_middle_point_of_a_corner_and_none_of_a_straight_line(bare):
    few = bare.sel(adc_bits=[6, 7, 8])
    assert noise_energy.knee(with_rises(few, {6: 0.1, 7: 0.0011, 8: 0.001}), "corrected").adc_bits == 7
    bulging = with_rises(few, {6: 0.1, 7: 0.099, 8: 0.001})
    assert noise_energy.knee(bulging, "corrected").attrs["below_chord"] == 0
    assert "the front of 3 designs has no knee" in page.answer(bulging)


def test_the_answer_says_when_there_is_no_trade_and_when_nothing_is_saved(bare):
    assert "no trade" in page.answer(with_rises(bare, {6: 0.001, 8: 0.002}))
    text = page.answer(with_rises(bare, {8: 0.02, 9: 0.03}))
    assert "It saves less than 1 %" in text
    assert "No resolution tried is sure to stay within 1 %" in text


@pytest.mark.parametrize("conventions", noise_energy.CONVENTIONS)
def test_the_cheapest_within_a_level_is_what_brute_force_finds(ds, conventions):
    best = noise_energy.cheapest_within(ds, conventions)
    assert best.adc_bits == 6  # 0.6 % with an upper end of 0.89; 5 bits end at 3.3
    fits = ds.energy_j.sel(conventions=conventions).where(ds.perplexity_rise_high <= 0.01)
    assert best.energy_j.item() == pytest.approx(fits.min().item(), rel=1e-12)
    assert noise_energy.cheapest_within(ds, conventions, 1e-6) is None


def test_the_table_marks_what_is_assumed_and_the_figure_tells_its_knees(ds):
    frame = page.table(ds).frame
    assert frame.converter[frame.converter.str.contains("assumed")].index.tolist() == [0, 2, 4, 6]
    assert frame.converter[1] == "adc-4bit"
    figure = page.figure(ds)
    assert figure.svg.startswith("<svg")
    assert "Ringed as knee: 5 bits" in figure.alt
