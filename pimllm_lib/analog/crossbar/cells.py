"""Program weights into cells that depart from ideal ones: what each column then carries, in currents of one on-cell.

Draws (`draws`) are keyed by seed, layer, tile and purpose: the same seed gives the same cells however the work is split,
and a new kind of departure leaves the draws of the others as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from pimllm_lib.analog.crossbar import popcount, wires
from pimllm_lib.analog.crossbar.draws import generators
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require
from pimllm_lib.hardware import Crossbar, Devices, Readout


@dataclass(frozen=True)
class Line:
    """One converted current for each output.

    weights: what each input adds to it, float32 (fan_in, fan_out), in the difference between an on- and an off-cell;
    sign: what it counts for in the output; squares: the sum of the squares of the conductances behind each weight, for
    read noise, else None.
    """

    weights: Any
    sign: float
    squares: Any = None


@dataclass(frozen=True)
class Programmed:
    """A matrix in crossbars. Its arrays are numpy's, or torch's where it was moved.

    ideal: the weights as asked for, int8 (fan_in, fan_out); lines: the currents that are converted; gain: digital
    factor on what was read; input_gain: what the inputs' sum enters an output with, which makes minus one of the zeros of
    single columns; exact: whether all cells are ideal and read without noise, so that sums are whole numbers; scales: what
    the sum of each group of inputs is multiplied by, float32 (groups, fan_out); None where all are summed as they are.
    """

    ideal: Any
    lines: tuple[Line, ...]
    gain: float
    input_gain: float
    exact: bool
    crossbar: Crossbar
    devices: Devices
    readout: Readout
    seed: int
    layer: str
    scales: Any = None

    @property
    def span(self) -> int:
        """Inputs whose products may be summed: those of a group, or all."""
        fan_in = int(self.ideal.shape[0])
        return fan_in if self.scales is None else fan_in // len(self.scales)

    @cached_property
    def groups(self) -> tuple[tuple[slice, Programmed], ...]:
        """The inputs of each group, and its cells as a matrix by itself: they are read, and converted, by themselves.

        Each has noise of its own; its converters are those of the whole matrix.
        """
        bar = replace(self.crossbar, rows=min(self.crossbar.rows, self.span))
        found = []
        for number in range(len(self.scales)):
            rows = slice(number * self.span, (number + 1) * self.span)
            lines = tuple(
                Line(line.weights[rows], line.sign, None if line.squares is None else line.squares[rows])
                for line in self.lines
            )
            group = replace(self, ideal=self.ideal[rows], lines=lines, crossbar=bar, scales=None)
            found.append((rows, replace(group, layer=f"{self.layer}.group{number}")))
        return tuple(found)

    @cached_property
    def masks(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The weights as bits, see `popcount.masks`, where sums are whole, the DAC gives single bits and the ADC rounds."""
        if self.exact and self.crossbar.dac.bits == 1 and self.readout.range != "ideal":
            return popcount.masks(self.lines[0].weights, self.crossbar.rows)
        return None


def program(
    weights: np.ndarray, *, crossbar: Crossbar, devices: Devices, readout: Readout, seed: int = 0, layer: str = "",
    place: str | None = None, scales: np.ndarray | None = None,
) -> Programmed:  # fmt: skip
    """Return weights of -1, 0 and 1, (fan_in, fan_out), as cells hold them.

    layer: what is written, which says how its cells come out; place: the cells that it is written to, of which some are
    stuck whatever is written; the layer's own unless given. scales: of weights whose scale changes along the inputs,
    (groups, fan_out): a column then sums one group at a time. A crossbar holds whole groups, or a part of one.

    polarity 2 holds ternary weights in differential pairs, of which both cells are off for 0. polarity 1 holds binary
    weights, on for 1 and off for -1, beside a reference column of off-cells that is subtracted before conversion and
    whose own departures are neglected. Raises BadInput for other weights, and for a crossbar that cuts a weight into
    several cells, for a seed below 0, and for groups that do not divide the inputs.
    """
    if weights.ndim != 2 or not weights.size:
        raise BadInput(f"weights have the shape {weights.shape}; wanted fan_in x fan_out")
    (found,) = program_each(
        weights[None], crossbar=crossbar, devices=devices, readout=readout, seed=seed, layers=[layer],
        places=[layer if place is None else place], scales=scales,
    )  # fmt: skip
    return found


