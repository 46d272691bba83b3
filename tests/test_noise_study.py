"""Noise studies: cases as a table says them, chips that differ where they should, thresholds that are known beforehand."""

import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import xarray as xr
from conftest import checkout
from hypothesis import given, settings
from hypothesis import strategies as st

from pimllm_lib import catalog
from pimllm_lib.analog.crossbar import ratios
from pimllm_lib.analog.crossbar.cells import program, tiles
from pimllm_lib.analog.crossbar.product import multiply
from pimllm_lib.analog.crossbar.readout import pulse_weights, pulses
from pimllm_lib.analog.lm import checkpoint, recipes, trained
from pimllm_lib.analog.noise import law, results, thresholds
from pimllm_lib.analog.noise import study as noise_study
from pimllm_lib.analog.noise.cases import cases, noise_to_signal, prepared, ranges
from pimllm_lib.archive import agreement, dataset
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput, UnknownName
from pimllm_lib.hardware import Devices, Readout
from pimllm_lib.studies import folder as studies
from pimllm_lib.studies import noise_runs, study_file

BAR = catalog.part("crossbar-256")
PROSE = "".join(f"Line {n} of {n * n} says nothing that line {n - 1} did not.\n" for n in range(40))
MODELS = ["docstrings-0", "docstrings-1"]
CURVES = """
  exact: {products: exact}
  variation: {field: devices.variation, values: [0.3, 0]}
  no crossbars: {products: zeroed}
  bits: {field: crossbar.adc.bits, values: [5], readout: readout-4-sigma, set: {crossbar.dac.bits: 8}}
"""
FEW = """
  exact: {products: exact}
  variation: {field: devices.variation, values: [0.3]}
"""


def a_study(folder, curves=CURVES, name="tiny", models=MODELS):
    """Write a study of some models, two chips and two windows of a text of a few kB."""
    (folder / "prose.txt").write_text(PROSE)
    noise = {"checkpoints": models, "text": str(folder / "prose.txt"), "windows": 2, "device_seeds": 2}
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\nnoise: {json.dumps(noise)}\ncurves:{curves}")
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return dataset.load(studies.run(study_file.read(a_study(folder)), folder / "out"))


@pytest.fixture(scope="module")
def model():
    return checkpoint.read(paths.CHECKPOINTS / "docstrings-0")


def one_case(**entry):
    (case,) = cases({"mine": entry})
    return case


def test_a_curve_is_a_case_for_each_value_in_the_order_of_the_file():
    first, second, only = cases(
        {
            "drift": {"field": "devices.drift_time", "values": [1000, "1.0e+1"],
                      "set": {"devices.drift": "5e-2", "crossbar.adc.bits": 6}, "readout": "readout-unit"},
            "exact": {"products": "exact"},
        }
    )  # fmt: skip
    assert [case.name for case in (first, second, only)] == ["drift 1000", "drift 1.0e+1", "exact"]
    assert [case.value for case in (first, second)] == [1000, 10]
    assert [case.devices.drift_time for case in (first, second)] == [1000, 10]
    assert {case.devices.drift for case in (first, second)} == {0.05}
    assert {case.crossbar.adc.bits for case in (first, second)} == {6}
    assert (first.readout.name, only.readout.name, only.setting) == ("readout-unit", "readout-ideal", "")
    assert np.isnan(only.value)
    assert (only.crossbar.adc.bits, only.devices.drift) == (BAR.adc.bits, 0)


def test_a_field_is_a_path_or_a_part_or_a_way():
    parts = cases({"of": {"field": "devices", "values": ["cells-mnsim", "cells-pcm"], "set": {"devices.drift": 0.5}}})
    assert [case.devices.variation for case in parts] == [0.01, catalog.part("cells-pcm").variation]
    assert {case.devices.drift for case in parts} == {0.5}  # what is set holds of each part
    assert all(np.isnan(case.value) for case in parts)
    ways = cases({"exact": {"field": "tuned", "values": ["", "noise"], "products": "exact"}})
    assert [(case.name, case.tuned, case.products) for case in ways] == [
        ("exact", "", "exact"), ("exact noise", "noise", "exact")
    ]  # fmt: skip
    assert [case.only for case in cases({"layer": {"field": "only", "values": ["3", "down"]}})] == ["3", "down"]
    assert [case.shared for case in cases({"range": {"field": "shared", "values": [True, False]}})] == [True, False]
    (curved,) = cases({"published": {"field": "devices.curve_siemens", "values": [[0.1, 0.2]]}})
    assert curved.devices.curve_siemens == (0.1, 0.2)


