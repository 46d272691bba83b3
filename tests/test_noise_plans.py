"""Plans of noise studies: components against the analysis of variance, allotments against the closed form, nested trials."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_noise_intervals import PARTS, trials
from test_noise_study import FEW, MODELS, PROSE

from pimllm_lib.analog.noise import study as noise_study
from pimllm_lib.analog.noise.intervals import half
from pimllm_lib.analog.noise.planning import Cost, Curve, Design, Parts, allotted, parts
from pimllm_lib.analog.noise.study import BLOCKS
from pimllm_lib.cli.main import main
from pimllm_lib.core.errors import BadInput, UnknownName

SIZES = ("model", "chip", "text", "both", "rest")


def by_analysis_of_variance(found):
    """Return components of trials that every chip reads, from mean squares: models, chips within, text, both, rest."""
    models, chips, blocks = found.shape
    whole, of_model, of_chip = found.mean(), found.mean(axis=(1, 2)), found.mean(axis=2)
    of_text, of_both = found.mean(axis=(0, 1)), found.mean(axis=1)
    left = found - of_chip[:, :, None] - of_both[:, None] + of_model[:, None, None]
    rest = np.square(left).sum() / (models * (chips - 1) * (blocks - 1))
    both = chips * np.square(of_both - of_model[:, None] - of_text + whole).sum() / ((models - 1) * (blocks - 1))
    chip = blocks * np.square(of_chip - of_model[:, None]).sum() / (models * (chips - 1))
    text, model = models * chips * of_text.var(ddof=1), chips * blocks * of_model.var(ddof=1)
    return np.array([
        (model - both - chip + rest) / (chips * blocks), (chip - rest) / blocks, (text - both) / (models * chips),
        (both - rest) / chips, rest,
    ])  # fmt: skip


def test_components_of_balanced_trials_are_those_of_the_analysis_of_variance():
    for seed in range(5):
        found = trials(1, 4, (2, 1.5, 1.2, 1, 1), 3, False, np.random.default_rng(seed))[0]
        want = by_analysis_of_variance(found)
        if (want > 0).all():
            of = parts(found, 2)
            np.testing.assert_allclose([getattr(of, name) for name in SIZES], want * [1, 1, 2, 2, 2])


@pytest.mark.parametrize("design", ["crossed", "nested", "holes"])
def test_components_are_found_in_any_design(design):
    rng, want = np.random.default_rng(1), np.array([1, 0.8, 0.5, 0.6, 1.2])
    every = trials(150, 6, np.sqrt(want), 4, design == "nested", rng)
    if design == "holes":
        every[:, 2:, 1:, 8:] = np.nan
    found = np.array([[getattr(parts(one, 1), name) for name in SIZES] for one in every]).mean(axis=0)
    if design == "nested":  # no two chips of a model read one block: the rest counts with model and text
        want = np.array([1, 0.8, 0.5, 1.8, 0])
    np.testing.assert_allclose(found, want, rtol=0.15, atol=1e-9)


def test_what_cannot_be_told_apart_counts_as_the_first():
    alone = parts(np.arange(12.0).reshape(3, 1, 4), 2)
    assert (alone.chip, alone.rest) == (0, 0)
    one = parts(np.random.default_rng(0).standard_normal((1, 3, 8)), 1)
    assert (one.model, one.both) == (0, 0)
    assert parts(np.full((2, 2, 2), 0.5), 1) == Parts(0.5, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("models", [3, 10])
@pytest.mark.parametrize(("chips", "nested"), [(10, False), (4, True), (11, True)])
def test_a_plan_expects_the_intervals_that_come_out(models, chips, nested):
    for name in ("variation", "read noise", "4 bits"):
        squares = np.square(PARTS[name])
        of = Parts(0, *map(float, squares[[0, 1]]), *map(float, squares[[2, 3, 4]] * 8))  # a block has eight windows
        found = trials(400, models, PARTS[name], chips, nested, np.random.default_rng(0))
        came = np.sqrt(np.square(half(np.nanmean(found, axis=2))).mean())
        assert Design(models, chips, 8 * BLOCKS, nested=nested).half(of) == pytest.approx(came, rel=0.08)


def test_of_one_model_a_plan_expects_the_interval_of_its_chips_and_text():
    for chips, nested in ((4, False), (8, True), (1, True)):
        found = trials(400, 1, (0, 1, 0.5, 0, 0.7), chips, nested, np.random.default_rng(0))[:, 0]
        tables = found if not nested or chips == 1 else np.nanmean(found, axis=2)[:, None]
        came = np.sqrt(np.square(half(tables)).mean())
        of = Parts(0, 0, 1.0 * (chips > 1 or nested), 0.25, 0, 0.49)
        of = replace(of, chip=0.0) if chips == 1 else of  # of a chip that is alone nothing shows
        assert Design(1, chips, BLOCKS, nested=nested).half(of) == pytest.approx(came, rel=0.12)


def cochran(of, cost, models, variance):
    """Return the least seconds for a variance of the mean, chips and windows being any numbers: see `planning`."""
    rest = models * of.text + of.both + of.rest
    spread = np.sqrt(of.chip * cost.chip_s) + np.sqrt(rest * cost.window_s)
    return models * spread**2 / (models * variance - of.model)


@pytest.mark.parametrize("chip_s", [0.01, 0.3, 3])
@pytest.mark.parametrize("name", ["variation", "chips"])
def test_an_allotment_takes_hardly_longer_than_the_closed_form(name, chip_s):
    squares = np.square(PARTS[name])
    of = Parts(0, *map(float, squares[[0, 1]]), *map(float, squares[[2, 3, 4]] * 16))
    curve = Curve([of], Cost(chip_s, 0.02), Design(10, 10, 256, nested=False))
    for seconds in (60, 200):
        (design,) = allotted(
            {"a": curve}, models=10, windows=range(16, 4097, 16), seconds=seconds, drawn=["a"]
        ).values()
        assert curve.seconds(design) <= seconds
        rest = (of.both + of.rest) / design.windows
        shares = [len(part) / design.blocks for part in np.array_split(np.arange(design.blocks), design.chips)]
        variance = (of.model + of.chip * np.square(shares).sum() + rest) / 10 + of.text / design.windows
        least = cochran(of, curve.cost, 10, variance)
        assert least * 0.999 <= curve.seconds(design)
        if 1 < design.chips < BLOCKS:  # where no whole number of chips is a limit
            assert curve.seconds(design) <= 1.1 * least


def test_a_study_is_allotted_so_that_its_worst_interval_gains_most():
    few = Curve([Parts(0, 0, 1e-4, 1e-3, 0, 1e-2)], Cost(0.1, 0.01), Design(3, 10, 256, nested=False))
    many = replace(few, cases=[Parts(0, 1e-4, 0, 1e-3, 0, 1e-4, drawn=False)])
    curves, given = {"few": few, "many": many}, {"models": 10, "windows": range(16, 1025, 16), "drawn": ["few"]}
    seconds = sum(float(curve.seconds(curve.design)) for curve in curves.values())
    worst = []
    for share in (1, 0.5, 0.25):
        plan = allotted(curves, seconds=share * seconds, **given)
        assert plan["many"].chips == 1
        assert sum(curves[name].seconds(design) for name, design in plan.items()) <= share * seconds
        assert len({design.windows / design.blocks for design in plan.values()}) == 1  # one text, some blocks left out
        worst.append(max(float(curves[name].ratio(design)) for name, design in plan.items()))
    assert worst == sorted(worst)
    assert worst[0] < 0.6  # ten models in the place of three, and no block read by ten chips
    with pytest.raises(BadInput, match=r"wanted at least .* for 10 models"):
        allotted(curves, seconds=0.1, **given)


def spec(folder, curves, **noise):
    (folder / "prose.txt").write_text(PROSE * 4)
    given = {"checkpoints": MODELS, "text": str(folder / "prose.txt"), "windows": 16, "device_seeds": 2} | noise
    return {"name": "tiny", "noise": given, "curves": curves}


VARIATION = {"exact": {"products": "exact"}, "variation": {"field": "devices.variation", "values": [0.3]}}


@pytest.mark.slow
def test_nested_a_chip_reads_its_own_blocks_as_it_reads_them_where_it_reads_all(tmp_path):
    fewer = VARIATION | {"half": {"field": "devices.variation", "values": [0.3], "windows": 8}}
    found = {}
    for design in noise_study.DESIGNS:
        study = noise_study.of(spec(tmp_path, fewer, design=design))
        chunks = [chunk for chunk in study.space.chunks() if study.space.labels(chunk)["training_seed"] == [0]]
        found[design] = [noise_study.compute(study, chunk).held_out_loss.values[0, 0] for chunk in chunks]
        once = noise_study.compute(study, chunks[1], chips=1).held_out_loss.values[0, 0]
        np.testing.assert_array_equal(once[0], found[design][1][0])
        assert np.isnan(once[1]).all()
    (_, whole, half_of), (exact, nested, less) = found["crossed"], found["nested"]
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(nested[0, :8], whole[0, :8], rtol=1e-6)
    np.testing.assert_allclose(nested[1, 8:], whole[1, 8:], rtol=1e-6)
    assert np.isnan(nested[0, 8:]).all()
    assert np.isnan(nested[1, :8]).all()
    assert np.isfinite(exact[0]).all()  # one chip stands for all, and reads everything
    assert np.isfinite(half_of).any(axis=0).sum() == np.isfinite(less).any(axis=0).sum() == 8


def test_designs_that_cannot_be_are_refused(tmp_path):
    curve = {"field": "devices.variation", "values": [0.3]}
    for noise, own, error, match in (
        ({"design": "square"}, {}, UnknownName, "'square'"),
        ({"design": "nested", "device_seeds": 17}, {}, BadInput, "17; wanted at most 16: nested, a chip"),
        ({}, {"device_seeds": 3}, BadInput, "device_seeds of a is 3; wanted at most the study's 2"),
        ({"windows": 32}, {"windows": 5}, BadInput, r"windows of a is 5; wanted at most 32.* whole blocks of 2"),
        ({}, {"windows": 0}, BadInput, "windows is 0; wanted a whole number of at least 1"),
    ):
        with pytest.raises(error, match=match):
            noise_study.of(spec(tmp_path, VARIATION | {"a": curve | own}, **noise))


def a_file(folder, curves=FEW):
    (folder / "prose.txt").write_text(PROSE * 4)
    noise = {"checkpoints": MODELS, "text": str(folder / "prose.txt"), "windows": 16, "device_seeds": 4}
    path = folder / "tiny.yaml"
    path.write_text(f"name: tiny\nnoise: {json.dumps(noise)}\ncurves:{curves}")
    return path


@pytest.mark.slow
def test_a_plan_of_a_study_without_an_archive_comes_from_a_pilot(tmp_path, capsys):
    path = a_file(tmp_path, FEW)
    assert main(["sweep", str(path), "--plan", "--models", "10", "--minutes", "9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["variances"] == "of a pilot (models 2, chips 2, windows 32)"
    assert found["minutes"] <= 9
    (row,) = found["rows"]
    assert row["curve"] == "variation"
    assert 0 < row["half"] < row["half_now"]
    noise, less = found["noise"], found["curves"]
    assert (found["models"], noise["design"], noise["windows"] % BLOCKS) == (10, "nested", 0)
    given = spec(tmp_path, VARIATION, **noise)["noise"]
    study = noise_study.of({"noise": given, "curves": {"exact": {"products": "exact"}, "variation": {
        "field": "devices.variation", "values": [0.3], **less.get("variation", {})}}})  # fmt: skip
    assert study.design == "nested"


def test_what_a_plan_cannot_be_of_is_refused(tmp_path, capsys):
    path = a_file(tmp_path)
    (tmp_path / "prose.txt").write_text(PROSE[:1500])
    few = tmp_path / "few.yaml"
    few.write_text("axes: {system.array.rate_hz: [1.0e+8, 2.0e+8]}\n")
    for args, said in (
        (["--plan"], "windows of the text is 10; wanted at least 16, for a plan"),
        (["--check", "--models", "3"], "--models stands without --plan; wanted both"),
        (["--plan", "--minutes", "0"], "got '0'; wanted a whole number from 1"),
    ):
        assert main(["sweep", str(path), *args]) == 2
        assert said in capsys.readouterr().err
    assert main(["sweep", str(few), "--plan"]) == 2
    assert "few has no curves; wanted a noise study to plan" in capsys.readouterr().err
