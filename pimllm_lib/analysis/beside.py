"""PIM-LLM beside machines that one can buy: the same model, the same context, tokens a second and joules a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis import devices
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import field_of, with_fields
from pimllm_lib.core.schema import SUBSYSTEMS, annotate
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate

#: How PIM-LLM is built and counted here -> its system and the conventions.
BUILT = {
    "as published": ("pim-llm", "as-published"),
    "slips put right": ("pim-llm", "corrected"),
    "whole, fast cells": ("pim-llm-hp", "full-system"),
    "whole, low operating power": ("pim-llm-lop", "full-system"),
    "whole, low standby power": ("pim-llm-lstp", "full-system"),
    "whole, row groups": ("pim-llm-groups", "full-system"),
}
#: Of these what is made of whole parts: what else there is leaves most of a machine out.
WHOLE = tuple(name for name, (_, conventions) in BUILT.items() if conventions == "full-system")
#: Clocks of the array that are tried, over its own; 64 times 100 MHz is beyond any that is built so.
CLOCKS = np.geomspace(1, 64, 145)


def hybrids(
    *, model: Any, context_len: Any, built: Sequence[str] = tuple(BUILT), systems: Sequence[Any] = ()
) -> xr.Dataset:
    """Return tokens_per_s, energy_j and area_m2 of PIM-LLM along (built, model, context_len).

    energy_least_j, energy_most_j: with converters that draw as little and as much while they wait as the catalog's range
    has it. systems: others, as whole machines under their own names. Raises as `evaluate` does, and for the name of a way
    of building.
    """
    rows, machines = [], {name: BUILT[name] for name in built} | named(systems)
    for item, conventions in machines.values():
        system, idle = _waiting(catalog.system(item))
        ds = evaluate(
            system=system, model=model, context_len=context_len, conventions=conventions,
            variables=["latency_s", "energy_j", "area_m2"],
        ).squeeze("system", drop=True)  # fmt: skip
        joules = ds.energy_j.broadcast_like(idle).drop_vars("idle_share")
        ends = {"energy_j": 0, "energy_least_j": 1, "energy_most_j": 2}
        rows.append(
            xr.Dataset({key: joules.isel(idle_share=at, drop=True) for key, at in ends.items()}, attrs=ds.attrs).assign(
                area_m2=ds.area_m2, tokens_per_s=1 / ds.latency_s
            )
        )
    return annotate(joining.concat(rows, "built", join="exact").assign_coords(built=list(machines)))


def named(systems: Sequence[Any]) -> dict[str, tuple[Any, str]]:
    """Return systems by name as `BUILT` has them. Raises BadInput for two of one name, or the name of a way of building."""
    found = {one.name: (one, "full-system") for one in map(catalog.system, systems)}
    if len(found) < len(systems) or (set(found) & set(BUILT)):
        raise BadInput(
            f"systems are named {clip(list(found))}; wanted distinct names, and others than {clip(list(BUILT))}"
        )
    return found


def _waiting(system: Any) -> tuple[Any, xr.DataArray]:
    """Return a system whose converters draw while they wait what they do, and the ends of the catalog's range."""
    low, high = catalog.parts.entries["adc-8bit"]["idle_share"]["range"]
    idle, path = axis(idle_share=[0, 1, 2]), "pim.tile.crossbar.adc.idle_share"
    if getattr(system, "pim", None) is None:
        return system, idle
    own = field_of(system, path)
    idle = idle.copy(data=[own, min(own, low), max(own, high)])
    return with_fields(system, {path: idle}), idle


