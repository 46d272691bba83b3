"""export and fetch: a crate describes what it holds; what is fetched is what was pinned, or nothing."""

import functools
import http.server
import json
import shutil
import threading
import zipfile

import pytest
from conftest import DATA, archive_given_here

from pimllm_lib import __version__
from pimllm_lib.archive import export, fetch, manifest, versions
from pimllm_lib.cli.main import main
from pimllm_lib.core import files, paths


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The archive with one of its checkpoints, which are nine tenths of its bytes."""
    kept = [name for name in manifest.load(DATA) if name.split("/")[0] != "checkpoints" or "docstrings-0/" in name]
    folder = tmp_path_factory.mktemp("small") / "data"
    manifest.publish(folder, {name: (DATA / name).read_bytes() for name in kept})
    return folder


@pytest.fixture(scope="module")
def given(small, tmp_path_factory):
    """A copy of it that these sources are said to have given, whether or not anybody has tried."""
    return archive_given_here(tmp_path_factory.mktemp("given") / "data", small)


@pytest.fixture(scope="module")
def crate(given, tmp_path_factory):
    return export.export(given, tmp_path_factory.mktemp("crate") / "crate.zip")


@pytest.fixture
def address(tmp_path):
    """Serve a folder on this machine."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def pinned(small, tmp_path):
    """Copy the archive to be fetched from, and return its hash."""
    return manifest.hash_of(shutil.copytree(small, tmp_path / "origin", ignore=shutil.ignore_patterns(files.LOCK)))


@pytest.mark.slow
def test_a_crate_describes_every_file_it_holds(crate):
    with zipfile.ZipFile(crate) as file:
        held = {name: file.read(name) for name in file.namelist()}
    described = {e["@id"]: e for e in json.loads(held["ro-crate-metadata.json"])["@graph"]}
    files_described = {name: e for name, e in described.items() if e["@type"] == "File"}
    assert files_described.keys() == held.keys() - {"ro-crate-metadata.json"}
    assert all(e["sha256"] == files.hash_of(held[name]) for name, e in files_described.items())
    assert {part["@id"] for part in described["./"]["hasPart"]} == files_described.keys()
    results = {e["@id"] for e in described["#run"]["result"]}
    assert results == {f"data/results/{slug}.nc" for slug in paths.slugs()}
    wanted = {
        "LICENSE",
        "environment.yml",
        "requirements.lock",
        "zenodo.json",
        "pimllm_lib/system/evaluation.py",
        "data/manifest.json",
    }
    assert wanted <= held.keys()
    assert not [name for name in held if "__pycache__" in name or ".lock" in name.split("/")[-1][:5]]


def test_a_deposit_names_no_identifier_that_does_not_exist(crate):
    with zipfile.ZipFile(crate) as file:
        deposit = json.loads(file.read("zenodo.json"))["metadata"]
    assert deposit["version"] == __version__
    assert deposit["related_identifiers"] == [
        {"identifier": "arXiv:2504.01994", "relation": "references", "scheme": "arxiv"}
    ]
    assert not {"doi", "prereserve_doi", "url"} & deposit.keys()


@pytest.mark.slow
def test_equal_archives_give_equal_crates(given, crate, tmp_path):
    assert export.export(given, tmp_path / "again.zip").read_bytes() == crate.read_bytes()


@pytest.mark.parametrize("origin", ["{folder}", "{address}/origin", "{folder}/../crate.zip", "{address}/crate.zip"])
def test_an_archive_comes_whole_from_a_folder_a_server_and_a_crate(origin, crate, address, pinned, tmp_path, capsys):
    shutil.copy(crate, tmp_path / "crate.zip")
    origin = origin.format(folder=tmp_path / "origin", address=address)
    argv = ["fetch", "9.9.9", "--from", origin, "--into", str(tmp_path / "into"), "--sha256", pinned]
    assert main(argv) == 0
    assert manifest.damage(tmp_path / "into") == []
    assert manifest.hash_of(tmp_path / "into") == pinned
    assert main(["verify", "--no-recompute", "--archive", str(tmp_path / "into")]) == 0
    assert main(argv) == 0  # again: nothing to do
    capsys.readouterr()


def test_a_fetch_that_was_interrupted_goes_on_where_it_stopped(pinned, tmp_path):
    there = next(name for name in manifest.load(tmp_path / "origin") if name.endswith(".nc"))
    (tmp_path / "into" / there).parent.mkdir(parents=True)
    shutil.copy(tmp_path / "origin" / there, tmp_path / "into" / there)
    (tmp_path / "origin" / there).unlink()  # it could not be brought again
    fetch.fetch("9.9.9", str(tmp_path / "origin"), tmp_path / "into", pinned=pinned)
    assert manifest.damage(tmp_path / "into") == []


@pytest.mark.parametrize("name", [manifest.NAME, "results/05-energy.nc", "published.csv"])
def test_wrong_bytes_are_named_and_never_kept(name, address, pinned, tmp_path):
    whole = (tmp_path / "origin" / name).read_bytes()
    (tmp_path / "origin" / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for i, origin in enumerate((tmp_path / "origin", f"{address}/origin")):
        with pytest.raises(ValueError, match=rf"{name} has other bytes than pinned; nothing of it was kept"):
            fetch.fetch("9.9.9", str(origin), tmp_path / f"into{i}", pinned=pinned)
        assert not (tmp_path / f"into{i}" / name).exists()
        assert not (tmp_path / f"into{i}" / manifest.NAME).exists()


def test_a_server_that_is_not_there_or_has_no_file_is_one_line(address, tmp_path):
    with pytest.raises(ValueError, match="cannot be had: 404"):
        fetch.fetch("9.9.9", f"{address}/none", tmp_path / "into", pinned="0" * 64)
    with pytest.raises(ValueError, match="cannot be had: ConnectionError"):
        fetch.fetch("9.9.9", "http://127.0.0.1:9/none", tmp_path / "into", pinned="0" * 64)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "data/../../evil", "data\\..\\evil"])
def test_a_crate_whose_member_leaves_the_folder_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(zipfile.ZipInfo(name), b"")
    with pytest.raises(ValueError, match="leaves its folder"):
        fetch.fetch("9.9.9", str(tmp_path / "x.zip"), tmp_path / "into", pinned="0" * 64)
    assert not (tmp_path / "into").exists()


def test_a_crate_with_a_member_larger_than_the_manifest_says_is_refused_unread(tmp_path):
    text = manifest.compose({"x.nc": {"bytes": 1, "sha256": "0" * 64}})
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.json", text)
        file.writestr("x.nc", bytes(10_000_000))
    with pytest.raises(ValueError, match=r"x\.nc is missing or has another size"):
        fetch.fetch("9.9.9", str(tmp_path / "x.zip"), tmp_path / "into", pinned=files.hash_of(text))


def test_every_release_has_a_date_and_a_hash():
    for version, release in versions.releases().items():
        assert version == release.version
        assert release.archive is None or versions.released_as(release.archive) == release
