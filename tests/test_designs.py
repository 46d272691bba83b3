"""The design space: ten million designs, budgets that brute force confirms, the published point where evaluate puts it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_chapters.design_space import compute, words
from pimllm_chapters.design_space.compute import OBJECTIVES
from pimllm_lib.sweep import points
from pimllm_lib.sweep.pool import each
from pimllm_lib.sweep.reduction import Reduction


@pytest.fixture(scope="module")
def study():
    return compute.study(compute.space(3), "gpt2-124m", 256)


@pytest.fixture(scope="module")
def front(study):
    return compute.explore(study)


@pytest.fixture(scope="module")
def everything(study):
    whole = replace(study, reduction=Reduction("all"))
    parts = [made for _, made in each(partial(points.compute, whole), whole.space.chunks(), None)]
    return whole.reduction.of_all(parts)


def test_the_space_has_ten_million_designs_and_thinning_keeps_ends():
    assert compute.space().size >= 10**7
    assert compute.space(100).size == 1


def test_the_front_is_that_of_all_designs(front, everything):
    costs = {
        name: everything[name].values.ravel() * (-1 if sense == "max" else 1) for name, sense in OBJECTIVES.items()
    }
    for _, design in front.to_dataframe().iterrows():
        mine = {name: design[name] * (-1 if sense == "max" else 1) for name, sense in OBJECTIVES.items()}
        weakly = np.all([costs[name] <= mine[name] for name in costs], axis=0)
        strictly = np.any([costs[name] < mine[name] for name in costs], axis=0)
        assert not (weakly & strictly).any()


def test_the_fastest_within_a_budget_is_what_brute_force_finds(front, everything):
    watts, mm2 = [0.5, 1.0, 5.0, 1e6], [10.0, 2000.0, 5000.0, 1e9]
    best = compute.best_within(front, watts, mm2)
    rate, power, area = (everything[name].values.ravel() for name in ("tokens_per_s", "power_w", "area_m2"))
    for w in watts:
        for a in mm2:
            fits = rate[(power <= w) & (area * 1e6 <= a)]
            found = best.budget_tokens_per_s.sel(power_budget=w, area_budget=a).item()
            assert found == pytest.approx(fits.max(), rel=1e-9) if fits.size else np.isnan(found)
    assert best.budget_tokens_per_s.isnull().any()
    assert best.budget_tokens_per_s.notnull().any()


def test_the_published_point_is_what_evaluate_says(front):
    both = compute.published("gpt2-124m", 256)
    one = pl.evaluate(system="pim-llm", model="gpt2-124m", context_len=256, conventions="full-system")
    assert both.tokens_per_s.sel(system="pim-llm").item() == pytest.approx(1 / one.latency_s.item())
    above = compute.better(front, both)
    home = both.sel(system="pim-llm")
    assert (above.tokens_per_s >= home.tokens_per_s).all()
    assert (above.area_m2 <= home.area_m2).all()
    assert f"{above.sizes['design'] or 'none'} " in words.box(front, both).answer


def test_a_faster_converter_costs_what_the_catalog_says(study):
    axes = {axis.name: axis for axis in compute.space().axes}
    for name, row in zip(axes["adc"].labels, axes["adc"].rows, strict=True):
        part = pl.catalog.parts[name]
        assert row == (part.bits, part.rate_hz, part.power_w, part.area_m2)
