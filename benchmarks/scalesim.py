"""The products of decoding through the real SCALE-Sim, run for a subset, against the closed form that equals it."""

import json
import subprocess

from benchmarks.timing import best
from pimllm_lib.core.paths import ROOT
from pimllm_lib.costs import systolic

#: The distinct products of one decoder block of a 355M model at 128 tokens, k and n.
PRODUCTS = [(1024, 1024), (64, 128), (128, 64)]


def report():
    """Yield one line."""
    peer, runner = ROOT / ".venv-peer" / "bin" / "python", ROOT / "tests" / "peers" / "scalesim_runner.py"
    asked = [[1, k, n, 32, 32, "os"] for k, n in PRODUCTS]

    def simulate(what):
        done = subprocess.run([peer, runner], input=json.dumps(what), capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    cycles = [row["cycles"] for row in simulate(asked)]
    ours = [float(systolic.cycles(1, k, n, rows=32, cols=32)) for k, n in PRODUCTS]
    if cycles != ours:
        raise SystemExit(f"SCALE-Sim counts {cycles}, the closed form {ours}")
    simulated = best(lambda: simulate(asked), 3) - best(lambda: simulate([]), 3)  # without starting the interpreter
    closed = best(lambda: [systolic.cycles(1, k, n, rows=32, cols=32) for k, n in PRODUCTS], 50)
    yield (
        f"SCALE-Sim 2.0.2 on the {len(PRODUCTS)} products of a 355M block: {simulated:.2f} s; closed form "
        f"{closed * 1e6:.0f} us, the same cycles: {simulated / closed:.0f} times"
    )
