"""Sweeps: every point once, one result whoever evaluates it, fronts as brute force finds them, one line for bad input."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import pimllm_lib as pl
from benchmarks import front_0_7_0
from pimllm_lib.archive import dataset, diff
from pimllm_lib.archive.verify import schema_problems
from pimllm_lib.cli.main import main
from pimllm_lib.core import files
from pimllm_lib.core.parts import with_fields
from pimllm_lib.studies import folder, study_file
from pimllm_lib.sweep import points as sweep
from pimllm_lib.sweep.fronts import front
from pimllm_lib.sweep.pool import each, executor
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Axis, Range, Space
from pimllm_lib.sweep.stretches import Worker, cut

STUDY = """
model: [opt-1.3b, gpt2-355m]
context_len: [128, 1024]
axes:
  system.array.rate_hz: [1e8, 2e8, 5e8]
  system.array.rows: {low: 8, high: 32, law: integer, points: 3}
  crossbar: {fields: [system.pim.tile.crossbar.rows, system.pim.tile.crossbar.cols], values: [128, 256]}
  adc:
    fields: [system.pim.tile.crossbar.adc.bits, system.pim.tile.crossbar.adc.power_w]
    values: [[6, 1.26e-3], [8, 2e-3]]
    labels: [six, eight]
  conventions.overlap: [true, false]
