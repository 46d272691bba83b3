"""Each kind of change takes the places that CONTRIBUTING names, and no others: each is made in a copy, and run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import AWAY, checkout, copied_checkout

from pimllm_lib.engines import BY_NAME
from pimllm_lib.hardware import ENGINES, System

ROOT = Path(__file__).parents[1]
pytestmark = checkout

#: File -> (before what, what comes in), or the text of a new file.
ENGINE = {
    "pimllm_lib/hardware/counted.py": '''"""An engine that costs the same for every product."""

from pimllm_lib.core.parts import Value, declare, part
from pimllm_lib.core.rules import POSITIVE


@part
class Counted:
    """Energy and time of a product, whatever its size."""

    name: str
    product_j: Value = declare(POSITIVE, "energy of a product")
    product_s: Value = declare(POSITIVE, "time of a product")
''',
    "pimllm_lib/hardware/machine.py": (
        ("\n@part\nclass System", "from pimllm_lib.hardware.counted import Counted\n\n"),
        ("    routing: Mapping", '    counted: Counted | None = declare(PART, "what counts", default=None)\n'),
        ('"pim", "kv_pim")', '"counted", '),
    ),
    "pimllm_lib/engines/counted.py": '''"""What products cost that are only counted."""

from pimllm_lib.engines.entries import Entry, Work


def entries(counted, step, products, wanted):
    for product in products:
        yield Entry(product.op, "external", "energy_j", counted.product_j * product.calls)
        yield Work(product.op, "external", counted.product_s * product.calls)
''',
    "pimllm_lib/engines/__init__.py": (
        ("from pimllm_lib.engines import", "from pimllm_lib.engines import counted\n"),
        ('    "pim": Engine', '    "counted": Engine(counted.entries),\n'),
    ),
}
COMPONENT = {
    "pimllm_lib/core/schema.py": (
        (
            '    "external": Component(',
            '    "cooling": Component("fans", "array", energy="array", joules="PEs\' energy x share"),\n',
        ),
    ),
    "pimllm_lib/hardware/digital.py": (
        ("    rows: Value", '    cooling_share: Value = declare(AT_LEAST_0, "share that fans take", default=0.0)\n'),
    ),
    "pimllm_lib/costs/systolic.py": (
        (
            "\ndef energy(",
            '\ndef cooling(joules, share):\n    """Return the energy of fans."""\n    return joules * share\n\n',
        ),
    ),
    "pimllm_lib/engines/array.py": (
        (
            "    for phase, value in joules.items():",
            "    cooled = systolic.cooling(sum(joules.values()), array.cooling_share)\n"
            '    yield Entry(product.op, "cooling", "energy_j", cooled)\n',
        ),
    ),
}
#: What is run with the engine, and with the component: it prints what it finds as JSON.
WITH_ENGINE = """
from dataclasses import replace
from pimllm_lib.hardware.counted import Counted
here = pl.catalog.systems["pim-llm"]
counted = Counted(name="counted", product_j=3.0, product_s=0.5)
routing = dict(here.routing) | {"ff1": "counted"}
one = replace(here, name="with-counted", counted=counted, routing=routing)
ds = pl.evaluate(system=one, model="opt-1.3b", context_len=128, conventions="full-system", detail="component").squeeze()
found = {
    "layers": pl.catalog.models["opt-1.3b"].n_layers,
    "energy_j": ds.energy_j.sel(op="ff1", component="external").item(),
    "busy_s": ds.busy_s.sel(op="ff1").sel(component="external").item(),
    "latency_s": ds.latency_s.sel(op="ff1", component="external").item(),
    "tiles": ds.tiles.sel(op=["ff1", "ff2"]).sum("component").values.tolist(),
    "array_macs": ds.array_macs.sel(op="ff1").sum().item(),
    "total_j": pl.metrics.total(ds).energy_j.item() - ds.energy_j.drop_sel(component="external").sum().item(),
}
"""
WITH_COMPONENT = """
from pimllm_lib.core import schema
from pimllm_lib.core.parts import with_fields
from pimllm_lib.report.explain import explain
one = with_fields(pl.catalog.systems["tpu-llm"], {"name": "fanned", "array.cooling_share": 0.25})
args = {"model": "opt-1.3b", "context_len": 128, "conventions": "corrected"}
ds = pl.evaluate(system=one, detail="component", **args).squeeze()
plain = pl.evaluate(system="tpu-llm", detail="component", **args).squeeze()
parts = {name: pl.metrics.by_part(each, "energy_j", schema.ENERGY_PARTS).sel(part="array").item()
         for name, each in (("fanned", ds), ("plain", plain))}
