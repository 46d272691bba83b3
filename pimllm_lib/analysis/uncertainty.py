"""Uncertain constants of the catalog as distributions: which are drawn, by which law, and which of them together.

A range in the catalog says between which values a constant may lie, and nothing of what lies between. One rule serves
all: where the lower end is above 0 and the upper at least twice as large, the order of magnitude is what is not known,
and the logarithm is uniform; else the value is. Counts are rounded. A constant without a range is held.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.catalog.quantities import quantity
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import inside, places, with_fields
from pimllm_lib.hardware import System

#: The machines compared. The first is the baseline.
SYSTEMS = ("tpu-llm", "pim-llm")
#: Class of a part -> those of its ranged fields that are drawn. A ranged field is here or in `LEFT_OUT`.
DRAWN: dict[str, tuple[str, ...]] = {
    "SystolicArray": ("pe_area_m2",),
    "Cell": ("low_ohm", "high_ohm", "read_duty", "read_s", "write_s", "write_j", "write_pulses"),
    "Dac": ("power_w", "idle_share"),
    "Adc": ("rate_hz", "power_w", "area_m2", "idle_share"),
    "Periphery": ("joint_w",),
    "Buffer": ("access_s", "temperature_k"),
    "Auxiliary": ("power_w", "delay_s", "area_m2", "idle_share"),
    "Pim": ("program_rows", "gated_share", "wake_s", "break_even_s"),
    "Sram": ("bit_j", "leakage_w", "area_m2", "temperature_k"),
    "Dram": ("bandwidth_bps", "bit_j", "standby_w"),
    "Nonlinear": (
        "lanes", "rate_hz", "softmax_j", "layernorm_j", "rmsnorm_j", "gelu_j", "silu_j", "depth_s", "area_m2",
    ),
    "Bus": ("rate_bps", "bit_j", "issue_s"),
}  # fmt: skip
_REMEDY = (
    "it is the price of a remedy for long contexts: none is in the machines compared, and it moves area and energy only"
)
_FITTED = "the published array is charged the energy a cycle it was reported with; this one is for other shapes"
#: Ranged fields that are not drawn -> why: decisions of whoever builds the machine, and what enters nothing here.
LEFT_OUT: dict[str, str] = {
    "SystolicArray.active_pe_energy_j": _FITTED,
    "SystolicArray.idle_pe_energy_j": _FITTED,
    "Storage.weight_bits": "a choice among storage formats, each a part of the catalog",
    "Storage.head_bits": "a choice among storage formats of the output head",
    "Storage.sum_bits": "the width of an accumulator, chosen so that sums fit",
    "SystolicArray.group_area_m2": _REMEDY,
    "SystolicArray.group_pe_energy_j": _REMEDY,
    "SystolicArray.shadow_area_m2": _REMEDY,
    "SystolicArray.shadow_j": _REMEDY,
    "Sram.port_bit_area_m2": _REMEDY,
    "Sram.port_rate_hz": _REMEDY,
    **dict.fromkeys(
        ("Rescaler.multiply_add_j", "Rescaler.area_m2", "Rescaler.scale_bits", "Rescaler.per_crossbar"),
        "of scales for groups of weights, which no model compared has",
    ),
    "Dram.self_refresh_w": "of pauses between answers, and none is in a token",
    "Dram.capacity_bytes": "the size of memory bought; it says whether a model fits and enters no cost",
}
#: What moves together -> constants that share one draw, and why. All others are independent.
TOGETHER: dict[str, tuple[tuple[str, ...], str]] = {
    "cell resistance": (
        ("rram-mnsim.low_ohm", "rram-mnsim.high_ohm"),
        "one device: both resistances grow as its cross-section shrinks, and on stays below off",
    ),
    "write pulse": (("rram-mnsim.write_s", "rram-mnsim.write_j"), "a longer pulse dissipates for longer"),
    "digital functions": (
        ("units-consmax.layernorm_j", "units-consmax.rmsnorm_j", "units-consmax.gelu_j", "units-consmax.silu_j"),
        "the same multipliers, adders and tables in one process, estimated in one way",
    ),
    "leakage of the process": (
        (
            "sram-8mb.leakage_w",
            "global-buffer.power_w",
            "adc-8bit.idle_share",
            "dac-1bit.idle_share",
            "buffer-90nm.temperature_k",
        ),
        "transistors that leak little, or are cool, do so in every part on the chip; the global buffer's power is leakage",
    ),
    "density of SRAM": (
        ("sram-8mb.area_m2", "global-buffer.area_m2"),
        "both are scaled from one entry of the buffer table",
    ),
}
_FACTOR = {name: together for together, (names, _) in TOGETHER.items() for name in names}
#: Most draws in one call: beyond that an evaluation no longer fits a laptop.
MOST = 1 << 20


@dataclass(frozen=True)
class Constant:
    """One uncertain constant: nominal value and range in SI units, the law between its ends, its status and source."""

    part: str
    field: str
    nominal: float
    low: float
    high: float
    log: bool
    whole: bool
    status: str
    source: str

    @property
    def name(self) -> str:
        """Part and field: "sram-8mb.leakage_w"."""
        return f"{self.part}.{self.field}"

    @property
    def law(self) -> str:
        """The law in words."""
        return ("log-uniform" if self.log else "uniform") + (", rounded" if self.whole else "")

    def at(self, share: Any) -> Any:
        """Return the value below which a share of the draws lies: the lower end at 0, the upper at 1."""
        value = self.low * (self.high / self.low) ** share if self.log else self.low + (self.high - self.low) * share
        return np.clip(np.rint(value) if self.whole else value, self.low, self.high)


def constants(systems: Sequence[str] = SYSTEMS) -> list[Constant]:
    """Return every constant that is drawn, of any part in catalog systems, once however many have it.

    Raises BadInput for a ranged constant of which nobody has decided whether to draw it.
    """
    machines = [catalog.system(name) for name in systems]
    names = dict.fromkeys(part.name for machine in machines for part in inside(machine))
    return [
        _constant(name, field, entry)
        for name in names
        for field, entry in catalog.parts.entries[name].items()
        if isinstance(entry, dict) and "range" in entry and _is_drawn(catalog.parts.entries[name]["part"], field)
    ]


def _is_drawn(kind: str, field: str) -> bool:
    if field not in DRAWN.get(kind, ()) and f"{kind}.{field}" not in LEFT_OUT:
        raise BadInput(f"{kind}.{field} has a range and stands nowhere; wanted it in uncertainty.DRAWN or LEFT_OUT")
    return field in DRAWN.get(kind, ())


def _constant(part: str, field: str, entry: dict[str, Any]) -> Constant:
    """Return a catalog entry as a distribution; the range is in the unit of the value."""
    printed = (entry["value"], *entry["range"])
    nominal, low, high = (quantity(part, field, entry | {"value": value}, "Value") for value in printed)
    whole = entry["unit"] == "1" and all(isinstance(value, int) for value in printed)
    log = low > 0 and high >= 2 * low
    return Constant(part, field, nominal, low, high, log, whole, entry["status"], entry["source"])


def factor(constant: Constant, apart: Collection[str] = ()) -> str:
    """Return what is drawn for a constant: the name of what it moves together with, else its own.

    apart: names of `TOGETHER` whose constants are drawn each for itself.
    """
    shared = _FACTOR.get(constant.name, constant.name)
    return constant.name if shared in apart else shared


def factors(drawn: Sequence[Constant], apart: Collection[str] = ()) -> list[str]:
    """Return what is drawn independently, in the order of the constants. Raises UnknownName for what is not together."""
    for name in apart:
        if name not in TOGETHER:
            raise unknown("constants that move together", name, TOGETHER)
    return list(dict.fromkeys(factor(constant, apart) for constant in drawn))


def shares(count: int, *, draws: int, seed: int) -> Any:
    """Return draws x count numbers between 0 and 1: a Latin hypercube.

    Raises BadInput for less than one draw or more than `MOST`, and a seed below 0 or above 32 bits.
    """
    for what, value, low, high in (("draws", draws, 1, MOST), ("seed", seed, 0, 2**32 - 1)):
        if type(value) is not int or not low <= value <= high:
            raise BadInput(f"{what} is {clip(value)}; wanted a whole number from {low} to {high}")
    from scipy.stats import qmc  # half a second, which chapters that draw nothing need not wait

    return qmc.LatinHypercube(count, rng=np.random.default_rng(seed)).random(draws)


def laid(drawn: Sequence[Constant], shares: Any, apart: Collection[str] = ()) -> dict[str, xr.DataArray]:
    """Return the value of each constant along `sample`, from a column of shares for each factor."""
    column = {name: shares[:, i] for i, name in enumerate(factors(drawn, apart))}
    return {constant.name: _along(constant.at(column[factor(constant, apart)])) for constant in drawn}


def sampled(
    drawn: Sequence[Constant], *, draws: int, seed: int, apart: Collection[str] = ()
) -> dict[str, xr.DataArray]:
    """Return draws of each constant along `sample`; see `shares` and `laid`."""
    return laid(drawn, shares(len(factors(drawn, apart)), draws=draws, seed=seed), apart)


def ends(drawn: Sequence[Constant]) -> dict[str, xr.DataArray]:
    """Return each constant alone at the lower, then at the upper end of its range, and last all nominal: 2 n + 1
    samples.
    """
    rows = np.repeat(np.array([[constant.nominal for constant in drawn]]), 2 * len(drawn) + 1, axis=0)
    for i, constant in enumerate(drawn):
        rows[2 * i : 2 * i + 2, i] = constant.low, constant.high
    return {constant.name: _along(rows[:, i]) for i, constant in enumerate(drawn)}


def _along(values: Any) -> xr.DataArray:
    return xr.DataArray(values, dims="sample", coords={"sample": np.arange(len(values))})


def machine(system: System, values: Mapping[str, Any]) -> System:
    """Return a system with each constant at its value wherever the system has the part; a draw is thus the same in all."""
    named = ((f"{path}.{f.name}", f"{part.name}.{f.name}") for path, part in places(system) for f in fields(part))
    return with_fields(system, {path: values[name] for path, name in named if name in values})


def machines(values: Mapping[str, Any]) -> list[System]:
    """Return the machines compared, with their constants at the given values. Raises UnknownName for one that none has."""
    systems = [catalog.systems[name] for name in SYSTEMS]
    known = {f"{part.name}.{f.name}" for system in systems for part in inside(system) for f in fields(part)}
    for name in values:
        if name not in known:
            raise unknown("constant of the machines compared", name, known)
    return [machine(system, values) for system in systems]
