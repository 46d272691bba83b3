"""The other tests elsewhere: with the lock on other Pythons, on the wheel with the newest and the lowest packages."""

import functools
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import AWAY

from pimllm_lib.core.paths import ROOT

UV = Path(sys.executable).with_name("uv")
#: The minor versions wanted one by one; whatever is newer is wanted too.
WANTED = {"3.11": 11, "3.12": 12, "3.13": 13}


def uv(*words, **options):
    return subprocess.run([UV, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


@functools.cache
def pythons():
    """Return minor version -> path of the newest such Python among those on the PATH, of pyenv, and of uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    path = os.pathsep.join([*map(str, pyenv.glob("versions/*/bin")), AWAY["PATH"]])
    listed = uv("python", "list", "--only-installed", "--output-format", "json", env=AWAY | {"PATH": path})
    kinds = [one for one in json.loads(listed) if (one["implementation"], one["variant"]) == ("cpython", "default")]
    minors = {one["version_parts"]["minor"]: one["path"] for one in reversed(kinds)}
    return {minor: minors[minor] for minor in sorted(minors) if minor >= min(WANTED.values())}


def passes(capsys, what, *program, **options):
    """Whether a program ends well; what it says is shown, as are warnings that are no errors."""
    with capsys.disabled():
        sys.stdout.write(f"\n== {what}\n")
        sys.stdout.flush()
        return subprocess.run(list(map(str, program)), env=AWAY, check=False, **options).returncode == 0


@pytest.mark.pythons
@pytest.mark.parametrize("wanted", [*WANTED, "newer"])
def test_the_tests_pass_on_every_python(wanted, capsys):
    minor = WANTED.get(wanted, max(pythons()))
    if minor not in pythons() or (wanted == "newer" and minor in WANTED.values()):
        pytest.skip(f"no Python {wanted} was found")
    if minor == sys.version_info.minor:
        pytest.skip(f"Python {wanted} is the one of 'make test'")
    arguments = ["MARK=", f"VENV=.venv-3.{minor}", f"PYTHON={pythons()[minor]}"]
    assert passes(capsys, f"Python 3.{minor}", "make", "test", *arguments, cwd=ROOT)


def installed(which, python, wheel):
    """Return a new environment's programs, with a wheel and the packages it asks for; nothing is taken from here."""
    venv = ROOT / f".venv-{which}"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    runner = [text for text in extras["dev"] if text.startswith(("pytest", "hypothesis"))]
    uv("venv", "--quiet", "--clear", "--python", python, venv)
    how = {"newest": "highest", "lowest": "lowest-direct"}[which]
    options = ["--no-config", "--quiet", "--python", venv / "bin" / "python", "--resolution", how]
    uv("pip", "install", *options, wheel, *runner, "-r", ROOT / "pyproject.toml")  # whose bounds are then direct ones
    return venv / "bin"


@pytest.mark.packages
@pytest.mark.parametrize("which", ["newest", "lowest"])
def test_the_tests_pass_on_the_wheel_with_the_newest_and_the_lowest_packages(which, tmp_path, capsys):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    minor = {"newest": max, "lowest": min}[which](pythons())
    programs = installed(which, pythons()[minor], wheel)
    others = [f"-Wdefault::{kind}" for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")]
    library = programs.parent / "lib" / f"python3.{minor}" / "site-packages" / "pimllm_lib"
    # what needs PyTorch, Dask or hatchling
    ignored = [library / "analog" / "lm" / "training.py", library / "shipped", ROOT / "tests" / "test_distributed.py"]
    where = ["--rootdir", ROOT, "-c", ROOT / "pyproject.toml", *(f"--ignore={path}" for path in ignored)]
    argv = [programs / "pytest", "-n", "auto", "-p", "no:cacheprovider", *others, *where, ROOT / "tests", library]
    # from an empty folder, so that the library found is the installed one
    (tmp_path / "empty").mkdir()
    assert passes(capsys, f"{which} packages, Python 3.{minor}", *argv, cwd=tmp_path / "empty")
