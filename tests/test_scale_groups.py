"""Scales that change along the inputs: a column sums one group at a time, which costs what is worked out by hand here."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from conftest import same_sums
from hypothesis import given, settings
from hypothesis import strategies as st
from test_crossbar_product import ENCODINGS, IDEAL, UNIT, crossbar, devices, drawn, exact, forced, terms

import pimllm_lib as pl
from pimllm_lib.analog.crossbar import cells
from pimllm_lib.analog.crossbar.calibration import full_scale
from pimllm_lib.analog.crossbar.cells import program, tiles
from pimllm_lib.analog.crossbar.product import moved, multiply
from pimllm_lib.analog.crossbar.readout import converter, lossless_bits
from pimllm_lib.analog.lm import checkpoint, language
from pimllm_lib.analog.lm.checkpoint import Matrix
from pimllm_lib.analog.lm.evaluation import on_crossbars
from pimllm_lib.analysis import scales
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.core.paths import CHECKPOINTS
from pimllm_lib.core.schema import VARIABLES
from pimllm_lib.costs import crossbar as costs
from pimllm_lib.workload.products import products


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


@dataclass
class Grouped:
    """Weights of a checkpoint, with another scale for every 32 inputs and every output."""

    inner: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def matrix(self, name):
        found = self.inner.matrix(name)
        scales = found.scale * 20 * some_scales(found.values.shape[0] // 32, found.values.shape[1])
        return replace(found, scale=scales.astype(np.float32))


def test_a_model_with_groups_is_the_same_on_ideal_crossbars_and_another_without():
    model = checkpoint.read(CHECKPOINTS / "docstrings-0")
    tokens = np.random.default_rng(0).integers(0, model.decoder.vocab_size, (2, 40))
    grouped = replace(model, source=Grouped(model.source))
    clean = language.losses(grouped, tokens)
    bar = crossbar(adc=7)  # reads 32 rows as they are, and 256 not
    assert np.array_equal(language.losses(grouped, tokens, on_crossbars(bar, devices(), UNIT)), clean)
    assert not np.array_equal(language.losses(model, tokens), clean)
    assert not np.array_equal(
        language.losses(model, tokens, on_crossbars(bar, devices(), UNIT)), language.losses(model, tokens)
    )


@pytest.mark.torch
def test_groups_on_torch_are_those_on_numpy():
    torch = pytest.importorskip("torch")
    weights, x = drawn(256, 30, 5)
    on = program(weights, crossbar=crossbar(), devices=devices(), readout=UNIT, scales=some_scales(2, 30))
    there = multiply(moved(on, torch.zeros(1)), torch.asarray(x))
    assert same_sums(there.numpy(), multiply(on, x), terms(weights, x))
    model = checkpoint.read(CHECKPOINTS / "docstrings-0")
    grouped = replace(model, source=Grouped(model.source))
    tokens = np.random.default_rng(0).integers(0, model.decoder.vocab_size, (4, 40))
    clean = language.losses(grouped, tokens)
    assert language.losses(grouped, tokens, like=torch.zeros(1)).mean() == pytest.approx(clean.mean(), rel=1e-3)


PIM_LLM = pl.catalog.systems["pim-llm"]
TILE = PIM_LLM.pim.tile
SIZES = {"d_model": 2048, "d_ff": 8192, "n_layers": 2, "n_heads": 16, "n_kv_heads": 8, "head_dim": 128}
SMALL = replace(pl.catalog.models["bitnet-2b4t"], name="small", **SIZES)
CORRECTED = {"context_len": 128, "conventions": "corrected", "detail": "component"}


def laid(fan_in, fan_out, group, tile=TILE):
    return costs.layout(fan_in, fan_out, tile=tile, act_bits=8, group=group)


def spent(on, tile=TILE):
    """Return times and energies of one vector by component, hops aside, and areas."""
    buffers = {"input_buffer": 2048, "output_buffer": 2048}
    way = {"network_bps": 20e9, "fan_out": 256, "merge_hops": 0, "transfer_hops": 0, "reread_output": False}
    return (
        costs.latency(on, tile=tile, act_bits=8, **way),
        costs.energy(on, tile=tile, act_bits=8, **buffers),
        costs.area(on, tile=tile, **buffers),
    )


def evaluated(model, system=PIM_LLM, **changes):
    return pl.evaluate(system=system, model=model, **CORRECTED | changes)


@pytest.mark.parametrize("fan_in", [100, 256, 1000, 4096])
@pytest.mark.parametrize("group", [np.inf, 4096, 10000])
def test_one_group_costs_what_none_does_but_for_the_multiplication(fan_in, group):
    plain, one = (laid(fan_in, 700, g) for g in (np.inf, group))
    assert one.scaled == (700 if np.isfinite(group) else 0)
    for before, after in zip(spent(plain), spent(one), strict=True):
        assert {name: value for name, value in after.items() if name != "rescale"} == before
        assert ("rescale" in after) == np.isfinite(group)


def test_two_groups_of_a_crossbar_cost_what_is_worked_out_by_hand():
    """A full crossbar of 256 x 256, groups of 128: 32 reads in place of 16, half of the rows in each."""
    plain, on = laid(256, 256, np.inf), laid(256, 256, 128)
    assert (on.crossbars, on.tiles, on.rows, on.groups, on.turns, plain.turns) == (1, 1, 256, 2, 32, 16)
    assert (on.scaled, on.group_bits) == (512, 8 + 8)
    (time, joules, area), (time_before, joules_before, area_before) = spent(on), spent(plain)
    for name in ("dac", "adc", "crossbar", "mux"):
        assert time[name] == 2 * time_before[name]
    assert joules["adc"] == 2 * joules_before["adc"]  # as many conversions more
    assert joules["dac"] == joules_before["dac"]  # rows are driven as often as before
    assert joules["crossbar"] == pytest.approx(joules_before["crossbar"], rel=1e-12)  # cells are read as often
    assert time["rescale"] == pytest.approx(2 * 2 / 500e6)  # two groups, two columns an ADC, a period of 2 ns
    assert joules["rescale"] == pytest.approx(512 * 0.23e-12 * 16 * 16 / 64)
    # multipliers in each PE of the tile, and 16 cells for each of 512 scales
    assert area["rescale"] == pytest.approx(4 * 128 * 320e-12 * 16 * 16 / 64 + 512 * 16 * TILE.crossbar.cell.area_m2)
    assert {name: value for name, value in area.items() if name != "rescale"} == area_before


def test_crossbars_of_half_the_height_are_twice_as_many_with_as_many_reads_each():
    low = with_field(TILE, "crossbar.rows", 128)
    plain, on = laid(1024, 256, np.inf), laid(1024, 256, 128, low)
    assert (on.crossbars, on.tiles, on.groups, on.turns) == (2 * plain.crossbars, 2 * plain.tiles, 1, plain.turns)
    (time, joules, area), (time_before, joules_before, area_before) = spent(on, low), spent(plain)
    assert (time["dac"], time["adc"]) == (time_before["dac"], time_before["adc"])
    assert time["crossbar"] < time_before["crossbar"]  # shorter columns settle sooner
    assert joules["adc"] == 2 * joules_before["adc"]
    assert joules["dac"] == joules_before["dac"]
    assert area["adc"] == 2 * area_before["adc"]
    assert joules["rescale"] == spent(laid(1024, 256, 128))[1]["rescale"]  # whatever reads the groups


def test_a_group_larger_than_a_crossbar_is_summed_before_its_scale():
    on = laid(2048, 256, 512)
    assert (on.crossbars, on.groups, on.turns, on.scaled) == (8, 1, 16, 4 * 256)
    assert on.group_bits == 8 + 8 + 1  # of two crossbars
    odd = laid(3 * 384, 256, 384)  # 256 rows and 128 more, which share their crossbar with no other group
    assert (odd.crossbars, odd.groups, odd.rows) == (6, 1, 256)
    few = laid(5 * 96, 256, 96)  # two of 96 fit into 256 rows
    assert (few.crossbars, few.groups, few.rows, few.turns) == (3, 2, 192, 32)


@settings(max_examples=50)
@given(
    fan_in=st.integers(1, 40), fan_out=st.integers(1, 3000), one=st.integers(0, 10), more=st.integers(1, 3),
    rows=st.sampled_from([64, 256]), dacs=st.sampled_from([16, 256]),
)  # fmt: skip
def test_smaller_groups_never_take_fewer_conversions_or_less_time(fan_in, fan_out, one, more, rows, dacs):
    tile = with_fields(TILE, {"crossbar.rows": rows, "crossbar.dac.per_crossbar": dacs, "pes": 1})
    small, large = (laid(fan_in * 1024, fan_out, 2**size, tile) for size in (one, min(one + more, 10)))
    (time, joules, _), (time_large, joules_large, _) = spent(small, tile), spent(large, tile)
    for name in ("adc", "rescale"):
        assert joules[name] >= joules_large[name] * (1 - 1e-12)
    assert time["adc"] + time["rescale"] >= (time_large["adc"] + time_large["rescale"]) * (1 - 1e-12)
    assert small.scaled == fan_in * 1024 / 2**one * fan_out


@pytest.mark.parametrize("groups", ["rows", "crossbars", "best"])
@pytest.mark.parametrize("conventions", ["as-published", "corrected", "full-system"])
def test_a_model_without_groups_costs_the_same_however_they_would_be_read(groups, conventions):
    plain, other = (
        evaluated(SMALL, system, conventions=conventions)
        for system in (PIM_LLM, with_field(PIM_LLM, "pim.groups", groups))
    )
    for name in plain.data_vars:
        assert np.array_equal(plain[name], other[name], equal_nan=True)


def test_parts_sum_to_the_whole_and_models_side_by_side_cost_what_each_does_alone():
    models = [replace(SMALL, name=str(group), scale_group=group) for group in (np.inf, 32, 512)]
    for way in ("rows", "crossbars", "best"):
        system = with_field(PIM_LLM, "pim.groups", way)
        together = evaluated(models, system)
        total = evaluated(models, system, detail="total")
        for name in ("latency_s", "energy_j", "area_m2", "tiles"):
            np.testing.assert_allclose(together[name].sum(["op", "component"]), total[name], rtol=1e-12)
            for model in models:
                alone = evaluated(model, system)[name]
                np.testing.assert_allclose(together[name].sel(model=[model.name]), alone, rtol=1e-12)


def test_conversions_double_with_groups_of_half_a_crossbar_however_they_are_read():
    plain = evaluated(SMALL).energy_j.sel(component="adc").sum().item()
    for way in ("rows", "crossbars"):
        ds = evaluated(replace(SMALL, scale_group=128), with_field(PIM_LLM, "pim.groups", way))
        assert ds.energy_j.sel(component="adc").sum().item() == pytest.approx(2 * plain, rel=1e-12)
        sums = sum(p.k / 128 * p.n * p.calls for p in products(SMALL, 128) if p.kind == "projection")
        rescaled = ds.energy_j.sel(component="rescale").sum().item()
        assert rescaled == pytest.approx(sums * 0.23e-12 * 16 * 16 / 64, rel=1e-12)


def test_the_best_way_is_for_each_matrix_that_of_the_shorter_time():
    """Fast reads suit rows in turns, since results of twice the tiles travel further; slow ones crossbars of 128 rows."""
    ops = ["q", "k", "v", "x", "ff1", "ff2"]

    def found(way, read_s):
        system = with_fields(PIM_LLM, {"pim.groups": way, "pim.tile.crossbar.cell.read_s": read_s})
        ds = evaluated(replace(SMALL, scale_group=128), system)[["busy_s", "tiles"]]
        return ds.sum("component").sel(op=ops).squeeze()

    lows = []
    for read_s in (3.16e-9, 2e-7, 2e-6):
        rows, low, best = (found(way, read_s) for way in ("rows", "crossbars", "best"))
        is_low = low.busy_s < rows.busy_s
        assert np.array_equal(low.tiles, 2 * rows.tiles)
        assert np.array_equal(best.tiles, low.tiles.where(is_low, rows.tiles))
        lows.append(int(is_low.sum()))
    assert 0 == lows[0] < lows[1] < lows[2] == len(ops)


def test_a_way_to_read_groups_may_be_an_axis():
    along = pl.axis(way=["rows", "crossbars", "best"])
    ds = evaluated(replace(SMALL, scale_group=128), with_field(PIM_LLM, "pim.groups", along)).latency_s
    for way in along.values:
        one = evaluated(replace(SMALL, scale_group=128), with_field(PIM_LLM, "pim.groups", str(way))).latency_s
        np.testing.assert_allclose(ds.sel(way=way), one, rtol=1e-12)


def test_scales_are_written_as_weights_are():
    plain, grouped = (evaluated(replace(SMALL, scale_group=group)) for group in (np.inf, 128))
    more = grouped.program_j.sum("component") / plain.program_j.sum("component")
    assert more.sel(op="q").item() == pytest.approx(1 + 16 / (2 * 128))  # 16 bits beside 128 pairs
    longer = grouped.program_s.sum("component") / plain.program_s.sum("component")
    assert longer.sel(op="q").item() == pytest.approx(1 + 16 / (2 * 128))


def test_single_cells_stand_beside_a_column_of_on_cells():
    bar = replace(TILE.crossbar, polarity=1, weight_bits=1)
    single = replace(TILE, crossbar=bar)
    pair, one = laid(256, 256, np.inf), laid(256, 256, np.inf, single)
    (time, joules, area), (time_pair, joules_pair, area_pair) = spent(one, single), spent(pair)
    assert time == time_pair
    assert joules["adc"] / joules_pair["adc"] == pytest.approx(129 / 128)
    assert area["adc"] / area_pair["adc"] == pytest.approx(129 / 128)
    assert joules["dac"] == joules_pair["dac"]
    assert costs.programming(256, 512, bar=bar, program_rows=1)["cells"] == 256 * (512 + 2)
    both = spent(laid(256, 256, 128, single), single)[1]
    assert both["adc"] == 2 * joules["adc"]  # the sum of each group's inputs is a conversion of its own


@pytest.mark.parametrize(("levels", "slices"), [(2, 1), (3, 1), (4, 1), (8, 2), (16, 3), (256, 7)])
def test_weights_of_more_values_take_slices(levels, slices):
    plain, more = (evaluated(replace(SMALL, levels=n)).energy_j.sel(component="adc").sum().item() for n in (3, levels))
    assert more == pytest.approx(slices * plain, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "system", "message"),
    [
        ({"scale_group": 96}, PIM_LLM, "scale_group is 96 for q; wanted a divisor of its 2048 inputs, or as many"),
        ({"scale_group": 3072}, PIM_LLM, "scale_group is 3072 for ff2; wanted a divisor of its 8192 inputs"),
        ({"scale_group": 128}, with_field(PIM_LLM, "pim.tile.rescaler", None), "tile-2x2 has no rescaler; wanted one"),
    ],
)
def test_groups_that_cannot_be_read_are_refused(changes, system, message):
    with pytest.raises(BadInput, match=message):
        evaluated(replace(SMALL, **changes), system)


@pytest.fixture(scope="module")
def by_group():
    return scales.by_group(model=SMALL, context_len=128)


def test_the_analysis_of_scales_is_what_an_evaluation_says(by_group):
    system = with_fields(PIM_LLM, {"pim.groups": "crossbars", "pim.tile.crossbar.adc.bits": 8})
    for counted in scales.CONVENTIONS:
        one = evaluated(replace(SMALL, scale_group=64), system, conventions=counted)
        here = by_group.sel(conventions=counted, scale_group=64, way="crossbars", converter="the same")
        for name in ("latency_s", "energy_j", "area_m2", "tiles"):
            assert here[name].item() == pytest.approx(one[name].sum().item(), rel=1e-12)
        share = one.energy_j.sel(component="rescale").sum() / one.energy_j.sum()
        assert here.rescale_energy_share.item() == pytest.approx(share.item(), rel=1e-9)
    assert not set(by_group.data_vars) - set(VARIABLES)


def test_conversions_are_those_of_every_pass_column_and_group(by_group):
    """8 passes, a conversion for each column of each crossbar, more where a group leaves a crossbar more than one."""
    corrected = scales.by_group(model=SMALL, context_len=128, conventions=["corrected"]).squeeze("conventions")
    each = sum(p.k / 256 * p.n * p.calls for p in products(SMALL, 128) if p.kind == "projection")
    for way in scales.WAYS:
        found = corrected.conversions.sel(way=way, converter="the same")
        np.testing.assert_allclose(found, 8 * each * np.array([1, 1, 2, 4, 8]), rtol=1e-12)
    assert np.allclose(
        corrected.conversions.sel(converter="fewer bits"), corrected.conversions.sel(converter="the same")
    )


def test_fewer_bits_go_with_fewer_rows_and_save_energy(by_group):
    assert by_group.converter_bits.sel(converter="the same").values.tolist() == [8] * 5
    assert by_group.converter_bits.sel(converter="fewer bits").values.tolist() == [8, 8, 7, 6, 5]
    assert by_group.lossless_bits.values.tolist() == [10, 10, 9, 8, 7]
    same, fewer = (by_group.sel(converter=name) for name in scales.CONVERTERS)
    assert bool((fewer.energy_j <= same.energy_j).all())
    assert np.array_equal(fewer.energy_j[:, :2], same.energy_j[:, :2])


def test_a_machine_without_crossbars_reads_no_groups():
    with pytest.raises(BadInput, match="tpu-llm has no crossbars; wanted a system with a pim"):
        scales.by_group(model=SMALL, system="tpu-llm")
