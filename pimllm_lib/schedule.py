"""Which product waits for which: from the working time of each to its share of the critical path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pimllm_lib.parts import Value

#: Products of a block in the order of their data; those of one stage need nothing of each other.
STAGES: tuple[tuple[str, ...], ...] = (("q", "k", "v"), ("score",), ("av",), ("x",), ("gate", "ff1"), ("ff2",))
#: Engines on which the products of a stage run at the same time: crossbars hold every matrix at once.
PARALLEL_ENGINES = ("pim",)


def exposed(busy_s: Mapping[str, Value], engine: Mapping[str, str]) -> dict[str, Value]:
    """Return for each product the share of its working time that is on the critical path: all of it or none.

    busy_s: working time of each product; engine: where it runs. Stages follow one another. Within a stage, products on a
    parallel engine run side by side and the slowest counts (the first, of equal ones); on any other engine they follow
    one another. Neglected: issue overhead, stalls, transfers between engines.
    """
    share: dict[str, Value] = {}
    for stage in STAGES:
        here = [op for op in stage if op in busy_s]
        side_by_side = [op for op in here if engine[op] in PARALLEL_ENGINES]
        share |= {op: 1.0 for op in here if op not in side_by_side}
        share |= _slowest({op: busy_s[op] for op in side_by_side})
    return share


def _slowest(times: Mapping[str, Value]) -> dict[str, Value]:
    """Return 1 for the longest of some times and 0 for the others, everywhere along their axes."""
    longest: Any = 0.0
    for time in times.values():
        longest = np.maximum(longest, time)
    share, taken = {}, np.zeros(())
    for op, time in times.items():
        first = (time == longest) * (1 - taken)
        share[op], taken = first, np.maximum(taken, first)
    return share
