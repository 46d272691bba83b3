"""Ways of decoding and of attending: packed heads, windows, chosen tokens, latents, batches, a memory for the cache."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import PROJECTION_OPS, SUBSYSTEMS
from pimllm_lib.hardware import Decoding, KvStore
from pimllm_lib.workload.caches import attended, cache_words
from pimllm_lib.workload.elements import elementwise
from pimllm_lib.workload.products import products
from pimllm_lib.workload.shapes import parameter_count

PIM, TPU = pl.catalog.systems["pim-llm"], pl.catalog.systems["tpu-llm"]
SMALL, OPT, LLAMA = (pl.catalog.models[name] for name in ("opt-125m", "opt-6.7b", "llama-3-8b"))
PACKED = with_fields(PIM, {"decoding.pack_heads": True})


def _costs(system, model, context=4096, **more):
    args = {"conventions": "full-system", "detail": "component"} | more
    ds = pl.evaluate(system=system, model=model, context_len=context, **args)
    return ds.squeeze(["system", "model"], drop=True)


def _same(one, other, but=()):
    return [name for name in one.data_vars if name not in but and not np.array_equal(one[name], other[name])] == []


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_groups_of_one_head_are_multi_head_attention_whether_packed_or_not(phase):
    for model in (OPT, with_fields(LLAMA, {"n_kv_heads": 32})):
        assert _same(_costs(PIM, model, phase=phase), _costs(PACKED, model, phase=phase))


def test_packing_makes_rows_of_the_heads_that_share_keys():
    apart, packed = (
        {p.op: p for p in products(LLAMA, 4096, way=Decoding(name="x", pack_heads=on))} for on in (False, True)
    )
    for op in ("score", "av"):
        assert (apart[op].m, apart[op].count) == (1, 32)
        assert (packed[op].m, packed[op].count) == (4, 8)
        assert packed[op].macs == apart[op].macs


@pytest.mark.parametrize("model", [OPT, with_fields(LLAMA, {"latent_dim": 512, "rope_dim": 64})])
@pytest.mark.parametrize("packed", [False, True])
def test_parts_of_a_context_that_hold_no_token_cost_nothing(model, packed):
    def cut(splits):
        return with_fields(PIM, {"decoding.splits": splits, "decoding.pack_heads": packed})

    assert _same(_costs(cut(8), model, 1), _costs(PIM if not packed else PACKED, model, 1))
    for context in (2, 3, 7):
        assert _same(_costs(cut(8), model, context), _costs(cut(context), model, context))


@given(context=st.integers(1, 10**9), splits=st.integers(1, 10**4), top=st.sampled_from([np.inf, 100, 257]))
def test_a_cut_context_does_the_multiplications_of_its_tokens(context, splits, top):
    model = with_fields(LLAMA, {"top_tokens": top})
    apart, together = (
        [p for p in products(model, context, way=Decoding(name="x", splits=n)) if p.op in ("score", "av")]
        for n in (splits, 1)
    )
    for cut, whole in zip(apart, together, strict=True):
        assert cut.macs == whole.macs
        tokens = [(p.n if p.op == "score" else p.k, p.count / 32) for p in cut.whole if p.count]
        assert sum(size * number for size, number in tokens) == min(context, top)
        # the longest part is as long as equal parts of whole tokens are
        assert max(tokens)[0] == -(-min(context, top) // min(splits, context, top))


def test_drafted_tokens_turn_sinks_once_in_whole_numbers():
    windowed = with_fields(LLAMA, {"window": 1020, "sinks": 4})
    for checked in range(1, 60):
        (turn,) = (e for e in elementwise(windowed, 4096, checked) if e.function == "turn")
        assert turn.elements == 8 * 128 * 4


def test_packed_heads_read_keys_and_values_from_on_chip_memory_once():
    apart, packed = (_costs(system, LLAMA).sram_reads.sum("component") for system in (PIM, PACKED))
    for op, k, n, times in (("score", 128, 4096, 128), ("av", 4096, 128, 4)):
        # of each head a vector for every fold of columns, and keys or values for every group
        assert apart.sel(op=op).item() == 32 * 32 * (k * n + k * times)
        assert packed.sel(op=op).item() == 32 * 8 * (k * n + 4 * k * times)


def _cache_words_read(machine, model):
    """Return the words that scores and weighted values bring in, per block; 8 bits each."""
    return _costs(with_fields(PIM, machine), model).dram_bytes.sel(op=["score", "av"], component="dram_kv").sum() / 32


def test_heads_that_share_keys_read_them_once_where_they_fit_or_are_packed():
    small, words = {"sram.weights_bytes": 2.0**10}, 2 * 4096 * 128
    assert _cache_words_read({}, LLAMA) == 8 * words
    assert _cache_words_read(small, LLAMA) == 32 * words
    assert _cache_words_read(small | {"decoding.pack_heads": True}, LLAMA) == 8 * words


def test_heads_that_choose_for_themselves_read_tokens_of_their_own():
    chosen, words = with_fields(LLAMA, {"top_tokens": 256}), 2 * 256 * 128
    assert _cache_words_read({}, chosen) == 32 * words
    assert _cache_words_read({"decoding.pack_heads": True}, chosen) == 8 * words


@pytest.mark.parametrize("window", [4096, 4097, 10**9])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_a_window_beyond_the_context_is_full_attention(window, phase):
    windowed = with_fields(LLAMA, {"window": window, "sinks": 4})
    assert _same(_costs(PIM, windowed, [7, 4096], phase=phase), _costs(PIM, LLAMA, [7, 4096], phase=phase))


def test_decoding_costs_the_same_at_every_context_beyond_a_window():
    ds = _costs(PIM, with_fields(LLAMA, {"window": 1020, "sinks": 4}), [1025, 4096, 10**6])
    for name in ds.data_vars:
        table = ds[name].transpose(..., "context_len").values if "context_len" in ds[name].dims else np.zeros((1, 1))
        assert np.array_equal(table[..., 1:], np.broadcast_to(table[..., :1], table[..., 1:].shape)), name


def test_sinks_are_attended_to_beside_a_window():
    windowed = with_fields(LLAMA, {"window": 1020, "sinks": 4})
    assert [attended(windowed, n) for n in (100, 1023, 1024, 5000)] == [100, 1023, 1024, 1024]
    with_sinks, without = (_costs(PIM, m).macs for m in (windowed, with_fields(windowed, {"sinks": 0})))
    more = (with_sinks - without).sum("component").sel(op=["score", "av"])
    assert more.values.ravel().tolist() == [32 * 32 * 128 * 4] * 2


def test_to_choose_as_many_tokens_as_there_are_is_full_attention_but_for_bounds_of_pages():
    chosen, full = _costs(PIM, with_fields(LLAMA, {"top_tokens": 4096})), _costs(PIM, LLAMA)
    assert _same(chosen, full, but=["kv_bytes"])
    # least and greatest key of every page of 16 tokens
    assert (chosen.kv_bytes - full.kv_bytes).sum().item() == 2 * 4096 / 16 * 128 * 8 * 32


def test_prefill_chooses_no_tokens():
    chosen = with_fields(LLAMA, {"top_tokens": 64})
    assert _same(_costs(PIM, chosen, phase="prefill"), _costs(PIM, LLAMA, phase="prefill"))
    assert not _same(_costs(PIM, chosen), _costs(PIM, LLAMA))


@pytest.mark.parametrize("heads", [(32, 32), (32, 8), (16, 1)])
def test_a_latent_cache_has_the_same_words_for_any_number_of_heads(heads):
    model = with_fields(LLAMA, {"n_heads": heads[0], "n_kv_heads": heads[1], "latent_dim": 512, "rope_dim": 64})
    assert cache_words(model, 1000) == 1000 * 32 * (512 + 64)
    assert _costs(PIM, model, 1000).kv_bytes.sum().item() == 1000 * 32 * (512 + 64)


def test_parameters_of_latents_are_counted_for_a_number_and_for_an_array():
    sizes = [0, 256, 512]
    apart = [parameter_count(with_fields(LLAMA, {"latent_dim": size})) for size in sizes]
    assert parameter_count(with_fields(LLAMA, {"latent_dim": np.array(sizes)})).tolist() == apart
    assert apart[0] == parameter_count(LLAMA)
    # each of 32 blocks: one matrix into the latent, a norm, and two matrices out of it for 32 heads of 128, in place of
    # keys and values
    assert apart[2] - apart[0] == 32 * (4096 * 512 + 512 + 2 * 32 * 512 * 128 - 2 * 4096 * 1024)


@pytest.mark.parametrize("batch", [2, 8])
def test_a_batch_shares_the_output_head_and_nothing_of_the_crossbars_or_the_cache(batch):
    one, many = (_costs(with_fields(PIM, {"decoding.batch": size}), LLAMA) for size in (1, batch))
    crossbars = {"op": list(PROJECTION_OPS), "component": list(SUBSYSTEMS["pim"])}
    np.testing.assert_allclose(many.busy_s.sel(crossbars), one.busy_s.sel(crossbars), rtol=1e-13)
    np.testing.assert_allclose(many.kv_bytes, batch * one.kv_bytes, rtol=1e-13)
    head = {"op": "lm_head", "component": "dram_weights"}
    assert many.dram_bytes.sel(head).item() == pytest.approx(one.dram_bytes.sel(head).item() / batch, rel=1e-13)
    cache = {"op": ["score", "av"], "component": "dram_kv"}
    np.testing.assert_allclose(many.dram_bytes.sel(cache), one.dram_bytes.sel(cache), rtol=1e-13)


@pytest.mark.parametrize("model", [SMALL, OPT, LLAMA])
@pytest.mark.parametrize("system", [PIM, TPU])
@pytest.mark.parametrize("extra", [{}, {"decoding.pipelined": True}, {"array.row_groups": 32}, {"array.overlap": True}])
def test_a_batch_never_makes_a_token_slower(system, model, extra):
    # groups are of as many rows as a batch has: where it does not divide the rows, some of them stay idle
    sizes = [1, 2, 4, 8, 16, 32, 64] if "array.row_groups" in extra else [1, 2, 3, 4, 7, 8, 17, 32, 33, 64]
    machine = with_fields(system, extra | {"decoding.batch": pl.axis(batch=sizes), "dram.capacity_bytes": 2.0**50})
    latency = _costs(machine, model, [16, 4096], detail="total").latency_s
    assert (latency <= latency.sel(batch=1) * (1 + 1e-12)).all()


@pytest.mark.parametrize("system", [PIM, with_fields(PIM, {"array.arrays": 4096, "nonlinear.lanes": 1})])
def test_a_softmax_that_streams_ends_with_the_scores_or_after_them(system):
    system = with_fields(system, {"dram.bandwidth_bps": 1e15})
    ds = _costs(system, LLAMA)[["busy_s", "latency_s"]].sum("component")
    score, softmax = (ds.busy_s.sel(op=op).item() for op in ("score", "softmax"))
    depth = 32 * system.nonlinear.depth_s
    together = max(ds.latency_s.sel(op="score").item(), softmax - depth) + depth
    assert ds.latency_s.sel(op=["score", "softmax"]).sum().item() == pytest.approx(together, rel=1e-12)
    assert (softmax > score) == (system.nonlinear.lanes == 1)


def _store(capacity_bytes):
    # a memory as fast and as costly as the off-chip one, so that nothing but its place differs
    return KvStore(name="mine", capacity_bytes=capacity_bytes, bandwidth_bps=PIM.dram.bandwidth_bps,
                   bit_j=PIM.dram.bit_j, byte_standby_w=1e-7, byte_area_m2=2e-12)  # fmt: skip


def test_a_memory_for_the_cache_takes_its_traffic_and_nothing_else():
    far, near = _costs(PIM, LLAMA), _costs(replace(PIM, kv=_store(2.0**30)), LLAMA)
    there, here = {"component": "dram_kv"}, {"component": "kv_store"}
    for name in ("energy_j", "busy_s", "kv_bytes"):
        assert far[name].sel(there).sum() > 0
        assert np.array_equal(near[name].sel(here), far[name].sel(there))
        assert near[name].sel(there).sum() == far[name].sel(here).sum() == 0
    rest = [c for c in far.component.values if c not in ("dram_kv", "kv_store", "standby")]
    for name in far.data_vars:
        if "component" in far[name].dims:
            assert np.array_equal(near[name].sel(component=rest), far[name].sel(component=rest)), name
    assert near.area_m2.sel(here).sum().item() == 2e-12 * 2.0**30
    standing = (near.static_power_w - far.static_power_w).sum().item()
    assert standing == pytest.approx(1e-7 * 2.0**30, rel=1e-9)


def test_a_cache_too_large_for_its_memory_is_refused_with_what_is_missing():
    # 32 GiB of cache and 0.19 GiB of output head in 16 GiB
    with pytest.raises(BadInput, match=r"pim-llm.dram .lpddr5-6400. holds 16 GiB, and .* need 16.2 GiB more; wanted"):
        _costs(PIM, OPT, 2**17)
    with pytest.raises(
        BadInput, match=r"pim-llm.kv .kv-sram. holds 0.0625 GiB, and keys and values need 0.188 GiB more"
    ):
        _costs(replace(PIM, kv=pl.catalog.parts["kv-sram"]), OPT, 1024)
    with pytest.raises(BadInput, match=r"need 0.438 GiB more"):  # half a GiB of 32 sequences
        _costs(with_fields(replace(PIM, kv=_store(2.0**26)), {"decoding.batch": 32}), OPT, 64)
