"""Frozen hardware parts and the accelerators made of them. Parts hold numbers; the catalog knows their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

import numpy as np

from pimllm_lib.errors import unknown
from pimllm_lib.parts import Value, part, require, require_counts, require_positive
from pimllm_lib.schema import KINDS

DATAFLOWS = ("os", "ws", "is")


@part
class SystolicArray:
    """A rows x cols array of multiply-accumulate PEs.

    rate_hz: clock, one MAC per PE and cycle; dataflow: "os", "ws" or "is" (output, weight, input stationary).
    active_pe_energy_j, idle_pe_energy_j: energy per cycle of a PE that holds an operand or result, and of one
    that does not. measured_cycle_energy_j: energy per cycle of the whole array where somebody reported it, valid
    at measured_rows x measured_cols only and used there instead (0: never). Each may be an axis.
    Raises BadInput for counts below 1, rates or energies not above 0, and an unknown dataflow.
    """

    name: str
    rows: Value
    cols: Value
    rate_hz: Value
    dataflow: Value = "os"
    active_pe_energy_j: Value
    idle_pe_energy_j: Value
    measured_cycle_energy_j: Value = 0.0
    measured_rows: Value = 0
    measured_cols: Value = 0

    def __post_init__(self) -> None:
        """Refuse a part that cannot exist."""
        require_counts(self, ("rows", "cols"))
        require_positive(self, ("rate_hz", "active_pe_energy_j", "idle_pe_energy_j"))
        for name in ("measured_cycle_energy_j", "measured_rows", "measured_cols"):
            value = getattr(self, name)
            require(np.asarray(value) >= 0, f"SystolicArray.{name}", value, "a number of at least 0")
        for flow in np.unique(np.asarray(self.dataflow)).tolist():
            if flow not in DATAFLOWS:
                raise unknown("dataflow", flow, DATAFLOWS)


@part
class System:
    """An accelerator: its engines, and the engine that each kind of product goes to.

    array: the systolic array, the engine called "array". routing: kind -> engine, every kind of
    `schema.KINDS` once. Raises BadInput for a kind left out and for a name that is no kind or engine.
    """

    name: str
    array: SystolicArray
    routing: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(KINDS, "array"))

    def __post_init__(self) -> None:
        """Refuse routing that names nothing or leaves a kind out."""
        for kind, engine in self.routing.items():
            if kind not in KINDS:
                raise unknown(f"kind of product in {self.name}.routing", kind, KINDS)
            if engine not in ENGINES:
                raise unknown(f"engine in {self.name}.routing.{kind}", engine, ENGINES)
        left = [kind for kind in KINDS if kind not in self.routing]
        require(not left, f"{self.name}.routing", dict(self.routing), f"an engine for {', '.join(left)} too")


#: Engines a product can be routed to: the names of the fields of `System` that do work.
ENGINES = ("array",)
