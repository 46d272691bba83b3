"""Frozen hardware parts and the accelerators made of them. Parts hold numbers; the catalog knows their sources."""

from pimllm_lib.hardware.analog import Adc, Auxiliary, Buffer, Cell, Crossbar, Dac, Periphery, Pim, Tile
from pimllm_lib.hardware.digital import SystolicArray
from pimllm_lib.hardware.machine import ENGINES, System

__all__ = [
    "ENGINES", "Adc", "Auxiliary", "Buffer", "Cell", "Crossbar", "Dac", "Periphery", "Pim", "System", "SystolicArray",
    "Tile",
]  # fmt: skip
