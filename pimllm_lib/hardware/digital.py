"""Digital engines."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import clip
from pimllm_lib.core.parts import Name, Value, declare, part, require, require_paid
from pimllm_lib.core.rules import AT_LEAST_0, COUNT, FLAG, POSITIVE, SHARE, choice

DATAFLOWS = ("os", "ws", "is")


@part
class SystolicArray:
    """A rows x cols array of multiply-accumulate PEs. Each field may be an axis.

    A reported energy per cycle is valid for one row of activations at the size and dataflow it was measured with only, and
    used there instead. Groups of rows are each at a fold of its own; with few rows of operands there are as many groups as
    rows are left. Raises BadInput for row_groups that do not divide the rows, and groups or overlap that cost nothing.
    """

    name: str
    rows: Value = declare(COUNT, "rows of PEs")
    cols: Value = declare(COUNT, "columns of PEs")
    rate_hz: Value = declare(POSITIVE, "clock, one MAC per PE and cycle")
    dataflow: Name = declare(
        choice(DATAFLOWS, what="dataflow", axis=True), "output, weight or input stationary", default="os"
    )
    active_pe_energy_j: Value = declare(POSITIVE, "energy per cycle of a PE that holds an operand or result")
    idle_pe_energy_j: Value = declare(POSITIVE, "energy per cycle of a PE that holds no operand or result")
    measured_cycle_energy_j: Value = declare(AT_LEAST_0, "reported energy per cycle, 0 where none was", default=0.0)
    measured_rows: Value = declare(AT_LEAST_0, "rows of the array that `measured_cycle_energy_j` is for", default=0)
    measured_cols: Value = declare(AT_LEAST_0, "columns of the array that `measured_cycle_energy_j` is for", default=0)
    measured_dataflow: Name = declare(
        choice(DATAFLOWS, what="dataflow"), "dataflow that `measured_cycle_energy_j` is for", default="os"
    )
    pe_area_m2: Value | None = declare(POSITIVE, "area of a PE, None where it is not known", default=None)
    arrays: Value = declare(COUNT, "how many such arrays work side by side", default=1)
    row_groups: Value = declare(COUNT, "most groups that the rows of each can be divided into", default=1)
    overlap: Value = declare(FLAG, "the next fold streams in while the last one drains", default=False)
    group_area_m2: Value = declare(AT_LEAST_0, "area that a PE takes more for groups", default=0.0)
    group_pe_energy_j: Value = declare(AT_LEAST_0, "what a working PE's cycle takes more for groups", default=0.0)
    shadow_area_m2: Value = declare(AT_LEAST_0, "area of a PE's second accumulator, for overlap", default=0.0)
    gated_share: Value = declare(SHARE, "share of its idle power that it draws while crossbars work", default=1.0)
    shadow_j: Value = declare(AT_LEAST_0, "energy of one result or operand through its accumulator", default=0.0)

    def __post_init__(self) -> None:
        """Refuse groups that leave rows over, and groups or overlap that cost nothing."""
        whole = np.logical_not(self.rows % self.row_groups)
        require(whole, "SystolicArray.row_groups", self.row_groups, f"a divisor of the {clip(self.rows)} rows")
        require_paid(self, self.row_groups > 1, ("group_area_m2", "group_pe_energy_j"), "row_groups is above 1")
        require_paid(self, self.overlap > 0, ("shadow_area_m2", "shadow_j"), "overlap is on")
