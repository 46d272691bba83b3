"""What lies is found: results about themselves, archives and servers about sizes, runs about what they saved.

The tests marked `adversity`, those that are also `slow` or `distributed` included, are about

a tolerance of its own, swapped names, numbers that are none         test_lies.py
what a run did not save; full disks; files that are left empty       test_lies.py, test_manifest.py
sizes that are declared, packed or sent, without an end              test_lies.py
chunks that are copied, edited, flipped, of another study            test_sweep.py
workers of other sources, gone, too small, mute; certificates        test_cluster.py, test_distributed.py
bits that flip in results, studies, checkpoints, both lists          test_manifest.py
configurations, settings, TOML, YAML, addresses, handles, sizes      test_fuzz.py
random files of every kind, for a minute or an hour                  test_fuzz.py, fuzz.py
signals at every command, what they leave; writers that die          test_signals.py, test_manifest.py, test_slow.py
control characters in a terminal, markup in a page                   test_foreign_text.py
homes, settings, modules of strangers; an ordinary user of a wheel   test_surroundings.py, test_slow.py
"""

import errno
import http.server
import json
import os
import resource
import threading
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from conftest import DATA
from test_faults import a_notebook

import pimllm_lib as pl
from pimllm_lib.archive import agreement, attested, dataset, describe, diff, fetch, manifest, notebooks, sources, verify
from pimllm_lib.cli.main import main
from pimllm_lib.core import files, paths
from pimllm_lib.core.schema import ALWAYS, VARIABLES

