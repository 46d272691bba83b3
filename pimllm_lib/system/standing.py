"""Static power over a step: what it takes while parts work, wait for their turn, and sleep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pimllm_lib.core.parts import Value, require
from pimllm_lib.core.schema import COMPONENTS, PRODUCT_KINDS
from pimllm_lib.engines.entries import Turn, Wait
from pimllm_lib.hardware import System
from pimllm_lib.system.ledger import Ledger
from pimllm_lib.workload.step import Step


@dataclass
class Standing:
    """What is said of static power in the passes of a step. standing_w: what stands there, by op and component; turns:
    sums of `Turn`; crossbars_s, waking_s: time of the step in which crossbars work, and in which they wake.
    """

    standing_w: dict[str, dict[str, Value]] = field(default_factory=dict)
    turns: dict[tuple[str, str], tuple[Value, ...]] = field(default_factory=dict)
    crossbars_s: Value = 0.0
    waking_s: Value = 0.0

    def take(self, turn: Turn, times: Value) -> None:
        """Add the turn of a pass that is done so often."""
        sums = self.turns.get((turn.op, turn.component), (0.0, 0.0, 0.0))
        self.turns[turn.op, turn.component] = tuple(a + b * times for a, b in zip(sums, turn[2:], strict=True))

    def time(self, waits: Iterable[Wait], system: System, times: Value) -> None:
        """Add the times on the critical path of a pass that is done so often."""
        for op, component, seconds in waits:
            if op in PRODUCT_KINDS and system.engine(op) != "array":
                self.crossbars_s = self.crossbars_s + seconds * times
            if component == "wake":
                self.waking_s = self.waking_s + seconds * times

    def charge(self, system: System, step: Step, ledger: Ledger) -> None:
        """Add the static energy of the step, which needs the time of all the rest, less what is charged while parts work.

        Raises BadInput where tiles take longer to wake than everything else.
        """
        token_s = ledger.whole("latency_s")
        rest = token_s - self.waking_s
        longest = float(np.max(np.asarray(self.waking_s)))
        require(self.waking_s <= rest, "the time that tiles take to wake, in seconds,", longest,
                "no more than the rest of a token's, or tiles that are never woken")  # fmt: skip
        for op, parts in self.standing_w.items():
            for component, watts in parts.items():
                for name, joules in self._spent(op, component, watts, token_s, system, step):
                    ledger.add("energy_j", "block", name, joules)

    def _spent(
        self, op: str, component: str, watts: Value, token_s: Value, system: System, step: Step
    ) -> Iterator[tuple[str, Value]]:
        """Yield what the static power of a component takes, by the component that it is charged to."""
        full_j, row = watts * token_s, COMPONENTS[component]
        working_j, turn_j, woken_w = self.turns.get((op, component), (0.0, 0.0, 0.0))
        share, awake_j, break_even_s = 1.0, full_j, 0.0
        if row.subsystem == "pim" and step.counting.power_gating:
            tiles: Any = getattr(system, system.engine(op))
            share, break_even_s = tiles.gated_share, tiles.break_even_s
            least = {"product": turn_j, "block": np.maximum(turn_j, full_j / step.pim.n_layers), "never": full_j}
            awake_j = np.minimum(least[tiles.woken], full_j)
        elif component in ("stream", "sram") and step.counting.power_gating:
            share = (system.array if component == "stream" else system.sram).gated_share  # type: ignore[union-attr]
            awake_j = full_j - watts * self.crossbars_s * np.not_equal(share, 1)
        yield component if row.energy == "static" else "leakage", awake_j - working_j
        yield "asleep", share * (full_j - awake_j)
        if np.any(np.asarray(break_even_s)):
            yield "wake", (1 - share) * woken_w * (awake_j < full_j) * break_even_s
