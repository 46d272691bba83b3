"""The whole machine: memory, nonlinear units, bus, static power, phases, and accelerators of one's own."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import xarray as xr
from conftest import CONTEXTS, SEVEN
from hypothesis import given
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.core.conventions import AS_PUBLISHED, CORRECTED, FULL_SYSTEM, SLIPS, SWITCHES
from pimllm_lib.core.parts import with_fields
from pimllm_lib.costs import memory, nonlinear

TPU, PIM_LLM = (pl.catalog.systems[name] for name in ("tpu-llm", "pim-llm"))
BOTH = ["tpu-llm", "pim-llm"]
GRID = {"system": BOTH, "model": [*SEVEN, "llama-3-8b"], "context_len": CONTEXTS}
sizes = st.integers(1, 400)


def only(name, **switches):
    return replace(CORRECTED, name=name, **switches)


# --- memory -----------------------------------------------------------------------------------------------------------


@given(m=sizes, k=sizes, n=sizes, flow=st.sampled_from(["os", "ws", "is"]), held=st.integers(1, 10**5))
def test_what_comes_in_is_what_is_used_and_what_is_reloaded(m, k, n, flow, held):
    shape = {"rows": 8, "cols": 16, "dataflow": flow, "inputs_held": held, "weights_held": held}
    words = memory.dram_words(m, k, n, **shape)
    assert words["inputs"] + words["weights"] == m * k + k * n + words["reloaded"]
    assert words["reloaded"] >= 0
    assert words["results"] == m * n
    roomy = memory.dram_words(m, k, n, rows=8, cols=16, dataflow=flow)
    assert roomy["reloaded"] == 0


@given(k=sizes, n=sizes, held=st.integers(1, 10**5), flow=st.sampled_from(["os", "ws"]))
def test_a_weight_larger_than_the_chip_is_fetched_once_for_a_token(k, n, held, flow):
    assert memory.dram_words(1, k, n, rows=8, cols=8, dataflow=flow, weights_held=held)["weights"] == k * n


def test_an_operand_that_does_not_fit_comes_in_again_for_each_fold_that_needs_it():
    # 64 rows of activations on 16 rows of PEs: four row folds use the same strip of 300 x 8 weights
    words = memory.dram_words(64, 300, 40, rows=16, cols=8, weights_held=300 * 8 - 1, inputs_held=64 * 300 - 1)
    assert words["weights"] == 4 * 300 * 40
    assert words["inputs"] == 5 * 64 * 300


def test_dataarrays_and_axes_of_dataflows_agree_with_numbers():
    size, held = (40, 90, 70), {"rows": 8, "cols": 8, "inputs_held": 500, "weights_held": 500}
    flows = xr.DataArray(["os", "ws", "is"], dims="flow")
    labelled = [xr.DataArray([x, 2 * x], dims="point") for x in size]
    together = memory.dram_words(*labelled, dataflow=flows, **held)
    for i, flow in enumerate(flows.values.tolist()):
        for name, value in memory.dram_words(*size, dataflow=flow, **held).items():
            here = {dim: at for dim, at in (("point", 0), ("flow", i)) if dim in together[name].dims}
            assert together[name].isel(here) == value


@pytest.mark.parametrize(("bits", "millijoules"), [(8, 206), (2, 52)])
def test_weights_of_opt_6_7b_over_lpddr_at_4_pj_a_bit(bits, millijoules):
    system = replace(TPU, dram=replace(TPU.dram, bit_j=4e-12), storage=replace(TPU.storage, weight_bits=bits))
    args = {"model": "opt-6.7b", "context_len": 128, "conventions": only("m", memory=True), "detail": "component"}
    weights = pl.evaluate(system=system, **args).energy_j.sel(component="dram_weights").sum()
    assert round(1e3 * float(weights)) == millijoules


def test_the_cache_of_opt_6_7b_at_4096_tokens_and_8_bits_has_1_07_gigabytes():
    ds = pl.evaluate(system="pim-llm", model="opt-6.7b", context_len=4096, conventions=only("m", memory=True))
    assert round(ds.kv_bytes.item() / 1e9, 2) == 1.07


def test_grouped_query_heads_read_their_cache_once_if_a_head_fits_on_the_chip():
    counting = only("m", memory=True)
    args = {"model": "llama-3-8b", "context_len": 4096, "conventions": counting, "detail": "component"}
    ds = pl.evaluate(system="pim-llm", **args)
    read = ds.dram_bytes.sel(component="dram_kv", op=["score", "av"]).sum()
    assert float(read) == ds.kv_bytes.sum().item()
    tiny = replace(PIM_LLM, sram=replace(PIM_LLM.sram, weights_bytes=1024.0))
    again = pl.evaluate(system=tiny, **args).dram_bytes.sel(component="dram_kv", op=["score", "av"]).sum()
    assert float(again) == 4 * float(read)


def test_a_model_that_fits_on_the_chip_moves_no_weights():
    small = replace(pl.catalog.models["opt-125m"], n_layers=1, d_ff=768)
    counting = only("m", memory=True)
    moved = pl.evaluate(system="tpu-llm", model=small, context_len=128, conventions=counting, detail="component")
    assert float(moved.dram_bytes.sel(component="dram_weights").sum()) == 0


def test_a_slow_memory_decides_the_time_of_a_token():
    slow = replace(TPU, dram=replace(TPU.dram, bandwidth_bps=1e8))
    counting = only("m", memory=True)
    ds = pl.evaluate(system=slow, model="opt-1.3b", context_len=128, conventions=counting)
    moving = ds.dram_bytes.item() * 8 / 1e8
    assert ds.latency_s.item() == pytest.approx(moving, rel=0.03)
    assert ds.latency_s.item() >= moving


def test_a_double_buffer_hides_all_but_the_difference():
    assert memory.stall(3.0, 2.0) == 1.0
    assert memory.stall(2.0, 3.0) == 0.0


def test_the_roofline_bends_where_both_bounds_meet():
    ridge = 1e11 / (1e10 / 8)  # MACs for each byte at which 1e11 MAC/s need 1e10 bit/s
    for intensity, bound in ((ridge / 10, 1e10), (ridge, 1e11), (ridge * 10, 1e11)):
        rate = memory.roofline(intensity, 1.0, peak_macs_per_s=1e11, bandwidth_bps=1e10)
        assert rate == pytest.approx(bound)
    ds = pl.evaluate(system="tpu-llm", model="opt-6.7b", context_len=128, conventions="full-system")
    roof = pl.metrics.roofline(ds, rate_hz=1e8, bandwidth_bps=TPU.dram.bandwidth_bps)
    done = ds.array_macs / ds.latency_s
    assert (roof.attainable_macs_per_s >= done).all()


# --- the whole ---------------------------------------------------------------------------------------------------------


def test_with_everything_off_the_full_system_is_corrected_to_the_last_bit():
    off = replace(FULL_SYSTEM, name="corrected", **{name: False for name in SWITCHES if name not in SLIPS})
    xr.testing.assert_identical(pl.evaluate(**GRID, conventions=off), pl.evaluate(**GRID, conventions="corrected"))


@pytest.mark.parametrize("switch", [name for name in SWITCHES if name not in SLIPS])
def test_every_addition_costs_time_or_energy_or_saves_it(switch):
    also = {"static_power": True} if switch == "power_gating" else {}
    grid = GRID | {"system": [TPU, with_fields(PIM_LLM, {"pim.wake_s": 0.0})]}
    base = pl.evaluate(**grid, conventions=only("base", **also)).sel(system="pim-llm")
    with_it = pl.evaluate(**grid, conventions=only("with", **also, **{switch: True})).sel(system="pim-llm")
    less = switch in ("overlap", "power_gating")
    time, energy = with_it.latency_s - base.latency_s, with_it.energy_j - base.energy_j
    for change in (time, energy):
        assert ((change <= 1e-18) if less else (change >= -1e-18)).all()
    assert (abs(time) > 0).any() or (abs(energy) > 0).any()


def test_energy_and_latency_by_component_sum_to_the_whole():
    split = pl.evaluate(**GRID, conventions="full-system", detail="component")
    whole = pl.evaluate(**GRID, conventions="full-system")
    xr.testing.assert_allclose(pl.metrics.total(split), whole, rtol=1e-12)


def test_latency_lies_between_the_longest_engine_and_all_of_them_in_series():
    ds = pl.evaluate(**GRID, conventions="full-system", detail="component")
    latency, busy = ds.latency_s.sum(["op", "component"]), ds.busy_s.sum("op")
    assert (latency <= busy.sum("component") * (1 + 1e-12)).all()
    for parts in (["stream", "fill"], ["dram_weights", "dram_kv", "dram_activations"], ["bus"]):
        assert (latency >= busy.sel(component=parts).sum("component")).all()


def test_static_power_flows_for_the_whole_token():
    counting = [only("ungated", static_power=True), only("gated", static_power=True, power_gating=True), CORRECTED]
    ds = pl.evaluate(**GRID, conventions=counting).sel(system="pim-llm")
    ungated, gated, without = (ds.sel(conventions=c.name) for c in counting)
    extra = ungated.energy_j - without.energy_j
    assert (extra <= ungated.static_power_w * ungated.latency_s).all()
    assert (extra >= 0.99 * ungated.static_power_w * ungated.latency_s).all()
    assert (gated.energy_j < ungated.energy_j).all()
    leaking = replace(PIM_LLM, pim=replace(PIM_LLM.pim, gated_share=1.0))
    same = pl.evaluate(system=leaking, model=SEVEN, context_len=128, conventions=counting[:2]).energy_j
    np.testing.assert_allclose(same.sel(conventions="gated"), same.sel(conventions="ungated"), rtol=1e-12)


def test_buffer_leakage_ungated_as_published_is_457_watts():
    counting = replace(AS_PUBLISHED, name="leaking", static_power=True)
    ds = pl.evaluate(system="pim-llm", model="opt-6.7b", context_len=128, conventions=counting, detail="component")
    assert round(float(ds.static_power_w.sel(component="buffer").sum())) == 457


def test_the_output_head_on_the_array_gives_the_independently_worked_out_numbers():
    read = {"sample_rate_is_clock": True, "fixed_buffer_access": True}  # as the independent calculation does
    head = [replace(AS_PUBLISHED, name="published", lm_head=True), only("corrected-head", lm_head=True, **read)]
    models = ["gpt2-355m", "llama-7b", "opt-6.7b"]
    ds = pl.evaluate(system=BOTH, model=models, context_len=[128, 4096], conventions=head)
    ds = pl.metrics.compare(pl.metrics.summary(ds)).sel(system="pim-llm")
    speedup = ds.speedup.round(2).transpose("conventions", "model", "context_len").values.tolist()
    assert speedup == [
        [[3.26, 1.44], [25.40, 4.38], [23.21, 5.09]],
        [[5.50, 1.87], [32.55, 5.36], [23.41, 5.10]],
    ]
    gain = (100 * ds.energy_gain).round(1).transpose("conventions", "model", "context_len").values.tolist()
    assert gain == [
        [[-27.8, 58.7], [10.7, 36.6], [12.1, 32.5]],
        [[64.6, 28.7], [80.0, 59.5], [78.1, 58.3]],
    ]


def test_the_output_head_may_go_to_crossbars_of_its_own():
    on_pim = replace(PIM_LLM, routing=PIM_LLM.routing | {"head": "pim"})
    args = {"model": "opt-1.3b", "context_len": 128, "conventions": only("h", lm_head=True), "detail": "op"}
    here, there = (pl.evaluate(system=s, **args).squeeze() for s in (PIM_LLM, on_pim))
    assert there.latency_s.sel(op="lm_head") < here.latency_s.sel(op="lm_head")
    assert there.tiles.sel(op="lm_head") == 8 * 197 / 4
    rest = [op for op in there.op.values if op != "lm_head"]
    np.testing.assert_array_equal(there.latency_s.sel(op=rest), here.latency_s.sel(op=rest))


def test_the_value_projection_hides_behind_the_scores_when_they_overlap():
    counting = [CORRECTED, only("overlap", overlap=True)]
    ds = pl.evaluate(
        system="pim-llm", model="opt-6.7b", context_len=[1, 4096], conventions=counting, detail="op"
    ).squeeze()
    busy, exposed = ds.busy_s.sel(conventions="overlap"), ds.latency_s.sel(conventions="overlap")
    assert float(exposed.sel(op="v", context_len=4096)) == 0
    short = {"context_len": 1}
    until = busy.sel(op=["q", "k"], **short).max("op") + busy.sel(op="score", **short)
    left = max(0.0, float(busy.sel(op="v", **short) - until))
    assert float(exposed.sel(op="v", **short)) == pytest.approx(left)


# --- nonlinear units -----------------------------------------------------------------------------------------------------


def test_a_consmax_hides_and_a_conventional_softmax_waits_for_two_passes():
    lanes = {"lanes": 32, "rate_hz": 1e8, "depth_s": 0.0}
    assert nonlinear.times("consmax", 4096, **lanes) == {"busy_s": pytest.approx(1.28e-6), "latency_s": 0.0}
    assert nonlinear.times("conventional", 4096, **lanes)["latency_s"] == pytest.approx(2 * 1.28e-6)
    assert nonlinear.times("layernorm", 4096, **lanes)["latency_s"] == pytest.approx(1.28e-6)
    assert nonlinear.times("gelu", 0, lanes=32, rate_hz=1e8, depth_s=1.0) == {"busy_s": 0, "latency_s": 0}


def test_a_conventional_softmax_costs_more_than_a_consmax():
    usual = replace(TPU, name="usual", nonlinear=pl.catalog.parts["units-softmax"])
    args = {"model": SEVEN, "context_len": 4096, "conventions": only("n", nonlinear=True), "detail": "op"}
    ds = pl.evaluate(system=[TPU, usual], **args).sel(op="softmax")
    for name in ("energy_j", "latency_s", "busy_s"):
        assert (ds[name].sel(system="usual") > ds[name].sel(system="tpu-llm")).all()


# --- phases --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counting", ["as-published", "corrected", "full-system"])
def test_prefill_of_one_token_is_a_decode_step_at_context_one(counting):
    args = {"system": BOTH, "model": SEVEN, "context_len": 1, "conventions": counting, "detail": "component"}
    prefill, decode = (pl.evaluate(**args, phase=phase) for phase in ("prefill", "decode"))
    for name in decode.data_vars:
        np.testing.assert_array_equal(prefill[name], decode[name], err_msg=str(name))


def test_prefill_does_the_operations_of_all_tokens_and_uses_the_array_better():
    args = {"system": "tpu-llm", "model": "opt-1.3b", "context_len": 256}
    prefill, decode = (pl.metrics.summary(pl.evaluate(**args, phase=phase)) for phase in ("prefill", "decode"))
    assert prefill.macs.item() == 256 * decode.macs.item()
    assert prefill.utilisation.item() > 20 * decode.utilisation.item()


@pytest.mark.parametrize("counting", ["corrected", "full-system"])
def test_a_generation_is_its_steps_one_after_another(counting):
    args = {"system": BOTH, "model": ["opt-1.3b", "llama-3-8b"], "conventions": counting}
    answer = pl.generate(prompt=100, new_tokens=20, **args)
    first = pl.evaluate(context_len=100, phase="prefill", **args).squeeze("context_len", drop=True)
    steps = [pl.evaluate(context_len=n, **args).squeeze("context_len", drop=True) for n in range(101, 120)]
    np.testing.assert_allclose(answer.time_to_first_token_s, first.latency_s, rtol=1e-12)
    np.testing.assert_allclose(answer.time_per_token_s, sum(s.latency_s for s in steps) / 19, rtol=1e-12)
    np.testing.assert_allclose(answer.answer_j, first.energy_j + sum(s.energy_j for s in steps), rtol=1e-12)
    alone = pl.generate(prompt=100, new_tokens=1, **args)
    np.testing.assert_allclose(alone.answer_s, first.latency_s)
    assert np.isnan(alone.time_per_token_s).all()


# --- power ---------------------------------------------------------------------------------------------------------------


def test_mean_power_by_subsystem_is_the_energy_of_a_token_over_its_time():
    ds = pl.evaluate(**GRID, conventions="full-system", detail="component")
    power, whole = pl.metrics.power(ds), pl.metrics.total(ds)
    np.testing.assert_allclose(power.power_w.sum("subsystem"), whole.energy_j / whole.latency_s, rtol=1e-12)
    working = power.sel(subsystem=["array", "pim"])
    assert (working.peak_power_w >= working.power_w * (1 - 1e-12)).all()
    cycle = TPU.array.measured_cycle_energy_j * TPU.array.rate_hz
    np.testing.assert_allclose(power.peak_power_w.sel(subsystem="array", system="tpu-llm"), cycle)
    with pytest.raises(ValueError, match="wanted one evaluated with detail='component'"):
        pl.metrics.power(whole)


# --- an accelerator of one's own -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VectorUnit:
    """A row of multipliers that are always busy: the best any 1024 of them could do."""

    name: str = "vector-1024"
    macs_per_s: float = 1024 * 1e8
    mac_j: float = 0.23e-12

    def costs(self, products):
        return {p.op: {"latency_s": p.macs / self.macs_per_s, "energy_j": p.macs * self.mac_j} for p in products}


def test_any_object_with_costs_is_an_accelerator():
    ds = pl.evaluate(system=["pim-llm", VectorUnit()], model="opt-6.7b", context_len=128, conventions="as-published")
    summary = pl.metrics.summary(ds).squeeze()
    macs = summary.macs.sel(system="vector-1024")
    assert float(summary.latency_s.sel(system="vector-1024")) == pytest.approx(float(macs) / 1.024e11)
    lead = summary.tokens_per_s.sel(system="pim-llm") / summary.tokens_per_s.sel(system="vector-1024")
    assert round(float(lead), 1) == 2.4


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (lambda p: {"latency": 1.0, "energy_j": 1.0}, "unknown variable of odd.costs.*did you mean 'latency_s'"),
        (lambda p: {"latency_s": -1.0, "energy_j": 1.0}, "odd.costs.* is -1.0; wanted a finite number of at least 0"),
        (lambda p: {"latency_s": "fast", "energy_j": 1.0}, "odd.costs.* is 'fast'; wanted a finite number"),
    ],
)
def test_costs_that_are_none_are_refused(said, words):
    odd = type("Odd", (), {"name": "odd", "costs": lambda self, products: {p.op: said(p) for p in products}})()
    with pytest.raises(ValueError, match=words):
        pl.evaluate(system=odd, model="opt-1.3b", context_len=8)
    partial = type("Odd", (), {"name": "odd", "costs": lambda self, products: {"q": {"latency_s": 1.0}}})()
    with pytest.raises(ValueError, match="wanted a mapping with q, k, v"):
        pl.evaluate(system=partial, model="opt-1.3b", context_len=8)


def test_a_stall_is_what_a_product_itself_does_not_hide():
    ds = pl.evaluate(
        system="pim-llm", model="opt-6.7b", context_len=128, conventions=only("m", memory=True), detail="component"
    ).squeeze()
    assert (ds.latency_s.sel(component="stall", op=["k", "v"]) == 0).all()


def test_an_accelerator_from_toml_runs_under_every_preset(tmp_path):
    (tmp_path / "array.toml").write_text(
        """part = "SystolicArray"
