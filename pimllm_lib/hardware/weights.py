"""Weights of other widths: the same machine with crossbars and stores that hold them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pimllm_lib.core.parts import Value, numeric, require, with_field
from pimllm_lib.core.rules import MAX_BITS
from pimllm_lib.hardware.machine import System


def with_weight_bits(system: System, bits: Value) -> System:
    """Return the system with weights of so many bits, on its crossbars and in its memory. bits may be an axis.

    One bit (binary) lies on one crossbar, where the sum of the inputs, read from a column of on-cells, makes a minus one of
    its zeros: `costs.crossbar.offsets`. Two and more are a sign, which a differential pair carries, and bits - 1 of
    magnitude, a cell each. Two bits are thus the ternary weights of the published machine, and more are cut into slices with
    converters of their own: `costs.crossbar.slices`. The memory of a machine without crossbars gets the same bits. A model's
    own weights count only where they have more than three values, and need more bits than these.

    Neglected: that slices of more weight could do with other converters; and that an array's multipliers of 8 bits could
    shrink with the weights.
    Raises BadInput for anything but whole bits from 1 to `MAX_BITS`.
    """
    wanted = f"whole bits from 1 to {MAX_BITS}"
    numeric("weight_bits", bits, wanted)
    require((bits >= 1) & (bits <= MAX_BITS) & (bits == np.floor(bits)), "weight_bits", bits, wanted)
    if system.pim is not None:
        bar = replace(system.pim.tile.crossbar, weight_bits=bits, polarity=1 + (bits > 1) * 1)
        system = with_field(system, "pim.tile.crossbar", bar)
    return system if system.storage is None else with_field(system, "storage.weight_bits", bits)
