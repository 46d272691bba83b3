"""What the model is held against: another simulator's reports, published blocks, measured macros. Each as a Dataset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core import joining
from pimllm_lib.core.conventions import AS_PUBLISHED, CORRECTED, Conventions
from pimllm_lib.core.errors import unknown
from pimllm_lib.core.parts import Value
from pimllm_lib.core.paths import DATA
from pimllm_lib.core.schema import SUBSYSTEMS, annotate
from pimllm_lib.core.units import UNITS
from pimllm_lib.costs import crossbar, memory, placement, systolic
from pimllm_lib.engines.crossbars import counted
from pimllm_lib.hardware import Adc, Cell, Crossbar
from pimllm_lib.system.evaluation import evaluate

#: What a report of SCALE-Sim counts, in the order of data/peers/scalesim.csv.
COUNTS = ("cycles", "inputs", "weights", "results", "dram_inputs", "dram_weights", "dram_results")
#: Groups that the published breakdowns of the macros can be sorted into -> components of the model. It has no word lines.
GROUPS: dict[str, tuple[str, ...]] = {
    "word lines": (),
    "inputs and cells": ("dac", "crossbar"),
    "converters and digital": ("adc", "registers", "mux", "shift_add"),
}
#: Parts of a layer -> components of the model, and of AccelForge's basic_analog.
LAYER_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "converters": (("adc",), ("ADC",)),
    "cells": (("crossbar",), ("CimUnit",)),
    "row drivers": (("dac",), ("RowDrivers",)),
    "columns and digital": (("registers", "mux", "shift_add", "joint"), ("ColumnDrivers",)),
    "buffers": (("buffer",), ()),
}
#: Stages of the time of a layer -> components of the model.
LAYER_STAGES: dict[str, tuple[str, ...]] = {
    "arrays": ("dac", "adc", "crossbar", "registers", "mux", "shift_add", "joint"),
    "buffers": ("buffer",),
    "between tiles": ("intra_tile", "merge", "transfer"),
}
#: Rows and columns of the layer that was asked of AccelForge.
LAYER_SIDE = 4096
#: Constants of a cell whose ranges are tried one at a time.
BANDS = ("low_ohm", "low_share", "read_duty")
#: The converter that every other page of this project assumes.
USUAL = "as published"
#: The macro papers count a multiplication and an addition as one operation each; here 1 op = 1 MAC.
OPS_PER_MAC = 2


def scale_sim() -> xr.Dataset:
    """Return the archived reports of SCALE-Sim beside the closed form: dimensions product and count."""
    table = pd.read_csv(DATA / "peers" / "scalesim.csv")
    sizes = table[["m", "k", "n", "rows", "cols", "dataflow"]].to_dict("records")
    names = [f"{p['m']}x{p['k']}x{p['n']} on {p['rows']}x{p['cols']} {p['dataflow']}" for p in sizes]
    closed, extra = zip(*(_counts(**size) for size in sizes), strict=True)
    values = {"simulated": table[list(COUNTS)].to_numpy(), "closed_form": closed, "reported_extra": extra}
    arrays = {key: (("product", "count"), np.asarray(value, float)) for key, value in values.items()}
    return annotate(xr.Dataset(arrays, {"product": names, "count": list(COUNTS)}))


def _counts(m: int, k: int, n: int, *, rows: int, cols: int, dataflow: str) -> tuple[list[float], list[float]]:
    """Return the closed form of every count, and what SCALE-Sim 2.0.2 is known to report beyond it.

    Output stationary it adds rows + cols words in each fold to the results; with the other dataflows it writes every
    partial sum to off-chip memory.
    """
    shape: dict[str, Any] = {"rows": rows, "cols": cols, "dataflow": dataflow}
    near, far = systolic.sram_words(m, k, n, **shape), memory.dram_words(m, k, n, **shape)
    on = systolic.mapping(m, k, n, **shape)
    folds = on.row_folds * on.col_folds
    known = {"results": folds * (rows + cols)} if dataflow == "os" else {"dram_results": near["partial_sums"]}
    closed = [systolic.cycles(m, k, n, **shape), near["inputs"], near["weights"], near["results"]]
    closed += [far["inputs"], far["weights"], far["results"]]
    return closed, [known.get(name, 0.0) for name in COUNTS]


def accel_forge() -> xr.Dataset:
    """Return a 4096 x 4096 ternary projection of one vector as AccelForge has it and as computed here.

    layer_j: energy by estimate and layer_part; layer_s: time by estimate and layer_stage, of AccelForge all that its arrays
    take. AccelForge has no buffers and no tiles between which sums travel. Source: data/peers/accelforge.csv.
    """
    said = pd.read_csv(DATA / "peers" / "accelforge.csv")
    named = said.groupby("component").value.sum()
    theirs = [[sum(float(named[name]) for name in names) for _, names in LAYER_PARTS.values()]]
    times = [[float(named["all"]), 0.0, 0.0]]
    for counting in (AS_PUBLISHED, CORRECTED):
        spent, took = _layer(counting)
        theirs.append([sum(spent[name] for name in names) for names, _ in LAYER_PARTS.values()])
        times.append([sum(took[name] for name in names) for names in LAYER_STAGES.values()])
    labels = {
        "estimate": ["AccelForge", AS_PUBLISHED.name, CORRECTED.name],
        "layer_part": list(LAYER_PARTS), "layer_stage": list(LAYER_STAGES),
    }  # fmt: skip
    arrays = {"layer_j": (("estimate", "layer_part"), theirs), "layer_s": (("estimate", "layer_stage"), times)}
    return annotate(xr.Dataset(arrays, labels))


def _layer(counting: Conventions) -> tuple[dict[str, float], dict[str, float]]:
    """Return energy and latency by component of the layer alone on the tiles of pim-llm: its result travels nowhere."""
    pim = catalog.system("pim-llm").pim
    assert pim is not None
    tile, bits, fan = counted(pim.tile, counting), pim.act_bits, LAYER_SIDE
    on = crossbar.layout(fan, fan, tile=tile, act_bits=bits)
    place = {"grid_side": pim.grid_side, "tiles_per_bank": pim.tiles_per_bank, "walk": pim.walk}
    merge_hops, transfer_hops = placement.hops([on.tiles], copies=[1], **place)[0]
    sizes = {
        "input_buffer": crossbar.input_buffer_size(fan, on.crossbars, bits),
        "output_buffer": crossbar.output_buffer_size(fan, on.tiles),
    }
    spent = crossbar.energy(on, tile=tile, act_bits=bits, **sizes)
    took = crossbar.latency(
        on, tile=tile, act_bits=bits, network_bps=pim.network_bps, fan_out=fan, merge_hops=merge_hops,
        transfer_hops=transfer_hops, reread_output=counting.output_reread,
    )  # fmt: skip
    return {name: float(x) for name, x in spent.items()}, {name: float(x) for name, x in took.items()}


def published_blocks() -> pd.DataFrame:
    """Return data/published-blocks.csv: time and energy of a decoder block on the crossbars, by model."""
    return pd.read_csv(DATA / "published-blocks.csv").set_index("model")


def blocks(models: list[str]) -> xr.Dataset:
    """Return time and energy of a block as published and as computed: dimension model.

    Raises BadInput for a model without a published block.
    """
    table = published_blocks()
    for name in models:
        if name not in table.index:
            raise unknown("model with a published block", name, list(table.index))
    ds = evaluate(system="pim-llm", model=models, context_len=128, conventions="as-published", detail="component")
    split = ds.sum("op").squeeze(["system", "context_len"], drop=True)
    analog = split.drop_sel(component=list(SUBSYSTEMS["array"])).sum("component")
    inputs = split.energy_j.sel(component=list(GROUPS["inputs and cells"])).sum("component")
    layers = xr.DataArray([catalog.models[name].n_layers for name in models], dims="model")
    found = table.loc[models]
    return annotate(
        xr.Dataset(
            {
                "block_s": analog.latency_s / layers,
                "block_j": analog.energy_j / layers,
                "input_share": inputs / analog.energy_j,
                "published_block_s": ("model", found.latency_ns.to_numpy() * 1e-9),
                "published_block_j": ("model", found.energy_nj.to_numpy() * 1e-9),
            },
            {"model": list(models)},
        )
    )


def measured() -> pd.DataFrame:
    """Return data/macros.csv: measured efficiency and breakdown of fabricated macros, as quoted where they were read."""
    return pd.read_csv(DATA / "macros.csv", keep_default_na=False)


def hindcast(macros: list[str]) -> xr.Dataset:
    """Return the energy of a MAC of fabricated macros, predicted and measured: dimensions macro, converter, group.

    Nothing is fitted. converter: where the energy of a conversion comes from, see `converters`. band_mac_j: with one
    constant of the cell at either end of its range. Buffers are left out, as in the measurements. Raises BadInput for a
    macro that is not in data/macros.csv.
    """
    table = measured()
    known = list(table.macro.unique())
    for name in macros:
        if name not in known:
            raise unknown("macro", name, known)
    rows = [_macro(name, table[table.macro == name].set_index("quantity")) for name in macros]
    return annotate(joining.concat(rows, "macro", join="exact").assign_coords(macro=list(macros)))


def _macro(name: str, table: pd.DataFrame) -> xr.Dataset:
    bar, act_bits = catalog.parts[f"crossbar-{name}"], float(table.value["act_bits"])
    powers = converters(bar.adc, f"adc-{name}")
    predicted = [_mac(replace(bar, adc=replace(bar.adc, power_w=power)), act_bits) for power in powers.values()]
    usual = replace(bar, adc=replace(bar.adc, power_w=powers[USUAL]))
    bands = [[_mac(replace(usual, cell=cell), act_bits) for cell in _ends(bar.cell, field)] for field in BANDS]
    shares = np.asarray([table[table.group == group].value.sum() for group in GROUPS], float)
    whole = OPS_PER_MAC / (table.value["efficiency"] * 1e12)
    return xr.Dataset(
        {
            "mac_j": (("converter", "group"), np.asarray(predicted)),
            "band_mac_j": (("constant", "end", "group"), np.asarray(bands)),
            "measured_mac_j": ("group", whole * shares / shares.sum()),
        },
        {"converter": list(powers), "group": list(GROUPS), "constant": list(BANDS), "end": ["low", "high"]},
    )


def _mac(bar: Crossbar, act_bits: Value) -> list[float]:
    """Return the energy of one MAC of a full crossbar by group, in joules."""
    tile = replace(catalog.parts["tile-2x2"], pes=1, crossbar=bar)
    spent, macs = crossbar.array_energy(tile, act_bits), bar.rows * bar.cols
    return [float(sum(spent[part] for part in parts) / macs) for parts in GROUPS.values()]


def _ends(cell: Cell, field: str) -> list[Cell]:
    """Return the cell with one constant at either end of its range; where a constant has none, the cell itself twice."""
    entry = catalog.parts.entries[cell.name][field]
    ends = entry.get("range", [entry["value"]] * 2)
    return [replace(cell, **{field: end * UNITS[entry["unit"]][1]}) for end in ends]


def converters(adc: Adc, name: str) -> dict[str, Value]:
    """Return the power of a macro's converter in watts for three sources of its energy a conversion.

    The survey's 10th percentile and median, which are the ends of the range in the catalog; and the energy of a conversion
    of pim-llm, as its source has it and as the published numbers charge it (see `Conventions.sample_rate_is_clock`).
    """
    entry = catalog.parts.entries[name]["power_w"]
    low, high = (end * UNITS[entry["unit"]][1] for end in entry["range"])
    ours = catalog.parts["adc-8bit"]
    same = crossbar.conversion_energy(ours) * adc.rate_hz / adc.periods
    return {
        "survey, 10th percentile": low, "as its source has it": same, USUAL: same * (ours.bits + 2), "survey, median": high,
    }  # fmt: skip


def efficiency(mac_j: xr.DataArray) -> xr.DataArray:
    """Return TOPS/W as macro papers count them, two operations a MAC, from the energy of a MAC by group."""
    return (OPS_PER_MAC / mac_j.sum("group") / 1e12).assign_attrs(long_name="efficiency", units="TOPS/W")
