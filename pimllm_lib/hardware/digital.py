"""Digital engines."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import clip, unknown
from pimllm_lib.core.parts import (
    Name,
    Value,
    part,
    require,
    require_counts,
    require_flags,
    require_paid,
    require_positive,
)

DATAFLOWS = ("os", "ws", "is")


@part
class SystolicArray:
    """A rows x cols array of multiply-accumulate PEs.

    rate_hz: clock, one MAC per PE and cycle; dataflow: "os", "ws" or "is" (output, weight, input stationary).
    active_pe_energy_j, idle_pe_energy_j: energy per cycle of a PE that holds an operand or result, and of one that does
    not. measured_cycle_energy_j: energy per cycle of the whole array where somebody reported it, valid for one row of
    activations at measured_rows x measured_cols and measured_dataflow only, and used there instead (0: never).
    pe_area_m2: area of a PE, None where it is not known. Each may be an axis.

    arrays: how many such arrays work side by side. row_groups: most groups that the rows of each can be divided into,
    each at a fold of its own; with few rows of operands there are as many groups as rows are left. overlap: the next
    fold streams in while the last one drains. group_area_m2, group_pe_energy_j: what a PE and a working PE's cycle take
    more for groups; shadow_area_m2, shadow_j: a PE's second accumulator, and moving one result or stationary operand
    through it. Raises BadInput for counts below 1, rates or energies not above 0, an unknown dataflow, row_groups that
    do not divide the rows, and groups or overlap that cost nothing.
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
    arrays: Value = 1
    row_groups: Value = 1
    overlap: Value = False
    group_area_m2: Value = 0.0
    group_pe_energy_j: Value = 0.0
    shadow_area_m2: Value = 0.0
    shadow_j: Value = 0.0

    def __post_init__(self) -> None:
        """Refuse a part that cannot exist."""
        require_counts(self, ("rows", "cols", "arrays", "row_groups"))
        require_flags(self, ("overlap",))
        require_positive(self, ("group_area_m2", "group_pe_energy_j", "shadow_area_m2", "shadow_j"), or_zero=True)
        whole = np.logical_not(self.rows % self.row_groups)
        require(whole, "SystolicArray.row_groups", self.row_groups, f"a divisor of the {clip(self.rows)} rows")
        grouped, overlapped = ("group_area_m2", "group_pe_energy_j"), ("shadow_area_m2", "shadow_j")
        require_paid(self, self.row_groups > 1, grouped, "row_groups is above 1")
        require_paid(self, self.overlap > 0, overlapped, "overlap is on")
        require_positive(self, ("rate_hz", "active_pe_energy_j", "idle_pe_energy_j"))
        require_positive(self, ("measured_cycle_energy_j", "measured_rows", "measured_cols"), or_zero=True)
        if self.pe_area_m2 is not None:
            require_positive(self, ("pe_area_m2",))
        for flow in {self.measured_dataflow, *np.unique(np.asarray(self.dataflow)).tolist()}:
            if flow not in DATAFLOWS:
                raise unknown("dataflow", flow, DATAFLOWS)
