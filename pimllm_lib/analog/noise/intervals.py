"""Intervals of a mean over models, chips and text, from trials in either design.

Of model t, chip d of that model and block of text b a trial gives y = m + T(t) + D(t, d) + B(b) + TB(t, b) + E(t, d, b), all
random with mean 0. The mean over the chips that read a block makes a table of M models and B blocks. With the mean squares
of its rows, columns and rest (two crossed random factors: Searle, Casella and McCulloch 1992)

    E[rows] = e + B r,  E[columns] = e + M b,  E[rest] = e,  variance of the mean = r/M + b/B + e/(M B)
            = (E[rows] + E[columns] - E[rest]) / (M B),

which holds for both designs, that differ in what r and e are. Crossed, every one of C chips reads every block: a chip's own
deviation is a part of its model's, r = T + D/C, e = TB + E/C. Nested, a block is read by one chip: e = TB + E + D, and as
chips of n blocks make these correlated, E[rows] has n D, not D, while D cancels in the difference of the others.

Half an interval is the root of that variance, its columns' part held to be at least 0, times a quantile of Student's t.
With few models neither number of degrees of freedom will do: that of Satterthwaite (1946), from the estimated parts, gives
intervals that hold 92 to 93 % where three models and the text vary alike; the mean of both quantiles that Cochran and Cox
weigh by the parts, up to 97.5 %. The harmonic mean of the two, so weighted, keeps 94 to 97 %; tests simulate it.

One model says nothing of others: its chips are the rows then where every one reads all of the text, and where each reads its
own, chips with their text are the sample. Of one chip that is the text alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

#: What an interval is to hold, of all that are made.
INSIDE = 0.95


def table(found: NDArray[Any]) -> NDArray[Any]:
    """Return trials (models, chips, blocks), NaN where a chip did not read a block, as rows and columns: see above."""
    there = np.isfinite(found)
    read = found[:, :, there.any(axis=(0, 1))]
    if len(read) > 1:
        return np.asarray(np.nanmean(read, axis=1))
    chips = read[0][there[0].any(axis=1)]
    return np.asarray(chips if np.isfinite(chips).all() else np.nanmean(chips, axis=1)[None])


def half(tables: NDArray[Any]) -> NDArray[Any]:
    """Return half the 95 % interval of the mean of each table (..., rows, columns); NaN of a single number."""
    rows, columns = tables.shape[-2:]
    of_rows, of_columns = tables.mean(axis=-1), tables.mean(axis=-2)
    if rows * columns == 1:
        return np.full(tables.shape[:-2], np.nan)
    rest = tables - of_rows[..., None] - of_columns[..., None, :] + tables.mean(axis=(-2, -1), keepdims=True)
    apart = np.square(rest).sum(axis=(-2, -1)) / max((rows - 1) * (columns - 1), 1)
    by_rows = columns * of_rows.var(axis=-1, ddof=1) if rows > 1 else np.zeros(tables.shape[:-2])
    by_columns = rows * of_columns.var(axis=-1, ddof=1) - apart if columns > 1 else np.zeros(tables.shape[:-2])
    size = rows * columns
    return spanned(np.asarray(by_rows / size), np.asarray(np.maximum(by_columns, 0.0) / size), rows, columns)


def spanned(by_rows: NDArray[Any], by_columns: NDArray[Any], rows: Any, columns: Any) -> NDArray[Any]:
    """Return half an interval for a variance of the mean in two parts, 0 of a single row or column: any arrays that fit."""
    parts = ((by_rows, rows), (by_columns, columns))
    weighed = sum(part / stats.t.ppf((1 + INSIDE) / 2, np.maximum(np.subtract(count, 1), 1)) for part, count in parts)
    whole = by_rows + by_columns
    return np.asarray(np.sqrt(whole) * whole / np.where(whole > 0, weighed, 1.0))


def interval(found: NDArray[Any]) -> tuple[float, float]:
    """Return both ends of the 95 % interval of the mean of trials (models, chips, blocks)."""
    tables = table(found)
    middle, by = float(tables.mean()), float(half(tables))
    return middle - by, middle + by
