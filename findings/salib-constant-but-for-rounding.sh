#!/usr/bin/env bash
# SALib: an output that is constant but for rounding gets Sobol indices of one, without a warning.
#
# One would expect an output that no factor changes to have indices of zero: of an output that is constant to the last bit
# SALib indeed says 0, and warns. But a model hardly ever returns such a constant to the last bit. The energy of a fixed
# power over a time, 3 / rate * rate, differs from 3 by at most one rounding of a float64. `analyze.sobol` divides outputs by their
# standard deviation first, so this rounding becomes the whole variance: the factor that cancels out gets a first-order index
# of 0.96 and a total index of 0.98, and nothing is said.
#
# It matters in studies of a design space, where many outputs do not depend on many factors: a chart then shows a factor as
# the one cause of an output that it does not change. Compare the spread of an output with the rounding of its size first.
#
# Seen with SALib 1.6.0, numpy 2.4.6, scipy 1.17.1 on Python 3.11. Fails when any of it changes.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install -qqq --disable-pip-version-check SALib==1.6.0 numpy==2.4.6 scipy==1.17.1
cd "$dir"
OMP_NUM_THREADS=1 "$dir/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import numpy as np
from SALib.analyze import sobol as analyze
from SALib.sample import sobol as sample

problem = {"num_vars": 2, "names": ["rate", "other"], "bounds": [[1.0, 5.0], [0.0, 1.0]]}
rate = sample.sample(problem, 1024, calc_second_order=False, seed=1)[:, 0]


def indices(output):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = analyze.analyze(problem, output, calc_second_order=False, seed=1)
    return float(found["S1"][0]), float(found["ST"][0]), len(said)


rounded, constant = 3 / rate * rate, np.full(rate.size, 3.0)
print("SALib", version("SALib"), "numpy", version("numpy"), "spread of the output", np.ptp(rounded))
print("constant but for rounding: S1 %.2f, ST %.2f, warnings %d" % indices(rounded))
print("constant to the last bit:  S1 %.2f, ST %.2f, warnings %d" % indices(constant))
assert 0 < np.ptp(rounded) <= 4 * np.finfo(float).eps * 3
first, total, warned = indices(rounded)
assert first > 0.9 and total > 0.9 and warned == 0, "SALib says something else now"
first, total, warned = indices(constant)
assert first == total == 0 and warned > 0, "SALib says something else now"
PYTHON
