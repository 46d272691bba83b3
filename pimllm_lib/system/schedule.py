"""Which product waits for which: from the working time of each to its share of the critical path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pimllm_lib.core.parts import Value
from pimllm_lib.engines import BY_NAME
from pimllm_lib.engines.entries import slowest

#: Products of a block in the order of their data; those of one stage need nothing of each other.
STAGES: tuple[tuple[str, ...], ...] = (
    ("q_down",), ("q", "k", "v", "mix_in"), ("k_up",), ("select",), ("score",), ("state",), ("av",), ("v_up",),
    ("x", "mix_out"), ("gate", "ff1", "shared_gate", "shared_ff1"), ("ff2", "shared_ff2"), ("side",), ("lm_head",),
)  # fmt: skip
#: Engines on which the products of a stage run at the same time.
PARALLEL_ENGINES = tuple(name for name, engine in BY_NAME.items() if engine.side_by_side)


def exposed(busy_s: Mapping[str, Value], engine: Mapping[str, str], *, overlap: bool = False) -> dict[str, Value]:
    """Return for each product the share of its working time that is on the critical path, from none (0) to all (1).

    busy_s: working time of each product; engine: where it runs. Stages follow one another. Within a stage, products on
    a parallel engine run side by side and the slowest counts (the first, of equal ones); on any other engine they
    follow one another. overlap: scores start when query and key are there, and the value projection hides behind them
    as far as it can.
    """
    share: dict[str, Value] = {}
    for stage in STAGES:
        here = [op for op in stage if op in busy_s]
        side_by_side = [op for op in here if engine[op] in PARALLEL_ENGINES]
        share |= {op: 1.0 for op in here if op not in side_by_side}
        if overlap and {"q", "k", "v"} <= set(side_by_side) and engine.get("score") not in PARALLEL_ENGINES:
            first = slowest({op: busy_s[op] for op in side_by_side if op != "v"})
            share |= first | {"v": _left_over(busy_s, first)}
        else:
            share |= slowest({op: busy_s[op] for op in side_by_side})
    return share


def hidden(times: Mapping[str, Value], *, blocks: Value, pipelined: Value, batch: Value) -> dict[str, Value]:
    """Return the share of each half's time that is still on the critical path when the halves of a batch take turns.

    times: of two halves of the machine, which one sequence keeps busy in turns. With half of the batch on each, a block
    takes as long as the slower half twice, for half of the batch each time; the faster half shows only before the first
    block: 1 / (2 blocks) of its time. One sequence alone waits for both, and so does a batch that turns would make
    slower.

    >>> hidden({"pim": 2.0, "array": 6.0}, blocks=10, pipelined=True, batch=2)
    {'pim': 0.05, 'array': 1.0}
    """
    (first, a), (second, b) = times.items()
    larger = 2 * np.ceil(np.asarray(batch) / 2) / batch  # of an odd batch the larger half sets the pace
    taken = larger * np.maximum(a, b) + np.minimum(a, b) / (2 * blocks)
    turns = np.asarray(pipelined) * (np.asarray(batch) > 1) * (taken < a + b)
    found = [np.where(turns, np.where(hides, 1 / (2 * blocks), larger), 1.0) for hides in (a <= b, b < a)]
    return dict(zip((first, second), (float(x) if np.ndim(x) == 0 else x for x in found), strict=True))


def _left_over(busy_s: Mapping[str, Value], first: Mapping[str, Value]) -> Value:
    """Return the share of the value projection that is still running when the scores are done."""
    until = sum(busy_s[op] * first[op] for op in first) + busy_s.get("score", 0.0)
    taken = busy_s["v"] + (busy_s["v"] == 0)  # a model without one has nothing left over
    return np.maximum(0.0, busy_s["v"] - until) / taken
