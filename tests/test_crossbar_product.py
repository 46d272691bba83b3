"""What a crossbar computes: equal to the product where nothing departs, and to the closed forms where one thing does."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from conftest import same_sums
from hypothesis import given, settings
from hypothesis import strategies as st

from pimllm_lib import catalog
from pimllm_lib.analog.crossbar import cells, popcount, probes, product, ratios, wires
from pimllm_lib.analog.crossbar.calibration import full_scale
from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.product import moved, multiply
from pimllm_lib.analog.crossbar.readout import coding, converter, pulse_weights, pulses
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.hardware import Devices, Readout

BAR = catalog.part("crossbar-256")
IDEAL = Readout(name="ideal")
UNIT = Readout(name="unit", range="fixed", lsb=1.0)
DENSITY = 0.67
ENCODINGS = ("twos-complement", "sign-magnitude")


def devices(**fields):
    return Devices(name="devices", **fields)


def crossbar(*, rows=256, cols=256, dac=1, adc=16, ratio=None, binary=False):
    cell = BAR.cell if ratio is None else replace(BAR.cell, high_ohm=BAR.cell.low_ohm * ratio)
    kind = {"polarity": 1, "weight_bits": 1} if binary else {}
    return replace(
        BAR, rows=rows, cols=cols, cell=cell, dac=replace(BAR.dac, bits=dac), adc=replace(BAR.adc, bits=adc), **kind
    )


def drawn(fan_in, fan_out, tokens, seed=0, *, binary=False):
    rng = np.random.default_rng(seed)
    values = rng.choice([-1, 1], (fan_in, fan_out)) if binary else rng.integers(-1, 2, (fan_in, fan_out))
    return values.astype(np.int8), rng.integers(-127, 128, (tokens, fan_in))


def exact(weights, x):
    return x.astype(np.int64) @ weights.astype(np.int64)


def terms(weights, x):
    """Return the sum of the magnitudes of what each output adds up."""
    return exact(np.abs(weights), np.abs(x))


def forced(monkeypatch, way):
    """Make the engine take one of its ways to whole sums."""
    monkeypatch.setattr(popcount, "pays", lambda tokens: way.startswith("popcount"))
    if way == "plain":
        monkeypatch.setattr(product, "_fits", lambda *_: False)
    if way == "popcount-numpy":
        monkeypatch.setattr(popcount, "find_spec", lambda name: None)


@settings(max_examples=60, deadline=None)
@given(
    fan_in=st.integers(1, 600), fan_out=st.integers(1, 40), tokens=st.integers(1, 9), seed=st.integers(0, 99),
    encoding=st.sampled_from(ENCODINGS), rows=st.sampled_from([64, 100, 256]), dac=st.sampled_from([1, 2, 3, 8]),
    binary=st.booleans(),
)  # fmt: skip
def test_a_lossless_converter_gives_the_integer_product_bit_for_bit(
    fan_in, fan_out, tokens, seed, encoding, rows, dac, binary
):
    weights, x = drawn(fan_in, fan_out, tokens, seed, binary=binary)
    bar = crossbar(rows=rows, dac=dac, binary=binary)
    readout = replace(UNIT, encoding=encoding, lsb=1.0)
    on = program(weights, crossbar=bar, devices=devices(), readout=readout)
    assert np.array_equal(multiply(on, x), exact(weights, x))
    assert np.array_equal(multiply(on, x, engine="per-plane"), exact(weights, x))
    folded = program(weights, crossbar=bar, devices=devices(), readout=replace(IDEAL, encoding=encoding))
    assert np.array_equal(multiply(folded, x, engine="folded"), exact(weights, x))


@given(x=st.lists(st.integers(-128, 127), min_size=1, max_size=50), step=st.integers(1, 8))
def test_pulses_of_every_width_add_up_to_the_activation(x, step):
    for encoding in ENCODINGS:
        values = np.maximum(np.array(x), -127) if encoding == "sign-magnitude" else np.array(x)
        weighted = zip(pulse_weights(8, step, encoding), pulses(values, 8, step, encoding), strict=True)
        assert np.array_equal(sum(s * d for s, d in weighted), values)


@pytest.mark.parametrize("way", ["plain", "packed", "popcount-numpy", "popcount"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_way_to_whole_sums_reads_the_same(monkeypatch, way, encoding):
    if way == "popcount":
        pytest.importorskip("numba")
    weights, x = drawn(300, 65, 7)
    readout = replace(UNIT, encoding=encoding, lsb=3.0, inl=0.5, dnl=0.1)
    on = program(weights, crossbar=crossbar(rows=100, adc=5), devices=devices(), readout=readout)
    want = sums_by_hand(on, x, encoding)
    forced(monkeypatch, way)
    assert same_sums(multiply(on, x), want, terms(weights, x))


def sums_by_hand(on, x, encoding):
    """Multiply pass by pass, tile by tile and output by output, in whole numbers."""
    adc, out = converter(on, 8, None), np.zeros((len(x), on.ideal.shape[1]))
    for s, d in zip(pulse_weights(8, 1, encoding), pulses(x, 8, 1, encoding), strict=True):
        for top in range(0, x.shape[1], on.crossbar.rows):
            tile = slice(top, top + on.crossbar.rows)
            sums = d[:, tile].astype(np.int64) @ on.ideal[tile].astype(np.int64)
            codes = np.clip(np.rint(sums / adc.lsb), adc.low, adc.high).astype(int)
            out += s * adc.lsb * adc.levels[codes - adc.low]
    return out


@pytest.mark.parametrize("sensing", ["pair", "column"])
@pytest.mark.parametrize(
    "fields",
    [{"variation": 0.1}, {"stuck_on": 0.02, "stuck_off": 0.01}, {"wire_ohm": 0.1, "drop": "ladder"},
     {"drift": 0.05, "drift_spread": 0.02, "drift_time": 100.0, "compensated": True}],
    ids=["variation", "stuck", "wire", "drift"],
)  # fmt: skip
def test_folded_equals_per_plane_where_both_are_exact(fields, sensing):
    weights, x = drawn(600, 50, 6)
    on = program(weights, crossbar=crossbar(), devices=devices(**fields), readout=replace(IDEAL, sensing=sensing))
    folded, planes = multiply(on, x, engine="folded"), multiply(on, x, engine="per-plane")
    assert same_sums(folded, planes, terms(weights, x))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("fields", [{"read_noise": 0.1}, {"output_noise": 0.5}], ids=["cells", "outputs"])
def test_one_draw_for_all_reads_has_the_variance_of_a_draw_for_each(fields, encoding):
    weights, x = drawn(512, 128, 128)
    on = program(weights, crossbar=crossbar(), devices=devices(**fields), readout=replace(IDEAL, encoding=encoding))
    one, each = (np.var(multiply(on, x, engine=engine) - exact(weights, x)) for engine in ("folded", "per-plane"))
    assert one == pytest.approx(each, rel=0.05)


def test_the_on_off_ratio_cancels_in_a_pair_and_fills_the_range_of_a_column():
    weights, x = drawn(256, 40, 8)
    for ratio in (2, 10, 1e6):
        on = program(weights, crossbar=crossbar(ratio=ratio), devices=devices(), readout=replace(UNIT, lsb=1.0))
        assert np.array_equal(multiply(on, x), exact(weights, x))
    column = replace(UNIT, sensing="column", encoding="twos-complement")
    errors = []
    for ratio in (1e6, 3):
        on = program(weights, crossbar=crossbar(ratio=ratio, adc=7), devices=devices(), readout=column)
        errors.append(np.abs(multiply(on, x) - exact(weights, x)).mean())
    assert errors[1] > 10 * errors[0]


@cache
def probe(fan_in):
    return ratios.Probe.drawn(fan_in, DENSITY, outputs=128, tokens=128)


def published(bar, known):
    """Return the programming of a published device, without what else is known of it."""
    alone = replace(known, read_noise=0.0, drift=0.0, drift_spread=0.0, drift_time=1.0)
    return probes.Cause(bar, alone, IDEAL)


CAUSES = probes.causes(BAR) | {
    name: published(crossbar(ratio=4.5) if "milo" in name else BAR, catalog.part(name))
    for name in ("cells-wan-1s", "cells-wan-1d", "cells-wan-2d", "cells-milo", "cells-pcm")
}


@pytest.mark.parametrize("fan_in", [256, 1024, 4096])
@pytest.mark.parametrize("name", CAUSES)
def test_each_departure_makes_the_noise_its_closed_form_says(name, fan_in):
    cause, at = CAUSES[name], probe(fan_in)
    measured = np.mean([cause.measured(at, seed) for seed in range(3 if cause.readout.range == "ideal" else 1)])
    assert measured == pytest.approx(cause.predicted(at, DENSITY), rel=0.1)


def step_error(lsb):
    """Return the mean square error of rounding whole sums to a multiple of a whole number, ties to the even code.

    Residues are alike. Those of an odd step run to (lsb - 1) / 2 on both sides, and their mean square is (lsb^2 - 1) / 12;
    of those of an even one the last lies half-way, and it is (lsb^2 + 2) / 12. Smooth sums would have lsb^2 / 12.
    """
    return (lsb**2 - 1) / 12 if lsb % 2 else (lsb**2 + 2) / 12


def test_the_error_of_whole_steps_is_that_of_whole_sums():
    for lsb in (2, 3, 4):
        readout, at = replace(UNIT, lsb=float(lsb)), probe(1024)
        form = ratios.conversions(step_error(lsb), at.x, BAR, readout, density=DENSITY)
        assert at.ratio(at.run(BAR, devices(), readout)) == pytest.approx(form, rel=0.1)


def walk(x, bar, readout, adc):
    """Return the noise to signal of steps that vary at random, by itself, in the mean over curves, for normal sums.

    The error at code c is a random walk of |c| steps: E[e(a) e(b)] = dnl^2 min(|a|, |b|) for codes of one sign, else 0.
    Its mean over two normal sums is taken over their angle. The walk's return at the ends is left out.
    """
    weights, tiles = pulse_weights(*coding(bar, readout)), x.shape[1] / bar.rows
    flat = np.stack([p.ravel() for p in pulses(x, *coding(bar, readout))]).astype(float)
    covariance = DENSITY * bar.rows * flat @ flat.T / flat.shape[1] / adc.lsb**2
    spread, total = np.sqrt(np.diag(covariance)), 0.0
    for p, (s, a) in enumerate(zip(weights, spread, strict=True)):
        for q, (t, b) in enumerate(zip(weights, spread, strict=True)):
            rho = covariance[p, q] / (a * b)
            total += s * t * tiles * (common(a, b, rho) + (tiles - 1) * common(a, b, 0.0))
    return (adc.lsb * readout.dnl) ** 2 * total / x.shape[1] / (DENSITY * np.square(x.astype(float)).mean())


def common(a, b, rho):
    """Return E[min(|u|, |v|) where u v > 0] of normal u and v: their mean radius times the mean over the angle."""
    angle = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
    u = a * np.cos(angle)
    v = b * (rho * np.cos(angle) + np.sqrt(max(1 - rho**2, 0.0)) * np.sin(angle))
    return np.sqrt(np.pi / 2) * np.mean(np.minimum(np.abs(u), np.abs(v)) * (u * v > 0))


@pytest.mark.parametrize("fan_in", [256, 1024])
def test_steps_that_vary_make_the_noise_their_closed_form_says_in_the_mean_over_curves(fan_in):
    bar, plain, at = crossbar(adc=7), UNIT, ratios.Probe.drawn(fan_in, DENSITY, outputs=16, tokens=24)
    uneven, straight = replace(plain, dnl=0.1), at.run(bar, devices(), plain)
    adc = converter(program(at.weights, crossbar=bar, devices=devices(), readout=plain), 8, None)
    found = [at.ratio(at.run(bar, devices(), uneven, seed=seed), straight) for seed in range(400)]
    error = np.std(found) / np.sqrt(len(found))
    want = walk(at.x, bar, uneven, adc)
    assert abs(np.mean(found) - want) < max(3 * error, 0.05 * want)


def test_the_ladder_is_a_resistor_network_and_its_first_order_law_its_limit():
    rng = np.random.default_rng(0)
    conductance, wire = rng.random((40, 3)) * 1e-4, 2.0
    matrix = np.zeros((40, 40))  # Kirchhoff's law at each node, for the first column
    for i in range(40):
        matrix[i, i] = conductance[i, 0] + 1 / wire + (i > 0) / wire
        if i > 0:
            matrix[i, i - 1] = matrix[i - 1, i] = -1 / wire
    drive = rng.random(40)
    foot = np.linalg.solve(matrix, conductance[:, 0] * drive)[-1] / wire
    factor = wires.ladder(conductance, wire)
    assert conductance[:, 0] * drive @ factor[:, 0] == pytest.approx(foot, rel=1e-12)
    small = [np.abs(wires.ladder(conductance, w) - wires.first_order(conductance, w)).max() for w in (0.2, 0.02)]
    assert small[0] == pytest.approx(100 * small[1], rel=0.05)  # the difference is of second order
    assert np.array_equal(wires.ladder(conductance, 1e-300), np.ones_like(conductance))


def test_the_same_seed_gives_the_same_cells_however_the_work_is_split():
    weights, x = drawn(700, 300, 80)
    found = devices(variation=0.1, stuck_on=0.01, read_noise=0.05, output_noise=0.2)
    on = program(weights, crossbar=crossbar(), devices=found, readout=IDEAL, seed=3, layer="2.up")
    tile = program(weights[:256, :256], crossbar=crossbar(), devices=found, readout=IDEAL, seed=3, layer="2.up")
    assert np.array_equal(on.lines[0].weights[:256, :256], tile.lines[0].weights)
    for engine in ("folded", "per-plane"):
        whole = multiply(on, x, engine=engine)
        parts = [multiply(on, x[a:b], engine=engine, first=a) for a, b in ((0, 7), (7, 40), (40, 80))]
        assert same_sums(np.concatenate(parts), whole, terms(weights, x))
    other = program(weights, crossbar=crossbar(), devices=found, readout=IDEAL, seed=4, layer="2.up")
    assert not np.array_equal(on.lines[0].weights, other.lines[0].weights)


def test_a_new_kind_of_departure_leaves_the_other_draws_as_they_were():
    weights, _ = drawn(64, 64, 1)
    one = program(weights, crossbar=crossbar(), devices=devices(variation=0.1), readout=IDEAL)
    both = program(weights, crossbar=crossbar(), devices=devices(variation=0.1, stuck_off=0.02), readout=IDEAL)
    assert np.mean(one.lines[0].weights == both.lines[0].weights) > 0.9


def test_a_gain_makes_up_for_the_mean_of_drift_and_for_nothing_else():
    weights, x = drawn(512, 64, 16)
    gone = devices(drift=0.06, drift_time=1000.0)
    assert multiply(program(weights, crossbar=crossbar(ratio=1e9), devices=gone, readout=IDEAL), x) == pytest.approx(
        exact(weights, x) * 1000**-0.06, rel=1e-4, abs=0.01
    )
    made_up = replace(gone, compensated=True)
    assert multiply(program(weights, crossbar=crossbar(ratio=1e9), devices=made_up, readout=IDEAL), x) == pytest.approx(
        exact(weights, x), rel=1e-4, abs=0.01
    )


@pytest.mark.parametrize("name", ["sigmas", "quantile"])
def test_a_calibrated_range_covers_what_it_says(name):
    weights, x = drawn(512, 64, 300)
    readout = replace(IDEAL, range=name, sigmas=3.0, quantile=0.99)
    on = program(weights, crossbar=crossbar(), devices=devices(), readout=readout)
    reach = full_scale(on, x)
    sums = np.concatenate(
        [d[:, t : t + 256] @ weights[t : t + 256] for d in pulses(x, 8, 1, "sign-magnitude") for t in (0, 256)]
    )
    share = np.mean(np.abs(sums) <= reach)
    assert share == pytest.approx({"sigmas": 0.9973, "quantile": 0.99}[name], abs=0.004)
    with pytest.raises(BadInput, match="comes from calibration"):
        multiply(on, x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: devices(variation=-0.1), r"Devices.variation is -0.1; wanted a finite number of at least 0"),
        (lambda: devices(stuck_on=1.2), r"Devices.stuck_on is 1.2; wanted a chance from 0 to 1"),
        (lambda: devices(stuck_on=0.6, stuck_off=0.6), r"together is 1.2; wanted a chance"),
        (lambda: devices(law="gauss"), r"unknown Devices.law 'gauss'.*lognormal, normal"),
        (lambda: devices(drift_time=0.5), r"Devices.drift_time is 0.5; wanted at least 1"),
        (lambda: devices(drift_time="x"), r"Devices.drift_time is 'x'; wanted a finite number above 0"),
        (lambda: devices(variation=np.array([0.1, 0.2])), r"Devices.variation is .*; wanted one value, no axis"),
        (lambda: devices(curve_siemens=(float("nan"),)), r"curve_siemens is nan; wanted finite"),
        (lambda: replace(BAR.adc, bits=0), r"Adc.bits is 0; wanted"),
        (lambda: replace(BAR.adc, bits=40), r"Adc.bits is 40; wanted 1 to 16 bits"),
        (lambda: crossbar(ratio=0.5), r"Cell.high_ohm is 5000.0; wanted at least low_ohm"),
        (lambda: program(drawn(8, 2, 1)[0], crossbar=BAR, devices=devices(), readout=IDEAL, seed=-1), r"device seed is -1"),
        (lambda: ratios.Probe.drawn(256, 0.0), r"density is 0.0; wanted a share above 0"),
        (lambda: probes.probed(BAR, fan_in=[300], device_seeds=1, density=0.5, tokens=2, outputs=2),
         r"fan_in is \[300\]; wanted multiples of the crossbar's 256 rows"),
        (lambda: Readout(name="r", range="full"), r"unknown Readout.range 'full'"),
        (lambda: Readout(name="r", quantile=1.5), r"Readout.quantile is 1.5; wanted a share"),
    ],
)  # fmt: skip
def test_a_device_or_readout_that_cannot_be_is_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.full((1, 8), 200)}, r"an activation is 200; wanted -127 to 127, 8 bits of sign-magnitude"),
        ({"x": np.zeros((1, 9), int)}, r"activations have the shape \(1, 9\); wanted tokens x 8"),
        ({"engine": "fast"}, r"unknown engine 'fast'.*auto, folded, per-plane"),
        ({"engine": "folded", "readout": replace(UNIT, lsb=3.0)}, r"engine folded is exact for ideal conversion only"),
        ({"weights": np.full((8, 2), 2, np.int8)}, r"a weight is 2; wanted one of -1, 0, 1"),
        ({"bar": replace(BAR, weight_bits=4)}, r"holds weights of 4 bits with polarity 2; wanted 2 and 2 \(ternary\)"),
        ({"bar": crossbar(ratio=1)}, r"on/off ratio of 1; wanted one above 1"),
    ],
)
def test_a_product_that_cannot_be_is_refused(change, message):
    weights, x = drawn(8, 2, 1)
    usual = {"weights": weights, "x": x, "bar": crossbar(), "readout": UNIT, "engine": "per-plane"}
    with pytest.raises(BadInput, match=message):
        programmed_and_multiplied(**usual | change)


def programmed_and_multiplied(weights, x, bar, readout, engine):
    on = program(weights, crossbar=bar, devices=devices(), readout=readout)
    return multiply(on, x, engine=engine)


@pytest.mark.parametrize(
    ("x", "act_bits", "message"),
    [
        (np.full((1, 8), 1000), 8, r"an activation is 1000; wanted -127 to 127"),
        (np.full((1, 8), 65537), 8, r"an activation is 65537; wanted"),
        (np.full((1, 8), np.nan), 8, r"an activation is nan; wanted outputs that are finite"),
        (np.zeros((0, 8), int), 8, r"shape \(0, 8\); wanted one token at least"),
        (np.zeros((1, 8), int), 0, r"activations have 0 bits; wanted 2 to 16"),
    ],
)
@pytest.mark.parametrize("engine", ["folded", "per-plane"])
def test_activations_that_cannot_be_are_refused_by_both_engines(engine, x, act_bits, message):
    on = program(drawn(8, 2, 1)[0], crossbar=crossbar(), devices=devices(), readout=IDEAL)
    with pytest.raises(BadInput, match=message):
        multiply(on, x, engine=engine, act_bits=act_bits)


def test_a_worst_case_range_holds_the_off_current_of_columns_too():
    weights, x = np.ones((256, 4), np.int8), np.full((2, 256), 127)
    column = replace(IDEAL, range="worst-case", sensing="column")
    on = program(weights, crossbar=crossbar(adc=12, ratio=4.5), devices=devices(), readout=column)
    assert multiply(on, x) == pytest.approx(exact(weights, x), rel=0.01)


def test_a_gain_makes_up_for_drift_of_single_columns_and_not_of_digital_sums():
    weights, x = drawn(512, 64, 16, binary=True)
    gone = devices(drift=0.05, drift_time=1000.0, compensated=True)
    on = program(weights, crossbar=crossbar(ratio=1e9, binary=True), devices=gone, readout=IDEAL)
    assert multiply(on, x) == pytest.approx(exact(weights, x), abs=0.5)


def test_counting_holds_sums_of_more_rows_than_sixteen_bits(monkeypatch):
    forced(monkeypatch, "popcount-numpy")
    weights, x = np.ones((40000, 2), np.int8), np.full((1, 40000), 3)
    on = program(weights, crossbar=crossbar(rows=40000), devices=devices(), readout=replace(UNIT, lsb=4.0))
    assert multiply(on, x, engine="per-plane") == pytest.approx(exact(weights, x), rel=0.01)


@pytest.mark.torch
@pytest.mark.parametrize("fields", [{}, {"variation": 0.1}, {"read_noise": 0.05, "output_noise": 0.3}], ids=str)
@pytest.mark.parametrize("readout", [IDEAL, replace(UNIT, lsb=3.0, inl=0.4), replace(UNIT, sensing="column")], ids=str)
def test_numpy_and_torch_agree_to_float_rounding(fields, readout):
    torch = pytest.importorskip("torch")
    weights, x = drawn(500, 60, 40)
    on = program(weights, crossbar=crossbar(adc=10), devices=devices(**fields), readout=readout)
    there = moved(on, torch.zeros(1))
    for engine in ("auto", "per-plane"):
        mine, other = multiply(on, x, engine=engine), multiply(there, torch.asarray(x), engine=engine)
        close = np.abs(other.numpy() - mine) <= 1e-4 * np.abs(mine).std()
        assert close.mean() > 0.999  # a sum on the edge of a code may round the other way


def test_tiles_cover_a_matrix_once():
    seen = np.zeros((300, 130), dtype=int)
    for _, _, tile in cells.tiles(seen.shape, crossbar(rows=100, cols=64)):
        seen[tile] += 1
    assert (seen == 1).all()


COUNTED = """
import numpy as np
from pimllm_lib.analog.crossbar.popcount_numba import count
word = np.ones((1, 1, 1, 1), dtype=np.uint64)
count(word, word[:0], word[0], word[0], np.zeros(257, dtype=np.float32), np.ones(1, dtype=np.float32))
print(sum(count.stats.cache_hits.values()), sum(count.stats.cache_misses.values()))
"""


def test_counting_is_compiled_once_a_machine_into_the_users_cache_or_nowhere(tmp_path):
    pytest.importorskip("numba")
    (tmp_path / "file").write_text("")

    def counted(cache):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / cache)}
        run = subprocess.run(
            [sys.executable, "-c", COUNTED], env=environment, capture_output=True, text=True, check=True
        )
        return run.stdout.split()

    assert [counted("cache"), counted("cache"), counted("file")] == [["0", "1"], ["1", "0"], ["0", "1"]]
    assert list((tmp_path / "cache" / "pimllm" / "kernels").rglob("*.nbi"))
    assert not list(paths.PACKAGE.rglob("*.nbi"))
