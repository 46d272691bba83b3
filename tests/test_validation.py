"""What the model is held against: archived reports, published blocks, measured macros, and the sums between them."""

from dataclasses import replace

import numpy as np
import pytest

from pimllm_chapters import validation
from pimllm_lib import catalog
from pimllm_lib.analysis import validation as held
from pimllm_lib.analysis.claims import as_printed
from pimllm_lib.costs import crossbar

MACROS = ["neurram", "yao2024"]


@pytest.fixture(scope="module")
def chips():
    return held.hindcast(MACROS)


def test_every_archived_report_of_scale_sim_equals_the_closed_form_and_its_known_extra():
    peers = held.scale_sim()
    assert peers.sizes == {"product": 20, "count": len(held.COUNTS)}
    flows = {str(name).split()[-1] for name in peers["product"].values}
    assert flows == {"os", "ws", "is"}
    assert (validation.unexplained(peers) == 0).all()
    plain = peers.sel(count=["cycles", "inputs", "weights", "dram_inputs", "dram_weights"])
    assert (plain.simulated == plain.closed_form).all()


def test_an_archived_count_that_moves_is_seen():
    peers = held.scale_sim()
    peers.simulated[3, 0] += 1
    assert int((validation.unexplained(peers) != 0).sum()) == 1
    assert "1 otherwise" in validation.box(peers, held.blocks(["opt-1.3b"]), held.hindcast(["neurram"])).answer


def test_the_archived_reports_can_be_made_again():
    from peers import archive_scalesim

    peers = held.scale_sim()
    names = [f"{m}x{k}x{n} on {rows}x{cols} {flow}" for m, k, n, rows, cols, flow in archive_scalesim.PRODUCTS]
    assert peers["product"].values.tolist() == names


def test_published_blocks_come_out_to_the_printed_digit():
    table = held.published_blocks()
    ds = held.blocks(list(table.index))
    for name, row in table.iterrows():
        point = ds.sel(model=name)
        assert as_printed(point.block_s.item() * 1e9, 0, "rounded") == str(row.latency_ns)
        assert as_printed(point.block_j.item() * 1e9, 2, "rounded") == f"{row.energy_nj:.2f}"
    assert validation.agreeing_blocks(ds) == len(table) == 8
    assert validation.agreeing_blocks(ds.assign(block_s=ds.block_s + 1e-9)) == 0


def test_the_energy_of_a_macro_worked_by_hand(chips):
    """One conversion at 2.0 pJ for each of 256 columns; 65536 cells of 10.75 uS at 0.5 V, half the time, for 50 ns."""
    one = chips.sel(macro="neurram", converter="survey, 10th percentile")
    conversions = 256 * 2.0e-12
    share = 0.25 / 25e3 + 0.75 / 1e6
    cells = 2 * 128 * 256 * 0.5 * 0.5**2 * share * 50e-9
    macs = 128 * 256
    assert one.mac_j.sel(group="converters and digital").item() * macs == pytest.approx(conversions, rel=0.01)
    assert one.mac_j.sel(group="inputs and cells").item() * macs == pytest.approx(cells, rel=0.01)
    assert one.mac_j.sel(group="word lines").item() == 0


def test_a_measured_mac_is_the_published_efficiency(chips):
    found = held.efficiency(chips.measured_mac_j)
    np.testing.assert_allclose(found, [9.12, 25.5], rtol=1e-12)
    power, time, macs = 111.43e-3, 23.08e-9, 512 * 64  # the measurement behind 25.5
    assert found.sel(macro="yao2024").item() == pytest.approx(2 * macs / (power * time) / 1e12, rel=2e-3)
    shares = chips.measured_mac_j.sel(macro="yao2024") / chips.measured_mac_j.sel(macro="yao2024").sum()
    np.testing.assert_allclose(shares, [0, 0.596, 0.404], atol=1e-12)
    table = held.measured().query("macro == 'neurram' and unit == 'fJ'")  # of one operation: half a MAC
    assert chips.measured_mac_j.sel(macro="neurram").sum().item() == pytest.approx(2e-15 * table.value.sum(), rel=0.01)


