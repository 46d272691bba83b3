"""evaluate: dimensions, sums, conventions, axes, and numbers worked out independently of it."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
import xarray as xr
from conftest import CONTEXTS, SEVEN
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import OPS, VARIABLES

TPU = pl.catalog.systems["tpu-llm"]


def by_hand(d, d_ff, layers, heads, kv, hd, ffn, context, side):
    """Return the cycles of one token on a side x side output-stationary array, written out for m = 1."""

    def gemv(k, n):
        return ceil(n / side) * (k + 2 * side - 2) - 1

    block = gemv(d, heads * hd) + 2 * gemv(d, kv * hd) + gemv(heads * hd, d)
    block += (ffn - 1) * gemv(d, d_ff) + gemv(d_ff, d)
    block += heads * (gemv(hd, context) + gemv(context, hd))
    return layers * block


#: Shapes as the public topology files of the study have them, and three models it does not have.
PUBLISHED = {
    "gpt2-124m": (768, 768, 12, 12, 12, 64, 2),
    "gpt2-1.5b": (1600, 1600, 48, 25, 25, 64, 2),
    "opt-350m": (1024, 4096, 24, 16, 16, 64, 2),
    "opt-13b": (5120, 20480, 40, 40, 40, 128, 2),
    "opt-30b": (7168, 28672, 48, 56, 56, 128, 2),
    "llama-7b": (4096, 11008, 32, 32, 32, 128, 2),
    "llama-13b": (5120, 13824, 40, 40, 40, 128, 2),
    "llama-2-7b": (4096, 11008, 32, 32, 32, 128, 3),
    "llama-3-8b": (4096, 14336, 32, 32, 8, 128, 3),
    "bitnet-2b4t": (2560, 6912, 30, 20, 5, 128, 3),
}


@pytest.mark.parametrize(
    ("array", "side", "cycle_j"), [("edge-32x32", 32, 40.713e-12), ("cloud-256x256", 256, 2250.242e-12)]
)
def test_cycles_latency_and_energy_equal_the_formula_written_out(array, side, cycle_j):
    system = replace(TPU, array=pl.catalog.parts[array])
    ds = pl.evaluate(system=system, model=list(PUBLISHED), context_len=CONTEXTS, conventions="as-published")
    for name, shape in PUBLISHED.items():
        for context in CONTEXTS:
            cell = ds.sel(model=name, context_len=context).squeeze()
            cycles = by_hand(*shape, context, side)
            assert cell.cycles == cycles
            assert float(cell.latency_s) == pytest.approx(cycles * 1e-8, rel=1e-12)
            assert float(cell.energy_j) == pytest.approx(cycles * cycle_j, rel=1e-12)


def test_details_sum_to_the_total():
    args = {"system": "tpu-llm", "model": SEVEN, "context_len": CONTEXTS, "conventions": "as-published"}
    total, op, component = (pl.evaluate(**args, detail=detail) for detail in ("total", "op", "component"))
    assert op.latency_s.dims == ("system", "model", "context_len", "op")
    assert component.latency_s.dims == ("system", "model", "context_len", "op", "component")
    xr.testing.assert_allclose(component.sum("component", keep_attrs=True).drop_vars("component", errors="ignore"), op)
    xr.testing.assert_allclose(op.sum("op", keep_attrs=True), total)
    assert op.op.values.tolist() == list(OPS)


def test_an_op_a_model_lacks_is_zero():
    ds = pl.evaluate(system="tpu-llm", model=["gpt2-124m", "llama-3-8b"], context_len=128, detail="op")
    gate = ds.energy_j.sel(op="gate").squeeze()
    assert gate.sel(model="gpt2-124m") == 0
    assert gate.sel(model="llama-3-8b") > 0


def test_serial_latency_equals_working_time():
    ds = pl.evaluate(system="tpu-llm", model=SEVEN, context_len=CONTEXTS)
    np.testing.assert_allclose(ds.latency_s, ds.busy_s, rtol=1e-12)


def test_conventions_are_an_attribute_alone_and_a_dimension_in_a_list():
    one = pl.evaluate(system="tpu-llm", model="gpt2-355m", context_len=128)
    two = pl.evaluate(system="tpu-llm", model="gpt2-355m", context_len=128, conventions=["as-published", "corrected"])
    assert one.attrs["conventions"] == "corrected"
    assert two.latency_s.dims == ("system", "model", "conventions", "context_len")
    xr.testing.assert_equal(two.latency_s.sel(conventions="corrected", drop=True), one.latency_s)
    assert two.latency_s.sel(conventions="as-published") < two.latency_s.sel(conventions="corrected")


def test_an_axis_gives_what_each_value_alone_gives():
    cols = [16, 32, 100]
    wide = replace(TPU, array=replace(TPU.array, cols=pl.axis(array_cols=cols), rate_hz=pl.axis(rate=[1e8, 2e8])))
    ds = pl.evaluate(system=wide, model=["opt-1.3b", "llama-7b"], context_len=[128, 777], detail="op")
    assert ds.latency_s.dims == ("system", "model", "context_len", "op", "array_cols", "rate")
    for c in cols:
        alone = replace(TPU, array=replace(TPU.array, cols=c, rate_hz=2e8))
        single = pl.evaluate(system=alone, model=["opt-1.3b", "llama-7b"], context_len=[128, 777], detail="op")
        for name in ("latency_s", "energy_j", "cycles", "sram_reads", "register_accesses"):
            here = {"array_cols": c, "rate": 2e8}  # a variable has only the axes it varies along
            swept = ds[name].sel({dim: at for dim, at in here.items() if dim in ds[name].dims})
            np.testing.assert_array_equal(swept, single[name])


def test_an_axis_of_a_model_is_a_dimension_too():
    model = replace(pl.catalog.models["opt-1.3b"], n_layers=pl.axis(layers=[1, 2, 24]))
    latency = pl.evaluate(system="tpu-llm", model=model, context_len=128).latency_s.squeeze()
    np.testing.assert_allclose(latency / latency[0], [1, 2, 24])


def test_an_axis_of_dataflows_goes_through_the_whole_machine():
    flows = replace(TPU, array=replace(TPU.array, dataflow=pl.axis(dataflow=["os", "ws"])))
    cycles = pl.evaluate(system=flows, model="opt-6.7b", context_len=128, conventions="as-published").cycles
    assert (cycles.squeeze() / 32).values.tolist() == [6_411_450, 18_774_970]


def test_named_variables_alone_are_the_same_numbers():
    few = pl.evaluate(system="tpu-llm", model=SEVEN, context_len=CONTEXTS, variables=["cycles", "latency_s"])
    every = pl.evaluate(system="tpu-llm", model=SEVEN, context_len=CONTEXTS)
    assert set(few.data_vars) == {"cycles", "latency_s", "pe_count"}
    xr.testing.assert_equal(few.cycles, every.cycles)
    xr.testing.assert_equal(few.latency_s, every.latency_s)


@settings(max_examples=30, deadline=None)
@given(context=st.integers(1, 10**6), rows=st.integers(1, 300), cols=st.integers(1, 300))
def test_more_context_never_decodes_faster(context, rows, cols):
    system = replace(TPU, array=replace(TPU.array, rows=rows, cols=cols))
    cycles = pl.evaluate(system=system, model="llama-3-8b", context_len=[context, context + 1]).cycles.squeeze()
    assert cycles[1] >= cycles[0]


def test_every_variable_carries_its_unit_and_meaning():
    both = pl.evaluate(system=["tpu-llm", "pim-llm"], model="opt-1.3b", context_len=128, detail="component")
    ds = pl.metrics.compare(pl.metrics.summary(both))
    assert set(ds.data_vars) <= set(VARIABLES)
    assert {name for name, variable in VARIABLES.items() if variable.extensive} <= set(ds.data_vars)
    for name, variable in ds.data_vars.items():
        assert variable.attrs == {"units": VARIABLES[name].unit, "long_name": VARIABLES[name].meaning}


def test_shares_of_the_ops_sum_to_one():
    ds = pl.evaluate(system="tpu-llm", model=SEVEN, context_len=CONTEXTS, detail="component")
    for dim in ("op", "component"):
        np.testing.assert_allclose(pl.metrics.share(ds, "latency_s", dim).sum(dim), 1)
    with pytest.raises(ValueError, match="wanted one evaluated with detail='op'"):
        pl.metrics.share(pl.metrics.total(ds), "latency_s", "op")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system": "tpu-lm"}, "unknown system 'tpu-lm', did you mean 'tpu-llm'"),
        ({"model": "opt-6.7"}, "unknown model 'opt-6.7', did you mean 'opt-6.7b'"),
        ({"model": []}, "an empty list was given"),
        ({"model": ["opt-1.3b", "opt-1.3b"]}, "model 'opt-1.3b' was given 2 times"),
        ({"model": 7}, "model is 7; wanted a name, a path or an object"),
        ({"conventions": "correct"}, "unknown conventions 'correct', did you mean 'corrected'"),
        ({"detail": "all"}, "unknown detail 'all'"),
        ({"variables": ["latency"]}, "unknown variable 'latency', did you mean 'latency_s'"),
        ({"context_len": 0}, "context_len is 0; wanted a whole number of tokens"),
        ({"context_len": -1}, "context_len is -1"),
        ({"context_len": 1.5}, "context_len is 1.5"),
        ({"context_len": float("nan")}, "context_len is nan"),
        ({"context_len": float("inf")}, "context_len is inf"),
        ({"context_len": 10**400}, "context_len is 1000"),
        ({"context_len": "many"}, "context_len is 'many'"),
        ({"context_len": True}, "context_len is True"),
        ({"context_len": []}, "context_len is 'nothing'"),
        ({"context_len": [128, 128]}, "wanted distinct lengths"),
        ({"system": replace(TPU, array=replace(TPU.array, rows=np.array([1, 2])))}, "rows is an array without labels"),
        ({"system": replace(TPU, array=replace(TPU.array, rows=pl.axis(a=[1, 2]), cols=pl.axis(a=[1, 3])))},
         "axis a stands with two different lists"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_in_one_line(change, words):
    args = {"system": "tpu-llm", "model": "opt-1.3b", "context_len": 128} | change
    with pytest.raises(ValueError, match=words) as error:
        pl.evaluate(**args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ({"op": [1]}, "axis name 'op' is reserved"),
        ({"latency_s": [1]}, "axis name 'latency_s' is reserved"),
        ({"a": []}, "wanted a flat list"),
        ({"a": [[1]]}, "wanted a flat list"),
        ({"a": 3}, "wanted a flat list"),
        ({}, "an axis has one name; got 0"),
        ({"a": [1], "b": [2]}, "an axis has one name; got 2"),
    ],
)
def test_a_bad_axis_is_refused(axis, words):
    with pytest.raises(ValueError, match=words):
        pl.axis(**axis)


LLAMA = pl.catalog.models["llama-3-8b"]
#: Models that differ in what they have: a gate, a narrow embedding, experts, a window, norms, latents, a choice of tokens.
VARIED = [
    *(pl.catalog.models[name] for name in ("gpt2-1.5b", "opt-350m", "llama-2-7b", "mistral-7b")),
    *(pl.catalog.models[name] for name in ("qwen3-30b-a3b", "bitnet-2b4t")),
    replace(LLAMA, name="latent", latent_dim=512, rope_dim=64),
    replace(LLAMA, name="chosen", top_tokens=64, window=200, sinks=4),
]  # fmt: skip
#: Machines whose crossbars hold first what some models lack.
ROUTED = [
    pl.catalog.systems["pim-llm"],
    *(
        with_fields(TPU, {"name": "+".join(ops), "pim": pl.catalog.systems["pim-llm"].pim,
                          "routing": dict(TPU.routing) | dict.fromkeys(ops, "pim")})
        for ops in (("gate", "ff2"), ("k_up", "v_up", "x"), ("v", "ff1"))
    ),
    with_fields(pl.catalog.systems["pim-llm-groups"], {"name": "ways", "decoding.batch": 3, "decoding.splits": 8}),
]  # fmt: skip


@settings(deadline=None, max_examples=12)
@given(
    models=st.lists(st.sampled_from(VARIED), min_size=2, max_size=3, unique_by=lambda model: model.name),
    system=st.sampled_from(ROUTED),
    counted=st.sampled_from(["as-published", "full-system"]),
    phase=st.sampled_from(["decode", "prefill"]),
)
@example(VARIED[:1] + VARIED[2:3], ROUTED[1], "full-system", "decode")
def test_what_a_model_costs_does_not_depend_on_the_models_beside_it(models, system, counted, phase):
    every = replace(pl.catalog.preset(counted), name="x", auxiliary_parts=True)
    args = {"system": system, "context_len": [3, 1000], "conventions": every, "detail": "component", "phase": phase}
    beside = pl.evaluate(model=models, **args)
    for model in models:
        alone, found = pl.evaluate(model=model, **args), beside.sel(model=[model.name])
        for name in alone.data_vars:
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-12, atol=0, err_msg=f"{name} of {model.name}")


def test_what_a_machine_has_once_is_charged_to_the_first_product_that_each_model_has():
    full = replace(pl.catalog.preset("corrected"), name="x", auxiliary_parts=True)
    gated = ROUTED[1]
    args = {"model": ["opt-1.3b", "llama-2-7b"], "conventions": full, "detail": "component"}
    ds = pl.evaluate(system=gated, context_len=128, **args)
    once = ds.area_m2.sel(component="controller").squeeze()
    area = gated.pim.controller.area_m2
    assert once.sum("op").values.tolist() == [area, area]
    assert once.sel(op=["ff2", "gate"]).values.tolist() == [[area, 0], [0, area]]


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 3), cols=st.integers(1, 3), arrays=st.integers(1, 3), overlap=st.booleans(),
       flow=st.sampled_from(["os", "ws", "is"]), phase=st.sampled_from(["decode", "prefill"]),
       context=st.integers(1, 300))  # fmt: skip
@example(1, 1, 1, False, "os", "decode", 128)
def test_no_array_does_more_than_a_mac_in_every_pe_and_cycle(rows, cols, arrays, overlap, flow, phase, context):
    shape = {"rows": rows, "cols": cols, "arrays": arrays, "overlap": overlap, "dataflow": flow}
    system = with_fields(TPU, {f"array.{name}": value for name, value in shape.items()})
    ds = pl.evaluate(system=system, model=["opt-6.7b", "mixtral-8x7b"], context_len=context, phase=phase,
                     variables=["cycles", "array_macs", "array_products"])  # fmt: skip
    assert (pl.metrics.summary(ds).utilisation <= 1).all()


def test_an_array_of_one_pe_is_always_at_work():
    one = with_fields(TPU, {"array.rows": 1, "array.cols": 1})
    assert pl.metrics.summary(pl.evaluate(system=one, model="opt-6.7b", context_len=128)).utilisation == 1


def test_sizes_on_an_axis_do_not_wrap_around():
    sides = with_fields(TPU, {"array.rows": pl.axis(side=[2, 2**40]), "array.cols": 2**40})
    assert pl.evaluate(system=sides, model="opt-125m", context_len=1).pe_count.values.ravel().tolist() == [2**41, 2**80]
