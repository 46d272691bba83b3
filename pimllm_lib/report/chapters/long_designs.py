"""Chapter 10: the smallest change of the published hybrid that keeps its rate, in the area that its digital half has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, remedies
from pimllm_lib.axes import axis
from pimllm_lib.bounds import cache_floor
from pimllm_lib.hardware import System
from pimllm_lib.llm import Decoder
from pimllm_lib.parts import Value, with_fields
from pimllm_lib.report.chapters.long_context import CONVENTIONS
from pimllm_lib.schema import annotate
from pimllm_lib.support import digital_area
from pimllm_lib.system import evaluate

#: Rows and columns of an array, arrays, and groups of rows: all with 1024 PEs. The published one is first.
SHAPES: dict[str, tuple[int, int, int, int]] = {
    "32 x 32": (32, 32, 1, 1),
    **{f"32 x 32, {groups} row groups": (32, 32, 1, groups) for groups in (2, 4, 8, 16, 32)},
    "16 x 64": (16, 64, 1, 1),
    "16 x 64, 16 row groups": (16, 64, 1, 16),
    "8 x 128": (8, 128, 1, 1),
    "1 x 1024": (1, 1024, 1, 1),
    "four of 16 x 16": (16, 16, 4, 1),
    "sixteen of 8 x 8": (8, 8, 16, 1),
}
#: Knob -> its values, the published one first.
KNOBS: dict[str, list[Any]] = {
    "shape": list(SHAPES),
    "clock": [100e6, 200e6, 300e6, 400e6, 500e6, 600e6, 700e6, 800e6],
    "overlap": [0, 1],
    "packed": [0, 1],
    "splits": [1, 2, 4, 8],
    "dataflow": ["os", "ws", "is"],
    "kv_bits": [8, 4, 3],
    "memory": ["lpddr5-6400", "lpddr5x-8533", "lpddr4-4266"],
    "lanes": [32, 64, 128],
}
#: Knobs whose change alters what is computed, or what has to be bought beside the chip.
BEYOND = ("kv_bits", "memory")
#: An on-chip memory is not made smaller than so much of the published one.
LEAST_SRAM = 0.125


@dataclass(frozen=True)
class Space:
    """All designs at once: the machine with an axis for each knob, and how many knobs of each differ from the published one."""

    system: System
    changes: xr.DataArray


def space() -> Space:
    """Return every combination of `KNOBS` with the area of the published digital half: what the array and the ports take
    more, the on-chip memory has less of, in capacity, leakage and area alike.
    """
    home = remedies.provisioned(catalog.systems["pim-llm"])
    assert home.sram is not None
    given = {name: axis(**{name: values}) for name, values in KNOBS.items()}
    system = with_fields(home, _shaped(given["shape"]) | _clocked(home, given["clock"]) | _stored(given["kv_bits"]) | {
        "array.overlap": given["overlap"], "array.dataflow": given["dataflow"],
        "decoding.pack_heads": given["packed"], "decoding.splits": given["splits"],
        "dram.bandwidth_bps": _of_parts(given["memory"], "bandwidth_bps"),
        "dram.bit_j": _of_parts(given["memory"], "bit_j"), "nonlinear.lanes": given["lanes"],
        "nonlinear.area_m2": home.nonlinear.area_m2 * given["lanes"] / home.nonlinear.lanes,
    })  # fmt: skip
    system = remedies.provisioned(system)
    left = 1 - (area(system) - area(home)) / home.sram.area_m2
    scale = left.clip(min=LEAST_SRAM)
    grown = ("inputs_bytes", "weights_bytes", "results_bytes", "leakage_w", "area_m2")
    system = with_fields(system, {f"sram.{name}": getattr(home.sram, name) * scale for name in grown})
    changes = sum((given[name] != values[0]) * 1 for name, values in KNOBS.items())
    return Space(system, changes.where(left >= LEAST_SRAM))


def area(system: System) -> Value:
    """Return the area of the digital half."""
    return sum(value for *_, value in digital_area(system))


def _shaped(shape: xr.DataArray) -> dict[str, Any]:
    columns = np.array(list(SHAPES.values())).T
    fields = ("array.rows", "array.cols", "array.arrays", "array.row_groups")
    return {field: shape.copy(data=column) for field, column in zip(fields, columns, strict=True)}


def _clocked(home: System, clock: xr.DataArray) -> dict[str, Any]:
    """Return the array at a clock: energies and areas lie between those of the two catalog arrays, linear in the clock."""
    fast, slow = catalog.parts["edge-32x32-800mhz"], home.array
    share = (clock - slow.rate_hz) / (fast.rate_hz - slow.rate_hz)
    names = ("active_pe_energy_j", "idle_pe_energy_j", "pe_area_m2", "group_area_m2", "group_pe_energy_j", "shadow_area_m2",
             "shadow_j")  # fmt: skip
    between = {f"array.{n}": getattr(slow, n) + share * (getattr(fast, n) - getattr(slow, n)) for n in names}
    return between | {"array.rate_hz": clock, "array.measured_cycle_energy_j": 0.0}


def _stored(bits: xr.DataArray) -> dict[str, Any]:
    changed = remedies.kv_bits(bits)
    return changed | {"storage.kv_group": xr.where(bits < KNOBS["kv_bits"][0], changed["storage.kv_group"], np.inf)}


def _of_parts(names: xr.DataArray, field: str) -> xr.DataArray:
    return names.copy(data=[getattr(catalog.parts[str(name)], field) for name in names.values])


def search(model: Decoder, *, kept: float, near: int, at: int) -> xr.Dataset:
    """Return rates of all designs at a context, and the rate they are to reach: the published one at `near`, times `kept`.

    design_tokens_per_s, design_tokens_per_j: along the knobs; target_tokens_per_s; changes: knobs that differ, NaN where a
    design does not fit the area.
    """
    every = space()
    ds = evaluate(system=every.system, model=model, context_len=at, conventions=CONVENTIONS,
                  variables=["latency_s", "energy_j"])  # fmt: skip
    home = evaluate(system=remedies.provisioned(catalog.systems["pim-llm"]), model=model, context_len=near,
                    conventions=CONVENTIONS, variables=["latency_s"])  # fmt: skip
    cost = ds.squeeze(["system", "model", "context_len"], drop=True)
    found = xr.Dataset({
        "design_tokens_per_s": 1 / cost.latency_s, "design_tokens_per_j": 1 / cost.energy_j,
        "target_tokens_per_s": kept / home.latency_s.squeeze(drop=True), "changes": every.changes,
    })  # fmt: skip
    return found
