"""Where a headline turns: the value of one constant at which a comparison changes sign, everything else held."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core.axes import axis
from pimllm_lib.core.parts import with_field
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import compare, summary

#: How far from its own value a constant is searched, as a factor either way.
REACH = 1e6
_POINTS = 65


def constant(path: str) -> float:
    """Return the catalog's value of a constant of pim-llm, by path: "pim.tile.crossbar.adc.power_w"."""
    return float(attrgetter(path)(catalog.systems["pim-llm"]))


def margin(path: str, values: xr.DataArray, *, quantity: str, level: float, **case: Any) -> xr.DataArray:
    """Return by how much a quantity of pim-llm against tpu-llm exceeds a level, along values of one constant.

    The constant is changed in both systems where both have it. case: model, context_len, conventions.
    """
    both = [catalog.systems[name] for name in ("tpu-llm", "pim-llm")]
    has = attrgetter(path.split(".")[0])
    systems = [with_field(system, path, values) if has(system) is not None else system for system in both]
    ds = compare(summary(evaluate(system=systems, **case)))
    found: xr.DataArray = ds[quantity].sel(system="pim-llm").squeeze() - level
    return found.broadcast_like(values)


def flip(path: str, *, quantity: str, level: float = 0.0, **case: Any) -> float:
    """Return the value of a constant at which a comparison turns, nearest to its own; NaN where it does not turn.

    The constant is searched over REACH either way of its own value, a share up to 1, by a grid that closes in on the
    change of sign.
    """
    own = constant(path)

    def judge(low: float, high: float) -> tuple[Any, Any]:
        values = axis(value=np.geomspace(low, high, _POINTS))
        return values.values, margin(path, values, quantity=quantity, level=level, **case).values

    bracket = _nearest(judge, own / REACH, min(own * REACH, 1.0 if path.endswith("_share") else np.inf), own)
    while bracket is not None and bracket[1] / bracket[0] > 1 + 1e-9:
        bracket = _nearest(judge, *bracket, own)
    return float("nan") if bracket is None else float(np.sqrt(bracket[0] * bracket[1]))


def _nearest(
    judge: Callable[[float, float], tuple[Any, Any]], low: float, high: float, own: float
) -> tuple[float, float] | None:
    """Return the two grid points around the change of sign nearest to a value, None where there is none."""
    values, margins = judge(low, high)
    turns = np.flatnonzero(np.sign(margins[:-1]) != np.sign(margins[1:]))
    if not len(turns):
        return None
    at = min(turns, key=lambda i: abs(np.log(np.sqrt(values[i] * values[i + 1]) / own)))
    return float(values[at]), float(values[at + 1])
