"""Cycles, traffic and energy of the systolic array: limits, hand-worked cases, an event-level simulation."""

from dataclasses import replace
from itertools import product

import event_array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pimllm_lib import catalog
from pimllm_lib.costs import systolic

FLOWS = ("os", "ws", "is")
sizes = st.integers(1, 300)
shapes = st.integers(1, 64)


def test_one_gemv_worked_by_hand():
    # 128 folds of columns, one of rows; 4096 cycles to stream and 62 to fill each; the last cycle is not counted
    assert systolic.cycles(1, 4096, 4096, rows=32, cols=32) == 128 * (4096 + 62) - 1


def test_weight_stationary_gemv_worked_by_hand():
    # 2 x 3 folds, each streams one row and spends 2*32+32-2 = 94 cycles on loading, filling and draining
    assert systolic.cycles(1, 64, 96, rows=32, cols=32, dataflow="ws") == 6 * 95 - 1


@given(m=sizes, k=sizes, n=sizes)
def test_one_output_stationary_pe_takes_a_cycle_for_each_mac(m, k, n):
    assert systolic.cycles(m, k, n, rows=1, cols=1) == m * k * n - 1


@given(m=sizes, k=sizes, n=sizes, rows=shapes, cols=shapes, flow=st.sampled_from(FLOWS))
def test_utilisation_is_a_share(m, k, n, rows, cols, flow):
    assert 0 < systolic.utilisation(m, k, n, rows=rows, cols=cols, dataflow=flow) <= 1


@given(k=sizes, n=sizes)
def test_one_pe_is_always_busy(k, n):
    assert systolic.utilisation(1, k, n, rows=1, cols=1) == 1


@given(m=sizes, k=sizes, n=sizes, rows=shapes, cols=shapes)
def test_input_stationary_is_weight_stationary_of_the_transposed_product(m, k, n, rows, cols):
    shape = {"rows": rows, "cols": cols}
    assert systolic.cycles(m, k, n, **shape, dataflow="is") == systolic.cycles(n, k, m, **shape, dataflow="ws")


@given(m=sizes, k=sizes, n=sizes, flow=st.sampled_from(FLOWS))
def test_a_larger_product_never_takes_fewer_cycles(m, k, n, flow):
    one = systolic.cycles(m, k, n, rows=8, cols=16, dataflow=flow)
    for bigger in ((m + 1, k, n), (m, k + 1, n), (m, k, n + 1)):
        assert systolic.cycles(*bigger, rows=8, cols=16, dataflow=flow) >= one


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 4, 4), (1, 9, 7), (4, 4, 4), (5, 6, 7), (8, 3, 10), (3, 12, 1)])
def test_counts_equal_an_event_level_simulation_of_a_4_x_4_array(m, k, n, flow):
    rng = np.random.default_rng(m * 100 + k * 10 + n)
    a, b = rng.integers(-3, 4, (m, k)).astype(float), rng.integers(-3, 4, (k, n)).astype(float)
    result, fold_cycles, seen = event_array.run(a, b, 4, 4, flow)
    np.testing.assert_array_equal(result, a @ b)
    shape = {"rows": 4, "cols": 4, "dataflow": flow}
    words = systolic.sram_words(m, k, n, **shape)
    assert {key: seen[key] for key in words} == words
    registers = systolic.register_accesses(m, k, n, **shape)
    assert {key: seen[key] for key in registers} == registers
    on = systolic.mapping(m, k, n, **shape)
    assert set(fold_cycles) <= {on.stream + on.fill}


def test_a_weight_stationary_gemv_moves_each_weight_through_the_rows():
    # the reason why output stationary suits decoding: 5 accesses per MAC, plus a hand-down of up to 32 rows each
    spent = systolic.register_accesses(1, 4096, 4096, rows=32, cols=32, dataflow="ws")
    assert spent["fill"] / 4096**2 == 32


