"""Remedies for long contexts: named changes of a machine, a model, or both, that can be put on top of one another.

    >>> import pimllm_lib as pl
    >>> from pimllm_lib.analysis import remedies
    >>> pim, llama = pl.catalog.systems["pim-llm"], pl.catalog.models["llama-3-8b"]
    >>> machine, model = remedies.put(pim, llama, ["row groups", "packed heads"])
    >>> machine.array.row_groups, machine.decoding.pack_heads, machine.sram.port_bits
    (32, True, 8448)

None is free: every one takes area, bandwidth, energy, or changes what is computed (`exact` says which do not).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pimllm_lib import catalog
from pimllm_lib.core.errors import BadInput, unknown
from pimllm_lib.core.parts import Value, with_fields
from pimllm_lib.hardware import System
from pimllm_lib.workload.decoder import Decoder, with_each

Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Remedy:
    """A named change. slot: of remedies with the same slot a machine can have one; exact: whether it computes the same.

    of_system, of_model: field -> value of what changes, given the machine and the model as they are.
    """

    name: str
    slot: str
    exact: bool
    of_system: Callable[[System, Decoder], Changes] = lambda system, model: {}
    of_model: Callable[[Decoder], Changes] = lambda model: {}


def _shape(rows: int, cols: int, arrays: int = 1) -> Callable[[System, Decoder], Changes]:
    return lambda system, model: {"array.rows": rows, "array.cols": cols, "array.arrays": arrays}


def _always(**changes: Any) -> Callable[[System, Decoder], Changes]:
    return lambda system, model: {path.replace("__", "."): value for path, value in changes.items()}


#: Heads that share keys and values are rows of one product.
_packed = _always(decoding__pack_heads=True)


def _fast(system: System, model: Decoder) -> Changes:
    fast = catalog.parts["edge-32x32-800mhz"]
    own = {"rows", "cols", "arrays", "dataflow", "row_groups", "overlap", "name"}
    changed = [name for name in fast.__dataclass_fields__ if name not in own and not name.startswith("measured_")]
    return {f"array.{name}": getattr(fast, name) for name in changed} | {"array.measured_cycle_energy_j": 0.0}


def kv_bits(bits: Value) -> Changes:
    """Return the change to keys and values in so many bits, with the scales that they need."""
    part = catalog.parts["ternary-2bit-kv4"]
    scaled = {f"storage.{name}": getattr(part, name) for name in ("kv_group", "kv_scale_bits", "kv_convert_j")}
    return {"storage.kv_bits": bits} | scaled


def _drafting(system: System, model: Decoder) -> Changes:
    """Draft with the share of blocks that the source drafts with."""
    part = catalog.parts["early-exit"]
    layers = np.maximum(1, np.round(model.n_layers * part.draft_layers / 32))
    return {"decoding.speculation": replace(part, draft_layers=layers)}


def _grouped(model: Decoder) -> Changes:
    """Keep at most eight heads of keys and values, as many as divide the heads: eight is what its source measured."""
    fewer: Value = 1
    for heads in range(2, 9):
        fewer = fewer + (model.n_heads % heads == 0) * (heads - fewer)
    return {"n_kv_heads": np.minimum(model.n_kv_heads, fewer)}


def _latent(model: Decoder) -> Changes:
    """Give a model the latent of its source: four heads wide, with half a head for positions."""
    return {"latent_dim": 4 * model.head_dim, "rope_dim": model.head_dim // 2}


def _windowed(model: Decoder) -> Changes:
    return {"window": np.minimum(model.window, 1020), "sinks": 4}


def _store(name: str) -> Callable[[System, Decoder], Changes]:
    return lambda system, model: {"kv": catalog.parts[name]}


REMEDIES: dict[str, Remedy] = {
    remedy.name: remedy
    for remedy in (
        Remedy("row groups", "shape", True, lambda s, m: {"array.row_groups": s.array.rows}),
        Remedy("one row of 1024", "shape", True, _shape(1, 1024)),
        Remedy("32 rows of 32", "shape", True, _shape(1, 32, 32)),
        Remedy("16 arrays of 8 x 8", "shape", True, _shape(8, 8, 16)),
        Remedy("overlapped folds", "overlap", True, _always(array__overlap=True)),
        Remedy("weight stationary", "dataflow", True, _always(array__dataflow="ws")),
        Remedy("input stationary", "dataflow", True, _always(array__dataflow="is")),
        Remedy("800 MHz", "clock", True, _fast),
        Remedy("split sequence", "splits", True, _always(decoding__splits=8)),
        Remedy("packed heads", "pack", True, _packed),
        Remedy("batch of 8", "batch", True, _always(decoding__batch=8)),
        Remedy("half-batches in turns", "turns", True, lambda s, m: {
            "decoding.pipelined": True, "decoding.batch": np.maximum(s.decoding.batch, 2)}),
        Remedy("speculation", "draft", True, _drafting),
        Remedy("keys and values in 4 bits", "kv bits", False, lambda s, m: kv_bits(4)),
        Remedy("keys and values in 3 bits", "kv bits", False, lambda s, m: kv_bits(3)),
        Remedy("keys and values in 2 bits", "kv bits", False, lambda s, m: kv_bits(2)),
        Remedy("cache in SRAM", "store", True, _store("kv-sram")),
        Remedy("cache in eDRAM", "store", False, _store("kv-edram")),
        Remedy("grouped heads", "heads", False, _packed, _grouped),
        Remedy("latent attention", "heads", False, _packed, _latent),
        Remedy("window of 1024", "choice", False, of_model=_windowed),
        Remedy("best 1024 tokens", "choice", False, of_model=lambda m: {"top_tokens": 1024}),
    )
}  # fmt: skip


def put(system: Any, model: Any, names: Sequence[str]) -> tuple[System, Decoder]:
    """Return a machine and a model with remedies put on in order, and with ports as wide as the arrays then ask for.

    system, model: objects, catalog names or paths. Raises UnknownName for a remedy that is none, and BadInput for two
    in one slot and for a system without on-chip memory.
    """
    system, model = catalog.system(system), catalog.model(model)
    if not isinstance(system, System) or system.storage is None or system.sram is None:
        raise BadInput(f"{system.name} has no sram or no storage; wanted a system made of parts, with both")
    taken: dict[str, str] = {}
    for name in names:
        if name not in REMEDIES:
            raise unknown("remedy", name, REMEDIES)
        remedy = REMEDIES[name]
        if remedy.slot in taken:
            raise BadInput(f"{name!r} and {taken[remedy.slot]!r} cannot both be had; wanted one of them")
        taken[remedy.slot] = name
        changed = remedy.of_system(system, model)
        system, model = with_fields(system, changed), with_each(model, remedy.of_model)
    return provisioned(system), model


def provisioned(system: System) -> System:
    """Return the machine with ports of its on-chip memory as wide as its arrays ask for in a cycle, which takes area."""
    return system if system.sram is None else with_fields(system, {"sram.port_bits": port_bits(system)})


def port_bits(system: System) -> Value:
    """Return the bits that the arrays of a machine take from on-chip memory in a cycle: a word for every column of
    every group, and one for every row.
    """
    assert system.storage is not None
    array = system.array
    return array.arrays * (array.row_groups * array.cols + array.rows) * system.storage.act_bits


def free(taken: Iterable[str]) -> list[str]:
    """Return the remedies that can be put on beside those taken."""
    slots = {REMEDIES[name].slot for name in taken}
    return [name for name, remedy in REMEDIES.items() if remedy.slot not in slots]
