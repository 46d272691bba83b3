"""Chapter 10, long contexts: what all its parts ask about, and the machines they compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis import remedies
from pimllm_lib.core import joining
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_field
from pimllm_lib.core.schema import annotate
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.products import cache_words

CONVENTIONS = "full-system"
#: The recommended machine, in the catalog.
RECOMMENDED = "pim-llm-groups"


@dataclass(frozen=True)
class Setting:
    """What every part of the chapter asks about. gib: off-chip memory, enough for the longest cache; at: the
    context of rankings, the longest of the paper; far: one beyond it, at which remedies are stacked."""

    models: tuple[str, ...]
    context_len: tuple[int, ...]
    gib: float
    at: int
    far: int

    def __post_init__(self) -> None:
        """Refuse contexts of rankings that are not evaluated."""
        for name in ("at", "far"):
            if (got := getattr(self, name)) not in self.context_len:
                raise BadInput(f"{name} is {clip(got)}; wanted one of context_len, {clip(list(self.context_len))}")
        if self.at == self.far:
            raise BadInput(f"at and far are both {self.at}; wanted two contexts of context_len")

    @property
    def decoders(self) -> list[Decoder]:
        """The models, from the catalog or from files."""
        return [catalog.model(name) for name in self.models]

    @property
    def hybrid(self) -> System:
        """The published hybrid with so much off-chip memory, and ports of its on-chip memory as wide as its array asks
        for.
        """
        return remedies.provisioned(with_field(catalog.systems["pim-llm"], "dram.capacity_bytes", self.gib * 2.0**30))

    def machines(self, decoder: Decoder, exact: Sequence[str]) -> dict[str, tuple[System, Decoder]]:
        """Return the machines compared: published, recommended, and improved by all remedies given."""
        recommended = with_field(catalog.systems[RECOMMENDED], "dram.capacity_bytes", self.gib * 2.0**30)
        return {
            "published": (self.hybrid, decoder), "recommended": (recommended, decoder), "improved": self.put(decoder, exact),
        }  # fmt: skip

    def put(self, decoder: Decoder, names: Sequence[str], context_len: int | None = None) -> tuple[System, Decoder]:
        """Return the hybrid and a model with remedies; a memory for the cache is as large as a context asks for, given
        one.
        """
        system, model = remedies.put(self.hybrid, decoder, names)
        if system.kv is not None and system.storage is not None and context_len is not None:
            words = cache_words(model, context_len, system.decoding)
            system = with_field(system, "kv.capacity_bytes", float(words * system.storage.cached_bits / 8))
        return system, model

    def measured(self, system: System, model: Decoder, context_len: Sequence[int]) -> xr.Dataset:
        """Return rate, efficiency, power and area of a machine, along context_len."""
        ds = evaluate(system=system, model=model, context_len=list(context_len), conventions=CONVENTIONS,
                      variables=["latency_s", "energy_j", "area_m2"])  # fmt: skip
        found = summary(ds).squeeze(["system", "model"], drop=True)
        kept = found.assign(power_w=found.energy_j / found.latency_s)
        return annotate(kept[["tokens_per_s", "tokens_per_j", "power_w", "area_m2"]])


def over_models(decoders: Sequence[Decoder], made: Callable[[Decoder], xr.Dataset]) -> xr.Dataset:
    """Return what is made of each model, along model."""
    every: xr.Dataset = joining.concat(
        [made(decoder).expand_dims(model=[decoder.name]) for decoder in decoders], "model"
    )
    return every
