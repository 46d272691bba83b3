"""A space of designs: which fields vary, over which values or ranges, and its points cut into chunks.

Points of a grid lie along one dimension for each axis, so that evaluating a chunk of them broadcasts. Points of a sample lie
along the dimension `sample`. What a chunk holds follows from the space alone, never from who evaluates it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.schema import DIMS, VARIABLES
from pimllm_lib.core.units import si_unit

METHODS = ("grid", "list", "latin", "sobol")
LAWS = ("uniform", "log", "integer")
#: Samples of a Latin hypercube are drawn all at once.
MOST_SAMPLES = 10**7
#: Points of a grid beyond which nobody waits.
MOST_POINTS = 10**11


@dataclass(frozen=True)
class Axis:
    """What varies together: `fields`, each with one column of `rows`, a row a point; `labels` name the points."""

    name: str
    fields: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    labels: tuple[Any, ...]

    @property
    def broadcasts(self) -> bool:
        """Whether all its points can be evaluated at once: conventions and names other than a dataflow cannot."""
        names = any(isinstance(x, str | bool) for row in self.rows for x in row)
        flows = all(field.endswith(".dataflow") for field in self.fields)
        return (flows or not names) and not any(field.startswith("conventions.") for field in self.fields)

    @cached_property
    def says_values(self) -> bool:
        """Whether its labels are the values that every field takes."""
        return all(str(x) == str(label) for row, label in zip(self.rows, self.labels, strict=True) for x in row)

    @cached_property
    def numbered(self) -> bool:
        """Whether its labels only count its points."""
        return list(self.labels) == list(range(len(self.rows))) and not self.says_values

    def columns(self) -> dict[str, int]:
        """Return the name of the column of each field, where it is not told by the labels -> its place in a row."""
        last = [field.rpartition(".")[2] for field in self.fields]
        whole = [field.partition(".")[2].replace(".", "_") for field in self.fields]
        names = last if len(set(last)) == len(last) else whole
        return {f"{self.name}_{name}": i for i, name in enumerate(names)}


@dataclass(frozen=True)
class Range:
    """What is drawn: `fields`, all with the same value between low and high; law: one of `LAWS`."""

    name: str
    fields: tuple[str, ...]
    low: float
    high: float
    law: str = "uniform"

    def at(self, share: Any) -> Any:
        """Return the values at shares from 0 to 1 of the range."""
        if self.law == "log":
            return np.exp(np.log(self.low) + share * (np.log(self.high) - np.log(self.low)))
        if self.law == "integer":
            return np.floor(self.low + share * (self.high - self.low + 1)).clip(self.low, self.high)
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class Chunk:
    """Some points of a space: number of the chunk; the slice of each axis, or of the samples under "sample"."""

    index: int
    slices: tuple[tuple[str, int, int], ...]

    @property
    def points(self) -> int:
        """How many points it holds."""
        return prod(stop - start for _, start, stop in self.slices)


@dataclass(frozen=True)
class Space:
    """Axes (a grid, or a list of points along them) or ranges (samples), in chunks of at most `chunk` points.

    Raises BadInput for an empty space, axes that share a name or a field, reserved names, a method that does not fit.
    """

    axes: tuple[Axis | Range, ...]
    method: str = "grid"
    points: int = 0
    seed: int = 0
    chunk: int = 1 << 18

    def __post_init__(self) -> None:
        """Refuse a space that cannot be."""
        names = [name for axis in self.axes for name in (axis.name, *self._beside(axis))]
        fields = [field for axis in self.axes for field in axis.fields]
        for what, items in (("axes are named", names), ("axes set", fields)):
            for item in items:
                if items.count(item) > 1:
                    raise BadInput(f"{items.count(item)} {what} {item}; wanted one")
        for name in names:
            if name in DIMS or name in VARIABLES or name == "sample":
                raise BadInput(f"the axis name {name!r} is reserved; wanted any other")
        self._check_kinds()
        if not self.axes or self.size < 1 or self.chunk < 1:
            raise BadInput("the space is empty; wanted at least one axis with at least one value")
        if self.size > MOST_POINTS:
            raise BadInput(f"the space has {self.size:.3g} points; wanted at most {MOST_POINTS:.0e}")

    def _check_kinds(self) -> None:
        kind = Range if self.method in ("latin", "sobol") else Axis
        for axis in self.axes:
            if not isinstance(axis, kind):
                wanted = "a range, low and high" if kind is Range else "values"
                raise BadInput(f"axis {axis.name} does not fit the method {self.method}; wanted {wanted}")
        if kind is Range and not 1 <= self.points <= MOST_SAMPLES:
            raise BadInput(f"points is {clip(self.points)}; wanted a whole number from 1 to {MOST_SAMPLES}")
        lengths = {len(axis.labels) for axis in self.axes if isinstance(axis, Axis)}
        if self.method == "list" and len(lengths) > 1:
            raise BadInput(f"the axes of a list have {sorted(lengths)} values; wanted as many of each")
        for axis in self.axes:
            if self.method == "list" and isinstance(axis, Axis) and not axis.broadcasts:
                raise BadInput(f"axis {axis.name} holds names, true or false; a list takes numbers, wanted a grid")
            if isinstance(axis, Range) and any(field.startswith("conventions.") for field in axis.fields):
                raise BadInput(f"axis {axis.name} draws conventions, which are true or false; wanted a grid")

    @property
    def size(self) -> int:
        """How many points it has."""
        if self.method == "grid":
            return prod(len(axis.labels) for axis in self.axes if isinstance(axis, Axis))
        if self.method == "list":
            return min((len(axis.labels) for axis in self.axes if isinstance(axis, Axis)), default=0)
        return self.points

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks in order; together they hold every point once."""
        if self.method != "grid":
            for i, start in enumerate(range(0, self.size, self.chunk)):
                yield Chunk(i, (("sample", start, min(start + self.chunk, self.size)),))
            return
        steps, grid = self._steps(), [axis for axis in self.axes if isinstance(axis, Axis)]
        blocks = [
            [(axis.name, start, min(start + step, len(axis.labels))) for start in range(0, len(axis.labels), step)]
            for axis in grid
            for step in (steps[axis.name],)
        ]
        for i, block in enumerate(product(*blocks)):
            yield Chunk(i, block)

    def _steps(self) -> dict[str, int]:
        """Return how many values of each axis of a grid go into one chunk: as many of the last axes as there is room for."""
        steps, room = {}, self.chunk
        grid = [axis for axis in self.axes if isinstance(axis, Axis)]
        fixed = [axis for axis in grid if not axis.broadcasts]  # these vary slowest
        for axis in [*reversed([axis for axis in grid if axis.broadcasts]), *fixed]:
            steps[axis.name] = max(1, min(len(axis.labels), room)) if axis.broadcasts else 1
            room //= steps[axis.name]
        return steps

    @property
    def count(self) -> int:
        """How many chunks it has."""
        if self.method != "grid":
            return -(-self.size // self.chunk)
        steps = self._steps()
        return prod(-(-len(axis.labels) // steps[axis.name]) for axis in self.axes if isinstance(axis, Axis))

    def probes(self) -> Iterator[Chunk]:
        """Yield a few small chunks in which every value of every axis stands once: whoever accepts them accepts all."""
        if self.method != "grid":
            yield Chunk(0, (("sample", 0, min(self.size, self.chunk)),))
            return
        grid = [axis for axis in self.axes if isinstance(axis, Axis)]
        for axis in grid:
            step = len(axis.labels) if axis.broadcasts else 1
            for start in range(0, len(axis.labels), step):
                yield Chunk(0, tuple((a.name, *((start, start + step) if a is axis else (0, 1))) for a in grid))

    def values(self, chunk: Chunk) -> dict[str, Any]:
        """Return field -> its value in a chunk: a plain value where it is one for the whole chunk, else a DataArray."""
        if self.method == "grid":
            at = {name: slice(start, stop) for name, start, stop in chunk.slices}
            return {field: value for axis in self.axes for field, value in _along(axis, at[axis.name])}
        _, start, stop = chunk.slices[0]
        samples, columns = self.labels(chunk), self._columns(start, stop)
        return {
            field: xr.DataArray(column, dims="sample", coords=samples)
            for axis, axis_columns in zip(self.axes, columns, strict=True)
            for field, column in zip(axis.fields, axis_columns, strict=True)
        }

    def _beside(self, axis: Axis | Range) -> dict[str, int]:
        """Return the columns of an axis that its labels do not tell: name -> place in a row."""
        untold = isinstance(axis, Axis) and (axis.numbered or (self.method == "list" and not axis.says_values))
        return axis.columns() if untold and isinstance(axis, Axis) else {}

    def coordinates(self, chunk: Chunk, values: Mapping[str, Any]) -> dict[str, xr.Variable]:
        """Return what a result says of the points in a chunk: each axis by its name, drawn values and labels alike, and
        each field by one of its own where labels do not tell its value. values: those of the chunk.
        """
        at = {name: slice(start, stop) for name, start, stop in chunk.slices}
        found = {} if self.method == "grid" else {"sample": xr.Variable("sample", self.labels(chunk)["sample"])}
        for axis in self.axes:
            dim = axis.name if self.method == "grid" else "sample"
            if isinstance(axis, Range):
                found[axis.name] = _column(dim, values[axis.fields[0]].values, axis.fields)
                continue
            where, said = at[dim], axis.fields if axis.says_values else ()
            found[axis.name] = _column(dim, axis.labels[where], said)
            for name, i in self._beside(axis).items():
                found[name] = _column(dim, [row[i] for row in axis.rows[where]], (axis.fields[i],))
        return found

    def _columns(self, start: int, stop: int) -> list[list[NDArray[Any]]]:
        """Return for each axis the column of each of its fields, for some points of a list or sample."""
        if self.method == "list":
            return [
                [np.array([row[i] for row in axis.rows[start:stop]]) for i in range(len(axis.fields))]
                for axis in self.axes if isinstance(axis, Axis)
            ]  # fmt: skip
        shares = self._shares(start, stop)
        drawn = [axis.at(shares[:, i]) for i, axis in enumerate(self.axes) if isinstance(axis, Range)]
        return [[column] * len(axis.fields) for axis, column in zip(self.axes, drawn, strict=True)]

    def _shares(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return draws from the unit cube, the same whichever chunk they are drawn for."""
        from scipy.stats import qmc

        if self.method == "latin":
            return np.asarray(qmc.LatinHypercube(len(self.axes), rng=self.seed).random(self.size))[start:stop]
        engine = qmc.Sobol(len(self.axes), rng=self.seed)
        return np.asarray((engine.fast_forward(start) if start else engine).random(stop - start))

    def labels(self, chunk: Chunk) -> dict[str, Any]:
        """Return dimension -> labels of the points in a chunk: the axes of a grid, else "sample"."""
        if self.method != "grid":
            return {"sample": np.arange(*chunk.slices[0][1:])}
        at = {name: slice(start, stop) for name, start, stop in chunk.slices}
        return {axis.name: list(axis.labels[at[axis.name]]) for axis in self.axes if isinstance(axis, Axis)}


def _column(dim: str, values: Any, fields: tuple[str, ...]) -> xr.Variable:
    """Return values along a dimension, with the fields that take them and their unit, where these are told."""
    column, units = np.array(values), {si_unit(field) for field in fields}
    unit = {"units": units.pop()} if len(units) == 1 and column.dtype.kind in "fiu" else {}
    return xr.Variable(dim, column, ({"long_name": ", ".join(fields)} if fields else {}) | unit)


def _along(axis: Any, where: slice) -> Iterator[tuple[str, Any]]:
    rows, labels = axis.rows[where], list(axis.labels[where])
    for i, field in enumerate(axis.fields):
        column = [row[i] for row in rows]
        if axis.broadcasts:
            yield field, xr.DataArray(np.array(column), dims=axis.name, coords={axis.name: labels}, name=axis.name)
        else:
            yield field, column[0]
