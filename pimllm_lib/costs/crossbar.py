"""Latency, energy, area and programming of a matrix-vector product on analog crossbar tiles.

A matrix of fan_in x fan_out one-bit weights is cut into crossbars of rows x cols, the crossbars fill tiles, and every
tile works at the same time. Activations enter bit by bit (`dac.bits` at once), columns share converters, partial sums
are joined inside a tile, merged between tiles and sent on. Latency is that of the fullest tile; energy is power times
the time each part works, for every tile as if it were as full as the fullest. Source: the behaviour-level model of MNSIM
2.0 (Zhu et al. 2023), re-derived from its public output. Beside its code, on eight shapes from 13 x 5000 to 512 x 50257,
hops and eleven times are the same, and so are eight energies and, but for a pooling unit, areas; with MNSIM_DIR set to
its folder, `make test MARK=peer` compares them again.

A column cannot sum weights whose scale changes along the inputs, so one group of a scale is read at a time: the groups
that a crossbar holds take turns, the sums of the crossbars that one group fills are added, and the sum of each column is
multiplied by its scale and added to those of other groups, after it is read. Scales lie in cells of one bit beside the
crossbars. Single cells, which hold no minus one, stand beside a column of on-cells with a converter of its own, read with
the others: that sum of the inputs is subtracted.

Neglected, as there: energy on the links between PEs and tiles, the conversion of digital parts to one technology node,
and anything analog that would change the result. Neglected further: that subtraction, and that all cells of that column
are on; reading scales (2.4 fJ a bit as cells here are read, where multiplying by it takes 58); what multipliers draw while
they wait; and that a sum times its scale has more bits than are joined and sent. As there, a matrix of no more columns
than a crossbar has ADCs is read in one turn, yet by as few ADCs as if columns took turns: where two share an ADC, half of
its reads and conversions are charged. Left out, other than there: a pooling unit of 91 917 um2 in each tile (64 units of
3 x 3 at 65 nm), which a decoder has no use for; it would add 2.3 % to the area of a tile of 2 x 2 PEs.
"""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value, ceil_div, part
from pimllm_lib.hardware import Adc, Buffer, Crossbar, Rescaler, Tile


@part
class Layout:
    """How a matrix lies on tiles. Every field broadcasts.

    crossbars: crossbars (pairs, where differential) it takes; tiles: tiles they fill; rows, cols, pes: used in the
    fullest crossbar and tile; row_turns, col_turns: how often rows share a DAC and columns an ADC; turns: read
    operations for one vector; levels: steps that join the PEs of a tile; sum_bits: bits of a joined sum. groups: of inputs
    that share a scale, read one after another in the fullest crossbar; group_bits: bits of the sum of one; scaled: sums that
    get a scale of their own, of the whole matrix.
    """

    crossbars: Value
    tiles: Value
    rows: Value
    cols: Value
    pes: Value
    row_turns: Value
    col_turns: Value
    turns: Value
    levels: Value
    sum_bits: Value
    groups: Value = 1
    group_bits: Value = 0
    scaled: Value = 0


def layout(fan_in: Value, fan_out: Value, *, tile: Tile, act_bits: Value, group: Value = np.inf) -> Layout:
    """Return how a fan_in x fan_out matrix lies on tiles.

    group: inputs in a row whose weights share a scale; a crossbar holds whole groups, or a part of one.
    """
    bar, span = tile.crossbar, np.minimum(fan_in, group)
    there, held, parts = ceil_div(fan_in, span), np.maximum(np.floor(bar.rows / span), 1), ceil_div(span, bar.rows)
    crossbars = ceil_div(there, held) * parts * ceil_div(fan_out, bar.cols)
    groups = np.minimum(there, held)
    rows, cols = np.minimum(groups * span, bar.rows), np.minimum(fan_out, bar.cols)
    pes = np.minimum(crossbars, tile.pes)
    row_turns, col_turns = groups * ceil_div(rows / groups, bar.dac.per_crossbar), ceil_div(cols, bar.adc.per_crossbar)
    levels = np.ceil(np.log2(pes))
    return Layout(
        crossbars=crossbars,
        tiles=ceil_div(crossbars, tile.pes),
        rows=rows,
        cols=cols,
        pes=pes,
        row_turns=row_turns,
        col_turns=col_turns,
        turns=np.ceil(act_bits / bar.dac.bits) * row_turns * col_turns,
        levels=levels,
        sum_bits=bar.adc.bits + levels,
        groups=groups,
        group_bits=bar.adc.bits + act_bits + np.ceil(np.log2(parts)),
        scaled=0 if np.all(np.isinf(group)) else np.isfinite(group) * there * fan_out,
    )


