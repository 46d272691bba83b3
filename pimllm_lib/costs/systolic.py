"""Cycles, traffic and energy of a systolic array of R x C multiply-accumulate PEs.

The product is (m x k)(k x n). Each dataflow maps two of the three sizes on the array and streams the third:

    output stationary (os)   rows <- m   cols <- n   stream k   results stay, both operands move
    weight stationary (ws)   rows <- k   cols <- n   stream m   weights stay, inputs and partial sums move
    input stationary  (is)   rows <- k   cols <- m   stream n   inputs stay, weights and partial sums move

A product larger than the array is folded; folds follow one another without overlap. Source: the SCALE-Sim v2
timing model (Samajdar et al. 2020), re-derived here and checked cycle for cycle against its released code.
Neglected, as there: memory stalls, and moving finished results out of an output-stationary array.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from pimllm_lib.core.parts import Value, ceil_div, part


@part
class Mapping:
    """How a product lies on the array. Every field broadcasts.

    row_size, col_size: sizes mapped on rows and columns; row_folds, col_folds: how often the array is refilled
    along each; stream: cycles a fold streams; fill: cycles a fold spends filling and draining.
    """

    row_size: Value
    col_size: Value
    row_folds: Value
    col_folds: Value
    stream: Value
    fill: Value


def pick(dataflow: Value, *choices: Value) -> Value:
    """Return the choice that a dataflow names, of those for os, ws and is; over an axis of dataflows, each its own.

    >>> pick("ws", 1, 2, 3)
    2
    """
    named = dict(zip(("os", "ws", "is"), choices, strict=True))
    if isinstance(dataflow, str):
        return named[dataflow]
    return sum((dataflow == name) * value for name, value in named.items())


def mapping(m: Value, k: Value, n: Value, *, rows: Value, cols: Value, dataflow: Value = "os") -> Mapping:
    """Return how an (m x k)(k x n) product lies on a rows x cols array.

    The stationary dataflows load their operand through the rows first, hence 2 rows + cols - 2 cycles of filling
    where output stationary has rows + cols - 2.
    """
    row_size, col_size = pick(dataflow, m, k, k), pick(dataflow, n, n, m)
    return Mapping(
        row_size=row_size,
        col_size=col_size,
        row_folds=ceil_div(row_size, rows),
        col_folds=ceil_div(col_size, cols),
        stream=pick(dataflow, k, m, n),
        fill=pick(dataflow, rows + cols - 2, 2 * rows + cols - 2, 2 * rows + cols - 2),
    )


def groups(dataflow: Value, m: Value, k: Value, *, rows: Value, row_groups: Value) -> Value:
    """Return how many groups the rows of an array are divided into for a product: as many as rows are left, at most
    row_groups.

    >>> int(groups("os", 4, 128, rows=32, row_groups=32)), int(groups("ws", 4, 128, rows=32, row_groups=32))
    (8, 1)
    """
    if isinstance(row_groups, int) and row_groups == 1:
        return 1
    return np.clip(np.floor(rows / np.ceil(pick(dataflow, m, k, k))), 1, row_groups)


#: Products that go to the same units before others and are no shorter than these: how each lies, and how many.
Before: TypeAlias = tuple[Mapping, Value] | None


def work_cycles(
    on: Mapping, products: Value, *, rows: Value, dataflow: Value = "os", units: Value = 1, overlap: Value = False,
    before: Before = None,
) -> dict[str, Value]:  # fmt: skip
    """Return the cycles, by phase, of several equal products on units that work side by side: operands streaming, and
    filling and draining.

    The published timing model ends one cycle early, once per product; that cycle is taken from filling, or from
    streaming on an array of one PE, which needs no filling. on: how one product lies on a unit of `rows` rows. Folds go
    to whichever unit is free. Weight and input stationary folds that add to the same sums follow one another on one
    unit; output stationary ones are all independent. overlap: the next fold streams in while the last one drains and
    the operand after it is loaded, so that a fold takes as long as it streams, or as its rows take to be handed on
    where that is longer, and filling is paid once. before: what those units were given first; the cycles are those that
    these products add to it, at most by what one of the others is longer too many.

    >>> float(work_cycles(mapping(1, 4096, 4096, rows=32, cols=32), 1, rows=32, units=32)["fill"])
    247.0
    """
    folds, lone = on.row_folds * on.col_folds, on.fill == 0
    chained = _chained(on, dataflow)
    first, others = (None, None) if before is None else (before[1], _folds(before) / _chained(before[0], dataflow))
    turns = _turns(products * folds / chained, units, others) * chained
    stream, filled, early = turns * on.stream, turns, _turns(products, units, first)
    if overlap is not False:
        fresh = True if first is None else np.asarray(first) == 0
        once = ((np.asarray(products) > 0) & fresh) * 1
        stream = stream + overlap * turns * (np.maximum(on.stream, rows) - on.stream)
        filled, early = filled + overlap * (once - filled), early + overlap * (once - early)
    if not np.any(lone):  # streaming then does not vary with the shape of the array, and a sweep over it stays narrow
        return {"stream": stream, "fill": filled * on.fill - early}
    return {"stream": stream - early * lone, "fill": filled * on.fill - early * (1 - lone)}


def _chained(on: Mapping, dataflow: Value) -> Value:
    """Return how many folds of a product follow one another on one unit, since they add to the same sums."""
    return pick(dataflow, 1, on.row_folds, on.row_folds)


def _folds(before: tuple[Mapping, Value]) -> Value:
    on, products = before
    return products * on.row_folds * on.col_folds


def _turns(number: Value, units: Value, before: Value | None) -> Value:
    """Return how many turns a number of equal things adds on units, the last of which others may leave half empty."""
    return ceil_div(number, units) if before is None else ceil_div(before + number, units) - ceil_div(before, units)


def cycles(m: Value, k: Value, n: Value, *, rows: Value, cols: Value, dataflow: Value = "os") -> Value:
    """Return the compute cycles of one (m x k)(k x n) product, without memory stalls.

    A GEMV with k = n = 4096 on a 32 x 32 output-stationary array takes 128 folds of 4096 + 62 cycles, less one:

    >>> float(cycles(1, 4096, 4096, rows=32, cols=32))
    532223.0
    """
    on = mapping(m, k, n, rows=rows, cols=cols, dataflow=dataflow)
    return sum(work_cycles(on, 1, rows=rows, dataflow=dataflow).values())


def utilisation(m: Value, k: Value, n: Value, *, rows: Value, cols: Value, dataflow: Value = "os") -> Value:
    """Return the share of PE-cycles that do a useful multiply-accumulate, above 0 and at most 1.

    The last cycle, which the published count leaves out, is counted here.

    >>> float(utilisation(1, 4096, 4096, rows=32, cols=32, dataflow="os")) < 1 / 32
    True
    """
    return m * k * n / ((cycles(m, k, n, rows=rows, cols=cols, dataflow=dataflow) + 1) * rows * cols)


def sram_words(m: Value, k: Value, n: Value, *, rows: Value, cols: Value, dataflow: Value = "os") -> dict[str, Value]:
    """Return the words one product moves between SRAM and the array.

    inputs, weights: operand words read; results: words written, a partial sum of each row fold included;
    partial_sums: words read back to go on summing (0 for output stationary).
    """
    on = mapping(m, k, n, rows=rows, cols=cols, dataflow=dataflow)
    passes = _chained(on, dataflow)
    return {
        "inputs": m * k * pick(dataflow, on.col_folds, on.col_folds, 1),
        "weights": k * n * pick(dataflow, on.row_folds, 1, on.col_folds),
        "results": m * n * passes,
        "partial_sums": m * n * (passes - 1),
    }


def register_accesses(
    m: Value, k: Value, n: Value, *, rows: Value, cols: Value, dataflow: Value = "os"
) -> dict[str, Value]:
    """Return the register-file accesses (reads + writes) of one product in the PEs it is mapped on, by phase.

    Output stationary: per MAC two operands are written on arrival and read, the accumulator is read and written: 6;
    each result is read once more when done. Weight and input stationary: per MAC the moving operand and the partial sum
    are each written and read and the resident operand is read: 5; a resident word of row i is first handed
    down through i rows: a fold of r rows costs r * r accesses a column.
    Neglected: operands that travel on through columns nothing is mapped on.
    """
    on = mapping(m, k, n, rows=rows, cols=cols, dataflow=dataflow)
    last = on.row_size - (on.row_folds - 1) * rows
    load = on.col_size * ((on.row_folds - 1) * rows**2 + last**2)
    return {"stream": pick(dataflow, 6, 5, 5) * (m * k * n), "fill": pick(dataflow, m * n, load, load)}


def mapped_cycles(
    on: Mapping, products: Value, *, units: Value = 1, overlap: Value = False, before: Before = None
) -> dict[str, Value]:
    """Return the cycles that PEs spend with an operand or a result of theirs, over all PEs, by phase.

    Where folds overlap, those of a first fold alone fill and drain. before: what the units were given first.
    """
    mapped, filling = on.row_size * on.col_size, products
    if overlap is not False:
        folds, left = on.row_folds * on.col_folds, units if before is None else np.maximum(units - _folds(before), 0)
        filling = products + overlap * (np.minimum(left, products * folds) / folds - products)
    return {"stream": mapped * products * on.stream, "fill": mapped * filling * on.fill}


def energy(
    spent: dict[str, Value],
    mapped: dict[str, Value],
    *,
    pes: Value,
    active_pe_energy_j: Value,
    idle_pe_energy_j: Value,
    measured_cycle_energy_j: Value = 0.0,
    measured: Value = False,
) -> dict[str, Value]:
    """Return energy by phase. spent: cycles; mapped: those of mapped PEs; pes: PEs of all arrays.

    Where `measured` holds, every cycle costs `measured_cycle_energy_j`. Elsewhere each mapped PE costs
    `active_pe_energy_j` and each other PE `idle_pe_energy_j` in every cycle. SRAM is not included.
    """
    whole = measured_cycle_energy_j * measured + pes * idle_pe_energy_j * (1 - measured)
    extra = (active_pe_energy_j - idle_pe_energy_j) * (1 - measured)
    return {phase: spent[phase] * whole + mapped[phase] * extra for phase in spent}