def test_nothing_was_fitted_to_the_macros():
    """No constant of a macro is marked as fitted, and the misses are where they were found."""
    for kind in ("crossbar", "rram", "dac", "adc"):
        for name in MACROS:
            entry = catalog.parts.entries[f"{kind}-{name}"]
            assert {q["status"] for q in entry.values() if isinstance(q, dict)} <= {"second_hand", "assumed", "cited"}
    ratio = validation.ratios(held.hindcast(MACROS)).sel(converter=held.USUAL)
    assert [round(x, 2) for x in ratio.values.tolist()] == [0.86, 2.45]


def test_the_survey_energies_are_those_of_a_conversion():
    for name in MACROS:
        adc = catalog.parts[f"adc-{name}"]
        powers = held.converters(adc, adc.name)
        energies = [crossbar.conversion_energy(replace(adc, power_w=power)) for power in powers.values()]
        np.testing.assert_allclose(energies, [2.0e-12, 1.5625e-12, 15.625e-12, 29e-12], rtol=1e-3)


def test_a_band_holds_the_prediction_and_moves_only_the_cells(chips):
    usual = chips.mac_j.sel(converter=held.USUAL)
    low, high = chips.band_mac_j.min("end"), chips.band_mac_j.max("end")
    assert (low <= usual * (1 + 1e-12)).all()
    assert (high >= usual * (1 - 1e-12)).all()
    fixed = chips.band_mac_j.sel(group="converters and digital")
    np.testing.assert_allclose(fixed - usual.sel(group="converters and digital"), 0, atol=1e-27)


def test_array_energy_is_that_of_a_full_product_without_buffers():
    tile = replace(catalog.parts["tile-2x2"], pes=1)
    on = crossbar.layout(256, 256, tile=tile, act_bits=8)
    whole = crossbar.energy(on, tile=tile, act_bits=8, input_buffer=2048, output_buffer=2048)
    spent = crossbar.array_energy(tile, 8)
    assert spent == {name: value for name, value in whole.items() if name not in ("joint", "buffer")}
    assert whole["joint"] == 0
    twice = crossbar.array_energy(tile, 16)
    assert twice["adc"] == pytest.approx(2 * spent["adc"])


def test_an_unknown_macro_or_model_is_refused():
    with pytest.raises(ValueError, match="unknown macro 'neuram', did you mean 'neurram'"):
        held.hindcast(["neuram"])
    with pytest.raises(ValueError, match="unknown model with a published block 'opt-350m'"):
        held.blocks(["opt-350m"])


def test_tables_and_figure_say_what_the_dataset_says(chips):
    rows = validation.hindcast_table(chips).frame
    assert len(rows) == chips.macro.size * chips.converter.size
    assert rows.ratio.tolist()[1] == f"{validation.ratios(chips).isel(macro=0, converter=1).item():.2f}"
    bands = validation.band_table(chips).frame
    assert len(bands) == 5  # the one constant without a range is left out
    for name, ratio in zip(MACROS, validation.ratios(chips).sel(converter=held.USUAL).values, strict=True):
        assert f"{name} {ratio:.2f}" in validation.hindcast(chips).alt


def test_the_layer_beside_accelforge_has_the_energy_of_its_parts_and_of_as_many_conversions():
    ds = held.accel_forge()
    adc = catalog.parts["adc-8bit"]
    conversions = (4096 / 256) * 4096 * 8
    ours = ds.layer_j.sel(layer_part="converters")
    assert ours.sel(estimate="corrected").item() == pytest.approx(conversions * crossbar.conversion_energy(adc))
    assert ours.sel(estimate="as-published").item() == pytest.approx(10 * conversions * crossbar.conversion_energy(adc))
    every = ds.layer_j.sum("layer_part")
    assert every.sel(estimate="as-published").item() == pytest.approx(11743.8e-9, rel=1e-5)
    assert (ds.layer_j.sel(estimate="AccelForge", layer_part="buffers") == 0).all()
    table, sentence = validation.layer_table(ds).frame, str(validation.layer_answer(ds))
    assert f"{1e9 * every.sel(estimate='AccelForge').item():.0f} nJ" in sentence
    assert list(table["AccelForge"][-2:]) == ["not modelled", "248"]
