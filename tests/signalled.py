"""Programs that get a signal, and what they leave: processes, wherever these stand in the tree, and temporary files."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

#: How long what a program started may live after it.
PATIENCE_S = 3
#: The variable that all processes of a program inherit.
MARK = "PIMLLM_TEST_MARK"


@dataclass
class Program:
    """A command of pimllm with a folder for temporary files of its own, which starts empty."""

    words: list
    home: Path
    library: Path | None = None  # a checkout other than the one of these tests

    def __post_init__(self):
        self.temporary = self.home / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)

    def start(self):
        """Start it in a session of its own, as a shell does: with no signal ignored."""
        places = [self.library, self.library / "notebooks"] if self.library else []
        other = {"PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"} if places else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pimllm_lib", *map(str, self.words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"TMPDIR": str(self.temporary), MARK: str(self.home)} | other, start_new_session=True,
            cwd=self.home, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        return self

    def working(self, wanted=1):
        """Wait until so many kernels are under way."""
        end = time.monotonic() + 60
        while len(list(self.temporary.rglob("kernel.json"))) < wanted:
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        return self

    def tell(self, number, group=False):
        """Send a signal, to the program or, as a terminal does, to its group. Returns what it said on stderr."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)
        return self.end()

    def end(self):
        """Wait for its end; return what it said on stderr."""
        self.said, err = self.process.communicate(timeout=120)
        return err.decode()

    def left(self):
        """Return the processes that are left of it, after a while."""
        end = time.monotonic() + PATIENCE_S
        while (there := self._there()) and time.monotonic() < end:
            time.sleep(0.05)
        return there

    def _there(self):
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error):
                if one.environ().get(MARK) == str(self.home) and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one.cmdline())
        return found

    def litter(self, *folders):
        """Return its temporary files, and those beside what it writes."""
        beside = (path for folder in folders for path in folder.rglob(".*.part"))
        return sorted(path.name for path in (*self.temporary.iterdir(), *beside))