pytestmark = pytest.mark.adversity
NAME = "mine"
#: A cell that saves a result under a name.
SAVE = """import pimllm_lib as pl
from pimllm_lib.archive import dataset
ds = pl.evaluate(system='tpu-llm', model='opt-125m', context_len=[8])
dataset.save(ds, '{}', title='T', parameters={{'x': x}}, into=into)"""
#: A cell that writes a file of its own beside it.
WRITE = "from pathlib import Path\nPath(into, '{}').write_text('x')"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A result that a user saved."""
    summary = pl.metrics.summary(pl.evaluate(system="tpu-llm", model="opt-125m", context_len=[8, 16]))
    path = dataset.save(summary, NAME, title="T", parameters={"x": 1}, into=tmp_path_factory.mktemp("honest"))
    return dataset.load(path)


def archive_of(folder, **results):
    """Make an archive of results, as their manifest says, and return it."""
    made = {f"{name}.nc": dataset.write(ds, folder / "raw" / f"{name}.nc").read_bytes() for name, ds in results.items()}
    manifest.publish(folder / "archive", made)
    return folder / "archive"


def said(capsys, *argv):
    """Return the status of a command and its lines on stderr."""
    capsys.readouterr()
    status = main([str(one) for one in argv])
    return status, capsys.readouterr().err.splitlines()


def test_every_archived_result_states_the_tolerance_that_the_library_gives_it():
    stated = {path.stem: dataset.load(path) for path in DATA.glob("[rs]*/*.nc")}
    assert len(stated) > 20
    assert all(dataset.tolerance(ds) == ds.attrs["tolerance"] for ds in stated.values())


@pytest.mark.parametrize(
    ("name", "parameters", "wanted"),
    [
        ("mine", {"x": 1}, 1e-9),
        ("03-tokens-per-second", {"models": []}, 1e-9),
        ("11-analog-noise", {}, 1e-2),
        ("mine", {"noise": {}, "curves": {}}, 1e-3),
        ("mine", {"system": "pim-llm", "axes": {}}, 1e-9),
        ("mine", {"notebook": "16-analog-engine", "axes": {}}, 1e-2),
        ("mine", {"notebook": "01-operation-share", "axes": {}}, 1e-9),
    ],
)
def test_one_rule_gives_results_of_users_and_studies_of_noise_their_tolerance(name, parameters, wanted):
    assert agreement.tolerance(name, parameters) == wanted


@pytest.mark.parametrize("stated", [1e9, "wide", [1e-9, 1e9], 1e-3], ids=str)
def test_a_result_that_states_a_tolerance_of_its_own_is_named_and_its_numbers_are_compared_by_ours(
    stated, honest, tmp_path, capsys
):
    lying = honest.assign(latency_s=honest.latency_s * 2).assign_attrs(tolerance=stated)
    folder = archive_of(tmp_path, mine=lying)
    status, (line,) = said(capsys, "verify", "--archive", folder)
    assert status == 1
    assert "mine has tolerance " in line
    assert line.endswith("; wanted 1e-09")
    for old, new in ((lying, honest), (honest, lying)):
        found = {(change.kind, change.variable) for change in diff.results(NAME, old, new)}
        assert found >= {("moved", "latency_s"), ("attributes", "")}
    dataset.write(honest, tmp_path / "honest" / "mine.nc")
    assert main(["diff", str(tmp_path / "honest"), str(folder)]) == 1
    out = capsys.readouterr().out
    assert "mine: latency_s: 2 of 2 values moved" in out
    assert "mine: the new result states the tolerance" in out


def test_a_result_without_a_tolerance_is_compared_by_ours(honest):
    assert (
        dataset.tolerance(honest.drop_attrs()[["latency_s"]].assign_attrs(provenance=honest.attrs["provenance"]))
        == 1e-9
    )


def test_a_doubled_number_is_found_by_recomputing_it_whatever_its_file_states(tmp_path, in_process, monkeypatch):
    """Also where nothing looks at what it states."""
    slug = "01-operation-share"
    notebooks.run(slug, tmp_path / "a", {"models": ["opt-125m"], "context_len": [8]}, data_only=True)
    ds = dataset.load(tmp_path / "a" / f"{slug}.nc")
    folder = archive_of(tmp_path, **{slug: ds.assign(macs=ds.macs * 2).assign_attrs(tolerance=1e9)})
    assert verify.verify(folder).problems == [f"{slug} has tolerance 1000000000.0; wanted 1e-09"]
    monkeypatch.setattr(verify, "schema_problems", lambda *_: [])
    assert any(f"{slug}: macs: " in line for line in verify.verify(folder).problems)


def test_a_study_or_chapter_cannot_borrow_the_tolerance_of_another(honest):
    wide = json.dumps(json.loads(honest.attrs["provenance"]) | {"result": "11-analog-noise"})
    changes = diff.results(
        NAME, honest.assign_attrs(provenance=wide), honest.assign(latency_s=honest.latency_s * 1.001)
    )
    assert "latency_s" in {change.variable for change in changes if change.kind == "moved"}


def test_swapped_results_are_named(tmp_path, capsys):
    one, two = "01-operation-share", "04-latency-breakdown"
    contents = {name: (DATA / "results" / f"{name}.nc").read_bytes() for name in (one, two)}
    manifest.publish(tmp_path, {f"results/{one}.nc": contents[two], f"results/{two}.nc": contents[one]})
    status, lines = said(capsys, "verify", "--no-recompute", "--archive", tmp_path)
    assert status == 1
    assert [line.partition(";")[0] for line in lines] == [
        f"pimllm: {one} says that it is '{two}'", f"pimllm: {two} says that it is '{one}'"
    ]  # fmt: skip


def without(ds, variable, count):
    """Return a result in which the first values of a variable are no numbers."""
    fresh = ds.copy(deep=True)
    fresh[variable].values.ravel()[:count] = np.nan
    return fresh


@pytest.mark.parametrize("variable", ["latency_s", "energy_j", "tokens_per_s", "tokens_per_j"])
@pytest.mark.parametrize(
    ("count", "words"), [(2, "no number at all"), (1, "no number at 1 points that other variables")]
)
def test_a_cost_that_is_no_number_is_named(variable, count, words, honest):
    (line,) = verify.schema_problems(NAME, without(honest, variable, count))
    assert f"mine: {variable} has {words}" in line


def test_a_point_that_is_not_there_has_no_numbers_and_a_variable_that_need_not_have_any_is_let_be(honest):
    gone = honest.where(honest.context_len > 8)
    assert list(verify.schema_problems(NAME, gone)) == []
    never = honest.latency_s * np.nan
    never.attrs = {"units": "tokens", "long_name": VARIABLES["attention_half_tokens"].meaning}
    assert list(verify.schema_problems(NAME, honest.assign(attention_half_tokens=never))) == []
    assert set(ALWAYS) <= set(VARIABLES)


def nested(depth, honest):
    return json.dumps(json.loads(honest.attrs["provenance"]) | {"user_values": 0}).replace(
        '"user_values": 0', '"user_values": {"x": ' + "[" * depth + "]" * depth + "}"
    )


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deeply_nested_provenance_is_one_line(depth, honest, tmp_path, capsys):
    folder = archive_of(tmp_path, mine=honest.assign_attrs(provenance=nested(depth, honest)))
    status, (line,) = said(capsys, "show", NAME, "--archive", folder)
    assert (status, "has no provenance of this project" in line) == (2, True)
    status, (line,) = said(capsys, "verify", "--no-recompute", "--archive", folder)
    assert (status, "has no provenance of this project" in line) == (1, True)


@pytest.mark.parametrize("depth", [100, 900, 100_000])
@pytest.mark.parametrize("name", [manifest.NAME, attested.NAME])
def test_a_deeply_nested_list_of_files_is_one_line(name, depth, tmp_path):
    (tmp_path / name).write_text('{"files": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(ValueError, match=r"is not a manifest|is not JSON"):
        (manifest if name == manifest.NAME else attested).load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds: ds.assign_attrs(schema_version=[1, 2, 3]), "mine has schema_version [1, 2, 3]; wanted 1"),
        (lambda ds: ds.assign_attrs(schema_version="1"), "mine has schema_version '1'; wanted 1"),
        (lambda ds: ds.assign_attrs(provenance=[1, 2]), "mine has no provenance of this project"),
        (
            lambda ds: ds.assign(latency_s=ds.latency_s.assign_attrs(units=[1, 2])),
            "mine: latency_s is in [1, 2]; wanted s",
        ),
        (lambda ds: ds.assign(x=ds.latency_s), "mine: unknown variable 'x'"),
        (lambda ds: ds.assign(latency_s=ds.latency_s.astype(str)), "mine: latency_s "),
        (lambda ds: ds.drop_attrs(deep=False), "mine has no attribute title"),
    ],
)
def test_an_array_or_a_text_in_another_things_place_is_a_named_problem(change, words, honest, tmp_path, capsys):
    status, lines = said(capsys, "verify", "--no-recompute", "--archive", archive_of(tmp_path, mine=change(honest)))
    assert status == 1
    assert lines[0].startswith(f"pimllm: {words}")


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1"], "small came to its end and saved no result"),
        ([SAVE.format("small"), WRITE.format("manifest.json")], "small wrote 'manifest.json'"),
        ([SAVE.format("small"), WRITE.format("x.csv")], "small wrote 'x.csv' into its folder"),
        ([WRITE.format("small.nc")], "small wrote 'small.nc' itself; wanted 'dataset.save'"),
        ([SAVE.format("other"), "import os; os.rename(into + '/other.nc', into + '/small.nc')"], "saved 'other' as"),
    ],
)
def test_a_run_that_did_not_save_its_result_alone_has_failed_and_changes_nothing(
    cells, words, tmp_path, capsys, in_process
):
    status, lines = said(capsys, "run", a_notebook(tmp_path, *cells), "--into", tmp_path / "into")
    assert status == 1
    assert [words in line for line in lines if line.startswith("pimllm: ")] == [True]
    assert not (tmp_path / "into").exists()


def test_the_data_of_a_notebook_that_names_its_result_otherwise_are_where_the_run_says(tmp_path, capsys, in_process):
    assert (
        main(["run", str(a_notebook(tmp_path, SAVE.format("other"))), "--data-only", "--into", str(tmp_path / "o")])
        == 0
    )
    assert capsys.readouterr().out == f"{tmp_path}/o/other.nc\n"
    assert (tmp_path / "o" / "other.nc").is_file()


def test_a_cell_that_ends_its_kernel_saves_nothing_and_fails(tmp_path, capsys):
    status, lines = said(capsys, "run", a_notebook(tmp_path, "exit"), "--into", tmp_path / "into")
    assert status == 1
    assert any("saved no result" in line or "its kernel died" in line for line in lines)
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": {"tags": "parameters"}}, "has the tags 'parameters', which are no list"),
        ({"cell_type": "heading"}, "has a cell of kind 'heading'"),
        ({"cell_type": [1]}, "has a cell of kind [1]"),
        ({"metadata": []}, "is not a notebook"),
    ],
)
def test_a_cell_of_another_format_is_refused_before_anything_runs(change, words, tmp_path, capsys):
    path = a_notebook(tmp_path, SAVE.format("small"))
    content = json.loads(path.read_text())
    content["cells"].append(content["cells"][0] | change)
    path.write_text(json.dumps(content))
    status, (line,) = said(capsys, "run", path, "--into", tmp_path / "into")
    assert (status, words in line) == (2, True)


def full(monkeypatch, folder):
    """Let nothing be put into a folder: its disk is full."""
    replace = os.replace

    def refusing(old, new):
        if str(new).startswith(str(folder)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(old, new)

    monkeypatch.setattr(os, "replace", refusing)


def test_a_run_into_a_full_disk_says_so_and_leaves_no_result(tmp_path, capsys, monkeypatch, in_process):
    full(monkeypatch, tmp_path / "into")
    path = a_notebook(tmp_path, SAVE.format("small"))
    status, lines = said(capsys, "run", path, "--into", tmp_path / "into")
    assert status == 2
    assert lines[-1].endswith("manifest.json cannot be written: No space left on device")
    assert [one.name for one in (tmp_path / "into").iterdir()] == [files.LOCK]


@pytest.mark.parametrize(
    ("bytes_", "words"), [(1000, "TMPDIR names another folder"), (20_000, "small.nc cannot be written")]
)
def test_a_run_whose_temporary_folder_is_full_says_which(bytes_, words, tmp_path, capsys, in_process):
    path = a_notebook(tmp_path, SAVE.format("small"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, hard))  # the system lets no file grow beyond this
    try:
        status, lines = said(capsys, "run", path, "--into", tmp_path / "into")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    assert words in lines[-1]
    assert not (tmp_path / "into").exists()


def test_an_empty_file_that_a_full_disk_left_does_not_stop_a_new_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.ipynb").touch()
    assert main(["new-study", "mine"]) == 0
    assert json.loads((tmp_path / "mine.ipynb").read_text())["nbformat"] == 4
    status, (line,) = said(capsys, "new-study", "mine")
    assert (status, "is there already" in line) == (2, True)


def test_what_the_system_refuses_has_a_name(monkeypatch, capsys):
    def refusing(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "some/place")

    monkeypatch.setattr(paths, "archive", refusing)
    assert said(capsys, "show", "x") == (2, ["pimllm: some/place: Permission denied"])


def declaring(path, **settings):
    """Write a file with one variable that is declared and never filled."""
    with h5py.File(path, "w") as file:
        file.create_dataset("latency_s", **settings)
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": (150_000_000,), "dtype": "f8", "chunks": (1_000_000,), "compression": "gzip"},
        {"shape": (2**61,), "dtype": "f8", "chunks": (1000,)},
        {"shape": (1,), "maxshape": (None,), "dtype": "f8", "chunks": (100_000_000,)},
        {"shape": (2,), "dtype": "S500000000", "chunks": (1,)},
        {"shape": (2_000_000,), "dtype": "i1", "chunks": (1000,)},
    ],
    ids=["values", "beyond int64", "a chunk", "a text", "bytes that are read as numbers"],
)
def test_a_file_that_declares_more_than_it_can_hold_is_refused_unread(settings, tmp_path, capsys):
    manifest.publish(tmp_path, {"mine.nc": declaring(tmp_path / "raw", **settings).read_bytes()})
    tracemalloc.start()
    shown = said(capsys, "show", NAME, "--archive", tmp_path)
    checked = said(capsys, "verify", "--archive", tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (shown[0], checked[0]) == (2, 1)
    assert shown[1] == checked[1]
    assert "mine.nc declares " in shown[1][0]
    assert peak < 40 << 20


def test_results_that_are_too_many_for_memory_are_refused(honest, tmp_path, monkeypatch, capsys):
    folder = archive_of(tmp_path, mine=honest)
    monkeypatch.setattr(dataset, "_TOGETHER", honest.nbytes - 1)
    status, (line,) = said(capsys, "diff", folder, folder)
    assert (status, "wanted at most" in line) == (2, True)
    status, (line,) = said(capsys, "verify", "--archive", folder)
    assert (status, "wanted at most" in line) == (1, True)


def test_a_file_longer_than_any_of_ours_is_refused_unread(tmp_path, capsys):
    with (tmp_path / "mine.nc").open("wb") as file:
        file.truncate(3 << 30)  # takes no place on the disk
    status, (line,) = said(capsys, "show", NAME, "--archive", tmp_path)
    assert (status, line) == (2, f"pimllm: {tmp_path}/mine.nc has {3 << 30} bytes; wanted at most {files.LONGEST}")


def zipped(path, contents, text=None, packed=zipfile.ZIP_DEFLATED):
    """Write a zip file with contents and the manifest they should have, or another one."""
    with zipfile.ZipFile(path, "w", packed) as file:
        file.writestr(
            manifest.NAME, text or manifest.compose({name: manifest.entry(x) for name, x in contents.items()})
        )
        for name, content in contents.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def unpacked(monkeypatch):
    """The names of the members of zip files that are unpacked."""
    names, cut = [], sources._cut
    monkeypatch.setattr(sources, "_cut", lambda file, member: (names.append(member.filename), cut(file, member))[1])
    return names


def test_a_zip_that_unpacks_to_more_than_memory_should_hold_is_refused_unread(tmp_path, monkeypatch, unpacked, capsys):
    path = zipped(tmp_path / "x.zip", {"a.txt": bytes(600_000), "b.txt": bytes(600_000)})
    monkeypatch.setattr(files, "LONGEST", 1_000_000)
    status, (line,) = said(capsys, "diff", path, path)
    assert (status, "unpacks to 1200000 bytes; wanted at most 1000000" in line) == (2, True)
    assert unpacked == [manifest.NAME]


def test_an_archive_that_no_zip_file_is_read_with_is_not_exported(honest, tmp_path, monkeypatch, capsys):
    folder = archive_of(tmp_path, mine=honest)
    monkeypatch.setattr(files, "LONGEST", (folder / "mine.nc").stat().st_size - 1)
    status, (line,) = said(capsys, "export", "--archive", folder, "--to", tmp_path / "x.zip")
    assert (status, "wanted at most" in line) == (2, True)
    assert not (tmp_path / "x.zip").exists()


def test_a_manifest_is_no_file_of_its_archive(tmp_path):
    manifest.publish(tmp_path, {"a.txt": b"a"})
    before = (tmp_path / manifest.NAME).read_bytes()
    with pytest.raises(ValueError, match=r"manifest\.json is among the files"):
        manifest.publish(tmp_path, {"b.txt": b"b", manifest.NAME: b"{}"})
    assert manifest.damage(tmp_path) == []
    assert (tmp_path / manifest.NAME).read_bytes() == before
    with pytest.raises(ValueError, match="names itself"):
        manifest.parse(manifest.compose({manifest.NAME: manifest.entry(b"{}")}))


def test_a_zip_of_another_archive_is_refused_before_its_files_are_unpacked(tmp_path, unpacked):
    path = zipped(tmp_path / "x.zip", {"a.txt": b"x"})
    with pytest.raises(ValueError, match="its manifest has another SHA-256"):
        fetch.fetch("9.9.9", str(path), tmp_path / "into", pinned="0" * 64)
    assert unpacked == [manifest.NAME]


def test_a_member_that_holds_more_than_its_header_says_is_refused_and_not_unpacked_further(tmp_path):
    size, lie = (4_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    text = manifest.compose({"a.txt": manifest.entry(bytes(10))})
    path = zipped(tmp_path / "x.zip", {"a.txt": bytes(4_000_000)}, text)
    assert path.read_bytes().count(size) == 2  # in the header of the member, and in the directory
    path.write_bytes(path.read_bytes().replace(size, lie))
    tracemalloc.start()
    with pytest.raises(ValueError, match="cannot be read as a zip file: Bad CRC-32"):
        sources.crate(path, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_member_packed_in_a_way_that_cannot_be_cut_off_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.txt": b"x" * 1000}, packed=zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match=r"packs 'manifest\.json' otherwise than 'pimllm export' does"):
        sources.crate(path, path)


@pytest.fixture
def endless(tmp_path):
    """Serve the manifest of a file of ten bytes, and in place of the file bytes without an end; count them."""
    text = manifest.compose({"x.nc": manifest.entry(bytes(10))})
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            if self.path.endswith(manifest.NAME):
                self.wfile.write(text)
                return
            try:
                while sum(sent) < 300 << 20:
                    sent.append(self.wfile.write(bytes(1 << 16)))
            except OSError:  # whoever asked has gone
                pass

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files.hash_of(text), sent
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("what", ["", "/crate.zip"])
def test_a_server_that_sends_more_than_promised_is_cut_off_at_the_promise(what, endless, tmp_path, monkeypatch):
    address, pinned, sent = endless
    monkeypatch.setattr(files, "LONGEST", 1 << 20)
    with pytest.raises(ValueError, match="sends more than the bytes promised; nothing of it was kept"):
        fetch.fetch("9.9.9", f"{address}{what}", tmp_path / "into", pinned=pinned)
    assert sum(sent) < 30 << 20  # what the system takes before it tells the server
    assert not (tmp_path / "into").exists()


def test_a_file_of_another_size_than_promised_is_refused_unread(tmp_path):
    text = manifest.compose({"x.nc": manifest.entry(bytes(10))})
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / manifest.NAME).write_bytes(text)
    with (tmp_path / "origin" / "x.nc").open("wb") as file:
        file.truncate(300 << 20)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"x\.nc has 314572800 bytes; wanted at most 10"):
        fetch.fetch("9.9.9", str(tmp_path / "origin"), tmp_path / "into", pinned=files.hash_of(text))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20
    assert manifest.damage(tmp_path / "origin") == [f"x.nc has {300 << 20} bytes; the manifest says 10"]


def test_a_large_file_is_hashed_without_being_held(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    made = manifest.entry(tmp_path / "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made == manifest.entry(bytes(64 << 20))
    assert peak < 4 << 20


@pytest.mark.parametrize(
    "address", ["http://[", "http://a b:c", "https://[::1", "http://x:999999/y.zip", "http://" + "a" * 300]
)
def test_an_address_that_no_parser_takes_is_one_line(address, tmp_path):
    with pytest.raises(ValueError, match="cannot be had"):
        fetch.fetch("9.9.9", address, tmp_path / "into", pinned="0" * 64)


@pytest.mark.parametrize("key", ["version", "digest", "sources"])
def test_a_list_of_what_is_attested_that_was_edited_is_refused_and_one_without_a_digest_is_read(key, tmp_path):
    attested.add(tmp_path, {"0" * 64: "1" * 16})
    path = tmp_path / attested.NAME
    assert attested.load(tmp_path) == {"0" * 64: {"1" * 16: pl.__version__}}
    text = path.read_text()
    old = {"version": pl.__version__, "digest": json.loads(text)["digest"], "sources": "1" * 16}[key]
    path.write_text(text.replace(old, old[:-1] + "2"))
    with pytest.raises(ValueError, match="is damaged: its digest does not fit"):
        attested.load(tmp_path)
    path.write_text(json.dumps({"0" * 64: {"1" * 16: "0.8.0"}}))
    assert attested.load(tmp_path) == {"0" * 64: {"1" * 16: "0.8.0"}}


def test_a_run_reads_what_it_wrote_itself_whatever_its_size_and_others_do_not(honest, tmp_path, monkeypatch, capsys):
    path = dataset.write(honest, tmp_path / "mine.nc")
    assert dataset.load(path, most=None).equals(honest)
    with pytest.raises(ValueError, match=r"mine\.nc declares \d+ bytes; wanted at most 100"):
        dataset.load(path, most=100)
    monkeypatch.setattr(describe, "_LABELS", 1)
    status, (line,) = said(capsys, "show", NAME, "--archive", tmp_path)
    assert (status, "wanted at most 1 to be shown" in line) == (2, True)


def test_a_variable_that_is_neither_number_nor_text_is_one_line(tmp_path, capsys):
    with h5py.File(tmp_path / "mine.nc", "w") as file:
        file.create_dataset("latency_s", data=np.zeros(3, [("a", "f8"), ("b", "f8")]))
    status, (line,) = said(capsys, "show", NAME, "--archive", tmp_path)
    assert (status, "mine.nc has 'latency_s' of type '|V16'; wanted numbers or texts" in line) == (2, True)


def test_a_dimension_without_labels_stores_nothing_and_declares_nothing(honest, tmp_path):
    wide = honest.expand_dims(draw=100_000)[["latency_s"]]
    path = dataset.write(wide, tmp_path / "x.nc")
    assert dataset.load(path).equals(wide)
    with h5py.File(path, "r+") as file:
        file["draw"].attrs["NAME"] = np.bytes_(
            b"This is a netCDF dimension but not a netCDF variable"
        )  # with no point: it is one
        del file["latency_s"]
        file.create_dataset("other", (20_000_000,), dtype="f8")
        file["other"].attrs["NAME"] = file["draw"].attrs["NAME"]
    with pytest.raises(ValueError, match="declares"):
        dataset.load(path)


def test_a_file_that_states_a_scale_of_its_numbers_is_read_without_a_warning(tmp_path, capfd):
    path = tmp_path / "scaled.nc"
    with h5py.File(path, "w") as file:
        file["x"] = np.array([1.0, np.inf])
        file["x"].attrs["scale_factor"] = 0.0
    assert np.isnan(dataset.load(path).x.values[1])
    assert capfd.readouterr() == ("", "")
