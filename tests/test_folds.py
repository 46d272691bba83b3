"""Folds on units that work side by side, and half-batches that take turns: closed forms against event simulations."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import ATTENTION_OPS, PRODUCT_KINDS, PROJECTION_OPS
from pimllm_lib.costs import systolic
from pimllm_lib.system import schedule

CASES = [(1, 1, 1), (1, 7, 3), (5, 4, 1), (4, 4, 4), (3, 5, 8), (32, 3, 10), (8, 128, 32), (7, 1, 16)]


def _greedy(jobs, units):
    """Give each job to the unit that is free first. Return when the last one ends."""
    free = [0] * units
    for job in jobs:
        heapq.heapreplace(free, free[0] + job)
    return max(free)


def _most_products(products, units):
    """Return the most products that one unit gets of those dealt out in turn."""
    return max(len(range(unit, products, units)) for unit in range(units))


@pytest.mark.parametrize(("products", "folds", "units"), CASES)
def test_independent_folds_end_when_a_greedy_schedule_of_them_does(products, folds, units):
    on = systolic.mapping(3, 50, folds * 8, rows=4, cols=8)
    assert on.row_folds * on.col_folds == folds
    ends = _greedy([on.stream + on.fill] * (products * folds), units) - _most_products(products, units)
    assert sum(systolic.work_cycles(on, products, rows=4, units=units).values()) == ends


@pytest.mark.parametrize("flow", ["ws", "is"])
@pytest.mark.parametrize(("products", "chains", "units"), CASES)
def test_folds_that_add_to_one_sum_stay_on_one_unit(products, chains, units, flow):
    wide = chains * 8
    on = systolic.mapping(*((5, 11, wide) if flow == "ws" else (wide, 11, 5)), rows=4, cols=8, dataflow=flow)
    assert (on.row_folds, on.col_folds) == (3, chains)
    ends = _greedy([3 * (on.stream + on.fill)] * (products * chains), units) - _most_products(products, units)
    assert sum(systolic.work_cycles(on, products, rows=4, dataflow=flow, units=units).values()) == ends


@pytest.mark.parametrize(
    "k", [2, 4, 50]
)  # streams shorter than, as long as, and longer than operands take down the rows
@pytest.mark.parametrize(("products", "folds", "units"), CASES)
def test_overlapped_folds_fill_once(products, folds, units, k):
    on = systolic.mapping(3, k, folds * 8, rows=4, cols=8)
    ends = _greedy([max(k, 4)] * (products * folds), units) + on.fill - 1
    assert sum(systolic.work_cycles(on, products, rows=4, units=units, overlap=True).values()) == ends


@given(sizes=st.tuples(*[st.integers(1, 60)] * 3), dealt=st.integers(0, 2), larger=st.integers(0, 9),
       smaller=st.integers(0, 9), units=st.integers(1, 12), flow=st.sampled_from(["os", "ws", "is"]))  # fmt: skip
def test_products_of_two_sizes_share_units_as_a_greedy_schedule_does(sizes, dealt, larger, smaller, units, flow):
    def laid(more):
        size = [n + more * (i == dealt) for i, n in enumerate(sizes)]
        on = systolic.mapping(*size, rows=4, cols=8, dataflow=flow)
        chained = 1 if flow == "os" else on.row_folds
        return on, chained * (on.stream + on.fill), int(on.row_folds * on.col_folds / chained)

    (first, long, more), (then, short, less) = laid(1), laid(0)
    shape = {"rows": 4, "dataflow": flow, "units": units}
    spent = (
        systolic.work_cycles(first, larger, **shape),
        systolic.work_cycles(then, smaller, **shape, before=(first, larger)),
    )
    ends = _greedy([long] * (larger * more) + [short] * (smaller * less), units)
    ends -= _most_products(larger + smaller, units)
    assert 0 <= sum(sum(each.values()) for each in spent) - ends <= long - short


@given(m=st.integers(1, 99), k=st.integers(1, 300), n=st.integers(1, 300), products=st.integers(0, 9),
       rows=st.integers(1, 40), cols=st.integers(1, 40), flow=st.sampled_from(["os", "ws", "is"]))  # fmt: skip
def test_one_unit_without_overlap_takes_the_cycles_of_one_product_after_another(m, k, n, products, rows, cols, flow):
    on = systolic.mapping(m, k, n, rows=rows, cols=cols, dataflow=flow)
    closed = products * (on.row_folds * on.col_folds * (on.stream + on.fill) - 1)
    assert sum(systolic.work_cycles(on, products, rows=rows, dataflow=flow).values()) == closed


@given(m=st.integers(1, 99), k=st.integers(1, 300), n=st.integers(1, 300), products=st.integers(1, 9),
       units=st.integers(1, 40), overlap=st.sampled_from([False, True, 0, 1]),
       flow=st.sampled_from(["os", "ws", "is"]))  # fmt: skip
def test_mapped_cycles_are_never_more_than_those_there_are(m, k, n, products, units, overlap, flow):
    on = systolic.mapping(m, k, n, rows=8, cols=4, dataflow=flow)
    spent = systolic.work_cycles(on, products, rows=8, dataflow=flow, units=units, overlap=overlap)
    mapped = systolic.mapped_cycles(on, products, units=units, overlap=overlap)
    # PEs are mapped in the last cycle too, which the count leaves out
    assert sum(mapped.values()) <= (sum(spent.values()) + products) * units * 8 * 4 * (1 + 1e-12)


def test_groups_of_rows_take_what_other_rows_leave():
    one = systolic.groups("os", np.array([1, 3, 4, 17, 32, 99]), 128, rows=32, row_groups=32)
    assert one.tolist() == [32, 10, 8, 1, 1, 1]
    assert systolic.groups("os", 1, 128, rows=32, row_groups=1) == 1
    assert systolic.groups("ws", 1, 8, rows=32, row_groups=2) == 2


def _rate(k, n, overlap=True):
    on = systolic.mapping(1, k, n, rows=1, cols=1024)
    return k * n / sum(systolic.work_cycles(on, 1, rows=1, overlap=overlap).values())


def test_one_long_row_with_overlap_comes_near_a_mac_in_every_pe_and_cycle():
    rates = [_rate(k, 65536) for k in (16, 64, 256, 1024, 4096)]
    assert rates == sorted(rates)
    assert 0.98 * 1024 < rates[-1] < 1024
    assert _rate(4096, 65536, overlap=False) < rates[-1]


def test_weighted_values_leave_most_of_one_long_row_idle():
    # a head has 128 numbers, and so many columns: the others hold nothing
    rates = [_rate(k, 128) for k in (128, 4096, 131072, 2**24)]
    assert rates == sorted(rates)
    assert 127 < rates[-1] <= 128


def _in_turns(first, second, blocks):
    """Simulate two half-batches on two engines that each take one of them at a time. Return when the last one ends."""
    free, ready = {"first": 0.0, "second": 0.0}, [0.0, 0.0]
    for _ in range(blocks):
        for half in (0, 1):
            for engine, whole in (("first", first), ("second", second)):
                ready[half] = free[engine] = max(free[engine], ready[half]) + whole / (2 * blocks)
    return max(ready)


@settings(deadline=None)
@given(pim=st.floats(0.01, 100), array=st.floats(0.01, 100), blocks=st.integers(1, 40))
def test_half_batches_in_turns_end_when_their_events_do(pim, array, blocks):
    share = schedule.hidden({"pim": pim, "array": array}, blocks=blocks, pipelined=True, batch=2)
    ends = share["pim"] * pim + share["array"] * array
    assert ends == pytest.approx(_in_turns(pim, array, blocks), rel=1e-12)
    assert ends == pytest.approx(max(pim, array) + min(pim, array) / (2 * blocks), rel=1e-12)


def test_one_sequence_alone_hides_nothing():
    for batch, pipelined in ((1, True), (np.float64(1), 1), (8, False), (8, 0)):
        share = schedule.hidden({"pim": 2.0, "array": 6.0}, blocks=10, pipelined=pipelined, batch=batch)
        assert share == {"pim": 1.0, "array": 1.0}


@pytest.mark.parametrize("context", [128, 4096])
def test_a_machine_in_turns_waits_for_its_slower_half_and_for_what_the_whole_batch_shares(context):
    pim, model = pl.catalog.systems["pim-llm"], pl.catalog.models["opt-6.7b"]
    serial, turns = (
        pl.evaluate(system=with_fields(pim, {"decoding.batch": 8, "decoding.pipelined": on}), model=model,
                    context_len=context, conventions="full-system", detail="op").latency_s.squeeze(drop=True)
        for on in (False, True)
    )  # fmt: skip
    between = [op for op in serial.op.values if op not in PRODUCT_KINDS and op != "block"]
    on_pim = serial.sel(op=list(PROJECTION_OPS)).sum().item()
    on_array = serial.sel(op=[*ATTENTION_OPS, *between]).sum().item()
    shared = serial.sel(op=["lm_head", "block"]).sum().item()
    expected = shared + max(on_pim, on_array) + min(on_pim, on_array) / (2 * 32)
    assert turns.sum().item() == pytest.approx(expected, rel=1e-12)