def test_a_curve_may_set_several_fields_to_each_of_its_values():
    both = {
        "field": ["devices.wire_ohm", "devices.word_ohm"],
        "values": [0.1, 0.2],
        "set": {"devices.pairs": "side-by-side"},
    }
    found = cases({"wire": both})
    assert [(case.name, case.value) for case in found] == [("wire 0.1", 0.1), ("wire 0.2", 0.2)]
    assert [(case.devices.wire_ohm, case.devices.word_ohm) for case in found] == [(0.1, 0.1), (0.2, 0.2)]
    assert not found[0].drawn


BITS = {"field": "crossbar.adc.bits", "values": [4]}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"vales": [1]}, "unknown key 'vales', did you mean 'values'"),
        ({"field": "devices.variation"}, "it has one of field and values; wanted both, or neither"),
        ({"values": [1]}, "it has one of field and values; wanted both, or neither"),
        ({"field": "devices.variation", "values": []}, r"values are \[\]; wanted a list of at least one"),
        ({"field": "devices.variation", "values": 0.1}, "values are 0.1; wanted a list of at least one"),
        ({"field": "devices.variation", "values": [-0.1]}, "Devices.variation is -0.1; wanted a finite number"),
        ({"field": "devices.variation", "values": ["much"]}, "Devices.variation is 'much'; wanted a finite number"),
        ({"field": "devices.variance", "values": [0.1]}, "'variance', did you mean 'variation'"),
        ({"field": ["devices.wire_ohm", "devices.words"], "values": [0.1]}, "unknown field of Devices 'words'"),
        ({"field": [], "values": [0.1]}, r"unknown part '\[\]'"),
        ({"field": "device.variation", "values": [0.1]}, "unknown part 'device', did you mean 'devices'"),
        ({"field": "devices", "values": ["cells-mnsm"]}, "unknown part 'cells-mnsm', did you mean 'cells-mnsim'"),
        ({"field": "devices", "values": ["crossbar-256"]}, "'crossbar-256' is a Crossbar; wanted a Devices"),
        ({"devices": 5}, "5 is a int; wanted a Devices"),
        ({**BITS, "set": {"device.variation": 0.1}}, "unknown part 'device', did you mean 'devices'"),
        ({**BITS, "set": {"readout.encodings": "x"}}, "'encodings', did you mean 'encoding'"),
        ({**BITS, "set": {"devices": "cells-pcm"}}, "unknown field of Devices ''"),
        ({**BITS, "set": ["devices.variation"]}, "wanted a table of path: value"),
        ({"products": "exactly"}, "unknown products 'exactly', did you mean 'exact'"),
        ({"products": ["exact"]}, r"unknown products \['exact'\]"),
        ({"only": 3}, "only is 3; wanted a name"),
        ({"field": "only", "values": [3]}, "only is 3; wanted a name"),
        ({"tuned": True}, "tuned is True; wanted a name"),
        ({"shared": "yes"}, "shared is 'yes'; wanted true or false"),
        ({"shared": 1}, "shared is 1; wanted true or false"),
        ([1], r"it is \[1\]; wanted a table"),
        (None, "it is None; wanted a table"),
    ],
)  # fmt: skip
def test_a_curve_that_cannot_be_is_one_line_that_names_it(entry, words):
    with pytest.raises(BadInput, match=f"curve 'mine': .*{words}") as caught:
        cases({"sound": {"products": "exact"}, "mine": entry})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("curves", [None, [], {}, "exact", 3])
def test_curves_are_a_table_of_at_least_one(curves):
    with pytest.raises(BadInput, match=r"curves are .*; wanted at least one, with field and values"):
        cases(curves)


@pytest.mark.parametrize(
    "curves",
    [{"a": {**BITS, "values": [4, 5, 4]}}, {"a": {**BITS, "values": ["4 4"]}, "a 4": BITS}, {"a 4": {}, "a": BITS}],
)
def test_two_cases_of_one_name_are_refused(curves):
    if curves["a"]["values"] == ["4 4"]:
        curves["a"] = {"field": "tuned", "values": ["4 4"]}
    with pytest.raises(BadInput, match=r"2 cases are named 'a 4.*'; wanted one"):
        cases(curves)


@pytest.mark.parametrize(
    ("path", "value"),
    [("devices.variation", 0.1), ("devices.curve_siemens", [0.1]), ("devices.stuck_off", 0.01),
     ("devices.stuck_on", 0.01), ("devices.read_noise", 0.1), ("devices.output_noise", 0.1),
     ("devices.drift_spread", 0.01), ("readout.dnl", 0.1)],
)  # fmt: skip
def test_chips_of_a_case_differ_where_something_is_drawn(path, value):
    assert one_case(set={path: value}).drawn
    assert not one_case(set={path: value}, products="exact").drawn
    assert not one_case(set={path: value}, products="zeroed").drawn