def slices(bar: Crossbar) -> Value:
    """Return into how many cells a weight is cut. The sign of a differential pair needs no cell of its own."""
    return np.ceil((bar.weight_bits - (bar.polarity - 1)) / bar.cell.bits)


def offsets(bar: Crossbar) -> Value:
    """Return the columns of on-cells in a crossbar: one where it holds weights in single cells, none in pairs."""
    return 2 - bar.polarity


def read_time(bar: Crossbar) -> Value:
    """Return the time of one analog read in seconds: the cell's own, and a delay that grows with the crossbar."""
    kib = bar.rows * bar.cols / (8 * 1024)
    return bar.cell.read_s + sum(c * kib**power for power, c in enumerate(bar.delay_s))


def computing_times(on: Layout, tile: Tile) -> dict[str, Value]:
    """Return how long each part of a PE works for one vector, in seconds."""
    bar, side, step = tile.crossbar, tile.periphery, 1 / tile.periphery.rate_hz
    work = {
        "dac": on.turns * bar.dac.periods / bar.dac.rate_hz,
        "adc": on.turns * bar.adc.periods / bar.adc.rate_hz,
        "crossbar": on.turns * read_time(bar),
        "input_register": (on.row_turns * on.col_turns + on.turns) * step,
        "output_register": on.col_turns * step,
        "mux": on.turns * 2 * side.mux_s,
        "demux": on.turns * 2 * side.demux_s,
        "shift_add": (on.turns + on.groups * np.ceil(np.log2(slices(bar)))) * step,
        "joint": on.levels * step,
    }
    if np.any(on.scaled):
        unit = rescaler(tile)
        work["rescale"] = (on.scaled > 0) * on.groups * ceil_div(on.cols, unit.per_crossbar) * unit.periods * step
    return work


def rescaler(tile: Tile) -> Rescaler:
    """Return what multiplies by scales. Raises BadInput where a tile has nothing that does."""
    if tile.rescaler is None:
        raise BadInput(f"{tile.name} has no rescaler; wanted one, since groups of weights have scales of their own")
    return tile.rescaler


def rescaling(on: Layout, tile: Tile) -> Value:
    """Return how much larger the product of a sum and its scale is than that which the rescaler's figures are for."""
    unit = rescaler(tile)
    return on.group_bits * unit.scale_bits / unit.bits**2


def word_time(tile: Tile) -> Value:
    """Return the time of one word of a buffer in seconds: at most one comes each period of the digital clock."""
    return np.maximum(tile.buffer.access_s, 1 / tile.periphery.rate_hz)


def buffer_times(on: Layout, *, tile: Tile, act_bits: Value) -> dict[str, Value]:
    """Return the time to read and to write the buffers of the fullest tile, in seconds, word by word."""
    word, access = tile.buffer.word_bits, word_time(tile)
    inputs = np.ceil(on.rows * act_bits / word)
    return {
        "input": inputs * access,
        "output_read": np.ceil(on.cols * act_bits * on.pes / word) * access,
        "output_write": np.ceil(on.sum_bits * on.cols * on.pes / word) * access,
    }


def latency(
    on: Layout, *, tile: Tile, act_bits: Value, network_bps: Value, fan_out: Value, merge_hops: Value,
    transfer_hops: Value, reread_output: bool,
) -> dict[str, Value]:  # fmt: skip
    """Return the latency of one product by component, in seconds.

    reread_output: count the read of the output buffer in `merge` again, where `buffer` already has it. Messages are
    stored and forwarded whole at every hop.
    """
    work, words = computing_times(on, tile), buffer_times(on, tile=tile, act_bits=act_bits)
    step, levels = 1 / tile.periphery.rate_hz, on.levels
    joined_bits = np.ceil(np.log2(tile.pes)) * on.sum_bits - levels * (levels + 1) / 2
    again = words["output_read"] if reread_output else 0.0
    spent = {
        "dac": work["dac"],
        "adc": work["adc"],
        "crossbar": work["crossbar"],
        "registers": work["input_register"] + work["output_register"],
        "mux": work["mux"] + work["demux"],
        "shift_add": work["shift_add"],
        "joint": work["joint"],
        "buffer": 2 * words["input"] + words["output_read"] + words["output_write"],
        "intra_tile": joined_bits * on.cols / tile.intra_bps,
        "merge": again + merge_hops * (step + on.cols * on.pes * act_bits / network_bps),
        "transfer": transfer_hops * fan_out * act_bits / network_bps,
    }
    return spent | {name: work[name] for name in ("rescale",) if name in work}


