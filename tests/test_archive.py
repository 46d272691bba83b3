"""The archive: what is written is what is read, whole or not at all; what moved is named."""

import json
import os

import pytest
import xarray as xr

import pimllm_lib as pl
from pimllm_lib.report import archive, paths, provenance
from pimllm_lib.schema import OPS, SCHEMA_VERSION

SLUG = "03-tokens-per-second"


@pytest.fixture
def result(tmp_path):
    ds = pl.evaluate(system="tpu-llm", model="opt-1.3b", context_len=[128, 256], detail="op")
    return archive.save(ds, SLUG, title="A test", parameters={"models": ["opt-1.3b"]}, into=tmp_path)


def test_a_result_comes_back_with_its_provenance(result):
    ds = archive.load(result)
    record = json.loads(ds.attrs["provenance"])
    assert record["parameters"] == {"models": ["opt-1.3b"]}
    assert record["source_hash"] == provenance.source_hash(SLUG)
    assert ds.attrs["licence"] == "CC-BY-4.0"
    assert ds.latency_s.attrs["units"] == "s"
    assert ds.context_len.attrs["units"] == "tokens"


def test_the_same_result_is_the_same_bytes(result, tmp_path):
    again = pl.evaluate(system="tpu-llm", model="opt-1.3b", context_len=[128, 256], detail="op")
    archive.save(again, SLUG, title="A test", parameters={"models": ["opt-1.3b"]}, into=tmp_path / "again")
    assert (tmp_path / "again" / result.name).read_bytes() == result.read_bytes()


def test_equal_results_do_not_differ_and_moved_ones_are_named(result):
    ds = archive.load(result)
    assert archive.differences(ds, ds) == []
    assert archive.differences(ds.assign(latency_s=ds.latency_s * (1 + 1e-12)), ds) == []
    moved = archive.differences(ds.assign(latency_s=ds.latency_s * 1.01), ds)
    assert len(moved) == 1
    assert moved[0].startswith(f"latency_s: 16 of {2 * len(OPS)} values differ, by up to 1.00e-02")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.drop_vars("cycles"), "cycles: in one of the two only"),
        (lambda ds: ds.isel(context_len=[0]), "context_len: dimensions"),
        (lambda ds: ds.assign_coords(model=["other"]), "model: labels differ"),
        (lambda ds: ds.assign_attrs(provenance='{"parameters": {}}'), "parameters: {} against"),
    ],
)
def test_each_way_to_differ_is_named(result, change, words):
    ds = archive.load(result)
    assert any(words in line for line in archive.differences(change(ds), ds))


def test_a_write_that_fails_leaves_the_old_file(result, monkeypatch):
    before = result.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ValueError, match="cannot be written: No space left"):
        archive.write(archive.load(result), result)
    assert result.read_bytes() == before
    assert os.listdir(result.parent) == [result.name]


@pytest.mark.parametrize("content", [b"", b"not netCDF", b"\x89HDF\r\n\x1a\n" + bytes(64)])
def test_a_file_that_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "x.nc"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a netCDF-4 file"):
        archive.load(path)


def test_a_missing_result_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError, match="does not exist; 'make archive' writes it"):
        archive.load(tmp_path / "x.nc")


@pytest.mark.parametrize("slug", paths.slugs())
def test_every_notebook_has_its_archived_result_that_still_holds(slug):
    kept = archive.load(paths.RESULTS / f"{slug}.nc")
    assert kept.attrs["schema_version"] == SCHEMA_VERSION
    assert isinstance(kept, xr.Dataset)


def test_the_source_hash_sees_the_library_the_catalog_and_the_lock():
    names = {path.name for path in provenance.closure(provenance.code_cells(paths.notebook(SLUG)))}
    assert {"systolic.py", "system.py", "workload.py", "models.toml", "parts.toml", "claims.py"} <= names
    assert "published.csv" in names
    assert "cli.py" not in names
