"""What can go wrong with results and their commands: one clear line, status 2 or 1, and nothing half-written."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

import h5py
import pytest
from conftest import DATA

from pimllm_lib.archive import dataset, jobs, manifest, notebooks, parameters, provenance
from pimllm_lib.cli.main import main
from pimllm_lib.core import files, paths

SLUG = "03-tokens-per-second"
NC = f"{SLUG}.nc"


def a_notebook(folder, *cells):
    """Write a small notebook and return its path."""
    code = ["x: int = 1  # a number\ninto: str = 'executed'  # folder", *cells]
    made = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {"tags": ["parameters"]} if i == 0 else {}, "source": source,
         "execution_count": None, "outputs": []}
        for i, source in enumerate(code)
    ]  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path = folder / "small.ipynb"
    path.write_text(json.dumps({"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}))
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders and files with one thing wrong in each."""
    root = tmp_path_factory.mktemp("places")
    good = (DATA / "results" / NC).read_bytes()
    (root / "empty").mkdir()
    (root / "file").write_text("x")
    for name, data in {
        "truncated": good[:-100], "flipped": good[:5000] + bytes([good[5000] ^ 4]) + good[5001:], "nothing": b"",
        "foreign": b"not netCDF", "zeros": bytes(10_000),
    }.items():  # fmt: skip
        manifest.publish(root / name, {NC: good})
        (root / name / NC).write_bytes(data)
        (root / f"loose-{name}").mkdir()
        (root / f"loose-{name}" / NC).write_bytes(data)
    manifest.publish(root / "missing", {NC: good})
    (root / "missing" / NC).unlink()
    manifest.publish(root / "good", {NC: good})
    shutil.copytree(root / "good", root / "unlisted")
    (root / "unlisted" / "other.nc").write_bytes(good)
    for name, text in {
        "list": "[]",
        "half": '{"files": {',
        "deep": "[" * 100_000,
        "edited": '{"files": {}, "digest": "0"}',
    }.items():
        (root / f"manifest-{name}").mkdir()
        (root / f"manifest-{name}" / manifest.NAME).write_text(text)
    (root / "leaving").mkdir()
    (root / "leaving" / manifest.NAME).write_bytes(manifest.compose({"../x.nc": manifest.entry(b"")}))
    (root / "alien").mkdir()
    with h5py.File(root / "alien" / NC, "w") as file:
        file["x"] = [1.0, 2.0]
    (root / "text.zip").write_text("not a zip file")
    with zipfile.ZipFile(root / "no-manifest.zip", "w") as file:
        file.writestr("x.txt", "x")
    (root / "list.yaml").write_text("- 1\n")
    (root / "broken.yaml").write_text("a: [1\n")
    (root / "code.yaml").write_text("context_len: !!python/object/apply:os.system ['true']\n")
    (root / "aliases.yaml").write_text("a: &a [1]\nb: [*a, *a]\n")
    (root / "unknown.yaml").write_text("context_length: [128]\n")
    (root / "typed.yaml").write_text("context_len: 128\n")
    (root / "dates.yaml").write_text("models: [2026-01-01]\n")
    shutil.copytree(root / "good", root / "pending")
    pending = manifest.compose(manifest.load(root / "good") | {"new.nc": {"next": manifest.entry(b"")}})
    (root / "pending" / manifest.NAME).write_bytes(pending)
    (root / "twins" / "results").mkdir(parents=True)
    for name in (NC, f"results/{NC}"):
        (root / "twins" / name).write_bytes(good)
    (root / "odd").mkdir()
    odd = dataset.decode(good, NC)
    dataset.write(odd.assign_attrs(provenance='{"parameters": {}, "source_hash": 1}'), root / "odd" / NC)
    with zipfile.ZipFile(root / "damaged.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(manifest.NAME, manifest.compose({NC: manifest.entry(good)}))
        file.writestr(NC, good)
    whole = (root / "damaged.zip").read_bytes()
    (root / "damaged.zip").write_bytes(whole[:2000] + bytes(60) + whole[2060:])
    for name in ("one", "two"):
        (root / name).mkdir()
        (root / name / "s.ipynb").write_text('{"cells": [], "nbformat": 4, "metadata": {}}')
    (root / "empty.ipynb").write_text('{"cells": []}')
    a_notebook(root, "1").rename(root / "bare.ipynb")
    bare = (root / "bare.ipynb").read_text()
    (root / "bare.ipynb").write_text(bare.replace("into: str = 'executed'  # folder", ""))
    (root / "text.ipynb").write_text("not a notebook")
    (root / "list.ipynb").write_text("[]")
    return root


#: Command -> words that its one line on stderr must have. {p} is the folder with the places.
REFUSED = [
    ("show 03-tokens", "did you mean '03-tokens-per-second'?"),
    ("show x --archive {p}/none", "does not exist; wanted a folder with results"),
    ("show x --archive {p}/file", "is not a folder"),
    ("show x --archive {p}/empty", "holds no results"),
    (f"show {SLUG} --archive {{p}}/loose-truncated", "is not a netCDF-4 file"),
    (f"show {SLUG} --archive {{p}}/loose-nothing", "is not a netCDF-4 file"),
    (f"show {SLUG} --archive {{p}}/loose-foreign", "is not a netCDF-4 file"),
    (f"show {SLUG} --archive {{p}}/loose-zeros", "is not a netCDF-4 file"),
    (f"show {SLUG} --archive {{p}}/alien", "has no provenance of this project"),
    (f"show {SLUG} --archive {{p}}/leaving", "leaves its folder"),
    ("show x --archive {p}/manifest-list", "is not a manifest"),
    ("show x --archive {p}/manifest-half", "is not a manifest"),
    ("show x --archive {p}/manifest-deep", "is not a manifest"),
    ("show x --archive {p}/manifest-edited", "is damaged: its digest does not fit"),
    ("cite 03-token", "unknown result '03-token', did you mean"),
    (f"cite {SLUG}::latency", "unknown variable 'latency', did you mean 'latency_s'?"),
    (f"cite {SLUG}::latency_s", "wanted labels for system = tpu-llm, pim-llm"),
    (f"cite {SLUG}::latency_s::system", "has no '='"),
    (f"cite {SLUG}::latency_s::sytem=pim-llm", "did you mean 'system'?"),
    (f"cite {SLUG}::latency_s::system=pim", "unknown label of system 'pim', did you mean 'pim-llm'?"),
    (f"cite {SLUG}::latency_s::context_len=129", "unknown label of context_len '129'"),
    (f"cite {SLUG} --archive {{p}}/flipped", "is not the file that the manifest names"),
    (f"cite {SLUG} --archive {{p}}/missing", "is not the file that the manifest names"),
    ("verify 03-tokens", "did you mean '03-tokens-per-second'?"),
    ("verify --heavy --no-recompute", "not allowed with"),
    ("verify --jobs 0", "wanted a whole number from 1 to 256"),
    ("diff {p}/none data", "is no folder and no file, and no version, tag or commit"),
    ("diff --help=1 data", "ignored explicit argument"),
    ("diff HEAD:README.md HEAD", "no version, tag or commit of this checkout either"),
    ("diff {p}/flipped {p}/good", "is not as its manifest says: 03-tokens-per-second.nc has other bytes"),
    ("diff {p}/text.zip {p}/good", "is not a netCDF-4 file"),
    ("diff {p}/no-manifest.zip {p}/good", "wanted a file made by 'pimllm export'"),
    ("diff {p}/alien {p}/good", "has no provenance of this project"),
    ("export --to {p}/file", "is there already; wanted a new file name"),
    ("export --to {p}/file/x.zip", "cannot be written"),
    ("export --to {p}/x.zip --archive {p}/truncated", "cannot be exported: 03-tokens-per-second.nc has"),
    ("export --to {p}/x.zip --archive {p}/empty", "is no archive: it has no manifest.json"),
    ("fetch 7.7.7 --from {p}/good", "unknown version with an archive '7.7.7'"),
    ("fetch ../x --from {p}/good", "wanted letters, digits and dots"),
    ("fetch 7.7.7 --from {p}/good --sha256 0", "wanted a SHA-256, 64 hexadecimal digits"),
    ("fetch 7.7.7 --from {p}/good --into {p}/new --sha256 " + "0" * 64, "has other bytes than pinned"),
    ("fetch 7.7.7 --from {p}/none --into {p}/new --sha256 " + "0" * 64, "does not exist; wanted a file"),
    ("fetch 7.7.7 --from {p}/text.zip --into {p}/new --sha256 " + "0" * 64, "cannot be read as a zip file"),
    ("fetch 7.7.7 --from {p}/good --into {p}/missing --sha256 " + "0" * 64, "holds another archive"),
    (f"run {SLUG} -f {{p}}/none.yaml", "does not exist; wanted a file"),
    (f"run {SLUG} -f {{p}}/list.yaml", "wanted lines like"),
    (f"run {SLUG} -f {{p}}/broken.yaml", "is not YAML"),
    (f"run {SLUG} -f {{p}}/code.yaml", "is not YAML: could not determine a constructor"),
    (f"run {SLUG} -f {{p}}/aliases.yaml", "has aliases; wanted plain values"),
    (f"run {SLUG} -f {{p}}/unknown.yaml", "did you mean 'context_len'?"),
    (f"run {SLUG} -f {{p}}/typed.yaml", "wanted list[int]"),
    (f"run {SLUG} -f {{p}}/dates.yaml", "wanted list[str]"),
    (f"run {SLUG} -p models ['$(id)']", "wanted a name, a path or a number"),
    (f"run {SLUG} --jobs many", "wanted a whole number from 1 to 256"),
    (f"run {SLUG} --into {{p}}/x --archive", "not allowed with"),
    (f"run {SLUG} --archive {{p}}/none", "does not exist; wanted a folder with results"),
    (f"run all {SLUG}", "wanted 'all' alone"),
    (f"run {SLUG} --into {{data}}/results", "belongs to the archive"),
    (f"run {SLUG} --into {{data}}", "belongs to the archive"),
    (f"run {SLUG} --into ~nobody-here/x", "the home of an unknown user"),
    ("run {p}/one/s.ipynb {p}/two/s.ipynb", "two notebooks are named s"),
    ("run {p}/empty.ipynb", "has no parameter 'into'"),
    ("run {p}/one/s.ipynb", "is not a Python notebook"),
    ("run {p}/bare.ipynb", "has no parameter 'into'"),
    ("show x --archive ~nobody-here/x", "the home of an unknown user"),
    ("diff {p}/damaged.zip {p}/good", "cannot be read as a zip file"),
    ("diff {p}/twins {p}/good", "has two results named 03-tokens-per-second"),
    (f"cite {SLUG}::::system=pim-llm", "has coordinates and no variable"),
    (f"cite {SLUG} --archive {{p}}/odd", "has no provenance of this project"),
    ("fetch 7.7.7 --from  --sha256 " + "0" * 64, "a path is empty"),
    ("fetch 7.7.7 --from {p}/pending --into {p}/new --sha256 PENDING", "was being renewed when it was copied"),
    ("export --to {p}/x.zip --archive {p}/pending", "is being renewed, or a run that renewed it was killed"),
    ("run {p}/none.ipynb", "does not exist; wanted a notebook"),
    ("run {p}/text.ipynb", "is not a notebook"),
    ("run {p}/list.ipynb", "is not a notebook"),
]  # fmt: skip


def test_there_are_many_of_them():
    assert len(REFUSED) >= 40


@pytest.mark.parametrize(("command", "words"), REFUSED, ids=[command for command, _ in REFUSED])
def test_bad_input_is_one_line_status_2_and_leaves_no_trace(command, words, places, capfd):
    before = sorted(str(path) for path in places.rglob("*"))
    pending = files.hash_of((places / "pending" / manifest.NAME).read_bytes())
    assert main(command.format(p=places, data=paths.DATA).replace("PENDING", pending).split(" ")) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("pimllm: ")
    assert words in err or not paths.IN_CHECKOUT  # an installed package refuses some for having no archive
    assert sorted(str(path) for path in places.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("truncated", f"{NC} has"),
        ("flipped", f"{NC} has other bytes"),
        ("nothing", f"{NC} has 0 bytes"),
        ("foreign", f"{NC} has 10 bytes"),
        ("zeros", f"{NC} has 10000 bytes"),
        ("missing", f"{NC} is missing"),
        ("unlisted", "other.nc is not in the manifest"),
        ("manifest-half", "is not a manifest"),
        ("manifest-edited", "is damaged"),
        ("leaving", "leaves its folder"),
        ("empty", "is no archive"),
        ("odd", "is no archive"),
    ],
)
def test_verify_names_what_is_wrong_with_an_archive_and_exits_with_1(place, words, places, capsys):
    assert main(["verify", "--no-recompute", "--archive", str(places / place)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_a_notebook_that_raises_says_where_in_three_lines_and_changes_nothing(tmp_path, capfd):
    into = tmp_path / "into"
    path = a_notebook(tmp_path, "y = 2\nz = y / 0")
    manifest.publish(into, {"small.nc": b"as before"})
    assert main(["run", str(path), "--into", str(into)]) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if line and "|" not in line]
    assert said == [
        "pimllm: small failed in cell 3; nothing was written",  # papermill puts the given parameters in a cell before it
        "  line 2: z = y / 0",
        "  ZeroDivisionError: division by zero",
    ]
    assert manifest.damage(into) == []
    assert (into / "small.nc").read_bytes() == b"as before"


@pytest.mark.slow
def test_a_notebook_whose_kernel_dies_or_warns_changes_nothing(tmp_path, capfd):
    for code, words in (
        ("import os; os._exit(1)", "its kernel died"),
        ("import warnings; warnings.warn('hm')", "warns"),
    ):
        path = a_notebook(tmp_path, code)
        assert main(["run", str(path), "--into", str(tmp_path / "into")]) == 1
        assert words in capfd.readouterr().err
        assert not (tmp_path / "into").exists()


def test_a_run_that_was_killed_when_it_had_announced_a_new_result_leaves_an_archive_that_verifies(places, capsys):
    assert main(["verify", "--no-recompute", "--archive", str(places / "pending")]) == 0
    assert main(["show", SLUG, "--archive", str(places / "pending")]) == 0
    assert "results as the manifest says: 1;" in capsys.readouterr().out


def test_a_users_notebook_bears_the_hash_of_its_own_code_and_is_run_every_time(tmp_path, capfd, in_process):
    source = paths.notebook("01-operation-share").read_text()
    mine = tmp_path / "mine.ipynb"
    mine.write_text(source.replace("import pimllm_lib as pl", "import pimllm_lib as pl  # mine"))
    argv = ["run", str(mine), "-p", "models", "['opt-125m']", "-p", "context_len", "[8]", "--into", str(tmp_path / "o")]
    assert main(argv) == 0
    record = dataset.record(dataset.load(tmp_path / "o" / "01-operation-share.nc"))
    assert record["source_hash"] == provenance.source_hash("mine", mine)
    assert record["source_hash"] != provenance.source_hash("01-operation-share")
    assert notebooks.stale(str(mine), tmp_path / "o", {})
    capfd.readouterr()


def test_a_change_of_prose_or_of_a_package_makes_a_copy_stale_and_a_given_default_does_not(
    tmp_path, monkeypatch, in_process
):
    shutil.copytree(paths.NOTEBOOKS, tmp_path / "notebooks")
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    slug, into = "01-operation-share", tmp_path / "into"
    small = {"models": ["opt-125m"], "context_len": [8]}
    notebooks.run(slug, into, small)
    assert not notebooks.stale(slug, into, small)
    assert not notebooks.stale(slug, into, small | {"conventions": "as-published"})
    assert notebooks.stale(slug, into, small | {"context_len": [16]})
    path = tmp_path / "notebooks" / f"{slug}.ipynb"
    text = path.read_text()
    path.write_text(text.replace("## Limits", "## Its limits"))
    assert notebooks.stale(slug, into, small)
    path.write_text(text)
    assert not notebooks.stale(slug, into, small)
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "pytest"))
    assert notebooks.stale(slug, into, small)


