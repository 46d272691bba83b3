"""Chapter 10: the smallest change of the published hybrid that keeps its rate, in the area that its digital half has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import xarray as xr

from pimllm_chapters.long_context.compute import CONVENTIONS, along
from pimllm_lib import catalog
from pimllm_lib.analysis import remedies, uncertainty
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value, with_fields
from pimllm_lib.core.schema import annotate
from pimllm_lib.engines.surroundings import digital_area
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.workload.decoder import Decoder

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
    """All designs at once: the machine with an axis for each knob, how many knobs of each differ from the published one
    (NaN where it does not fit the area), and what it leaves of the on-chip memory.
    """

    system: System
    changes: xr.DataArray
    sram_share: xr.DataArray


def space() -> Space:
    """Return every combination of `KNOBS` with the area of the published digital half.

    What the array and the ports take more, the on-chip memory has less of, in capacity, leakage and area alike.
    """
    home = remedies.provisioned(catalog.systems["pim-llm"])
    assert home.sram is not None
    assert home.nonlinear is not None
    given = {name: axis(**{name: values}) for name, values in KNOBS.items()}
    columns = zip(("rows", "cols", "arrays", "row_groups"), np.array(list(SHAPES.values())).T, strict=True)
    shapes = {f"array.{field}": given["shape"].copy(data=column) for field, column in columns}
    system = with_fields(home, shapes | _clocked(home, given["clock"]) | _stored(given["kv_bits"]) | {
        "array.overlap": given["overlap"], "array.dataflow": given["dataflow"],
        "decoding.pack_heads": given["packed"], "decoding.splits": given["splits"],
        "dram.bandwidth_bps": _of_parts(given["memory"], "bandwidth_bps"),
        "dram.bit_j": _of_parts(given["memory"], "bit_j"), "nonlinear.lanes": given["lanes"],
        "nonlinear.area_m2": given["lanes"] * (home.nonlinear.area_m2 or 0.0) / home.nonlinear.lanes,
    })  # fmt: skip
    system = remedies.provisioned(system)
    left = 1 - (area(system) - area(home)) / home.sram.area_m2
    scale = left.clip(min=LEAST_SRAM)
    grown = ("inputs_bytes", "weights_bytes", "results_bytes", "leakage_w", "area_m2")
    system = with_fields(system, {f"sram.{name}": getattr(home.sram, name) * scale for name in grown})
    changes = sum((given[name] != values[0]) * 1 for name, values in KNOBS.items())
    return Space(system, changes.where(left >= LEAST_SRAM), left)


def area(system: System) -> Value:
    """Return the area of the digital half."""
    return sum(value for *_, value in digital_area(system))


def _clocked(home: System, clock: xr.DataArray) -> dict[str, Any]:
    """Return the array at a clock: energies and areas lie between those of the two catalog arrays, linear in the clock."""
    fast, slow = catalog.parts["edge-32x32-800mhz"], home.array
    share = (clock - slow.rate_hz) / (fast.rate_hz - slow.rate_hz)
    names = ("active_pe_energy_j", "idle_pe_energy_j", "pe_area_m2", "group_area_m2", "group_pe_energy_j", "shadow_area_m2",
             "shadow_j")  # fmt: skip
    between = {f"array.{n}": getattr(slow, n) + share * (getattr(fast, n) - getattr(slow, n)) for n in names}
    return between | {"array.rate_hz": clock, "array.measured_cycle_energy_j": 0.0}


def _stored(bits: xr.DataArray) -> dict[str, Any]:
    changed = dict(remedies.kv_bits(bits))
    scaled = bits.values < KNOBS["kv_bits"][0]
    return changed | {"storage.kv_group": bits.copy(data=np.where(scaled, changed["storage.kv_group"], np.inf))}


def _of_parts(names: xr.DataArray, field: str) -> xr.DataArray:
    return names.copy(data=[getattr(catalog.parts[str(name)], field) for name in names.values])


def _rates(system: System, model: Decoder, context_len: int) -> xr.Dataset:
    """Return rate and efficiency of one model, along the axes of a machine."""
    ds = evaluate(system=system, model=model, context_len=context_len, conventions=CONVENTIONS,
                  variables=["latency_s", "energy_j"])  # fmt: skip
    cost = ds.squeeze(["system", "model", "context_len"], drop=True)
    return xr.Dataset({"tokens_per_s": 1 / cost.latency_s, "tokens_per_j": 1 / cost.energy_j})


def search(models: Sequence[Decoder], *, kept: float, near: int, at: int) -> xr.Dataset:
    """Return rate and efficiency of all designs at a context, and the rate they are to reach: dimensions model and knobs.

    design_tokens_per_s, design_tokens_per_j; own_tokens_per_s: the design's rate at `near`; target_tokens_per_s: the
    published machine's rate there, times `kept`.
    """
    every, home = space(), remedies.provisioned(catalog.systems["pim-llm"])

    def one(model: Decoder) -> xr.Dataset:
        there, short = _rates(every.system, model, at), _rates(every.system, model, near)
        return xr.Dataset({
            "design_tokens_per_s": there.tokens_per_s, "design_tokens_per_j": there.tokens_per_j,
            "own_tokens_per_s": short.tokens_per_s,
            "target_tokens_per_s": kept * _rates(home, model, near).tokens_per_s,
        })  # fmt: skip

    return along("model", {model.name: one(model) for model in models})


def smallest(models: Sequence[Decoder], *, kept: float, near: int, at: int) -> xr.Dataset:
    """Return the designs with the fewest changes that reach the target for every model, the most efficient first.

    Dimensions model and design, with what `search` returns; sram_share: what a design leaves of the on-chip memory;
    best_tokens_per_s: the rate of the fastest design of each cache and each memory, which only here may differ from the
    published ones. The labels say what is changed. Attributes points: designs tried; reaching: how many reach every
    target. Raises BadInput with the largest share that one keeps when none does.
    """
    every, found = space(), search(models, kept=kept, near=near, at=at)
    bought = (xr.DataArray(np.arange(len(KNOBS[name])) > 0, {name: KNOBS[name]}, name) for name in BEYOND)
    own = ~reduce(or_, bought) & every.changes.notnull()
    reached = (found.design_tokens_per_s >= found.target_tokens_per_s).all("model") & own
    if not reached.any():
        most = (found.design_tokens_per_s / found.target_tokens_per_s).where(own).min("model").max().item() * kept
        raise BadInput(
            f"no design of {every.changes.size} keeps {kept:.0%} of its rate at {at} tokens; wanted a smaller share, of "
            f"at most {np.floor(1000 * most) / 1000:.3f}"
        )
    best = reached & (every.changes == every.changes.where(reached).min())
    varied = ("design_tokens_per_s", "design_tokens_per_j", "own_tokens_per_s")
    wide = found[[*varied]].assign(sram_share=every.sram_share.broadcast_like(every.changes))
    flat = wide.stack(design=list(KNOBS)).isel(design=np.flatnonzero(best.transpose(*KNOBS)))
    labels = [_label(dict(zip(KNOBS, point, strict=True))) for point in flat.design.values]
    flat = flat.drop_vars(["design", *KNOBS]).assign_coords(design=labels)
    rank = np.argsort(-np.log(flat.design_tokens_per_j).mean("model").values)
    fastest = found.design_tokens_per_s.where(every.changes.notnull()).max([d for d in KNOBS if d not in BEYOND])
    ranked = flat.isel(design=rank).assign(target_tokens_per_s=found.target_tokens_per_s, best_tokens_per_s=fastest)
    return annotate(ranked.assign_attrs(points=every.changes.size, reaching=int(reached.sum())))


def _label(point: dict[str, Any]) -> str:
    """Return what of a design is changed: "32 x 32, 8 row groups", "clock of 500 MHz"."""
    said = {
        "shape": "{}", "clock": "clock of {:.0f} MHz", "overlap": "overlapped folds", "packed": "packed heads",
        "splits": "context in {} parts", "dataflow": "dataflow {}", "kv_bits": "cache of {} bits", "memory": "{}",
        "lanes": "{} nonlinear lanes",
    }  # fmt: skip
    scaled = point | {"clock": point["clock"] / 1e6}
    return ", ".join(said[name].format(scaled[name]) for name, values in KNOBS.items() if point[name] != values[0])


def draws(
    models: Sequence[Decoder], system: System, *, kept: float, near: int, at: int, count: int, seed: int
) -> xr.Dataset:
    """Return what uncertain constants do to the share of its rate that a machine keeps: dimensions model and quantile.

    kept_rate: rate at a context over that of the published machine `near`, both with the same draw of every part they
    share; holding_share: share of draws in which it is at least `kept`.
    """
    values = uncertainty.sampled(uncertainty.constants(["pim-llm", system.name]), draws=count, seed=seed)
    machines = [uncertainty.machine(item, values) for item in (catalog.systems["pim-llm"], system)]

    def one(model: Decoder) -> xr.Dataset:
        each = (
            evaluate(system=machine, model=model, context_len=n, conventions=CONVENTIONS, variables=["latency_s"])
            for machine, n in zip(machines, (near, at), strict=True)
        )
        home, there = (ds.latency_s.squeeze(["system", "model", "context_len"], drop=True) for ds in each)
        ratio = home / there
        return xr.Dataset({
            "kept_rate": ratio.quantile([0.05, 0.5, 0.95], dim="sample"), "holding_share": (ratio >= kept).mean("sample"),
        })  # fmt: skip

    return annotate(along("model", {model.name: one(model) for model in models}))
