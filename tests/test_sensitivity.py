"""Uncertain constants: all decided upon, drawn within their ranges, alike for both machines; bands, indices, claims."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import pimllm_lib as pl
from pimllm_chapters import sensitivity
from pimllm_lib.analysis import claims, influence, robustness, uncertainty
from pimllm_lib.analysis.uncertainty import (
    DRAWN,
    LEFT_OUT,
    SYSTEMS,
    TOGETHER,
    Constant,
    constants,
    factors,
    sampled,
    shares,
)
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import inside
from pimllm_lib.core.schema import SUBSYSTEMS
from pimllm_lib.core.units import MILLI, NANO
from pimllm_lib.hardware import ONE_BY_ONE
from pimllm_lib.report.numbers import frequency

POINT = {"model": "opt-1.3b", "context_len": 128}
ALL = constants()
BY_NAME = {constant.name: constant for constant in ALL}


def ranged():
    """Return class.field -> names of the ranged constants in any part of the machines, read from the catalog alone."""
    found = {}
    for item in {part.name: part for name in SYSTEMS for part in inside(pl.catalog.systems[name])}.values():
        if item.name == ONE_BY_ONE.name:  # a way of decoding, of which the catalog has no constants
            continue
        entry = pl.catalog.parts.entries[item.name]
        for field in (key for key, value in entry.items() if "range" in value):
            found.setdefault(f"{entry['part']}.{field}", []).append(f"{item.name}.{field}")
    return found


def efficiency(values):
    return robustness.gain(robustness.headlines(values, **POINT), "energy_gain").squeeze().values


# --- which constants are drawn, and how ----------------------------------------------------------------------------------


def test_every_constant_with_a_range_is_drawn_or_left_out_with_a_reason():
    drawn = {f"{kind}.{field}" for kind, names in DRAWN.items() for field in names}
    assert ranged().keys() <= drawn | LEFT_OUT.keys()
    anywhere = {
        f"{table['part']}.{field}"
        for table in pl.catalog.parts.entries.values()
        for field, entry in table.items()
        if isinstance(entry, dict) and "range" in entry
    }
    assert drawn | LEFT_OUT.keys() <= anywhere
    assert not drawn & LEFT_OUT.keys()
    assert BY_NAME.keys() == {name for key in drawn & ranged().keys() for name in ranged()[key]}
    assert all(len(reason) > 20 for reason in LEFT_OUT.values())


def test_a_ranged_constant_of_which_nobody_decided_is_refused(monkeypatch):
    monkeypatch.setitem(DRAWN, "Sram", ("leakage_w", "area_m2"))
    with pytest.raises(BadInput, match=r"Sram\.bit_j has a range and stands nowhere"):
        constants()


def test_what_moves_together_exists_once_and_has_a_reason():
    names = [name for members, _ in TOGETHER.values() for name in members]
    assert set(names) <= BY_NAME.keys()
    assert len(names) == len(set(names))
    assert all(len(members) > 1 and reason for members, reason in TOGETHER.values())
    assert len(factors(ALL)) == len(ALL) - len(names) + len(TOGETHER)


def test_ranges_are_read_in_the_unit_of_the_value():
    leakage = BY_NAME["sram-8mb.leakage_w"]
    assert (leakage.low, leakage.nominal, leakage.high) == (0.0002, 0.4, 8.83)
    delay = BY_NAME["controller.delay_s"]
    assert delay.high == pytest.approx(1000 * NANO)
    assert BY_NAME["lpddr5-6400.standby_w"].low == pytest.approx(5 * MILLI)


@pytest.mark.parametrize(
    ("name", "law", "middle"),
    [
        ("sram-8mb.leakage_w", "log-uniform", np.sqrt(0.0002 * 8.83)),
        ("adc-8bit.idle_share", "log-uniform", np.sqrt(0.0001 * 0.47)),
        ("adc-8bit.rate_hz", "uniform", 1.19e9),  # less than a factor of two
        ("adc-8bit.power_w", "log-uniform", np.sqrt(40) * MILLI),
        ("units-consmax.rate_hz", "log-uniform", np.sqrt(100e6 * 1250e6)),
        ("units-consmax.lanes", "log-uniform, rounded", 16),
    ],
)
def test_the_law_follows_from_the_range(name, law, middle):
    assert BY_NAME[name].law == law
    assert BY_NAME[name].at(0.5) == pytest.approx(middle)


@pytest.mark.parametrize("constant", ALL, ids=lambda constant: constant.name)
def test_draws_lie_within_the_range_and_reach_its_ends(constant):
    drawn = sampled(ALL, draws=256, seed=3)[constant.name].values
    assert constant.low <= drawn.min() < drawn.max() <= constant.high
    assert constant.low <= constant.nominal <= constant.high
    assert (constant.at(0.0), constant.at(1.0)) == pytest.approx((constant.low, constant.high))
    if constant.whole:
        assert (drawn == np.round(drawn)).all()


def test_one_law_in_words_is_one_law_in_numbers():
    share = shares(1, draws=4000, seed=1)[:, 0]
    flat = Constant("a", "b_s", 1.0, 1.0, 1.5, False, False, "assumed", "pimllm").at(share)
    log = Constant("a", "b_s", 1.0, 1.0, 100.0, True, False, "assumed", "pimllm").at(share)
    assert np.mean(flat) == pytest.approx(1.25, rel=1e-4)
    assert np.mean(log) == pytest.approx(99 / np.log(100), rel=1e-3)


def test_equal_seeds_give_equal_draws_and_others_do_not():
    first, again, other = (shares(3, draws=64, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).all()


def test_a_latin_hypercube_has_one_draw_in_every_stratum():
    places = np.sort(np.floor(64 * shares(5, draws=64, seed=1)), axis=0)
    assert (places == np.arange(64)[:, None]).all()


# --- the machines with draws in them -------------------------------------------------------------------------------------


def test_a_shared_constant_has_the_same_draw_in_both_machines():
    values = sampled(ALL, draws=8, seed=1)
    tpu, pim = uncertainty.machines(values)
    for name in ("array", "sram", "dram", "nonlinear", "bus"):
        for mine, other in zip(vars(getattr(tpu, name)).values(), vars(getattr(pim, name)).values(), strict=True):
            assert np.array_equal(mine, other)
    assert (tpu.sram.leakage_w == values["sram-8mb.leakage_w"]).all()
    assert (pim.pim.tile.crossbar.adc.power_w == values["adc-8bit.power_w"]).all()


def test_pairing_narrows_the_comparison():
    """The baseline's leakage is the hybrid's: drawn apart, the ratio would spread more."""
    values = sampled(ALL, draws=256, seed=1)
    tpu, pim = (np.log(robustness.headlines(values, **POINT).tokens_per_j.sel(system=s).squeeze()) for s in SYSTEMS)
    assert np.std(pim - tpu) < np.hypot(np.std(pim), np.std(tpu))


def test_what_moves_together_has_the_same_place_in_its_range():
    values = sampled(ALL, draws=16, seed=1)
    low, high = (np.log(values[f"rram-mnsim.{name}"]) for name in ("low_ohm", "high_ohm"))
    assert np.corrcoef(low, high)[0, 1] == pytest.approx(1)
    loose = sampled(ALL, draws=256, seed=1, apart=["leakage of the process"])
    pair = [loose[name].values for name in ("sram-8mb.leakage_w", "adc-8bit.idle_share")]
    assert abs(np.corrcoef(*pair)[0, 1]) < 0.2


def test_the_nominal_draw_is_the_nominal_result():
    nominal = {c.name: xr.DataArray([c.nominal], dims="sample", coords={"sample": [0]}) for c in ALL}
    drawn = robustness.headlines(nominal, **POINT)
    plain = pl.metrics.compare(pl.metrics.summary(pl.evaluate(system=SYSTEMS, conventions="full-system", **POINT)))
    for name in ("tokens_per_s", "tokens_per_j"):
        np.testing.assert_allclose(drawn[name].squeeze(), plain[name].squeeze(), rtol=1e-13)
    for name in ("speedup", "energy_gain"):
        np.testing.assert_allclose(drawn[name].squeeze(), plain[name].sel(system="pim-llm").squeeze(), rtol=1e-12)
    last = uncertainty.ends(ALL)["sram-8mb.leakage_w"].values
    assert last[-1] == pl.catalog.parts["sram-8mb"].leakage_w


def test_the_area_of_the_tiles_is_that_of_the_analog_subsystem():
    found = robustness.headlines({}, **POINT).tile_area_m2.item()
    ds = pl.evaluate(system="pim-llm", conventions="full-system", detail="component", **POINT)
    assert found == pytest.approx(ds.area_m2.sel(component=list(SUBSYSTEMS["pim"])).sum().item())


def test_all_draws_at_once_are_each_draw_alone():
    values = sampled(ALL, draws=5, seed=2)
    whole = efficiency(values)
    for i in (0, 4):
        one = {name: float(array[i]) for name, array in values.items()}
        assert efficiency(one) == pytest.approx(whole[i], rel=1e-12)


# --- bands ---------------------------------------------------------------------------------------------------------------


def test_bands_are_ordered_and_the_catalogs_value_stands_beside_them():
    values = sampled(ALL, draws=64, seed=1)
    drawn, nominal = (robustness.headlines(x, **POINT) for x in (values, {}))
    bands = robustness.bands(drawn, nominal)
    assert bands.band.values.tolist() == ["catalog", "5 %", "50 %", "95 %"]
    assert (bands.speedup.sel(band="5 %") <= bands.speedup.sel(band="95 %")).all()
    assert bands.speedup.sel(band="catalog").item() == nominal.speedup.item()
    assert bands.tokens_per_j.attrs["units"] == "tokens/J"
    signs = robustness.signs(drawn)
    assert signs.thriftier_share.item() == pytest.approx(np.mean(drawn.energy_gain > 0))


@pytest.mark.slow
def test_the_error_of_a_band_edge_falls_with_the_root_of_the_draws():
    """Sixteen times the draws leave a quarter of the spread; over 40 replications its ratio is known to 16 %, 1 sigma."""

    def edges(draws):
        independent = np.random.default_rng(draws).random((draws * 40, len(factors(ALL))))
        found = efficiency(uncertainty.laid(ALL, independent))
        return np.std(np.quantile(np.log(found).reshape(40, draws), 0.95, axis=1))

    assert 4 / 1.6 < edges(64) / edges(1024) < 4 * 1.6


# --- indices -------------------------------------------------------------------------------------------------------------


def test_indices_of_a_sum_are_the_shares_of_its_variances():
    names = ["a", "b", "c"]
    plan = influence.plan(names, points=1024, seed=1)
    found = influence.indices(names, plan @ [3.0, 2.0, 0.0], seed=1)
    assert found.first_order.values == pytest.approx([9 / 13, 4 / 13, 0], abs=0.02)
    assert found.total_order.values == pytest.approx([9 / 13, 4 / 13, 0], abs=0.02)


def test_indices_of_a_product_are_those_of_the_closed_form():
    """For y = x1 x2, x uniform from 0 to 1: variance 7/144, each alone 3/144, together 1/144."""
    names = ["a", "b"]
    plan = influence.plan(names, points=4096, seed=1)
    found = influence.indices(names, plan[:, 0] * plan[:, 1], seed=1)
    assert found.first_order.values == pytest.approx([3 / 7, 3 / 7], abs=0.03)
    assert found.total_order.values == pytest.approx([4 / 7, 4 / 7], abs=0.03)


@pytest.fixture(scope="module")
def explained():
    return robustness.explained(ALL, [("opt-1.3b", 128)], points=256, seed=1).isel(case=0)


def test_first_order_indices_sum_to_at_most_one_within_their_interval(explained):
    whole = explained.first_order.sum("factor")
    error = np.sqrt((explained.first_order_error**2).sum("factor"))
    assert (whole <= 1 + error).all()
    assert (explained.first_order <= explained.total_order + explained.total_order_error + 0.05).all()


def test_a_constant_that_enters_nothing_has_no_part_in_anything(explained):
    for name in ("pim-published.program_rows", "write pulse", "edge-32x32.pe_area_m2"):
        mine = explained.sel(factor=name)
        assert (abs(mine.first_order) <= mine.first_order_error + 1e-12).all()
        assert (mine.total_order <= mine.total_order_error + 1e-12).all()


def test_the_baseline_alone_would_not_see_the_crossbars(explained):
    mine = explained.sel(factor="pim-published.gated_share", output="energy_gain")
    assert mine.first_order > 0.3
    assert explained.sel(factor="pim-published.gated_share", output="speedup").total_order.item() == pytest.approx(0)


def test_a_swing_is_the_result_with_one_constant_changed():
    found = robustness.swings(ALL, [("opt-1.3b", 128)]).swing.isel(case=0)
    high = BY_NAME["sram-8mb.leakage_w"].high
    expected = efficiency({"sram-8mb.leakage_w": high}) / efficiency({})
    mine = found.sel(output="energy_gain", constant="sram-8mb.leakage_w", end="high")
    assert mine.item() == pytest.approx(float(expected))
    assert (found.sel(constant="pim-published.program_rows") == 1).all()


# --- claims --------------------------------------------------------------------------------------------------------------


def test_every_claimed_quantity_has_a_side_and_every_printed_bound_is_on_it():
    rows = claims.published()
    assert set(rows.quantity) == robustness.SIDES.keys()
    bounds = rows[rows.rounding.isin(claims.BOUNDS)]
    assert all(robustness.SIDES[row.quantity][0] == row.rounding for row in bounds.itertuples())


@pytest.mark.parametrize(
    ("claim", "computed", "expected"),
    [
        (("tokens_per_s", "18.72", "2", "rounded"), [18.714, 18.716, 30], [False, True, True]),
        (("speedup", "80", "-1", "rounded"), [74.9, 75.1], [False, True]),
        (("speedup", "79.2", "1", "truncated"), [79.19, 79.2], [False, True]),
        (("energy_gain", "-33.7", "1", "rounded"), [-40, -33.7, 5], [False, True, True]),
        (("analog_share", "1", "0", "below"), [0.9, 1.0, 1.1], [True, False, False]),
        (("array_share", "97", "0", "at least"), [96.9, 97.0], [False, True]),
    ],
)
def test_a_claim_is_kept_on_its_side_of_the_printed_number(claim, computed, expected):
    row = dict(zip(("quantity", "value", "decimals", "rounding"), claim, strict=True))
    assert robustness.kept(row, computed).tolist() == expected


@pytest.fixture(scope="module")
def judged():
    return robustness.holding(sampled(ALL, draws=8, seed=1))


def test_every_claim_has_its_share_unless_memory_does_not_hold_the_model(judged):
    rows = claims.published()
    assert judged.claim.values.tolist() == rows.id.tolist()
    missing = judged.claim.values[np.isnan(judged.holding_share.values)]
    assert set(rows.set_index("id").model.loc[missing]) == {"opt-66b"}
    assert judged.holding_share.dropna("claim").isin(np.arange(9) / 8).all()


def test_the_nominal_ratio_of_a_claim_is_the_one_on_the_page_of_claims(judged):
    ds = claims.answers(["opt-6.7b"], [128, 4096], "full-system")["opt-6.7b"]
    for name, quantity, context in (
        ("text-speedup-6.7b-128", "speedup", 128),
        ("text-share-4096", "array_share", 4096),
    ):
        row = claims.published().set_index("id").loc[name]
        own = ds[quantity].sel(system="pim-llm", model="opt-6.7b", context_len=context).item()
        expected = own * claims.SCALES.get(row.unit, 1.0) / float(row.value)
        assert judged.claim_ratio.sel(claim=name).item() == pytest.approx(expected)


def test_the_share_of_a_claim_is_that_of_its_draws(judged):
    drawn = robustness.headlines(sampled(ALL, draws=8, seed=1), model="gpt2-355m", context_len=1024)
    rows = claims.published().set_index("id").loc["gain-gpt2-355m-1024"]
    kept = np.mean(100 * drawn.energy_gain.values >= float(rows.value) - 0.005)
    assert judged.holding_share.sel(claim="gain-gpt2-355m-1024").item() == pytest.approx(kept)


# --- what the page says --------------------------------------------------------------------------------------------------


def test_the_inputs_table_has_every_distribution_and_every_decision():
    assert sensitivity.distributions(ALL).frame.constant.tolist() == list(BY_NAME)
    assert len(sensitivity.decisions().frame) == len(TOGETHER) + len(LEFT_OUT)


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1, "100 %"), (0.0004, "0.04 %"), (0.39, "39 %"), (0.99951, "99.95 %")]
)
def test_a_share_near_none_or_all_is_not_rounded_to_it(share, text):
    assert frequency(share) == text


def test_the_answer_counts_claims_and_draws(judged):
    values = sampled(ALL, draws=8, seed=1)
    drawn, nominal = (robustness.headlines(x, model=["opt-1.3b"], context_len=[128]) for x in (values, {}))
    ds = xr.merge([robustness.bands(drawn, nominal), robustness.signs(drawn), judged], combine_attrs="override")
    total = xr.DataArray([[[0.2, 0.7]]], {"output": ["energy_gain"], "case": ["x"], "factor": ["a", "b"]})
    ds = ds.assign(total_order=total)
    assert "`b`" in sensitivity.box(ds).decides
    assert "decodes faster in all of the draws" in sensitivity.box(ds).answer
    assert f"Of {int(judged.holding_share.count())} published numbers" in sensitivity.box(ds).sure
    ds["faster_share"] = ds.faster_share * 0.5
    assert "decodes faster in at least 50 % of the draws" in sensitivity.box(ds).answer


# --- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [0, -1, 2.0, True, 1 << 21])
def test_an_impossible_number_of_draws_is_refused(draws):
    with pytest.raises(BadInput, match=r"draws is .*; wanted a whole number from 1 to"):
        shares(3, draws=draws, seed=1)


@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(BadInput, match=r"seed is .*; wanted a whole number"):
        shares(3, draws=4, seed=seed)


def test_unknown_names_are_refused():
    with pytest.raises(BadInput, match="unknown output 'speed', did you mean 'speedup'"):
        robustness.gain(robustness.headlines({}, **POINT), "speed")
    with pytest.raises(BadInput, match=r"unknown constant of the machines compared 'sram\.leakage_w'"):
        uncertainty.machines({"sram.leakage_w": 1.0})
    with pytest.raises(BadInput, match="unknown constants that move together 'write'"):
        factors(ALL, ["write"])
    with pytest.raises(BadInput, match="claims of 'cost' have no side"):
        robustness.kept({"quantity": "cost"}, 1.0)


def test_a_design_or_values_that_cannot_be_are_refused():
    with pytest.raises(BadInput, match="points is 100; wanted a power of two"):
        influence.plan(["a"], points=100, seed=1)
    with pytest.raises(BadInput, match="there are no factors"):
        influence.plan([], points=8, seed=1)
    with pytest.raises(BadInput, match=r"values have the shape \(5,\)"):
        influence.indices(["a", "b"], np.arange(5.0), seed=1)
    with pytest.raises(BadInput, match="values do not vary"):
        influence.indices(["a", "b"], np.ones(32), seed=1)


@pytest.mark.parametrize("size", [1e-100, 1.0, -7e5])
def test_a_constant_up_to_rounding_has_no_indices(size):
    names, noise = ["a", "b"], np.random.default_rng(1).integers(-50, 50, 8 * 4)
    with pytest.raises(BadInput, match="values do not vary beyond rounding"):
        influence.indices(names, size * (1 + noise * np.finfo(float).eps), seed=1)
    influence.indices(names, size * (1 + 1e-9 * noise), seed=1)


def test_an_output_that_only_rounds_is_refused_before_its_logarithm_is_taken():
    still = BY_NAME["adc-8bit.rate_hz"]
    still = replace(still, low=still.nominal, high=still.nominal * (1 + 1e-15))
    with pytest.raises(BadInput, match="values do not vary beyond rounding"):
        robustness.explained([still], [("opt-125m", 128)], points=8, seed=1)