@pytest.mark.slow
def test_an_interrupted_run_of_several_goes_on_where_it_stopped(tmp_path, capfd):
    work = ["01-operation-share", "04-latency-breakdown"]
    small = ["-p", "models", "['opt-125m']", "-p", "context_len", "[8]", "--into", str(tmp_path)]
    assert main(["run", work[0], *small]) == 0
    first = (tmp_path / f"{work[0]}.ipynb").stat().st_mtime_ns
    capfd.readouterr()
    assert main(["run", *work, *small]) == 0
    out, err = capfd.readouterr()
    assert out.split() == [str(tmp_path / f"{work[1]}.ipynb")]
    assert f"{work[0]} is up to date" in err
    assert (tmp_path / f"{work[0]}.ipynb").stat().st_mtime_ns == first
    (tmp_path / f"{work[0]}.nc").write_bytes(b"damaged")
    assert main(["run", *work, *small]) == 0
    assert capfd.readouterr().out.split() == [str(tmp_path / f"{work[0]}.ipynb")]
    assert manifest.damage(tmp_path) == []


def test_a_result_made_with_a_users_file_is_never_taken_for_fresh(tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(
        "d_model = 64\nd_ff = 64\nn_layers = 1\nn_heads = 2\nn_kv_heads = 2\nhead_dim = 32\nvocab_size = 9\n"
    )
    values = parameters.check("01-operation-share", {"models": ["mine.toml"], "context_len": [8]})
    notebooks.run("01-operation-share", tmp_path / "into", values)
    (tmp_path / "mine.toml").unlink()
    assert notebooks.stale("01-operation-share", tmp_path / "into", values)
    assert "mine.d_model" in dataset.record(dataset.load(tmp_path / "into" / "01-operation-share.nc"))["user_values"]


@pytest.mark.slow
def test_several_notebooks_run_side_by_side_give_the_bytes_of_one_after_the_other(tmp_path, capfd):
    work = {
        "01-operation-share": {"models": ["opt-125m"], "context_len": [8]},
        "04-latency-breakdown": {"models": ["opt-125m"], "context_len": [8]},
    }
    assert len(list(jobs.run(work, tmp_path / "one", 1, progress=False))) == 2
    assert len(list(jobs.run(work, tmp_path / "two", 2, progress=False))) == 2
    for name in [f"{slug}{end}" for slug in work for end in (".nc", ".ipynb")]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / manifest.NAME).read_bytes() == (tmp_path / "two" / manifest.NAME).read_bytes()
    path = a_notebook(tmp_path, "raise KeyError(x)")
    with pytest.raises(notebooks.NotebookFailed, match="small failed in cell 3"):
        list(
            jobs.run(
                {str(path): {}, "01-operation-share": {"models": ["opt-125m"]}}, tmp_path / "two", 2, progress=False
            )
        )
    assert "pimllm" not in capfd.readouterr().err