def bought(*, model: Sequence[Any], context_len: Sequence[int], table: pd.DataFrame | None = None) -> xr.Dataset:
    """Return what machines that one can buy decode, along (device, model, context_len), NaN where nobody measured them.

    bought_tokens_per_s: the best of the rows of data/machines.csv for that machine and model; bought_energy_j: the least of
    those measured, bought_estimated_j of those estimated. A row of another context moves as the bytes of a token do, see
    `devices.token_bytes`. Raises BadInput where no row is of any of the models.
    """
    rows = devices.measured() if table is None else table
    models = {one.name: one for one in map(catalog.model, model)}
    rows = rows[rows.model.isin(models)]
    if rows.empty:
        raise BadInput(f"nothing of {clip(list(models))} was measured; wanted one of data/machines.csv")
    names, contexts = list(dict.fromkeys(rows.device)), [int(n) for n in context_len]
    shape = (len(names), len(models), len(contexts))
    found = {name: np.full(shape, np.nan) for name in ("tokens_per_s", "energy_j", "estimated_j")}
    for row in rows.to_dict("records"):
        at = names.index(row["device"]), list(models).index(row["model"])
        asked = {"bits": row["bits"], "head_bits": row["head_bits"]}
        decoder = models[row["model"]]
        longer = devices.token_bytes(decoder, np.array(contexts, float), **asked) / devices.token_bytes(
            decoder, row["context"], **asked
        )
        found["tokens_per_s"][at] = np.fmax(found["tokens_per_s"][at], row["tokens_per_s"] / longer)
        kind = "estimated_j" if row["method"] == "estimated" else "energy_j"
        found[kind][at] = np.fmin(found[kind][at], row["energy_j"] * longer)
    dims = ("device", "model", "context_len")
    kinds = ("device", [catalog.devices[name].kind for name in names])
    coords = {"device": names, "model": list(models), "context_len": contexts, "device_kind": kinds}
    return annotate(xr.Dataset({f"bought_{name}": (dims, table) for name, table in found.items()}, coords=coords))


def verdicts(ds: xr.Dataset) -> xr.Dataset:
    """Return for each way of building PIM-LLM, model and context whether it beats the best that one can buy: in rate, and in
    measured energy. NaN where nobody measured one.
    """
    best = ds.bought_tokens_per_s.max("device"), ds.bought_energy_j.min("device")
    faster = (ds.tokens_per_s > best[0]).where(np.isfinite(best[0]))
    thriftier = (ds.energy_j < best[1]).where(np.isfinite(best[1]))
    return xr.Dataset(
        {"faster": faster, "thriftier": thriftier, "both": faster.where(np.isfinite(thriftier)) * thriftier}
    )


def needed(
    *, model: Any, context_len: int, tokens_per_s: float, energy_j: float, built: str, systems: Sequence[Any] = ()
) -> dict[str, float]:
    """Return what PIM-LLM would have to be to decode as fast and with as little energy, each change alone; or, where
    `built` is the name of one of `systems`, that one.

    clock: that of the array over its own, NaN where none of `CLOCKS` is enough; row_groups: of the array, 1 where those that
    it has are enough, NaN where its rows are not; converter_power, leakage: what is left of them, 1 where all may stay,
    NaN where even none would be too much. Energy is linear in both. Raises as `evaluate` does.
    """
    item, conventions = (BUILT | named(systems))[built]
    system, args = catalog.system(item), {"model": model, "context_len": context_len, "conventions": conventions}
    fast = with_fields(system, {"array.rate_hz": system.array.rate_hz * axis(clock=CLOCKS.tolist())})
    more = [1 << n for n in range(int(np.log2(system.array.rows)) + 1) if 1 << n > system.array.row_groups]
    groups = [int(system.array.row_groups), *more]
    cut = with_fields(system, {"array.row_groups": axis(groups=groups)})
    joules = evaluate(system=system, detail="component", variables=["energy_j"], **args).energy_j
    whole, by_part = float(joules.sum()), joules.sum("op").squeeze()

    def left(components: Sequence[str]) -> float:
        part = float(by_part.sel(component=list(components)).sum())
        share = 1 - (whole - energy_j) / part if part else -np.inf
        return np.nan if share < 0 and whole > energy_j else min(share, 1.0) if whole > energy_j else 1.0

    return {
        "clock": _first(fast, CLOCKS, tokens_per_s, args),
        "row_groups": _first(cut, [1, *more], tokens_per_s, args),
        "converter_power": left(["adc", "dac"]),
        "leakage": left(SUBSYSTEMS["static"]),
    }


def _first(system: System, values: Any, tokens_per_s: float, args: dict[str, Any]) -> float:
    """Return the first of the values along a machine's axis at which it decodes as fast, NaN where none is enough."""
    rates = 1 / evaluate(system=system, variables=["latency_s"], **args).latency_s.squeeze().values
    enough = np.flatnonzero(rates >= tokens_per_s)
    return float(np.asarray(values)[enough[0]]) if enough.size else np.nan
