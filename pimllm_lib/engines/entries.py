"""What an engine says of the products routed to it, one pass at a time, and what it takes to be an engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from pimllm_lib.core.parts import Value
from pimllm_lib.workload.products import Product
from pimllm_lib.workload.step import Step

Key = TypeVar("Key", bound=Hashable)


class Entry(NamedTuple):
    """What all products of an op cost in one component: an extensive variable of `schema`."""

    op: str
    component: str
    variable: str
    value: Value


class _Seconds(NamedTuple):
    """Working time: what every kind of it says."""

    op: str
    component: str
    value: Value

    @property
    def variable(self) -> str:
        """The variable it adds to."""
        return "busy_s"


class Work(_Seconds):
    """Time in which an engine works on an op: busy, and on the critical path as far as the schedule says."""


class Move(_Seconds):
    """Time in which a memory moves what an op works with: busy, and waited for where it outlasts the work."""


class Wait(NamedTuple):
    """Time on the critical path in which no engine works."""

    op: str
    component: str
    seconds: Value


class Turn(NamedTuple):
    """What the static power of a component takes in a pass while it works, which is charged already, and while it is the
    turn of its products, both in joules; and, in watts, that power times how often a part of it is woken.
    """

    op: str
    component: str
    working_j: Value
    turn_j: Value
    woken_w: Value = 0.0


Said: TypeAlias = Entry | Work | Move | Wait | Turn


class Engine(NamedTuple):
    """How the products that routing sends to one field of a system are charged.

    entries: from that field, the step, the products and the variables wanted to what one pass costs. side_by_side:
    whether products of a stage run at the same time. late: from that field, the step and its time to what is waited for
    beyond it.
    """

    entries: Callable[[Any, Step, Sequence[Product], set[str]], Iterator[Said]]
    side_by_side: bool = False
    late: Callable[[Any, Step, Value], Iterator[Wait]] | None = None


def slowest(times: Mapping[Key, Value]) -> dict[Key, Value]:
    """Return 1 for the longest of some times, the first of equal ones, and 0 for the others, everywhere along axes."""
    longest: Any = 0.0
    for time in times.values():
        longest = np.maximum(longest, time)
    share, taken = {}, np.zeros(())
    for key, time in times.items():
        first = (time == longest) * (1 - taken)
        share[key], taken = first, np.maximum(taken, first)
    return share
