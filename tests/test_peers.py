"""The systolic model against the real SCALE-Sim, run in an environment of its own: make test MARK=peer."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pimllm_lib.core.paths import ROOT
from pimllm_lib.costs import memory, systolic

#: Version -> its environment: one is what the published results were made with, the other is newer.
PEERS = {"2.0.2": "peer", "3.0.0": "scalesim3"}
RUNNER = Path(__file__).parent / "peers" / "scalesim_runner.py"
ARRAYS = [(32, 32), (8, 8), (16, 8), (8, 16), (5, 7), (4, 64)]


def products():
    """Return 90 random products over three dataflows and six arrays, and the GEMVs of decoding on the published one."""
    rng = np.random.default_rng(20250407)
    some = [
        [*rng.integers(1, 200, 3).tolist(), rows, cols, flow]
        for rows, cols in ARRAYS
        for flow in ("os", "ws", "is")
        for _ in range(5)
    ]
    return some + [[1, k, n, 32, 32, "os"] for k, n in ((64, 128), (128, 64), (1024, 1024), (768, 3072))]


def simulate(version, what):
    python = ROOT / f".venv-{PEERS[version]}" / "bin" / "python"
    done = subprocess.run([python, RUNNER], input=json.dumps(what), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.peer
@pytest.mark.parametrize("version", PEERS)
def test_cycles_sram_and_dram_words_equal_those_of_scale_sim(version):
    asked = products()
    assert len(asked) >= 60
    for (m, k, n, rows, cols, flow), report in zip(asked, simulate(version, asked), strict=True):
        shape = {"rows": rows, "cols": cols, "dataflow": flow}
        product = (m, k, n, rows, cols, flow)
        assert report["cycles"] == systolic.cycles(m, k, n, **shape), product
        words = systolic.sram_words(m, k, n, **shape)
        assert {key: report[key] for key in ("inputs", "weights")} == {key: words[key] for key in ("inputs", "weights")}
        # its output-stationary report adds rows + cols words in each fold to the results
        folds = -(-m // rows) * -(-n // cols)
        extra = folds * (rows + cols) if flow == "os" else 0
        assert report["results"] - extra == words["results"], product
        moved = memory.dram_words(m, k, n, **shape)
        assert (report["dram_inputs"], report["dram_weights"]) == (moved["inputs"], moved["weights"]), product
        if flow == "os":  # with the other dataflows it also writes every partial sum off the chip; here they stay on it
            assert report["dram_results"] == moved["results"], product
