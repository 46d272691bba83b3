"""Where people run it: homes that cannot be used, settings of other programs, modules that lie in the current folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from pimllm_lib.analog.lm import docstrings
from pimllm_lib.archive import dataset, kernels, notebooks
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput
from pimllm_lib.report.figure import Figure, panels

pytestmark = pytest.mark.adversity
SLUG = "03-tokens-per-second"
SMALL = ["-p", "models", "['opt-125m']", "-p", "context_len", "[8]"]
PIMLLM = Path(sys.executable).with_name("pimllm")
#: Modules that Python, a kernel, a child process and the library import.
SHADOWS = ("numpy", "random", "json", "tempfile", "h5py", "IPython", "matplotlib", "multiprocessing")


def pimllm(*words, **environment):
    """Run the command in the current folder, as a shell would."""
    usual = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [PIMLLM, *map(str, words)], env=usual | environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """Be in a folder of a stranger's, in which modules lie that say so where they are run."""
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit(9)\n"
        )
    monkeypatch.chdir(folder)
    return folder


def unusable(tmp_path):
    """Return an environment in which no program finds a place for its files, and matplotlib's settings ask for LaTeX."""
    (tmp_path / "config" / "matplotlib").mkdir(parents=True)
    (tmp_path / "config" / "matplotlib" / "matplotlibrc").write_text("text.usetex: True\nno.such.key: 1\n")
    nowhere = tmp_path / "a file"
    nowhere.write_text("")
    names = ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "XDG_CACHE_HOME")
    return dict.fromkeys(names, str(nowhere / "x")) | {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.mark.slow
def test_verifying_a_strangers_archive_from_within_runs_none_of_its_code_and_needs_no_home(
    tmp_path, strange, monkeypatch, in_process
):
    monkeypatch.chdir(tmp_path)
    notebooks.run(SLUG, strange, {"models": ["opt-125m"], "context_len": [8]}, data_only=True)
    monkeypatch.chdir(strange)
    assert pimllm("verify", SLUG, "--archive", ".", **unusable(tmp_path)) == (0, "")
    assert not (tmp_path / "ran").exists()


STUDY = """system: pim-llm
model: opt-125m
context_len: 64
axes: {system.array.rate_hz: {low: 1e8, high: 8e8, law: log, points: 4}}
metrics: [tokens_per_s]
"""


def test_the_children_of_a_sweep_import_nothing_from_the_current_folder(tmp_path, strange):
    (strange / "study.yaml").write_text(STUDY)
    assert pimllm("sweep", "study.yaml", "--into", "out", "--jobs", "2", HOME="/dev/null") == (0, "")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_notebooks_side_by_side_import_nothing_from_the_current_folder(tmp_path, strange):
    words = ["run", SLUG, "01-operation-share", *SMALL, "--into", "out", "--jobs", "2"]
    assert pimllm(*words, **unusable(tmp_path)) == (0, "")
    assert not (tmp_path / "ran").exists()


def test_python_m_takes_nothing_from_the_current_folder_either(tmp_path, strange):
    words = [sys.executable, "-m", "pimllm_lib", "models"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "ran").exists()


def own_notebook(folder, *lines):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": []}
    cell["source"] = "\n".join(lines)
    parameters = cell | {"id": "p", "metadata": {"tags": ["parameters"]}, "source": 'into: str = "x"  # folder'}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": [parameters, cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "mine.ipynb").write_text(json.dumps(content))


@pytest.mark.slow
def test_a_notebook_of_ones_own_imports_what_lies_beside_it_after_all_that_is_installed(tmp_path, strange):
    beside = tmp_path / "it's mine"
    beside.mkdir()
    (beside / "helper_of_mine.py").write_text("model = 'opt-125m'\n")
    (beside / "numpy.py").write_text("raise SystemExit(9)\n")
    own_notebook(
        beside, "import pimllm_lib as pl", "from helper_of_mine import model", "from pimllm_lib.archive import dataset",
        "ds = pl.evaluate(system='tpu-llm', model=model, context_len=8)",
        "dataset.save(ds, 'mine', title='Mine', into=into, parameters={})",
    )  # fmt: skip
    assert pimllm("run", beside / "mine.ipynb", "--into", "out", **unusable(tmp_path)) == (0, "")
    assert dataset.load(Path("out", "mine.nc")).model.item() == "opt-125m"


def test_the_environment_of_kernels_is_as_before_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("MATPLOTLIBRC", "mine")
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    before = dict(os.environ)
    with kernels.environment(tmp_path, OWN="x"):
        assert os.environ["HOME"] == str(tmp_path)
        assert (os.environ["OWN"], os.environ["PYTHONSAFEPATH"]) == ("x", "1")
        assert "MATPLOTLIBRC" not in os.environ
    assert dict(os.environ) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_home_and_a_cache_that_can_be_used_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with kernels.environment(tmp_path / "own"):
        assert os.environ["HOME"] == str(tmp_path)
        assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "cache" / "pimllm" / "matplotlib")


def test_a_user_whom_the_system_does_not_know_has_no_cache(tmp_path, monkeypatch):
    def unknown(_):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(docstrings, "user_cache_path", unknown)
    monkeypatch.setattr(kernels, "user_cache_path", unknown)
    with pytest.raises(BadInput, match="cannot be written"):
        files.write(docstrings._place(()), b"")
    with kernels.environment(tmp_path):
        assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "matplotlib")


def drawn(name="x"):
    with panels() as (figure, ax):
        ax.plot([1, 2], [1, 3])
        ax.set(title=name, xlabel=name)
    return Figure(figure, "words").svg


def test_a_figure_does_not_depend_on_the_users_settings():
    usual = drawn()
    with mpl.rc_context({"text.usetex": True, "axes.grid": True, "savefig.bbox": "tight", "lines.linestyle": ":"}):
        assert drawn() == usual


@pytest.mark.parametrize("name", ["$x$", r"$\frac{$", "<!-- <b>x</b> -->", "a & b"])
def test_names_are_drawn_as_they_are(name):
    from xml.dom import minidom

    svg = drawn(name)
    assert minidom.parseString(svg.replace("xlink:", ""))
    assert "<b>" not in svg
