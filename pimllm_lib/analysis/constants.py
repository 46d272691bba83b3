"""Constants of the catalog beside what other tools say of the same part, from the archived tables of data/peers/.

`NEIGHBOURS` says which constant stands beside what; `SEARCHED` says, of those assumed or fitted that have no neighbour, why
the tools that were searched have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pimllm_lib import catalog
from pimllm_lib.analysis.standing import CELLS
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.paths import DATA
from pimllm_lib.core.units import UNITS
from pimllm_lib.costs.crossbar import cell_power

#: What was searched, with its version.
TOOLS = (
    "hwcomponents 1.0.114 with -adc 1.0.21, -cacti 1.0.40 (CACTI 7), -neurosim 1.0.43 (NeuroSim 1.3) and -library 1.0.58",
    "AccelForge 1.0.467 with the architectures and cells it ships",
)
#: Words that name one of them in the catalog, where a value outside of a range is argued with.
NAMES = ("hwcomponents", "CACTI", "NeuroSim", "Aladdin", "AccelForge", "NVSim", "ISAAC")


class Neighbour(NamedTuple):
    """A constant beside a quantity of named lines of data/peers/, converted by a factor in SI units.

    constant: "part.field"; at: which entry of a list; said: how the lines are called on the page, where they are several;
    how: what the factor is; power: -1 where ours is one over theirs.
    """

    group: str
    constant: str
    names: tuple[str, ...]
    quantity: str
    factor: Callable[[], float] = lambda: 1.0
    how: str = ""
    at: int | None = None
    said: str = ""
    power: int = 1


def _cacti(kib: int, node: int, bits: int, cells: Iterable[str] = CELLS, kelvin: tuple[int, ...] = (300,)) -> Any:
    return tuple(f"sram-{kib}KiB-{node}nm-{bits}bit-{cell}-{k}K" for cell in cells for k in kelvin)


def _buffers() -> Iterator[Neighbour]:
    """Yield the buffer table beside CACTI: smallest, middle, largest."""
    for at, kib in ((0, 2), (2, 8), (5, 64)):
        for field in ("read_j", "write_j", "area_m2"):
            said = f"{kib} KiB, 64-bit port, 90 nm, 300 K: hp, lop, lstp"
            yield Neighbour("memory", f"buffer-90nm.{field}", _cacti(kib, 90, 64), field, at=at, said=said)
        for cell, kelvin in (("hp", 360), ("hp", 300), ("lop", 300), ("lstp", 300)):
            line = _cacti(kib, 90, 64, (cell,), (kelvin,))
            yield Neighbour("memory", "buffer-90nm.leakage_w", line, "leakage_w", at=at)


def _converters() -> Iterator[Neighbour]:
    """Yield the ADCs at each resolution, at the rates of the catalog."""
    for bits in (8, 6, 4):
        adc, line = f"adc-{bits}bit", (f"adc-{bits}bit-1280-45nm",)
        power, share = (lambda adc=adc: catalog.parts[adc].rate_hz), (lambda adc=adc: 1 / catalog.parts[adc].power_w)
        yield Neighbour("converters", f"{adc}.power_w", line, "convert_j", power, "energy of a conversion at our rate")
        yield Neighbour("converters", f"{adc}.area_m2", line, "area_m2")
        yield Neighbour("converters", f"{adc}.idle_share", line, "leakage_w", share, "leakage over our power")


def _adc(field: str) -> float:
    return float(getattr(catalog.parts["adc-8bit"], field))


_RATE = (lambda: _adc("rate_hz"), "energy of a conversion at our rate")
_READS = (lambda: catalog.parts["dac-1bit"].rate_hz, "energy of a row and read over our period of 1 ns")
_MULTIPLIED = ("aladdin-multiplier",)
NEIGHBOURS: tuple[Neighbour, ...] = (
    *_converters(),
    Neighbour("converters", "adc-8bit.power_w", ("adc-8bit-128-45nm",), "convert_j", *_RATE),
    Neighbour("converters", "adc-8bit.power_w", ("adc-8bit-1280-32nm",), "convert_j", *_RATE),
    Neighbour("converters", "adc-8bit.power_w", ("isaac-adc-32nm",), "convert_j", *_RATE),
    Neighbour("converters", "adc-8bit.power_w", ("isaac-adc-45nm",), "convert_j", *_RATE),
    Neighbour("converters", "adc-8bit.area_m2", ("adc-8bit-128-45nm",), "area_m2"),
    *(Neighbour("converters", "adc-8bit.area_m2", (line,), "area_m2") for line in ("adc-8bit-1280-32nm", "isaac-adc-45nm")),
    Neighbour("converters", "adc-8bit.idle_share", ("adc-8bit-128-45nm",), "leakage_w", lambda: 1 / _adc("power_w"),
              "leakage over our power"),
    Neighbour("converters", "adc-8bit.idle_share", ("isaac-adc-32nm",), "leakage_w"),
    Neighbour("converters", "dac-1bit.power_w", ("neurosim-row-mean", "neurosim-row-full"), "read_j", *_READS,
              said="RowDrivers, our array and cells, 45 nm; mean and all inputs"),
    Neighbour("converters", "dac-1bit.power_w", ("isaac-dac",), "convert_j", lambda: 1 / 100e-9,
              "energy over ISAAC's read of 100 ns"),
    Neighbour("converters", "dac-1bit.idle_share", ("neurosim-row-mean",), "leakage_w",
              lambda: 1 / (256 * catalog.parts["dac-1bit"].power_w), "leakage of 256 rows over the power of ours"),
    *_buffers(),
    Neighbour("memory", "buffer-90nm.access_s", _cacti(64, 90, 64), "access_s",
              said="64 KiB, 64-bit port, 90 nm: hp, lop, lstp"),
    Neighbour("memory", "sram-8mb.leakage_w", _cacti(8192, 45, 64, CELLS, (300, 360)), "leakage_w",
              said="8 MiB, 64-bit port, 45 nm: lstp at 300 K to hp at 360 K"),
    Neighbour("memory", "sram-8mb.bit_j", _cacti(4096, 45, 256), "read_j", lambda: 1 / 256, "a read over its bits",
              said="4 MiB, 256-bit port, 45 nm: hp, lop, lstp"),
    Neighbour("memory", "sram-8mb.bit_j", _cacti(8192, 45, 64), "read_j", lambda: 1 / 64, "a read over its bits",
              said="8 MiB, 64-bit port, 45 nm: hp, lop, lstp"),
    Neighbour("memory", "sram-8mb.area_m2", _cacti(8192, 45, 64), "area_m2",
              said="8 MiB, 64-bit port, 45 nm: hp, lop, lstp"),
    Neighbour("memory", "sram-8mb.port_rate_hz", _cacti(4096, 45, 256), "access_s",
              how="one over the access time", said="4 MiB, 256-bit port, 45 nm: hp, lop, lstp", power=-1),
    Neighbour("memory", "global-buffer.power_w", _cacti(64, 90, 64, ("hp",), (300, 360)), "leakage_w",
              said="64 KiB, 64-bit port, 90 nm, hp at 300 and 360 K"),
    Neighbour("memory", "global-buffer.area_m2", _cacti(64, 90, 64), "area_m2",
              said="64 KiB, 64-bit port, 90 nm: hp, lop, lstp"),
    *(Neighbour("memory", f"{part}.temperature_k", ("cacti-default",), "temperature_k")
      for part in ("buffer-90nm", "buffer-90nm-hp", "sram-8mb-hp")),
    Neighbour("memory", "lpddr4-4266.bit_j", ("lpddr4",), "bit_j"),
    Neighbour("arithmetic", "edge-32x32.active_pe_energy_j", ("aladdin-mac",), "compute_j"),
    Neighbour("arithmetic", "edge-32x32.idle_pe_energy_j", ("aladdin-mac",), "leakage_w",
              lambda: 1 / catalog.parts["edge-32x32"].rate_hz, "leakage over our period of 10 ns"),
    Neighbour("arithmetic", "edge-32x32.pe_area_m2", ("aladdin-mac",), "area_m2"),
    Neighbour("arithmetic", "edge-32x32.shadow_j", ("aladdin-register",), "move_j"),
    Neighbour("arithmetic", "edge-32x32.shadow_area_m2", ("aladdin-register",), "area_m2"),
    Neighbour("arithmetic", "periphery-mnsim.joint_w", ("neurosim-adder",), "compute_j",
              lambda: catalog.parts["periphery-mnsim"].rate_hz, "an addition over our period of 2 ns"),
    Neighbour("arithmetic", "periphery-mnsim.joint_w", ("neurosim-adder-tree",), "compute_j",
              lambda: catalog.parts["periphery-mnsim"].rate_hz / (3 * 2), "a sum of four over three adders and two periods"),
    Neighbour("arithmetic", "rescaler-16bit.area_m2", ("aladdin-mac",), "area_m2"),
    Neighbour("arithmetic", "units-consmax.layernorm_j", _MULTIPLIED, "compute_j", lambda: 2.0, "two multiplications"),
    Neighbour("arithmetic", "units-consmax.rmsnorm_j", _MULTIPLIED, "compute_j", lambda: 2.0, "two multiplications"),
    Neighbour("arithmetic", "units-consmax.gelu_j", _MULTIPLIED, "compute_j", how="one multiplication"),
    Neighbour("arithmetic", "units-consmax.silu_j", _MULTIPLIED, "compute_j", lambda: 2.0, "two multiplications"),
    Neighbour("crossbars", "rram-mnsim.read_duty", ("neurosim-cell-mean",), "read_j", lambda: _duty(),
              "energy of a read over that of ours at duty 1"),
    Neighbour("crossbars", "rram-mnsim.write_s", ("nvsim-rram",), "write_s"),
    Neighbour("crossbars", "rram-mnsim.write_s", ("accelforge-neurosim_default", "accelforge-neurram_nature_2022"),
              "write_s", said="cells rram_neurosim_default and rram_neurram_nature_2022, as shipped"),
    Neighbour("crossbars", "rram-mnsim.write_j", ("nvsim-rram",), "write_j"),
    Neighbour("crossbars", "bus-64bit.bit_j", ("isaac-bus",), "bit_j"),
)  # fmt: skip

#: Constants that lie apart from a neighbour and keep their range, where the catalog does not say why.
ARGUED: dict[str, str] = {
    "adc-8bit.idle_share": "no leakage was published of it, which the tool writes as none",
    "dac-1bit.idle_share": "leakage of drivers alone; ours has their latches and references",
}
_ACTIVITY = "what is computed, not a part: statistics of weights and inputs are given to these tools, as here"
_CHOICE = "a choice of whoever builds the machine; these tools take it as it is given"
_NO_DEVICE = "no tool searched has this device; those that have devices of its kind take them as they are given"
#: Constants without a neighbour, "part.field" or "Class.field", patterns allowed -> why no tool searched has one.
SEARCHED: dict[str, tuple[str, ...]] = {
    _CHOICE: (
        "Adc.periods", "Cell.bits", "Dram.capacity_bytes", "KvStore.capacity_bytes", "Pim.program_rows", "*Pim.woken",
        "Readout.*", "Speculation.draft_len", "Storage.*", "Sram.*_bytes", "Sram.port_bits", "SystolicArray.row_groups",
        "SystolicArray.rate_hz", "Nonlinear.lanes", "Nonlinear.rate_hz", "Nonlinear.softmax", "Bus.rate_bps",
        "Rescaler.scale_bits", "Rescaler.per_crossbar",
        "Bus.issue_s",
    ),
    _ACTIVITY: ("Cell.low_share", "rram-neurram.read_duty", "rram-yao2024.read_duty", "cell-*.read_duty"),
    "none of the tools lets cells wear, counts more than one pulse, or programs several rows at once": (
        "Cell.write_pulses", "Technology.*endurance", "Technology.*parallel", "Technology.cycles_per_write",
        "Technology.erase*", "Technology.half_select_j", "Technology.verify_j", "Technology.weibull_shape",
    ),
    _NO_DEVICE: (
        "Technology.leakage_w",
        "cell-*.area_m2", "cell-*.high_ohm", "cell-*.low_ohm", "cell-*.read_s", "cell-*.read_v", "cell-*.write_j",
        "cell-*.write_s", "Devices.*",
    ),
    "AccelForge gates all and charges no waking; power gating of CACTI 7 stops on an assertion in this build": (
        "*Pim.gated_share", "*Pim.wake_s", "*Pim.break_even_s",
    ),
    "none has a controller, an input distributor or post-processing of this kind": (
        "post-processing.*", "input-distributor.*", "controller.*", "global-buffer*.delay_s", "global-buffer*.idle_share",
    ),
    "off-chip memory is energy a bit there, of LPDDR4 and older only: no standby, no refresh, no LPDDR4X or 5": (
        "Dram.bandwidth_bps", "Dram.standby_w", "Dram.self_refresh_w", "Dram.bit_j",
    ),
    "fitted to CACTI 7: there, cells for high performance leak as the table says": ("buffer-90nm.rated_k",),
    "scaled here from a constant that has a neighbour": (
        "sram-6mb-ports.*", "edge-32x32-800mhz.*", "buffer-90nm-*.temperature_k", "sram-8mb-*.temperature_k",
    ),
    "no units for softmax or norms": ("Nonlinear.softmax_j", "Nonlinear.depth_s", "Nonlinear.area_m2"),
    "on-chip stores of keys and values with refresh: none": ("KvStore.bandwidth_bps", "KvStore.byte_standby_w"),
    "row groups of a systolic array and wide ports: these tools take energy and area of a PE or a port as given": (
        "SystolicArray.group_*", "Sram.port_bit_area_m2",
    ),
}  # fmt: skip


def sram() -> pd.DataFrame:
    """Return data/peers/cacti-sram.csv: an SRAM by size, node, port, cells and temperature, in SI units."""
    return pd.read_csv(DATA / "peers" / "cacti-sram.csv")


def said() -> pd.DataFrame:
    """Return what other tools say, by name and quantity: package, version, configuration, value in SI units."""
    lines, memories = pd.read_csv(DATA / "peers" / "constants.csv"), sram()
    each = list(memories.itertuples())
    memories = memories.assign(
        name=[
            f"sram-{m.size_bytes // 1024}KiB-{m.node_nm}nm-{m.port_bits}bit-{m.cell}-{m.temperature_k}K" for m in each
        ],
        configuration=[
            f"{m.size_bytes // 1024} KiB, {m.port_bits}-bit port, {m.node_nm} nm, {m.cell}, {m.temperature_k} K"
            for m in each
        ],
        package="CACTI",
        version="7",
    )
    quantities = ["access_s", "read_j", "write_j", "leakage_w", "area_m2"]
    known = ["name", "package", "version", "configuration"]
    flat = memories.melt(known, quantities, "quantity", "value")
    return pd.concat([lines, flat]).set_index(["name", "quantity"]).sort_index()


def _duty() -> float:
    """Return one over the energy of a read of the catalog's cell with every input on, in 1/J."""
    bar = catalog.parts["crossbar-256"]
    return float(bar.cell.read_duty / (cell_power(bar) * bar.cell.read_s))


