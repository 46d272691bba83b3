"""Models whose blocks are not alike: their kinds add up, and what a machine has once is there once."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import pimllm_lib as pl
from pimllm_lib.analysis import bounds, endurance, remedies
from pimllm_lib.analysis.baselines import VectorUnit
from pimllm_lib.catalog.models import from_mapping
from pimllm_lib.core.conventions import PRESETS
from pimllm_lib.core.schema import VARIABLES
from pimllm_lib.workload.caches import cache_words, state_words, token_words
from pimllm_lib.workload.decoder import kinds
from pimllm_lib.workload.products import products, stored_bytes
from pimllm_lib.workload.shapes import parameter_count

QWEN = pl.catalog.models["qwen3-8b"]
TPU, PIM = pl.catalog.systems["tpu-llm"], pl.catalog.systems["pim-llm"]
HALVES = replace(QWEN, name="halves", blocks=({"count": 20}, {"count": 16}))
LINEAR = {"mixer": "linear", "mix_in": 12288, "mix_out": 4096, "state_heads": 32, "state_dim": 128, "state_width": 128}
MIXED = replace(QWEN, name="mixed", blocks=({"count": 27, **LINEAR, "state_extra": 1000}, {"count": 9, "window": 512}))
CONTEXTS = [100, 5000]


def evaluated(model, system="pim-llm", conventions="full-system", **more):
    args = {"context_len": CONTEXTS, "conventions": conventions, "detail": "component"}
    return pl.evaluate(system=system, model=model, **args | more)


@pytest.mark.parametrize("conventions", list(PRESETS))
@pytest.mark.parametrize("system", ["tpu-llm", "pim-llm", "pim-llm-lop", "pim-attention"])
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_kinds_that_differ_in_nothing_cost_what_equal_blocks_cost(system, conventions, phase):
    if phase == "prefill" and conventions == "as-published":
        conventions = "corrected"
    one = evaluated(replace(QWEN, name="halves"), system, conventions, phase=phase)
    two = evaluated(HALVES, system, conventions, phase=phase)
    for name in one.data_vars:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-11, atol=1e-18, err_msg=name)


def test_sizes_of_kinds_add_up():
    assert parameter_count(HALVES) == parameter_count(QWEN)
    assert stored_bytes(HALVES) == stored_bytes(QWEN)
    assert token_words(HALVES) == token_words(QWEN)
    linear, windowed = kinds(MIXED)
    assert (linear.n_layers, windowed.n_layers, windowed.window) == (27, 9, 512)
    assert token_words(MIXED) == 9 * 2 * 8 * 128
    assert state_words(MIXED) == 27 * (32 * 128 * 128 + 1000)
    kept = [cache_words(MIXED, n) for n in (512, 5000)]
    assert kept[0] == kept[1] == state_words(MIXED) + 512 * token_words(MIXED)


def test_a_state_is_kept_and_moved_whole_whatever_the_context():
    ds = evaluated(replace(MIXED, blocks=({"count": 36, **LINEAR},)), TPU).squeeze()
    assert float(ds.kv_bytes.sum(["op", "component"])[0]) == 36 * 32 * 128 * 128
    moved = ds.dram_bytes.sel(op="state", component="dram_kv")
    np.testing.assert_allclose(moved, 2 * 36 * 32 * 128 * 128)  # in and out, a byte a number
    for name in ("latency_s", "energy_j", "macs"):
        assert np.ptp(ds[name].sum(["op", "component"]).values) == 0


def test_a_mixed_model_costs_its_kinds_and_what_is_outside_of_blocks_once():
    """MACs, traffic and tiles are those of its kinds alone, less the heads that each of these has."""
    parts = [replace(kind, name=f"kind-{i}") for i, kind in enumerate(kinds(MIXED))]
    whole, *alone = (evaluated(model).sum("component") for model in (MIXED, *parts))
    for name in ("macs", "cycles", "tiles", "dram_bytes", "array_products"):
        inside = [
            ds[name].sel(op=[op for op in ds.op.values if op != "lm_head"]).squeeze("model") for ds in (whole, *alone)
        ]
        np.testing.assert_allclose(inside[0], inside[1] + inside[2], rtol=1e-12)
        head = [ds[name].sel(op="lm_head").squeeze("model") for ds in (whole, alone[0])]
        np.testing.assert_array_equal(*head)
    area = evaluated(MIXED).area_m2.squeeze().isel(context_len=0)
    array = evaluated(QWEN).area_m2.squeeze().isel(context_len=0)
    for component in ("stream", "sram", "nonlinear", "global_buffer", "controller"):
        assert float(area.sel(component=component).sum("op")) == pytest.approx(
            float(array.sel(component=component).sum("op"))
        )


def test_models_of_both_sorts_stand_side_by_side():
    axis = pl.axis(array_rows=[16, 32])
    both = evaluated([QWEN, MIXED, replace(QWEN, name="again")], replace(PIM, array=replace(PIM.array, rows=axis)))
    assert both.model.values.tolist() == ["qwen3-8b", "mixed", "again"]
    for name in both.data_vars:
        if VARIABLES[name].extensive:
            alone = evaluated(MIXED, replace(PIM, array=replace(PIM.array, rows=axis)))[name]
            np.testing.assert_array_equal(*xr.broadcast(both[name].sel(model=["mixed"]), alone))
    np.testing.assert_array_equal(both.latency_s.sel(model="again"), both.latency_s.sel(model="qwen3-8b"))


def test_a_users_accelerator_is_charged_every_kind():
    unit = VectorUnit.like(TPU.array)
    ds = pl.evaluate(system=unit, model=[HALVES, MIXED], context_len=1000).squeeze()
    macs = [sum(p.macs for p in products(model, 1000) if p.op != "lm_head") for model in (HALVES, MIXED)]
    np.testing.assert_allclose(ds.latency_s * unit.lanes * unit.rate_hz, macs, rtol=1e-12)


def test_a_chunk_starts_anew_and_a_window_ends():
    chunked = replace(QWEN, chunk=512)
    macs = [sum(p.macs for p in products(chunked, n) if p.op == "score") for n in (1, 512, 513, 1024, 1030)]
    assert macs == [36 * 32 * 128 * n for n in (1, 512, 1, 512, 6)]


def test_an_index_reads_keys_of_its_own_to_choose_tokens():
    chosen = replace(QWEN, name="indexed", top_tokens=2048, index_heads=16, index_dim=64)
    assert token_words(chosen) == token_words(QWEN) + 36 * 64
    by_op = {p.op: p.macs for p in products(chosen, 5000)}
    assert (by_op["select"], by_op["score"]) == (36 * 16 * 64 * 5000, 36 * 32 * 128 * 2048)
    assert "select" not in {p.op for p in products(chosen, 2048) if np.any(p.macs)}


def test_bits_decide_where_a_product_goes_unless_routing_names_it():
    def tiles(model, system="pim-llm"):
        return evaluated(model, system, context_len=128).tiles.sum("component").squeeze()

    few, dense = replace(QWEN, head_levels=2), replace(QWEN, dense=("ff2", "x"))
    assert float(tiles(QWEN).sel(op="lm_head")) == 0 < float(tiles(few).sel(op="lm_head"))
    told = replace(PIM, routing={**PIM.routing, "lm_head": "array"})
    assert float(tiles(few, told).sum()) == float(tiles(QWEN).sum())
    assert float(tiles(dense).sel(op=["ff2", "x"]).sum()) == 0 < float(tiles(QWEN).sel(op="x"))
    told = replace(PIM, routing={**PIM.routing, "x": "pim"})
    assert float(tiles(dense, told).sel(op="x")) > 0
    one = replace(QWEN, name="one", blocks=({"count": 30}, {"count": 6, "dense": ["ff2"]}))
    assert float(tiles(one).sel(op="ff2")) == pytest.approx(float(tiles(QWEN).sel(op="ff2")) * 30 / 36)


def test_weights_take_the_bits_of_their_levels_and_a_part_of_a_scale():
    def weights(model):
        ds = evaluated(model, TPU, context_len=128)
        return float(ds.dram_bytes.sel(component="dram_weights").sum(["op"]).squeeze())

    inside = parameter_count(replace(QWEN, vocab_size=1)) - 36 * (2 * 4096 + 2 * 128) - 3 * 4096  # matrices of blocks
    head = 4096 * 151936
    assert weights(QWEN) == pytest.approx(inside * 2 / 8 + head)
    assert weights(replace(QWEN, levels=2, scale_group=128)) == pytest.approx(inside * (1 + 16 / 128) / 8 + head)
    every = replace(QWEN, levels=2, scale_group=128, head_levels=2, embedding_levels=2)
    assert weights(every) == pytest.approx((inside + head) * 1.125 / 8)
    assert stored_bytes(every) == pytest.approx((inside + 2 * head) * 1.125 / 8)


def test_a_remedy_is_put_on_every_kind():
    _, model = remedies.put("tpu-llm", MIXED, ["window of 1024"])
    assert [kind.window for kind in kinds(model)] == [1020, 512]
    floors = bounds.cache_floor(system="tpu-llm", model=MIXED, context_len=[512, 5000])
    assert float(floors[0]) == float(floors[1])


def test_a_table_lists_kinds(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nd_model = 512\nd_ff = 1024\nn_layers = 6\nn_heads = 8\nn_kv_heads = 2\nhead_dim = 64\n'
        "vocab_size = 1000\nblocks = [{ count = 5, window = 128 }, { count = 1, side = [[512, 64]] }]\n"
    )
    assert [kind.n_layers for kind in kinds(pl.catalog.model(path))] == [5, 1]


@pytest.mark.parametrize(
    ("blocks", "says"),
    [(({"count": 20},), "n_layers of x is 36; wanted the 20 blocks that are listed"),
     (({"count": 36, "windw": 4},), "unknown field in blocks of x 'windw', did you mean 'window'"),
     (({"count": 36, "vocab_size": 4},), "unknown field in blocks of x 'vocab_size'"),
     (({"count": 0}, {"count": 36}), "Decoder.n_layers is 0; wanted a whole number of at least 1"),
     (({"count": 36, "n_kv_heads": 5},), "n_kv_heads of x is 5; wanted a divisor of the 32 heads"),
     (({"count": 36, "mixer": "magic"},), "unknown mixer 'magic'"),
     (({"count": 36, "side": [[0, 4]]},), "side of x is"), (({"count": 36, "dense": ["score"]},), "projection in dense"),
     ([36], r"blocks of x is \[36\]; wanted a list of tables")],
)  # fmt: skip
def test_kinds_that_cannot_be_are_refused(blocks, says):
    with pytest.raises(ValueError, match=says):
        replace(QWEN, name="x", blocks=blocks)


def test_what_is_not_modelled_of_unlike_blocks_is_refused():
    draft = pl.catalog.parts["early-exit"]
    drafting = replace(TPU, decoding=replace(TPU.decoding, speculation=draft))
    with pytest.raises(ValueError, match="whose blocks are not alike; wanted them alike"):
        evaluated(MIXED, drafting)
    with pytest.raises(ValueError, match="attention in memory has a mixer that is linear"):
        evaluated(MIXED, "pim-attention")
    use = endurance.uses(prompt=10, answer=10, minutes_per_day=1)
    with pytest.raises(ValueError, match="mixed has blocks of 2 kinds; wanted one whose blocks are alike"):
        endurance.lifetimes(system="pim-attention", model=MIXED, context_len=128, uses=use)


@pytest.mark.parametrize("name", ["bonsai-27b-1bit", "bonsai-2-9b-ternary", "bonsai-2-4b-ternary"])
def test_a_hybrid_of_the_catalog_is_what_its_family_makes_of_its_sizes(name):
    model = pl.catalog.models[name]
    linear, attention = kinds(model)
    config = {
        "model_type": "qwen3_5_text", "hidden_size": model.d_model, "intermediate_size": model.d_ff,
        "num_hidden_layers": linear.n_layers + attention.n_layers, "num_attention_heads": model.n_heads,
        "num_key_value_heads": model.n_kv_heads, "head_dim": model.head_dim, "vocab_size": model.vocab_size,
        "linear_num_value_heads": linear.state_heads, "tie_word_embeddings": model.tied_embeddings,
    }  # fmt: skip
    read = from_mapping(config, "config.json", name)
    assert parameter_count(model) == parameter_count(read)
    assert cache_words(model, 1000) == cache_words(read, 1000)
    assert [(p.op, p.macs) for p in products(model, 1000)] == [(p.op, p.macs) for p in products(read, 1000)]
