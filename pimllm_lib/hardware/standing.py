"""What parts draw while they stand: the transistors that leak, and the tiles that sleep between their turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pimllm_lib.core.parts import Table, Value, declare, part, require
from pimllm_lib.core.rules import number

#: Which tiles are woken together: those of a product, those of a decoder block, or none, since all stay awake.
WOKEN = ("product", "block", "never")
#: Temperatures that chips work at. CACTI 7 knows those from 300 K.
TEMPERATURE = number("a temperature from 250 to 400 K", ge=250, le=400)
_KELVIN = number("temperatures from 250 to 400 K", ge=250, le=400, column=True)
_GROWTH = number("a finite number above 0", gt=0, lt=np.inf, column=True)


@part
class Transistors:
    """Transistors of a process, by how the leakage of their channels grows with temperature. Between listed temperatures,
    and beyond them, its logarithm is linear.
    """

    name: str
    listed_k: Table = declare(_KELVIN, "temperatures, growing")
    growth: Table = declare(_GROWTH, "leakage of channels there, in any one unit")

    def __post_init__(self) -> None:
        """Refuse temperatures that do not grow, or are one, and a column of another length."""
        growing = len(self.listed_k) > 1 and np.all(np.diff(self.listed_k) > 0)
        require(growing, "Transistors.listed_k", self.listed_k, "two growing temperatures or more")
        require(len(self.growth) == len(self.listed_k), "Transistors.growth", self.growth, "one for each temperature")

    def grown(self, kelvin: Value) -> Value:
        """Return the leakage of channels at a temperature, in the unit of `growth`."""
        listed, logs = self.listed_k, np.log(self.growth)
        total: Value = logs[0]
        for i, slope in enumerate(np.diff(logs) / np.diff(listed)):
            low = -np.inf if i == 0 else 0.0
            high = np.inf if i == len(listed) - 2 else listed[i + 1] - listed[i]
            total = total + slope * np.clip(kelvin - listed[i], low, high)
        return np.exp(total)


def heated(memory: Any) -> Callable[[Value, Value], Value]:
    """Return what a memory leaks at its temperature, in watts, as a function of what it leaks where it is rated and of the
    part of that through gates, which stays; that of channels grows.
    """
    if memory.transistors is None:
        return lambda rated_w, gate_w: rated_w
    grown = memory.transistors.grown
    growth = grown(memory.temperature_k) / grown(memory.rated_k)
    return lambda rated_w, gate_w: gate_w + (rated_w - gate_w) * growth