def beside() -> pd.DataFrame:
    """Return a row for each neighbour: our constant, its range, theirs in the same unit, inside or outside.

    verdict: "inside" or "outside" of our range, "partly" for several values of which some are, "no range" where a literature
    value has none. theirs: the smallest and the largest of what is said.
    """
    told, rows = said(), []
    for one in NEIGHBOURS:
        part, field = one.constant.split(".")
        entry = catalog.parts.entries[part][field]
        value = entry["value"] if one.at is None else entry["value"][one.at]
        unit = UNITS[entry["unit"]][1]
        found = told.loc[[(name, one.quantity) for name in one.names]]
        theirs = found.value.to_numpy() ** one.power * one.factor() / unit
        line = found.iloc[0]
        rows.append(
            {
                "group": one.group, "constant": one.constant, "at": one.at, "ours": value, "si": unit,
                "status": entry["status"], "range": entry.get("range"), "low": theirs.min(), "high": theirs.max(),
                "tool": f"{line.package} {line.version}", "how": one.how,
                "configuration": one.said or line.configuration, "verdict": _verdict(entry.get("range"), theirs),
                "why": entry.get("where") or entry["note"],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _verdict(span: Any, theirs: Any) -> str:
    if span is None:
        return "no range"
    inside = (theirs >= span[0] * 0.99) & (theirs <= span[1] * 1.01)  # ends are rounded
    return "inside" if np.all(inside) else "partly" if np.any(inside) else "outside"


def ours() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield part, field and entry of every constant of the catalog that is assumed or fitted."""
    for part, table in catalog.parts.entries.items():
        for field, entry in table.items():
            if isinstance(entry, dict) and entry["status"] in ("assumed", "fitted"):
                yield part, field, entry


def without() -> dict[str, list[str]]:
    """Return the assumed and fitted constants that have no neighbour, by why none of the tools has one.

    A constant has a neighbour where it, or one of the same class and field and the same value, stands beside one. Raises
    BadInput for one that has neither a neighbour nor a reason.
    """
    entries = catalog.parts.entries
    near = {one.constant for one in NEIGHBOURS}
    known = {(entries[p]["part"], f, str(entries[p][f]["value"])) for p, f in (name.split(".") for name in near)}
    found: dict[str, list[str]] = {reason: [] for reason in SEARCHED}
    for part, field, entry in ours():
        kind = entries[part]["part"]
        if (kind, field, str(entry["value"])) not in known and f"{part}.{field}" not in near:
            found[_reason(f"{part}.{field}", f"{kind}.{field}")].append(f"{part}.{field}")
    return found


def _reason(constant: str, field: str) -> str:
    for reason, patterns in SEARCHED.items():
        if any(fnmatch(name, pattern) for pattern in patterns for name in (constant, field)):
            return reason
    raise BadInput(f"{constant} has no neighbour; wanted it in constants.NEIGHBOURS or constants.SEARCHED")
