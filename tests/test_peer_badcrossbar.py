"""The wires of a crossbar against the network solver badcrossbar, in an environment of its own: make test MARK=peer."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pimllm_lib.analog.crossbar import wires
from pimllm_lib.core.paths import ROOT

PEER = ROOT / ".venv-badcrossbar" / "bin" / "python"
RUNNER = Path(__file__).parent / "peers" / "badcrossbar_runner.py"


@pytest.mark.peer
@pytest.mark.parametrize("size", [64, 128])
def test_currents_equal_those_of_badcrossbar_with_one_kind_of_wires_and_with_both(size):
    rng = np.random.default_rng(size)
    weights, x = rng.choice([-1, 0, 1], (size, size)), rng.integers(0, 2, (4, size))
    plus, minus = (np.where(weights * sign > 0, 1e-4, 1e-6) for sign in (1, -1))
    beside = np.stack([plus, minus], axis=-1).reshape(size, -1)  # plus and minus on the same word lines
    asked = [(plus, 1.0, 0.0), (plus, 1.0, 1.0), (minus, 5.0, 0.1), (beside, 1.0, 1.0)]
    told = json.dumps([[cells.tolist(), bit, word, x.tolist()] for cells, bit, word in asked])
    done = subprocess.run([PEER, RUNNER], input=told, capture_output=True, text=True, check=True)
    for (cells, bit, word), got in zip(asked, json.loads(done.stdout.splitlines()[-1]), strict=True):
        want = x @ wires.carried(cells, bit, word)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11 * want.max())
