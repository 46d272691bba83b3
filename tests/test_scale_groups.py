"""Scales that change along the inputs: a column sums one group at a time, which costs what is worked out by hand here."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import same_sums
from hypothesis import given, settings
from hypothesis import strategies as st
from test_crossbar_product import ENCODINGS, IDEAL, UNIT, crossbar, devices, drawn, exact, forced, terms

from pimllm_lib.analog.crossbar import cells
from pimllm_lib.analog.crossbar.calibration import full_scale
from pimllm_lib.analog.crossbar.cells import program, tiles
from pimllm_lib.analog.crossbar.product import moved, multiply
from pimllm_lib.analog.crossbar.readout import converter, lossless_bits
from pimllm_lib.analog.lm import language
from pimllm_lib.analog.lm.checkpoint import Matrix
from pimllm_lib.analog.lm.evaluation import on_crossbars
from pimllm_lib.core.errors import BadInput


def scaled(weights, x, scales):
    """Return the whole products of groups times their scales, added in their order, all in float32."""
    group, out = len(weights) // len(scales), np.zeros((len(x), weights.shape[1]), dtype=np.float32)
    for number, scale in enumerate(scales):
        rows = slice(number * group, (number + 1) * group)
        out += scale * exact(weights[rows], x[:, rows]).astype(np.float32)
    return out


def some_scales(groups, fan_out, seed=0):
    return np.random.default_rng(seed).uniform(0.001, 0.1, (groups, fan_out)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    group=st.sampled_from([32, 64, 128, 256]), groups=st.integers(1, 5), fan_out=st.integers(1, 40),
    tokens=st.integers(1, 9), seed=st.integers(0, 99), encoding=st.sampled_from(ENCODINGS),
    rows=st.sampled_from([24, 64, 100, 256, 1000]), cols=st.sampled_from([7, 256]), dac=st.sampled_from([1, 3, 8]),
    binary=st.booleans(),
)  # fmt: skip
def test_groups_give_the_integer_product_times_scales_bit_for_bit(
    group, groups, fan_out, tokens, seed, encoding, rows, cols, dac, binary
):
    weights, x = drawn(group * groups, fan_out, tokens, seed, binary=binary)
    bar, scales = crossbar(rows=rows, cols=cols, dac=dac, binary=binary), some_scales(groups, fan_out, seed)
    want = scaled(weights, x, scales)
    readout = replace(UNIT, encoding=encoding)
    on = program(weights, crossbar=bar, devices=devices(), readout=readout, scales=scales)
    assert np.array_equal(multiply(on, x), want)
    assert np.array_equal(multiply(on, x, engine="per-plane"), want)
    folded = program(weights, crossbar=bar, devices=devices(), readout=replace(IDEAL, encoding=encoding), scales=scales)
    assert np.array_equal(multiply(folded, x, engine="folded"), want)


@pytest.mark.parametrize("way", ["plain", "packed", "popcount-numpy"])
@pytest.mark.parametrize("rows", [64, 48])
def test_every_way_to_whole_sums_reads_groups_the_same(monkeypatch, way, rows):
    """With steps of three and a bow, converted by hand: group by group, crossbar by crossbar."""
    weights, x = drawn(4 * 64, 30, 7)
    readout, scales = replace(UNIT, lsb=3.0, inl=0.5, dnl=0.1), some_scales(4, 30)
    on = program(weights, crossbar=crossbar(rows=rows, adc=5), devices=devices(), readout=readout, scales=scales)
    adc, want = converter(on, 8, None), np.zeros((7, 30))
    for number, scale in enumerate(scales):
        inside = slice(64 * number, 64 * (number + 1))
        alone = program(weights[inside], crossbar=crossbar(rows=rows, adc=5), devices=devices(), readout=readout)
        assert np.array_equal(converter(alone, 8, None).levels, adc.levels)  # one converter reads all groups
        want += scale * multiply(alone, x[:, inside], engine="per-plane")
    forced(monkeypatch, way)
    assert same_sums(multiply(on, x), want, terms(weights, x))


def test_the_range_of_a_converter_is_that_of_a_group():
    weights, x = drawn(256, 20, 50)
    whole, grouped = (
        program(
            weights, crossbar=crossbar(adc=8), devices=devices(), readout=replace(IDEAL, range="worst-case"), scales=s
        )
        for s in (None, some_scales(4, 20))
    )
    assert converter(whole, 8, None).lsb == 4 * converter(grouped, 8, None).lsb
    found = [
        full_scale(replace(on, readout=replace(IDEAL, range="quantile", quantile=1.0)), x) for on in (whole, grouped)
    ]
    assert found[1] < found[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("binary", [False, True])
def test_lossless_bits_are_the_fewest_that_read_every_sum(encoding, binary):
    readout = replace(UNIT, encoding=encoding)
    for rows in (1, 31, 32, 255, 256):
        bits = lossless_bits(rows, crossbar(binary=binary), readout)
        for given_bits, lossless in ((bits, True), (bits - 1, False)):
            if given_bits:
                weights, _ = drawn(rows, 1, 1, binary=binary)
                bar = crossbar(adc=given_bits, binary=binary)
                on = program(weights, crossbar=bar, devices=devices(), readout=readout)
                assert converter(on, 8, None).is_lossless(rows) is lossless


@pytest.mark.parametrize(
    "fields", [{"variation": 0.1}, {"wire_ohm": 0.1, "drop": "ladder"}, {"read_noise": 0.05}, {"output_noise": 0.5}],
    ids=["variation", "wires", "reads", "outputs"],
)  # fmt: skip
def test_one_group_of_scale_one_departs_as_no_group_does(fields):
    """Its cells, and what wires take, are those of the whole matrix; noise of reads has draws of its own."""
    weights, x = drawn(600, 50, 64)
    plain, one = (
        program(weights, crossbar=crossbar(), devices=devices(**fields), readout=IDEAL, seed=3, scales=scales)
        for scales in (None, np.ones((1, 50), dtype=np.float32))
    )
    for line, other in zip(plain.lines, one.lines, strict=True):
        assert np.array_equal(line.weights, other.weights)
    error = [multiply(on, x) - exact(weights, x) for on in (plain, one)]
    if plain.devices.reading or plain.devices.output_noise:
        assert np.std(error[0]) == pytest.approx(np.std(error[1]), rel=0.05)
    else:
        assert np.array_equal(*error)


def test_groups_of_a_crossbar_share_its_wires_and_have_noise_of_their_own():
    weights, x = drawn(256, 50, 64)
    same = np.concatenate([weights[:128]] * 2), np.concatenate([x[:, :128]] * 2, axis=1)
    scales = np.array([[1.0] * 50, [-1.0] * 50], dtype=np.float32)
    noisy = devices(read_noise=0.1)
    on = program(same[0], crossbar=crossbar(), devices=noisy, readout=IDEAL, scales=scales)
    one = program(weights[:128], crossbar=crossbar(), devices=noisy, readout=IDEAL)
    spread = np.std(multiply(one, x[:, :128]) - exact(weights[:128], x[:, :128]))
    assert np.std(multiply(on, same[1])) == pytest.approx(np.sqrt(2) * spread, rel=0.05)  # equal draws would cancel
    long, short = (
        program(same[0], crossbar=crossbar(rows=rows), devices=devices(wire_ohm=0.1), readout=IDEAL, scales=scales)
        for rows in (256, 128)
    )
    held, on = (np.abs(each.lines[0].weights)[same[0] != 0] for each in (long, short))
    assert held.mean() < on.mean() < 1  # the longer column takes more


def test_the_same_noise_comes_however_tokens_are_split():
    weights, x = drawn(256, 20, 80)
    found = devices(read_noise=0.05)
    on = program(weights, crossbar=crossbar(), devices=found, readout=IDEAL, scales=some_scales(2, 20))
    for engine in ("folded", "per-plane"):
        parts = [multiply(on, x[a:b], engine=engine, first=a) for a, b in ((0, 7), (7, 40), (40, 80))]
        np.testing.assert_allclose(multiply(on, x, engine=engine), np.concatenate(parts), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "group", "used"), [(256, 96, [192, 192, 96]), (64, 96, [64, 32] * 5), (96, 96, [96] * 5)]
)
def test_a_crossbar_holds_whole_groups_or_a_part_of_one(rows, group, used):
    found = [part[0] for _, col, part in tiles((480, 10), crossbar(rows=rows, cols=10), group)]
    assert [part.stop - part.start for part in found] == used
    assert [part.start for part in found] == [0, *np.cumsum(used)[:-1]]
    assert list(cells.spans(480, rows)) == [p[0] for _, _, p in tiles((480, 1), crossbar(rows=rows))]


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        (
            np.ones((3, 4)),
            r"scales have the shape \(3, 4\); wanted groups x 4, of as many groups as divide the 64 inputs",
        ),
        (np.ones((2, 5)), r"scales have the shape \(2, 5\); wanted groups x 4"),
        (np.ones(4), r"scales have the shape \(4,\)"),
        (np.full((2, 4), np.nan), "the scale of a group is nan; wanted a finite number"),
    ],
)
def test_scales_that_do_not_fit_are_refused(scales, message):
    weights, _ = drawn(64, 4, 1)
    with pytest.raises(BadInput, match=message):
        program(weights, crossbar=crossbar(), devices=devices(), readout=IDEAL, scales=scales)


def test_a_model_multiplies_groups_the_same_exactly_and_on_crossbars():
    weights, x = drawn(192, 30, 5)
    matrix = Matrix(weights, some_scales(3, 30), True)
    want = scaled(weights, x, matrix.scale)
    real = x.astype(np.float32)
    assert np.array_equal(language.exact("0.q", matrix)(real, 0), want)
    assert np.array_equal(on_crossbars(crossbar(), devices(), UNIT)("0.q", matrix)(real, 0), want)


@pytest.mark.torch
def test_groups_on_torch_are_those_on_numpy():
    torch = pytest.importorskip("torch")
    weights, x = drawn(256, 30, 5)
    on = program(weights, crossbar=crossbar(), devices=devices(), readout=UNIT, scales=some_scales(2, 30))
    there = multiply(moved(on, torch.zeros(1)), torch.asarray(x))
    assert same_sums(there.numpy(), multiply(on, x), terms(weights, x))
