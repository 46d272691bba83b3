"""Single products routed beside their kind, and the machines an accelerator is held against."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from conftest import CONTEXTS, SEVEN
from test_machine import only

import pimllm_lib as pl
from pimllm_lib.analysis import baselines
from pimllm_lib.analysis.baselines import VectorUnit
from pimllm_lib.core.schema import ATTENTION_OPS, KINDS, PRODUCT_KINDS, VARIABLES
from pimllm_lib.system.schedule import STAGES
from pimllm_lib.workload.products import products

TPU, PIM_LLM = (pl.catalog.systems[name] for name in ("tpu-llm", "pim-llm"))
FFN = ("gate", "ff1", "ff2")
ON_ARRAY = dict.fromkeys(KINDS, "array")
FFN_ONLY = replace(PIM_LLM, name="ffn-only", routing=ON_ARRAY | dict.fromkeys(FFN, "pim"))
REST_ONLY = replace(PIM_LLM, name="rest-only", routing=PIM_LLM.routing | dict.fromkeys(FFN, "array"))
POINT = {"model": "opt-6.7b", "context_len": 128, "conventions": "as-published"}


# --- routing -------------------------------------------------------------------------------------------------------------


def test_every_product_has_a_kind_and_a_place_in_the_schedule():
    plain = pl.catalog.models["llama-3-8b"]
    mixed = {"mixer": "both", "mix_in": 1024, "mix_out": 256, "state_heads": 8, "state_dim": 64, "state_width": 64}
    more = {"latent_dim": 512, "rope_dim": 64, "top_tokens": 64, "q_rank": 512, "shared_ff": 512, "side": ((64, 64),)}
    assert {p.op: p.kind for p in products(replace(plain, **mixed, **more), 128)} == PRODUCT_KINDS
    own = ("q", "k", "v", "score", "av", "x", "gate", "ff1", "ff2", "lm_head")
    assert {p.op: p.kind for p in products(plain, 128)} == {op: PRODUCT_KINDS[op] for op in own}
    assert {op for stage in STAGES for op in stage} == PRODUCT_KINDS.keys()


@pytest.mark.parametrize("conventions", ["as-published", "corrected", "full-system"])
def test_naming_every_product_is_the_same_as_naming_its_kind(conventions):
    spelled = {op: PIM_LLM.routing[kind] for op, kind in PRODUCT_KINDS.items()}
    both = [replace(PIM_LLM, routing=routing) for routing in (PIM_LLM.routing | spelled, ON_ARRAY | spelled)]
    args = {"model": ["gpt2-1.5b", "llama-3-8b"], "context_len": [128, 4096], "conventions": conventions}
    expected = pl.evaluate(system=PIM_LLM, detail="component", **args)
    for system in both:
        xr.testing.assert_identical(
            pl.evaluate(system=system, detail="component", **args).drop_attrs(), expected.drop_attrs()
        )


def test_only_the_ffn_goes_to_the_crossbars_when_only_it_is_sent_there():
    ds = pl.evaluate(
        system=[TPU, PIM_LLM, FFN_ONLY], model=["opt-1.3b", "llama-3-8b"], context_len=CONTEXTS, detail="op"
    )
    mine = ds.sel(system="ffn-only")
    elsewhere = [op for op in PRODUCT_KINDS if op not in FFN]
    for name in ("latency_s", "energy_j", "cycles", "array_macs"):
        np.testing.assert_array_equal(mine[name].sel(op=elsewhere), ds[name].sel(system="tpu-llm", op=elsewhere))
    assert (mine.tiles.sel(op=elsewhere) == 0).all()
    np.testing.assert_array_equal(mine.tiles.sel(op=list(FFN)), ds.tiles.sel(system="pim-llm", op=list(FFN)))
    assert (mine.array_macs.sel(op=list(FFN)) == 0).all()
    assert (mine.macs.sel(op="ff1") > 0).all()


def test_halves_of_the_projections_save_together_what_they_save_alone():
    """Both halves on crossbars save what each saves, but for hops, which depend on the neighbours on the grid."""
    ds = pl.evaluate(
        system=[TPU, FFN_ONLY, REST_ONLY, PIM_LLM], model=SEVEN, context_len=[128, 4096], variables=["latency_s"]
    ).latency_s
    saved = ds.sel(system="tpu-llm") - ds
    np.testing.assert_allclose(
        saved.sel(system=["ffn-only", "rest-only"]).sum("system"), saved.sel(system="pim-llm"), rtol=0.01
    )
    assert (saved.sel(system="pim-llm") > saved.sel(system="ffn-only")).all()


def test_a_system_is_a_hybrid_as_soon_as_one_projection_leaves_the_array():
    assert PIM_LLM.hybrid
    assert FFN_ONLY.hybrid
    assert replace(PIM_LLM, routing=ON_ARRAY | {"q": "pim"}).hybrid
    assert not TPU.hybrid
    assert not replace(PIM_LLM, routing=ON_ARRAY | {"lm_head": "pim"}).hybrid
    back = {op: "array" for op, kind in PRODUCT_KINDS.items() if kind == "projection"}
    assert not replace(PIM_LLM, routing=PIM_LLM.routing | back).hybrid


def test_attention_energy_of_a_partial_hybrid_is_counted_once_as_published_and_in_every_block_else():
    systems = [TPU, FFN_ONLY, PIM_LLM]
    args = {"system": systems, "model": "opt-6.7b", "context_len": 4096, "detail": "op"}
    energy = {
        name: pl.evaluate(conventions=name, **args).energy_j.sel(op=list(ATTENTION_OPS)).sum("op").squeeze()
        for name in ("as-published", "corrected")
    }
    once, always = energy["as-published"], energy["corrected"]
    np.testing.assert_allclose(once.values * [1, 32, 32], always.values, rtol=1e-12)
    assert len(set(always.values.tolist())) == 1


def test_the_dummy_layer_is_in_front_of_the_first_matrix_there_is():
    """Without a gate that is ff1: 7168 inputs make 28 rows of crossbars in place of 8, in a 2048 x 8192 layer."""
    ds = pl.evaluate(
        system=FFN_ONLY, model=["opt-1.3b", "bitnet-2b4t"], context_len=128, conventions="as-published", detail="op"
    ).tiles.squeeze()
    opt = ds.sel(model="opt-1.3b")
    assert (opt.sel(op=list(FFN)) / 24).values.tolist() == [0, 28 * 32 / 4, 32 * 8 / 4]
    gated = ds.sel(model="bitnet-2b4t") / 30
    assert gated.sel(op=["gate", "ff1"]).values.tolist() == [28 * 27 / 4, np.ceil(10 * 27 / 4)]


def test_an_input_crosses_the_bus_once_whichever_product_brings_it():
    """d in and d out for a query, d for key and value; without the query on the crossbars the key brings the input."""
    counting = only("bus", transfers=True)
    keys = replace(PIM_LLM, name="kv", routing=ON_ARRAY | {"k": "pim", "v": "pim", "gate": "pim"})
    ds = pl.evaluate(
        system=[PIM_LLM, keys], model="llama-2-7b", context_len=128, conventions=counting, detail="component"
    ).squeeze()
    words = ds.energy_j.sel(component="bus") / (PIM_LLM.bus.bit_j * 8 * 32)
    d, ff = 4096, 11008
    every = {"q": 2 * d, "k": d, "v": d, "x": 2 * d, "gate": ff, "ff1": d + ff, "ff2": ff + d}
    few = {"k": 2 * d, "v": d, "gate": d + ff}
    for system, expected in (("pim-llm", every), ("kv", few)):
        found = words.sel(system=system).to_series()
        assert {op: round(n) for op, n in found[found > 0].items()} == expected


def test_what_the_analog_half_has_once_has_its_area_once():
    counting = only("aux", auxiliary_parts=True)
    head = replace(PIM_LLM, name="head", routing=PIM_LLM.routing | {"head": "pim"})
    ds = pl.evaluate(
        system=[PIM_LLM, FFN_ONLY, head], model=["opt-1.3b", "llama-7b"], context_len=1,
        conventions=replace(counting, lm_head=True), detail="component", variables=["area_m2"],
    ).area_m2.sum("op")  # fmt: skip
    for name, part in (("global_buffer", PIM_LLM.pim.global_buffer), ("controller", PIM_LLM.pim.controller)):
        np.testing.assert_allclose(ds.sel(component=name), part.area_m2, rtol=1e-12)


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        (ON_ARRAY | {"f1": "pim"}, "unknown kind of product in pim-llm.routing 'f1', did you mean 'ff1'"),
        (ON_ARRAY | {"softmax": "array"}, "unknown kind of product in pim-llm.routing 'softmax'"),
        (ON_ARRAY | {"ff1": "pin"}, "unknown engine in pim-llm.routing.ff1 'pin', did you mean 'pim'"),
        (ON_ARRAY | {"score": "pim"}, "pim-llm.routing.score is 'pim'; wanted array or kv_pim: the key-value cache"),
        (dict.fromkeys(PRODUCT_KINDS, "array"), "wanted an engine for projection, attention, head too"),
    ],
)
def test_routing_that_cannot_be_is_refused(routing, words):
    with pytest.raises(ValueError, match=words):
        replace(PIM_LLM, routing=routing)


def test_single_products_are_routed_from_toml(tmp_path):
    path = tmp_path / "ours.toml"
    path.write_text(
        'array = "edge-32x32"\npim = "pim-published"\n[routing]\nprojection = "array"\nattention = "array"\n'
        'head = "array"\ngate = "pim"\nff1 = "pim"\nff2 = "pim"\n'
    )
    ours, ffn = (pl.evaluate(system=s, model="opt-1.3b", context_len=128) for s in (path, FFN_ONLY))
    np.testing.assert_array_equal(ours.latency_s, ffn.latency_s)


# --- baselines -----------------------------------------------------------------------------------------------------------


def rates(*systems, **point):
    return pl.metrics.summary(pl.evaluate(system=list(systems), **(POINT | point))).tokens_per_s.squeeze()


def test_the_published_lead_against_equal_lanes_is_as_worked_out_independently():
    unit = VectorUnit.like(TPU.array, name="unit")
    assert (unit.lanes, unit.rate_hz) == (1024, 1e8)
    ds = pl.evaluate(system=[TPU, PIM_LLM, unit], detail="op", **POINT)
    mixed = baselines.attention_from(ds, system="pim-llm", donor="unit", name="mixed")
    rate = pl.metrics.summary(xr.concat([ds, mixed], "system")).tokens_per_s.squeeze()
    block = 1 / rate.sel(system="unit") / 32
    assert round(float(block) * 1e3, 2) == 1.98
    lead = {
        (a, b): round(float(rate.sel(system=a) / rate.sel(system=b)), 1)
        for a, b in (("pim-llm", "tpu-llm"), ("pim-llm", "unit"), ("mixed", "unit"))
    }
    assert lead == {("pim-llm", "tpu-llm"): 79.3, ("pim-llm", "unit"): 2.4, ("mixed", "unit"): 5.9}


def test_no_array_beats_as_many_lanes_that_are_never_idle():
    shapes = [replace(TPU, name=f"{r}", array=replace(TPU.array, rows=r, cols=1024 // r)) for r in (1, 4, 32, 1024)]
    unit = VectorUnit.like(TPU.array, name="unit")
    rate = rates(unit, *shapes, model=["gpt2-355m", "opt-6.7b"], context_len=CONTEXTS)
    assert (rate.sel(system="unit") >= rate).all()


def test_a_unit_takes_its_multiplications_over_its_lanes_and_an_axis_of_lanes():
    unit = VectorUnit(name="u", lanes=pl.axis(lanes=[1, 10, 1000]), rate_hz=2e9, mac_j=3e-12)
    ds = pl.evaluate(system=unit, **POINT).squeeze()
    np.testing.assert_allclose(ds.latency_s, ds.macs.item() / (np.array([1, 10, 1000]) * 2e9), rtol=1e-12)
    np.testing.assert_allclose(ds.energy_j, ds.macs * 3e-12, rtol=1e-12)


def test_operands_from_off_chip_memory_bound_a_unit_of_any_size():
    """Two bits a weight and eight bits a cached number, over the bandwidth; a shared key comes in once."""
    huge, small = (
        VectorUnit.like(TPU.array, lanes=n, name=name, dram=TPU.dram, storage=TPU.storage)
        for n, name in ((10**12, "huge"), (1, "small"))
    )
    ds = pl.evaluate(system=[huge, small], model="llama-3-8b", context_len=1000).squeeze()
    d, ff, kv = 4096, 14336, 8 * 128
    bits = 32 * (2 * (2 * d * d + 2 * d * kv + 3 * d * ff) + 8 * 2 * kv * 1000)
    np.testing.assert_allclose(ds.dram_bytes, bits / 8, rtol=1e-12)
    assert float(ds.latency_s.sel(system="huge")) == pytest.approx(bits / TPU.dram.bandwidth_bps, rel=1e-9)
    assert float(ds.latency_s.sel(system="small")) == pytest.approx(float(ds.macs.sel(system="small")) / 1e8, rel=1e-9)
    spent = ds.macs * TPU.array.active_pe_energy_j + bits * TPU.dram.bit_j
    np.testing.assert_allclose(ds.energy_j, spent, rtol=1e-12)


def test_equal_units_fill_the_area_of_the_tiles_and_draw_their_power():
    ds = pl.evaluate(system=PIM_LLM, detail="component", **POINT)
    power, one, every = baselines.equal_units(ds, TPU.array, blocks=32)
    area = float(
        ds.area_m2.sel(component=[c for c in ds.component.values if c not in ("stream", "sram", "nonlinear")]).sum()
    )
    assert every.lanes * TPU.array.pe_area_m2 <= area < (every.lanes + 1) * TPU.array.pe_area_m2
    assert every.lanes // 32 == one.lanes
    parts = ds.sel(component=[c for c in ds.component.values if c not in ("stream", "fill")])
    busy = parts.busy_s.sum("component")
    peak = float((parts.energy_j.sum("component") / busy.where(busy > 0)).max())
    lane = TPU.array.active_pe_energy_j * TPU.array.rate_hz
    assert power.lanes * lane <= peak < (power.lanes + 1) * lane


def test_swapped_attention_swaps_nothing_else():
    unit = VectorUnit.like(TPU.array, name="unit")
    ds = pl.evaluate(system=[PIM_LLM, unit], model=SEVEN, context_len=CONTEXTS, detail="op")
    mixed = baselines.attention_from(ds, system="pim-llm", donor="unit", name="mixed").squeeze("system", drop=True)
    rest = [op for op in ds.op.values if op not in ATTENTION_OPS]
    for name in (n for n in ds.data_vars if VARIABLES[n].extensive):
        np.testing.assert_array_equal(mixed[name].sel(op=rest), ds[name].sel(system="pim-llm", op=rest))
        np.testing.assert_array_equal(
            mixed[name].sel(op=list(ATTENTION_OPS)), ds[name].sel(system="unit", op=list(ATTENTION_OPS))
        )
    itself = baselines.attention_from(ds, system="pim-llm", donor="pim-llm", name="pim-llm")
    xr.testing.assert_equal(itself, ds.sel(system=["pim-llm"]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: VectorUnit.like(TPU.array, lanes=0), "VectorUnit.lanes is 0; wanted a whole number of at least 1"),
        (lambda: VectorUnit(name="u", lanes=1, rate_hz=0.0, mac_j=1e-12), "VectorUnit.rate_hz is 0.0"),
        (lambda: VectorUnit.like(TPU.array, dram=TPU.dram), "VectorUnit.storage is None; wanted a Storage"),
        (
            lambda: baselines.lanes_in_area(1.0, replace(TPU.array, pe_area_m2=None)),
            "edge-32x32.pe_area_m2 is missing; wanted one",
        ),
        (
            lambda: baselines.attention_from(
                pl.evaluate(system=PIM_LLM, **POINT), system="pim-llm", donor="pim-llm", name="x"
            ),
            "wanted one evaluated with detail='op'",
        ),
    ],
)
def test_a_baseline_that_cannot_be_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_chapter_gives_the_lead_over_each_baseline_and_with_a_unit_for_attention_last():
    from pimllm_chapters import routing

    unit = VectorUnit.like(TPU.array, name="unit")
    ds = pl.evaluate(system=[PIM_LLM, TPU, unit], detail="op", **(POINT | {"context_len": [128, 4096]}))
    mixed = pl.metrics.summary(baselines.attention_from(ds, system="pim-llm", donor="unit", name="mixed")).tokens_per_s
    lead = routing.leads(pl.metrics.summary(ds).tokens_per_s, mixed, "unit")
    assert lead.baseline.values.tolist() == ["tpu-llm", "unit", "unit, for attention of pim-llm too"]
    assert lead.transpose("baseline", "context_len").values.round(2).tolist() == [
        [79.29, 5.71],
        [2.44, 0.17],
        [5.93, 3.53],
    ]
    figure = routing.lead_over_baselines(lead)
    assert "unit: 2.44 and 0.171" in figure.alt
    assert "2.4 and 0.17 times" in routing.box(lead, "unit").answer
