"""What a command costs before it does anything, a table of 42 cells from cold, and compiled code that is kept."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.analog import FAST
from benchmarks.grid import CONTEXTS, SEVEN
from benchmarks.timing import best, child_cpu
from pimllm_lib.core.paths import ROOT

#: Prints the seconds until bits are counted by numba; what it loads whatever it compiles is left out.
COUNTED = """
import time
import numba
import numpy as np
from pimllm_lib.analog.crossbar.popcount_numba import count
numba.njit(lambda: 0)()
word = np.ones((1, 1, 1, 1), dtype=np.uint64)
start = time.process_time()
count(word, word[:0], word[0], word[0], np.zeros(257, dtype=np.float32), np.ones(1, dtype=np.float32))
print(time.process_time() - start)
"""


def compiled():
    """Yield what compiling takes the first process, as it took each in 0.7.0, and what the next one takes."""
    with TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache, "PYTHONPATH": str(ROOT)}

        def seconds():
            run = subprocess.run([FAST, "-c", COUNTED], check=True, capture_output=True, env=environment)
            return float(run.stdout)

        fresh, again = seconds(), min(seconds() for _ in range(3))
    yield f"compiled counting of bits: {again:.3f} s from the user's cache, {fresh:.2f} s without, {fresh / again:.0f} x"


def report():
    """Yield one line for each measurement."""
    program = str(Path(sys.executable).with_name("pimllm"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def run(*command):
        subprocess.run(command, check=True, capture_output=True, env=environment)

    help_cpu, bare_cpu = (
        min(child_cpu(lambda command=command: run(*command)) for _ in range(7))
        for command in ((program, "--help"), (sys.executable, "-c", "pass"))
    )
    yield f"pimllm --help: {help_cpu - bare_cpu:.3f} s of CPU above a bare interpreter ({bare_cpu:.3f} s)"
    table = [program, "evaluate", "--conventions", "as-published"]
    table += [item for name in SEVEN for item in ("--model", name)]
    table += [item for n in CONTEXTS for item in ("--context", str(n))]
    yield f"a table of 42 cells from cold: {best(lambda: run(*table), 5):.2f} s of wall time"
    yield from compiled()