metrics: [tokens_per_s, tokens_per_j, power_w, area_m2]
"""
OBJECTIVES = {"tokens_per_s": "max", "tokens_per_j": "max", "area_m2": "min"}
PARETO = f"reduce: {{kind: pareto, objectives: {json.dumps(OBJECTIVES)}}}\n"


@pytest.fixture
def study(tmp_path):
    """Write a study and return its path."""

    def write(text=STUDY, name="study.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def an_axis(name, values):
    return Axis(name, (f"system.array.{name}",), tuple((v,) for v in values), tuple(values))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 40))
def test_the_chunks_of_a_grid_hold_every_point_once_and_no_more_than_fit(sizes, chunk):
    space = Space(tuple(an_axis(f"x{i}", range(n)) for i, n in enumerate(sizes)), chunk=chunk)
    seen = np.zeros(sizes, dtype=int)
    for piece in space.chunks():
        assert piece.points <= chunk
        seen[tuple(slice(start, stop) for _, start, stop in piece.slices)] += 1
    assert (seen == 1).all()
    assert space.size == seen.size


@pytest.mark.parametrize("method", ["latin", "sobol"])
def test_a_sample_does_not_depend_on_how_it_is_cut(method):
    axes = (Range("a", ("system.array.rate_hz",), 1.0, 3.0), Range("b", ("model.n_layers",), 2, 5, "integer"))
    whole = Space(axes, method, points=32, seed=7)
    cut = replace(whole, chunk=8)
    for field, values in whole.values(next(whole.chunks())).items():
        pieces = xr.concat([cut.values(chunk)[field] for chunk in cut.chunks()], "sample")
        assert values.identical(pieces)
    layers = whole.values(next(whole.chunks()))["model.n_layers"]
    assert set(layers.values.tolist()) == {2, 3, 4, 5}


def test_laws_reach_both_ends_and_the_middle():
    assert Range("a", (), 1, 100, "log").at(np.array([0, 0.5, 1])) == pytest.approx([1, 10, 100])
    assert Range("a", (), 1, 3).at(np.array([0, 0.5, 1])) == pytest.approx([1, 2, 3])
    assert Range("a", (), 1, 3, "integer").at(np.array([0, 0.4, 0.99, 1])).tolist() == [1, 2, 3, 3]


def test_every_point_of_a_grid_is_what_evaluate_says_of_it(study, tmp_path):
    path = folder.run(study_file.read(study(STUDY + "chunk: 12\n")), tmp_path / "out")
    ds = dataset.load(path)
    assert dict(ds.sizes) == {"model": 2, "context_len": 2, "adc": 2, "array_rate_hz": 3, "array_rows": 3, "crossbar": 2,
                              "overlap": 2}  # fmt: skip
    from pimllm_lib.core.parts import with_field

    system = pl.catalog.systems["pim-llm"]
    for path, value in (("array.rate_hz", 2e8), ("array.rows", 32), ("pim.tile.crossbar.rows", 128),
                        ("pim.tile.crossbar.cols", 128), ("pim.tile.crossbar.adc.bits", 6),
                        ("pim.tile.crossbar.adc.power_w", 1.26e-3)):  # fmt: skip
        system = with_field(system, path, value)
    counting = replace(pl.catalog.preset("full-system"), name="mine", overlap=False)
    one = pl.evaluate(system=system, model="opt-1.3b", context_len=1024, conventions=counting)
    here = ds.sel(
        model="opt-1.3b", context_len=1024, adc="six", array_rate_hz=2e8, array_rows=32, crossbar=128, overlap="False"
    )
    assert 1 / float(here.tokens_per_s) == pytest.approx(one.latency_s.item(), rel=1e-12)
    assert 1 / float(here.tokens_per_j) == pytest.approx(one.energy_j.item(), rel=1e-12)
    assert float(here.area_m2) == pytest.approx(one.area_m2.item(), rel=1e-12)
    assert float(here.power_w) == pytest.approx(one.energy_j.item() / one.latency_s.item(), rel=1e-12)


def test_a_list_takes_its_points_in_step(study, tmp_path):
    axes = "axes:\n  system.array.rows: [8, 16, 32]\n  system.array.cols: [64, 32, 16]\n"
    text = "method: list\nmodel: opt-1.3b\nchunk: 2\n" + axes
    ds = dataset.load(folder.run(study_file.read(study(text)), tmp_path / "out"))
    assert ds.sizes["sample"] == 3
    tpu = pl.catalog.systems["pim-llm"]
    middle = replace(tpu, array=replace(tpu.array, rows=16, cols=32))
    one = pl.evaluate(system=middle, model="opt-1.3b", context_len=1024, conventions="full-system")
    assert 1 / ds.tokens_per_s.squeeze().values[1] == pytest.approx(one.latency_s.item(), rel=1e-12)


@settings(max_examples=200)
@given(st.integers(0, 400), st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([3, 1000]))
def test_the_front_is_what_brute_force_finds(points, objectives, seed, levels):
    costs = np.random.default_rng(seed).integers(0, levels, (points, objectives)).astype(float)
    found = front(costs)
    best = []
    for i, mine in enumerate(costs):
        better = ((costs <= mine).all(axis=1) & (costs < mine).any(axis=1)).any()
        twin = (costs[:i] == mine).all(axis=1).any()
        if not better and not twin:
            best.append(i)
    assert found.tolist() == best


@settings(max_examples=200)
@given(st.integers(0, 900), st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([2, 9, 10**6]), st.data())
def test_the_front_is_index_for_index_that_of_version_0_7_0(points, objectives, seed, levels, data):
    """With ties, twins, columns that are equal or opposite or constant, NaN, and one objective."""
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, levels, (points, objectives)) / 7
    for column in data.draw(st.sets(st.integers(1, 4))):
        if column < objectives:
            costs[:, column] = data.draw(st.sampled_from([costs[:, 0], -costs[:, 0], 1.0]))
    costs[rng.random(costs.shape) < data.draw(st.sampled_from([0, 0.01, 0.5]))] = np.nan
    assert front(costs).tolist() == front_0_7_0.front(costs).tolist()


@pytest.mark.parametrize("spread", [0.3, 0])
def test_a_front_of_thousands_is_that_of_version_0_7_0(spread):
    """On and below a sphere, where hardly a point dominates another: more than 16 bits of ranks, several blocks."""
    rng = np.random.default_rng(5)
    costs = np.abs(rng.normal(size=(70_000 if spread else 3000, 3)))
    costs = 1 - costs / np.linalg.norm(costs, axis=1, keepdims=True) * (1 - spread * rng.random((len(costs), 1)))
    assert front(costs).tolist() == front_0_7_0.front(costs).tolist()


def test_a_front_takes_infinite_costs():
    assert front(np.array([[np.inf, 0.0], [-np.inf, np.inf], [0.0, 0.0], [np.inf, 1.0]] * 99)).tolist() == [1, 2]


def test_the_front_of_fronts_is_the_front_and_nan_is_never_on_it():
    costs = np.random.default_rng(1).random((5000, 3))
    costs[::7, 1] = np.nan
    halves = [np.flatnonzero(np.arange(5000) % 2 == i) for i in (0, 1)]
    of_halves = np.concatenate([half[front(costs[half])] for half in halves])
    assert set(of_halves[front(costs[of_halves])]) == set(front(costs))
    assert not np.isnan(costs[front(costs)]).any()


@pytest.mark.parametrize(
    "reduce",
    [
        PARETO,
        "reduce: {kind: quantiles, quantiles: [0.1, 0.9]}\n",
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("reduce: {kind: top, count: 3, objectives: {tokens_per_j: max}}\n", marks=pytest.mark.slow),
    ],
)
def test_the_result_does_not_depend_on_chunks(reduce, study, tmp_path):
    made = []
    for name, chunk in (("one", 1000), ("many", 12)):
        plan = study_file.read(study(STUDY + reduce + f"chunk: {chunk}\n"))
        made.append(dataset.load(folder.run(plan, tmp_path / name)))
    one, many = (ds.to_dataframe().reset_index(drop="design" in ds.dims) for ds in made)
    keys = [str(name) for name in made[0].variables if made[0][name].dtype.kind == "U"] + sorted(OBJECTIVES)
    one, many = (frame.sort_values(keys, ignore_index=True)[one.columns] for frame in (one, many))
    pd.testing.assert_frame_equal(one, many, rtol=1e-12)  # sums of another chunk may round otherwise


def test_two_processes_give_the_bytes_of_one(study, tmp_path):
    plan = study_file.read(study(STUDY + PARETO + "chunk: 12\n"))
    one, two = (folder.run(plan, tmp_path / str(jobs), jobs=jobs).read_bytes() for jobs in (1, 2))
    assert one == two


def test_best_designs_are_the_best_of_each_model_and_context(study, tmp_path):
    everything = dataset.load(folder.run(study_file.read(study()), tmp_path / "all"))
    text = STUDY + "reduce: {kind: top, count: 2, objectives: {tokens_per_s: max}}\n"
    best = dataset.load(folder.run(study_file.read(study(text)), tmp_path / "best"))
    assert best.sizes["design"] == 2 * 4
    for (model, context), group in best.to_dataframe().groupby(["model", "context_len"]):
        whole = np.sort(everything.tokens_per_s.sel(model=model, context_len=context).values.ravel())
        assert sorted(group.tokens_per_s) == whole[-2:].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("reduce", [PARETO, "reduce: {kind: top, count: 3, objectives: {tokens_per_j: max}}\n"])
def test_designs_merged_as_they_come_are_those_of_all_chunks_together(reduce, study):
    plan = study_file.read(study(STUDY + reduce + "chunk: 1\n"))
    stretches = cut(plan.space, plan.reduction)
    assert [chunk for one in stretches for chunk in range(one.start, one.stop)] == list(range(plan.space.count))
    assert len(stretches) == 18  # of 4 chunks each
    together = plan.reduction.of_all([plan.work(chunk) for chunk in plan.space.chunks()])
    worker = Worker(plan.work, plan.space, plan.reduction)
    merged = plan.reduction.of_all([worker(stretch) for stretch in stretches])
    assert merged.drop_attrs(deep=False).identical(together.drop_attrs(deep=False))
    assert "conventions" not in merged.attrs


@pytest.mark.parametrize("chunks", [1, 2, 99, 1000])
def test_a_study_of_many_chunks_lies_in_few_files(chunks):
    space = Space((an_axis("rows", range(1, chunks + 1)),), chunk=1)
    merging, keeping = (cut(space, Reduction(kind)) for kind in ("top", "all"))
    assert len(merging) <= 3 * chunks**0.5 + 15
    assert len(keeping) == chunks == merging[-1].stop


@pytest.mark.adversity
@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_the_chunks_that_are_missing(study, tmp_path):
    path, into = study(STUDY + PARETO + "chunk: 2\n"), tmp_path / "out"
    program = [sys.executable, "-m", "pimllm_lib", "sweep", path, "--into", into]
    run = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    while not (into / "chunks" / "000003.nc").is_file():
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    done = {file.name: file.stat().st_mtime_ns for file in (into / "chunks").glob("0*.nc")}
    plan = study_file.read(path)
    assert 0 < len(done) < len(list(plan.space.chunks()))
    folder.run(plan, into)
    assert {name: (into / "chunks" / name).stat().st_mtime_ns for name in done} == done
    whole = folder.run(plan, tmp_path / "again")
    assert (into / "study.nc").read_bytes() == whole.read_bytes()


def test_no_more_items_are_under_way_than_the_window_holds():
    from concurrent.futures import ThreadPoolExecutor

    taken = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    with ThreadPoolExecutor(2) as pool:
        for count, (item, result) in enumerate(each(lambda x: x * x, items(), pool, window=4), 1):
            assert result == item * item
            assert len(taken) <= count + 7
    assert len(taken) == 50


@pytest.mark.slow
def test_a_study_of_a_notebook_runs_it_at_every_point(study, tmp_path):
    text = "notebook: 01-operation-share\naxes:\n  which: {fields: [parameter.models], values: [[opt-125m], [opt-350m]]}\n" \
           "  contexts: {fields: [parameter.context_len], values: [[8]]}\n"  # fmt: skip
    ds = dataset.load(folder.run(study_file.read(study(text)), tmp_path / "out"))
    assert ds.which.values.tolist() == ["['opt-125m']", "['opt-350m']"]
    assert float(ds.macs.sel(model="opt-350m").isel(which=1).sum()) > 0


def test_check_says_how_much_before_anything_runs(study, capsys, tmp_path):
    assert main(["sweep", str(study()), "--check"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["points"], said["evaluations"], said["chunks"]) == (72, 288, 2)
    assert said["bytes"] == 72 * 4 * 4 * 8
    assert 0 < said["minutes"] < 1
    assert os.listdir(tmp_path) == ["study.yaml"]


HEAD = "model: opt-1.3b\naxes:\n"
RATE = "  system.array.rate_hz: [1e8, 2e8]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modell: x\naxes: {}\n", "unknown key 'modell', did you mean 'model'?"),
        ("model: opt-1.3b\n", "axes are None; wanted at least one"),
        ("axes: {}\n", "wanted at least one"),
        (HEAD + "  system.array.rate_hz: []\n", "wanted a list of at least one"),
        (HEAD + RATE + "  true: [1]\n", "a key is True; wanted a name, or quotes"),
        (HEAD + "  system.array.rate: [1]\n", "unknown field of SystolicArray 'rate', did you mean 'rate_hz'?"),
        (HEAD + "  array.rate_hz: [1]\n", "unknown field 'array.rate_hz'"),
        (HEAD + "  system.array.rate_hz: [-1]\n", "wanted a finite number above 0"),
        (HEAD + "  system.array.rate_hz: {low: 2, high: 1, points: 3}\n", "goes from 2 to 1; wanted low up to high"),
        (HEAD + "  system.array.rate_hz: {low: 0, high: 1, points: 3, law: log}\n", "above 0"),
        (HEAD + "  system.array.rate_hz: {low: 1, high: 2}\n", "wanted a list of at least one"),
        (HEAD + "  system.array.rate_hz: {low: 1, high: 2, law: normal}\n", "unknown law"),
        (HEAD + "  system.array.rate_hz: {lo: 1}\n", "unknown key of axis"),
        (HEAD + "  system.array.rate_hz: {low: x, high: 2}\n", "wanted values, or numbers low and high"),
        (HEAD + RATE + "  mine: {fields: [system.array.rate_hz], values: [1]}\n", "2 axes set system.array.rate_hz"),
        (HEAD + RATE + "  array_rate_hz: {fields: [system.array.rows], values: [1]}\n", "2 axes are named array_rate_hz"),
        (HEAD + "  model: {fields: [system.array.rows], values: [1]}\n", "the axis name 'model' is reserved"),
        (HEAD + "  a: {fields: [system.array.rows, system.array.cols], values: [[1]]}\n", "wanted one value for each"),
        (HEAD + "  a: {fields: [system.array.rows], values: [1, 2], labels: [x, x]}\n", "wanted 2 that differ"),
        (HEAD + RATE + "metrics: [tokens]\n", "unknown metric 'tokens'"),
        (HEAD + RATE + "reduce: {kind: pareto, objectives: {watts: max}}\n", "unknown objective 'watts'"),
        (HEAD + RATE + "reduce: {kind: pareto, objectives: {tokens_per_s: up}}\n", "wanted max or min"),
        (HEAD + RATE + "reduce: pareto\n", "pareto has 0 objectives"),
        (HEAD + RATE + "reduce: best\n", "unknown reducer 'best'"),
        (HEAD + RATE + "reduce: {kind: quantiles, quantiles: [2]}\n", "wanted shares from 0 to 1"),
        (HEAD + RATE + "method: random\n", "unknown method 'random'"),
        (HEAD + RATE + "method: sobol\npoints: 8\n", "does not fit the method sobol; wanted a range"),
        (HEAD + "  system.array.rate_hz: {low: 1, high: 2}\nmethod: sobol\n", "points is 0; wanted a whole number from 1"),
        (HEAD + RATE + "  system.array.rows: [1]\nmethod: list\n", "have [1, 2] values; wanted as many of each"),
        (HEAD + RATE + "chunk: -1\n", "wanted a whole number of at least 0"),
        (HEAD + RATE + "chunk: 0\n", "the space is empty"),
        (HEAD + RATE + "points: 3\n", "points stands beside method grid"),
        (HEAD + "  system.array.rate_hz: [1e8, foo]\n", "wanted a finite number above 0"),
        (HEAD + "  system.array.rate_hz: [1e8, -1]\nchunk: 1\n", "wanted a finite number above 0"),
        (HEAD + "  system.array.rate_hz: [[1, 2], [3, 4]]\n", "wanted numbers, names, true or false"),
        (HEAD + "  system.array.rate_hz: {values: [1e8], labels: 5}\n", "wanted a list of names or numbers"),
        (HEAD + "  system.array.rate_hz: {values: [1e8], labels: [[1]]}\n", "wanted a list of names or numbers"),
        (HEAD + "  system.array.rate_hz: {values: [1e8], low: 5}\n", "unknown key of axis system.array.rate_hz 'low'"),
        (HEAD + "  a/b: {fields: [system.array.rows], values: [1]}\n", "is no name; wanted letters"),
        (HEAD + "  system.array.rows: {low: 1.5, high: 2.5, law: integer, points: 3}\n", "wanted whole numbers"),
        (HEAD + "  system.array.rows: {low: 1, high: .inf, points: 3}\n", "wanted values, or numbers low and high"),
        (HEAD + "  system.array.rows: {low: 1, high: 2, points: 10000000}\n", "wanted at most 1000000"),
        (HEAD + "".join(f"  a{i}: {{fields: [model.{f}], low: 1, high: 1e6, points: 900}}\n" for i, f in enumerate(
            ("d_model", "d_ff", "n_layers", "vocab_size"))), "wanted at most 1e+11"),
        (HEAD + "  conventions.overlap: {low: 0, high: 1}\nmethod: sobol\npoints: 4\n", "draws conventions"),
        ("model: [opt-1.3b, opt-1.3b]\naxes:\n" + RATE, "a model is named twice"),
        (HEAD + RATE + "metrics: [[a]]\n", "unknown metric"),
        (HEAD + RATE + "reduce: {kind: top, objectives: {tokens_per_s: [max]}}\n", "wanted max or min"),
        (HEAD + RATE + "reduce: {objectives: {tokens_per_s: max}}\n", "wanted a table with kind"),
        (HEAD + RATE + "reduce: {kind: all, objectives: {tokens_per_s: max}}\n", "all has objectives"),
        ("notebook: 01-operation-share\naxes:\n  a: {fields: [parameter.models], values: [[opt-125m], 5]}\n", "list[str]"),
        (HEAD + RATE + "name: ../x\n", "wanted letters, digits"),
        ("system: pim-lm\naxes:\n" + RATE, "did you mean 'pim-llm'?"),
        ("notebook: 01-operation-share\naxes:\n  parameter.modls: [[a]]\n", "did you mean 'models'?"),
        ("notebook: 01-operation-share\nmetrics: [x]\naxes:\n  parameter.models: [[a]]\n", "stands beside notebook"),
    ],
)  # fmt: skip
def test_a_bad_study_is_one_line_and_status_2(text, words, study, tmp_path, capsys):
    assert main(["sweep", str(study(text)), "--into", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_study_is_refused(study, tmp_path, capsys):
    into = str(tmp_path / "out")
    assert main(["sweep", str(study(HEAD + RATE)), "--into", into]) == 0
    assert main(["sweep", str(study(HEAD + RATE)), "--into", into]) == 0
    assert main(["sweep", str(study(HEAD + RATE + "chunk: 3\n")), "--into", into]) == 2
    assert "holds another study" in capsys.readouterr().err
    assert main(["sweep", str(study(HEAD + RATE))]) == 2


SMALL = "axes: {system.array.rate_hz: [1e8, 2e8, 5e8], system.array.rows: [8, 16], system.array.cols: [8, 16, 32]}\n"
SMALL += "chunk: 7\n"
TOP = "reduce: {kind: top, count: 3, objectives: {tokens_per_s: max}}\n"


def other_study(text, study, tmp_path):
    """The third chunk of the same points, counted by other conventions."""
    folder.run(study_file.read(study(text + "conventions: corrected\n", "other.yaml")), tmp_path / "other")
    return (tmp_path / "other" / "chunks" / "000002.nc").read_bytes()


def other_place(text, study, tmp_path):
    return (tmp_path / "out" / "chunks" / "000001.nc").read_bytes()


def edited(text, study, tmp_path):
    """The chunk with doubled values, written as a netCDF file is."""
    ds = dataset.load(tmp_path / "out" / "chunks" / "000002.nc")
    return dataset.encode(ds.assign(tokens_per_s=ds.tokens_per_s * 2), "a chunk")


def edited_below_its_seal(text, study, tmp_path):
    sealed = (tmp_path / "out" / "chunks" / "000002.nc").read_bytes()
    return edited(text, study, tmp_path) + sealed[-32:]


def cut_off(text, study, tmp_path):
    return (tmp_path / "out" / "chunks" / "000002.nc").read_bytes()[:-200]


def empty(text, study, tmp_path):
    return b""


@pytest.fixture(scope="module", params=["", TOP])
def whole(request, tmp_path_factory):
    """The text of a study, its folder, and the bytes of its result."""
    place = tmp_path_factory.mktemp("whole")
    (place / "study.yaml").write_text(SMALL + request.param)
    return SMALL + request.param, place, folder.run(study_file.read(place / "study.yaml"), place / "out").read_bytes()


@pytest.mark.adversity
@pytest.mark.parametrize("lie", [other_study, other_place, edited, edited_below_its_seal, cut_off, empty])
def test_a_chunk_that_is_not_as_it_was_written_is_computed_again_and_said(lie, whole, study, tmp_path, capsys):
    text, place, result = whole
    path, into = study(text), Path(shutil.copytree(place / "out", tmp_path / "out"))
    third = into / "chunks" / "000002.nc"
    right = third.read_bytes()
    third.write_bytes(lie(text, study, tmp_path))
    capsys.readouterr()
    assert main(["sweep", str(path), "--into", str(into)]) == 0
    assert (
        capsys.readouterr().err == f"pimllm: {third} is damaged, or not the chunk of its place; it is computed again\n"
    )
    assert third.read_bytes() == right
    assert (into / "study.nc").read_bytes() == result


def test_a_chunk_is_read_back_whatever_its_size(study, tmp_path, monkeypatch):
    monkeypatch.setitem(files.read.__kwdefaults__, "limit", 2000)
    path = study(SMALL)
    folder.run(study_file.read(path), tmp_path / "out")
    assert min(chunk.stat().st_size for chunk in (tmp_path / "out" / "chunks").glob("*.nc")) > 2000


def flipped(content, choose):
    """Return some bytes with one bit the other way."""
    changed = bytearray(content)
    changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


@pytest.mark.adversity
@pytest.mark.slow
def test_each_of_600_flipped_bits_in_chunks_is_seen_and_a_resumed_sweep_has_the_bytes_of_one_that_was_left_alone(
    study, tmp_path, capsys
):
    """As many as were tried on version 0.7.0, when 49 changed a label or a number unseen."""
    plan, into = study_file.read(study(STUDY + "chunk: 6\n")), tmp_path / "out"
    whole = folder.run(plan, into).read_bytes()
    right = {path: path.read_bytes() for path in sorted((into / "chunks").glob("*.nc"))}
    choose = random.Random(22)
    for _ in range(600 // len(right)):
        for path, content in right.items():
            path.write_bytes(flipped(content, choose))
        assert len(folder._claim(plan, into).missing(cut(plan.space, plan.reduction))) == len(right)
    capsys.readouterr()
    assert folder.run(plan, into).read_bytes() == whole
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == list(map(str, right))


@pytest.mark.adversity
def test_a_chunk_that_is_changed_during_the_run_is_one_line(study, tmp_path):
    plan = study_file.read(study(SMALL))

    def work(chunk):
        if chunk.index:
            (tmp_path / "out" / "chunks" / "000000.nc").write_bytes(b"other")
        return plan.work(chunk)

    with pytest.raises(ValueError, match=r"000000\.nc was changed meanwhile; wanted it left alone"):
        folder.run(replace(plan, work=work), tmp_path / "out")
    assert not (tmp_path / "out" / "study.nc").exists()


def test_a_file_that_changed_is_another_study(study, tmp_path):
    layers = "d_model = 64\nd_ff = 64\nn_layers = 4\nn_heads = 2\nn_kv_heads = 2\nhead_dim = 32\nvocab_size = 9\n"
    (tmp_path / "m.toml").write_text(layers)
    text = f"model: {tmp_path}/m.toml\naxes:\n{RATE}chunk: 1\n"
    path = folder.run(study_file.read(study(text)), tmp_path / "out")
    assert dataset.record(dataset.load(path))["user_values"]["m.n_layers"] == "4"
    (tmp_path / "out" / "chunks" / "000001.nc").unlink()
    (tmp_path / "m.toml").write_text(layers.replace("n_layers = 4", "n_layers = 40"))
    with pytest.raises(ValueError, match="holds another study"):
        folder.run(study_file.read(study(text)), tmp_path / "out")


@pytest.mark.adversity
def test_a_process_that_is_killed_is_one_line_and_its_chunks_stay(study, tmp_path):
    work = partial(_die, tmp_path / "marker")
    with executor(2) as workers, pytest.raises(ValueError, match="those who evaluate are gone"):
        list(each(work, range(8), workers))


def _die(marker, item):
    """End the process that works on the last item, the hard way."""
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_partial_work_can_be_sent_to_another_process():
    import pickle

    space = Space((an_axis("rate_hz", [1e8, 2e8]),))
    system, model = pl.catalog.systems["pim-llm"], pl.catalog.models["opt-1.3b"]
    one = sweep.Study(system, (model,), (128,), pl.catalog.preset("full-system"), space, ("tokens_per_s",), Reduction())
    there = pickle.loads(pickle.dumps(partial(sweep.compute, one)))
    chunk = next(space.chunks())
    assert there(chunk).identical(sweep.compute(one, chunk))


DRAWN = "axes:\n  system.array.rate_hz: {low: 1e8, high: 8e8, law: log}\n"
DRAWN += "  size: {fields: [system.array.rows, system.array.cols], low: 8, high: 32, law: integer}\n"
POINTS = """axes:
  system.array.rate_hz: [1e8, 2e8, 4e8, 8e8, 5e8, 6e8]
  adc: {fields: [system.pim.tile.crossbar.adc.bits, system.pim.tile.crossbar.adc.power_w], values: [[6, 1e-3], [8, 2e-3],
    [6, 3e-3], [8, 4e-3], [6, 5e-3], [8, 6e-3]]}
