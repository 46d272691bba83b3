"""Attention in memory: what a memory technology is like to write, and the crossbars that hold keys and values."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import clip
from pimllm_lib.core.parts import (
    Value,
    numeric,
    part,
    require,
    require_counts,
    require_flags,
    require_inner,
    require_positive,
    with_field,
)
from pimllm_lib.hardware.analog import MAX_BITS, Auxiliary, Cell, Tile


@part
class Technology:
    """A memory technology: its cell, and how it is written, ages and forgets. Time, energy and pulses of a write are the
    cell's.

    endurance: write cycles that half of the cells survive (infinite: no mechanism of wear); weibull_shape: slope of the
    distribution of cells around it; cycles_per_write: how many of these cycles a verified write takes. retention_s: time
    until a cell has to be written again (infinite: as long as it is powered); leakage_w: power of a cell that waits.
    row_parallel, column_parallel: cells of a row, and of a column, written at once in a crossbar. verify_j: energy of
    sensing a cell after a pulse, 0 where none is verified; half_select_j: energy of a pulse in each cell that shares the
    line being written and is not. array_endurance: the endurance of arrays, products and foundry processes alone (NaN
    where none was published). erase_s, erase_j: time, and energy of each cell, of
    erasing `erased` tokens together before any of them is written.
    """

    name: str
    cell: Cell
    endurance: Value = np.inf
    weibull_shape: Value = 2.0
    cycles_per_write: Value = 1.0
    retention_s: Value = np.inf
    leakage_w: Value = 0.0
    row_parallel: Value = 1
    column_parallel: Value = 1
    verify_j: Value = 0.0
    half_select_j: Value = 0.0
    array_endurance: Value = np.nan
    erase_s: Value = 0.0
    erase_j: Value = 0.0
    erased: Value = 1

    def __post_init__(self) -> None:
        """Refuse a technology that survives no write or keeps nothing."""
        require_inner(self, cell=Cell)
        for name, unit in (("endurance", "cycles"), ("retention_s", "seconds")):
            wanted = f"{unit} above 0; inf for no limit"
            numeric(f"Technology.{name}", getattr(self, name), wanted)
            require(getattr(self, name) > 0, f"Technology.{name}", getattr(self, name), wanted)
        numeric("Technology.array_endurance", self.array_endurance, "cycles above 0; nan for none published")
        known = np.logical_not(np.isnan(np.asarray(self.array_endurance, dtype=float)))
        require(np.logical_not(known) | (self.array_endurance > 0), "Technology.array_endurance", self.array_endurance,
                "cycles above 0; nan for none published")  # fmt: skip
        require_positive(self, ("weibull_shape", "cycles_per_write"))
        require_positive(self, ("leakage_w", "verify_j", "half_select_j", "erase_s", "erase_j"), or_zero=True)
        require_counts(self, ("row_parallel", "column_parallel", "erased"))


@part
class KvPim:
    """Tiles of crossbars that hold keys and values and multiply with them, those of a token written as it comes.

    tile: its crossbar's weight_bits are those of a key or value, and its cell is that of the technology, whatever it says
    itself; act_bits, softmax_bits: bits of a query and of a softmax output; network_bps: rate of a link between tiles;
    most_slices: most cells of a key's or value's magnitude; most_heads: most heads that share a crossbar, of as many as
    have room, one read at a time; behind: the newest token waits in registers, attended to digitally, while it is
    written; else it is written first. refreshed: cells are written again before they forget. gated_share: share of its
    static power that a gated tile still draws, where there are no other tiles to say so.

    hot: crossbars for the latest hot_tokens tokens, None where all tokens lie in the same; a token that leaves them is
    written to these. post_processing works in every PE, input_distributor in every tile.
    """

    name: str
    tile: Tile
    technology: Technology
    act_bits: Value
    softmax_bits: Value
    network_bps: Value
    post_processing: Auxiliary
    input_distributor: Auxiliary
    most_slices: Value = MAX_BITS
    most_heads: Value = np.inf
    behind: Value = True
    refreshed: Value = True
    gated_share: Value = 1.0
    hot: KvPim | None = None
    hot_tokens: Value = 0

    def __post_init__(self) -> None:
        """Refuse keys and values that its cells do not hold, and a hot window that is none."""
        require_inner(self, tile=Tile, technology=Technology)
        require_inner(self, post_processing=Auxiliary, input_distributor=Auxiliary)
        require_counts(self, ("act_bits", "softmax_bits", "most_slices"))
        require_flags(self, ("behind", "refreshed"))
        require_positive(self, ("network_bps",))
        require_positive(self, ("gated_share", "hot_tokens"), or_zero=True)
        wanted = "whole heads, at least 1; inf for as many as fit"
        numeric("KvPim.most_heads", self.most_heads, wanted)
        whole = self.most_heads == np.floor(self.most_heads)
        require((self.most_heads >= 1) & whole, "KvPim.most_heads", self.most_heads, wanted)
        require(self.hot_tokens == np.floor(self.hot_tokens), "KvPim.hot_tokens", self.hot_tokens, "whole tokens")
        bar, cell = self.tile.crossbar, self.technology.cell
        room = 1 + self.most_slices * cell.bits
        wanted = f"2 to {clip(room)}: a sign and {clip(self.most_slices)} cells of {clip(cell.bits)} bits"
        require(np.asarray(bar.polarity) == 2, "KvPim.tile.crossbar.polarity", bar.polarity, "2: keys have a sign")
        require((bar.weight_bits >= 2) & (bar.weight_bits <= room), "bits of a key or value", bar.weight_bits, wanted)
        require((self.hot is None) == np.all(np.equal(self.hot_tokens, 0)), "KvPim.hot_tokens", self.hot_tokens,
                "0 without hot crossbars, and above 0 with them")  # fmt: skip
        if self.hot is not None:
            require_inner(self, hot=KvPim)
            require(self.hot.hot is None, "KvPim.hot", self.hot.name, "crossbars without hot ones of their own")

    @property
    def filled(self) -> Tile:
        """The tile with cells of the technology."""
        return with_field(self.tile, "crossbar.cell", self.technology.cell)
