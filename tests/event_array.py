"""A systolic array simulated event by event: every register and SRAM access happens and is counted one at a time.

Written from the description of the dataflows, independently of the closed forms it is there to check.
"""

from collections import Counter

import numpy as np


def fold_os(a, b, count):
    """Run one output-stationary fold: a is rows x k, b is k x cols. Return the products and the cycles used."""
    (rows, k), cols = a.shape, b.shape[1]
    acc = np.zeros((rows, cols))
    a_reg, b_reg = np.full((rows, cols), np.nan), np.full((rows, cols), np.nan)
    cycle = 0
    done = 0
    while done < rows * cols * k:
        new_a, new_b = np.full((rows, cols), np.nan), np.full((rows, cols), np.nan)
        for r in range(rows):
            for c in range(cols):
                step = cycle - r - c  # operand `step` of this row and column meets here now
                if not 0 <= step < k:
                    continue
                new_a[r, c] = _arrive(a[r, step], a_reg[r, c - 1] if c else None, "inputs", count)
                new_b[r, c] = _arrive(b[step, c], b_reg[r - 1, c] if r else None, "weights", count)
                count["stream"] += 2  # both operands are read for the multiplication
                count["stream"] += 2  # the accumulator is read and written
                acc[r, c] += new_a[r, c] * new_b[r, c]
                done += 1
        a_reg, b_reg = new_a, new_b
        cycle += 1
    count["fill"] += acc.size  # every result is read out once
    count["results"] += acc.size
    return acc, cycle


def _arrive(word, neighbour, sram, count):
    """Write a word into a PE's register: from SRAM at the edge, else from the neighbour that must hold it."""
    if neighbour is None:
        count[sram] += 1
    else:
        assert neighbour == word
    count["stream"] += 1
    return word


def fold_ws(w, x, count, first):  # noqa: C901
    """Run one fold with w (rows x cols) resident and x (m x rows) streaming. Return the sums and the cycles used."""
    (rows, cols), m = w.shape, x.shape[0]
    held = [[None] * cols for _ in range(rows)]
    for c in range(cols):  # each column loads at once; one column at a time gives the same count
        for r in reversed(range(rows)):  # the word of the last row enters first
            count["resident"] += 1
            for below in range(r + 1):  # handed down row by row
                if below:
                    count["fill"] += 1  # read from the row above
                count["fill"] += 1  # written here
            held[r][c] = w[r, c]
    out = np.zeros((m, cols))
    x_reg, sums = np.full((rows, cols), np.nan), np.full((rows, cols), np.nan)
    cycle = 0
    done = 0
    while done < m * cols:
        new_x, new_sums = np.full((rows, cols), np.nan), np.full((rows, cols), np.nan)
        for r in range(rows):
            for c in range(cols):
                step = cycle - r - c
                if not 0 <= step < m:
                    continue
                new_x[r, c] = _arrive(x[step, r], x_reg[r, c - 1] if c else None, "moving", count)
                count["stream"] += 2  # the moving operand and the resident one are read
                above = sums[r - 1, c] if r else 0.0
                count["stream"] += 1 if r else 0  # the partial sum of the row above is read
                new_sums[r, c] = above + new_x[r, c] * held[r][c]
                count["stream"] += 1  # and the new one written
                if r == rows - 1:
                    count["stream"] += 1  # read out at the bottom
                    count["results"] += 1
                    count["partial_sums"] += 0 if first else 1
                    out[step, c] = new_sums[r, c]
                    done += 1
        x_reg, sums = new_x, new_sums
        cycle += 1
    return out, rows + cycle


def run(a, b, rows, cols, dataflow):
    """Multiply a (m x k) by b (k x n) on a rows x cols array. Return the product, cycles of full folds, and counts."""
    if dataflow == "is":
        product, cycles, count = run(b.T, a.T, rows, cols, "ws")
        return product.T, cycles, _rename(count, inputs="weights", weights="inputs")
    (m, k), n, count, cycles = a.shape, b.shape[1], Counter(), []
    product = np.zeros((m, n))
    outer, size = (m, "os") if dataflow == "os" else (k, "ws")
    for i in range(0, outer, rows):
        for j in range(0, n, cols):
            if size == "os":
                part, used = fold_os(a[i : i + rows], b[:, j : j + cols], count)
                product[i : i + rows, j : j + cols] = part
                full = part.shape == (rows, cols)
            else:
                part, used = fold_ws(b[i : i + rows, j : j + cols], a[:, i : i + rows], count, first=i == 0)
                product[:, j : j + cols] += part
                full = b[i : i + rows, j : j + cols].shape == (rows, cols)
            cycles += [used] if full else []
    return product, cycles, count if dataflow == "os" else _rename(count, moving="inputs", resident="weights")


def _rename(count, **names):
    return Counter({names.get(key, key): value for key, value in count.items()})
