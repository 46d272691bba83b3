"""From an accelerator, a model and a context length to an xarray Dataset. It wires; the costs are elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, schedule
from pimllm_lib.axes import Frame
from pimllm_lib.conventions import Conventions
from pimllm_lib.engines import Entry, array_entries, pim_entries
from pimllm_lib.errors import BadInput, clip, unknown
from pimllm_lib.hardware import System
from pimllm_lib.ledger import Ledger, split_labels
from pimllm_lib.llm import Decoder, as_published, at_pim_width
from pimllm_lib.parts import Value, fingerprint
from pimllm_lib.schema import VARIABLES, annotate
from pimllm_lib.units import NANO
from pimllm_lib.workload import decode_step

#: The longest context that is taken: beyond it counts would leave the whole numbers of a float64.
MAX_CONTEXT = 10**9
_SHAPE = ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "gated")


def evaluate(
    *,
    system: Any,
    model: Any,
    context_len: Any,
    conventions: Any = "corrected",
    detail: str = "total",
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Return what decoding one token costs, for every combination of the arguments and of the axes in them.

    system, model, conventions: a catalog name, an object, a path (TOML; for a model also a Hugging Face
    config.json), or a list of these. context_len: tokens in the key-value cache, a whole number or a list.
    detail: "total", "op" or "component", how fine the extensive variables are split.
    variables: the extensive variables wanted, all unless given; large sweeps save time and memory by naming few.
    Dimensions: system, model, conventions (only when a list was given, else an attribute), context_len, op,
    component, then swept axes. Units and meanings are attributes, from `schema`.
    Raises BadInput for anything unknown, out of range, or clashing.
    """
    systems = _unique("system", [catalog.system(item) for item in _listed(system)])
    models = _unique("model", [catalog.model(item) for item in _listed(model)])
    presets = _unique("conventions", [catalog.preset(item) for item in _listed(conventions)])
    frame = Frame.over(
        [*systems, *models],
        system=[s.name for s in systems],
        model=[m.name for m in models],
        conventions=[c.name for c in presets],
        context_len=_contexts(context_len),
        **split_labels(detail),
    )
    context = frame.along("context_len", np.asarray(frame.labels["context_len"], dtype=float))
    wanted, shapes = _wanted(variables), [_shapes(frame, models, counting) for counting in presets]
    tables = [
        [
            _tables(frame.align_part(s), shape, context, frame, counting, Ledger(frame, detail, wanted))
            for shape, counting in zip(shapes, presets, strict=True)
        ]
        for s in systems
    ]
    joined = {
        name: frame.concat("system", [frame.concat("conventions", [t[name] for t in row]) for row in tables])
        for name in tables[0][0]
    }
    single = not isinstance(conventions, list | tuple)
    ds = _dataset(frame, joined, detail, single)
    if single:
        ds.attrs["conventions"] = presets[0].name
    ds.attrs["fingerprints"] = " ".join(f"{item.name}={fingerprint(item)}" for item in [*systems, *models])
    return annotate(ds)


def _tables(
    system: System, shapes: dict[str, Decoder], context: Any, frame: Frame, counting: Conventions, ledger: Ledger
) -> dict[str, Any]:
    """Return the wanted variables of one system under one convention, along the frame's dimensions."""
    engine, busy = {}, dict[str, dict[str, Value]]()
    for product in decode_step(shapes["array"], context):
        engine[product.op] = system.routing[product.kind]
        ledger.add("macs", product.op, "stream", product.macs)
    for op, component, variable, value in _entries(system, shapes, context, counting, ledger.wanted):
        ledger.add(variable, op, component, _counted(value, variable, op, system, shapes, counting))
        if variable == "busy_s":
            busy.setdefault(op, {})[component] = value
    for op, component, value in _latencies(busy, engine, shapes["pim"].n_layers, counting):
        ledger.add("latency_s", op, component, value)
    extensive = [name for name, variable in VARIABLES.items() if variable.extensive and name in ledger.wanted]
    count = system.array.rows * system.array.cols + frame.zero
    return {name: ledger.table(name) for name in extensive} | {"pe_count": count}


def _entries(
    system: System, shapes: dict[str, Decoder], context: Any, counting: Conventions, wanted: set[str]
) -> Iterator[Entry]:
    """Yield what the products cost, each on the engine its kind is routed to."""
    work = {name: [p for p in decode_step(shapes[name], context) if system.routing[p.kind] == name] for name in shapes}
    yield from array_entries(system.array, work["array"], wanted)
    if work["pim"] and system.pim is not None:
        yield from pim_entries(system.pim, work["pim"], counting, wanted)


