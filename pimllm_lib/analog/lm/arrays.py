"""Arrays of numpy, which all is written for, and of other libraries and devices that follow the array API, such as torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array, to_device


def beside(array: np.ndarray, like: Any) -> Any:
    """Return an array of numpy in the library and on the device of another."""
    return array if is_numpy_array(like) else array_namespace(like).asarray(array, device=device(like))


def kept(held: Any, move: Callable[[Any, Any], Any] = beside) -> Callable[[Any], Any]:
    """Return what gives something of numpy as it is needed beside another array; to a device it is moved once."""
    there: dict[Any, Any] = {}

    def given(like: Any) -> Any:
        if is_numpy_array(like):
            return held
        where = device(like)
        if where not in there:
            there[where] = move(held, like)
        return there[where]

    return given


def to_numpy(array: Any) -> np.ndarray:
    """Return an array as one of numpy."""
    return np.asarray(array if is_numpy_array(array) else to_device(array, "cpu"))


def into(array: Any) -> dict[str, Any]:
    """Return the keywords with which a function of numpy overwrites an array; other libraries make another."""
    return {"out": array} if is_numpy_array(array) else {}


def clipped(array: Any, low: float | None, high: float | None) -> Any:
    """Return an array within bounds; numpy's is overwritten, in one pass."""
    if is_numpy_array(array):
        return np.clip(array, low, high, out=array)
    return array_namespace(array).clip(array, low, high)