rows = { value = 1, unit = "1", source = "us", status = "assumed" }
cols = { value = 1024, unit = "1", source = "us", status = "assumed" }
rate_hz = { value = 200, unit = "MHz", source = "us", status = "assumed" }
active_pe_energy_j = { value = 0.2, unit = "pJ", source = "us", status = "assumed" }
idle_pe_energy_j = { value = 0.02, unit = "pJ", source = "us", status = "assumed" }
"""
    )
    (tmp_path / "ours.toml").write_text(
        """array = "array.toml"
pim = "pim-published"
sram = "sram-8mb"
dram = "lpddr5x-8533"
storage = "ternary-packed"
nonlinear = "units-consmax"
bus = "bus-64bit"
routing = { projection = "pim", attention = "array", head = "array" }
"""
    )
    presets = ["as-published", "corrected", "full-system"]
    ds = pl.evaluate(
        system=[tmp_path / "ours.toml", "pim-llm"], model="opt-6.7b", context_len=4096, conventions=presets
    )
    assert (ds.latency_s.sel(system="ours") < ds.latency_s.sel(system="pim-llm")).all()


# --- bad input -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: replace(TPU.dram, bandwidth_bps=0.0), "Dram.bandwidth_bps is 0.0; wanted a finite number above 0"),
        (lambda: replace(TPU.nonlinear, softmax="soft"), "unknown softmax 'soft'"),
        (lambda: pl.generate(system="tpu-llm", model="opt-1.3b", prompt=0, new_tokens=1), "prompt is 0; wanted a whole"),
        (lambda: pl.generate(system="tpu-llm", model="opt-1.3b", prompt=1, new_tokens=0), "new_tokens is 0"),
        (lambda: pl.evaluate(**GRID, phase="train"), "unknown phase 'train'"),
        (
            lambda: pl.evaluate(system="tpu-llm", model="opt-6.7b", context_len=10**6, conventions="full-system"),
            r"tpu-llm.dram \(lpddr5-6400\) holds 16 GiB, and weights and key-value cache need 2.* GiB more",
        ),
        (
            lambda: pl.evaluate(
                system=replace(TPU, dram=None), model="opt-1.3b", context_len=128, conventions="full-system"
            ),
            "tpu-llm.dram is missing, and full-system counts memory; wanted one",
        ),
        (
            lambda: pl.evaluate(
                system=replace(PIM_LLM, storage=None), model="opt-1.3b", context_len=128,
                conventions=only("bus", transfers=True),
            ),
            "pim-llm.storage is missing, and bus counts transfers; wanted one",
        ),
        (
            lambda: pl.evaluate(
                system=replace(TPU, array=replace(TPU.array, pe_area_m2=None)), model="opt-1.3b", context_len=128,
                variables=["area_m2"],
            ),
            r"tpu-llm.array \(edge-32x32\) has no pe_area_m2; wanted one, since its area was asked for",
        ),
        (lambda: replace(FULL_SYSTEM, static_power=False), "power_gating is on and static_power off"),
        (lambda: replace(TPU, routing={"projection": "array", "attention": "array"}), "wanted an engine for head too"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_part_and_field(call, words):
    with pytest.raises(ValueError, match=words):
        call()
