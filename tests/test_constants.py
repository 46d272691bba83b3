"""Constants beside other tools: page and archived tables; asked again by make test MARK=constants.

The tools want Python 3.12 or newer. CACTI and NeuroSim are compiled from the sources in their wheels, with make and a
C++ compiler.
"""

import re
import subprocess
from io import StringIO
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from peers import cacti
from test_environments import pythons, uv

from pimllm_lib import catalog
from pimllm_lib.analysis import constants
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.paths import DATA, ROOT
from pimllm_lib.report import constants as page

NEIGHBOURS = constants.beside()
RUNNER = ROOT / "tests" / "peers" / "constants_runner.py"


def test_every_assumed_or_fitted_constant_has_a_neighbour_or_a_reason_why_not():
    lone = [name for names in constants.without().values() for name in names]
    assert len(lone) == len(set(lone)) < len(list(constants.ours()))
    assert all(constants.without().values())  # no reason without a constant
    assert constants.ARGUED.keys() <= set(NEIGHBOURS[NEIGHBOURS.verdict != "inside"].constant)


def test_a_constant_with_neither_is_named(monkeypatch):
    monkeypatch.setattr(constants, "SEARCHED", {"no reason": ()})
    with pytest.raises(BadInput, match=r"has no neighbour; wanted it in constants\.NEIGHBOURS or constants\.SEARCHED"):
        constants.without()


def test_what_lies_outside_of_a_range_is_argued_with():
    for one in NEIGHBOURS[NEIGHBOURS.verdict.isin(["outside", "partly"])].itertuples():
        assert one.constant in constants.ARGUED or any(name in one.why for name in constants.NAMES), one.constant


def test_verdicts_follow_the_ranges():
    judged = NEIGHBOURS[NEIGHBOURS.range.notna()]
    low, high = (np.array([span[end] for span in judged.range]) for end in (0, 1))
    inside = (judged.low >= 0.99 * low) & (judged.high <= 1.01 * high)
    assert ((judged.verdict == "inside") == inside).all()
    assert {"inside", "outside", "no range"} <= set(NEIGHBOURS.verdict)


@pytest.mark.parametrize(
    ("name", "quantity", "by_hand"),
    [
        ("edge-32x32.idle_pe_energy_j", 8.51576e-6 / 100e6, 0.0852e-12),
        ("adc-8bit.power_w", 3.66221e-12 * 1.28e9, 4.688e-3),
        ("sram-8mb.port_rate_hz", 1 / 3.1506e-9, 317.4e6),
        ("lpddr4-4266.bit_j", 8e-12, 8e-12),
    ],
)
def test_a_neighbour_is_converted_as_by_hand(name, quantity, by_hand):
    one = NEIGHBOURS[NEIGHBOURS.constant == name].iloc[0]
    assert quantity == pytest.approx(by_hand, rel=1e-3)
    assert one.high * one.si == pytest.approx(by_hand, rel=1e-3)


def test_the_page_has_every_comparison_with_its_verdict():
    shown = page.compared()
    assert shown.count('class="part-name beside"') == NEIGHBOURS.group.nunique()
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", shown)]
    verdicts = [row[-2] for row in cells if row]
    assert sorted(verdicts) == sorted(NEIGHBOURS.verdict)


def test_the_archived_memories_are_those_of_the_catalog():
    sram = constants.sram().set_index(["size_bytes", "node_nm", "port_bits", "cell", "temperature_k"])
    assert sram.index.is_unique
    assert len(sram) == len(cacti.SIZES) * len(cacti.CELLS) * len(cacti.KELVIN)
    for cell in cacti.CELLS:
        entry = catalog.parts.entries[f"buffer-90nm-{cell}"]
        sizes = [1024 * kib for kib in catalog.parts.entries["buffer-90nm"]["sizes_bytes"]["value"]]
        for field in ("read_j", "write_j", "leakage_w", "area_m2"):
            unit = constants.UNITS[entry[field]["unit"]][1]
            archived = [sram.loc[(size, 90, 64, cell, 300), field] for size in sizes]
            np.testing.assert_allclose(np.array(entry[field]["value"]) * unit, archived, rtol=1e-4)


def test_leakage_of_channels_grows_with_temperature_but_for_three_currents_of_one_kind():
    sram = constants.sram()
    channels = sram.assign(w=sram.leakage_w - sram.gate_leakage_w)
    for keys, lines in channels.groupby(["size_bytes", "node_nm", "port_bits", "cell"]):
        steps = [later / before for before, later in pairwise(lines.sort_values("temperature_k").w)]
        assert (min(steps) > 1) != (keys[1] == 90 and keys[3] == "lop"), keys


# -- asked again


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Return the Python that has the tools, and CACTI and NeuroSim as compiled from the sources in their wheels."""
    minor = max(pythons())
    if minor < 12:
        pytest.skip("hwcomponents and accelforge want Python 3.12 or newer; none was found")
    venv = ROOT / ".venv-constants"
    uv("venv", "--quiet", "--clear", "--python", pythons()[minor], venv)
    uv(
        "pip",
        "sync",
        "--quiet",
        "--python",
        venv / "bin" / "python",
        "--require-hashes",
        ROOT / "requirements-constants.lock",
    )
    python = venv / "bin" / "python"
    where = (
        "import hwcomponents_cacti, hwcomponents_neurosim as n; print(hwcomponents_cacti.__path__[0], n.__path__[0])"
    )
    installed = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.split()
    folder = tmp_path_factory.mktemp("constants")
    return python, cacti.build(installed[0], folder), cacti.build_neurosim(installed[1], folder)


def asked(tools, wanted):
    python, _, neurosim = tools
    done = subprocess.run([python, RUNNER, neurosim, wanted], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    return pd.read_csv(StringIO(done.stdout))


@pytest.mark.constants
@pytest.mark.parametrize("name", ["constants", "accelforge"])
def test_the_tools_say_again_what_is_archived(tools, name):
    got, archived = asked(tools, name), pd.read_csv(DATA / "peers" / f"{name}.csv")
    pd.testing.assert_frame_equal(got, archived, rtol=1e-5)


@pytest.mark.constants
def test_cacti_says_again_what_is_archived(tools):
    kelvin = (300, 360)
    sizes = [case for case in cacti.SIZES if case[0] <= 64 * cacti.KIB] + [(4 * cacti.KIB**2, 45, 256)]
    got = pd.DataFrame(cacti.table(tools[1], sizes, kelvin=kelvin))
    archived = constants.sram()[list(cacti.COLUMNS)]
    matching = got[["size_bytes", "node_nm", "port_bits", "cell", "temperature_k"]].merge(archived)
    assert len(matching) == len(got) == len(sizes) * len(cacti.CELLS) * len(kelvin)
    pd.testing.assert_frame_equal(matching, got[list(cacti.COLUMNS)], rtol=1e-5)