found = parts | {
    "cooling": ds.energy_j.sel(component="cooling").sum().item(),
    "power": (pl.metrics.power(ds).power_w.sel(subsystem="array") * ds.latency_s.sum()).item(),
    "explained": [line for line in explain("energy_j", system=one, **args) if " cooling " in line],
}
"""


class Copy:
    """A copy of what a change touches, which knows where it was changed."""

    def __init__(self, folder):
        self.folder, self.touched = folder, set()
        copied_checkout(folder, "*.nc", "*.safetensors")
        (folder / "book").mkdir()
        for name in ("_toc.yml", "references.bib"):
            shutil.copy(ROOT / "book" / name, folder / "book" / name)

    def add(self, place, text):
        path = self.folder / place
        path.write_text((path.read_text() if path.exists() else "") + text)
        self.touched.add(place)

    def put(self, place, text, *, before):
        path = self.folder / place
        assert path.read_text().count(before) == 1, f"{place}: {before}"
        path.write_text(path.read_text().replace(before, text + before))
        self.touched.add(place)

    def run(self, *arguments):
        found = [str(self.folder), str(self.folder / "notebooks")]
        environment = AWAY | {"PYTHONPATH": os.pathsep.join(found), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder / "book", env=environment, timeout=300
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


@pytest.mark.slow
def test_a_chapter(copy):
    cells = {
        "parameters": 'model: str = "opt-1.3b"  # a catalog name\ninto: str = "executed"  # folder',
        "": "from pimllm_chapters import head_room\nfrom pimllm_lib.archive import dataset\nds = head_room.compute(model)",
        "answer": "head_room.box(ds)",
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
from pimllm_lib.report.box import Box


def compute(model):
    """Return the rate, and what is left of a second."""
    ds = pl.metrics.summary(pl.evaluate(system="tpu-llm", model=model, context_len=128))
    return annotate(ds[["tokens_per_s"]].assign(room_s=1 / ds.tokens_per_s))


def box(ds):
    """Return it in words."""
    return Box(question="How much?", answer=f"{ds.room_s.item():.3f} s.", sure="Exact.", decides="The clock.")
'''
    copy.add("notebooks/17-head-room.ipynb", json.dumps(notebook))
    copy.add("notebooks/pimllm_chapters/head_room.py", module)
    variable = '    "room_s": ("s", "time of a token"),\n'
    copy.put("pimllm_lib/core/schema.py", variable, before='    "threshold": ')
    copy.put("book/_toc.yml", "      - file: results/17-head-room\n", before="  - caption: Use it")
    copy.touched.add("tests/test_notebooks.py")  # parameters of its own, for the tests of every notebook
    copy.pimllm("run", "17-head-room", "--into", "out")
    read = "from pimllm_lib.archive import dataset; import pathlib; "
    read += "print(dataset.load(pathlib.Path('out/17-head-room.nc')).room_s.attrs['long_name'])"
    assert copy.run("-c", read) == "time of a token\n"
    are_the_places_of("a chapter", copy.touched)


def found_by(copy, edits, script):
    """Return what a script finds with a copy of the library in which files were edited and others are new."""
    for place, edit in edits.items():
        if isinstance(edit, str):
            copy.add(place, edit)
        else:
            for before, text in edit:
                copy.put(place, text, before=before)
    whole = f"import json\nimport pimllm_lib as pl\n{script}\nprint(json.dumps(found | {{'file': pl.__file__}}))\n"
    found = json.loads(copy.run("-c", whole))
    assert Path(found["file"]).is_relative_to(copy.folder)
    return found


def test_an_engine(copy):
    found = found_by(copy, ENGINE, WITH_ENGINE)
    assert found["energy_j"] == 3.0 * found["layers"] == pytest.approx(found["total_j"])
    assert found["latency_s"] == found["busy_s"] == 0.5 * found["layers"]
    assert found["tiles"][0] == 0 < found["tiles"][1]
    assert found["array_macs"] == 0
    are_the_places_of("an engine", copy.touched)


def test_a_component(copy):
    found = found_by(copy, COMPONENT, WITH_COMPONENT)
    assert found["cooling"] == pytest.approx(0.25 * found["plain"])
    assert found["fanned"] == pytest.approx(1.25 * found["plain"])
    assert found["power"] == pytest.approx(found["fanned"])
    assert found["explained"]
    assert all("PEs' energy x share" in line for line in found["explained"])
    are_the_places_of("a component", copy.touched)


def test_every_engine_is_a_field_of_a_system_and_can_be_routed_to():
    assert tuple(BY_NAME) == ENGINES
    assert set(ENGINES) <= set(System.__dataclass_fields__)
