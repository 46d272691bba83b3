"""Where time and energy of a token go, and the contexts at which attention takes over."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from conftest import CONTEXTS, SEVEN
from hypothesis import given, settings
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_chapters import energy, latency_breakdown
from pimllm_lib.analysis import claims, crossing
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import COMPONENTS, ENERGY_PARTS, LATENCY_PARTS

BOTH = ["tpu-llm", "pim-llm"]
PRESETS = ["as-published", "corrected", "full-system"]
PIM_LLM = pl.catalog.systems["pim-llm"]


@pytest.fixture(scope="module")
def counted():
    return pl.evaluate(system=BOTH, model=SEVEN, context_len=CONTEXTS, conventions=PRESETS, detail="component")


def percent(ds, variable, groups, **point):
    table = pl.metrics.by_part(ds.sel(point), variable, groups)
    return 100 * table / table.sum("part")


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [LATENCY_PARTS, ENERGY_PARTS], ids=["latency", "energy"])
def test_every_component_is_in_exactly_one_part(groups):
    assert sorted(name for names in groups.values() for name in names) == sorted(COMPONENTS)


@pytest.mark.parametrize(("variable", "groups"), [("latency_s", LATENCY_PARTS), ("energy_j", ENERGY_PARTS)])
def test_parts_sum_to_the_whole_under_every_convention(counted, variable, groups):
    parts = pl.metrics.by_part(counted, variable, groups)
    xr.testing.assert_allclose(parts.sum("part"), pl.metrics.total(counted)[variable], rtol=1e-12)
    assert parts.attrs["units"] == counted[variable].attrs["units"]


def test_parts_need_the_components():
    with pytest.raises(BadInput, match="component"):
        pl.metrics.by_part(pl.evaluate(system="pim-llm", model="opt-6.7b", context_len=1), "energy_j", ENERGY_PARTS)


@pytest.mark.parametrize(
    ("context", "array", "network"),
    [(128, 60.07, 36.29), (4096, 97.60, 2.19)],
)
def test_latency_of_opt_6_7b_divides_as_in_the_public_results_of_the_study(counted, context, array, network):
    point = {"system": "pim-llm", "model": "opt-6.7b", "context_len": context, "conventions": "as-published"}
    shares = percent(counted, "latency_s", LATENCY_PARTS, **point).round(2)
    assert shares.sel(part=["array", "network"]).values.tolist() == [array, network]


def test_the_thin_parts_of_opt_6_7b_at_128_tokens(counted):
    point = {"system": "pim-llm", "model": "opt-6.7b", "context_len": 128, "conventions": "as-published"}
    shares = percent(counted, "latency_s", LATENCY_PARTS, **point)
    names, printed = ["buffers", "crossbars and converters", "digital"], [(3.48, 2), (0.111, 3), (0.043, 3)]
    for name, (value, decimals) in zip(names, printed, strict=True):
        assert round(shares.sel(part=name).item(), decimals) == value


def test_energy_of_full_tiles_divides_alike_for_every_model_of_the_study(counted):
    energies = pl.metrics.by_part(counted.sel(system="pim-llm", conventions="as-published"), "energy_j", ENERGY_PARTS)
    tiles = energies.sel(part=["buffers", "ADC", "crossbar", "DAC", "digital"]).isel(context_len=0)
    shares = 100 * tiles / tiles.sum("part")
    assert np.ptp(shares.values, axis=shares.get_axis_num("model")).max() < 1e-9
    assert shares.isel(model=0).round(2).values.tolist() == [54.48, 45.02, 0.35, 0.07, 0.07]


# --- crossings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conventions", ["as-published", *(pytest.param(name, marks=pytest.mark.slow) for name in list(PRESETS)[1:])]
)
def test_the_answer_changes_at_the_returned_context(conventions):
    args = {"model": SEVEN, "conventions": conventions}
    found = crossing.crossings(system=BOTH, **args)
    for system in BOTH:
        for name in SEVEN:
            here = found.sel(system=system, model=name)
            half, halved = int(here.attention_half_tokens), int(here.rate_half_tokens)
            at = [max(half - 1, 1), half, halved - 1, halved, 128]
            ds = pl.evaluate(
                system=system, model=name, context_len=[*dict.fromkeys(at)], conventions=conventions, detail="op"
            )
            share, rate = crossing.attention_share(ds).squeeze(), 1 / ds.latency_s.sum("op").squeeze()
            assert half == 1 or share.sel(context_len=half - 1) < 0.5
            assert share.sel(context_len=half) >= 0.5
            slow = rate.sel(context_len=128) / 2
            assert rate.sel(context_len=halved) <= slow < rate.sel(context_len=halved - 1)


@pytest.mark.parametrize("model", ["gpt2-774m", "opt-6.7b"])
def test_a_search_finds_what_looking_at_every_context_finds(model):
    args = {"system": "pim-llm", "model": model, "conventions": "as-published"}
    ds = pl.evaluate(context_len=range(1, 513), detail="component", **args)
    array = pl.metrics.summary(ds).array_share.squeeze()
    first = int(array.context_len[np.flatnonzero(array >= 0.5)[0]])
    found = crossing.crossings(**args)
    assert found.attention_half_tokens.item() == first
    rate = 1 / pl.metrics.total(ds).latency_s.squeeze()
    halved = rate <= rate.sel(context_len=128) / 2
    assert found.rate_half_tokens.item() == int(rate.context_len[np.flatnonzero(halved)[0]])


def test_the_array_of_pim_llm_does_attention_and_nothing_else_without_the_output_head():
    args = {"system": "pim-llm", "model": SEVEN, "context_len": CONTEXTS, "conventions": "corrected"}
    ds = pl.evaluate(detail="component", **args)
    xr.testing.assert_allclose(pl.metrics.summary(ds).array_share, crossing.attention_share(ds), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(1, 5000), last=st.integers(1, 5000))
def test_any_first_context_is_found_and_none_is_said_where_there_is_none(first, last):
    found = crossing.first_context(
        lambda ds: 1.0 * (ds.context_len >= first), 1.0, system="tpu-llm", model="opt-125m", longest=last
    )
    assert found.item() == first if first <= last else np.isnan(found.item())


def test_a_slower_crossbar_side_and_a_faster_array_move_the_crossing_out():
    slow = replace(PIM_LLM, name="slow", pim=replace(PIM_LLM.pim, network_bps=PIM_LLM.pim.network_bps / 4))
    fast = replace(PIM_LLM, name="fast", array=replace(PIM_LLM.array, rate_hz=4 * PIM_LLM.array.rate_hz))
    found = crossing.crossings(system=[PIM_LLM, slow, fast], model=["opt-1.3b", "opt-6.7b"])
    base = found.attention_half_tokens.sel(system="pim-llm", drop=True)
    assert (found.attention_half_tokens.sel(system=["slow", "fast"]) > base).all()


def test_a_system_that_is_no_part_of_the_library_has_crossings_too():
    class Own:
        name = "own"

        def costs(self, products):
            return {p.op: {"latency_s": 1e-12 * p.macs} for p in products}

    # 12 d^2 MACs of projections equal 2 l d of attention at l = 6 d
    assert crossing.crossings(system=Own(), model="opt-6.7b").attention_half_tokens.item() == 6 * 4096


def test_a_swept_system_has_no_single_crossing():
    swept = replace(PIM_LLM, pim=replace(PIM_LLM.pim, network_bps=pl.axis(links=[1e9, 2e10])))
    with pytest.raises(BadInput, match="axis"):
        crossing.first_context(crossing.attention_share, 0.5, system=swept, model="opt-125m")


# --- words ------------------------------------------------------------------------------------------------------------


def test_words_of_a_battery_by_hand():
    ds = xr.Dataset({"tokens_per_j": ("model", [2.0, 100.0])})
    words = pl.metrics.battery(ds, battery_wh=5.0, tokens_per_word=1.5).words_per_battery
    assert words.values.tolist() == [24e3, 1.2e6]
    assert words.attrs["units"] == "1"


def test_numbers_printed_in_millions_are_compared_to_their_digits():
    rows = claims.published().set_index("id").loc["words-pim-llm-opt-6.7b-128"].to_dict()
    assert claims.verdict(rows, 1_649_999.0) == "agrees"
    assert claims.verdict(rows, 1_650_001.0) == "differs"


def test_one_of_several_conventions_answers_claims_only_where_it_counts_as_published(counted):
    summary = pl.metrics.compare(pl.metrics.summary(counted))
    published = claims.check(summary.sel(conventions="as-published"))
    assert set(published.verdict) == {"agrees"}
    assert claims.check(summary.sel(conventions="corrected")).empty
    assert claims.check(summary).empty


# --- what the pages say -----------------------------------------------------------------------------------------------


def test_put_right_pim_llm_gains_energy_for_every_model_and_context_of_the_study(counted):
    gain = pl.metrics.compare(pl.metrics.summary(counted)).energy_gain.sel(system="pim-llm")
    corrected, published = gain.sel(conventions="corrected"), gain.sel(conventions="as-published")
    assert (corrected > 0).all()
    assert (published.diff("context_len") > 0).all()
    assert (corrected.diff("context_len") < 0).all()


def test_what_waiting_tiles_draw_decides_who_is_ahead():
    share = pl.axis(gated_share=[0.01, 0.2])
    gated = replace(PIM_LLM, pim=replace(PIM_LLM.pim, gated_share=share))
    args = {"model": "opt-6.7b", "context_len": 128, "conventions": "full-system"}
    gain = pl.metrics.compare(pl.metrics.summary(pl.evaluate(system=["tpu-llm", gated], **args))).energy_gain
    low, high = gain.sel(system="pim-llm").squeeze().values
    assert low > 0 > high


def test_figures_and_sentences_are_drawn_for_any_number_of_models(counted):
    small = counted.isel(model=[0], context_len=[0])
    compared = pl.metrics.compare(pl.metrics.summary(small))
    drawn = [energy.gains(compared), energy.parts(small.isel(model=0, context_len=0))]
    one = pl.evaluate(system=BOTH, model="opt-125m", context_len=8, conventions="corrected", detail="component")
    found = crossing.crossings(system=BOTH, model="opt-125m", longest=16)
    drawn += [
        latency_breakdown.shares(one),
        latency_breakdown.times(one.isel(model=0, system=1), found.isel(model=0, system=1)),
    ]
    assert all(figure.svg.startswith("<svg") and figure.alt for figure in drawn)
    assert "no context that was looked at" in latency_breakdown.box(found, pl.metrics.summary(one)).answer
    assert latency_breakdown.crossing_table(found).frame["tpu-llm"].tolist() == ["not reached"]
    assert latency_breakdown.share_table(one).frame.context.tolist() == [8]
    assert "From" not in latency_breakdown.halving(found, pl.metrics.summary(one), 128)