def test_chips_of_a_case_are_alike_where_nothing_is_drawn():
    plain = {"devices.wire_ohm": 1, "devices.drift": 0.05, "devices.drift_time": 10, "devices.spares": 8,
             "readout.inl": 1, "crossbar.adc.bits": 4}  # fmt: skip
    assert not one_case(set=plain).drawn


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        ({"window": 2}, "unknown key of noise 'window', did you mean 'windows'"),
        ([1], r"noise is \[1\]; wanted a table"),
        ({"checkpoints": "docstrings-0"}, "checkpoints are 'docstrings-0'; wanted a list of folders or names"),
        ({"checkpoints": []}, r"checkpoints are \[\]; wanted a list"),
        ({"checkpoints": [0]}, r"checkpoints are \[0\]; wanted a list"),
        ({"checkpoints": ["docstrings-0", "docstrings-0"]}, "wanted no name twice"),
        ({"checkpoints": ["docstring-0"]}, "unknown checkpoint 'docstring-0', did you mean 'docstrings-0'"),
        ({"checkpoints": [""]}, "unknown checkpoint|a path is empty"),
        ({"windows": 0}, "windows is 0; wanted a whole number of at least 1"),
        ({"windows": True}, "windows is True; wanted a whole number of at least 1"),
        ({"windows": 2.0}, "windows is 2.0; wanted a whole number of at least 1"),
        ({"device_seeds": 0}, "device_seeds is 0; wanted a whole number of at least 1"),
        ({"device_seeds": "2"}, "device_seeds is '2'; wanted a whole number of at least 1"),
        ({"text": 3}, "text is 3; wanted a name or a file"),
    ],
)
def test_a_noise_table_that_cannot_be_is_one_line(noise, words):
    with pytest.raises(BadInput, match=words) as caught:
        noise_study.of({"noise": noise, "curves": {"exact": {"products": "exact"}}})
    assert "\n" not in str(caught.value)


def test_a_tuned_version_that_is_not_there_is_named():
    with pytest.raises(UnknownName, match="unknown checkpoint 'docstrings-0-calm'"):
        noise_study.of({"curves": {"exact": {"products": "exact", "tuned": "calm"}}})


SEEDS = recipes.SEEDS["docstrings"]


@checkout
def test_what_nobody_says_is_all_models_of_docstrings():
    study = noise_study.of({"curves": {"exact": {"field": "tuned", "values": ["", "noise"], "products": "exact"}}})
    assert (study.checkpoints, study.text) == (tuple(f"docstrings-{seed}" for seed in SEEDS), "docstrings")
    assert [path.name for path in study.folders()] == [
        f"docstrings-{seed}{end}" for end in ("", "-noise") for seed in SEEDS
    ]
    assert study.space.size == 2 * len(SEEDS)


