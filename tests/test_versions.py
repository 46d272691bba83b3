"""One set of versions: pyproject, the lock and environment.yml agree, and the lock can be trusted."""

import re
import tomllib
from importlib.metadata import version

import pytest
import yaml
from conftest import checkout
from packaging.requirements import Requirement

from pimllm_lib import __version__
from pimllm_lib.core.paths import LOCK, ROOT

pytestmark = checkout
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked_in(path):
    return dict(re.findall(r"^([\w.-]+)==([^ \\;]+)", path.read_text(), flags=re.MULTILINE))


LOCKED = locked_in(LOCK)
EXTRAS = PROJECT["optional-dependencies"]
WANTED = [Requirement(text) for text in [*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["dev"]]]


@pytest.mark.parametrize("requirement", WANTED, ids=str)
def test_the_lock_holds_a_version_that_pyproject_accepts_and_it_is_the_one_installed(requirement):
    locked = LOCKED[requirement.name.lower()]
    assert requirement.specifier.contains(locked)
    assert version(requirement.name) == locked


@pytest.mark.parametrize("extra", ["distributed", "fast"])
def test_an_optional_package_runs_beside_the_versions_of_the_main_lock(extra):
    beside = locked_in(ROOT / f"requirements-{extra}.lock")
    for wanted in map(Requirement, EXTRAS[extra]):
        assert wanted.specifier.contains(beside[wanted.name])
        assert wanted.name not in LOCKED
    shared = (LOCKED.keys() & beside.keys()) - {"importlib-metadata"}
    assert {name: beside[name] for name in shared} == {name: LOCKED[name] for name in shared}


def test_the_environment_of_pytorch_runs_the_versions_of_the_main_lock():
    beside = locked_in(ROOT / "requirements-hf.lock")
    assert {name: beside[name] for name in LOCKED.keys() & beside.keys()} == {
        name: LOCKED[name] for name in LOCKED.keys() & beside.keys()
    }
    assert Requirement(EXTRAS["text"][0]).specifier.contains(beside["tokenizers"])
    assert f"pip install --quiet --disable-pip-version-check {EXTRAS['train'][0]} " in (ROOT / "Makefile").read_text()
    assert not {"tokenizers", "transformers", "torch"} & LOCKED.keys()


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda path: path.name)
def test_every_locked_package_has_hashes_and_no_address(lock):
    text = lock.read_text()
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert not re.search(r"https?://|index-url", text)
    assert not re.search(r"^torch==", text, flags=re.MULTILINE)


def test_the_conda_route_installs_the_lock_on_the_python_of_pyproject():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(item for item in conda["dependencies"] if isinstance(item, str) and item.startswith("python"))
    assert python == f"python{PROJECT['requires-python']}"
    pip = next(item["pip"] for item in conda["dependencies"] if isinstance(item, dict))
    assert pip == ["--require-hashes -r requirements.lock"]


def test_the_citation_names_this_version_and_invents_nothing():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["authors"] == [{"name": "The pimllm contributors"}]
    assert not {"doi", "repository-code", "url", "identifiers"} & citation.keys()


def test_the_changelog_has_this_version():
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
