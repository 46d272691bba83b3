"""The design space of chapter 15: its knobs, its Pareto front, and the fastest design within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core.schema import annotate
from pimllm_lib.sweep import points
from pimllm_lib.sweep.pool import each
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Axis, Space
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary

#: What a design is judged by, and which way is better.
OBJECTIVES = {"tokens_per_s": "max", "tokens_per_j": "max", "power_w": "min", "area_m2": "min"}
MM2 = 1e6
#: What of an SRAM grows with its size.
_GROWN = ("inputs_bytes", "weights_bytes", "results_bytes", "leakage_w", "area_m2")
_CROSSBAR = "system.pim.tile.crossbar"


def space(thin: int = 1) -> Space:
    """Return the designs, one axis a knob. thin: keep every so-manieth value of each axis.

    Converters and off-chip memories are whole catalog parts, so that a faster one costs what it costs. SRAM scales in
    capacity, leakage and area together. The others are free to choose: what they cost follows from the model.
    """
    sram, scales = catalog.systems["pim-llm"].sram, (0.25, 1.0, 4.0)
    scaled = tuple(tuple(scale * getattr(sram, name) for name in _GROWN) for scale in scales)
    axes = (
        _tied(
            "crossbar_size",
            [64, 128, 256, 512],
            *(f"{_CROSSBAR}.{name}" for name in ("rows", "cols", "dac.per_crossbar")),
        ),
        _parts("adc", ["adc-4bit", "adc-6bit", "adc-8bit"], _CROSSBAR, ("bits", "rate_hz", "power_w", "area_m2")),
        _tied("adcs_per_crossbar", [1, 4, 8, 16, 32, 64, 128, 256], f"{_CROSSBAR}.adc.per_crossbar"),
        _tied("pes_per_tile", [1, 4, 16, 64], "system.pim.tile.pes"),
        _tied("network_bps", [5e9, 20e9, 40e9, 80e9], "system.pim.network_bps"),
        _tied("power_gating", [0.05, 1.0], "system.pim.gated_share"),
        _tied("array_rows", [1, 2, 4, 8, 16, 32], "system.array.rows"),
        _tied("array_cols", [32, 64, 128, 256, 512, 1024], "system.array.cols"),
        _tied("array_rate_hz", [1e8, 2e8, 4e8, 8e8], "system.array.rate_hz"),
        _tied("array_dataflow", ["os", "ws", "is"], "system.array.dataflow"),
        Axis("sram_scale", tuple(f"system.sram.{name}" for name in _GROWN), scaled, scales),
        _parts(
            "dram", ["lpddr4x-4266", "lpddr5-6400", "lpddr5x-8533"], "system", ("bandwidth_bps", "bit_j", "standby_w")
        ),
    )
    return Space(tuple(replace(a, rows=a.rows[::thin], labels=a.labels[::thin]) for a in axes))


def _tied(name: str, values: Sequence[Any], *paths: str) -> Axis:
    return Axis(name, paths, tuple((value,) * len(paths) for value in values), tuple(values))


def _parts(name: str, names: Sequence[str], where: str, taken: Sequence[str]) -> Axis:
    rows = tuple(tuple(getattr(catalog.parts[part], field) for field in taken) for part in names)
    return Axis(name, tuple(f"{where}.{name}.{field}" for field in taken), rows, tuple(names))


def study(space: Space, model: str, context_len: int) -> points.Study:
    """Return the study of a space at one model and context, whole machine counted, the Pareto front kept."""
    system = catalog.systems["pim-llm"]
    assert system.pim is not None
    # A grid without end: small crossbars take many tiles.
    banked = replace(system, pim=replace(system.pim, walk="banks"))
    return points.Study(
        system=banked, models=(catalog.model(model),), context_len=(context_len,),
        conventions=catalog.preset("full-system"), space=space, metrics=tuple(OBJECTIVES),
        reduction=Reduction("pareto", OBJECTIVES),
    )  # fmt: skip


def explore(study: points.Study) -> xr.Dataset:
    """Return the front of a study, evaluated chunk by chunk in this process."""
    parts = [made for _, made in each(partial(points.compute, study), study.space.chunks(), None)]
    front = study.reduction.of_all(parts)
    front.attrs.pop("user_values", None)
    return front.assign_attrs(points=study.space.size)


def published(model: str, context_len: int, systems: Sequence[str] = ()) -> xr.Dataset:
    """Return both published machines, and others beside them, at the same point, whole machine counted."""
    ds = evaluate(
        system=["tpu-llm", "pim-llm", *systems], model=model, context_len=context_len, conventions="full-system",
        variables=["latency_s", "energy_j", "area_m2"],
    )  # fmt: skip
    both = summary(ds).squeeze(["model", "context_len"])
    return annotate(both.assign(power_w=both.energy_j / both.latency_s)[list(OBJECTIVES)])


def best_within(front: xr.Dataset, watts: Sequence[float], mm2: Sequence[float]) -> xr.Dataset:
    """Return the fastest design of a front within each budget of mean power and area; NaN and "" where there is none.

    The fastest within a budget is on the front of rate, power and area: whatever beats it in all three is within it too.
    """
    rate, power, area = (front[name].values for name in ("tokens_per_s", "power_w", "area_m2"))
    shape = (len(watts), len(mm2))
    fastest, which = np.full(shape, np.nan), np.full(shape, -1)
    for i, most_w in enumerate(watts):
        for j, most_mm2 in enumerate(mm2):
            fits = np.flatnonzero((power <= most_w) & (area * MM2 <= most_mm2))
            if fits.size:
                which[i, j] = fits[np.argmax(rate[fits])]
                fastest[i, j] = rate[which[i, j]]
    dims = ("power_budget", "area_budget")
    coords = {
        "power_budget": ("power_budget", list(watts), {"units": "W"}),
        "area_budget": ("area_budget", list(mm2), {"units": "mm2"}),
        "budget_design": (dims, which),
    }
    return annotate(xr.Dataset({"budget_tokens_per_s": (dims, fastest)}, coords=coords))


def better(front: xr.Dataset, both: xr.Dataset, system: str = "pim-llm") -> xr.Dataset:
    """Return the designs of a front that are at least as good as a system, the published one, in everything."""
    home = both.sel(system=system)
    ok = np.ones(front.sizes["design"], dtype=bool)
    for name, sense in OBJECTIVES.items():
        ok &= (front[name].values >= home[name].item()) if sense == "max" else (front[name].values <= home[name].item())
    return front.isel(design=np.flatnonzero(ok))
