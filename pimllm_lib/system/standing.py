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
        lasting = Ledger(ledger.frame, ledger.detail, {"energy_j"})
        spent = Spent(system, step, token_s, self.crossbars_s)
        for op, parts in self.standing_w.items():
            for component, watts in parts.items():
                turn = self.turns.get((op, component), (0.0, 0.0, 0.0))
                for name, all_token_w, joules in spent.by(op, component, watts, turn):
                    lasting.add("energy_j", "block", name, all_token_w)
                    ledger.add("energy_j", "block", name, joules)
        ledger.take("energy_j", lasting, token_s)


@dataclass
class Spent:
    """What static power takes in a step whose time is known. Only the time varies along every axis of a large sweep: it is
    multiplied once, by a sum of powers, wherever energy grows in proportion to it.
    """

    system: System
    step: Step
    token_s: Value
    crossbars_s: Value
    _least: dict[tuple[int, ...], Value] = field(default_factory=dict)

    def by(self, op: str, component: str, watts: Value, turn: tuple[Value, ...]) -> Iterator[tuple[str, Value, Value]]:
        """Yield what the static power of a component takes: what it is charged to, the power, in watts, that it takes all
        the time, and what it takes besides, in joules. turn: the sums of its turns.
        """
        row, (working_j, *_) = COMPONENTS[component], turn
        name = component if row.energy == "static" else "leakage"
        if row.subsystem == "pim" and self.step.counting.power_gating:
            tiles: Any = getattr(self.system, self.system.engine(op))
            if tiles.woken != "never":
                yield from self._woken(name, tiles, watts, turn)
                return
        if component in ("stream", "sram") and self.step.counting.power_gating:
            share = (self.system.array if component == "stream" else self.system.sram).gated_share  # type: ignore[union-attr]
            gated_j = watts * self.crossbars_s * np.not_equal(share, 1)
            yield name, watts, -gated_j - working_j
            yield "asleep", 0.0, share * gated_j
        else:
            yield name, watts, -working_j

    def _woken(
        self, name: str, tiles: Any, watts: Value, turn: tuple[Value, ...]
    ) -> Iterator[tuple[str, Value, Value]]:
        """Yield the same of tiles that are awake in their turn, or in that of their block, and no longer than the step."""
        working_j, turn_j, woken_w = turn
        share, sleeps = tiles.gated_share, 1.0
        if tiles.woken == "product" and self._shorter(turn_j, watts):
            yield name, 0.0, turn_j - working_j
            yield "asleep", share * watts, -share * turn_j
        else:
            full_j = watts * self.token_s
            least_j = turn_j if tiles.woken == "product" else np.maximum(turn_j, full_j / self.step.pim.n_layers)
            awake_j = np.minimum(least_j, full_j)
            sleeps = awake_j < full_j
            yield name, 0.0, awake_j - working_j
            yield "asleep", 0.0, share * (full_j - awake_j)
        if np.any(np.asarray(tiles.break_even_s)):
            yield "wake", 0.0, (1 - share) * woken_w * sleeps * tiles.break_even_s

    def _shorter(self, turn_j: Value, watts: Value) -> bool:
        """Return whether a turn is clearly shorter than the step wherever it is not 0."""
        shape = np.shape(turn_j)
        if shape not in self._least:  # the least time along every axis on which the turn does not depend
            token_s = np.asarray(self.token_s)
            over = tuple(i for i, n in enumerate(shape or token_s.shape) if n == 1 or not shape)
            self._least[shape] = token_s.min(axis=over, keepdims=True)
        return bool(np.all((turn_j < (1 - 1e-9) * watts * self._least[shape]) | np.equal(turn_j, 0)))
