"""Attention in memory: what a memory technology is like to write, and the crossbars that hold keys and values."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import clip
from pimllm_lib.core.parts import Name, Value, declare, part, require, with_field
from pimllm_lib.core.rules import AT_LEAST_0, COUNT, FLAG, MAX_BITS, PART, POSITIVE, SHARE, is_number, needs, number
from pimllm_lib.hardware.analog import WAKING, Auxiliary, Cell, Tile

_CYCLES = number("cycles above 0; inf for no limit", gt=0)
_SECONDS = number("seconds above 0; inf for no limit", gt=0)
_CYCLES_OR_NAN = needs("cycles above 0; nan for none published", lambda x: is_number(x) and np.logical_not(x <= 0))
_HEADS = number("whole heads, at least 1; inf for as many as fit", ge=1, whole=True)


@part
class Technology:
    """A memory technology: its cell, and how it is written, ages and forgets. Time, energy and pulses of a write are the
    cell's. Endurance is infinite where there is no mechanism of wear, retention where a cell keeps as long as it is powered.
    """

    name: str
    cell: Cell = declare(PART, "the cell, with voltages, times and energies of a read and of a pulse")
    endurance: Value = declare(_CYCLES, "write cycles that half of the cells survive", default=np.inf)
    weibull_shape: Value = declare(POSITIVE, "slope of the distribution of cells around `endurance`", default=2.0)
    cycles_per_write: Value = declare(POSITIVE, "write cycles that a verified write takes", default=1.0)
    retention_s: Value = declare(_SECONDS, "time until a cell has to be written again", default=np.inf)
    leakage_w: Value = declare(AT_LEAST_0, "power of a cell that waits", default=0.0)
    row_parallel: Value = declare(COUNT, "cells of a row written at once in a crossbar", default=1)
    column_parallel: Value = declare(COUNT, "cells of a column written at once in a crossbar", default=1)
    verify_j: Value = declare(AT_LEAST_0, "energy of sensing a cell after a pulse, 0 where none is", default=0.0)
    half_select_j: Value = declare(
        AT_LEAST_0, "energy of a pulse in each cell that shares the line being written and is not", default=0.0
    )
    array_endurance: Value = declare(
        _CYCLES_OR_NAN, "endurance of arrays, products and foundry processes alone; NaN: none published", default=np.nan
    )
    erase_s: Value = declare(AT_LEAST_0, "time of erasing `erased` tokens together before any is written", default=0.0)
    erase_j: Value = declare(AT_LEAST_0, "energy of erasing, for each cell", default=0.0)
    erased: Value = declare(COUNT, "tokens erased together", default=1)


@part
class KvPim:
    """Tiles of crossbars that hold keys and values and multiply with them, those of a token written as it comes. A token
    that leaves the hot crossbars is written to the others; the cell is the technology's, whatever the tile says itself.
    """

    name: str
    tile: Tile = declare(
        PART, "the tile of which all are made; the weight_bits of its crossbar are those of a key or value"
    )
    technology: Technology = declare(PART, "the cells, and how they are written")
    act_bits: Value = declare(COUNT, "bits of a query")
    softmax_bits: Value = declare(COUNT, "bits of a softmax output")
    network_bps: Value = declare(POSITIVE, "rate of a link between tiles")
    post_processing: Auxiliary = declare(PART, "the unit that works in every PE")
    input_distributor: Auxiliary = declare(PART, "the unit that works in every tile")
    most_slices: Value = declare(COUNT, "most cells of a key's or value's magnitude", default=MAX_BITS)
    most_heads: Value = declare(
        _HEADS, "most heads that share a crossbar, of as many as have room, one read at a time", default=np.inf
    )
    behind: Value = declare(
        FLAG, "the newest token is attended to digitally while it is written, else after that", default=True
    )
    refreshed: Value = declare(FLAG, "cells are written again before they forget", default=True)
    gated_share: Value = declare(SHARE, "share of its static power that a tile draws while it sleeps", default=1.0)
    woken: Name = declare(WAKING, "tiles that are woken together, one of `WOKEN`", default="product")
    wake_s: Value = declare(AT_LEAST_0, "time until a tile that slept works", default=0.0)
    break_even_s: Value = declare(AT_LEAST_0, "sleep that saves as much as waking takes", default=0.0)
    hot: KvPim | None = declare(PART, "crossbars for the latest tokens, None where all lie in the same", default=None)
    hot_tokens: Value = declare(
        AT_LEAST_0 + number("whole tokens", whole=True), "latest tokens that lie in hot crossbars", default=0
    )

    def __post_init__(self) -> None:
        """Refuse keys and values that its cells do not hold, and a hot window that is none."""
        bar, cell = self.tile.crossbar, self.technology.cell
        room = 1 + self.most_slices * cell.bits
        wanted = f"2 to {clip(room)}: a sign and {clip(self.most_slices)} cells of {clip(cell.bits)} bits"
        require(np.asarray(bar.polarity) == 2, "KvPim.tile.crossbar.polarity", bar.polarity, "2: keys have a sign")
        require((bar.weight_bits >= 2) & (bar.weight_bits <= room), "bits of a key or value", bar.weight_bits, wanted)
        require((self.hot is None) == np.all(np.equal(self.hot_tokens, 0)), "KvPim.hot_tokens", self.hot_tokens,
                "0 without hot crossbars, and above 0 with them")  # fmt: skip
        if self.hot is not None:
            require(self.hot.hot is None, "KvPim.hot", self.hot.name, "crossbars without hot ones of their own")

    @property
    def filled(self) -> Tile:
        """The tile with cells of the technology."""
        return with_field(self.tile, "crossbar.cell", self.technology.cell)
