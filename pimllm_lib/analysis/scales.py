"""What a scale for every group of weights costs on crossbars, which then read one group of inputs at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analog.crossbar.readout import lossless_bits
from pimllm_lib.catalog.converters import converters
from pimllm_lib.core import joining
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import annotate
from pimllm_lib.costs.crossbar import conversion_energy
from pimllm_lib.engines.crossbars import counted
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate

#: Inputs that share a scale, from all down; ways to read them; converters as they are, and of as many bits less as a group
#: has fewer inputs than a crossbar has rows.
GROUPS = (np.inf, 256.0, 128.0, 64.0, 32.0)
WAYS = ("rows", "crossbars")
CONVERTERS = ("the same", "fewer bits")
CONVENTIONS = ("as-published", "full-system")


def by_group(
    *, model: Any, system: Any = "pim-llm", context_len: int = 1024, groups: Sequence[float] = GROUPS,
    conventions: Sequence[str] = CONVENTIONS,
) -> xr.Dataset:  # fmt: skip
    """Return what a token costs where weights have a scale for each group of so many inputs: (conventions, scale_group,
    way, converter).

    latency_s, energy_j, area_m2, tiles: of the whole machine; conversions: of its crossbars; rescale_energy_share,
    rescale_area_share: of what multiplies by scales. converter_bits, along scale_group and converter: of the converters,
    which are those of `catalog.converters` where they have fewer than the machine's; lossless_bits, along scale_group: those
    that would read every sum of ideal cells.

    Raises BadInput for a system without crossbars, as `converters` does, and as `evaluate` does.
    """
    machine, decoder = catalog.system(system), catalog.model(model)
    if machine.pim is None:
        raise BadInput(f"{machine.name} has no crossbars; wanted a system with a pim")
    bar, along = machine.pim.tile.crossbar, axis(scale_group=[float(group) for group in groups])
    rows = np.minimum(along, bar.rows)
    fewer = bar.adc.bits - np.floor(np.log2(bar.rows / rows))
    bits = joining.concat([xr.full_like(fewer, bar.adc.bits), fewer], "converter").assign_coords(
        converter=list(CONVERTERS)
    )
    machine = _with_converters(machine, bits.astype(int))
    ds = evaluate(
        system=with_fields(machine, {"pim.groups": axis(way=list(WAYS))}), model=replace(decoder, scale_group=along),
        context_len=context_len, conventions=list(conventions), detail="component",
        variables=["latency_s", "energy_j", "area_m2", "tiles"],
    ).squeeze(["system", "model", "context_len"], drop=True).sum("op")  # fmt: skip
    kept = ds.drop_vars("pe_count").sum("component").assign(
        conversions=ds.energy_j.sel(component="adc", drop=True) / _conversion_j(machine, conventions),
        converter_bits=bits,
        lossless_bits=along.copy(data=[lossless_bits(int(n), bar, catalog.part("readout-ideal")) for n in rows.values]),
    )  # fmt: skip
    for name in ("energy_j", "area_m2"):
        part = ds[name].sel(component="rescale", drop=True)
        kept[f"rescale_{name.split('_')[0]}_share"] = part / kept[name]
    kept.scale_group.attrs["long_name"] = "inputs that share a scale"
    return annotate(kept.transpose("conventions", "scale_group", "way", "converter"))


def _with_converters(system: System, bits: xr.DataArray) -> System:
    """Return the system with converters of other resolutions; those of its own resolution are its own."""
    own = system.pim.tile.crossbar.adc  # type: ignore[union-attr]
    others = sorted(set(bits.values.ravel().tolist()) - {own.bits})
    made = {own.bits: own} | {adc.bits: adc for adc in (converters(others) if others else ())}
    changes = {
        name: bits.copy(data=[[getattr(made[b], name) for b in row] for row in bits.values])
        for name in ("bits", "rate_hz", "power_w", "area_m2")
    }
    return with_fields(system, {f"pim.tile.crossbar.adc.{name}": value for name, value in changes.items()})


def _conversion_j(system: System, conventions: Sequence[str]) -> xr.DataArray:
    """Return the energy of one conversion as each of several conventions counts it."""
    tile = system.pim.tile  # type: ignore[union-attr]
    each = [conversion_energy(counted(tile, catalog.preset(name)).crossbar.adc) for name in conventions]
    along = xr.DataArray(list(conventions), dims="conventions", name="conventions")
    found: xr.DataArray = joining.concat(each, along)
    return found


def by_holding(
    *, model: Any, system: Any = "pim-llm", context_len: int = 1024, conventions: Sequence[str] = CONVENTIONS
) -> xr.Dataset:
    """Return what a token costs with binary weights in pairs of cells, and in single cells beside a column that sums the
    inputs: latency_s, energy_j, area_m2 along (conventions, held).

    Raises BadInput for weights of more than two values, and as `evaluate` does.
    """
    machine, decoder = catalog.system(system), catalog.model(model)
    if np.any(np.asarray(decoder.levels) != 2):
        raise BadInput(f"weights of {decoder.name} have {clip(decoder.levels)} values; wanted 2, or no cell is enough")
    single = with_fields(machine, {"pim.tile.crossbar.polarity": 1, "pim.tile.crossbar.weight_bits": 1})
    held = {"pair": machine, "single": single}
    ds = evaluate(
        system=[replace(one, name=name) for name, one in held.items()], model=decoder, context_len=context_len,
        conventions=list(conventions), variables=["latency_s", "energy_j", "area_m2"],
    ).squeeze(["model", "context_len"], drop=True)  # fmt: skip
    return annotate(ds.rename(system="held").drop_vars("pe_count"))


def by_zeros(
    *, model: Any, system: Any = "pim-llm", context_len: int = 128, zeros: Sequence[float] = (0.0, 0.2, 0.34, 0.5),
    conventions: Sequence[str] = CONVENTIONS,
) -> xr.DataArray:  # fmt: skip
    """Return energy_j where so many of the ternary weights are 0, along (conventions, zeros): of the cells of a pair one is
    on for each weight that is not. Raises as `evaluate` does.
    """
    share = axis(zeros=[float(one) for one in zeros])
    cells = with_fields(catalog.system(system), {"pim.tile.crossbar.cell.low_share": (1 - share) / 2})
    ds = evaluate(
        system=cells, model=model, context_len=context_len, conventions=list(conventions), variables=["energy_j"]
    )
    found: xr.DataArray = ds.energy_j.squeeze(["system", "model", "context_len"], drop=True)
    return found
