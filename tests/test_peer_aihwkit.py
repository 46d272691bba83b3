"""The analog engine against aihwkit's torch tile, run in an environment of its own: make test MARK=peer."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pimllm_lib.core.paths import ROOT

PEER = ROOT / ".venv-aihwkit" / "bin" / "python"
RUNNER = Path(__file__).parent / "peers" / "aihwkit_runner.py"
#: An odd step: no whole sum lies in the middle between two codes, where float rounding would decide.
LSB = 41.0

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(
        sys.version_info >= (3, 14) or (sys.platform, platform.machine()) != ("linux", "x86_64"),
        reason="aihwkit has wheels for Python 3.11 to 3.13 on Linux, x86_64",
    ),
]


def compared(**asked):
    asked = {"fan_out": 1024, "tokens": 128, "repeats": 0, **asked}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [PEER, RUNNER], input=json.dumps(asked), capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_results_equal_those_of_aihwkit_to_the_last_bit_and_noise_spreads_them_alike():
    got = compared(fan_in=1024, lsb=LSB, noise=60.0)
    assert got["difference"] == {"numpy": 0.0, "torch": 0.0}
    # four tiles, in each a draw of its own, and a rounding of an even spread with and without it; 1e5 results tell 0.2 %
    expected = np.sqrt(4 * (60.0**2 + 2 * LSB**2 / 12))
    assert list(got["spread"].values()) == pytest.approx([expected] * 3, rel=0.01)


def test_a_converter_that_clips_equals_that_of_aihwkit_but_for_its_lowest_code():
    got = compared(fan_in=256, lsb=5.0, noise=0.0)
    assert got["difference"]["numpy"] == 5.0  # two's complement has one code more below zero
    assert got["clipped"] == 0.0
