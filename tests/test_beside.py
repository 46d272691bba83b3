"""PIM-LLM beside machines that one can buy: the best of what was measured, and what would have to change."""

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.analysis import beside, devices
from pimllm_lib.core.parts import with_fields

MODEL = "bonsai-1.7b-ternary"
POINT = {"model": [MODEL], "context_len": [128, 1024]}


@pytest.fixture(scope="module")
def hybrids():
    return beside.hybrids(**POINT)


@pytest.fixture(scope="module")
def bought():
    return beside.bought(**POINT)


def test_a_way_of_building_is_an_evaluation_of_its_system(hybrids):
    for name, (system, conventions) in beside.BUILT.items():
        ds = pl.evaluate(system=system, model=MODEL, context_len=[128, 1024], conventions=conventions)
        at = hybrids.sel(built=name, model=MODEL)
        np.testing.assert_allclose(at.tokens_per_s * ds.latency_s.squeeze(), 1, rtol=1e-12)
        np.testing.assert_allclose(at.energy_j, ds.energy_j.squeeze(), rtol=1e-12)
        assert (at.energy_least_j <= at.energy_j).all()
        assert (at.energy_j <= at.energy_most_j).all()


def test_what_one_can_buy_is_the_best_row_moved_by_the_bytes_of_a_token(bought):
    rows = devices.measured()
    rows = rows[rows.model == MODEL]
    for name in bought.device.values:
        mine = rows[rows.device == name]
        model = pl.catalog.models[MODEL]
        rates = [
            row.tokens_per_s
            * devices.token_bytes(model, row.context, bits=row.bits, head_bits=row.head_bits)
            / devices.token_bytes(model, 1024, bits=row.bits, head_bits=row.head_bits)
            for row in mine.itertuples()
        ]
        assert bought.bought_tokens_per_s.sel(device=name, context_len=1024).item() == pytest.approx(max(rates))
    assert (bought.bought_tokens_per_s.isel(context_len=0) > bought.bought_tokens_per_s.isel(context_len=1)).all()
    unknown = sorted(set(bought.device.values) - set(rows[rows.energy_j.notna()].device))
    assert np.isnan(bought.bought_energy_j.sel(device=unknown)).all()


def test_estimates_never_stand_among_what_was_measured():
    found = beside.bought(model=["bitnet-2b4t"], context_len=[128])
    assert np.isnan(found.bought_energy_j).all()
    assert np.isfinite(found.bought_estimated_j).any()


def test_a_verdict_is_none_where_nobody_measured(hybrids, bought):
    won = beside.verdicts(hybrids.merge(bought))
    assert set(np.unique(won.faster)) <= {0.0, 1.0}
    other = beside.hybrids(model=["bitnet-2b4t"], context_len=[128])
    won = beside.verdicts(other.merge(beside.bought(model=["bitnet-2b4t"], context_len=[128])))
    assert np.isnan(won.thriftier).all()
    assert np.isfinite(won.faster).all()


@pytest.mark.parametrize("built", ["whole, low standby power", "whole, fast cells"])
def test_what_is_needed_is_enough_and_a_little_less_is_not(built):
    system, conventions = beside.BUILT[built]
    args = {"model": MODEL, "context_len": 1024, "conventions": conventions}
    now = pl.evaluate(system=system, **args)
    rate, joules = 1.05 / now.latency_s.item(), 0.9 * now.energy_j.item()
    found = beside.needed(model=MODEL, context_len=1024, tokens_per_s=rate, energy_j=joules, built=built)
    machine = pl.catalog.systems[system]

    def with_clock(factor):
        faster = with_fields(machine, {"array.rate_hz": machine.array.rate_hz * factor})
        return 1 / pl.evaluate(system=faster, **args).latency_s.item()

    assert with_clock(found["clock"]) >= rate > with_clock(found["clock"] / (beside.CLOCKS[1] / beside.CLOCKS[0]))
    by_part = pl.evaluate(system=system, detail="component", **args).energy_j.sum("op").squeeze()
    waits = by_part.sel(component=["leakage", "asleep", "wake"])
    assert now.energy_j.item() - (1 - found["leakage"]) * waits.sum().item() == pytest.approx(joules, rel=1e-9)


def test_what_is_there_already_needs_nothing_and_what_cannot_be_had_is_never():
    args = {"model": MODEL, "context_len": 128, "built": "whole, low standby power"}
    assert set(beside.needed(tokens_per_s=1e-3, energy_j=1e3, **args).values()) == {1.0}
    assert np.isnan(list(beside.needed(tokens_per_s=1e9, energy_j=1e-12, **args).values())).all()


def test_models_that_nobody_measured_are_refused():
    with pytest.raises(ValueError, match=r"nothing of \['opt-125m'\] was measured"):
        beside.bought(model=["opt-125m"], context_len=[128])
