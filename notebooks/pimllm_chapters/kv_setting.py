"""Chapter 12, attention in memory: what all its parts ask about, and the machines they compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from pimllm_chapters.long_setting import CONVENTIONS
from pimllm_lib import catalog
from pimllm_lib.analysis import remedies, technologies
from pimllm_lib.analysis.endurance import Use
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.core.schema import ATTENTION_OPS, annotate
from pimllm_lib.core.units import GIB
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary
from pimllm_lib.workload.decoder import Decoder

#: The machine with attention in memory, the recommended one that it is made of, and the best set of chapter 10.
IN_MEMORY, RECOMMENDED, IMPROVED = "pim-attention", "pim-llm-groups", ("row groups", "packed heads", "800 MHz")
#: Machines that are compared -> what each is.
MACHINES = {
    "published": "attention on the array as published", "recommended": "row groups, what chapter 10 recommends",
    "improved": "row groups, packed heads and the faster clock, its best set that computes the same",
    "in memory": "attention in memory, on the recommended machine", "reading alone": "the same where writing is free",
}  # fmt: skip
#: What makes writing free: the least that a part takes.
FREE = {f"kv_pim.technology.cell.{name}": 1e-40 for name in ("write_s", "write_j")} | {
    "kv_pim.technology.verify_j": 0.0
}


@dataclass(frozen=True)
class Setting:
    """What every part of the chapter asks about. row_context: two or three contexts that tables show; gib: off-chip memory;
    technology: what keys and values lie in where only one is shown; lasting: years that a machine is to last.
    """

    models: tuple[str, ...]
    context_len: tuple[int, ...]
    row_context: tuple[int, ...]
    technology: str
    gib: float
    uses: tuple[Use, ...]
    lasting: float

    def __post_init__(self) -> None:
        """Refuse no models, rows at contexts that are not evaluated, an unknown technology, and no time to last."""
        if not self.models:
            raise BadInput("models are none; wanted at least one")
        for n in self.row_context:
            if n not in self.context_len:
                raise BadInput(
                    f"row_context has {clip(n)}; wanted contexts of context_len, {clip(list(self.context_len))}"
                )
        if not 2 <= len(set(self.row_context)) <= 3 or list(self.row_context) != sorted(set(self.row_context)):
            raise BadInput(f"row_context is {clip(list(self.row_context))}; wanted two or three contexts that grow")
        technologies.named(self.technology)
        for name in ("lasting", "gib"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} is {clip(getattr(self, name))}; wanted a number above 0")

    @property
    def shown(self) -> dict[str, list[int]]:
        """The contexts of the tables, to select from a result."""
        return {"context_len": list(self.row_context)}

    @property
    def decoders(self) -> list[Decoder]:
        """The models, from the catalog or from files."""
        return [catalog.model(name) for name in self.models]

    def home(self, name: str) -> System:
        """Return a catalog machine with so much off-chip memory."""
        return with_field(catalog.systems[name], "dram.capacity_bytes", self.gib * GIB)

    def in_memory(self, technology: str = "") -> System:
        """Return the machine with attention in a technology at its median values; the setting's own unless named."""
        return technologies.fitted(self.home(IN_MEMORY), technologies.named(technology or self.technology))

    def machines(self, decoder: Decoder) -> dict[str, tuple[System, Decoder]]:
        """Return the machines of `MACHINES`."""
        held = self.in_memory()
        found = {
            "published": self.home("pim-llm"), "recommended": self.home(RECOMMENDED), "in memory": held,
            "reading alone": with_fields(held, FREE),
        }  # fmt: skip
        pairs = {name: (system, decoder) for name, system in found.items()}
        pairs["improved"] = remedies.put(self.home("pim-llm"), decoder, IMPROVED)
        return {name: pairs[name] for name in MACHINES}


#: What `measured` returns.
COSTS = ("tokens_per_s", "tokens_per_j", "area_m2", "kv_area_m2", "attention_j", "write_share", "static_share")


def measured(system: System, model: Decoder, context_len: Sequence[int], conventions: str = CONVENTIONS) -> xr.Dataset:
    """Return `COSTS` of a machine, along context_len: kv_area_m2 of the crossbars of keys and values; attention_j of
    attention products with what they move; write_share, static_share: shares of a token's energy.
    """
    ds = evaluate(system=system, model=model, context_len=list(context_len), conventions=conventions,
                  detail="component", variables=["latency_s", "energy_j", "area_m2"])  # fmt: skip
    one = ds.squeeze(["system", "model"], drop=True)
    found, whole = summary(one)[["tokens_per_s", "tokens_per_j", "area_m2"]], one.energy_j.sum(["op", "component"])
    attention = one[["energy_j", "area_m2"]].sel(op=list(ATTENTION_OPS)).sum(["op", "component"])
    by_component = one.energy_j.sum("op") / whole
    return annotate(found.assign(
        kv_area_m2=attention.area_m2, attention_j=attention.energy_j,
        write_share=by_component.sel(component="kv_cells", drop=True),
        static_share=by_component.sel(component=["leakage", "standby"]).sum("component"),
    ))  # fmt: skip


def named(ds: xr.Dataset, prefix: str) -> xr.Dataset:
    """Return a dataset with its costs named after what they are of, so that several fit into one."""
    return ds.rename({name: f"{prefix}_{name}" for name in COSTS if name in ds})
