"""Shares of projections and accesses for each MAC: hand-worked numbers, limits, and what must not matter."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import CONTEXTS, SEVEN

import pimllm_lib as pl
from pimllm_chapters import operation_share
from pimllm_lib.analysis import claims
from pimllm_lib.core.conventions import CORRECTED
from pimllm_lib.core.schema import ATTENTION_OPS, KINDS, OPS, PROJECTION_OPS
from pimllm_lib.workload.products import products

HEAT_MAP = ["opt-350m", "opt-1.3b", "opt-2.7b", "opt-6.7b", "opt-13b", "opt-30b", "opt-66b"]


def summary(system="tpu-llm", model="opt-6.7b", context_len=128, detail="op", **more):
    return pl.metrics.summary(pl.evaluate(system=system, model=model, context_len=context_len, detail=detail, **more))


def test_ops_by_kind_are_those_of_the_workload():
    plain = pl.catalog.model("llama-7b")
    rest = {"q_down", "mix_in", "mix_out", "state", "side", "shared_gate", "shared_ff1", "shared_ff2"}
    mixed = {"mixer": "both", "mix_in": 1024, "mix_out": 256, "state_heads": 8, "state_dim": 64, "state_width": 64}
    more = {"q_rank": 512, "shared_ff": 512, "side": ((64, 64),)}
    for model, absent in (
        (plain, rest | {"k_up", "v_up", "select"}),
        (replace(plain, top_tokens=64), rest | {"k_up", "v_up"}),
        (replace(plain, latent_dim=512, rope_dim=64, top_tokens=64), rest | {"v"}),
        (replace(plain, latent_dim=512, rope_dim=64, top_tokens=64, **mixed, **more), {"v"}),
        (replace(plain, mixer="none"), rest | {"q", "k", "v", "k_up", "v_up", "x", "score", "av", "select"}),
    ):
        by_kind = {kind: [] for kind in KINDS}
        for product in products(model, 128):
            by_kind[product.kind] += [product.op] * bool(product.count)
        for kind, ops in (("projection", PROJECTION_OPS), ("attention", ATTENTION_OPS)):
            assert sorted(by_kind[kind]) == sorted(op for op in OPS if op in ops and op not in absent)


def test_both_shares_of_opt_6_7b_by_hand():
    d = summary(context_len=[128, 4096])
    assert d.projection_share.squeeze().values == pytest.approx([1 / (1 + n / (6 * 4096)) for n in (128, 4096)])
    cycles = {  # k + 62 a fold, n / 32 folds
        "projections": 4 * 128 * (4096 + 62) + 512 * (4096 + 62) + 128 * (16384 + 62),
        128: 32 * (4 * (128 + 62) + 4 * (128 + 62)),
        4096: 32 * (128 * (128 + 62) + 4 * (4096 + 62)),
    }
    whole = [cycles["projections"] / (cycles["projections"] + cycles[n]) for n in (128, 4096)]
    assert d.projection_cycle_share.squeeze().values == pytest.approx(whole, rel=1e-12)
    assert round(float(d.projection_share.squeeze()[1]), 3) == 0.857


def test_detail_does_not_matter_to_the_shares():
    one, other = summary(), summary(detail="component")
    for name in ("projection_share", "projection_cycle_share"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-12)
    assert "projection_cycle_share" not in summary(detail="total")


def test_an_array_of_one_pe_has_equal_shares_of_macs_and_cycles():
    tpu = pl.catalog.systems["tpu-llm"]
    d = summary(system=replace(tpu, array=replace(tpu.array, rows=1, cols=1)), model=SEVEN, context_len=CONTEXTS)
    np.testing.assert_allclose(d.projection_cycle_share, d.projection_share, rtol=1e-12)


def test_shares_fall_with_context_and_cycles_give_projections_the_less():
    d = summary(model=HEAT_MAP, context_len=CONTEXTS)
    for share in (d.projection_share, d.projection_cycle_share):
        assert (share.diff("context_len") < 0).all()
        assert (share.diff("model") > 0).all()
    assert (d.projection_cycle_share < d.projection_share).all()


def test_the_array_of_the_hybrid_spends_no_cycle_on_projections():
    d = summary(system=["tpu-llm", "pim-llm"])
    assert d.projection_cycle_share.sel(system="pim-llm").item() == 0
    assert d.projection_share.sel(system="pim-llm").item() == d.projection_share.sel(system="tpu-llm").item()


def test_the_output_head_is_work_but_no_projection():
    headed = summary(conventions=replace(CORRECTED, name="with head", lm_head=True))
    model = pl.catalog.model("opt-6.7b")
    projections, attention = 12 * 4096**2 * 32, 2 * 128 * 4096 * 32
    expected = projections / (projections + attention + 4096 * model.vocab_size)
    assert headed.projection_share.item() == pytest.approx(expected, rel=1e-12)


def test_array_products_count_every_product_once():
    d = pl.evaluate(system=["tpu-llm", "pim-llm"], model="opt-6.7b", context_len=128, detail="op")
    counted = d.array_products.squeeze()
    assert counted.sel(system="tpu-llm").sum() == 32 * (6 + 2 * 32)
    assert counted.sel(system="pim-llm").sum() == 32 * 2 * 32
    assert counted.sel(system="tpu-llm", op="gate") == 0


def test_the_printed_heat_map_is_of_whole_cycles():
    d = pl.evaluate(system="tpu-llm", model=HEAT_MAP, context_len=CONTEXTS, conventions="as-published", detail="op")
    found = operation_share.readings(d).frame.set_index("share of")["cells as printed"].tolist()
    assert found == ["0 of 42", "41 of 42", "42 of 42"]
    assert len(operation_share.cells(claims.check(pl.metrics.summary(d)))) == 42


def test_accesses_for_each_mac_of_one_gemv_by_hand():
    d = summary()
    reads, writes = d.sram_reads.item(), d.sram_writes.item()
    assert d.sram_words_per_mac.item() == (reads + writes) / d.array_macs.item()
    model = replace(pl.catalog.model("opt-6.7b"), name="one", n_layers=1)
    one = pl.evaluate(system="tpu-llm", model=model, context_len=128, detail="op").sel(op="q").squeeze()
    # 128 folds each read the vector, every weight is read once, every result written once
    assert one.sram_reads + one.sram_writes == 128 * 4096 + 4096**2 + 4096
    assert one.register_accesses == 6 * 4096**2 + 4096
