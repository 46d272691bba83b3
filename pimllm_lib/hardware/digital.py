"""Digital engines."""

from __future__ import annotations

import numpy as np

from pimllm_lib.errors import unknown
from pimllm_lib.parts import Name, Value, part, require_counts, require_positive

DATAFLOWS = ("os", "ws", "is")


@part
class SystolicArray:
    """A rows x cols array of multiply-accumulate PEs.

    rate_hz: clock, one MAC per PE and cycle; dataflow: "os", "ws" or "is" (output, weight, input stationary).
    active_pe_energy_j, idle_pe_energy_j: energy per cycle of a PE that holds an operand or result, and of one
    that does not. measured_cycle_energy_j: energy per cycle of the whole array where somebody reported it, valid
    for one row of activations at measured_rows x measured_cols and measured_dataflow only, and used there instead (0:
    never). pe_area_m2: area of a PE, None where it is
    not known. Each may be an axis.
    Raises BadInput for counts below 1, rates or energies not above 0, and an unknown dataflow.
    """

    name: str
    rows: Value
    cols: Value
    rate_hz: Value
    dataflow: Name = "os"
    active_pe_energy_j: Value
    idle_pe_energy_j: Value
    measured_cycle_energy_j: Value = 0.0
    measured_rows: Value = 0
    measured_cols: Value = 0
    measured_dataflow: Name = "os"
    pe_area_m2: Value | None = None

    def __post_init__(self) -> None:
        """Refuse a part that cannot exist."""
        require_counts(self, ("rows", "cols"))
        require_positive(self, ("rate_hz", "active_pe_energy_j", "idle_pe_energy_j"))
        require_positive(self, ("measured_cycle_energy_j", "measured_rows", "measured_cols"), or_zero=True)
        if self.pe_area_m2 is not None:
            require_positive(self, ("pe_area_m2",))
        for flow in {self.measured_dataflow, *np.unique(np.asarray(self.dataflow)).tolist()}:
            if flow not in DATAFLOWS:
                raise unknown("dataflow", flow, DATAFLOWS)
