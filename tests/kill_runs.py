"""Start runs into an archive and kill each at a random moment: `python kill_runs.py SEED COUNT ARGUMENT...` of pimllm.

Each is a process of its own, forked from one that has everything loaded, so that most of its time is the run itself.
"""

import os
import random
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from in_process import notebooks_in_process

from pimllm_lib.archive import verify
from pimllm_lib.cli.main import main


def run(words):
    """Run pimllm, its notebooks in this process, without a word. Returns the seconds it took."""
    start = time.monotonic()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), notebooks_in_process():
        assert main(words) == 0
    return time.monotonic() - start


def forked(words):
    """Start a run and return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            run(words)
        finally:
            os._exit(0)
    return pid


def kill(seed, count, words):
    """Kill so many runs at random moments; a run that was faster does not count. The archive holds after each."""
    choose, killed = random.Random(seed), 0
    run(words)  # loads what a run needs
    longest = run(words)
    while killed < count:
        pid = forked(words)
        time.sleep(choose.uniform(0.0, longest))
        os.kill(pid, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert verify.verify(Path(words[-1]), recompute=False).problems == []


if __name__ == "__main__":
    kill(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
