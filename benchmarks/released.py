"""The same work by these sources and by those of version 0.7.0, in turns: processor time of one core."""

import os
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.analog import ONE_THREAD

VERSION = "0.7.0"
HERE = Path(__file__).resolve().parents[1]

#: What is done -> preparation and work, by each version's own names.
_SWEEP = """
study = compute.study(compute.space(1), "opt-6.7b", 1024)
chunks = list(study.space.chunks())
points.compute(study, chunks[0])
start = process_time()
for chunk in chunks[::8]:
    points.compute(study, chunk)
"""
_CORPUS = """
start = process_time()
corpus.named("docstrings")
"""
_ATTENTION = """
from dataclasses import replace
import numpy as np
from pimllm_lib import catalog
from pimllm_lib.hardware import Devices
rng, bar = np.random.default_rng(0), replace(catalog.part("crossbar-256"), weight_bits=8)
q = rng.standard_normal((8, 2, 2, 128, 64), dtype=np.float32) / 8
k, v = rng.standard_normal((2, 8, 2, 128, 64), dtype=np.float32)
attend = in_cells(bar, Devices(name="these", variation={}), catalog.part("{}"))
attend(0, q, k, v, 0)
start = process_time()
attend(0, q, k, v, 0)
"""
_ATTENDING = tuple(f"from pimllm_lib.analog.{of}attention import in_cells" for of in ("noise.", ""))
_OLD = "from pimllm_lib import sweep as points; from pimllm_lib.report.chapters import design_space as compute"
_NEW = "from pimllm_lib.sweep import points; from pimllm_chapters.design_space import compute"
_CORPORA = tuple(f"from pimllm_lib.analog{at} import corpus, docstrings" for at in (".lm", ""))
WORK = {
    "an eighth of 11.9 M full designs with a front": (_NEW + _SWEEP, _OLD + _SWEEP),
    "attention in ideal cells, converters of 8 bits": tuple(
        name + _ATTENTION.format(0, "readout-unit") for name in _ATTENDING
    ),
    "attention in cells that vary": tuple(name + _ATTENTION.format(0.1, "readout-ideal") for name in _ATTENDING),
    "the corpus of docstrings, in a process of its own": tuple(name + _CORPUS for name in _CORPORA),
}


def released(into):
    """Unpack the last sources of the version from this checkout's history. Returns whether it has them."""
    git = ["git", "-C", str(HERE)]
    found = subprocess.run(
        [*git, "log", "-1", "--format=%H^", f'-S__version__ = "{VERSION}"', "--", "pimllm_lib/__init__.py"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    packed = subprocess.run([*git, "archive", found.stdout.strip() or "none"], capture_output=True, check=False)
    if not packed.returncode:
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as sources:
            sources.extractall(into, filter="data")
    return not packed.returncode


def environment(root):
    """Return the environment of a process that has one thread and the sources below a folder."""
    return os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "notebooks")])}


def seconds(root, code):
    """Return the processor time that some code, from where it sets `start`, takes with the sources below a folder."""
    program = f"from time import process_time\n{code}\nprint(process_time() - start)"
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment(root), cwd=root, capture_output=True, text=True, check=True
    )
    return float(said.stdout)


def report(repeats=3):
    """Yield one line for each kind of work."""
    with TemporaryDirectory() as place:
        if not released(place):
            yield f"this checkout has no history with version {VERSION}, which is compared with"
            return
        for what, (new, old) in WORK.items():
            taken = [(seconds(HERE, new), seconds(Path(place), old)) for _ in range(repeats)]
            ours, theirs = (min(column) for column in zip(*taken, strict=True))
            yield f"{what}: {ours:.3g} s, {theirs / ours:.1f} times as fast as version {VERSION}"
