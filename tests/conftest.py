"""What several tests share."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from in_process import notebooks_in_process

from pimllm_lib.archive import attested, provenance
from pimllm_lib.core import files, paths

# How long an example takes is a matter of the machine.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
# No test cuts the power, so nothing has to be on the disk before a test goes on.
os.fsync = lambda handle: None
#: Programs for environments of their own, no tests.
collect_ignore = ["peers"]

#: The environment without what a make, Python or pytest started here would take for its own.
AWAY = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTHON", "PYTEST", "VIRTUAL_ENV"))}
#: The archive beside these tests, also where they try an installed package, which has none of its own.
DATA = Path(__file__).parents[1] / "data"
#: What an installed package cannot do: it has no book and no history, and its packages are not those of the lock.
checkout = pytest.mark.skipif(not paths.IN_CHECKOUT, reason="needs a checkout and its lock")
#: The seven models and six contexts of the published figures.
SEVEN = ["gpt2-355m", "gpt2-774m", "gpt2-1.5b", "opt-1.3b", "opt-2.7b", "llama-7b", "opt-6.7b"]
CONTEXTS = [128, 256, 512, 1024, 2048, 4096]


def same_sums(found, wanted, magnitudes):
    """Whether float32 sums agree: within the rounding of another order of adding, on the scale of what was added.

    magnitudes: the sum of the magnitudes of the terms, of each sum or of all.
    """
    return bool((np.abs(np.asarray(found, dtype=float) - wanted) <= 4e-6 * np.asarray(magnitudes)).all())


def copied_checkout(folder, *left_out):
    """Copy what of a checkout computes: library, as compiled, notebooks, archive, lock. left_out: patterns of names."""
    ignored = shutil.ignore_patterns(files.LOCK, *left_out)
    for name in ("pimllm_lib", "notebooks", "data"):
        shutil.copytree(DATA.parent / name, folder / name, ignore=ignored)
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(DATA.parent / name, folder / name)
    return folder


def archive_given_here(folder, data=DATA):
    """Copy an archive and attest every result of it, whether or not anybody tried: for tests of what comes after."""
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns(files.LOCK))
    results = {name: folder / "results" / f"{name}.nc" for name in paths.slugs()}
    hashes = {files.hash_of(path.read_bytes()): provenance.source_hash(name) for name, path in results.items()}
    attested.add(folder, hashes)
    return folder


#: A suite that takes longer says where its time goes.
PATIENCE_S = 150
_started = time.monotonic()


def pytest_terminal_summary(terminalreporter):
    took = time.monotonic() - _started
    if took > PATIENCE_S:
        calls = [
            report for reports in terminalreporter.stats.values() for report in reports if hasattr(report, "duration")
        ]
        slowest = sorted(calls, key=lambda report: report.duration, reverse=True)[:10]
        terminalreporter.section(f"{took:.0f} s, more than {PATIENCE_S}: the ten slowest")
        for report in slowest:
            terminalreporter.write_line(f"{report.duration:7.2f} s {report.when:8} {report.nodeid}")


@pytest.fixture
def in_process():
    """Run notebooks in this process, where no kernel is what is tested."""
    with notebooks_in_process():
        yield


@pytest.fixture
def part_toml(tmp_path):
    """Write a systolic array as TOML, with one line replaced by another."""

    def write(old="", new=""):
        text = """part = "SystolicArray"
name = "mine"
rows = { value = 64, unit = "1", source = "us", status = "assumed" }
cols = { value = 16, unit = "1", source = "us", status = "assumed" }
rate_hz = { value = 500, unit = "MHz", source = "us", status = "assumed" }
active_pe_energy_j = { value = 0.2, unit = "pJ", source = "us", status = "assumed" }
idle_pe_energy_j = { value = 0.02, unit = "pJ", source = "us", status = "assumed" }
"""
        assert old in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new))
        return path

    return write
