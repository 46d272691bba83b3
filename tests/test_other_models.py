"""Models beyond dense multi-head decoders: limits that hold to the last bit, and what experts, windows and bits conserve."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_chapters.other_models import compute
from pimllm_lib.core.conventions import PRESETS
from pimllm_lib.core.errors import Note
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.costs import crossbar, placement
from pimllm_lib.hardware.weights import with_weight_bits
from pimllm_lib.workload.products import products
from pimllm_lib.workload.shapes import parameter_count

BOTH = ["tpu-llm", "pim-llm"]
DENSE = pl.catalog.models["llama-3-8b"]
SMALL = replace(DENSE, name="small", n_layers=2)


def evaluated(model, system=BOTH, context_len=(128, 4096), conventions=tuple(PRESETS), **more):
    return pl.evaluate(
        system=system, model=model, context_len=list(context_len), conventions=list(conventions),
        detail="component", **more,
    )  # fmt: skip


def mixture(n_experts=4, active=2, **more):
    return replace(SMALL, d_ff=1024, n_experts=n_experts, experts_per_token=active, **more)


def test_a_model_of_several_kinds_of_blocks_goes_to_the_farthest_and_its_counterpart_has_none_of_it():
    mixed = replace(SMALL, name="mixed", blocks=({"count": 1}, {"count": 1, "window": 64}))
    groups = {name: [mixed] for name in ("as studied", compute.family(mixed))}
    assert list(groups) == ["as studied", "window"]
    without, _ = compute.counterparts(groups)["no window"]
    plain, costs = replace(SMALL, name=without.name), {"context_len": 4096, "system": "pim-llm"}
    assert pl.evaluate(model=without, **costs).energy_j.sum().item() == pytest.approx(
        pl.evaluate(model=plain, **costs).energy_j.sum().item(), rel=1e-12
    )


def part_of(ds, variable, system):
    return (
        ds[variable].sel(system=system, component="crossbar", op=["gate", "ff1", "ff2"]).isel(context_len=0).squeeze()
    )


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize(
    "change",
    [{"n_experts": 1, "experts_per_token": 1}, {"window": 4096}, {"window": 10**6}, {"window": np.inf}],
    ids=["one expert", "window of the context", "window beyond", "no window"],
)
def test_a_limit_case_is_the_dense_model_to_the_last_bit(change, phase):
    plain, limit = (evaluated(m, phase=phase) for m in (SMALL, replace(SMALL, **change)))
    for name in plain.data_vars:
        assert np.array_equal(plain[name], limit[name]), name


def test_a_limit_case_stays_one_beside_models_that_are_none():
    others = [replace(mixture(), name="experts"), replace(SMALL, name="windowed", window=64)]
    alone, among = evaluated([SMALL]), evaluated([SMALL, *others]).sel(model=["small"])
    for name in alone.data_vars:
        assert np.array_equal(alone[name], among[name]), name


def test_as_many_kv_heads_as_heads_is_multi_head_attention():
    one = replace(SMALL, n_kv_heads=SMALL.n_heads)
    by_op = {p.op: p for p in products(one, 128)}
    assert (by_op["k"].n, by_op["score"].shared) == (by_op["q"].n, 1)
    llama = pl.catalog.models["llama-2-7b"]
    assert np.array_equal(evaluated(llama).latency_s, evaluated(replace(llama, n_kv_heads=32)).latency_s)


def test_two_bits_are_the_published_machine_to_the_last_bit():
    systems = [with_weight_bits(pl.catalog.systems[name], 2) for name in BOTH]
    assert crossbar.slices(systems[1].pim.tile.crossbar) == 1
    plain, same = evaluated(SMALL), evaluated(SMALL, systems)
    for name in plain.data_vars:
        assert np.array_equal(plain[name], same[name]), name


def test_binary_weights_need_one_slice_and_half_the_cells():
    one, two = (with_weight_bits(pl.catalog.systems["pim-llm"], bits) for bits in (1, 2))
    assert crossbar.slices(one.pim.tile.crossbar) == crossbar.slices(two.pim.tile.crossbar) == 1
    a, b = (evaluated(SMALL, system, conventions=["corrected"]) for system in (one, two))
    assert np.array_equal(a.latency_s, b.latency_s)
    other = (a.energy_j != b.energy_j).any(["op", "context_len"]).squeeze()
    assert other.component[other].values.tolist() == ["adc", "crossbar", "shift_add"]
    more = (a.energy_j / b.energy_j).sel(component=["adc", "crossbar", "shift_add"], op="q").isel(context_len=0)
    # a column of on-cells with a converter of its own, read with each of two turns of 256
    np.testing.assert_allclose(more.squeeze(), [129 / 128, (256 + 2) / (2 * 256), 129 / 128], rtol=1e-12)


def test_slices_multiply_converters_cells_and_writes_and_leave_tiles_alone():
    bits = pl.axis(weight_bits=[2, 3, 5])
    ds = evaluated(SMALL, with_weight_bits(pl.catalog.systems["pim-llm"], bits), [128], ["corrected"]).squeeze()
    for variable, component in (("energy_j", "adc"), ("energy_j", "crossbar"), ("program_j", "crossbar")):
        spent = ds[variable].sel(component=component).sum("op")
        np.testing.assert_allclose(spent / spent[..., 0], [1, 2, 4], rtol=1e-12)
    assert "weight_bits" not in ds.tiles.dims


def test_the_digital_machine_moves_and_holds_the_same_bits():
    tpu = [with_field(with_weight_bits(pl.catalog.systems["tpu-llm"], b), "name", f"{b} bits") for b in (2, 8)]
    ds = evaluated(SMALL, tpu, [128], ["full-system"]).dram_bytes.sel(component="dram_weights").squeeze()
    moved = ds.sel(op=[op for op in ds.op.values if op != "lm_head"]).sum("op")
    assert moved[1] == 4 * moved[0] > 0


@pytest.mark.parametrize("bits", [0, 17, 1.58, "ternary", True])
def test_weights_that_no_crossbar_can_hold_are_refused(bits):
    with pytest.raises(ValueError, match=r"weight_bits is .*; wanted whole bits from 1 to 16"):
        with_weight_bits(pl.catalog.systems["pim-llm"], bits)


def test_experts_stand_all_and_work_in_part():
    ds = evaluated(
        [replace(mixture(n, a), name=f"{n} of {a}") for n, a in ((1, 1), (4, 1), (4, 2))], conventions=["corrected"]
    )
    one, four, two_work = (ds.sel(model=name) for name in ("1 of 1", "4 of 1", "4 of 2"))
    for name in ("tiles", "program_s", "program_j"):  # all stand there
        here = [part_of(d, name, "pim-llm") for d in (one, four, two_work)]
        assert np.array_equal(4 * here[0], here[1])
        assert np.array_equal(here[1], here[2])
    assert np.array_equal(2 * part_of(four, "energy_j", "pim-llm"), part_of(two_work, "energy_j", "pim-llm"))
    assert np.array_equal(part_of(four, "latency_s", "pim-llm"), part_of(two_work, "latency_s", "pim-llm"))
    for system in BOTH:  # as much work as a dense FFN of the active experts' width
        macs = [d.macs.sel(system=system, op=["gate", "ff1", "ff2"]).isel(context_len=0).sum() for d in (one, two_work)]
        assert macs[1] == 2 * macs[0]


def test_active_experts_follow_one_another_on_the_array():
    ds = evaluated([replace(mixture(4, a), name=str(a)) for a in (1, 2)], "tpu-llm", [128], ["corrected"]).squeeze()
    cycles = ds.cycles.sum("component").sel(op=["gate", "ff1", "ff2"])
    assert np.array_equal(2 * cycles.sel(model="1"), cycles.sel(model="2"))


def test_memory_holds_all_experts_and_moves_the_active_ones():
    tpu = pl.catalog.systems["tpu-llm"]
    ffn = 3 * 4096 * 1024 * 2 * tpu.storage.weight_bits / 8  # bytes of one expert in two blocks
    ds = evaluated([replace(mixture(8, a), name=str(a)) for a in (1, 2)], tpu, [128], ["full-system"]).squeeze()
    moved = ds.dram_bytes.sel(component="dram_weights").sum("op")
    assert float(moved.sel(model="2") - moved.sel(model="1")) == ffn
    rest = sum(p.k * p.n * p.blocks for p in products(SMALL, 1) if p.op in "qkvx") * tpu.storage.weight_bits / 8
    held = rest + 8 * ffn + SMALL.d_model * SMALL.vocab_size * tpu.storage.head_bits / 8
    cache = 2 * SMALL.n_kv_heads * SMALL.head_dim * 128 * SMALL.n_layers
    exact = with_field(tpu, "dram.capacity_bytes", held + cache)
    evaluated(mixture(8, 1), exact, [128], ["full-system"])
    with pytest.raises(ValueError, match=r"weights and key-value cache need .* more"):
        evaluated(mixture(8, 1), with_field(exact, "dram.capacity_bytes", held + cache - 1), [128], ["full-system"])


def test_idle_experts_draw_static_power():
    full = replace(PRESETS["full-system"], name="ungated", power_gating=False)
    ds = evaluated([replace(mixture(n, 1), name=str(n)) for n in (1, 4)], "pim-llm", [128], [full]).squeeze()
    power = ds.static_power_w.sel(op=["gate", "ff1", "ff2"]).sum(["op", "component"])
    assert float(power.sel(model="4")) == pytest.approx(4 * float(power.sel(model="1")), rel=1e-12)


def test_prefill_spreads_tokens_over_all_the_experts_they_reach():
    model = mixture(8, 2)
    for tokens, active in ((1.0, 2), (2, 4), (3, 6), (100, 8)):
        product = next(p for p in products(model, tokens, tokens) if p.op == "ff1")
        assert (product.active, product.m * product.active) == (active, 2 * tokens)
        assert product.macs == 2 * tokens * 4096 * 1024 * 2


@given(tokens=st.integers(2, 10**6), n_experts=st.integers(2, 200), share=st.floats(0, 1))
def test_tokens_are_dealt_over_experts_in_whole_numbers(tokens, n_experts, share):
    model = mixture(n_experts, taken := max(1, round(share * n_experts)))
    for product in products(model, tokens, tokens)[-4:-1]:
        sizes = [(int(p.m), int(p.active)) for p in product.whole if p.active]
        assert sizes == [(p.m, p.active) for p in product.whole if p.active]
        assert sum(number for _, number in sizes) == product.active
        assert sum(size * number for size, number in sizes) == tokens * taken
        assert max(sizes)[0] - min(sizes)[0] <= 1
        assert product.macs == tokens * taken * 2 * 4096 * 1024


#: What is the sum of what every expert takes alone.
SUMS = ["macs", "array_products", "cycles", "energy_j", "busy_s", "sram_reads", "sram_writes", "register_accesses",
        "dram_bytes"]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "within"),  # products side by side end together, each of them alone a cycle early
    [({}, 1e-12), ({"array.dataflow": "ws"}, 1e-12), ({"array.row_groups": 32}, 1e-3)],
)
def test_experts_with_unequally_many_tokens_take_what_each_would_take_alone(machine, within):
    system = with_fields(pl.catalog.systems["tpu-llm"], machine)
    mixed = evaluated(mixture(8, 2), system, [129, 128, 5], ["full-system"], phase="prefill").sel(op="ff1")
    alone = evaluated(replace(SMALL, d_ff=1024), system, [33, 32, 2, 1], ["full-system"], phase="prefill").sel(op="ff1")
    for name in SUMS:
        at = {n: alone[name].sel(context_len=n) for n in (33, 32, 2, 1)}
        for tokens, expected in ((129, 2 * at[33] + 6 * at[32]), (128, 8 * at[32]), (5, 2 * at[2] + 6 * at[1])):
            np.testing.assert_allclose(
                mixed[name].sel(context_len=tokens).sum("component"),
                expected.sum("component"),
                rtol=within,
                err_msg=name,
            )


def test_experts_side_by_side_take_as_long_as_the_one_with_the_most_tokens():
    mixed, alone = (
        evaluated(model, "pim-llm", context, ["corrected"], phase="prefill")
        .sel(op="ff1", system="pim-llm")
        .squeeze()
        .drop_sel(component=["merge", "transfer"])  # which depend on the place of tiles
        for model, context in ((mixture(8, 2), [129]), (replace(SMALL, d_ff=1024), [33, 32]))
    )
    np.testing.assert_allclose(mixed.busy_s, alone.busy_s.sel(context_len=33), rtol=1e-12)
    more, fewer = (alone.energy_j.sel(context_len=n) for n in (33, 32))
    np.testing.assert_allclose(mixed.energy_j, 2 * more + 6 * fewer, rtol=1e-12)


def test_mixtral_reads_a_prompt_in_the_cycles_of_whole_tokens():
    # eight experts have 258 tokens: two have 33, which take two folds of 32 rows, six have 32, which take one
    ds = evaluated("mixtral-8x7b", "tpu-llm", [129], ["corrected"], phase="prefill", variables=["cycles"])
    assert ds.cycles.sel(op="ff1").sum().item() == 32 * ((2 * 2 + 6) * 14336 / 32 * (4096 + 62) - 8)


def test_a_batch_on_an_axis_is_dealt_as_each_batch_alone():
    models, pim = [mixture(8, 2), replace(SMALL, name="dense")], pl.catalog.systems["pim-llm"]
    swept = evaluated(models, with_field(pim, "decoding.batch", pl.axis(batch=[1, 3, 5])), [128])
    for batch in (1, 3, 5):
        alone = evaluated(models, with_field(pim, "decoding.batch", batch), [128])
        for name in alone.data_vars:
            found = swept[name].sel(batch=batch) if "batch" in swept[name].dims else swept[name]
            np.testing.assert_allclose(found, alone[name], rtol=1e-12, err_msg=name)


def test_a_window_limits_attention_and_its_cache_and_nothing_else():
    short, long = (evaluated(replace(SMALL, window=w), context_len=[1000, 9000]) for w in (1000, np.inf))
    first = {"context_len": 0}
    for name in ("macs", "kv_bytes", "latency_s", "energy_j"):
        full = short[name].sel(conventions="full-system")
        assert np.array_equal(full.isel(first), long[name].sel(conventions="full-system").isel(first))
        assert np.array_equal(full.isel(first), full.isel(context_len=1))


def test_every_new_field_may_be_an_axis():
    swept = replace(
        SMALL,
        n_experts=pl.axis(experts=[4, 8]),
        experts_per_token=pl.axis(active=[1, 2]),
        window=pl.axis(span=[np.inf, 64]),
        d_ff=1024,
    )
    ds = pl.evaluate(system=BOTH, model=swept, context_len=128, conventions="full-system")
    assert {"experts", "active", "span"} <= set(ds.sizes)
    for at in ({"experts": 1, "active": 1, "span": 1}, {"experts": 0, "active": 1, "span": 0}):
        one = replace(
            SMALL,
            d_ff=1024,
            n_experts=(4, 8)[at["experts"]],
            experts_per_token=(1, 2)[at["active"]],
            window=(np.inf, 64)[at["span"]],
        )
        alone = pl.evaluate(system=BOTH, model=one, context_len=128, conventions="full-system")
        for name in ("energy_j", "latency_s", "dram_bytes"):
            np.testing.assert_allclose(ds[name].isel(at).squeeze(), alone[name].squeeze(), rtol=1e-12)


def test_parameters_count_every_expert_and_the_router():
    one, four = replace(SMALL, d_ff=1024), mixture(4, 2)
    assert parameter_count(four) - parameter_count(one) == 2 * (3 * 3 * 4096 * 1024 + 4 * 4096)


def test_copies_of_one_are_no_copies_and_copies_keep_to_their_own():
    grid = {"grid_side": 64, "tiles_per_bank": 12, "walk": "row-major"}
    assert placement.hops([3, 4, 2], **grid) == placement.hops([3, 4, 2], copies=[1, 1, 1], **grid)
    # eight tiles in a row of 64: a a | b0 c0 c0 | b1 c1 c1; a reaches the farthest b, b its own c
    (_, a_on), (b_in, b_on), (c_in, c_on) = placement.hops([2, 1, 2], copies=[1, 2, 2], **grid)
    assert (a_on, b_in, b_on, c_in, c_on) == (4, 0, 2, 1, 0)


def test_mixtral_needs_a_larger_grid_and_a_larger_grid_changes_no_other_model():
    with pytest.warns(Note, match=r"a block needs 5536 tiles: the grid of 64 x 64 is taken as 75 x 75"):
        pl.evaluate(system="pim-llm", model="mixtral-8x7b", context_len=128)
    wide = with_field(pl.catalog.systems["pim-llm"], "pim.grid_side", 128)
    assert np.array_equal(evaluated(SMALL, wide).latency_s, evaluated(SMALL, "pim-llm").latency_s)
    pl.evaluate(system=wide, model="mixtral-8x7b", context_len=128)


def test_a_model_is_of_the_family_farthest_from_those_studied():
    names = ["mixtral-8x7b", "bonsai-2-4b-ternary", "mistral-7b", "llama-3-8b", "opt-1.3b", "llama-3.2-1b"]
    groups = compute.families(names)
    assert {name: [m.name for m in members] for name, members in groups.items()} == {
        "as studied": ["opt-1.3b"],
        "grouped heads": ["llama-3.2-1b", "llama-3-8b"],
        "window": ["mistral-7b"],
        "other mixers": ["bonsai-2-4b-ternary"],
        "experts": ["mixtral-8x7b"],
    }
    for without, one in compute.counterparts(groups).values():
        assert compute.family(without) != compute.family(one)
    dense, mixed = compute.counterparts(groups)["one FFN as wide as the active experts"]
    work = [sum(p.macs for p in products(model, 128)) for model in (dense, mixed)]
    assert work[0] == work[1]


@pytest.mark.parametrize(
    ("true", "says"),
    [([True] * 3, "holds"), ([False] * 3, "fails"), ([True, False, True], "depends: 2 of 3"), ([], "")],
)
def test_a_verdict_counts_the_points_at_which_a_conclusion_is_true(true, says):
    assert compute.verdict(xr.DataArray(np.array(true, bool))) == says


@pytest.fixture(scope="module")
def chapter():
    groups = compute.families(["gpt2-124m", "opt-125m", "opt-1.3b", "llama-3.2-1b", "qwen3-30b-a3b"])
    return groups, compute.evaluated(groups, [128, 4096], [2, 8])


def test_what_memory_does_not_hold_is_missing_and_nothing_else(chapter):
    _, ds = chapter
    missing = ds.speedup.isnull()
    where = {"model": "qwen3-30b-a3b", "conventions": "full-system", "weight_bits": 8}
    assert missing.sel(where).all()
    assert int(missing.sum()) == int(missing.sel(where).sum())


def test_the_chapter_has_the_catalogs_own_numbers_at_the_published_bits(chapter):
    _, ds = chapter
    plain = evaluated("opt-1.3b", conventions=["corrected", "full-system"]).latency_s.sum(["op", "component"])
    np.testing.assert_allclose(
        ds.latency_s.sel(model=["opt-1.3b"], weight_bits=2), plain.transpose(..., "context_len"), rtol=1e-12
    )


def test_verdicts_are_those_of_the_numbers(chapter):
    groups, ds = chapter
    table = compute.verdicts(ds, groups).set_index(["conclusion", "counted"])
    gains = ds.energy_gain.sel(system="pim-llm", weight_bits=2)
    for counted in ("corrected", "full-system"):
        for name, members in groups.items():
            here = gains.sel(conventions=counted, model=[m.name for m in members]) > 0
            assert table.loc[("more tokens/J than TPU-LLM", counted), name] == compute.verdict(here)
    pairs = table.loc[("the larger the model, the larger the speed-up", "corrected")]
    assert pairs["as studied"].endswith("of 3") or pairs["as studied"] == "holds"  # three models, three pairs
    assert pairs["experts"] == "depends: 2 of 3"  # more parameters than OPT-1.3B, and narrower matrices


def test_a_model_that_memory_never_holds_is_refused():
    huge = replace(pl.catalog.models["opt-66b"], name="huge", n_layers=200)
    with pytest.raises(
        ValueError, match=r"memory holds huge at none of \[128\] tokens; wanted a smaller model or context"
    ):
        compute.evaluated({"as studied": [huge]}, [128], [8])
