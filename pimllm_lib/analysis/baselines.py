"""Machines to hold an accelerator against: ideal vector units of equal multipliers, equal area or equal power.

Give one to `evaluate` like any system:

    >>> import pimllm_lib as pl
    >>> from pimllm_lib.analysis.baselines import VectorUnit
    >>> unit = VectorUnit.like(pl.catalog.systems["tpu-llm"].array)
    >>> point = {"model": "opt-6.7b", "context_len": 128, "conventions": "as-published"}
    >>> ds = pl.evaluate(system=["tpu-llm", "pim-llm", unit], **point)
    >>> rate = pl.metrics.summary(ds).tokens_per_s.squeeze()
    >>> lead = rate.sel(system="pim-llm") / rate
    >>> {str(name): round(lead.sel(system=name).item(), 1) for name in lead.system.values}
    {'tpu-llm': 79.3, 'pim-llm': 1.0, 'vector-1024': 2.4}

Every constant is an argument: `VectorUnit.like` takes them from an array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value, declare, part
from pimllm_lib.core.rules import COUNT, PART, POSITIVE
from pimllm_lib.core.schema import ATTENTION_OPS, SUBSYSTEMS, VARIABLES
from pimllm_lib.costs import memory
from pimllm_lib.hardware import Dram, Storage, SystolicArray
from pimllm_lib.system.metrics import power
from pimllm_lib.workload.products import Product


@part
class VectorUnit:
    """Multipliers that are never idle: a bound on what they can do, whatever their arrangement.

    With dram and storage, weights and the key-value cache come from off-chip memory once a token; a transfer hides behind
    computing, and what is left over is waited for. Neglected: on-chip memory, filling, control, static power.
    """

    name: str
    lanes: Value = declare(COUNT, "how many multipliers")
    rate_hz: Value = declare(POSITIVE, "clock, one multiply-accumulate of each and cycle")
    mac_j: Value = declare(POSITIVE, "energy of one multiply-accumulate")
    dram: Dram | None = declare(PART, "memory off the chip, None where it is not counted", default=None)
    storage: Storage | None = declare(PART, "how numbers are stored in it", default=None)

    def __post_init__(self) -> None:
        """Refuse memory without the widths of what is stored in it, and widths without memory."""
        for name, kind, other in (("dram", "Dram", self.storage), ("storage", "Storage", self.dram)):
            if getattr(self, name) is None and other is not None:
                raise BadInput(f"VectorUnit.{name} is None; wanted a {kind}")

    @classmethod
    def like(
        cls, array: SystolicArray, *, lanes: Value | None = None, name: str | None = None, dram: Dram | None = None,
        storage: Storage | None = None,
    ) -> VectorUnit:  # fmt: skip
        """Return a unit of an array's PEs, all of them unless told how many, at its clock and energy of a working PE."""
        count = array.rows * array.cols if lanes is None else lanes
        return cls(
            name=f"vector-{count}" if name is None else name, lanes=count, rate_hz=array.rate_hz,
            mac_j=array.active_pe_energy_j, dram=dram, storage=storage,
        )  # fmt: skip

    def costs(self, products: Sequence[Product]) -> Mapping[str, Mapping[str, Value]]:
        """Return time and energy of each product: op -> variable -> value of one step."""
        found: dict[str, dict[str, Value]] = {}
        for product in products:  # a model whose blocks are not alike has several of an op
            for name, value in self._cost(product).items():
                own = found.setdefault(product.op, {})
                own[name] = own.get(name, 0.0) + value
        return found

    def _cost(self, product: Product) -> dict[str, Value]:
        computing, joules = product.macs / (self.lanes * self.rate_hz), product.macs * self.mac_j
        if self.dram is None or self.storage is None:
            return {"latency_s": computing, "energy_j": joules}
        # the weights or cache of one step; an operand that several heads share comes in once
        bits = product.k * product.n * product.calls / product.shared * product.stored_bits(self.storage)
        waiting = memory.stall(bits / self.dram.bandwidth_bps, computing)
        moved = {"dram_bytes": bits / 8, "energy_j": joules + bits * self.dram.bit_j}
        return moved | {"latency_s": computing + waiting, "busy_s": computing}


def lanes_in_area(area_m2: Value, array: SystolicArray) -> Value:
    """Return how many PEs of an array fit an area, whole ones. Raises BadInput when their area is not known."""
    if array.pe_area_m2 is None:
        raise BadInput(f"{array.name}.pe_area_m2 is missing; wanted one, to fill an area with PEs")
    return np.floor(area_m2 / array.pe_area_m2)


def equal_units(ds: xr.Dataset, array: SystolicArray, *, blocks: int) -> list[VectorUnit]:
    """Return vector units that are given what the crossbar tiles take: their peak power, the area of one decoder block's
    tiles, the area of all.

    ds: one system and one model, split by component. blocks: decoder blocks of the model. The peak power is that of
    `metrics.power`, a mean over the working time of the hungriest product. Units smaller than one lane get one.
    """
    tiles = list(SUBSYSTEMS["pim"])
    area = float(ds.area_m2.sel(component=tiles).isel(context_len=0).sum())
    peak = float(power(ds).peak_power_w.sel(subsystem="pim").max())
    lanes = {
        "equal power": np.floor(peak / (array.active_pe_energy_j * array.rate_hz)),
        "equal area, one block": lanes_in_area(area / blocks, array),
        "equal area, all blocks": lanes_in_area(area, array),
    }
    return [VectorUnit.like(array, lanes=max(1, int(n)), name=name) for name, n in lanes.items()]


def attention_from(ds: xr.Dataset, *, system: str, donor: str, name: str) -> xr.Dataset:
    """Return what a system costs when its attention runs as it does in another: one system, called `name`.

    ds: both systems, split by op. Right where products follow one another and nothing is charged by the time of the
    whole token, so not with `overlap` or `static_power`. Raises BadInput without op.
    """
    if "op" not in ds.dims:
        raise BadInput("the dataset has no dimension op; wanted one evaluated with detail='op'")
    own, other = ds.sel(system=[system]), ds.sel(system=donor, drop=True)
    attention = ds.op.isin(list(ATTENTION_OPS))
    mixed = {str(key): own[key].where(~attention, other[key]) for key in own.data_vars if VARIABLES[str(key)].extensive}
    return own.assign(mixed).assign_coords(system=[name])