"""


@pytest.mark.parametrize(
    "reduce",
    [
        "{kind: pareto, objectives: {tokens_per_s: max, tokens_per_j: max}}",
        pytest.param("all", marks=pytest.mark.slow),
        pytest.param("{kind: top, count: 3, objectives: {tokens_per_j: max}}", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("method", ["latin", "sobol", "list"])
def test_the_values_of_a_sampled_point_can_be_read_off_the_result(method, reduce, study, tmp_path, capsys):
    how = "method: list\n" + POINTS if method == "list" else f"method: {method}\npoints: 6\nseed: 3\n" + DRAWN
    plan = study_file.read(study(f"model: opt-1.3b\nchunk: 4\nreduce: {reduce}\n{how}"))
    ds = dataset.load(folder.run(plan, tmp_path / "out"))
    names = ["array_rate_hz", "adc_bits", "adc_power_w"] if method == "list" else ["array_rate_hz", "size"]
    along = "sample" if reduce == "all" else "design"
    assert {name: ds[name].dims for name in names} == dict.fromkeys(names, (along,))
    assert ds.array_rate_hz.attrs == {"long_name": "system.array.rate_hz", "units": "Hz"}
    assert not list(schema_problems("study", ds))
    assert diff.results("study", ds, ds) == []
    paths = {"array_rate_hz": ["array.rate_hz"], "size": ["array.rows", "array.cols"],
             "adc_bits": ["pim.tile.crossbar.adc.bits"], "adc_power_w": ["pim.tile.crossbar.adc.power_w"]}  # fmt: skip
    last = ds.isel({along: -1})
    system = with_fields(pl.catalog.systems["pim-llm"], {p: last[name].item() for name in names for p in paths[name]})
    one = pl.evaluate(system=system, model="opt-1.3b", context_len=1024, conventions="full-system")
    assert 1 / last.tokens_per_s.item() == pytest.approx(one.latency_s.item(), rel=1e-12)
    assert main(["show", "study", "--archive", str(tmp_path / "out")]) == 0
    assert "array_rate_hz" in capsys.readouterr().out


def test_a_grid_tells_the_values_of_an_axis_whose_labels_only_count(study, tmp_path):
    axes = POINTS.replace("system.array.rate_hz: [1e8, 2e8, 4e8, 8e8, 5e8, 6e8]", "system.array.rows: [8, 16]")
    ds = dataset.load(folder.run(study_file.read(study("model: opt-1.3b\nchunk: 5\n" + axes)), tmp_path / "out"))
    assert ds.adc.values.tolist() == list(range(6))
    assert ds.adc_power_w.dims == ("adc",)
    assert ds.adc_power_w.values.tolist() == [1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3]
    assert ds.adc_power_w.attrs["units"] == "W"


def test_points_of_sobol_that_are_no_power_of_two_are_said_once_and_no_warning(tmp_path, capsys):
    (tmp_path / "ten.yaml").write_text(
        HEAD + "  system.array.rate_hz: {low: 1e8, high: 8e8}\nmethod: sobol\npoints: 10\n"
    )
    assert main(["sweep", str(tmp_path / "ten.yaml"), "--into", str(tmp_path / "out")]) == 0
    assert (
        capsys.readouterr().err == "pimllm: points are 10; Sobol' points are balanced where they are a power of two\n"
    )
