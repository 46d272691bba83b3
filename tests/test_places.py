"""Each kind of change takes the places that CONTRIBUTING names, and no others: each is made in a copy, and run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import AWAY, checkout

ROOT = Path(__file__).parents[1]
pytestmark = checkout


class Copy:
    """A copy of what a change touches, which knows where it was changed."""

    def __init__(self, folder):
        self.folder, self.touched = folder, set()
        for name in ("pimllm_lib", "notebooks"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "requirements.lock", "book/_toc.yml", "book/references.bib"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)

    def add(self, place, text):
        path = self.folder / place
        path.write_text((path.read_text() if path.exists() else "") + text)
        self.touched.add(place)

    def put(self, place, text, *, after):
        path = self.folder / place
        assert path.read_text().count(after) == 1, f"{place}: {after}"
        path.write_text(path.read_text().replace(after, after + text))
        self.touched.add(place)

    def run(self, *arguments):
        found = [str(self.folder), str(self.folder / "notebooks")]
        environment = AWAY | {"PYTHONPATH": os.pathsep.join(found), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=environment, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pimllm(self, *arguments):
        return self.run("-m", "pimllm_lib", *arguments)


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def places(change):
    """Return the files that CONTRIBUTING names for a change."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (row,) = re.findall(rf"^\| {re.escape(change)} \| (.*) \|$", text, flags=re.MULTILINE)
    return re.findall(r"`([a-z_/]+/[\w*.-]+\.\w+)`", row)


def are_the_places_of(change, touched):
    """Say whether CONTRIBUTING names the touched files for a change, five at most, and no others."""
    named = places(change)
    assert len(named) <= 5
    matched = {place: [name for name in named if Path(place).match(name)] for place in touched}
    assert all(matched.values()), f"{change}: {touched} are not {named}"
    assert {name for names in matched.values() for name in names} == set(named)


def test_a_literature_number(copy):
    text = """
[array-of-a-paper]
part = "SystolicArray"
summary = "16 x 16 of a paper"
"""
    for field, value, unit in (
        ("rows", 16, "1"), ("cols", 16, "1"), ("rate_hz", 500, "MHz"), ("active_pe_energy_j", 0.2, "pJ"),
        ("idle_pe_energy_j", 0.03, "pJ"),
    ):  # fmt: skip
        text += f'{field} = {{ value = {value}, unit = "{unit}", source = "mine2026", status = "assumed" }}\n'
    copy.add("pimllm_lib/catalog/parts.toml", text)
    copy.add("book/references.bib", "@misc{mine2026, author = {A. Reader}, title = {An array}, year = {2026}}")
    asked = ("--model", "opt-1.3b", "--context", "128", "--json")
    (mine,) = json.loads(copy.pimllm("evaluate", "--array", "array-of-a-paper", *asked))
    (own,) = json.loads(copy.pimllm("evaluate", *asked))
    assert mine["tokens_per_s"] != own["tokens_per_s"]
    are_the_places_of("a literature number", copy.touched)


def test_a_model(copy):
    text = """
["mine-8m"]
source = "radford2019"
where = "config.json"
status = "cited"
d_model = 256
d_ff = 1024
n_layers = 8
n_heads = 4
n_kv_heads = 4
head_dim = 64
vocab_size = 1000
card_parameters = { value = 6.6e6, where = "card" }
"""
    copy.add("pimllm_lib/catalog/models.toml", text)
    rows = json.loads(copy.pimllm("evaluate", "--model", "mine-8m", "--context", "128", "--json"))
    assert rows[0]["model"] == "mine-8m"
    assert rows[0]["tokens_per_s"] > 0
    are_the_places_of("a model", copy.touched)


def test_a_chapter(copy):
    cells = {
        "parameters": 'model: str = "opt-1.3b"  # a catalog name\ninto: str = "executed"  # folder',
        "": "from pimllm_chapters import head_room\nfrom pimllm_lib.archive import dataset\nds = head_room.compute(model)",
        "answer": "head_room.answer(ds)",
        "hide-output": 'dataset.save(ds, "17-head-room", title="Room", parameters={"model": model}, into=into)',
    }
    code = [
        {"cell_type": "code", "id": f"cell-{i}", "metadata": {"tags": [tag] if tag else []}, "source": source,
         "execution_count": None, "outputs": []}
        for i, (tag, source) in enumerate(cells.items())
    ]  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    words = {"cell_type": "markdown", "id": "cell-w", "metadata": {}, "source": "# How much room?"}
    notebook = {"cells": [words, *code], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    module = '''"""Chapter 17."""

import pimllm_lib as pl
from pimllm_lib.core.schema import annotate


def compute(model):
    """Return the rate, and what is left of a second."""
    ds = pl.metrics.summary(pl.evaluate(system="tpu-llm", model=model, context_len=128))
    return annotate(ds[["tokens_per_s"]].assign(room_s=1 / ds.tokens_per_s))


def answer(ds):
    """Return it in words."""
    return f"{ds.room_s.item():.3f} s"
'''
    copy.add("notebooks/17-head-room.ipynb", json.dumps(notebook))
    copy.add("notebooks/pimllm_chapters/head_room.py", module)
    variable = '\n    "room_s": Variable("s", "time of a token", extensive=False),'
    copy.put("pimllm_lib/core/schema.py", variable, after="VARIABLES: dict[str, Variable] = {")
    copy.put("book/_toc.yml", "\n      - file: results/17-head-room", after="      - file: results/16-analog-engine")
    copy.touched.add("tests/test_notebooks.py")  # parameters of its own, for the tests of every notebook
    copy.pimllm("run", "17-head-room", "--into", "out")
    read = "from pimllm_lib.archive import dataset; import pathlib; "
    read += "print(dataset.load(pathlib.Path('out/17-head-room.nc')).room_s.attrs['long_name'])"
    assert copy.run("-c", read) == "time of a token\n"
    are_the_places_of("a chapter", copy.touched)