def _counted(
    value: Value, variable: str, op: str, system: System, shapes: dict[str, Decoder], counting: Conventions
) -> Value:
    """Return a cost as the conventions count it: attention energy of a hybrid once a token where they say so."""
    once = counting.attention_energy_once and system.hybrid and variable == "energy_j"
    return value / shapes["array"].n_layers if once and op in ("score", "av") else value


def _latencies(
    busy: dict[str, dict[str, Value]], engine: dict[str, str], blocks: Value, counting: Conventions
) -> Iterator[tuple[str, str, Value]]:
    """Yield each component's share of the critical path, and the rounding that closes a block where it is counted."""
    share = schedule.exposed({op: sum(parts.values()) for op, parts in busy.items()}, engine)
    on_pim: Any = 0.0
    for op, parts in busy.items():
        for component, value in parts.items():
            spent = value if engine[op] == "array" else value * share[op]
            on_pim = on_pim + (spent if engine[op] == "pim" else 0.0)
            yield op, component, spent
    if counting.floor_block and "pim" in engine.values():
        block = on_pim / blocks
        yield "block", "rounding", (np.floor(block / NANO) * NANO - block) * blocks


def _shapes(frame: Frame, models: list[Decoder], counting: Conventions) -> dict[str, Decoder]:
    """Return the decoder each engine works on, sizes along the model dimension, shaped as the conventions say."""
    shaped = [as_published(m, d_ff=counting.published_ffn_width, gated=counting.published_ffn_gate) for m in models]
    on_pim = [at_pim_width(m) if counting.published_pim_width else m for m in shaped]
    return {"array": _stack(frame, shaped), "pim": _stack(frame, on_pim)}


def _stack(frame: Frame, models: list[Decoder]) -> Decoder:
    aligned = [frame.align_part(m) for m in models]
    sizes = {
        name: frame.concat("model", [np.asarray(getattr(m, name), dtype=float) for m in aligned]) for name in _SHAPE
    }
    return Decoder(name="stack", **sizes)


def _dataset(frame: Frame, tables: dict[str, Any], detail: str, single: bool) -> xr.Dataset:
    """Wrap tables as variables. Intensive ones have no op or component; `single` leaves conventions out."""
    counted = [] if single else ["conventions"]
    split = {"total": [], "op": ["op"], "component": ["op", "component"]}[detail]
    extensive = ["system", "model", "context_len", *counted, *split]
    return xr.Dataset(
        {
            name: frame.wrap(table, extensive if VARIABLES[name].extensive else ["system", *counted])
            for name, table in tables.items()
        }
    )


def _listed(value: Any) -> list[Any]:
    """Return a list of at least one item."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items:
        raise BadInput("an empty list was given; wanted at least one name")
    return items


def _wanted(variables: Sequence[str] | None) -> set[str]:
    """Return the extensive variables asked for; raises UnknownName for one that is none."""
    valid = {name for name, variable in VARIABLES.items() if variable.extensive}
    for name in variables or ():
        if name not in valid:
            raise unknown("variable", name, valid)
    return valid if variables is None else set(variables)


def _unique(what: str, items: list[Any]) -> list[Any]:
    """Return the items; raises BadInput when two share a name, since the name is their label in the result."""
    names = [item.name for item in items]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{what} {name!r} was given {names.count(name)} times; wanted distinct names")
    return items


def _contexts(value: Any) -> list[int]:
    """Return context lengths as a list of distinct whole numbers from 1 to MAX_CONTEXT."""
    items = value.tolist() if hasattr(value, "tolist") else value
    items = list(items) if isinstance(items, Iterable) and not isinstance(items, str | bytes) else [items]
    for item in items or ["nothing"]:
        whole = isinstance(item, int | float) and not isinstance(item, bool) and item == item // 1
        if not whole or not 1 <= item <= MAX_CONTEXT:
            raise BadInput(f"context_len is {clip(item)}; wanted a whole number of tokens from 1 to {MAX_CONTEXT}")
    if len(set(items)) < len(items):
        raise BadInput(f"context_len is {clip(items)}; wanted distinct lengths")
    return [int(item) for item in items]
