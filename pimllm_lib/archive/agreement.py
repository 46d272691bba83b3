"""Whether two values of a result variable are the same: the one rule for `book`, `verify` and `diff`.

A number is compared on the scale of what it is a sum or a difference of, for that is what its rounding grows with. A cost of
one op and component is compared on the scale of the largest op or component beside it: they are added up. What is a
difference (a gain, an index of variance, the rise of a loss) has a scale in its row of `schema.VARIABLES`. Everything else
is made by multiplying and dividing, and is its own scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.core.schema import SUMMED, VARIABLES

#: By how much a value may move when it is computed again, relative to its scale: by the rounding of the libraries.
ROUNDING = 1e-9
#: Another machine adds in another order, and that turns some 8-bit roundings of a language model.
STUDIES = 1e-3
#: What chapters make of a few such models moves further; a new one of them gets its name here.
_CHAPTERS = dict.fromkeys(("11-analog-noise", "12-pim-attention", "16-analog-engine"), 1e-2)


def tolerance(result: str, parameters: Mapping[str, Any]) -> float:
    """Return by how much the values of a result may move, relative to their scale.

    result: the name it was saved under; parameters: what it was made with, of a study its table. A user's result is
    compared like one of ours: a sweep of a notebook like the notebook's, a study of noise like the archived ones.
    """
    return _CHAPTERS.get(str(parameters.get("notebook", result)), STUDIES if "curves" in parameters else ROUNDING)


def summed(variable: xr.DataArray) -> list[str]:
    """Return the dimensions of a variable along which it adds up: none for one that is intensive, or not ours."""
    row = VARIABLES.get(str(variable.name))
    return [dim for dim in SUMMED if dim in variable.dims] if row is not None and row.extensive else []


def scale(kept: xr.DataArray) -> NDArray[np.float64]:
    """Return the size on which each value of a variable is compared, of the variable's own shape and unit."""
    size: NDArray[np.float64] = np.abs(np.where(np.isfinite(kept.values), kept.values, 0.0))
    row = VARIABLES.get(str(kept.name))
    if row is None or not size.size:
        return size
    if row.scale == "largest":
        return np.broadcast_to(size.max(), size.shape)
    over = tuple(kept.dims.index(dim) for dim in summed(kept))
    return np.broadcast_to(np.maximum(size.max(over, keepdims=True), row.scale), size.shape)


def moved(kept: xr.DataArray, fresh: xr.DataArray, tolerance: float) -> NDArray[np.bool_]:
    """Return where two variables of the same dimensions and labels differ, as an array of booleans.

    tolerance: by how much a value may move, relative to its scale.
    What is no number (NaN) agrees with what is none, and infinity with infinity.
    """
    old, new = kept.values.astype(float, copy=False), fresh.values.astype(float, copy=False)
    with np.errstate(invalid="ignore"):
        near = np.abs(new - old) <= scale(kept) * tolerance
    same: NDArray[np.bool_] = near | (old == new) | (np.isnan(old) & np.isnan(new))
    return ~same
