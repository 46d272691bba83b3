"""Bit and word lines with resistance: the network that Kirchhoff's laws give, its limits, and where pairs lie."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import checkout
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from pimllm_lib import catalog
from pimllm_lib.analog.crossbar import ratios, wires
from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.product import multiply
from pimllm_lib.analog.crossbar.ratios import Probe
from pimllm_lib.analog.noise.thresholds import thresholds
from pimllm_lib.archive import dataset
from pimllm_lib.core.errors import BadInput
from pimllm_lib.hardware import Devices, Readout
from pimllm_lib.studies import noise_runs

BAR, IDEAL = catalog.part("crossbar-256"), Readout(name="ideal")
SMALL = replace(BAR, rows=128, cols=128)


def array(rows, cols, seed=0):
    return np.where(np.random.default_rng(seed).random((rows, cols)) < 1 / 3, 1e-4, 1e-6)


def network(cells, bit, word):
    """Solve Kirchhoff's laws at each node. Return the currents at the feet and from the drivers, a row for each driven."""
    rows, cols = cells.shape
    entries = []  # node, node, conductance

    def joined(a, b, siemens):
        entries.extend([(a, a, siemens), (b, b, siemens), (a, b, -siemens), (b, a, -siemens)])

    def of_word(i, j):
        return i * cols + j

    def of_bit(i, j):
        return rows * cols + i * cols + j

    for i in range(rows):
        for j in range(cols):
            joined(of_word(i, j), of_bit(i, j), cells[i, j])
            if j:
                joined(of_word(i, j - 1), of_word(i, j), 1 / word)
            if i:
                joined(of_bit(i - 1, j), of_bit(i, j), 1 / bit)
    drivers, feet = [of_word(i, 0) for i in range(rows)], [of_bit(rows - 1, j) for j in range(cols)]
    entries += [(node, node, 1 / word) for node in drivers] + [(node, node, 1 / bit) for node in feet]
    at, to, siemens = zip(*entries, strict=True)
    volts = np.zeros((2 * rows * cols, rows))
    volts[drivers, range(rows)] = 1 / word
    solved = splu(csc_matrix((siemens, (at, to)))).solve(volts)
    return solved[feet].T / bit, (np.eye(rows) - solved[drivers].T) / word


@pytest.mark.parametrize(("bit", "word"), [(1, 1), (5, 0.1), (0.01, 20), (300, 500), (1e-6, 1e-6)])
@pytest.mark.parametrize("shape", [(40, 30), (70, 90), (1, 9), (9, 1)])
def test_the_currents_are_those_of_the_network_and_none_is_lost(shape, bit, word):
    cells = array(*shape)
    cells[0, 0] = 0.0  # a cell that is open
    got, (feet, drivers) = wires.carried(cells, bit, word), network(cells, bit, word)
    np.testing.assert_allclose(got, feet, rtol=0, atol=1e-11 * feet.max())
    # what one driver gives goes to the feet and, held at zero, into the other drivers; a volt is known to 1e-15
    np.testing.assert_allclose(
        got.sum(axis=1), drivers.sum(axis=1), rtol=1e-11, atol=1e-11 * feet.max() + 1e-15 * shape[0] / word
    )


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 20), cols=st.integers(1, 20), seed=st.integers(0, 99),
    bit=st.floats(1e-4, 1e4), word=st.floats(1e-4, 1e4),
)  # fmt: skip
def test_drivers_and_feet_may_change_places(rows, cols, seed, bit, word):
    cells = array(rows, cols, seed)
    other = wires.carried(cells[::-1, ::-1].T, word, bit)[::-1, ::-1].T
    np.testing.assert_allclose(wires.carried(cells, bit, word), other, rtol=0, atol=1e-11 * other.max())


def test_word_lines_without_resistance_are_the_bit_lines_alone_bit_for_bit():
    cells = array(60, 50)
    for drop, solve in (("ladder", wires.ladder), ("first-order", wires.first_order)):
        assert np.array_equal(wires.carried(cells, 2.0, 0.0, drop=drop), cells * solve(cells, 2.0))
    assert np.array_equal(wires.carried(cells, 0.0, 0.0), cells)
    np.testing.assert_allclose(wires.carried(cells, 2.0, 1e-9), wires.carried(cells, 2.0, 0.0), rtol=1e-9)
    np.testing.assert_allclose(wires.carried(cells, 1e-9, 2.0), wires.carried(cells, 0.0, 2.0), rtol=1e-9)
    weights = np.random.default_rng(1).integers(-1, 2, (300, 270)).astype(np.int8)
    alone = Devices(name="alone", wire_ohm=0.3, variation=0.1)
    on = [
        program(weights, crossbar=BAR, devices=of, readout=IDEAL)
        for of in (alone, replace(alone, pairs="side-by-side"))
    ]
    assert np.array_equal(on[0].lines[0].weights, on[1].lines[0].weights)