def test_a_wrong_parameter_name_is_refused_in_under_two_seconds_from_any_folder(tmp_path):
    program = [sys.executable, "-m", "pimllm_lib", "run", SLUG, "-p", "context_length", "[8192]", "--into", "x"]
    start = time.monotonic()
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean 'context_len'?" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - start < 10  # two seconds on a quiet machine; what is meant is: no kernel


def test_a_full_disk_leaves_the_archive_as_it_was(tmp_path):
    manifest.publish(tmp_path, {"x.nc": b"before"})
    code = (
        "import resource, sys; from pathlib import Path; from pimllm_lib.archive import manifest\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        f"manifest.publish(Path({str(tmp_path)!r}), {{'x.nc': bytes(6000), 'y.nc': b''}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "x.nc cannot be written: File too large" in done.stderr
    assert manifest.damage(tmp_path) == []
    assert (tmp_path / "x.nc").read_bytes() == b"before"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_folder_without_write_permission_is_refused_in_one_line_and_stays_as_it_was():
    folder = files.Path(tempfile.mkdtemp())
    manifest.publish(folder, {"x.nc": b"before"})
    folder.chmod(0o555)
    folder.joinpath("x.nc").chmod(0o444)
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            if os.geteuid() == 0:
                os.setuid(65534)  # root may write anywhere
            manifest.publish(folder, {"x.nc": b"after"})
        except ValueError as error:
            said = str(error)
        finally:
            os._exit(0 if "cannot be written: Permission denied" in said else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (folder / "x.nc").read_bytes() == b"before"
    assert manifest.damage(folder) == []
    folder.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_folder_that_takes_no_files_is_one_line(capsys):
    assert main(["export", "--to", "/proc/x.zip"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(ValueError, match="cannot be written"):
        manifest.publish(files.Path("/proc/pimllm"), {"x.nc": b""})


@pytest.mark.slow
def test_verify_recomputes_and_lists_which_results_move_when_a_constant_of_the_catalog_changes(tmp_path):
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv*", "build", "_build", "executed", "__pycache__", ".*_cache")
    shutil.copytree(paths.ROOT, copy, ignore=ignored)
    program = [sys.executable, "-m", "pimllm_lib", "verify", "01-operation-share", "04-latency-breakdown"]

    def run(*options):
        return subprocess.run(
            [*program, *options], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    clean = run()
    assert (clean.returncode, clean.stderr) == (0, "")
    table = copy / "pimllm_lib" / "catalog" / "parts.toml"
    before = 'rate_hz = { value = 100, unit = "MHz"'
    assert before in table.read_text()
    table.write_text(table.read_text().replace(before, before.replace("100", "125")))
    moved = run("--json", "--jobs", "2")
    assert moved.returncode == 1
    found = json.loads(moved.stdout)
    latency = next(change for change in found["moved"] if change["variable"] == "latency_s")
    assert {change["result"] for change in found["moved"]} == {"04-latency-breakdown"}  # cycles do not know the clock
    assert latency["new"] == pytest.approx(latency["old"] * 100 / 125)
    assert latency["relative"] == pytest.approx(0.2)
    assert "04-latency-breakdown: latency_s: " in moved.stderr
    assert any(line.startswith("claim ") for line in found["problems"])


def test_what_failed_in_another_process_says_here_whether_it_was_bad_input():
    for bad_input in (True, False):
        come = pickle.loads(pickle.dumps(notebooks.NotebookFailed("a line", bad_input)))
        assert (str(come), come.bad_input) == ("a line", bad_input)
