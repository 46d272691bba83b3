"""Softmax, norms, activation functions and residual additions: elements through lanes, one a cycle and lane.

A function reads its elements in one or more passes. A pass that can take them as they are produced hides behind the
product before it; the others, and the depth of the pipeline, are waited for.
"""

from __future__ import annotations

from pimllm_lib.core.parts import Value, ceil_div

#: Function -> (passes over its elements, passes that are waited for).
#: ConSMax (Liu et al. 2024) needs neither the maximum nor the sum of the scores. A conventional softmax takes the maximum
#: while scores arrive, then exponentiates and sums, then divides. A norm gathers its statistics while its input arrives.
PASSES: dict[str, tuple[int, int]] = {
    "consmax": (1, 0),
    "conventional": (3, 2),
    "layernorm": (2, 1),
    "rmsnorm": (2, 1),
    "gelu": (1, 0),
    "silu": (1, 0),
    "residual": (1, 0),
    # partial results of a context that was cut are there only when the last part is done, and so are the scores of pages
    "reduction": (1, 1),
    "choice": (1, 1),
    "turn": (1, 0),
    "decay": (1, 0),
}


def times(function: str, elements: Value, *, lanes: Value, rate_hz: Value, depth_s: Value) -> dict[str, Value]:
    """Return working time and exposed time, in seconds, of one use of a function; 0 where it has no elements."""
    passes, waited = PASSES[function]
    one = ceil_div(elements, lanes) / rate_hz
    present = elements > 0
    return {"busy_s": (passes * one + depth_s) * present, "latency_s": (waited * one + depth_s) * present}
