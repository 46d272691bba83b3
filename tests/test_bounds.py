"""What bounds decoding: nothing is faster than one reading of the cache, and the parts of attention's time add up."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.analysis import remedies
from pimllm_lib.analysis.baselines import VectorUnit
from pimllm_lib.analysis.bounds import BOUNDS, cache_floor, decode_bounds
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_fields
from pimllm_lib.hardware import Speculation

PIM, TPU = pl.catalog.systems["pim-llm"], pl.catalog.systems["tpu-llm"]
SCALES = {"storage.kv_group": 32, "storage.kv_scale_bits": 32, "storage.kv_convert_j": 1e-13}
OPT, LLAMA = pl.catalog.models["opt-6.7b"], pl.catalog.models["llama-3-8b"]


def test_the_floor_is_the_cache_over_the_bandwidth():
    # keys and values of 32 blocks, 32 heads, 128 numbers, 8 bits, at 204.8 Gbit/s
    expected = 204.8e9 / (2 * 32 * 32 * 128 * 4096 * 8)
    assert expected == pytest.approx(23.84, abs=0.005)
    floor = cache_floor(system=PIM, model=OPT, context_len=[4096])
    assert floor.dims == ("context_len",)
    assert floor.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("machine", "model", "times"),
    [
        ({"dram.bandwidth_bps": 409.6e9}, {}, 2),
        ({"storage.kv_bits": 3} | SCALES, {}, 2),
        ({"decoding.batch": 8}, {}, 1),  # each sequence reads its own
        ({"decoding.pack_heads": True, "decoding.splits": 7}, {}, 1),
        ({}, {"n_kv_heads": 4}, 8),
        ({}, {"window": 1020, "sinks": 4}, 4),
        ({}, {"top_tokens": 512}, 8),
        ({}, {"latent_dim": 448, "rope_dim": 64}, 16),  # 512 numbers, once, for 32 heads of twice 128
        ({"decoding.speculation": Speculation(name="d", draft_len=3, acceptance=1.0, draft_layers=1)}, {}, 4),
    ],
)  # fmt: skip
def test_the_floor_rises_with_what_need_not_be_read(machine, model, times):
    args = {"context_len": [4096]}
    floor = cache_floor(system=with_fields(PIM, machine), model=with_fields(OPT, model), **args)
    assert floor.item() == pytest.approx(times * cache_floor(system=PIM, model=OPT, **args).item(), rel=1e-12)


def test_the_floor_of_a_memory_for_the_cache_is_that_of_its_own_bandwidth():
    store = pl.catalog.parts["kv-sram"]
    own = cache_floor(system=replace(PIM, kv=store), model=OPT, context_len=[128, 4096])
    other = cache_floor(system=PIM, model=OPT, context_len=[128, 4096])
    np.testing.assert_allclose(own, other * store.bandwidth_bps / PIM.dram.bandwidth_bps, rtol=1e-12)


def test_the_floor_follows_the_axes_of_machine_and_model():
    machine = with_fields(PIM, {"dram.bandwidth_bps": pl.axis(bandwidth=[1e11, 2e11, 4e11])})
    floor = cache_floor(
        system=machine, model=with_fields(OPT, {"window": pl.axis(window=[64, 128])}), context_len=[128]
    )
    assert dict(floor.sizes) == {"context_len": 1, "bandwidth": 3, "window": 2}
    assert (floor / floor.isel(bandwidth=0, window=1)).values.ravel().tolist() == [2, 1, 4, 2, 8, 4]


@st.composite
def _designs(draw):
    def one(*choices):
        return draw(st.sampled_from(choices))

    rows = one(1, 8, 32, 64)
    guess = Speculation(name="d", draft_len=one(1, 4, 12), acceptance=one(0.0, 0.6, 1.0), draft_layers=one(1, 8))
    machine = with_fields(one(PIM, TPU), {
        "array.rows": rows, "array.cols": one(8, 32, 1024), "array.arrays": one(1, 3, 64),
        "array.overlap": one(False, True),
        "array.row_groups": one(*(g for g in (1, 2, 8, 32) if rows % g == 0)), "array.dataflow": one("os", "ws", "is"),
        "array.rate_hz": one(1e8, 1e12), "decoding.batch": one(1, 2, 3, 8), "decoding.pack_heads": one(False, True),
        "decoding.splits": one(1, 4, 7), "decoding.pipelined": one(False, True),
        "decoding.speculation": one(None, guess), "storage.kv_bits": one(2, 4, 8, 16), **one({}, SCALES),
        "sram.port_bits": one(np.inf, 512.0, 1e6), "sram.weights_bytes": one(2.0**10, 2.0**22, 2.0**30),
        "dram.bandwidth_bps": one(1e9, 204.8e9, 1e13), "dram.capacity_bytes": 2.0**50,
    })  # fmt: skip
    if one(False, True):
        machine = replace(machine, kv=replace(pl.catalog.parts["kv-sram"], capacity_bytes=2.0**50,
                                              bandwidth_bps=one(1e9, 1e13)))  # fmt: skip
    latent = one(0, 0, 512)
    model = with_fields(one(OPT, LLAMA), {
        "n_kv_heads": one(1, 4, 8, 32), "window": one(np.inf, 100), "sinks": one(0, 4),
        "top_tokens": one(np.inf, 32, 1000),
        "latent_dim": latent, "rope_dim": one(0, 64) if latent else 0,
    })  # fmt: skip
    return machine, model, one(1, 77, 1000, 20_000)


@settings(max_examples=100, deadline=None)
@given(design=_designs())
def test_no_design_decodes_faster_than_its_cache_is_read(design):
    machine, model, context = design
    ds = pl.evaluate(system=machine, model=model, context_len=context, conventions="full-system",
                     variables=["latency_s"])  # fmt: skip
    floor = cache_floor(system=machine, model=model, context_len=[context]).item()
    assert 1 / ds.latency_s.item() <= floor * (1 + 1e-9)


#: What decides at 131072 tokens -> the machine.
DECIDED = {
    "other work": {"array.row_groups": 32, "dram.bandwidth_bps": 1e13, "bus.rate_bps": 1e5},
    "idle": {},
    "multipliers": {"array.row_groups": 32, "dram.bandwidth_bps": 1e13},
    "filling": {"array.rows": 1, "array.cols": 2**20, "dram.bandwidth_bps": 1e13},
    "SRAM": {"array.row_groups": 32, "sram.port_bits": 512.0},
    "cache memory": {"array.row_groups": 32, "array.rate_hz": 1e9},
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_what_takes_longest_decides(bound):
    machine = with_fields(PIM, DECIDED[bound] | {"dram.capacity_bytes": 2.0**50})
    found = decode_bounds(system=machine, model=OPT, context_len=[2**17])
    assert found.decides.values.tolist() == [bound]
    assert found.bound.values.tolist() == list(BOUNDS)


def test_every_bound_can_decide_and_no_other_word_does():
    assert set(DECIDED) == set(BOUNDS)


@pytest.mark.parametrize("names", [[], ["row groups"], ["16 arrays of 8 x 8", "overlapped folds", "packed heads"],
                                   ["weight stationary", "batch of 8"], ["speculation", "best 1024 tokens"],
                                   ["latent attention", "split sequence"]])  # fmt: skip
@pytest.mark.parametrize("model", [OPT, LLAMA])
def test_the_parts_of_the_time_of_attention_add_up(names, model):
    system, decoder = remedies.put(PIM, model, names)
    lengths = [16, 1000, 4096]
    times = decode_bounds(system=system, model=decoder, context_len=lengths).bound_s
    ds = pl.evaluate(system=system, model=decoder, context_len=lengths, conventions="full-system", detail="component")
    spent = ds.busy_s.sel(op=["score", "av", "select"]).sum("op").squeeze(drop=True)
    array = times.sel(bound=["multipliers", "idle", "filling"]).sum("bound")
    np.testing.assert_allclose(array, spent.sel(component=["stream", "fill"]).sum("component"), rtol=1e-12)
    np.testing.assert_allclose(times.sel(bound="SRAM"), spent.sel(component="sram"), rtol=1e-12)
    np.testing.assert_allclose(times.sel(bound="cache memory"), spent.sel(component="dram_kv"), rtol=1e-12)
    others = ds.latency_s.sum("component").squeeze(drop=True).drop_sel(op=["score", "av", "select"])
    np.testing.assert_allclose(times.sel(bound="other work"), others.sum("op"), rtol=1e-9)
    assert (times >= 0).all()


def test_memory_bounds_are_nothing_where_the_conventions_leave_memory_out():
    found = decode_bounds(system=PIM, model=OPT, context_len=[128], conventions="corrected")
    assert found.bound_s.sel(bound=["SRAM", "cache memory"]).values.ravel().tolist() == [0, 0]
    assert found.decides.item() == "idle"


def test_bounds_take_catalog_names_and_refuse_axes_and_machines_without_parts():
    named = decode_bounds(system="pim-llm", model="opt-125m", context_len=[128, 4096])
    assert named.identical(decode_bounds(system=PIM, model=pl.catalog.models["opt-125m"], context_len=[128, 4096]))
    wide = with_fields(PIM, {"array.row_groups": pl.axis(groups=[1, 32])})
    with pytest.raises(BadInput, match="pim-llm or the model has an axis; wanted one value of each number"):
        decode_bounds(system=wide, model="opt-125m", context_len=128)
    unit = VectorUnit.like(TPU.array)
    for asked in (decode_bounds, cache_floor):
        with pytest.raises(BadInput, match="vector-1024 has no storage or no memory for the cache"):
            asked(system=unit, model="opt-125m", context_len=[128])
