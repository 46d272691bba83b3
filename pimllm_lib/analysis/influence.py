"""How much of an output's spread each input is behind: Sobol's indices, from a design of shares between 0 and 1.

What the shares stand for is not known here, so that the indices can be checked on functions whose indices are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from SALib.analyze import sobol as analysis
from SALib.sample import sobol as design

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import annotate

#: Resamples behind an interval, and its confidence.
_RESAMPLES, _CONFIDENCE = 100, 0.95
#: The fewest base points that say anything.
_FEWEST = 8
#: Values that differ by less than this share of the largest are one value and its rounding: a model adds hundreds of
#: float64 terms, each rounded to 2^-53 of what is there.
_ROUNDING = 2.0**10 * np.finfo(float).eps


def base_points(draws: int) -> int:
    """Return how many base points go with a number of draws: the power of two at or below a quarter of it, at least 8.

    >>> base_points(4096), base_points(10)
    (1024, 8)
    """
    return max(_FEWEST, 1 << max(0, (draws // 4).bit_length() - 1))


def plan(factors: Sequence[str], *, points: int, seed: int) -> Any:
    """Return points x (factors + 2) rows of shares: Sobol's sequence, scrambled, in Saltelli's design.

    Raises BadInput for no factors, and for points that are no power of two of at least 8.
    """
    if points < _FEWEST or points & (points - 1):
        raise BadInput(f"points is {points}; wanted a power of two of at least {_FEWEST}")
    return design.sample(_problem(factors), points, calc_second_order=False, seed=seed)


def indices(factors: Sequence[str], values: Any, *, seed: int) -> xr.Dataset:
    """Return first_order and total_order for each factor, with the half-widths of their 95 % intervals.

    values: the output along the rows of `plan`. first_order is the share of the variance that a factor is behind alone,
    total_order with all its interactions. Source: Saltelli et al. 2010, as SALib computes them.
    Raises BadInput for values that do not vary (`require_spread`), or are not as many as the plan has rows.
    """
    flat = np.asarray(values, dtype=float)
    if flat.ndim != 1 or flat.size == 0 or flat.size % (len(factors) + 2):
        raise BadInput(f"values have the shape {flat.shape}; wanted one for each row of influence.plan")
    require_spread(flat)
    found = analysis.analyze(
        _problem(factors), flat, calc_second_order=False, num_resamples=_RESAMPLES, conf_level=_CONFIDENCE, seed=seed
    )
    names = {"first_order": "S1", "total_order": "ST", "first_order_error": "S1_conf", "total_order_error": "ST_conf"}
    table = {name: ("factor", np.asarray(found[key])) for name, key in names.items()}
    return annotate(xr.Dataset(table, coords={"factor": list(factors)}))


def require_spread(values: Any) -> None:
    """Raise BadInput for values that are not finite, or that differ by no more than 2^10 roundings (2.3e-13) of the one
    of largest magnitude: the indices of rounding would look like those of an output.

    What is to be asked before a logarithm is taken: that of a constant near 1 has nothing but rounding for a magnitude.
    """
    flat = np.asarray(values, dtype=float)
    if not np.isfinite(flat).all() or np.ptp(flat) <= _ROUNDING * np.abs(flat).max():
        raise BadInput("values do not vary beyond rounding or are not finite; wanted an output that the factors change")


def _problem(factors: Sequence[str]) -> dict[str, Any]:
    if not factors:
        raise BadInput("there are no factors; wanted at least one")
    return {"num_vars": len(factors), "names": list(factors), "bounds": [[0.0, 1.0]] * len(factors)}
