"""Parts of the analog half, from the memory cell up to the banks of tiles."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import unknown
from pimllm_lib.core.parts import Name, Table, Value, part, require, require_counts, require_inner, require_positive

#: How consecutive tiles are laid on the grid, see `costs.placement`.
WALKS = ("l-shell", "row-major", "banks")
MAX_BITS = 16


@part
class Cell:
    """A resistive memory cell with its access transistor.

    low_ohm, high_ohm: resistance when on and off; bits: bits a cell stores; low_share: share of cells that are on;
    read_v, read_duty, read_s: voltage, share of the time it is applied, duration of one read; write_s, write_j,
    write_pulses: duration and energy of one write pulse, pulses until a cell verifies.
    """

    name: str
    low_ohm: Value
    high_ohm: Value
    bits: Value
    low_share: Value
    read_v: Value
    read_duty: Value
    read_s: Value
    write_s: Value
    write_j: Value
    write_pulses: Value
    area_m2: Value

    def __post_init__(self) -> None:
        """Refuse a cell that cannot exist."""
        _bits(self, "bits")
        require_positive(
            self, ("low_ohm", "high_ohm", "read_v", "read_duty", "read_s", "write_s", "write_j", "area_m2")
        )
        require_positive(self, ("write_pulses",))
        require(np.asarray(self.high_ohm >= self.low_ohm), "Cell.high_ohm", self.high_ohm, "at least low_ohm")
        require_positive(self, ("low_share",), or_zero=True)
        require(np.asarray(self.low_share <= 1), "Cell.low_share", self.low_share, "a share from 0 to 1")


@part
class Dac:
    """An input converter. bits: bits of an activation it applies at once; per_crossbar: how many serve the rows."""

    name: str
    bits: Value
    rate_hz: Value
    power_w: Value
    area_m2: Value
    per_crossbar: Value

    def __post_init__(self) -> None:
        """Refuse a converter that cannot exist."""
        _converter(self)


@part
class Adc:
    """An output converter. bits: resolution; per_crossbar: how many serve the columns; idle_share: share of its power
    that it draws while it waits.
    """

    name: str
    bits: Value
    rate_hz: Value
    power_w: Value
    area_m2: Value
    per_crossbar: Value
    idle_share: Value = 0.0

    def __post_init__(self) -> None:
        """Refuse a converter that cannot exist."""
        _converter(self)
        require_positive(self, ("idle_share",), or_zero=True)


@part
class Crossbar:
    """A crossbar of rows x cols cells with its converters.

    polarity: 2 for a differential pair of crossbars subtracted before conversion, 1 for one; weight_bits: bits of a
    weight, the sign included where polarity is 2; delay_s: coefficients of 1, kib and kib^2 of the delay in the
    crossbar's capacity in KiB; row_area_m2: drivers and decoder of one row.
    """

    name: str
    rows: Value
    cols: Value
    polarity: Value
    weight_bits: Value
    cell: Cell
    dac: Dac
    adc: Adc
    delay_s: Table
    row_area_m2: Value

    def __post_init__(self) -> None:
        """Refuse a crossbar that cannot exist."""
        require_inner(self, cell=Cell, dac=Dac, adc=Adc)
        require_counts(self, ("rows", "cols", "polarity"))
        require_positive(self, ("row_area_m2",))
        require_positive(self, ("delay_s",), or_zero=True)
        _bits(self, "weight_bits")
        require(np.isin(np.asarray(self.polarity), (1, 2)), "Crossbar.polarity", self.polarity, "1 or 2")
        signed = np.asarray(self.weight_bits) >= np.asarray(self.polarity)
        require(signed, "Crossbar.weight_bits", self.weight_bits, "at least 2 with a differential pair: sign and value")


@part
class Periphery:
    """The digital parts beside a crossbar: power and area of one each, and the delay of the analog multiplexers."""

    name: str
    rate_hz: Value
    register_w: Value
    mux_w: Value
    demux_w: Value
    mux_s: Value
    demux_s: Value
    shift_add_w: Value
    joint_w: Value
    adc_side_area_m2: Value
    dac_side_area_m2: Value
    joint_area_m2: Value

    def __post_init__(self) -> None:
        """Refuse parts that cannot exist."""
        require_positive(self, [name for name in self.__dataclass_fields__ if name != "name"])


@part
class Buffer:
    """SRAM buffers by capacity: a buffer takes the smallest listed size that holds it, beyond the last several of it.

    sizes_bytes, read_j, write_j, leakage_w, area_m2: one value a size; word_bits: port width; access_s: time of a word.
    """

    name: str
    sizes_bytes: Table
    read_j: Table
    write_j: Table
    leakage_w: Table
    area_m2: Table
    word_bits: Value
    access_s: Value

    def __post_init__(self) -> None:
        """Refuse tables of unequal length and sizes that do not grow."""
        columns = ("sizes_bytes", "read_j", "write_j", "leakage_w", "area_m2")
        require_positive(self, ("word_bits", "access_s", *columns))
        for name in ("read_j", "write_j", "leakage_w", "area_m2"):
            column = getattr(self, name)
            require(len(column) == len(self.sizes_bytes), f"Buffer.{name}", column, "one value for each size")
        require(np.diff(self.sizes_bytes) > 0, "Buffer.sizes_bytes", self.sizes_bytes, "growing sizes")


@part
class Tile:
    """`pes` PEs, each a crossbar with its periphery and an input buffer, around one output buffer.

    intra_bps: rate of the links between the PEs of a tile.
    """

    name: str
    pes: Value
    crossbar: Crossbar
    periphery: Periphery
    buffer: Buffer
    intra_bps: Value

    def __post_init__(self) -> None:
        """Refuse a tile that cannot exist."""
        require_inner(self, crossbar=Crossbar, periphery=Periphery, buffer=Buffer)
        require_counts(self, ("pes",))
        require_positive(self, ("intra_bps",))


@part
class Auxiliary:
    """A part drawn in the machine and left out of the published numbers: power while working, time, area."""

    name: str
    power_w: Value
    delay_s: Value
    area_m2: Value

    def __post_init__(self) -> None:
        """Refuse a part that cannot exist."""
        require_positive(self, ("power_w", "delay_s", "area_m2"))


@part
class Pim:
    """Banks of tiles on a grid of grid_side x grid_side for each decoder block, and the network between them.

    act_bits: bits of an activation; network_bps: rate of a link between neighbouring tiles; walk: how tiles are laid
    on the grid, one of `WALKS`; tiles_per_bank: tiles of a bank; program_rows: crossbar rows written at once in the
    whole machine; dummy_fan_in: inputs of the dummy layer that preceded the matrices in the published mapping;
    gated_share: share of its static power that a gated tile still draws. post_processing works in every PE,
    input_distributor in every tile, global_buffer and controller once a product.
    """

    name: str
    tile: Tile
    act_bits: Value
    network_bps: Value
    grid_side: Value
    tiles_per_bank: Value
    program_rows: Value
    dummy_fan_in: Value
    gated_share: Value = 0.0
    walk: Name = "l-shell"
    post_processing: Auxiliary
    input_distributor: Auxiliary
    global_buffer: Auxiliary
    controller: Auxiliary

    def __post_init__(self) -> None:
        """Refuse a machine that cannot exist."""
        units = ("post_processing", "input_distributor", "global_buffer", "controller")
        require_inner(self, tile=Tile, **dict.fromkeys(units, Auxiliary))
        _bits(self, "act_bits")
        require_positive(self, ("gated_share",), or_zero=True)
        require_counts(self, ("grid_side", "tiles_per_bank", "program_rows", "dummy_fan_in"))
        require_positive(self, ("network_bps",))
        if not isinstance(self.walk, str) or self.walk not in WALKS:
            raise unknown("walk of tiles", self.walk, WALKS)


def _converter(item: Dac | Adc) -> None:
    _bits(item, "bits")
    require_positive(item, ("rate_hz", "power_w", "area_m2"))
    require_counts(item, ("per_crossbar",))


def _bits(item: object, name: str) -> None:
    require_counts(item, (name,))
    value = getattr(item, name)
    require(np.asarray(value) <= MAX_BITS, f"{type(item).__name__}.{name}", value, f"1 to {MAX_BITS} bits")