@settings(max_examples=30)  # what breaks is a kind of wrapping, not a size
@given(k=sizes, n=sizes, rows=shapes, cols=shapes, flow=st.sampled_from(FLOWS))
def test_numbers_arrays_and_dataarrays_give_identical_results(k, n, rows, cols, flow):
    def compute(wrap):
        size = [wrap(x) for x in (2, k, n)]
        shape = {"rows": wrap(rows), "cols": wrap(cols), "dataflow": flow}
        on = systolic.mapping(*size, **shape)
        energy = systolic.energy(
            systolic.work_cycles(on, 1, rows=shape["rows"], dataflow=flow), systolic.mapped_cycles(on, 1),
            pes=shape["rows"] * shape["cols"], active_pe_energy_j=wrap(2.0), idle_pe_energy_j=wrap(1.0),
        )  # fmt: skip
        parts = [systolic.cycles(*size, **shape), systolic.utilisation(*size, **shape), *energy.values()]
        parts += [*systolic.sram_words(*size, **shape).values(), *systolic.register_accesses(*size, **shape).values()]
        return [np.ravel(np.asarray(part, dtype=float))[0] for part in parts]

    plain = compute(float)
    assert compute(lambda x: np.full((2, 3), float(x))) == plain
    assert compute(lambda x: xr.DataArray(np.full(4, float(x)), dims="point")) == plain


def test_an_axis_of_dataflows_gives_each_its_own_cycles():
    flows = xr.DataArray(list(FLOWS), dims="flow")
    together = systolic.cycles(3, 50, 70, rows=8, cols=4, dataflow=flows)
    apart = [systolic.cycles(3, 50, 70, rows=8, cols=4, dataflow=flow) for flow in FLOWS]
    assert together.values.tolist() == apart


def _energy(array, size, measured):
    on = systolic.mapping(*size, rows=array.rows, cols=array.cols, dataflow=array.dataflow)
    spent = systolic.energy(
        systolic.work_cycles(on, 1, rows=array.rows, dataflow=array.dataflow), systolic.mapped_cycles(on, 1),
        pes=array.rows * array.cols, active_pe_energy_j=array.active_pe_energy_j,
        idle_pe_energy_j=array.idle_pe_energy_j, measured_cycle_energy_j=array.measured_cycle_energy_j,
        measured=measured,
    )  # fmt: skip
    return sum(spent.values())


@pytest.mark.parametrize("name", ["edge-32x32", "cloud-256x256"])
def test_the_fitted_energy_goes_through_both_published_points(name):
    # one row of activations, whole folds of columns: the situation the published constants were taken in
    array, size = catalog.parts[name], (1, 512, 1024)
    folds = 1024 // array.cols
    fit, constant = _energy(array, size, False), _energy(array, size, True)
    cycle_lost_by_the_count = array.measured_cycle_energy_j  # the fit charges active PEs in it, the constant nothing
    assert fit == pytest.approx(constant, abs=cycle_lost_by_the_count)
    assert constant == pytest.approx((folds * (512 + 2 * array.cols - 2) - 1) * array.measured_cycle_energy_j)


def test_the_published_energy_per_cycle_holds_only_where_it_was_taken():
    import pimllm_lib as pl

    tpu = pl.catalog.systems["tpu-llm"]
    joules = {
        (flow, rows): pl.evaluate(
            system=replace(tpu, array=replace(tpu.array, dataflow=flow, rows=rows)), model="opt-6.7b", context_len=128
        ).energy_j.item()
        for flow in ("os", "ws")
        for rows in (31, 32, 33)
    }
    for flow in ("os", "ws"):  # no hole at the catalog's shape
        assert joules[flow, 32] == pytest.approx((joules[flow, 31] + joules[flow, 33]) / 2, rel=0.05)


def test_the_fitted_active_energy_lies_where_the_literature_puts_an_8_bit_mac():
    entry = catalog.parts.entries["edge-32x32"]["active_pe_energy_j"]
    low, high = entry["range"]
    assert low <= entry["value"] <= high


@given(m=sizes, k=sizes, n=sizes, rows=shapes, cols=shapes, flow=st.sampled_from(FLOWS))
def test_an_array_with_equal_active_and_idle_pes_spends_pes_times_cycles(m, k, n, rows, cols, flow):
    on = systolic.mapping(m, k, n, rows=rows, cols=cols, dataflow=flow)
    spent = systolic.energy(
        systolic.work_cycles(on, 1, rows=rows, dataflow=flow), systolic.mapped_cycles(on, 1), pes=rows * cols,
        active_pe_energy_j=1.0, idle_pe_energy_j=1.0,
    )  # fmt: skip
    cycles = systolic.cycles(m, k, n, rows=rows, cols=cols, dataflow=flow)
    assert sum(spent.values()) == pytest.approx(cycles * rows * cols)


def test_an_unknown_dataflow_is_named():
    for flow, words in product(["rs"], ["unknown dataflow 'rs'"]):
        with pytest.raises(ValueError, match=words):
            type(catalog.parts["edge-32x32"])(
                name="x", rows=1, cols=1, rate_hz=1.0, dataflow=flow, active_pe_energy_j=1.0, idle_pe_energy_j=1.0
            )
