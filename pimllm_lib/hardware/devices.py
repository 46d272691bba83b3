"""How real cells and converters depart from ideal ones. The cost model does not ask; the analog engine does."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import Name, Table, Value, numeric, part, require, require_flags, require_positive

#: Laws of conductance variation; ways to work out the drop along a bit line; what sets a converter's range.
LAWS = ("normal", "lognormal")
DROPS = ("ladder", "first-order")
RANGES = ("ideal", "worst-case", "fixed", "sigmas", "quantile")
ENCODINGS = ("twos-complement", "sign-magnitude")
SENSINGS = ("pair", "column")


@part
class Devices:
    """The statistics of cells as they are programmed and read. The default is ideal cells.

    variation: standard deviation of a programmed conductance over its target, drawn from `law` ("normal", cut at 0, or
    "lognormal" of the same mean); curve_siemens: a published standard deviation as coefficients of the powers of
    G / full_siemens, G being the target, where an on-cell is taken to lie at full_siemens; both add in squares.
    stuck_off, stuck_on: chance of a cell to be stuck at its high and at its low resistance. read_noise: standard deviation
    of a cell's current over its mean, drawn at each read; output_noise: that of the current a converter sees, in on-cell
    currents. drift, drift_spread: mean and standard deviation over cells of the exponent by which conductance falls with
    time, never below 0; drift_time: time since programming over the time at which the exponent starts to count (1: no
    drift); compensated: one gain a matrix, its programmed over its present sum of conductances. spares: columns beside
    those of a crossbar, each in the place of one where a test finds more cells stuck at a wrong value. wire_ohm: resistance
    of a bit line from cell to cell; drop: how its loss is worked out, "ladder" or "first-order", see `analog.wires`.
    """

    name: str
    variation: Value = 0.0
    law: Name = "normal"
    curve_siemens: Table = ()
    full_siemens: Value = 1.0
    stuck_off: Value = 0.0
    stuck_on: Value = 0.0
    read_noise: Value = 0.0
    output_noise: Value = 0.0
    drift: Value = 0.0
    drift_spread: Value = 0.0
    drift_time: Value = 1.0
    compensated: Value = False
    spares: Value = 0
    wire_ohm: Value = 0.0
    drop: Name = "ladder"

    def __post_init__(self) -> None:
        """Refuse statistics that no cell can have."""
        _plain(self, ("curve_siemens",))
        spreads = ("variation", "read_noise", "output_noise", "drift", "drift_spread", "wire_ohm")
        require_positive(self, spreads, or_zero=True)
        require_positive(self, ("full_siemens", "drift_time"))
        for name in ("stuck_off", "stuck_on"):
            require_positive(self, (name,), or_zero=True)
            require(getattr(self, name) <= 1, f"Devices.{name}", getattr(self, name), "a chance from 0 to 1")
        both = self.stuck_off + self.stuck_on
        require(both <= 1, "Devices.stuck_off and stuck_on together", both, "a chance from 0 to 1")
        require(self.drift_time >= 1, "Devices.drift_time", self.drift_time, "at least 1, where drift starts")
        _listed(self, law=LAWS, drop=DROPS)
        require_positive(self, ("spares",), or_zero=True)
        require(self.spares % 1 == 0, "Devices.spares", self.spares, "a whole number of columns")
        require_flags(self, ("compensated",))
        require(isinstance(self.curve_siemens, tuple), "Devices.curve_siemens", self.curve_siemens, "a list of numbers")
        for value in self.curve_siemens:
            numeric("Devices.curve_siemens", value, "numbers")
            require(np.isfinite(value), "Devices.curve_siemens", value, "finite numbers")


@part
class Readout:
    """How activations become pulses and the currents of a column become numbers.

    encoding: "twos-complement" planes, of which the top one counts negative, or "sign-magnitude", whose pulses have the
    activation's sign; each plane is as many bits as the crossbar's DAC applies at once. sensing: a differential pair is
    subtracted before conversion ("pair") or each "column" is converted. range: what sets the converter's full scale:
    "ideal" converters do not round; "worst-case" takes every row on; "fixed" makes a step lsb on-cell currents; "sigmas" and
    "quantile" take so many standard deviations, or that quantile of the magnitude, of a matrix's sums in calibration.
    inl, dnl: bow of the transfer curve and standard deviation of its steps, in steps. softmax_bits: bits of a softmax output
    that is applied to values in cells.
    """

    name: str
    encoding: Name = "sign-magnitude"
    sensing: Name = "pair"
    range: Name = "ideal"
    lsb: Value = 1.0
    sigmas: Value = 4.0
    quantile: Value = 0.9999
    inl: Value = 0.0
    dnl: Value = 0.0
    softmax_bits: Value = 8

    def __post_init__(self) -> None:
        """Refuse a readout that cannot exist."""
        _plain(self, ())
        _listed(self, encoding=ENCODINGS, sensing=SENSINGS, range=RANGES)
        require_positive(self, ("lsb", "sigmas", "quantile"))
        require(self.quantile <= 1, "Readout.quantile", self.quantile, "a share above 0, up to 1")
        require_positive(self, ("dnl",), or_zero=True)
        numeric("Readout.inl", self.inl, "a number of steps")
        numeric("Readout.softmax_bits", self.softmax_bits, "1 to 15 bits")
        whole = self.softmax_bits % 1 == 0
        require(whole and 1 <= self.softmax_bits <= 15, "Readout.softmax_bits", self.softmax_bits, "1 to 15 bits")


def _listed(item: object, **valid: Iterable[str]) -> None:
    for name, names in valid.items():
        if (got := getattr(item, name)) not in names:
            raise unknown(f"{type(item).__name__}.{name}", got, names)


def _plain(item: object, tables: Iterable[str]) -> None:
    """Refuse axes: the engine draws one crossbar at a time, and a study varies it from outside."""
    for name in item.__dataclass_fields__:  # type: ignore[attr-defined]
        value = getattr(item, name)
        if name not in tables and np.ndim(value):
            raise BadInput(f"{type(item).__name__}.{name} is {clip(value)}; wanted one value, no axis")
