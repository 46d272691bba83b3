"""Machines that one can buy, as decoding sees them: memory that is read at a rate, and multipliers."""

from __future__ import annotations

from pimllm_lib.core.parts import Name, Value, declare, part
from pimllm_lib.core.rules import POSITIVE, choice, number

#: unified: a laptop or a small desktop whose GPU shares the memory of its cores. cpu: decoding on cores, where the others
#: decode on a GPU.
KINDS = ("phone", "unified", "board", "card", "cpu")


@part
class Device:
    """A phone, a laptop, a board, a graphics card or a processor that decodes a language model.

    A token takes as long as its bytes take at `efficiency` of the bandwidth, or its multiply-accumulates at their rate,
    whichever is longer. Neglected: what a token costs whatever its size, such as the starting of kernels, and heat.
    """

    name: str
    kind: Name = declare(choice(KINDS), "what kind it is of, one of `KINDS`")
    bandwidth_bps: Value = declare(POSITIVE, "peak rate of the memory that holds weights and cache")
    capacity_bytes: Value = declare(POSITIVE, "room in that memory")
    efficiency: Value = declare(
        POSITIVE + number("a share above 0, up to 1", le=1), "share of the peak rate that decoding reaches"
    )
    macs_hz: Value | None = declare(
        POSITIVE, "multiply-accumulates a second, None where no bound is known", default=None
    )
    power_w: Value | None = declare(POSITIVE, "limit of its power, None where none is stated", default=None)
    die_area_m2: Value | None = declare(POSITIVE, "area of its main die, None where it is not known", default=None)
