"""Three dataflows of one array: known cycles, hand-worked accesses, and what must hold whatever the model."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from conftest import CONTEXTS, SEVEN

import pimllm_lib as pl
from pimllm_chapters import dataflows
from pimllm_lib.core.conventions import AS_PUBLISHED

FLOWS = ["os", "ws", "is"]
TPU = pl.catalog.systems["tpu-llm"]
ANY_FLOW = replace(TPU.array, measured_cycle_energy_j=0.0, dataflow=pl.axis(dataflow=FLOWS))
CHARGED = replace(AS_PUBLISHED, name="with SRAM", memory=True)
WANTED = ["array_macs", "array_products", "cycles", "energy_j", "sram_reads", "sram_writes", "register_accesses"]


def costs(phase="decode", model="opt-6.7b", context_len=128):
    return pl.evaluate(
        system=replace(TPU, array=ANY_FLOW), model=model, context_len=context_len, conventions=CHARGED, phase=phase,
        detail="component", variables=WANTED,
    ).sel(component=["stream", "fill", "sram"])  # fmt: skip


@pytest.fixture(scope="module")
def ds():
    phases = {phase: costs(phase, SEVEN, CONTEXTS) for phase in ("decode", "prefill")}
    return pl.metrics.by_phase(**phases)


@pytest.mark.parametrize(
    ("model", "block"),
    [("opt-6.7b", (6_411_450, 18_774_970, 6_456_506)), ("gpt2-355m", (222_618, 607_962, 231_834))],
)
def test_cycles_of_a_block_at_128_tokens_are_those_of_the_simulator(model, block):
    cycles = costs(model=model).cycles.sum(["op", "component"]).squeeze() / pl.catalog.model(model).n_layers
    assert tuple(cycles.sel(dataflow=FLOWS).values.astype(int)) == block
    assert (cycles % 1 == 0).all()


def test_an_axis_of_dataflows_gives_what_each_gives_alone():
    together = costs()
    for flow in FLOWS:
        alone = replace(TPU, array=replace(TPU.array, measured_cycle_energy_j=0.0, dataflow=flow))
        one = pl.evaluate(
            system=alone, model="opt-6.7b", context_len=128, conventions=CHARGED, detail="component", variables=WANTED
        ).sel(component=["stream", "fill", "sram"])
        xr.testing.assert_allclose(together.sel(dataflow=flow, drop=True), one, rtol=1e-12)


def test_accesses_of_one_projection_by_hand():
    q = costs().sel(op="q").sum("component").squeeze() / 32  # 4096 x 4096 in each of 32 blocks
    folds, macs = 128, 4096**2
    words = {
        "os": folds * 4096 + macs + 4096,
        "ws": folds * 4096 + macs + folds * 4096 + (folds - 1) * 4096,
        "is": 4096 + macs + folds * 4096 + (folds - 1) * 4096,
    }
    registers = {"os": 6 * macs + 4096, "ws": (5 + 32) * macs, "is": 5 * macs + folds * 32**2}
    for flow in FLOWS:
        at = q.sel(dataflow=flow)
        assert at.sram_reads + at.sram_writes == words[flow]
        assert at.register_accesses == registers[flow]


def test_for_output_stationary_decoding_the_fit_gives_the_reported_energy_of_a_cycle(ds):
    decode = dataflows.measures(ds).sel(phase="decode", dataflow="os")
    whole = ["opt-1.3b", "opt-6.7b", "llama-7b"]  # no fold of theirs is partly filled
    per_cycle = (decode.array_j / decode.cycles).sel(model=whole)
    # the mapped PEs are charged for the last cycle of a product, which the count of cycles leaves out
    np.testing.assert_allclose(per_cycle, TPU.array.measured_cycle_energy_j, rtol=1e-5)


def test_no_dataflow_beats_the_array(ds):
    use = dataflows.measures(ds).utilisation
    assert (use <= 1).all()
    assert (use.sel(phase="decode") < 1 / 31).all()  # one row or column of 32, whatever the dataflow


def test_which_dataflow_has_the_least(ds):
    least = dataflows.measures(ds).squeeze("system")
    decode = least.sel(phase="decode")
    for name in ("cycles", "sram_words_per_mac", "array_j", "on_chip_j"):
        assert (decode[name].argmin("dataflow") == FLOWS.index("os")).all(), name
    assert (decode.register_accesses_per_mac.argmin("dataflow") == FLOWS.index("is")).all()
    prefill = least.sel(phase="prefill", context_len=4096)
    assert (prefill.cycles.argmin("dataflow") == FLOWS.index("ws")).all()
    assert (prefill.on_chip_j.argmin("dataflow") == FLOWS.index("os")).all()


def test_the_table_names_the_least_and_the_sentence_counts_the_turns(ds):
    compared = dataflows.measures(ds)
    table = dataflows.fewest(compared).frame
    assert len(table) == 2 * 2 * len(SEVEN) * 5
    row = table[(table.phase == "decode") & (table.quantity == "Register accesses")]
    assert set(row.least) == {"IS"}
    cycles = compared.cycles.squeeze("system").sel(phase="prefill")
    won = int((cycles.min("dataflow") < cycles.sel(dataflow="os")).sum())
    assert f"at {won} of {len(SEVEN) * len(CONTEXTS)} points" in dataflows.prefill_turn(compared)
