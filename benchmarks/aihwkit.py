"""One run of the same crossbars by the analog engine and by aihwkit's torch tile, in an environment that has both."""

import json
import os
import subprocess

from benchmarks.analog import ONE_THREAD
from pimllm_lib.core.paths import ROOT

PEER, RUNNER = ROOT / ".venv-aihwkit" / "bin" / "python", ROOT / "tests" / "peers" / "aihwkit_runner.py"
#: Matrix and ADC; an odd step lets no whole sum lie between two codes. Tokens -> how often to time.
CASE, TOKENS = {"fan_in": 4096, "fan_out": 4096, "lsb": 41.0}, {1: 15, 128: 5}


def compared(**asked):
    """Return what the runner prints."""
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)}
    run = {"check": True, "capture_output": True, "text": True, "env": environment}
    done = subprocess.run([PEER, RUNNER], input=json.dumps(CASE | asked), **run)
    return json.loads(done.stdout.splitlines()[-1])


def report():
    """Yield one line for each measurement."""
    if not PEER.exists():
        yield "aihwkit: not measured; its wheels are for Python 3.11 to 3.13 on Linux, x86_64"
        return
    yield "one pass of an 8-bit DAC, 8-bit ADC, 256 x 256 tiles: tokens, aihwkit's time over ours by numpy and by torch"
    for noise in (0.0, 60.0):
        for tokens, repeats in TOKENS.items():
            got = compared(tokens=tokens, noise=noise, repeats=repeats)
            if any(got["difference"].values()):
                raise SystemExit(f"aihwkit and the analog engine differ by {got['difference']}")
            peer, *ours = (got["seconds"][name] for name in ("aihwkit", "numpy", "torch"))
            words = f"output noise of {noise:g} on-cell currents" if noise else "no noise, the same results"
            held = "holds" if max(ours) < peer else "does not hold"
            yield f"  {words:<60}{tokens:>4}{peer / ours[0]:7.2f}{peer / ours[1]:7.2f}  > 1  {held}"
