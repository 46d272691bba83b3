"""Numbers as sentences, tables and figures write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pimllm_lib.core.units import UNITS, si_unit

#: Between thousands: no line breaks there.
THIN = "\N{NARROW NO-BREAK SPACE}"
#: Digits -> the same as exponents.
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Code, or a number with an exponent that is no part of a name: sign, digits and exponent.
_PRINTED = re.compile(r"`[^`]*`|(?<![\w./+-])([-+]?)(\d[\d.]*)e([-+]\d{2,3})\b(?!-)")


def number(value: Any, digits: int = 3) -> str:
    """Return a number with so many digits that count or, from a thousand on, whole, its thousands apart.

    >>> number(12287.4), number(0.8226), number(160, 2)
    ('12\\u202f287', '0.823', '160')
    """
    plain = float(f"{value:.{digits}g}")
    return f"{plain:g}" if abs(plain) < 1000 else f"{value:,.0f}".replace(",", THIN)


def rounded(value: float, digits: int = 2) -> str:
    """Return a number with so many digits that count and zeros after them, its thousands apart.

    >>> rounded(9612), rounded(0.1849)
    ('9\\u202f600', '0.18')
    """
    return number(float(f"{value:.{digits}g}"), digits)


def power(value: float) -> str:
    """Return a digit and a power of ten, or a number that needs none, as an axis shows it.

    >>> power(1e-6), power(2e-6), power(100.0)
    ('10⁻⁶', '2·10⁻⁶', '100')
    """
    return raised(f"{value:g}" if 1e-3 <= value <= 1e4 else f"{value:.0e}")


def raised(printed: str) -> str:
    """Return what a program prints with each power of ten as a reader knows it; names and code stay as they are.

    >>> raised("5.1e-09"), raised("1e+06 to -2e+06 s"), raised("x-1e-07 at `--set x 1e-07`")
    ('5.1·10⁻⁹', '10⁶ to -2·10⁶ s', 'x-1e-07 at `--set x 1e-07`')
    """
    return _PRINTED.sub(_power, printed)


def _power(found: re.Match[str]) -> str:
    sign, digits, exponent = found.groups()
    if exponent is None:
        return found[0]
    return sign + ("" if digits == "1" else f"{digits}·") + "10" + str(int(exponent)).translate(_RAISED)


def apart(printed: str) -> str:
    """Return a number with its digits as they are, the thousands of one from ten thousand on apart.

    >>> apart("1600000"), apart("38.65"), apart("10234.80")
    ('1\\u202f600\\u202f000', '38.65', '10\\u202f234.80')
    """
    large = re.fullmatch(r"([1-9]\d{4,})(\.\d+)?", printed)
    return f"{int(large[1]):,}".replace(",", THIN) + (large[2] or "") if large else printed


def percent(share: float, unit: str = " %") -> str:
    """Return a share in % with two or three digits.

    >>> percent(0.00123), percent(0.1234), percent(1.8349)
    ('0.12 %', '12.3 %', '183 %')
    """
    value = 100 * share
    return (f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.{2 if abs(value) < 9.95 else 3}g}") + unit


def frequency(share: Any) -> str:
    """Return how often something is so, in %: whole, with the digit that tells it from never and from always.

    >>> frequency(0.0049), frequency(0.382), frequency(0.9996)
    ('0.49 %', '38 %', '99.96 %')
    """
    value = 100 * float(share)
    digits = ".2g" if 0 < value < 1 else ".4g" if 99 < value < 100 else ".0f"
    return f"{value:{digits}} %"


def span(values: Any, form: str | Callable[[float], str] = ".3g") -> str:
    """Return the least and the greatest of some values, or the one that both are written as; form: how.

    >>> span([3.14159, 2.71828], ".1f"), span([1.0, 1.0])
    ('2.7 to 3.1', '1')
    """
    low, high = (_in_form(float(end(values)), form) for end in (np.nanmin, np.nanmax))
    return low if low == high else f"{low} to {high}"


def listed(items: Iterable[Any], form: str = "") -> str:
    """Return items as a sentence lists them.

    >>> listed([0.25, 0.5, 1], ".2g")
    '0.25, 0.5 and 1'
    """
    *most, last = (f"{item:{form}}" for item in items)
    return f"{', '.join(most)} and {last}" if most else last


def known(value: Any, form: str | Callable[[float], str] = ".3g", unit: str = "", *, otherwise: str = "") -> str:
    """Return a number, or other words where there is none.

    >>> known(0.5, ".2f", " x"), known(float("nan"), otherwise="never")
    ('0.50 x', 'never')
    """
    return otherwise if np.isnan(value) else _in_form(float(value), form) + unit


def _in_form(value: float, form: str | Callable[[float], str]) -> str:
    return form(value) if callable(form) else f"{value:{form}}"


def tokens(count: float) -> str:
    """Return a number of tokens as it is said.

    >>> tokens(128), tokens(4096), tokens(2**20)
    ('128', '4k', '1M')
    """
    for size, letter in ((2**20, "M"), (2**10, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}"


def with_unit(field: str, value: float) -> str:
    """Return a value of a field with the largest unit that keeps it at or above one.

    >>> with_unit("rate_hz", 8e8), with_unit("rows", 256)
    ('800 MHz', '256')
    """
    si = si_unit(field)
    if si == "1" or value == 0:
        return number(value)
    fitting = sorted(((factor, symbol) for symbol, (unit, factor) in UNITS.items() if unit == si), reverse=True)
    factor, symbol = next(((f, s) for f, s in fitting if value / f >= 1 - 1e-9), fitting[-1])
    return f"{number(value / factor)} {unit_shown(symbol)}"


def unit_shown(unit: str) -> str:
    """Return a unit as readers know it.

    >>> unit_shown("um2"), unit_shown("uW"), unit_shown("GB/s")
    ('µm²', 'µW', 'GB/s')
    """
    return re.sub("^u", "µ", unit).replace("m2", "m²")
