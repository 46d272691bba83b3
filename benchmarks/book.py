"""`make book` in a fresh checkout and again where nothing has changed, beside version 0.7.0: CPU time, one thread each."""

import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.released import HERE, VERSION, environment, released
from benchmarks.timing import all_cores, child_cpu

#: Execute what is stale, compare with the archive, render. Version 0.7.0 does not render where a last digit differs from its
#: archive, as on other processors than its maker's; here it goes on all the same.
NEW = "from pimllm_lib.report import book\nproblems = book.build(jobs=2)"
OLD = """
from pimllm_lib.report import book, jobs, notebooks
from pimllm_lib.report.paths import EXECUTED, slugs
list(jobs.run({slug: {} for slug in slugs() if notebooks.stale(slug, EXECUTED)}, EXECUTED, 2, progress=False))
[book._against_archive(slug) for slug in slugs()]
book.assemble()
problems = book.render()
"""


def copied(into):
    """Copy the files of this checkout that its history knows, as they are now."""
    listed = subprocess.run(["git", "-C", str(HERE), "ls-files", "-z"], check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / name, into / name)


def made(root, code):
    """Make the book of some sources, with a cache of its own; return processor time and wall time, in seconds."""
    program = [sys.executable, "-c", f"{code}\nraise SystemExit(len(problems))"]
    around = environment(root) | {"XDG_CACHE_HOME": str(root / "cache")}
    run = partial(subprocess.run, program, check=True, capture_output=True, cwd=root, env=around)
    start = time.perf_counter()
    return child_cpu(run), time.perf_counter() - start


def report():
    """Yield one line for each of the two."""
    with TemporaryDirectory() as place, all_cores():
        new, old = Path(place, "new"), Path(place, "old")
        if not released(old):
            yield f"this checkout has no history with version {VERSION}, which is compared with"
            return
        copied(new)
        for what in ("fresh", "unchanged"):
            (ours, wall), (theirs, their_wall) = made(new, NEW), made(old, OLD)
            yield (
                f"make book, {what}: {ours:.3g} s ({wall:.3g} s of wall time with two notebooks at a time), "
                f"{ours / theirs:.2f} x version {VERSION} ({theirs:.3g} and {their_wall:.3g} s)"
            )
