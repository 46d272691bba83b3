"""Parts of the analog half, from the memory cell up to the banks of tiles."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from pimllm_lib.core.parts import Name, Table, Value, declare, part, require
from pimllm_lib.core.rules import AT_LEAST_0, BITS, COUNT, PART, POSITIVE, SHARE, choice, needs, number
from pimllm_lib.hardware.standing import TEMPERATURE, WOKEN, Transistors, heated

#: How consecutive tiles are laid on the grid, see `costs.placement`.
WALKS = ("l-shell", "row-major", "banks")
#: What reads groups of inputs that share a scale one at a time, see `Pim.groups`.
GROUPS = ("rows", "crossbars", "best")
_COLUMN = number("a finite number above 0", gt=0, lt=np.inf, column=True)
WAKING = choice(WOKEN, what="tiles that are woken together")
_PERIODS = "periods of its rate that one conversion takes"
_COEFFICIENTS = number("a finite number of at least 0", ge=0, lt=np.inf, column=True)


@part
class Cell:
    """A resistive memory cell with its access transistor."""

    name: str
    low_ohm: Value = declare(POSITIVE, "resistance when on")
    high_ohm: Value = declare(POSITIVE, "resistance when off")
    bits: Value = declare(BITS, "bits a cell stores")
    low_share: Value = declare(SHARE, "share of cells that are on")
    read_v: Value = declare(POSITIVE, "voltage of a read")
    read_duty: Value = declare(POSITIVE, "share of the time that the voltage is applied")
    read_s: Value = declare(POSITIVE, "duration of one read, without the delay of the crossbar")
    write_s: Value = declare(POSITIVE, "duration of one write pulse")
    write_j: Value = declare(POSITIVE, "energy of one write pulse")
    write_pulses: Value = declare(POSITIVE, "pulses until a cell verifies")
    area_m2: Value = declare(POSITIVE, "area of a cell")

    def __post_init__(self) -> None:
        """Refuse a cell that conducts better when off."""
        require(self.high_ohm >= self.low_ohm, "Cell.high_ohm", self.high_ohm, "at least low_ohm")


@part
class Dac:
    """An input converter."""

    name: str
    bits: Value = declare(BITS, "bits of an activation it applies at once")
    rate_hz: Value = declare(POSITIVE, "conversions a second")
    power_w: Value = declare(POSITIVE, "power while it converts")
    area_m2: Value = declare(POSITIVE, "area of one")
    per_crossbar: Value = declare(COUNT, "how many serve the rows of a crossbar")
    periods: Value = declare(POSITIVE, _PERIODS, default=1.0)
    idle_share: Value = declare(AT_LEAST_0, "share of its power that it draws while it waits", default=0.0)


@part
class Adc:
    """An output converter."""

    name: str
    bits: Value = declare(BITS, "resolution")
    rate_hz: Value = declare(POSITIVE, "conversions a second")
    power_w: Value = declare(POSITIVE, "power while it converts")
    area_m2: Value = declare(POSITIVE, "area of one")
    per_crossbar: Value = declare(COUNT, "how many serve the columns of a crossbar")
    periods: Value = declare(POSITIVE, _PERIODS, default=1.0)
    idle_share: Value = declare(AT_LEAST_0, "share of its power that it draws while it waits", default=0.0)


@part
class Crossbar:
    """A crossbar of rows x cols cells with its converters."""

    name: str
    rows: Value = declare(COUNT, "rows, along which inputs are applied")
    cols: Value = declare(COUNT, "columns, along which results are read")
    polarity: Value = declare(
        COUNT + needs("1 or 2", lambda value: (value == 1) | (value == 2)),
        "2 for a differential pair of crossbars subtracted before conversion, 1 for one",
    )
    weight_bits: Value = declare(BITS, "bits of a weight, the sign included where polarity is 2")
    cell: Cell = declare(PART, "the cell at each crossing")
    dac: Dac = declare(PART, "the converters of its inputs")
    adc: Adc = declare(PART, "the converters of its results")
    delay_s: Table = declare(_COEFFICIENTS, "coefficients of 1, kib and kib^2 of its delay, kib: its capacity in KiB")
    row_area_m2: Value = declare(POSITIVE, "area of drivers and decoder of one row")

    def __post_init__(self) -> None:
        """Refuse a weight without room for its sign."""
        signed = np.asarray(self.weight_bits) >= np.asarray(self.polarity)
        require(signed, "Crossbar.weight_bits", self.weight_bits, "at least 2 with a differential pair: sign and value")


@part
class Periphery:
    """The digital parts beside a crossbar, and the analog multiplexers between its lines and its converters."""

    name: str
    rate_hz: Value = declare(POSITIVE, "clock of the digital parts, and of the network between tiles")
    register_w: Value = declare(POSITIVE, "power of the register of one converter")
    mux_w: Value = declare(POSITIVE, "power of the multiplexer before one ADC")
    demux_w: Value = declare(POSITIVE, "power of the demultiplexer behind one DAC")
    mux_s: Value = declare(POSITIVE, "delay of a multiplexer, taken twice a read")
    demux_s: Value = declare(POSITIVE, "delay of a demultiplexer, taken twice a read")
    shift_add_w: Value = declare(POSITIVE, "power of the shift-and-add behind one ADC")
    joint_w: Value = declare(POSITIVE, "power of one adder that sums over the PEs of a tile")
    adc_side_area_m2: Value = declare(POSITIVE, "area of what stands beside one ADC")
    dac_side_area_m2: Value = declare(POSITIVE, "area of what stands beside one DAC")
    joint_area_m2: Value = declare(POSITIVE, "area of one adder that sums over the PEs of a tile")


@part
class Buffer:
    """SRAM buffers by capacity: a buffer takes the smallest listed size that holds it, beyond the last several of it."""

    name: str
    sizes_bytes: Table = declare(_COLUMN, "capacities, growing; the other tables have a value for each")
    read_j: Table = declare(_COLUMN, "energy of reading a word")
    write_j: Table = declare(_COLUMN, "energy of writing a word")
    leakage_w: Table = declare(_COLUMN, "leakage power at `rated_k`")
    area_m2: Table = declare(_COLUMN, "area")
    word_bits: Value = declare(POSITIVE, "bits of a word, the width of the port")
    access_s: Value = declare(POSITIVE, "time of one word, where a period of the digital clock is no longer")
    fixed_s: Value | None = declare(
        POSITIVE, "time of one word as published, None where it is `access_s`", default=None
    )
    transistors: Transistors | None = declare(PART, "what leaks, None where temperature plays no part", default=None)
    gate_w: Table | None = declare(
        _COLUMN, "part of the leakage that flows through gates, at any temperature; None for none", default=None
    )
    rated_k: Value = declare(TEMPERATURE, "temperature that `leakage_w` is for", default=300)
    temperature_k: Value = declare(TEMPERATURE, "temperature of the chip", default=300)

    def __post_init__(self) -> None:
        """Refuse tables of unequal length and sizes that do not grow."""
        for name in ("read_j", "write_j", "leakage_w", "area_m2", "gate_w"):
            column = getattr(self, name) or self.sizes_bytes
            require(len(column) == len(self.sizes_bytes), f"Buffer.{name}", column, "one value for each size")
        require(np.diff(self.sizes_bytes) > 0, "Buffer.sizes_bytes", self.sizes_bytes, "growing sizes")
        within = self.gate_w is None or np.all(np.asarray(self.gate_w) <= self.leakage_w)
        require(within, "Buffer.gate_w", self.gate_w, "no more than leakage_w, of which it is a part")

    @cached_property
    def leaking_w(self) -> tuple[Value, ...]:
        """The leakage of each size at the temperature of the chip, in watts."""
        gates = self.gate_w or (0.0,) * len(self.leakage_w)
        return tuple(map(heated(self), self.leakage_w, gates))


@part
class Rescaler:
    """What gives the sum of each group of inputs its scale, and adds it to those before: multipliers with an adder each.

    Energy and area are those of a multiplication of `bits` by `bits`, and grow with the bits of both factors, as published
    multipliers of 8 and of 32 bits do (Horowitz 2014).
    """

    name: str
    bits: Value = declare(BITS, "bits of each factor that energy and area are for")
    multiply_add_j: Value = declare(POSITIVE, "energy of a multiplication and an addition")
    area_m2: Value = declare(POSITIVE, "area of a multiplier and an adder")
    scale_bits: Value = declare(BITS, "bits of a scale")
    per_crossbar: Value = declare(COUNT, "how many serve the columns of a crossbar")
    periods: Value = declare(POSITIVE, "periods of the digital clock that one product takes", default=1.0)


@part
class Tile:
    """PEs, each a crossbar with its periphery and an input buffer, around one output buffer."""

    name: str
    pes: Value = declare(COUNT, "PEs of a tile")
    crossbar: Crossbar = declare(PART, "the crossbar of a PE, one or a differential pair for each slice of a weight")
    periphery: Periphery = declare(PART, "what stands beside a crossbar")
    buffer: Buffer = declare(PART, "the table that input and output buffers are taken from")
    intra_bps: Value = declare(POSITIVE, "rate of the links between the PEs of a tile")
    rescaler: Rescaler | None = declare(
        PART, "what scales the sums of groups of inputs, None where all weights of a column share a scale", default=None
    )


@part
class Auxiliary:
    """A part drawn in the machine and left out of the published numbers."""

    name: str
    power_w: Value = declare(POSITIVE, "power while it works")
    delay_s: Value = declare(POSITIVE, "time it works for one vector")
    area_m2: Value = declare(POSITIVE, "area of one")
    idle_share: Value = declare(AT_LEAST_0, "share of its power that it draws while it waits", default=0.0)


@part
class Pim:
    """Banks of tiles on a grid for each decoder block, and the network between them."""

    name: str
    tile: Tile = declare(PART, "the tile of which all are made")
    act_bits: Value = declare(BITS, "bits of an activation")
    network_bps: Value = declare(POSITIVE, "rate of a link between neighbouring tiles")
    grid_side: Value = declare(COUNT, "tiles along each side of a block's grid")
    tiles_per_bank: Value = declare(COUNT, "tiles of a bank")
    program_rows: Value = declare(COUNT, "crossbar rows written at once in the whole machine")
    dummy_fan_in: Value = declare(COUNT, "inputs of the dummy layer before the matrices in the published mapping")
    gated_share: Value = declare(SHARE, "share of its static power that a tile draws while it sleeps", default=0.0)
    woken: Name = declare(WAKING, "tiles that are woken together, one of `WOKEN`", default="product")
    wake_s: Value = declare(AT_LEAST_0, "time until a tile that slept works", default=0.0)
    break_even_s: Value = declare(AT_LEAST_0, "sleep that saves as much as waking takes", default=0.0)
    walk: Name = declare(
        choice(WALKS, what="walk of tiles"), "how tiles are laid on the grid, one of `WALKS`", default="l-shell"
    )
    groups: Name = declare(
        choice(GROUPS, what="way to read groups", axis=True),
        """how inputs are read whose weights share a scale, where a column holds several such groups: "rows", some rows of a
        crossbar at a time; "crossbars", of the group's height; "best", of these what takes a matrix less time""",
        default="rows",
    )
    post_processing: Auxiliary = declare(PART, "the unit that works in every PE")
    input_distributor: Auxiliary = declare(PART, "the unit that works in every tile")
    global_buffer: Auxiliary = declare(PART, "the buffer that works once a product")
    controller: Auxiliary = declare(PART, "the controller that works once a product")