def a_bad_study(folder, noise, more=""):
    """Write a study of one model beside a text that is long enough and two that are not."""
    for name, size in (("prose", None), ("short", 200), ("shorter", 100)):
        (folder / f"{name}.txt").write_text(PROSE[:size])
    table = {"checkpoints": MODELS[:1], "text": "prose.txt", "windows": 1, "device_seeds": 1} | noise
    (folder / "bad.yaml").write_text(f"{more}noise: {json.dumps(table)}\ncurves: {{exact: {{products: exact}}}}\n")
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize(
    ("noise", "more", "words"),
    [
        ({"windows": 0}, "", "bad.yaml: windows is 0; wanted a whole number"),
        ({"text": "none.txt"}, "", "none.txt does not exist"),
        ({}, "model: opt-1.3b\n", "bad.yaml: model stands beside curves; wanted name, noise and curves alone"),
        ({}, "metrics: [x]\n", "bad.yaml: metrics stands beside curves"),
    ],
)
def test_a_bad_noise_study_is_one_line_and_status_2(noise, more, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = a_bad_study(tmp_path, noise, more)
    assert main(["sweep", "bad.yaml", "--check"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("pimllm: ")
    assert words in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        pytest.param(
            {"checkpoints": ["docstrings-full"]}, "weights in full precision; wanted ternary ones", marks=checkout
        ),
        ({"checkpoints": ["generated-0"]}, "has a vocabulary of 192 and no tokenizer.json"),
        ({"text": "short.txt"}, "short.txt has 200 tokens; wanted at least 256: a window to calibrate, one to try"),
        ({"text": "shorter.txt"}, "has 100 tokens; wanted at least"),
    ],
)
def test_a_model_or_text_that_cannot_be_tried_is_one_line(noise, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_bad_study(tmp_path, noise)
    assert main(["sweep", "bad.yaml", "--into", "out"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert not list(tmp_path.rglob("*.nc"))


def test_a_study_has_its_cases_in_the_order_of_the_file(found):
    assert dict(found.sizes) == {"case": 5, "training_seed": 2, "device_seed": 2, "text_block": 2, "matrix": 28}
    assert found.held_out_loss.dims == ("case", "training_seed", "device_seed", "text_block")
    assert found.case.values.tolist() == ["exact", "variation 0.3", "variation 0", "no crossbars", "bits 5"]
    assert found.curve.values.tolist() == ["exact", "variation", "variation", "no crossbars", "bits"]
    assert found.setting.values.tolist() == ["", "0.3", "0", "", "5"]
    np.testing.assert_array_equal(found.value, [np.nan, 0.3, 0, np.nan, 5])
    assert found.matrix.values[[0, -1]].tolist() == ["0.q", "3.down"]
    assert (found.attrs["checkpoints"], found.attrs["windows"]) == ("docstrings-0 docstrings-1", 2)


def test_a_chip_of_its_own_is_tried_only_where_chips_differ(found):
    tried = found.held_out_loss.notnull().all(("training_seed", "text_block"))
    none = found.held_out_loss.isnull().all(("training_seed", "text_block"))
    drawn = found.case == "variation 0.3"
    assert tried.isel(device_seed=0).all()
    assert (tried.isel(device_seed=1) == drawn).all()
    assert (none.isel(device_seed=1) == ~drawn).all()
    varied = found.held_out_loss.sel(case="variation 0.3")
    assert (varied.isel(device_seed=0) != varied.isel(device_seed=1)).all()


def test_no_departure_is_exact_to_the_last_bit_and_no_crossbars_are_all_noise(found):
    first = found.isel(device_seed=0)
    assert (first.held_out_loss.sel(case="variation 0") == first.held_out_loss.sel(case="exact")).all()
    assert (first.held_out_loss.sel(case="no crossbars") > first.held_out_loss.sel(case="exact") + 1).all()
    ratio = found.noise_to_signal
    assert (ratio.sel(case=["exact", "variation 0"]) == 0).all()
    assert (ratio.sel(case="no crossbars") == 1).all()
    assert (ratio.sel(case=["variation 0.3", "bits 5"]) > 0).all()


@pytest.mark.slow
def test_an_interrupted_study_and_one_elsewhere_give_the_same_bytes(found, tmp_path):
    path, one = a_study(tmp_path, FEW, "few", MODELS[:1]), tmp_path / "one"
    result = studies.run(study_file.read(path), one)
    made = result.read_bytes()
    kept, gone = sorted((one / "chunks").glob("*.nc"))
    when = kept.stat().st_mtime_ns
    gone.unlink()
    assert studies.run(study_file.read(path), one).read_bytes() == made
    assert kept.stat().st_mtime_ns == when
    assert studies.run(study_file.read(path), tmp_path / "two").read_bytes() == made
    ds = dataset.load(result)
    assert ds.case.values.tolist() == ["exact", "variation 0.3"]
    for name in ("held_out_loss", "noise_to_signal"):  # what else is in a study changes no case of it
        np.testing.assert_array_equal(ds[name], found[name].sel(case=ds.case)[:, :1])


def test_a_text_that_changed_is_another_study(tmp_path):
    path = a_study(tmp_path)
    before = study_file.read(path).identity
    (tmp_path / "prose.txt").write_text(PROSE[1:])
    after = study_file.read(path).identity
    assert before.split()[:2] == after.split()[:2]
    assert before.split()[2] != after.split()[2]
    assert len(before.split()) == len(after.split()) == 3


@pytest.mark.parametrize("only", ["3", "down", "3.down"])
def test_matrices_that_are_named_lie_on_crossbars_and_no_others(only, model):
    case = one_case(only=only, set={"devices.variation": 0.3})
    tokens = np.frombuffer(PROSE[:32].encode(), np.uint8).reshape(1, 32)
    found = noise_to_signal(case, model, tokens, prepared(case, {}, 0))
    named = {name for name in found if only == name or only in name.split(".")}
    assert len(found) == 28
    assert len(named) == {"3": 7, "down": 4, "3.down": 1}[only]
    assert {name for name, ratio in found.items() if ratio != 0} == named


def test_a_shared_range_is_the_largest_that_any_matrix_needs(model):
    tokens = np.frombuffer(PROSE[:64].encode(), np.uint8).reshape(2, 32)
    own = ranges(one_case(readout="readout-4-sigma"), model, tokens)
    shared = ranges(one_case(readout="readout-4-sigma", shared=True), model, tokens)
    assert len(set(own.values())) == 28
    assert shared == dict.fromkeys(own, max(own.values()))
    assert ranges(one_case(shared=True), model, tokens) == {}


SMALL = replace(BAR, rows=32, cols=24)
COLUMNS = Readout(name="columns", sensing="column")


def held(seed, shape=(80, 60), **fields):
    """Return what both sides of pairs hold in crossbars of 32 by 24, and the ideal of it."""
    weights = np.random.default_rng(seed).integers(-1, 2, shape).astype(np.int8)
    both = [Devices(name="devices", **fields), Devices(name="ideal")]
    made = [program(weights, crossbar=SMALL, devices=devices, readout=COLUMNS, seed=seed) for devices in both]
    return tuple([line.weights for line in on.lines] for on in made)


def wrong(seed, **fields):
    """Count the cells of each tile and side that hold another value than asked for."""
    got, asked = held(seed, **fields)
    return np.array(
        [
            [np.sum(np.abs(one[tile] - other[tile]) > 1e-6) for _, _, tile in tiles(one.shape, SMALL)]
            for one, other in zip(got, asked, strict=True)
        ]
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), spares=st.integers(1, 40), off=st.floats(0, 0.5), on=st.floats(0, 0.5),
)  # fmt: skip
def test_spare_columns_never_make_a_cell_more_of_a_tile_wrong(seed, spares, off, on):
    plain = wrong(seed, stuck_off=off, stuck_on=on)
    assert (wrong(seed, stuck_off=off, stuck_on=on, spares=spares) <= plain).all()


def test_no_spares_change_nothing_and_spares_change_nothing_where_no_cell_is_stuck():
    for fields, more in (
        ({"stuck_off": 0.05, "stuck_on": 0.02, "variation": 0.2}, {"spares": 0}),
        ({"variation": 0.2, "drift": 0.05, "drift_time": 10.0}, {"spares": 8}),
        ({}, {"spares": 8}),
    ):
        for one, other in zip(held(1, **fields)[0], held(1, **fields, **more)[0], strict=True):
            assert np.array_equal(one, other)


def test_as_many_spares_as_columns_leave_few_cells_wrong():
    rates = {"stuck_off": 0.02, "stuck_on": 0.02}
    none, some, many = (sum(wrong(seed, **rates, spares=spares).sum() for seed in range(8)) for spares in (0, 4, 24))
    cells = 8 * 2 * 80 * 60
    assert none == pytest.approx(0.02 * cells, rel=0.1)  # each cell is wrong by one of the two rates
    assert many < some < none
    assert many < none / 3


def test_a_cell_stuck_where_it_is_wanted_takes_no_spare():
    weights = np.ones((32, 24), np.int8)  # every cell of one side on, every cell of the other off
    for rates in ({"stuck_on": 0.3}, {"stuck_off": 0.3}):
        lines = [
            program(weights, crossbar=SMALL, devices=Devices(name="d", spares=n, **rates), readout=COLUMNS).lines
            for n in (0, 24)
        ]
        fine, hurt = (0, 1) if "stuck_on" in rates else (1, 0)
        assert np.array_equal(lines[0][fine].weights, lines[1][fine].weights)
        assert not np.array_equal(lines[0][hurt].weights, lines[1][hurt].weights)


@pytest.mark.parametrize(
    ("spares", "words"),
    [(1.5, "Devices.spares is 1.5; wanted a whole number of columns"), (-1, "Devices.spares is -1; wanted a finite"),
     (True, "Devices.spares is True; wanted"), (float("inf"), "Devices.spares is inf; wanted a finite number"),
     ("8", "Devices.spares is '8'; wanted"), (np.array([1, 2]), "wanted one value, no axis")],
)  # fmt: skip
def test_spares_are_a_whole_number_of_columns(spares, words):
    with pytest.raises(BadInput, match=words):
        Devices(name="devices", spares=spares)


WAYS = {"sign-magnitude": ("sign-magnitude", 1), "two's complement": ("twos-complement", 1),
        "one pass": ("twos-complement", 8), "passes of 3 bits": ("sign-magnitude", 3)}  # fmt: skip


def reading(way):
    encoding, bits = WAYS[way]
    return replace(BAR, dac=replace(BAR.dac, bits=bits)), Readout(name="ideal", encoding=encoding)


def test_the_noise_of_all_reads_at_once_has_the_variance_of_the_sum_over_passes():
    rng = np.random.default_rng(5)
    weights, x = rng.integers(-1, 2, (300, 40)).astype(np.int8), rng.integers(-127, 128, (40, 300))
    off = BAR.cell.low_ohm / BAR.cell.high_ohm
    behind = sum(np.where(side, 1, off) ** 2 for side in (weights > 0, weights < 0)) / (1 - off) ** 2
    draws = []
    for way in WAYS:
        bar, readout = reading(way)
        on = program(weights, crossbar=bar, devices=Devices(name="d", read_noise=0.3), readout=readout)
        noise = multiply(on, x, engine="folded") - x @ weights.astype(int)
        passes = zip(
            pulse_weights(8, bar.dac.bits, readout.encoding), pulses(x, 8, bar.dac.bits, readout.encoding), strict=True
        )
        variance = 0.3**2 * sum(s**2 * (d.astype(float) ** 2 @ behind) for s, d in passes)
        draws.append(noise / np.sqrt(variance))
    assert np.std(draws[0]) == pytest.approx(1, rel=0.05)
    for draw in draws[1:]:  # a draw is keyed by its place, so ways differ by their variance alone
        np.testing.assert_allclose(draw, draws[0], atol=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_read_noise_makes_the_ratio_its_closed_form_says(way):
    bar, readout = reading(way)
    devices, probe = Devices(name="d", read_noise=0.1), ratios.Probe.drawn(512, 0.67, outputs=128, tokens=128)
    gain, off = ratios.pulse_power(probe.x, bar, readout), bar.cell.low_ohm / bar.cell.high_ohm
    want = ratios.reads(devices, gain, density=0.67, off=off)
    measured = np.mean([probe.ratio(probe.run(bar, devices, readout, seed=seed)) for seed in range(3)])
    assert measured == pytest.approx(want, rel=0.05)


def columns(*rises):
    return np.array(rises, dtype=float)[:, None]


@given(power=st.floats(0.5, 4), size=st.floats(0.1, 10), level=st.floats(0.02, 0.2))
def test_a_power_law_is_crossed_where_it_is(power, size, level):
    at = np.geomspace(1e-3, 1e3, 7)
    want = (level / size) ** (1 / power)
    rise = (size * at**power)[:, None]
    found = thresholds.crossing(at, rise, level).item()
    assert found == pytest.approx(want if at[0] < want < at[-1] else 0 if want <= at[0] else np.inf, rel=1e-6)


def test_a_crossing_beyond_the_settings_is_nought_or_infinite():
    at = np.array([0.1, 0.2, 0.4])
    assert thresholds.crossing(at, columns(0.2, 0.3, 0.4), 0.1).tolist() == [0]
    assert thresholds.crossing(at, columns(0.01, 0.02, 0.04), 0.1).tolist() == [np.inf]
    assert thresholds.crossing(at, columns(-0.01, -0.02, 0), 0.1).tolist() == [np.inf]
    assert thresholds.crossing(at, columns(0.01, 0.1, 0.4), 0.1) == pytest.approx(0.2)  # met, then exceeded
    assert thresholds.crossing(at, columns(0.01, 0.05, 0.1), 0.1).tolist() == [np.inf]  # met, not exceeded
    assert thresholds.crossing(at, columns(0.01, 0.4, 0.05), 0.2) < 0.2  # the first of several
    both = np.hstack([columns(0.2, 0.3, 0.4), columns(0.01, 0.02, 0.04), columns(0.05, 0.1, 0.4)])
    assert thresholds.crossing(at, both, 0.1) == pytest.approx([0, np.inf, 0.2])


def test_a_fall_before_the_crossing_leaves_the_threshold_open():
    found = thresholds.crossing(np.array([0.1, 0.2, 0.4]), columns(-0.02, -0.01, 0.3), 0.1).item()
    assert np.isnan(found)


def test_the_fewest_bits_are_those_from_which_on_the_rise_stays_small():
    at = np.array([4.0, 5, 6, 7])
    rises = {0: (0.01, 0.02, 0, 0), 5: (1, 0.1, 0.01, 0), 6: (0.5, 0.2, 0.1, 0.05), 7: (0.05, 0.01, 0.3, 0.02),
             np.inf: (0.01, 0.01, 0.01, 0.2)}  # fmt: skip
    found = thresholds.fewest(at, np.hstack([columns(*rise) for rise in rises.values()]), 0.1)
    assert found.tolist() == list(rises)


DIMS = ("case", "training_seed", "device_seed", "text_block")


def synthetic(spec, loss, *, one_chip=()):
    """Return a study of given losses by case name; those of some are of one chip alone."""
    listed = cases(spec["curves"])
    values = np.stack([np.broadcast_to(loss[case.name], (3, 10, 16)) for case in listed]).astype(float)
    for name in one_chip:
        values[[case.name for case in listed].index(name), :, 1:] = np.nan
    coords = {"case": [case.name for case in listed], "training_seed": np.arange(3), "device_seed": np.arange(10)}
    coords |= {key: ("case", [getattr(case, key) for case in listed]) for key in ("curve", "setting", "value")}
    ratio = np.stack([np.full((3, 2), case.devices.variation**2) for case in listed])
    data = {"held_out_loss": (DIMS, values), "noise_to_signal": (("case", "training_seed", "matrix"), ratio)}
    return xr.Dataset(data, coords=coords | {"matrix": ["0.q", "0.k"]})


SIZES, BIT = [0.05, 0.1, 0.2, 0.4], [3, 4, 5, 6]
SPEC = {
    "curves": {
        "exact": {"field": "tuned", "values": ["", "noise"], "products": "exact"},
        "variation": {"field": "devices.variation", "values": SIZES},
        "tuned": {"field": "tuned", "values": ["noise"], "devices": "cells-mnsim"},
        "bits": {"field": "crossbar.adc.bits", "values": BIT, "readout": "readout-4-sigma"},
        "no crossbars": {"products": "zeroed"},
    }
}


def power_law(seed=None):
    """Return a study whose perplexity rises by 2 v^2, and fourfold for each bit less, with scatter where a seed is given."""
    rng = np.random.default_rng(seed)
    base = 1.3 + 0.1 * rng.standard_normal((3, 1, 1)) + 0.2 * rng.standard_normal((1, 1, 16))
    scatter = 0 if seed is None else 0.05 * rng.standard_normal((3, 1, 1)) + 0.2 * rng.standard_normal((3, 10, 1))
    loss = {"exact": base, "exact noise": base + 0.03, "tuned noise": base + 0.05, "no crossbars": base + 3}
    loss |= {f"variation {v}": base + np.log1p(2 * v**2) * (1 + scatter) for v in SIZES}
    loss |= {f"bits {bits}": base + np.log1p(0.6 * 4.0 ** (3 - bits)) for bits in BIT}
    return synthetic(SPEC, loss, one_chip=["exact", "exact noise", "no crossbars", *(f"bits {bits}" for bits in BIT)])


def test_a_summary_gives_each_rise_against_exact_products_of_the_same_model():
    found = results.summary(power_law(), SPEC)
    assert found.case.values.tolist() == [
        *(f"variation {v}" for v in SIZES), "tuned noise", *(f"bits {bits}" for bits in BIT), "no crossbars"
    ]  # fmt: skip
    at = found.perplexity_rise
    np.testing.assert_allclose(at[:4], 2 * np.square(SIZES))
    np.testing.assert_allclose(at[5:9], [0.6, 0.15, 0.0375, 0.009375])
    assert at.sel(case="tuned noise").item() == pytest.approx(np.expm1(0.02))  # over its own exact products
    assert at.sel(case="no crossbars").item() == pytest.approx(np.expm1(3))
    for end in ("low", "high"):
        np.testing.assert_allclose(found[f"perplexity_rise_{end}"], at, rtol=1e-6)
    assert found.trials.values.tolist() == [30] * 5 + [3] * 5
    np.testing.assert_allclose(found.noise_to_signal.sel(matrix="0.k")[:4], np.square(SIZES))
    assert found.curve.values.tolist() == ["variation"] * 4 + ["tuned"] + ["bits"] * 4 + ["no crossbars"]
    np.testing.assert_array_equal(found.value[:4], SIZES)


def test_a_threshold_of_a_known_law_is_found_and_lies_within_its_interval():
    plain = thresholds.thresholds(power_law(), SPEC)
    assert plain.curve_name.values.tolist() == ["variation", "bits"]
    assert plain.level.values.tolist() == [0.01, 0.1]
    want = [np.sqrt(0.01 / 2), np.sqrt(0.1 / 2)]
    for name in ("threshold", "threshold_low", "threshold_high"):
        np.testing.assert_allclose(plain[name].sel(curve_name="variation"), want, rtol=1e-3)
        assert plain[name].sel(curve_name="bits").values.tolist() == [6, 5]
    assert plain.least_setting.values.tolist() == [0.05, 3]
    assert plain.most_setting.values.tolist() == [0.4, 6]
    for seed in range(3):
        found = thresholds.thresholds(power_law(seed), SPEC).sel(curve_name="variation")
        assert ((found.threshold_low < want) & (found.threshold_high > want)).all()
        assert (found.threshold_low < found.threshold_high).all()
        np.testing.assert_allclose(found.threshold, want, rtol=0.1)


def test_joined_studies_keep_the_first_of_two_cases():
    first, second = results.summary(power_law(), SPEC), results.summary(power_law(1), SPEC)
    some = first.isel(case=slice(0, 3))
    both = results.joined([some, second])
    assert sorted(both.case.values) == sorted(second.case.values)
    assert (both.perplexity_rise.sel(case=some.case) == some.perplexity_rise).all()
    others = ~second.case.isin(some.case)
    assert (both.perplexity_rise[3:].values == second.perplexity_rise[others].values).all()


BASE = [name for name, recipe in recipes.recipes().items() if not recipe.start]
TUNED = [name for name, recipe in recipes.recipes().items() if recipe.start]


@pytest.mark.parametrize("name", BASE)
def test_later_training_left_the_fingerprints_of_the_first_as_they_were(name):
    record = json.loads((paths.CHECKPOINTS / name / trained.NAME).read_text())["recipe"]
    assert not {"start", "noise"} & set(record)
    digest = sha256(repr(sorted(record.items())).encode()).hexdigest()[:12]
    assert recipes.recipe(name).fingerprint() == digest


def test_tuned_recipes_say_what_they_begin_with_and_which_noise_they_get():
    assert sorted(TUNED) == sorted(f"docstrings-{seed}-{way}" for seed in SEEDS for way in ("control", "noise"))
    for name in TUNED:
        start, _, way = name.rpartition("-")
        recipe, said = recipes.recipe(name), recipes.recipe(name).described()
        assert (recipe.start, said["start"], recipe.seed) == (start, start, recipes.recipe(start).seed)
        assert said.get("noise", 0.0) == recipe.noise == {"control": 0, "noise": 0.3}[way]
        record = json.loads((paths.CHECKPOINTS / name / trained.NAME).read_text())["recipe"]
        assert (record["start"], record.get("noise", 0.0)) == (start, recipe.noise)
    prints = [recipe.fingerprint() for recipe in recipes.recipes().values()]
    assert len(set(prints)) == len(prints) == len(BASE) + len(TUNED)
    pair = [recipes.recipe(f"docstrings-0-{way}") for way in ("control", "noise")]
    both = [recipe.described() for recipe in pair]
    assert both[1].pop("noise") == 0.3
    assert json.dumps(both[0]) == json.dumps(both[1])  # nothing but the noise tells them apart


@checkout
def test_tuned_models_differ_from_their_start_and_from_each_other():
    for seed in SEEDS:
        three = [checkpoint.read(paths.CHECKPOINTS / f"docstrings-{seed}{end}") for end in ("", "-control", "-noise")]
        kept = [at.block(2).matrices["up"].values for at in three]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            share = np.mean(kept[one] != kept[other])
            assert 0 < share < 0.3  # gone on from one start, not trained anew: then two in three would differ


def test_a_threshold_behind_a_fall_is_said_to_lie_between_two_settings():
    loss = {case.name: 1.0 for case in cases(SPEC["curves"])}
    loss |= dict(zip((f"variation {size}" for size in SIZES), (0.99, 0.99, 1.05, 1.3), strict=True))
    at = thresholds.thresholds(synthetic(SPEC, loss), SPEC).sel(curve_name="variation", level=0.01)
    assert np.isnan(at.threshold)
    assert (float(at.threshold_low), float(at.threshold_high)) == pytest.approx((0.1, 0.2))


def test_kappa_is_the_mean_of_rise_over_ratio_and_families_leave_its_own_curve_out():
    ratio, rise = np.array([0.001, 0.01, 0.04, 0.02, 0.01]), np.array([0.001, 0.012, 0.06, 0.08, 0.03])
    curves = ["variation"] * 3 + ["4 sigma, one pass", "kind"]
    ds = xr.Dataset(
        {"perplexity_rise": ("case", np.expm1(rise)), "noise_to_signal": (("case", "matrix"), ratio[:, None])},
        coords={
            "case": list("abcde"),
            "curve": ("case", curves),
            "setting": ("case", list("abcdq")),
            "matrix": ["0.q"],
        },
    )
    found = ds.assign(law.law(ds))
    np.testing.assert_allclose(found.kappa, (1 + 1.2 + 1.5) / 3)
    np.testing.assert_allclose(found.law_rise[:4], float(found.kappa) * ratio[:4])
    np.testing.assert_allclose(found.kinds_rise[:4], 3 * ratio[:4])
    assert np.isnan(found.law_rise[4])
    ratios = law.families(found)
    np.testing.assert_allclose(ratios["converters"], [4])
    assert not len(ratios["cells that vary or are stuck"])


def test_models_of_ones_own_go_without_tuned_curves_and_layer_by_layer():
    found = noise_runs.specs(checkpoints=["generated-0"], text="book.txt", windows=3, device_seeds=2)
    fields = {str(curve.get("field")) for spec in found.values() for curve in spec["curves"].values()}
    assert "tuned" not in fields
    assert all(spec["curves"]["exact"] == {"products": "exact"} for spec in found.values())
    assert found["noise-matrices"]["curves"]["layer"]["values"] == ["0", "1", "2", "3"]
    sizes = {"checkpoints": ["generated-0"], "text": "book.txt", "windows": 3, "device_seeds": 2}
    assert found["noise-cells"]["noise"] == sizes
    assert found["noise-converters"]["noise"]["device_seeds"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    ["variation 0.4", "4 sigma, sign-magnitude 5", "variation, 4 bits 0.3", "cells, 3 bits cells-wan-1d"],
)
def test_a_trial_of_an_archived_study_comes_out_again(case):
    again = noise_runs.again(noise_runs.archived((*noise_runs.NAMES, noise_runs.KV)), [case])
    assert again.recomputed_loss.values == pytest.approx(again.archived_loss.values, rel=agreement.STUDIES)
