"""Which product waits for which: from the working time of each to its share of the critical path."""

from __future__ import annotations

from collections.abc import Mapping

from pimllm_lib.parts import Value


def serial(busy_s: Mapping[str, Value]) -> dict[str, Value]:
    """Return the exposed time of each product when every one waits for the one before: all of its working time.

    This is how the published array times add up. Neglected: issue overhead, stalls, transfers between parts.
    """
    return dict(busy_s)
