"""The published PIM-LLM, its conventions one at a time, and the hybrid as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from conftest import CONTEXTS, SEVEN
from hypothesis import given
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.analysis.validation import published_blocks
from pimllm_lib.core.conventions import AS_PUBLISHED, CORRECTED, SWITCHES
from pimllm_lib.core.errors import Note
from pimllm_lib.system.schedule import exposed

PIM_LLM = pl.catalog.systems["pim-llm"]
BOTH = ["tpu-llm", "pim-llm"]


def compared(**args):
    return pl.metrics.compare(pl.metrics.summary(pl.evaluate(system=BOTH, **args))).sel(system="pim-llm")


#: Latency of a block on the crossbars and its energy, ns and nJ, as the public result files of the study have them.
BLOCKS = {name: (row.latency_ns, row.energy_nj) for name, row in published_blocks().iterrows()}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_on_the_crossbars_takes_the_published_time_and_energy(name):
    ds = pl.evaluate(system="pim-llm", model=name, context_len=128, conventions="as-published", detail="component")
    layers = pl.catalog.models[name].n_layers
    crossbars = [c for c in ds.component.values if c not in ("stream", "fill")]
    time = float(ds.latency_s.sel(component=crossbars).sum()) / layers
    energy = float(ds.energy_j.sel(component=crossbars).sum()) / layers
    assert time * 1e9 == pytest.approx(BLOCKS[name][0], abs=1e-6)
    assert energy * 1e9 == pytest.approx(BLOCKS[name][1], abs=0.005)


def test_the_energy_of_a_block_divides_as_published():
    ds = pl.evaluate(
        system="pim-llm", model="opt-6.7b", context_len=128, conventions="as-published", detail="component"
    )
    parts = ds.energy_j.squeeze().sum("op").drop_sel(component=["stream", "fill"])
    share = (100 * parts / parts.sum()).to_series()
    digital = share["registers"] + share["mux"] + share["shift_add"] + share["joint"]
    found = [share["buffer"], share["adc"], share["crossbar"], digital, share["dac"]]
    np.testing.assert_allclose(found, [54.5, 45.0, 0.35, 0.07, 0.07], atol=0.05)


#: One convention at a time: speed-up and gain in tokens/J (%) at 128 and 4096 tokens, from an independent calculation.
ONE_AT_A_TIME = {
    "attention_energy_once": {"gpt2-355m": (11.65, 1.51, -36.3, -17.4), "opt-6.7b": (79.29, 5.71, 11.6, 9.5)},
    "dummy_first_layer": {"gpt2-355m": (11.75, 1.51, 104.7, 381.7), "opt-6.7b": (80.68, 5.72, 85.1, 119.1)},
    "output_reread": {"gpt2-355m": (12.31, 1.52, -33.7, 70.6), "llama-7b": (69.83, 4.71, 11.0, 37.7)},
    "published_ffn_width": {"gpt2-355m": (20.26, 2.02, -15.5, 54.5), "opt-6.7b": (79.29, 5.71, 12.5, 33.7)},
    "published_ffn_gate": {"llama-7b": (86.54, 5.77, 12.7, 33.8), "opt-6.7b": (79.29, 5.71, 12.5, 33.7)},
}


@pytest.mark.parametrize("switch", ONE_AT_A_TIME)
def test_one_convention_at_a_time_moves_the_headlines_as_worked_out_independently(switch):
    off = {switch: False} | ({"published_pim_width": False} if switch == "published_ffn_width" else {})
    rows = ONE_AT_A_TIME[switch]
    ds = compared(model=list(rows), context_len=[128, 4096], conventions=replace(AS_PUBLISHED, name="one", **off))
    for name, (short, long, gain_short, gain_long) in rows.items():
        cell = ds.sel(model=name)
        assert [round(x, 2) for x in cell.speedup.values.tolist()] == [short, long]
        assert [round(100 * x, 1) for x in cell.energy_gain.values.tolist()] == [gain_short, gain_long]


#: Consistent accounting, but for the data sheets of converters and buffers, which an independent calculation reads as the
#: simulator does.
CONSISTENT_AS_SIMULATED = replace(CORRECTED, name="mine", sample_rate_is_clock=True, fixed_buffer_access=True)
#: Consistent accounting: speed-up and gain in tokens/J (%) at 128 and at 4096 tokens.
CONSISTENT = {
    "gpt2-355m": (22.26, 84.5, 2.03, 32.1), "gpt2-774m": (27.66, 77.2, 2.27, 33.9), "gpt2-1.5b": (33.52, 54.7, 2.58, 28.7),
    "opt-1.3b": (42.46, 83.2, 3.02, 45.1), "opt-2.7b": (50.08, 82.8, 3.50, 49.3), "llama-7b": (89.17, 83.0, 5.78, 61.1),
    "opt-6.7b": (81.73, 82.7, 5.73, 60.8),
}  # fmt: skip


def test_consistent_accounting_gives_the_independently_worked_out_table():
    ds = compared(model=list(CONSISTENT), context_len=[128, 4096], conventions=CONSISTENT_AS_SIMULATED)
    for name, expected in CONSISTENT.items():
        cell = ds.sel(model=name)
        pairs = zip(cell.speedup.values.tolist(), cell.energy_gain.values.tolist(), strict=True)
        assert tuple(x for speedup, gain in pairs for x in (round(speedup, 2), round(100 * gain, 1))) == expected


def test_put_right_together_the_conventions_are_kinder_than_the_paper_but_at_its_headline():
    ds = compared(model=SEVEN, context_len=CONTEXTS, conventions=["as-published", CONSISTENT_AS_SIMULATED, "corrected"])
    before, after, whole = (ds.sel(conventions=name) for name in ("as-published", "mine", "corrected"))
    assert (whole.speedup > after.speedup).all()
    assert (whole.energy_gain > np.maximum(after.energy_gain, before.energy_gain)).all()
    assert (after.speedup > before.speedup).all()
    assert (after.energy_gain > 0).all()
    smaller = after.energy_gain < before.energy_gain
    where = [(str(m), int(n)) for m in SEVEN for n in CONTEXTS if smaller.sel(model=m, context_len=n)]
    assert where == [("gpt2-355m", 4096), ("gpt2-774m", 4096), ("gpt2-1.5b", 4096)]


def test_buffer_leakage_of_all_blocks_is_457_watts_as_published():
    ds = pl.evaluate(system="pim-llm", model="opt-6.7b", context_len=128, conventions="as-published")
    assert ds.static_power_w.item() == pytest.approx(456.8, abs=0.05)
    assert ds.tiles.item() == 32 * 816


def test_components_sum_to_the_whole_with_rounding():
    ds = pl.evaluate(system=BOTH, model=SEVEN, context_len=CONTEXTS, conventions="as-published", detail="component")
    total = pl.evaluate(system=BOTH, model=SEVEN, context_len=CONTEXTS, conventions="as-published")
    xr.testing.assert_allclose(pl.metrics.total(ds), total, rtol=1e-12)
    block = ds.latency_s.sel(system="pim-llm").drop_sel(component=["stream", "fill"]).sum(["op", "component"])
    layers = xr.DataArray([pl.catalog.models[name].n_layers for name in SEVEN], coords={"model": SEVEN})
    nanoseconds = (block / layers).values * 1e9
    np.testing.assert_allclose(nanoseconds, np.round(nanoseconds), atol=1e-6)
    rounding = ds.latency_s.sel(system="pim-llm", op="block", component="rounding")
    assert (rounding <= 0).all()
    assert (rounding > -1e-9 * layers).all()


def test_only_the_slowest_of_parallel_matrices_is_on_the_critical_path():
    ds = pl.evaluate(system="pim-llm", model=["opt-6.7b", "llama-3-8b"], context_len=128, detail="op").squeeze()
    for stage in (["q", "k", "v"], ["gate", "ff1"]):
        busy, latency = ds.busy_s.sel(op=stage), ds.latency_s.sel(op=stage)
        np.testing.assert_allclose(latency.sum("op"), busy.max("op"), rtol=1e-12)
        assert ((latency == 0) | (latency == busy)).all()
    serial = ds.sel(op=["score", "av", "x", "ff2"])
    np.testing.assert_array_equal(serial.latency_s, serial.busy_s)


def test_attention_costs_the_same_on_the_array_of_either_system():
    ds = pl.evaluate(system=BOTH, model="opt-6.7b", context_len=CONTEXTS, detail="op").sel(op=["score", "av"])
    for name in ("latency_s", "energy_j", "cycles"):
        np.testing.assert_array_equal(ds[name].sel(system="tpu-llm"), ds[name].sel(system="pim-llm"))


def test_a_hybrid_routed_to_the_array_alone_is_the_baseline():
    all_array = replace(PIM_LLM, name="all", routing=dict.fromkeys(("projection", "attention", "head"), "array"))
    for conventions in ("as-published", "corrected"):
        args = {"model": SEVEN, "context_len": CONTEXTS, "conventions": conventions}
        ours = pl.evaluate(system=all_array, **args).drop_vars("system")
        xr.testing.assert_equal(ours, pl.evaluate(system="tpu-llm", **args).drop_vars("system"))


def test_a_swept_analog_part_gives_what_each_value_alone_gives():
    def machine(rows, bits):
        bar = PIM_LLM.pim.tile.crossbar
        bar = replace(bar, rows=rows, cols=rows, adc=replace(bar.adc, bits=bits))
        return replace(PIM_LLM, pim=replace(PIM_LLM.pim, tile=replace(PIM_LLM.pim.tile, crossbar=bar)))

    sizes, depths = [128, 256, 512], [4, 8]
    args = {"model": ["opt-1.3b", "llama-7b"], "context_len": [128, 4096], "detail": "component"}
    swept = pl.evaluate(system=machine(pl.axis(crossbar_rows=sizes), pl.axis(adc_bits=depths)), **args)
    for rows in sizes:
        for bits in depths:
            alone = pl.evaluate(system=machine(rows, bits), **args)
            for name in ("latency_s", "energy_j", "area_m2", "tiles", "static_power_w"):
                here = {dim: at for dim, at in (("crossbar_rows", rows), ("adc_bits", bits)) if dim in swept[name].dims}
                np.testing.assert_allclose(swept[name].sel(here), alone[name], rtol=1e-12, err_msg=name)


def test_auxiliary_parts_are_off_as_published_and_cost_something_when_on():
    both = [CORRECTED, replace(CORRECTED, name="with", auxiliary_parts=True)]
    ds = pl.evaluate(
        system="pim-llm", model="opt-6.7b", context_len=128, conventions=both, detail="component"
    ).squeeze()
    parts = ["post_processing", "input_distributor", "global_buffer", "controller"]
    assert (ds.energy_j.sel(conventions="corrected", component=parts) == 0).all()
    spent = ds.energy_j.sel(conventions="with", component=parts).sum("op")
    assert (spent > 0).all()
    others = [c for c in ds.component.values if c not in parts]
    np.testing.assert_array_equal(*(ds.energy_j.sel(conventions=c, component=others) for c in ("corrected", "with")))


def test_programming_pays_for_itself_where_energy_is_saved_and_never_elsewhere():
    ds = compared(model=["gpt2-355m", "opt-6.7b"], context_len=128, conventions="as-published").squeeze()
    assert np.isinf(ds.break_even_tokens.sel(model="gpt2-355m"))
    cell = ds.sel(model="opt-6.7b")
    baseline = pl.evaluate(
        system="tpu-llm", model="opt-6.7b", context_len=128, conventions="as-published"
    ).energy_j.item()
    assert float(cell.break_even_tokens) == pytest.approx(float(cell.program_j) / (baseline - float(cell.energy_j)))


def test_a_comparison_needs_its_baseline():
    with pytest.raises(ValueError, match="no system 'tpu-llm' to compare with"):
        pl.metrics.compare(pl.metrics.summary(pl.evaluate(system="pim-llm", model="opt-1.3b", context_len=128)))


def test_more_pes_in_a_tile_as_drawn_make_fewer_tiles():
    drawn = replace(PIM_LLM, pim=replace(PIM_LLM.pim, tile=pl.catalog.parts["tile-4x4"]))
    ds = pl.evaluate(system=[PIM_LLM, replace(drawn, name="drawn")], model="opt-6.7b", context_len=128)
    assert ds.tiles.values.ravel().tolist() == [32 * 768, 32 * 192]


def test_a_grid_that_is_too_small_is_taken_larger_and_says_so():
    small = replace(PIM_LLM, pim=replace(PIM_LLM.pim, grid_side=32))
    said = r"a block needs 3888 tiles: the grid of 32 x 32 is taken as 63 x 63, up to \d+ hops for a result"
    with pytest.warns(Note, match=said):
        grown = pl.evaluate(system=small, model="opt-66b", context_len=128)
    xr.testing.assert_equal(
        grown.drop_attrs(), pl.evaluate(system=PIM_LLM, model="opt-66b", context_len=128).drop_attrs()
    )
    banked = replace(small, pim=replace(small.pim, walk="banks"))
    assert pl.evaluate(system=banked, model="opt-66b", context_len=128).tiles.item() == 64 * 3888


@given(st.dictionaries(st.sampled_from(["q", "k", "v", "x", "gate", "ff1", "ff2"]), st.floats(0, 1e3), min_size=1))
def test_parallel_work_is_exposed_as_its_maximum_and_serial_work_whole(busy):
    share = exposed(busy, dict.fromkeys(busy, "pim"))
    for stage in (("q", "k", "v"), ("gate", "ff1")):
        times = [busy[op] for op in stage if op in busy]
        if times:
            assert sum(busy[op] * share[op] for op in stage if op in busy) == pytest.approx(max(times))
    assert exposed(busy, dict.fromkeys(busy, "array")) == dict.fromkeys(busy, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"published_ffn_width": False}, "published_pim_width is on and published_ffn_width off"),
        ({"floor_block": 1}, "Conventions.floor_block is 1; wanted True or False"),
    ],
)
def test_contradictory_conventions_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(AS_PUBLISHED, **change)


def test_every_convention_is_documented():
    for switch in SWITCHES:
        assert f"{switch}: " in type(CORRECTED).__doc__


def test_conventions_from_toml_change_one_field_of_a_preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "as-published"\nattention_energy_once = false\n')
    mine = pl.catalog.preset(path)
    assert (mine.name, mine.attention_energy_once, mine.output_reread) == ("mine", False, True)
    path.write_text("attention_energy = false\n")
    with pytest.raises(ValueError, match=r"mine.toml: unknown convention 'attention_energy', did you mean"):
        pl.catalog.preset(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pim": None}, "routing sends projection to pim, and pim-llm has none"),
        (
            {"routing": {"projection": "pim", "attention": "pim", "head": "array"}},
            "routing.attention is 'pim'; wanted array",
        ),
    ],
)
def test_routing_to_what_is_not_there_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(PIM_LLM, **change)
