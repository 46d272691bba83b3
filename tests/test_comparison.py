"""Operations per second and per joule: their definition, units of print, earlier accelerators, and the pairing of rows."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import CONTEXTS, SEVEN, checkout

import pimllm_lib as pl
from pimllm_chapters import comparison
from pimllm_lib.analysis import claims
from pimllm_lib.core.schema import VARIABLES

BOTH = ["tpu-llm", "pim-llm"]


def summary(conventions="as-published", system=BOTH, **point):
    return pl.metrics.summary(pl.evaluate(system=system, conventions=conventions, **point))


def test_gpt2_small_is_worked_out_by_hand():
    """12 blocks of 6 x 768 x 768 as published, and 2 x 1024 x 768 of attention; times 1/s and 1/J of the study's files."""
    macs = 12 * (6 * 768**2 + 2 * 1024 * 768)
    ops = pl.metrics.operations(summary(model="gpt2-124m", context_len=1024)).sel(system="pim-llm").squeeze()
    assert ops.macs == macs
    assert float(ops.ops_per_s) == pytest.approx(macs * 105.396, rel=1e-5)
    assert float(ops.ops_per_j) == pytest.approx(macs * 7946.12, rel=1e-6)
    assert (ops.ops_per_s.attrs["units"], ops.ops_per_j.attrs["units"]) == ("1/s", "1/J")


def test_operations_never_exceed_the_multipliers_of_the_array():
    ops = pl.metrics.operations(summary(model=SEVEN, context_len=CONTEXTS)).sel(system="tpu-llm")
    peak = 1024 * 1e8
    counted = (
        1 + ops.array_products / ops.cycles
    )  # the last cycle of a product is in the utilisation and not in the time
    np.testing.assert_allclose(ops.ops_per_s, ops.utilisation * counted * peak, rtol=1e-12)
    assert (ops.ops_per_s < peak / 32).all()  # one row of 32 works


def test_operations_per_joule_over_operations_per_second_is_one_over_the_mean_power():
    ops = pl.metrics.operations(summary(model=SEVEN, context_len=CONTEXTS, conventions="full-system"))
    np.testing.assert_allclose(ops.ops_per_s / ops.ops_per_j, ops.energy_j / ops.latency_s, rtol=1e-12)


def test_operations_need_a_summary():
    with pytest.raises(ValueError, match=r"no tokens_per_s; wanted metrics.summary"):
        pl.metrics.operations(pl.evaluate(system="pim-llm", model="opt-1.3b", context_len=8))


def test_a_lead_is_over_the_printed_number_of_the_same_point_and_nowhere_else():
    ops = pl.metrics.operations(summary(model=["gpt2-124m", "opt-1.3b"], context_len=[128, 1024]))
    printed = xr.Dataset(
        {"ops_per_s": (("model", "context_len"), [[2e9]])}, {"model": ["gpt2-124m"], "context_len": [1024]}
    )
    led = pl.metrics.lead(ops, printed).ops_per_s_lead.sel(system="pim-llm")
    here = {"model": "gpt2-124m", "context_len": 1024}
    assert float(led.sel(here)) == float(ops.ops_per_s.sel(**here, system="pim-llm")) / 2e9
    assert int(led.notnull().sum()) == 1


@checkout
def test_earlier_numbers_are_in_si_units_and_have_a_source():
    values = claims.earlier_values()
    assert float(values.ops_per_s.sel(model="gpt2-124m", context_len=1024)) == pytest.approx(3.2e9)
    assert float(values.ops_per_j.sel(model="gpt2-355m", context_len=4096)) == pytest.approx(200e9)
    rows = claims.earlier()
    assert rows.id.is_unique
    bibliography = (claims.DATA.parent / "book" / "references.bib").read_text()
    for source in rows.source:
        assert f"{{{source}," in bibliography


def test_every_printed_unit_is_a_scale_or_the_unit_of_its_variable():
    rows = pd.concat([claims.published(), claims.earlier()])
    for row in rows.to_dict("records"):
        assert row["unit"] in claims.SCALES or row["unit"] == VARIABLES[row["quantity"]].unit, row["id"]


def test_a_claim_is_compared_and_shown_in_the_unit_of_print():
    ops = pl.metrics.operations(summary(model="gpt2-124m", context_len=1024))
    checked = claims.check(ops)
    assert checked.published.to_dict() == {"gops-gpt2-124m-1024": "6.47 GOPS", "gops-w-gpt2-124m-1024": "487.4 GOPS/W"}
    assert set(checked.verdict) == {"agrees"}
    assert checked.computed.round(2).tolist() == [6.47, 487.43]
    off = claims.check(ops.assign(ops_per_s=ops.ops_per_s * 1.002))
    assert off.verdict.to_dict() == {"gops-gpt2-124m-1024": "differs", "gops-w-gpt2-124m-1024": "agrees"}


@pytest.fixture(scope="module")
def pairs():
    where = {"model": SEVEN, "context_len": [1024, 4096], "system": "pim-llm"}
    return comparison.pairings(summary(**where), summary("corrected", **where))


def test_the_questioned_rows_fit_the_operations_of_one_model_and_the_rates_of_another(pairs):
    """By hand: 6.711 and 7.516 G operations of OPT-6.7B, 8.731 and 2.341 tokens/s of LLaMA-7B."""
    cell = pairs.sel(counts="opt-6.7b", rates="llama-7b")
    assert float(cell.sel(claim="GOPS, 1024")) == pytest.approx(58.5 / (6.7108864 * 8.731) - 1, abs=1e-4)
    assert float(cell.sel(claim="GOPS, 4096")) == pytest.approx(17.6 / (7.516192768 * 2.341) - 1, abs=3e-4)
    worst = comparison.worst(pairs)
    assert worst.index[0] == ("opt-6.7b", "llama-7b")
    assert worst.iloc[0] < 0.2 < worst.iloc[1]
    assert worst["opt-6.7b", "opt-6.7b"] > 20


def test_operations_are_paired_in_the_shape_of_the_study_and_in_the_own_one_where_it_differs(pairs):
    own = [str(name) for name in pairs.counts.values if str(name).endswith("own shape")]
    assert own == [f"{name}, own shape" for name in ("gpt2-355m", "gpt2-774m", "gpt2-1.5b", "llama-7b")]
    assert pairs.sizes == {"claim": 4, "counts": 11, "rates": 7}


def test_the_hypothesis_says_which_pairing_is_closest_and_how_far_the_next_one_is(pairs):
    text = comparison.hypothesis(pairs)
    assert "Of 77 pairings, **operations of opt-6.7b times rates of llama-7b**" in text
    assert "The next is llama-7b, own shape with rates of llama-7b" in text


def test_the_answer_names_only_earlier_numbers_at_evaluated_points():
    ops = pl.metrics.lead(pl.metrics.operations(summary(model="gpt2-124m", context_len=1024)), claims.earlier_values())
    assert "HARDSEA" in comparison.box(ops).answer
    assert "TransPIM" not in comparison.box(ops).answer
