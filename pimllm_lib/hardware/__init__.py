"""Frozen hardware parts and the accelerators made of them. Parts hold numbers; the catalog knows their sources."""

from pimllm_lib.hardware.analog import Adc, Auxiliary, Buffer, Cell, Crossbar, Dac, Periphery, Pim, Rescaler, Tile
from pimllm_lib.hardware.attention import KvPim, Technology
from pimllm_lib.hardware.decoding import ONE_BY_ONE, Decoding, Speculation
from pimllm_lib.hardware.devices import Devices, Readout
from pimllm_lib.hardware.devices_to_buy import Device
from pimllm_lib.hardware.digital import SystolicArray
from pimllm_lib.hardware.machine import ENGINES, System
from pimllm_lib.hardware.memory import Bus, Dram, KvStore, Nonlinear, Sram, Storage
from pimllm_lib.hardware.standing import Transistors

__all__ = [
    "ENGINES", "ONE_BY_ONE", "Adc", "Auxiliary", "Buffer", "Bus", "Cell", "Crossbar", "Dac", "Decoding", "Device", "Devices",
    "Dram", "KvPim", "KvStore", "Nonlinear", "Periphery", "Pim", "Readout", "Rescaler", "Speculation", "Sram", "Storage",
    "System", "SystolicArray", "Technology", "Tile", "Transistors",
]  # fmt: skip