def program_each(
    weights: np.ndarray, *, crossbar: Crossbar, devices: Devices, readout: Readout, layers: Sequence[str],
    places: Sequence[str], seed: int = 0, scales: np.ndarray | None = None,
) -> list[Programmed]:  # fmt: skip
    """Return several matrices of one shape, (matrices, fan_in, fan_out), each as `program` gives it by itself.

    layers, places: of each matrix. Many small ones take less time at once.
    """
    pair = _is_pair(weights, crossbar)
    if scales is not None:
        scales = _fitting(scales, weights[0])
    off = crossbar.cell.low_ohm / crossbar.cell.high_ohm
    require(seed >= 0, "a device seed", seed, "a whole number of at least 0")
    if off == 1:
        what = f"{crossbar.name} has an on/off ratio of 1"
        raise BadInput(f"{what}; wanted one above 1, or no weight can be told from another")
    ideal = not any(vars(devices)[name] for name in _DEPARTURES)
    exact = ideal and not devices.reading and not (pair and readout.sensing == "column")
    cells, gains = np.empty(0), [1.0] * len(weights)
    if not exact:  # else currents are the weights themselves: no cell is looked at
        on = np.stack([weights > 0, weights < 0] if pair else [weights > 0], axis=1)
        group = None if scales is None else weights.shape[1] // len(scales)
        if ideal:
            cells = np.where(on, np.float32(1), np.float32(off))
        else:
            cells, gains = _departed(on, crossbar, devices, seed, layers, places, group)
    lines = _lines(weights, cells, np.float32(off), pair, devices, readout, whole=ideal)
    return [
        Programmed(
            ideal=held.astype(np.int8, copy=False), lines=own, gain=gain, input_gain=0.0 if pair else -1.0,
            exact=exact, crossbar=crossbar, devices=devices, readout=readout, seed=seed, layer=layer, scales=scales,
        )
        for held, own, gain, layer in zip(weights, lines, gains, layers, strict=True)
    ]  # fmt: skip


