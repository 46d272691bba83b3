"""Scale factors and the unit symbols a catalog or a user's TOML file may use. Nothing here computes."""

from __future__ import annotations

FEMTO, PICO, NANO, MICRO, MILLI = 1e-15, 1e-12, 1e-9, 1e-6, 1e-3
KILO, MEGA, GIGA = 1e3, 1e6, 1e9
KIB, MIB, GIB = 1024.0, 1024.0**2, 1024.0**3
HOUR, YEAR = 3600.0, 365.25 * 86400.0

#: Symbol -> (SI symbol, factor). "1" is a plain count.
UNITS: dict[str, tuple[str, float]] = {
    "1": ("1", 1.0),
    "Hz": ("Hz", 1.0), "kHz": ("Hz", KILO), "MHz": ("Hz", MEGA), "GHz": ("Hz", GIGA),
    "s": ("s", 1.0), "ms": ("s", MILLI), "us": ("s", MICRO), "ns": ("s", NANO), "ps": ("s", PICO),
    "J": ("J", 1.0), "uJ": ("J", MICRO), "nJ": ("J", NANO), "pJ": ("J", PICO), "fJ": ("J", FEMTO),
    "W": ("W", 1.0), "mW": ("W", MILLI), "uW": ("W", MICRO), "nW": ("W", NANO),
    "V": ("V", 1.0), "mV": ("V", MILLI),
    "ohm": ("ohm", 1.0), "kohm": ("ohm", KILO), "Mohm": ("ohm", MEGA),
    "S": ("S", 1.0), "uS": ("S", MICRO),
    "bit/s": ("bit/s", 1.0), "Mbit/s": ("bit/s", MEGA), "Gbit/s": ("bit/s", GIGA),
    "GB/s": ("bit/s", 8 * GIGA),
    "K": ("K", 1.0),
    "B": ("B", 1.0), "KiB": ("B", KIB), "MiB": ("B", MIB), "GiB": ("B", GIB), "GB": ("B", GIGA),
    "m2": ("m2", 1.0), "mm2": ("m2", 1e-6), "um2": ("m2", 1e-12),
}  # fmt: skip

#: The ending of a field's name -> its SI symbol. A field without one of these endings is a plain count.
SUFFIXES: dict[str, str] = {
    "_hz": "Hz", "_s": "s", "_j": "J", "_w": "W", "_v": "V", "_ohm": "ohm", "_siemens": "S",
    "_bps": "bit/s", "_bytes": "B", "_m2": "m2", "_k": "K",
}  # fmt: skip


def si_unit(field: str) -> str:
    """Return the SI symbol that a field's name ends in, "1" for a plain count.

    >>> si_unit("rate_hz"), si_unit("rows")
    ('Hz', '1')
    """
    return SUFFIXES.get(field[field.rfind("_") :], "1")
