"""What bounds decoding at a context length: multipliers, those that idle, filling, the ports of SRAM, off-chip memory.

The floor below every one of them is the time in which the cache itself is read once: no arrangement of multipliers
beats it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core import joining
from pimllm_lib.core.axes import Frame
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import ATTENTION_OPS, SUBSYSTEMS, annotate
from pimllm_lib.hardware import System
from pimllm_lib.system.arguments import contexts
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.workload.caches import attended_words
from pimllm_lib.workload.step import tokens_of

#: What may bound decoding -> meaning.
BOUNDS = {
    "other work": "projections, output head, nonlinear work, transfers: all that is no attention product",
    "multipliers": "attention with all multipliers at work all the time",
    "idle": "multipliers that hold nothing while the operands of attention stream",
    "filling": "filling and draining",
    "SRAM": "ports of on-chip memory",
    "cache memory": "the memory that holds the cache",
}
_ARRAY, _MEMORIES = ("multipliers", "idle", "filling"), ("SRAM", "cache memory")


def decode_bounds(*, system: Any, model: Any, context_len: Any, conventions: Any = "full-system") -> xr.Dataset:
    """Return how long each bound alone takes for one token, and which of them decides.

    Dimensions context_len and bound, with `bound_s`; the coordinate `decides` names one of `BOUNDS`: other work where
    it takes longer than attention; else a memory, where attention waits for it; else the largest part of the array's
    time. Memory counts only where the conventions count it. system, model: objects, catalog names or paths, one of each
    and without axes; raises BadInput for others, and for a system that is not made of parts.
    """
    system = _made_of_parts(system)
    ds = evaluate(system=system, model=model, context_len=context_len, conventions=conventions, detail="component",
                  variables=["latency_s", "busy_s", "array_macs"])  # fmt: skip
    whole = ds.squeeze(["system", "model"], drop=True)
    if set(whole.dims) - {"context_len", "op", "component"}:
        raise BadInput(f"{system.name} or the model has an axis; wanted one value of each number")
    attention = whole.sel(op=list(ATTENTION_OPS)).sum("op")
    parts = attention.busy_s
    computing = attention.array_macs.sum("component") / (whole.pe_count * system.array.rate_hz)
    times = {
        "other work": whole.latency_s.sum(["op", "component"]) - attention.latency_s.sum("component"),
        "multipliers": computing,
        "idle": np.maximum(parts.sel(component="stream", drop=True) - computing, 0),
        "filling": parts.sel(component="fill", drop=True),
        "SRAM": parts.sel(component="sram", drop=True),
        "cache memory": parts.sel(component=["dram_kv", *SUBSYSTEMS["kv_store"]]).sum("component"),
    }
    table = joining.concat(list(times.values()), xr.Variable("bound", list(times)))
    columns = table.transpose("context_len", ...).values
    deciding = [_deciding(dict(zip(times, column, strict=True))) for column in columns]
    return annotate(xr.Dataset({"bound_s": table}, attrs=ds.attrs).assign_coords(decides=("context_len", deciding)))


def _deciding(times: Mapping[str, float]) -> str:
    slowest = max(_MEMORIES, key=times.__getitem__)
    on_array = sum(times[name] for name in _ARRAY)
    if times["other work"] > max(on_array, times[slowest]):
        return "other work"
    return slowest if times[slowest] > on_array else max(_ARRAY, key=times.__getitem__)


def cache_floor(*, system: Any, model: Any, context_len: Any) -> xr.DataArray:
    """Return the tokens per second at which what a step attends to is read from its memory once, and nothing else
    happens.

    Several sequences are read each by itself; drafted tokens are checked by one reading. system, model: their numbers
    may be axes, which the result then has after context_len. Raises BadInput for a system without a memory.
    """
    system, model = _made_of_parts(system), catalog.model(model)
    lengths = contexts(context_len)
    frame = Frame.over([system, model], context_len=lengths)
    machine, decoder = frame.align_part(system), frame.align_part(model)
    words = attended_words(decoder, frame.along("context_len", np.asarray(lengths, dtype=float)))
    storage, store = machine.storage, machine.kv or machine.dram
    least_s = words * machine.decoding.batch * storage.cached_bits / store.bandwidth_bps / tokens_of(machine.decoding)
    dims, values = frame.wrap(1 / least_s, ["context_len"])
    coords = {dim: frame.labels[dim] for dim in dims}
    floor: xr.DataArray = annotate(xr.Dataset({"floor_tokens_per_s": (dims, values)}, coords=coords)).floor_tokens_per_s
    return floor


def _made_of_parts(item: Any) -> System:
    system = catalog.system(item)
    if not isinstance(system, System) or system.storage is None or (system.kv is None and system.dram is None):
        raise BadInput(
            f"{system.name} has no storage or no memory for the cache; wanted a system made of parts, with both"
        )
    return system