def test_small_wires_take_what_the_first_order_says():
    cells = array(50, 40)
    apart = [
        np.abs(wires.carried(cells, w, w) - wires.carried(cells, w, w, drop="first-order")).max() for w in (0.2, 0.02)
    ]
    assert apart[0] == pytest.approx(100 * apart[1], rel=0.05)  # the difference is of second order


def noise(devices):
    probe = Probe.drawn(128, 0.67, tokens=32, outputs=128)
    return probe.ratio(probe.run(SMALL, devices, IDEAL))


@pytest.mark.slow
def test_word_lines_add_noise_and_pairs_on_the_same_ones_more():
    alone = Devices(name="wired", wire_ohm=0.3)
    apart = replace(alone, word_ohm=0.3)
    beside = replace(apart, pairs="side-by-side")
    found = [noise(of) for of in (alone, apart, beside)]
    assert 2 * found[0] < found[1] < found[2] / 3
    for of in (alone, apart, beside):
        little = replace(of, wire_ohm=of.wire_ohm / 100, word_ohm=of.word_ohm / 100)
        form = ratios.wire(little, SMALL, outputs=128, density=0.67, off=0.01)
        assert noise(little) == pytest.approx(form, rel=0.1)


def test_pairs_side_by_side_lie_in_neighbouring_columns_of_their_tile():
    weights = np.random.default_rng(2).integers(-1, 2, (30, 20)).astype(np.int8)
    bar = replace(BAR, rows=16, cols=8)
    devices = Devices(name="wired", wire_ohm=20.0, word_ohm=40.0, pairs="side-by-side")
    got = multiply(program(weights, crossbar=bar, devices=devices, readout=IDEAL), np.eye(30, dtype=np.int64))
    want = np.empty(weights.shape)
    for top in range(0, 30, 16):
        for left in range(0, 20, 8):
            tile = (slice(top, top + 16), slice(left, left + 8))
            pairs = [np.where(weights[tile] * sign > 0, 1e-4, 1e-6) for sign in (1, -1)]
            feet, _ = network(np.stack(pairs, axis=-1).reshape(len(pairs[0]), -1), 20.0, 40.0)
            want[tile] = (feet[:, 0::2] - feet[:, 1::2]) / (1e-4 - 1e-6)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


@checkout
def test_word_lines_lower_the_archived_limits_of_wires_and_lower_still_side_by_side():
    found = noise_runs.archived(["noise-cells", noise_runs.WIRES])
    edges = [thresholds(ds, dataset.parameters(ds)).threshold for ds in found.values()]
    places = [f"wire, word lines, {place}" for place in ("apart", "side by side")]
    alone, apart, beside = edges[0].sel(curve_name="wire"), *(edges[1].sel(curve_name=place) for place in places)
    assert (beside.values < apart.values).all()
    assert (apart.values < alone.values).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"word_ohm": -1.0}, "Devices.word_ohm is -1.0; wanted a finite number of at least 0"),
     ({"word_ohm": "thin"}, "Devices.word_ohm is 'thin'; wanted"),
     ({"pairs": "beside"}, "unknown Devices.pairs 'beside'"),
     ({"flicker": -0.1}, "Devices.flicker is -0.1; wanted a finite number of at least 0"),
     ({"read_time": 0.0}, "Devices.read_time is 0.0; wanted")],
)  # fmt: skip
def test_what_cannot_be_is_refused(fields, words):
    with pytest.raises(BadInput, match=words):
        Devices(name="mine", **fields)


@pytest.mark.parametrize(("seconds", "noise"), [(0, 0.0368), (3600, 0.0419), (86400, 0.0448), (31536000, 0.0496)])
def test_a_phase_change_cell_is_read_with_the_noise_of_that_time(seconds, noise):
    pcm = replace(catalog.part("cells-pcm"), drift_time=(seconds + 20) / 20)
    since, read = seconds + 20, 250e-9  # since programming, drift counting from 20 s on; a read
    assert pcm.reading == pytest.approx(0.0088 * np.sqrt(np.log((since + read) / (2 * read))), rel=1e-12)
    assert pcm.reading == pytest.approx(noise, abs=5e-5)
    both = replace(pcm, read_noise=0.03)
    assert both.reading == pytest.approx(np.hypot(0.03, pcm.reading))
    assert Devices(name="plain", read_noise=0.01).reading == 0.01


def test_noise_of_reads_follows_the_time_of_the_read():
    quiet = {"curve_siemens": (), "drift": 0.0, "drift_spread": 0.0, "compensated": False}
    day = replace(catalog.part("cells-pcm"), **quiet)
    probe = Probe.drawn(256, 0.67, tokens=64, outputs=256)
    for devices in (day, replace(day, drift_time=1.0)):
        gain = ratios.pulse_power(probe.x, BAR, IDEAL)
        form = ratios.reads(devices, gain, density=0.67, off=0.01)
        assert probe.ratio(probe.run(BAR, devices, IDEAL)) == pytest.approx(form, rel=0.05)
    assert day.reading > 1.2 * replace(day, drift_time=1.0).reading
