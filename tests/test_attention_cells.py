"""Keys and values in analog cells: nothing is lost where nothing departs, and a study tries them with its other cases."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import attention_0_7_0
from pimllm_lib import catalog
from pimllm_lib.analog.crossbar import draws
from pimllm_lib.analog.crossbar.cells import program, program_each
from pimllm_lib.analog.lm import checkpoint, language, layers, recipes
from pimllm_lib.analog.noise import attention
from pimllm_lib.analog.noise.attention import in_cells, slices
from pimllm_lib.analog.noise.cases import attending, cases, prepared
from pimllm_lib.archive import dataset, parameters
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.hardware import Devices, Readout
from pimllm_lib.studies import noise_runs

BAR = catalog.part("crossbar-256")
IDEAL, CELLS = Readout(name="ideal"), Devices(name="ideal")


def heads(seed=0, windows=2, kv=2, group=2, length=24, width=16):
    """Return queries, keys and values of a layer."""
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((windows, kv, group, length, width), dtype=np.float32)
    k, v = (rng.standard_normal((windows, kv, length, width), dtype=np.float32) for _ in range(2))
    return q * np.float32(width**-0.5), k, v


def error(attend, parts, first=0):
    exact = layers.attend(0, *(part.copy() for part in parts), 0)
    return float(np.sqrt(np.square(attend(0, *parts, first) - exact).mean() / np.square(exact).mean()))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**31))
def test_slices_of_one_bit_add_up_to_the_number(bits, seed):
    most = (1 << (bits - 1)) - 1
    whole = np.random.default_rng(seed).integers(-most, most + 1, size=(5, 7))
    parts = list(slices(whole.astype(np.float32), bits))
    assert len(parts) == bits - 1
    assert all(np.isin(part, (-1, 0, 1)).all() for part in parts)
    assert (sum((1 << i) * part.astype(int) for i, part in enumerate(parts)) == whole).all()


UNIT = Readout(name="unit", range="fixed", lsb=1.0)
#: Whether sums that are no whole numbers are added in another order, which turns 8-bit shares of the softmax here and there.
REORDERED, SAME = True, False


@pytest.mark.parametrize(
    ("fields", "readout", "reordered"),
    [
        ({}, IDEAL, SAME),
        ({}, UNIT, SAME),
        ({}, replace(UNIT, lsb=2.0, encoding="twos-complement"), SAME),
        ({}, Readout(name="worst", range="worst-case"), SAME),
        ({"variation": 0.1}, IDEAL, REORDERED),
        ({"variation": 0.1}, UNIT, REORDERED),
        ({"variation": 0.1, "stuck_off": 0.05, "stuck_on": 0.01, "spares": 3}, replace(UNIT, inl=0.5), REORDERED),
        ({"variation": 0.1, "read_noise": 0.05}, IDEAL, REORDERED),
        ({"output_noise": 0.3}, IDEAL, REORDERED),
        ({"read_noise": 0.05, "output_noise": 0.3}, UNIT, SAME),
        ({"variation": 0.1}, replace(UNIT, dnl=0.1), SAME),
        ({}, replace(UNIT, dnl=0.1), SAME),
        ({"variation": 0.1}, replace(UNIT, sensing="column"), REORDERED),
        ({"drift": 0.05, "drift_spread": 0.01, "drift_time": 1e4, "compensated": True}, IDEAL, REORDERED),
    ],
    ids=str,
)
@pytest.mark.parametrize("length", [40, 300])
def test_attention_is_that_of_version_0_7_0(fields, readout, reordered, length):
    parts = heads(windows=2 if length < 100 else 1, length=length)
    bar, devices = replace(BAR, weight_bits=5, adc=replace(BAR.adc, bits=7)), Devices(name="mine", **fields)
    new, old = (made(bar, devices, readout, seed=3)(1, *parts, 2) for made in (in_cells, attention_0_7_0.in_cells))
    if reordered:
        assert np.sqrt(np.square(new - old).mean() / np.square(old).mean()) < 2e-4
    else:
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("fields", [{"variation": 0.1}, {"stuck_on": 0.1, "spares": 2}, {"wire_ohm": 2.0}], ids=str)
def test_matrices_programmed_at_once_are_those_programmed_one_by_one(fields):
    weights, names = np.random.default_rng(0).integers(-1, 2, (3, 300, 40)).astype(np.int8), ["a", "b", "c"]
    parts = {"crossbar": replace(BAR, weight_bits=2), "devices": Devices(name="mine", **fields), "readout": IDEAL}
    places = ["here", "there", "here"]
    found = program_each(weights, layers=names, places=places, **parts)
    for own, matrix, layer, place in zip(found, weights, names, places, strict=True):
        alone = program(matrix, layer=layer, place=place, **parts)
        np.testing.assert_array_equal(own.lines[0].weights, alone.lines[0].weights)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**34), st.lists(st.text(max_size=5), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 2**33), st.integers(0, 3)), min_size=1, max_size=5),
)  # fmt: skip
def test_generators_made_at_once_are_those_of_numpy(seed, layers, places):
    found = draws.generators(seed, layers, "read", places)
    alone = [draws.generator(seed, layer, "read", *place) for layer in layers for place in places]
    assert [one.bit_generator.random_raw(3).tolist() for one in found] == [
        one.bit_generator.random_raw(3).tolist() for one in alone
    ]


def test_ideal_cells_give_what_rounding_alone_gives():
    q, k, v = heads()
    found = in_cells(replace(BAR, weight_bits=8), CELLS, IDEAL)(0, q, k, v, 0)
    (whole_q, q_scale), (whole_k, k_scale), (whole_v, v_scale) = (layers.quantised(x, 8) for x in (q, k, v))
    scores = np.einsum("whgld,whmd->whglm", whole_q / q_scale, whole_k / k_scale).astype(np.float32)
    shares = layers.causal(scores) / v_scale.swapaxes(-1, -2)[:, :, None]
    step = shares.max(axis=-1, keepdims=True) / 255
    expected = np.einsum("whglm,whmd->whgld", np.rint(shares / step) * step, whole_v)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_fewer_bits_of_numbers_and_of_the_softmax_lose_more():
    parts = heads(length=64)
    by_bits = [error(in_cells(replace(BAR, weight_bits=bits), CELLS, IDEAL), parts) for bits in (8, 6, 4, 3, 2)]
    assert by_bits == sorted(by_bits)
    assert by_bits[0] < 0.01 < by_bits[-1]
    eight = replace(BAR, weight_bits=8)
    of = [error(in_cells(eight, CELLS, replace(IDEAL, softmax_bits=bits)), parts) for bits in (8, 4, 2)]
    assert of == sorted(of)


def test_a_converter_that_loses_no_sum_changes_nothing():
    parts, bar = heads(), replace(BAR, weight_bits=4)
    fine = replace(bar, adc=replace(bar.adc, bits=10))
    unit = Readout(name="unit", range="fixed", lsb=1.0)
    np.testing.assert_array_equal(in_cells(fine, CELLS, unit)(0, *parts, 0), in_cells(bar, CELLS, IDEAL)(0, *parts, 0))


def test_a_spread_of_cells_adds_its_square_and_a_pair_hides_a_low_ratio():
    parts, bar = heads(windows=4, length=64), replace(BAR, weight_bits=8)
    one, two = (error(in_cells(bar, replace(CELLS, variation=s), IDEAL), parts) for s in (0.1, 0.2))
    assert two / one == pytest.approx(2, rel=0.1)
    low = replace(bar, cell=replace(bar.cell, high_ohm=2 * bar.cell.low_ohm))
    assert error(in_cells(low, CELLS, IDEAL), parts) == pytest.approx(
        error(in_cells(bar, CELLS, IDEAL), parts), rel=1e-3
    )


def test_chips_differ_by_seed_and_cells_by_token_however_windows_are_split():
    parts = heads(windows=4)
    varied = Devices(name="varied", variation=0.2)
    whole = in_cells(BAR, varied, IDEAL, seed=1)(3, *parts, 8)
    halves = [in_cells(BAR, varied, IDEAL, seed=1)(3, *(p[i : i + 2] for p in parts), 8 + i) for i in (0, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    assert (whole != in_cells(BAR, varied, IDEAL, seed=2)(3, *parts, 8)).any()


def test_stuck_cells_stay_where_they_are_whatever_is_written_to_them():
    ones, devices = np.ones((32, 32), dtype=np.int8), Devices(name="stuck", stuck_off=0.2, variation=0.1)
    bar = replace(BAR, weight_bits=2)
    first, second = (
        program(ones, crossbar=bar, devices=devices, readout=IDEAL, layer=text, place="a crossbar").lines[0].weights
        for text in ("one text", "another")
    )
    off = 0.02  # what is stuck off gives as good as nothing, what is written at least half
    assert ((first < off) == (second < off)).all()
    assert 0.1 < (first < off).mean() < 0.3
    assert (first != second)[first > off].all()


def test_no_token_sees_a_later_one():
    q, k, v = heads(windows=1)
    attend = in_cells(replace(BAR, weight_bits=6), Devices(name="v", variation=0.1), IDEAL)
    before = attend(0, q.copy(), k.copy(), v.copy(), 0)
    k[:, :, 12:], v[:, :, 12:] = 9.0, -9.0
    np.testing.assert_array_equal(attend(0, q, k, v, 0)[..., :12, :], before[..., :12, :])


@pytest.fixture(scope="module")
def model():
    return checkpoint.read(paths.CHECKPOINTS / "docstrings-0")


def test_a_model_reads_with_eight_bits_as_with_exact_attention(model):
    tokens = np.random.default_rng(0).integers(97, 123, size=(2, 64)).astype(np.uint8)
    clean = language.losses(model, tokens)
    near = language.losses(model, tokens, attention=in_cells(replace(BAR, weight_bits=8), CELLS, IDEAL))
    far = language.losses(model, tokens, attention=in_cells(replace(BAR, weight_bits=2), CELLS, IDEAL))
    assert abs(near.mean() - clean.mean()) < 0.01
    assert abs(far.mean() - clean.mean()) > 0.05


def test_a_case_says_what_lies_on_crossbars():
    held, both, alone = cases({
        "held": {"products": "cached", "set": {"crossbar.weight_bits": 4, "devices.variation": 0.1}},
        "both": {"products": "both", "set": {"crossbar.weight_bits": 4}},
        "alone": {"products": "crossbars"},
    })  # fmt: skip
    assert prepared(held, {}, 0) is layers.exact
    assert held.drawn
    assert not both.drawn
    assert prepared(both, {}, 0) is not layers.exact
    assert attending(alone, 0) is layers.attend
    assert attending(both, 0) is not layers.attend


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"set": {"crossbar.weight_bits": 9}}, "keys and values have 9 bits; wanted 2 to 8"),
        ({"set": {"crossbar.cell.bits": 2}}, "crossbar-256 has cells of 2 bits and polarity 2; wanted 1 and 2"),
        ({"readout": "readout-4-sigma"}, "readout-4-sigma has the range 'sigmas', which comes from data"),
        ({"set": {"readout.softmax_bits": 0}}, "Readout.softmax_bits is 0; wanted 1 to 15 bits"),
        ({"set": {"readout.softmax_bits": 2.5}}, "Readout.softmax_bits is 2.5; wanted 1 to 15 bits"),
    ],
)
def test_keys_and_values_that_cells_cannot_hold_are_refused(entry, words):
    with pytest.raises(BadInput, match=words):
        cases({"mine": {"products": "cached", **entry}})


def test_unknown_products_are_refused():
    with pytest.raises(BadInput, match="unknown products 'cache', did you mean 'cached'"):
        cases({"mine": {"products": "cache"}})


def test_the_archived_study_holds_what_its_description_asks_for():
    (ds,) = noise_runs.archived([noise_runs.KV]).values()
    spec = parameters.from_file(paths.STUDIES / f"{noise_runs.KV}.yaml")
    assert dataset.parameters(ds)["noise"] == spec["noise"]
    study = noise_runs.of_attention({noise_runs.KV: ds}, [])
    rise = {
        str(case): float(value) for case, value in zip(study.case.values, study.perplexity_rise.values, strict=True)
    }
    for bits in (8, 4, 3):
        spread = [rise[f"variation, {bits} bits {s}"] for s in (0.1, 0.2, 0.3, 0.4, 0.5)]
        assert spread == sorted(spread), bits
    assert rise["bits 8"] < rise["bits 4"] < rise["bits 3"] < rise["bits 2"]
    assert (study.perplexity_rise_low <= study.perplexity_rise_high).all()
    chips = spec["curves"]["variation, 8 bits"].get("device_seeds", spec["noise"]["device_seeds"])
    assert study.trials.sel(case="variation, 8 bits 0.1") == len(recipes.SEEDS["docstrings"]) * chips


def test_most_bits_are_those_of_the_published_attention():
    assert catalog.parts["crossbar-kv8"].weight_bits == attention.MOST_BITS
