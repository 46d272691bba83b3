"""diff: equal results do not differ; what moved is counted, placed and sized; each other way to differ has its words."""

import json
import subprocess

import numpy as np
import pytest
from conftest import archive_given_here

import pimllm_lib as pl
from pimllm_lib.archive import dataset, diff, manifest
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.schema import OPS

SLUG = "03-tokens-per-second"
EMPTY = '{"result": "03-tokens-per-second", "parameters": {}, "source_hash": "", "pimllm": "0", "packages": {}}'


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    ds = pl.evaluate(system="tpu-llm", model="opt-1.3b", context_len=[128, 256], detail="op")
    into = tmp_path_factory.mktemp("result")
    return dataset.load(dataset.save(ds, SLUG, title="A test", parameters={"models": ["opt-1.3b"]}, into=into))


def test_equal_results_do_not_differ_and_rounding_is_no_difference(result):
    assert diff.results(SLUG, result, result) == []
    assert diff.results(SLUG, result, result.assign(latency_s=result.latency_s * (1 + 1e-12))) == []


def test_the_number_that_moved_most_is_placed_and_sized(result):
    moved = result.latency_s * 1.01
    moved.loc[{"op": "ff1", "context_len": 256}] *= 2
    (change,) = diff.results(SLUG, result, result.assign(latency_s=moved))
    off = int((result.latency_s != 0).sum())
    assert (change.kind, change.variable, change.moved, change.count) == ("moved", "latency_s", off, 2 * len(OPS))
    assert change.relative == pytest.approx(1.02)
    assert change.where == "system=tpu-llm, model=opt-1.3b, context_len=256, op=ff1"
    assert change.new == pytest.approx(2.02 * change.old)
    assert str(change).endswith(f"{change.old:.6g} -> {change.new:.6g} s at {change.where}")


def test_a_number_that_leaves_zero_has_no_relative_size_and_json_stays_json(result):
    moved = result.latency_s.copy()
    moved.loc[{"op": "softmax"}] = 1.0
    (change,) = diff.results(SLUG, result, result.assign(latency_s=moved))
    assert np.isinf(change.relative)
    assert "the first from or to nothing: 0 -> 1 s" in str(change)
    assert json.loads(json.dumps(change.as_dict(), allow_nan=False))["relative"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.drop_vars("cycles"), "cycles: only in the old result"),
        (lambda ds: ds.isel(context_len=[0]), "context_len: labels gone: 256; come: none"),
        (lambda ds: ds.assign_coords(model=["other"]), "model: labels gone: opt-1.3b; come: other"),
        (lambda ds: ds.transpose(), "latency_s: dimensions"),
        (lambda ds: ds.assign_attrs(provenance=EMPTY), "parameter ['opt-1.3b'] -> absent"),
    ],
)  # fmt: skip
def test_each_way_to_differ_has_its_words(result, change, words):
    assert any(words in str(line) for line in diff.results(SLUG, result, change(result)))


def test_a_parameter_that_a_notebook_has_gained_since_counts_where_it_is_not_at_its_default(result):
    def said(**more):
        record = dataset.record(result)
        return result.assign_attrs(provenance=json.dumps(record | {"parameters": record["parameters"] | more}))

    assert diff.results(SLUG, result, said(systems=["tpu-llm", "pim-llm"])) == []
    (change,) = diff.results(SLUG, result, said(systems=["tpu-llm", "pim-llm-lop"]))
    assert "parameter absent -> ['tpu-llm', 'pim-llm-lop']" in str(change)


def test_labels_that_differ_by_rounding_are_the_same_and_their_attributes_are_compared(result):
    swept = result.expand_dims(joules=[1e-11, 2.5e-11])
    fresh = swept.assign_coords(joules=[1e-11, float(np.nextafter(2.5e-11, 1.0))])
    assert diff.results(SLUG, swept, fresh) == []
    fresh.joules.attrs["long_name"] = "energy"
    assert {change.kind for change in diff.results(SLUG, swept, fresh)} == {"attributes"}
    apart = swept.assign_coords(joules=[1e-11, 2.5e-11 * (1 + 1e-9)])
    assert {change.kind for change in diff.results(SLUG, swept, apart)} == {"labels"}


def test_labels_that_both_have_are_compared(result):
    fewer = result.isel(context_len=[1])
    changes = diff.results(SLUG, result, fewer.assign(latency_s=fewer.latency_s * 2))
    assert [change.kind for change in changes] == ["labels", "moved"]
    assert changes[1].where.startswith("system=tpu-llm, model=opt-1.3b, context_len=256")


@pytest.mark.slow
def test_a_folder_a_file_a_crate_and_a_tag_can_be_compared(tmp_path, capsys):
    data, crate, given = str(paths.DATA), str(tmp_path / "crate.zip"), archive_given_here(tmp_path / "given")
    assert main(["export", "--archive", str(given), "--to", crate]) == 0
    assert main(["diff", data, crate]) == 0
    assert main(["diff", str(paths.ROOT), str(paths.DATA)]) == 0
    one = str(paths.RESULTS / f"{SLUG}.nc")
    assert main(["diff", one, one, "--changelog"]) == 0
    assert "None: every archived number is as before." in capsys.readouterr().out
    subprocess.run(["git", "-C", str(paths.ROOT), "rev-parse", "HEAD"], check=True, capture_output=True)
    assert main(["diff", "HEAD", "HEAD"]) == 0
    assert main(["diff", one, data, "--json"]) == 1
    printed = capsys.readouterr().out
    only = json.loads(printed[printed.index("[") :])
    assert {change["text"] for change in only} == {"only in the new archive"}
    assert len(only) == len(manifest.names(paths.DATA)) - 1
