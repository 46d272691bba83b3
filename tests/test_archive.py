"""The archive: what is written is what is read, whole or not at all; what moved is named."""

import json
import os
import resource
from dataclasses import replace

import h5py
import pytest
import xarray as xr
from conftest import DATA

import pimllm_lib as pl
from pimllm_lib.archive import dataset, provenance, verify
from pimllm_lib.core import paths
from pimllm_lib.core.schema import SCHEMA_VERSION

SLUG = "03-tokens-per-second"


@pytest.fixture
def result(tmp_path):
    ds = pl.evaluate(system="tpu-llm", model="opt-1.3b", context_len=[128, 256], detail="op")
    return dataset.save(ds, SLUG, title="A test", parameters={"models": ["opt-1.3b"]}, into=tmp_path)


def test_a_result_comes_back_with_its_provenance(result):
    ds = dataset.load(result)
    record = json.loads(ds.attrs["provenance"])
    assert record["parameters"] == {"models": ["opt-1.3b"]}
    assert record["source_hash"] == provenance.source_hash(SLUG)
    assert record["user_values"] == {}
    assert ds.attrs["licence"] == "CC-BY-4.0"
    assert ds.attrs["Conventions"].startswith("CF-")
    assert not list(verify.schema_problems(SLUG, ds))
    assert ds.latency_s.attrs["units"] == "s"
    assert ds.context_len.attrs["units"] == "tokens"


def test_the_same_result_is_the_same_bytes(result, tmp_path):
    again = pl.evaluate(system="tpu-llm", model="opt-1.3b", context_len=[128, 256], detail="op")
    dataset.save(again, SLUG, title="A test", parameters={"models": ["opt-1.3b"]}, into=tmp_path / "again")
    assert (tmp_path / "again" / result.name).read_bytes() == result.read_bytes()


def test_a_write_to_a_full_disk_leaves_the_old_file(result):
    before, ds = result.read_bytes(), dataset.load(result)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the system lets no file grow beyond this
    try:
        with pytest.raises(ValueError, match="cannot be written: File too large"):
            dataset.write(ds, result)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.read_bytes() == before
    assert os.listdir(result.parent) == [result.name]


def test_values_that_are_not_the_catalogs_are_marked_as_the_users(tmp_path):
    tpu = pl.catalog.systems["tpu-llm"]
    wide = replace(tpu, name="wide", array=replace(tpu.array, cols=64))
    small = replace(pl.catalog.models["opt-1.3b"], n_layers=2)
    ds = pl.evaluate(system=["tpu-llm", wide], model=small, context_len=8)
    path = dataset.save(ds, SLUG, title="A test", parameters={}, into=tmp_path)
    assert dataset.record(dataset.load(path))["user_values"] == {
        "wide: edge-32x32.cols": "64", "opt-1.3b.n_layers": "2",
        "wide.routing": "projection to array, attention to array, head to array",
    }  # fmt: skip


def test_a_file_that_takes_values_from_another_file_is_refused(tmp_path):
    (tmp_path / "secret.txt").write_bytes(bytes(80))
    with h5py.File(tmp_path / "raw.nc", "w") as file:
        file.create_dataset("x", (10,), dtype="f8", external=[(str(tmp_path / "secret.txt"), 0, 80)])
    with h5py.File(tmp_path / "link.nc", "w") as file:
        file["x"] = h5py.ExternalLink("raw.nc", "/x")
    for name in ("raw.nc", "link.nc"):
        with pytest.raises(ValueError, match="takes 'x' from another file"):
            dataset.load(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not netCDF", b"\x89HDF\r\n\x1a\n" + bytes(64)])
def test_a_file_that_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "x.nc"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a netCDF-4 file"):
        dataset.load(path)


def test_a_missing_result_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError, match="does not exist; 'pimllm run x' makes it"):
        dataset.load(tmp_path / "x.nc")


@pytest.mark.parametrize("slug", paths.slugs())
def test_every_notebook_has_its_archived_result_that_still_holds(slug):
    kept = dataset.load(DATA / "results" / f"{slug}.nc")
    assert kept.attrs["schema_version"] == SCHEMA_VERSION
    assert isinstance(kept, xr.Dataset)


def test_the_source_hash_sees_the_library_the_catalog_and_the_lock():
    names = {path.name for path in provenance.closure(provenance.code_cells(paths.notebook(SLUG)))}
    assert {"systolic.py", "evaluation.py", "products.py", "models.toml", "parts.toml", "claims.py"} <= names
    assert "published.csv" in names
    assert "cli.py" not in names
