"""What the verdict on energy hangs on: the cells of SRAM, the temperature, what waiting converters draw, what sleeps, and
how often an answer is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import places, with_fields
from pimllm_lib.core.schema import PRODUCT_KINDS, SUBSYSTEMS, annotate
from pimllm_lib.hardware import System
from pimllm_lib.hardware.standing import WOKEN
from pimllm_lib.system.evaluation import evaluate

#: Cells of SRAM, as the names of systems in the catalog end -> what they are made for.
CELLS = {"hp": "high performance", "lop": "low operating power", "lstp": "low standby power"}
#: What becomes of a machine between answers: it waits, its tiles sleep, or it is off but for memory that would forget.
BETWEEN = ("awake", "gated", "off")
_BOTH = ("tpu-llm", "pim-llm")
_IDLE = "pim.tile.crossbar.adc.idle_share"


def with_cells(system: Any, cells: str) -> System:
    """Return a system, or that of the name, with SRAM of such cells everywhere, as the catalog's own `NAME-lop` have it.

    Raises UnknownName for cells that are none of `CELLS`.
    """
    if cells not in CELLS:
        raise unknown("cells", cells, CELLS)
    machine = catalog.system(system)
    parts = {"sram": catalog.parts[f"sram-8mb-{cells}"]}
    if machine.pim is not None:
        parts |= {
            "pim.tile.buffer": catalog.parts[f"buffer-90nm-{cells}"],
            "pim.global_buffer": catalog.parts[f"global-buffer-{cells}"],
        }
    changed: System = with_fields(machine, parts)
    return changed


def with_temperature(system: System, kelvin: Any) -> System:
    """Return a system as hot as this everywhere, an axis or a number. Raises BadInput outside of 250 to 400 K."""
    hot = [f"{path}.temperature_k" for path, part in places(system) if hasattr(part, "temperature_k")]
    return with_fields(system, dict.fromkeys(hot, kelvin))


def gains(
    *, model: Any, context_len: Any, cells: Sequence[str] = tuple(CELLS), temperature_k: Sequence[float] = (300, 360),
    idle_share: Sequence[float] = (0.0, 0.01, 0.2), woken: Sequence[str] = WOKEN, system: Sequence[Any] = _BOTH,
) -> xr.Dataset:  # fmt: skip
    """Return by how much PIM-LLM decodes more tokens a joule than TPU-LLM as a whole machine, both with the same cells.

    system: in their places a baseline, and one with crossbars, whose converters and tiles are those that wait.
    idle_share: what a waiting converter draws of its power; woken: which tiles wake together, see `hardware.Pim`.
    energy_gain along all of these; turning_idle_share, at which it is none, without its own: energy is linear in it. It is
    NaN where PIM-LLM takes more even with converters that draw nothing. Raises as `evaluate` does, and BadInput for other
    than two systems, or one without crossbars where they are needed.
    """
    if len(system) != 2 or getattr(catalog.system(system[-1]), "pim", None) is None:
        raise BadInput(f"systems are {clip(list(system))}; wanted two, a baseline and then one with crossbars")
    heat, idle = axis(temperature_k=temperature_k), axis(idle_share=np.unique([0.0, 1.0, *idle_share]))
    rows = []
    for name in cells:
        tpu, pim = (with_temperature(with_cells(one, name), heat) for one in system)
        waking = [with_fields(pim, {"name": how, "pim.woken": how, _IDLE: idle}) for how in woken]
        ds = evaluate(
            system=[tpu, *waking], model=model, context_len=context_len, conventions="full-system",
            variables=["energy_j"],
        )  # fmt: skip
        rows.append(ds.assign_coords(system=["tpu-llm", *woken]))
    whole = joining.concat(rows, "cells", join="exact").assign_coords(cells=list(cells))
    joules = whole.energy_j
    tpu = joules.isel(system=0, drop=True)
    pim = joules.isel(system=slice(1, None)).rename(system="woken")
    none, full = (pim.sel(idle_share=end, drop=True) for end in (0.0, 1.0))
    base = tpu.isel(idle_share=0, drop=True)
    turning = (base - none) / (full - none)
    return annotate(
        xr.Dataset(
            {
                "energy_gain": (base / pim - 1).sel(idle_share=list(idle_share)),
                "turning_idle_share": turning.where(turning > 0),
            },
            attrs=whole.attrs,
        )
    )


def duty(
    system: Any, model: Any, *, context_len: int = 128, period_s: float = 60.0, answer_s: float = 5.0,
    state: str = "off",
) -> xr.Dataset:  # fmt: skip
    """Return the mean power of an assistant that decodes for answer_s of each period_s, what it draws between answers, and
    what a token takes with its part of the pauses.

    state: one of `BETWEEN`. Off, cells of crossbars keep their weights, SRAM keeps nothing, and DRAM refreshes itself with
    the cache and the weights in it. Raises UnknownName for a state that is none, BadInput for an answer outside its period.
    """
    if state not in BETWEEN:
        raise unknown("state", state, BETWEEN)
    if not (np.isfinite(period_s) and 0 <= answer_s <= period_s and period_s > 0):
        raise BadInput(
            f"answer_s is {clip(answer_s)} of period_s {clip(period_s)}; wanted seconds from 0 to a period above 0"
        )
    machines = [catalog.system(item) for item in (system if isinstance(system, list) else [system])]
    ds = evaluate(
        system=machines, model=model, context_len=context_len, conventions="full-system", detail="component",
        variables=["energy_j", "latency_s", "static_power_w"],
    ).squeeze("context_len", drop=True)  # fmt: skip
    watts = joining.concat(
        [_between(one, ds.static_power_w.sel(system=one.name), state) for one in machines], "system"
    ).assign_coords(system=[one.name for one in machines])
    token = ds[["energy_j", "latency_s"]].sum(["op", "component"])
    working = token.energy_j / token.latency_s
    share = answer_s / period_s
    mean = share * working + (1 - share) * watts
    token_j = mean * token.latency_s / share if share else mean * np.inf
    found = {"standby_w": watts, "mean_power_w": mean, "paused_token_j": token_j}
    return annotate(xr.Dataset(found, attrs=ds.attrs))


def _between(system: System, static_w: xr.DataArray, state: str) -> xr.DataArray:
    """Return what a machine draws between answers, from its static power by op and component."""
    whole = static_w.sum(["op", "component"])
    if state == "awake":
        return whole
    if state == "gated":
        for op in PRODUCT_KINDS:  # each on tiles that say themselves how deep they sleep
            if (engine := system.engine(op)) != "array":
                tiles = static_w.sel(op=op, component=list(SUBSYSTEMS["pim"])).sum("component")
                whole = whole - tiles * (1 - getattr(system, engine).gated_share)
        return whole
    dram = system.dram
    kept = 0.0 if dram is None else dram.standby_w if dram.self_refresh_w is None else dram.self_refresh_w
    return xr.full_like(whole, kept)
