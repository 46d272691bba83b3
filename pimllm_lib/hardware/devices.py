"""How real cells and converters depart from ideal ones. The cost model does not ask; the analog engine does."""

from __future__ import annotations

from typing import Any

import numpy as np

from pimllm_lib.core.parts import Name, Table, Value, declare, numeric, part, require
from pimllm_lib.core.rules import AT_LEAST_0, CHANCE, FLAG, POSITIVE, Rule, choice, needs, number

#: Laws of conductance variation; ways to work out the drop along wires; what sets a converter's range.
LAWS = ("normal", "lognormal")
DROPS = ("ladder", "first-order")
#: Where the two cells of a pair lie: in arrays of their own, or in neighbouring columns, on the same word lines.
PLACES = ("apart", "side-by-side")
RANGES = ("ideal", "worst-case", "fixed", "sigmas", "quantile")
ENCODINGS = ("twos-complement", "sign-magnitude")
SENSINGS = ("pair", "column")


_ONE = needs("one value, no axis", lambda value: np.ndim(value) == 0)
_COLUMNS = AT_LEAST_0 + number("a whole number of columns", whole=True)
_UP_TO_1 = POSITIVE + number("a share above 0, up to 1", le=1)
_FROM_1 = POSITIVE + number("at least 1, where drift starts", ge=1)


def _one(rule: Rule, meaning: str, **default: Any) -> Any:
    """Declare a field that takes no axis: the engine draws one crossbar at a time, and a study varies it from outside."""
    return declare(_ONE + rule, meaning, **default)


def _finite(item: Any, field: str, value: Any) -> None:
    require(isinstance(value, tuple), f"Devices.{field}", value, "a list of numbers")
    for one in value:
        numeric(f"Devices.{field}", one, "numbers")
        require(np.isfinite(one), f"Devices.{field}", one, "finite numbers")


@part
class Devices:
    """The statistics of cells as they are programmed and read. The default is ideal cells.

    A programmed conductance has the two standard deviations of `variation` and `curve_siemens`, added in squares. Its drift
    is never below 0. A compensated matrix has one gain, its programmed over its present sum of conductances.
    """

    name: str
    variation: Value = _one(AT_LEAST_0, "standard deviation of a programmed conductance over its target", default=0.0)
    law: Name = _one(
        choice(LAWS), """law of the variation: "normal", cut at 0, or "lognormal" of the same mean""", default="normal"
    )
    curve_siemens: Table = declare(
        (_finite,), "published standard deviation: coefficients of the powers of target / full_siemens", default=()
    )
    full_siemens: Value = _one(POSITIVE, "where on `curve_siemens` an on-cell is taken to lie", default=1.0)
    stuck_off: Value = _one(CHANCE, "chance of a cell to be stuck at its high resistance", default=0.0)
    stuck_on: Value = _one(CHANCE, "chance of a cell to be stuck at its low resistance", default=0.0)
    read_noise: Value = _one(AT_LEAST_0, "relative standard deviation of a cell's current at each read", default=0.0)
    flicker: Value = _one(
        AT_LEAST_0,
        "1/f noise: that deviation over the root of ln((t + t_read) / 2 t_read), t the time of `drift_time`",
        default=0.0,
    )
    read_time: Value = _one(POSITIVE, "t_read, what a read takes, over the time `drift_time` counts in", default=1.0)
    output_noise: Value = _one(
        AT_LEAST_0, "standard deviation of the current a converter sees, in on-cell currents", default=0.0
    )
    drift: Value = _one(AT_LEAST_0, "mean of the exponent by which conductance falls with time", default=0.0)
    drift_spread: Value = _one(AT_LEAST_0, "standard deviation over cells of the exponent of drift", default=0.0)
    drift_time: Value = _one(
        _FROM_1, "time since programming over that at which the exponent starts to count (1: no drift)", default=1.0
    )
    compensated: Value = _one(FLAG, "drift is compensated for", default=False)
    spares: Value = _one(
        _COLUMNS,
        "columns beside a crossbar's, each in the place of one with more cells stuck at a wrong value",
        default=0,
    )
    wire_ohm: Value = _one(AT_LEAST_0, "resistance of a bit line from cell to cell", default=0.0)
    word_ohm: Value = _one(AT_LEAST_0, "resistance of a word line from cell to cell", default=0.0)
    pairs: Name = _one(
        choice(PLACES),
        """where the cells of a pair lie: "apart", in arrays of their own, or "side-by-side", in neighbouring columns""",
        default="apart",
    )
    drop: Name = _one(
        choice(DROPS),
        "how the drop along wires is worked out, one of `DROPS`, see `analog.crossbar.wires`",
        default="ladder",
    )

    @property
    def reading(self) -> float:
        """Return the relative standard deviation of a cell's current at a read, that of all times and 1/f noise together.

        1/f noise has accumulated since a cell was written, over the decades up to the time of the read.
        Source: Joshi et al. 2020, as aihwkit's pcm.py has it.
        """
        since = np.log1p((self.drift_time - self.read_time) / (2 * self.read_time))
        return float(np.hypot(self.read_noise, self.flicker * np.sqrt(max(since, 0.0))))

    def __post_init__(self) -> None:
        """Refuse more stuck cells than there are."""
        both = self.stuck_off + self.stuck_on
        require(both <= 1, "Devices.stuck_off and stuck_on together", both, "a chance from 0 to 1")


@part
class Readout:
    """How activations become pulses and the currents of a column become numbers.

    encoding: "twos-complement" planes, of which the top one counts negative, or "sign-magnitude", whose pulses have the
    activation's sign; each plane is as many bits as the crossbar's DAC applies at once. sensing: a differential pair is
    subtracted before conversion ("pair") or each "column" is converted. range: "ideal" converters do not round;
    "worst-case" takes every row on; "fixed" makes a step lsb on-cell currents; "sigmas" and "quantile" take so many standard
    deviations, or that quantile of the magnitude, of a matrix's sums in calibration.
    """

    name: str
    encoding: Name = _one(choice(ENCODINGS), "the planes an activation is cut into", default="sign-magnitude")
    sensing: Name = _one(choice(SENSINGS), "what is converted of a differential pair", default="pair")
    range: Name = _one(choice(RANGES), "what sets the full scale of a converter", default="ideal")
    lsb: Value = _one(POSITIVE, "step of a converter of fixed range, in on-cell currents", default=1.0)
    sigmas: Value = _one(POSITIVE, "full scale in standard deviations of sums, for range `sigmas`", default=4.0)
    quantile: Value = _one(_UP_TO_1, "quantile of sums' magnitude at full scale, for range `quantile`", default=0.9999)
    inl: Value = _one(number("a number of steps"), "bow of the transfer curve, in steps", default=0.0)
    dnl: Value = _one(AT_LEAST_0, "standard deviation of the steps of the transfer curve, in steps", default=0.0)
    softmax_bits: Value = _one(
        number("1 to 15 bits", ge=1, le=15, whole=True), "bits of a softmax output that is applied to cells", default=8
    )
