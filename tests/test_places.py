"""An engine, and a component, are added in the places listed here and nowhere else: each is, in a copy of the library."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import AWAY

import pimllm_lib
from pimllm_lib.engines import BY_NAME
from pimllm_lib.hardware import ENGINES, System

#: File -> (before what, what comes in), or the text of a new file.
ENGINE = {
    "hardware/counted.py": '''"""An engine that costs the same for every product."""

from pimllm_lib.core.parts import Value, part


@part
class Counted:
    """Energy and time of a product, whatever its size."""

    name: str
    product_j: Value
    product_s: Value
''',
    "hardware/machine.py": (
        ("\n@part\nclass System", "from pimllm_lib.hardware.counted import Counted\n\n"),
        ("    routing: Mapping", "    counted: Counted | None = None\n"),
        ('"pim", "kv_pim")', '"counted", '),
    ),
    "engines/counted.py": '''"""What products cost that are only counted."""

from pimllm_lib.engines.entries import Entry, Work


def entries(counted, step, products, wanted):
    for product in products:
        yield Entry(product.op, "external", "energy_j", counted.product_j * product.calls)
        yield Work(product.op, "external", counted.product_s * product.calls)
''',
    "engines/__init__.py": (
        ("from pimllm_lib.engines import", "from pimllm_lib.engines import counted\n"),
        ('    "pim": Engine', '    "counted": Engine(counted.entries),\n'),
    ),
}
COMPONENT = {
    "core/schema.py": (
        (
            '    "external": Component(',
            '    "clock": Component("clock tree", "array", energy="array", joules="cycles x PEs x idle_pe_energy_j"),\n',
        ),
    ),
    "costs/systolic.py": (
        (
            "\ndef energy(",
            '\ndef clock(cycles, *, pes, pe_j):\n    """Return joules of a clock."""\n    return cycles * pes * pe_j\n\n',
        ),
    ),
    "engines/array.py": (
        (
            "    for phase, value in joules.items():",
            "    clock_j = systolic.clock(sum(laid.cycles.values()), pes=pes, pe_j=array.idle_pe_energy_j)\n"
            '    yield Entry(product.op, "clock", "energy_j", clock_j)\n',
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
from pimllm_lib.report.explain import explain
args = {"system": "tpu-llm", "model": "opt-1.3b", "context_len": 128, "conventions": "corrected"}
ds = pl.evaluate(detail="component", **args).squeeze()
array = pl.catalog.systems["tpu-llm"].array
energy = ds.energy_j.sum("op")
found = {
    "clock": energy.sel(component="clock").item(),
    "wanted": (ds.cycles.sum() * ds.pe_count).item() * array.idle_pe_energy_j,
    "others": energy.sel(component=["stream", "fill"]).sum().item(),
    "part": pl.metrics.by_part(ds, "energy_j", schema.ENERGY_PARTS).sel(part="array").item(),
    "power": (pl.metrics.power(ds).power_w.sel(subsystem="array") * ds.latency_s.sum()).item(),
    "explained": [line for line in explain("energy_j", **args) if line.split()[1:2] == ["clock"]],
}
"""


def with_edits(folder, edits, script):
    """Return what a script finds with a copy of the library in which files were edited and others are new."""
    copy = folder / "pimllm_lib"
    shutil.copytree(Path(pimllm_lib.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, edit in edits.items():
        if isinstance(edit, str):
            assert not (copy / name).exists()
            (copy / name).write_text(edit, encoding="utf-8")
            continue
        text = (copy / name).read_text(encoding="utf-8")
        for before, new in edit:
            assert text.count(before) == 1, f"{name}: {before}"
            text = text.replace(before, new + before)
        (copy / name).write_text(text, encoding="utf-8")
    whole = f"import json\nimport pimllm_lib as pl\n{script}\nprint(json.dumps(found | {{'file': pl.__file__}}))\n"
    run = subprocess.run([sys.executable, "-c", whole], env=AWAY | {"PYTHONPATH": str(folder)}, cwd=folder,
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert Path(found["file"]).is_relative_to(folder)
    return found


def test_an_engine_is_added_in_its_places(tmp_path):
    assert len(ENGINE) + 1 <= 5, "places, this test among them"
    found = with_edits(tmp_path, ENGINE, WITH_ENGINE)
    assert found["energy_j"] == 3.0 * found["layers"] == pytest.approx(found["total_j"])
    assert found["latency_s"] == found["busy_s"] == 0.5 * found["layers"]
    assert found["tiles"][0] == 0 < found["tiles"][1]
    assert found["array_macs"] == 0


def test_a_component_is_added_in_its_places(tmp_path):
    assert len(COMPONENT) + 2 <= 5, "places, this test and a field for a constant of its own among them"
    found = with_edits(tmp_path, COMPONENT, WITH_COMPONENT)
    assert found["clock"] == pytest.approx(found["wanted"])
    assert found["part"] == pytest.approx(found["clock"] + found["others"])
    assert found["power"] == pytest.approx(found["part"])
    assert found["explained"]
    assert all("cycles x PEs x idle_pe_energy_j" in line for line in found["explained"])


def test_every_engine_is_a_field_of_a_system_and_can_be_routed_to():
    assert tuple(BY_NAME) == ENGINES
    assert set(ENGINES) <= set(System.__dataclass_fields__)