def _fitting(scales: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the scales of groups in float32. Raises BadInput where they do not fit the weights."""
    fan_in, fan_out = weights.shape
    if scales.ndim != 2 or not len(scales) or scales.shape[1] != fan_out or fan_in % len(scales):
        what = f"scales have the shape {scales.shape}"
        raise BadInput(f"{what}; wanted groups x {fan_out}, of as many groups as divide the {fan_in} inputs")
    for bad in scales[~np.isfinite(scales)]:
        raise BadInput(f"the scale of a group is {bad}; wanted a finite number")
    return scales.astype(np.float32, copy=False)


def _lines(
    weights: np.ndarray, cells: np.ndarray, off: np.float32, pair: bool, devices: Devices, readout: Readout, *,
    whole: bool,
) -> list[tuple[Line, ...]]:  # fmt: skip
    """Return the converted currents of each matrix's cells (matrices, sides, fan_in, fan_out).

    `whole` keeps those of ideal cells free of rounding.
    """
    span = 1 - off

    def squares(*sides: np.ndarray) -> Any:
        return sum((side / span) ** 2 for side in sides) if devices.reading else [None] * len(weights)

    if pair and readout.sensing == "column":
        plus, minus = (zip(cells[:, at] / span, squares(cells[:, at]), strict=True) for at in (0, 1))
        return [(Line(p, 1.0, a), Line(m, -1.0, b)) for (p, a), (m, b) in zip(plus, minus, strict=True)]
    if whole:
        held = (weights if pair else weights > 0).astype(np.float32)
    else:
        held = cells[:, 0] - (cells[:, 1] if pair else off)
        held /= span
    sides = [cells[:, at] for at in range(cells.shape[1])] if devices.reading else []
    return [(Line(w, 1.0 if pair else 2.0, q),) for w, q in zip(held, squares(*sides), strict=True)]


#: Fields of `Devices` that change what a cell holds; draws that belong to cells, and not to what is written to them.
_DEPARTURES = ("variation", "curve_siemens", "stuck_off", "stuck_on", "drift", "drift_spread", "wire_ohm", "word_ohm")
_OF_CELLS = ("stuck", "spares")


def _is_pair(weights: np.ndarray, crossbar: Crossbar) -> bool:
    """Return whether weights lie in pairs. Raises BadInput where the crossbar cannot hold them."""
    bits, polarity = crossbar.weight_bits, crossbar.polarity
    if (bits, polarity) not in ((2, 2), (1, 1)):
        what = f"{crossbar.name} holds weights of {clip(bits)} bits with polarity {clip(polarity)}"
        raise BadInput(f"{what}; wanted 2 and 2 (ternary) or 1 and 1 (binary)")
    valid = (-1, 0, 1) if polarity == 2 else (-1, 1)
    if polarity == 2 and weights.dtype.kind == "i" and -1 <= weights.min() <= weights.max() <= 1:
        return True  # the two ends of whole numbers are found sooner than what is wrong between them
    for bad in weights[~np.isin(weights, valid)]:
        raise BadInput(f"a weight is {clip(bad)}; wanted one of {', '.join(map(str, valid))}")
    return bool(polarity == 2)


#: What draws numbers for a purpose: at each call for the tile of cells that comes next.
_Draw: TypeAlias = Callable[[str], np.random.Generator]


def _departed(
    on: np.ndarray, crossbar: Crossbar, devices: Devices, seed: int, layers: Sequence[str], places: Sequence[str],
    group: int | None,
) -> tuple[np.ndarray, list[float]]:  # fmt: skip
    """Return the cells' conductances over that of an on-cell, and the gains that make up for drift where asked for.

    on: which cells are asked to be, of each matrix and side (matrices, sides, fan_in, fan_out).
    """
    cells, sums = np.empty(on.shape, dtype=np.float32), np.zeros((2, len(on)))
    parts, drawn = list(tiles(on.shape[2:], crossbar, group)), dict[str, Iterator[np.random.Generator]]()
    where = [(side, row, col) for side in range(on.shape[1]) for row, col, _ in parts]

    def draw(purpose: str) -> np.random.Generator:
        if purpose not in drawn:
            drawn[purpose] = iter(generators(seed, places if purpose in _OF_CELLS else layers, purpose, where))
        return next(drawn[purpose])

    for number, side in np.ndindex(on.shape[:2]):
        for _, _, tile in parts:  # one at a time, which a core's cache holds
            at = (number, side, *tile)
            written = _written(on[at], crossbar, devices, draw)
            cells[at] = aged = _aged(written, devices, draw)
            if devices.compensated:
                sums[:, number] += written.sum(dtype=np.float64), aged.sum(dtype=np.float64)
    if devices.wire_ohm or devices.word_ohm:
        for sides in cells:
            _wire(sides, crossbar, devices, group)
    return cells, [before / after if after else 1.0 for before, after in sums.T.tolist()]


def _wire(sides: np.ndarray, crossbar: Crossbar, devices: Devices, group: int | None) -> None:
    """Put in the place of cells what each row gives the foot of each column, through all wires and cells.

    Rows of groups that are not read are driven to zero.
    """
    joint = len(sides) if devices.word_ohm and devices.pairs == "side-by-side" else 1  # columns on the same word lines
    for _, _, (rows, cols) in tiles(sides[0].shape, crossbar, group):
        for at in range(0, len(sides), joint):
            lying = np.stack([side[rows, cols] for side in sides[at : at + joint]], axis=-1)
            current = wires.carried(
                lying.reshape(len(lying), -1), devices.wire_ohm / crossbar.cell.low_ohm,
                devices.word_ohm / crossbar.cell.low_ohm, drop=devices.drop,
            )  # fmt: skip
            for number, side in enumerate(sides[at : at + joint]):
                side[rows, cols] = current[:, number::joint]


def _written(on: np.ndarray, crossbar: Crossbar, devices: Devices, draw: _Draw) -> np.ndarray:
    """Return conductances after programming, over that of an on-cell, of cells (rows, columns) that are asked to be on."""
    levels = np.array([crossbar.cell.low_ohm / crossbar.cell.high_ohm, 1], dtype=np.float32)
    place = on.astype(np.intp)  # in `levels`, which is sooner looked up than `np.where` guesses at each cell
    cells = np.take(levels, place, mode="clip")
    if devices.variation or devices.curve_siemens:
        noise = draw("program").standard_normal(on.shape, dtype=np.float32)
        published = sum(c / devices.full_siemens * levels**power for power, c in enumerate(devices.curve_siemens))
        spread = np.sqrt((devices.variation * levels) ** 2 + np.maximum(published, 0) ** 2)
        if devices.law == "lognormal":
            width = np.sqrt(np.log1p((spread / levels) ** 2))
            by = np.take(width, place, mode="clip")
            by *= noise
            by -= np.take(width**2 / 2, place, mode="clip")
            np.exp(by, out=by)
            by *= cells
        else:
            by = np.take(spread, place, mode="clip")
            by *= noise
            by += cells
            np.maximum(by, 0, out=by)
        cells = by.astype(np.float32, copy=False)
    if devices.stuck_off or devices.stuck_on:
        chance = draw("stuck").random(on.shape, dtype=np.float32)
        if devices.spares:
            spare = draw("spares").random((len(on), int(devices.spares)), dtype=np.float32)
            chance = _spared(chance, spare, on, devices)
        np.copyto(cells, levels[0], where=chance < devices.stuck_off)
        np.copyto(cells, levels[1], where=chance >= 1 - devices.stuck_on)
    return cells


def _spared(chance: np.ndarray, spare: np.ndarray, on: np.ndarray, devices: Devices) -> np.ndarray:
    """Return the chances of cells to be stuck, with the worst columns moved to the spare ones that suit them best.

    Of cells stuck at a wrong value, that is; those that want it anyway count for nothing.
    """

    def wrong(of: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return np.asarray(np.where(wanted, of < devices.stuck_off, of >= 1 - devices.stuck_on).sum(axis=0))

    found, left, now = chance.copy(), list(range(spare.shape[1])), wrong(chance, on)
    for column in np.argsort(-now, kind="stable")[: len(left)]:
        there = wrong(spare[:, left], on[:, [column]])
        best = int(there.argmin())
        if there[best] < now[column]:
            found[:, column] = spare[:, left.pop(best)]
    return found


def _aged(cells: np.ndarray, devices: Devices, draw: _Draw) -> np.ndarray:
    if devices.drift_time == 1 or not (devices.drift or devices.drift_spread):
        return cells
    noise = draw("drift").standard_normal(cells.shape, dtype=np.float32) if devices.drift_spread else np.float32(0)
    exponent = np.maximum(devices.drift + devices.drift_spread * noise, 0)
    return np.asarray(cells * np.float32(devices.drift_time) ** -exponent, dtype=np.float32)


def tiles(
    shape: tuple[int, ...], crossbar: Crossbar, group: int | None = None
) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """Yield row and column of each crossbar that a matrix fills, and the part of the matrix in it.

    group: inputs of a group, of which a crossbar holds whole ones, or a part of one.
    """
    for row, rows in enumerate(spans(shape[0], crossbar.rows, group)):
        for col, left in enumerate(range(0, shape[1], crossbar.cols)):
            yield row, col, (rows, slice(left, left + crossbar.cols))


def spans(fan_in: int, rows: int, group: int | None = None) -> Iterator[slice]:
    """Yield the inputs of each crossbar of so many rows."""
    whole = fan_in if group is None or group <= rows else group
    step = rows if group is None or group > rows else rows // group * group
    for start in range(0, fan_in, whole):
        yield from (slice(top, min(top + step, start + whole)) for top in range(start, start + whole, step))
