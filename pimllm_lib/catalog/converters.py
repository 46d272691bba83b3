"""Output converters of any resolution, between and beyond those that the catalog has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pimllm_lib import catalog
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.rules import MAX_BITS
from pimllm_lib.hardware import Adc

#: The catalog's converters of one family, by growing resolution; between and beyond them nothing is published there.
PARTS = ("adc-4bit", "adc-6bit", "adc-8bit")


def converters(bits: Sequence[int]) -> tuple[Adc, ...]:
    """Return a converter for each resolution: the catalog's own, or one named "interpolated" or "extrapolated".

    The logarithms of power (W), rate (Hz) and area (m2) are taken to be linear in bits between neighbouring catalog parts,
    and to go on so beyond the outermost two: an assumption, not a published converter. With it the rate goes on growing
    beyond 8 bits. Raises BadInput for no bits, bits twice, and bits that are no whole number from 1 to 16.
    """
    wrong = [b for b in bits if isinstance(b, bool) or not isinstance(b, int | np.integer) or not 1 <= b <= MAX_BITS]
    if wrong or not len(bits) or len(set(bits)) < len(bits):
        raise BadInput(f"bits are {clip(list(bits))}; wanted different whole numbers from 1 to {MAX_BITS}")
    return tuple(_converter(int(b)) for b in bits)


def _converter(bits: int) -> Adc:
    known: list[Adc] = [catalog.parts[name] for name in PARTS]
    for part in known:
        if part.bits == bits:
            return part
    below = min(max(sum(part.bits < bits for part in known) - 1, 0), len(known) - 2)
    one, other = known[below : below + 2]
    share = (bits - one.bits) / (other.bits - one.bits)
    made = {
        name: getattr(one, name) ** (1 - share) * getattr(other, name) ** share
        for name in ("rate_hz", "power_w", "area_m2")
    }
    return replace(other, name="interpolated" if 0 < share < 1 else "extrapolated", bits=bits, **made)