def sharing(bar: Crossbar) -> tuple[Value, Value]:
    """Return how many rows share a DAC and how many columns an ADC."""
    return ceil_div(bar.rows, bar.dac.per_crossbar), ceil_div(bar.cols, bar.adc.per_crossbar)


def used_converters(on: Layout, bar: Crossbar) -> tuple[Value, Value]:
    """Return the DACs and ADCs that work in the fullest crossbar, on average over groups; more converters than lines count
    as one a line.
    """
    rows, cols = sharing(bar)
    return np.ceil(on.rows / on.groups / rows), np.ceil(on.cols / cols)


def read_cells(on: Layout, bar: Crossbar) -> Value:
    """Return the cells of the fullest crossbar (pair) that are read at once, averaged over the turns that lines take."""
    rows, cols = sharing(bar)
    held = bar.polarity * slices(bar) * on.rows * on.cols / (rows * cols)
    return (held + offsets(bar) * on.rows / rows) / on.groups


def energy(on: Layout, *, tile: Tile, act_bits: Value, input_buffer: Value, output_buffer: Value) -> dict[str, Value]:
    """Return the energy of one product by component, in joules.

    input_buffer, output_buffer: sizes in bytes of the buffers in every tile. Buffers are charged power, leakage included,
    for the time both directions take, as published.
    """
    bar, side, time = tile.crossbar, tile.periphery, computing_times(on, tile)
    dacs, adcs = used_converters(on, bar)
    words = buffer_times(on, tile=tile, act_bits=act_bits)
    sums = slices(bar) * adcs + offsets(bar)
    used = {
        "dac": dacs * bar.dac.power_w * time["dac"],
        "adc": sums * bar.adc.power_w * time["adc"],
        "crossbar": read_cells(on, bar) * cell_power(bar) * time["crossbar"],
        "registers": side.register_w * (dacs * time["input_register"] + adcs * time["output_register"]),
        "mux": dacs * side.demux_w * time["demux"] + adcs * side.mux_w * time["mux"],
        "shift_add": sums * side.shift_add_w * time["shift_add"],
    }
    per_pe = {name: on.tiles * on.pes * value for name, value in used.items()}
    joint = (on.pes - 1) * adcs * side.joint_w * time["joint"]
    spent = sum(
        (words["input"] + words[output]) * buffer_power(on, tile, access_j, input_buffer, output_buffer)
        for output, access_j in (("output_read", tile.buffer.read_j), ("output_write", tile.buffer.write_j))
    )
    whole = per_pe | {"joint": on.tiles * joint, "buffer": on.tiles * spent}
    if np.any(on.scaled):
        whole["rescale"] = on.scaled * rescaling(on, tile) * rescaler(tile).multiply_add_j
    return whole


def array_energy(tile: Tile, act_bits: Value) -> dict[str, Value]:
    """Return the energy by component of one product that fills one crossbar (pair), in joules, without buffers.

    That is what a compute-in-memory macro is measured for: rows x cols multiply-accumulates of one input vector.
    """
    bar = tile.crossbar
    on = layout(bar.rows, bar.cols, tile=tile, act_bits=act_bits)
    spent = energy(on, tile=tile, act_bits=act_bits, input_buffer=1.0, output_buffer=1.0)
    return {name: value for name, value in spent.items() if name not in ("joint", "buffer")}


def conversion_energy(adc: Adc) -> Value:
    """Return the energy of one conversion, in joules."""
    return adc.power_w * adc.periods / adc.rate_hz


def cell_power(bar: Crossbar) -> Value:
    """Return the mean power of a cell while it is read, in watts."""
    cell = bar.cell
    conductance = cell.low_share / cell.low_ohm + (1 - cell.low_share) / cell.high_ohm
    return cell.read_duty * cell.read_v**2 * conductance


def sized(size: Value, buffer: Buffer, column: tuple[Value, ...]) -> Value:
    """Return a column of the buffer table for a capacity in bytes: the smallest listed size that holds it."""
    edges = (0.0, *buffer.sizes_bytes)
    inside = sum((size > low) * (size <= high) * x for low, high, x in zip(edges, edges[1:], column, strict=False))
    return inside + (size > edges[-1]) * np.ceil(size / edges[-1]) * column[-1]


