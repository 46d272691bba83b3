"""Numbers on other processors: tests of everything numerical, and verify, under other kernels of OpenBLAS and of numpy.

Which kernels add up a product depends on the processor, and the order of a sum on the kernel. `make test MARK=kernels` sets
them by hand, in processes of their own. Kernels that this processor cannot run are skipped by name.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pimllm_lib.archive import parameters, provenance
from pimllm_lib.core import paths

pytestmark = pytest.mark.kernels
HERE = Path(__file__).parent
CORES = ("Prescott", "Nehalem", "Haswell", "Zen", "SkylakeX")
#: Tests of what multiplies matrices; of what else adds up. Chapters are verified beside them.
PRODUCTS = ("crossbar_product", "attention_cells")
SUMS = ("language", "noise_command", "sensitivity", "system", "crossbar", "systolic", "wear")
VERIFY = (
    "import sys; from in_process import notebooks_in_process\n"
    "from pimllm_lib.core import paths; from pimllm_lib.archive import verify\n"
    "with notebooks_in_process(): found = verify.verify(paths.DATA, sys.argv[1:])\n"
    "assert found.recomputed == sys.argv[1:], found.notes\n"
    "sys.exit('; '.join(found.problems) or 0)"
)


def child(kernels, *words):
    """Run Python under other kernels. Returns what it said and its status."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)} | kernels
    done = subprocess.run(
        [sys.executable, *words], cwd=paths.ROOT, env=env, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr, done.returncode


@cache
def kernels_of(core):
    """Return the name that OpenBLAS gives the kernels of a core, "" where this processor or this OpenBLAS has none."""
    code = (
        "import ctypes, pathlib, numpy as np; a = np.ones((300, 300)); assert ((a @ a) == 300).all()\n"
        "a = a.astype('f4'); assert ((a @ a) == 300).all()\n"
        "found = list(pathlib.Path(np.__file__).parents[1].glob('numpy.libs/*openblas*'))\n"
        "name = ctypes.CDLL(str(found[0])).scipy_openblas_get_corename64_\n"
        "name.restype = ctypes.c_char_p; print(name().decode())"
    )
    said, status = child({"OPENBLAS_CORETYPE": core} if core else {}, "-c", code)
    return said.strip() if status == 0 else ""


def require(core):
    """Skip a core whose kernels cannot run here, or run already: those of the default tests, or of another core."""
    mine = kernels_of(core)
    if not mine:
        pytest.skip(f"{core}: not on this processor, or not with its OpenBLAS")
    for other in ("", *CORES[: CORES.index(core)]):
        if mine == kernels_of(other):
            pytest.skip(f"{core}: here the same kernels as {other or 'the default, which every other test runs'}")


def fewer_features():
    """Return numpy's optional vector units switched off, as on a processor that has none of them."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    if not found:
        pytest.skip("no optional features of numpy on this processor")
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(found)}


def multiplied():
    """Return the results in which matrices are multiplied: those whose notebook reaches the analog engine, studies aside."""
    engine = {paths.PACKAGE / "analog" / "crossbar" / "product.py"}
    return [slug for slug in quick() if engine <= set(provenance.closure(provenance.code_cells(paths.notebook(slug))))]


def quick():
    """Return the results that do not rest on studies: theirs are verified beside everything else."""
    return [slug for slug in paths.slugs() if "recompute" not in parameters.of(slug)]


def suites(names):
    return ["-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(HERE / f"test_{name}.py") for name in names)]


def holds(kernels, what, names, results):
    """Run some tests, or verify some results, under other kernels."""
    assert names
    assert results
    said, status = child(kernels, *(suites(names) if what == "tests" else ["-c", VERIFY, *results]))
    assert status == 0, said


@pytest.mark.parametrize("what", ["verify", "tests"])
@pytest.mark.parametrize("core", CORES)
def test_what_multiplies_matrices_holds_under_the_kernels_of_another_core(core, what):
    require(core)
    holds({"OPENBLAS_CORETYPE": core}, what, PRODUCTS, multiplied())


@pytest.mark.parametrize("what", ["verify", "tests"])
def test_all_numbers_hold_without_the_optional_features_of_numpy(what):
    holds(fewer_features(), what, (*PRODUCTS, *SUMS), quick())
