"""What a command costs before it does anything, and a table of 42 cells from cold."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.grid import CONTEXTS, SEVEN
from benchmarks.timing import best, child_cpu


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