def buffer_power(
    on: Layout, tile: Tile, access_j: tuple[float, ...], input_buffer: Value, output_buffer: Value
) -> Value:
    """Return the power of one tile's buffers while they are accessed, leakage included, in watts."""
    one, other = (sized(size, tile.buffer, access_j) / word_time(tile) for size in (input_buffer, output_buffer))
    return on.pes * one + other + leakage(on, tile.buffer, input_buffer, output_buffer)


def leakage(on: Layout, buffer: Buffer, input_buffer: Value, output_buffer: Value) -> Value:
    """Return the leakage power of one tile's buffers, in watts: one input buffer a PE, one output buffer."""
    column = buffer.leaking_w
    return on.pes * sized(input_buffer, buffer, column) + sized(output_buffer, buffer, column)


def converters(bar: Crossbar) -> tuple[Value, Value]:
    """Return the DACs and ADCs of a crossbar, used or not: more of them than lines are one a line."""
    dacs, adcs = np.minimum(bar.dac.per_crossbar, bar.rows), np.minimum(bar.adc.per_crossbar, bar.cols)
    return dacs, slices(bar) * adcs + offsets(bar)


def idle_converters(on: Layout, tile: Tile) -> dict[str, Value]:
    """Return the power that a matrix's DACs and ADCs draw while they wait, in watts: all of them, used or not."""
    bar, pes = tile.crossbar, on.tiles * tile.pes
    dacs, adcs = converters(bar)
    return {
        "dac": pes * dacs * bar.dac.power_w * bar.dac.idle_share,
        "adc": pes * adcs * bar.adc.power_w * bar.adc.idle_share,
    }


def input_buffer_size(fan_in: Value, crossbars: Value, act_bits: Value) -> Value:
    """Return the bytes of an input buffer: a matrix's input shared by its crossbars, up to a power of two."""
    return 2 ** np.ceil(np.log2(fan_in * act_bits / 8 / crossbars))


def output_buffer_size(fan_out: Value, tiles: Value) -> Value:
    """Return the bytes of an output buffer: twice a matrix's output shared by its tiles, up to a power of two."""
    return 2 ** np.ceil(np.log2(2 * fan_out / tiles))


def area(on: Layout, *, tile: Tile, input_buffer: Value, output_buffer: Value) -> dict[str, Value]:
    """Return the area of a matrix's tiles by component, in square metres: whole tiles, used or not."""
    bar, side = tile.crossbar, tile.periphery
    dacs, adcs = converters(bar)
    copies, pes = bar.polarity * slices(bar), on.tiles * tile.pes
    one_crossbar = bar.rows * bar.cols * bar.cell.area_m2 + bar.rows * bar.row_area_m2
    offset = offsets(bar) * bar.rows * bar.cell.area_m2
    inside, outside = (sized(size, tile.buffer, tile.buffer.area_m2) for size in (input_buffer, output_buffer))
    whole = {
        "dac": pes * dacs * bar.dac.area_m2,
        "adc": pes * adcs * bar.adc.area_m2,
        "crossbar": pes * (copies * one_crossbar + offset),
        "registers": pes * dacs * side.dac_side_area_m2,
        "shift_add": pes * adcs * side.adc_side_area_m2,
        "joint": on.tiles * (tile.pes - 1) * np.minimum(bar.adc.per_crossbar, bar.cols) * side.joint_area_m2,
        "buffer": pes * inside + on.tiles * outside,
    }
    if np.any(on.scaled):
        unit = rescaler(tile)
        units = pes * np.minimum(unit.per_crossbar, bar.cols) * (on.scaled > 0)
        whole["rescale"] = units * rescaling(on, tile) * unit.area_m2 + on.scaled * unit.scale_bits * bar.cell.area_m2
    return whole


def programming(
    fan_in: Value, fan_out: Value, *, bar: Crossbar, program_rows: Value, scales: Value = 0
) -> dict[str, Value]:
    """Return cells, energy (J) and time (s) to write a matrix once, each pulse followed by a verifying read.

    scales: bits of all scales of an output, in cells of one bit; program_rows: crossbar rows written at once in the whole
    machine. The energy of the verifying reads is neglected; it is three orders below that of a pulse.
    """
    copies, cell, down = bar.polarity * slices(bar), bar.cell, ceil_div(fan_out, bar.cols)
    rows = down * (copies * fan_in + scales)
    cells = fan_out * (copies * fan_in + scales) + offsets(bar) * down * fan_in
    return {
        "cells": cells,
        "energy_j": cells * cell.write_pulses * cell.write_j,
        "time_s": rows / program_rows * cell.write_pulses * (cell.write_s + read_time(bar)),
    }
