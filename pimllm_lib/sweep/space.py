"""A space of designs: which fields vary, over which values or ranges, and its points cut into chunks.

Points of a grid lie along one dimension for each axis, so that evaluating a chunk of them broadcasts. Points of a sample lie
along the dimension `sample`. What a chunk holds follows from the space alone, never from who evaluates it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import require
from pimllm_lib.core.schema import DIMS, VARIABLES
from pimllm_lib.core.units import si_unit

METHODS = ("grid", "list", "latin", "sobol")
LAWS = ("uniform", "log", "integer")
#: Samples of a Latin hypercube, which are drawn all at once; points of a grid beyond which nobody waits.
MOST_SAMPLES, MOST_POINTS = 10**7, 10**11


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

    @property
    def at(self) -> dict[str, slice]:
        """Its slices by name."""
        return {name: slice(start, stop) for name, start, stop in self.slices}


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
        drawn = self.method in ("latin", "sobol")
        for axis in self.axes:
            if isinstance(axis, Range) != drawn:
                wanted = "a range, low and high" if drawn else "values"
                raise BadInput(f"axis {axis.name} does not fit the method {self.method}; wanted {wanted}")
        fits = 1 <= self.points <= MOST_SAMPLES or not drawn
        require(fits, "points", self.points, f"a whole number from 1 to {MOST_SAMPLES}")
        lengths = {len(axis.labels) for axis in self._listed}
        if self.method == "list" and len(lengths) > 1:
            raise BadInput(f"the axes of a list have {sorted(lengths)} values; wanted as many of each")
        for axis in self.axes:
            if self.method == "list" and isinstance(axis, Axis) and not axis.broadcasts:
                raise BadInput(f"axis {axis.name} holds names, true or false; a list takes numbers, wanted a grid")
            if drawn and any(field.startswith("conventions.") for field in axis.fields):
                raise BadInput(f"axis {axis.name} draws conventions, which are true or false; wanted a grid")

    @property
    def _listed(self) -> list[Axis]:
        """The axes of a grid or a list, none where points are drawn."""
        return [axis for axis in self.axes if isinstance(axis, Axis)]

    @property
    def size(self) -> int:
        """How many points it has."""
        lengths = [len(axis.labels) for axis in self._listed]
        if self.method == "grid":
            return prod(lengths)
        return min(lengths, default=0) if self.method == "list" else self.points

    @property
    def switches(self) -> bool:
        """Whether points differ in their conventions."""
        several = (axis.fields for axis in self._listed if len(axis.labels) > 1)
        return any(field.startswith("conventions.") for fields in several for field in fields)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yield the chunks in order, those from one number up to another; together they hold every point once."""
        cuts = self._cuts()
        lengths = tuple(map(len, cuts.values()))
        for i in range(start, prod(lengths) if stop is None else stop):
            starts = (cut[at] for cut, at in zip(cuts.values(), np.unravel_index(i, lengths), strict=True))
            places = zip(cuts.items(), starts, strict=True)
            yield Chunk(i, tuple((name, first, min(first + cut.step, cut.stop)) for (name, cut), first in places))

    @property
    def count(self) -> int:
        """How many chunks it has."""
        return prod(map(len, self._cuts().values()))

    def _cuts(self) -> dict[str, range]:
        """Return where chunks start along each axis of a grid, or along the samples: a chunk has as many values of the last
        axes as there is room for, and one of those that do not broadcast, which vary slowest.
        """
        if self.method != "grid":
            return {"sample": range(0, self.size, self.chunk)}
        steps, room = {axis.name: 1 for axis in self._listed}, self.chunk
        for axis in reversed([axis for axis in self._listed if axis.broadcasts]):
            steps[axis.name] = max(1, min(len(axis.labels), room))
            room //= steps[axis.name]
        return {axis.name: range(0, len(axis.labels), steps[axis.name]) for axis in self._listed}

    def probes(self) -> Iterator[Chunk]:
        """Yield a few small chunks in which every value of every axis stands once: whoever accepts them accepts all."""
        if self.method != "grid":
            yield Chunk(0, (("sample", 0, min(self.size, self.chunk)),))
            return
        for axis in self._listed:
            step = len(axis.labels) if axis.broadcasts else 1
            for start in range(0, len(axis.labels), step):
                yield Chunk(0, tuple((a.name, *((start, start + step) if a is axis else (0, 1))) for a in self._listed))

    def values(self, chunk: Chunk) -> dict[str, Any]:
        """Return field -> its value in a chunk: a plain value where it is one for the whole chunk, else a DataArray."""
        if self.method == "grid":
            return {field: value for axis in self._listed for field, value in _along(axis, chunk.at[axis.name])}
        samples, drawn = self.labels(chunk), self._drawn(chunk.at["sample"])
        return {field: xr.DataArray(column, dims="sample", coords=samples) for field, column in drawn}

    def _drawn(self, where: slice) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield each field and its column, for some points of a list or sample."""
        for axis in self._listed:
            yield from ((field, np.array([row[i] for row in axis.rows[where]])) for i, field in enumerate(axis.fields))
        ranges = [axis for axis in self.axes if isinstance(axis, Range)]
        for i, column in enumerate(self._shares(where).T if ranges else ()):
            values = ranges[i].at(column)
            yield from ((field, values) for field in ranges[i].fields)

    def _shares(self, where: slice) -> NDArray[np.float64]:
        """Return draws from the unit cube, the same whichever chunk they are drawn for."""
        from scipy.stats import qmc

        if self.method == "latin":
            return np.asarray(qmc.LatinHypercube(len(self.axes), rng=self.seed).random(self.size))[where]
        engine = qmc.Sobol(len(self.axes), rng=self.seed)
        engine = engine.fast_forward(where.start) if where.start else engine
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of points that are no power of two, which whoever asks is told
            return np.asarray(engine.random(where.stop - where.start))

    def _beside(self, axis: Axis | Range) -> dict[str, int]:
        """Return the columns of an axis that its labels, which may only count, do not tell: name -> place in a row."""
        counted = isinstance(axis, Axis) and list(axis.labels) == list(range(len(axis.rows)))
        if not isinstance(axis, Axis) or axis.says_values or not (counted or self.method == "list"):
            return {}
        last = [field.rpartition(".")[2] for field in axis.fields]
        whole = [field.partition(".")[2].replace(".", "_") for field in axis.fields]
        return {f"{axis.name}_{name}": i for i, name in enumerate(last if len(set(last)) == len(last) else whole)}

    def coordinates(self, chunk: Chunk, values: Mapping[str, Any]) -> dict[str, xr.Variable]:
        """Return what a result says of the points in a chunk: each axis by its name, drawn values and labels alike, and
        each field by one of its own where labels do not tell its value. values: those of the chunk.
        """
        found = {} if self.method == "grid" else {"sample": xr.Variable("sample", self.labels(chunk)["sample"])}
        for axis in self.axes:
            dim = axis.name if self.method == "grid" else "sample"
            if isinstance(axis, Range):
                found[axis.name] = _column(dim, values[axis.fields[0]].values, axis.fields)
                continue
            where, said = chunk.at[dim], axis.fields if axis.says_values else ()
            found[axis.name] = _column(dim, axis.labels[where], said)
            for name, i in self._beside(axis).items():
                found[name] = _column(dim, [row[i] for row in axis.rows[where]], (axis.fields[i],))
        return found

    def labels(self, chunk: Chunk) -> dict[str, Any]:
        """Return dimension -> labels of the points in a chunk: the axes of a grid, else "sample"."""
        if self.method != "grid":
            return {"sample": np.arange(*chunk.slices[0][1:])}
        return {axis.name: list(axis.labels[chunk.at[axis.name]]) for axis in self._listed}


def _column(dim: str, values: Any, fields: tuple[str, ...]) -> xr.Variable:
    """Return values along a dimension, with the fields that take them and their unit, where these are told."""
    column, units = np.array(values), {si_unit(field) for field in fields}
    unit = {"units": units.pop()} if len(units) == 1 and column.dtype.kind in "fiu" else {}
    return xr.Variable(dim, column, ({"long_name": ", ".join(fields)} if fields else {}) | unit)


def _along(axis: Axis, where: slice) -> Iterator[tuple[str, Any]]:
    rows, labels = axis.rows[where], list(axis.labels[where])
    for i, field in enumerate(axis.fields):
        column = [row[i] for row in rows]
        if axis.broadcasts:
            yield field, xr.DataArray(np.array(column), dims=axis.name, coords={axis.name: labels}, name=axis.name)
        else:
            yield field, column[0]
