"""From an accelerator, a model and a context length to an xarray Dataset. It wires; the costs are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, schedule
from pimllm_lib.axes import Frame
from pimllm_lib.conventions import Conventions
from pimllm_lib.costs import systolic
from pimllm_lib.errors import BadInput, clip, unknown
from pimllm_lib.hardware import System, SystolicArray
from pimllm_lib.ledger import Ledger, split_labels
from pimllm_lib.llm import Decoder, as_published
from pimllm_lib.parts import Value, fingerprint
from pimllm_lib.schema import VARIABLES, annotate
from pimllm_lib.workload import Product, decode_step

#: A cost entry: variable, component, value for one token.
Entry = tuple[str, str, Value]
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
    wanted = _wanted(variables)
    tables = [
        [
            _tables(frame.align_part(s), _stack(frame, models, preset), context, frame, detail, wanted)
            for preset in presets
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
    system: System, decoder: Decoder, context: Any, frame: Frame, detail: str, wanted: set[str]
) -> dict[str, Any]:
    """Return the wanted variables of one system under one convention, along the frame's dimensions."""
    ledger, busy = Ledger(frame, detail, wanted), dict[str, dict[str, Value]]()
    for product in decode_step(decoder, context):
        for variable, component, value in _entries(system, product, wanted):
            ledger.add(variable, product.op, component, value)
            if variable == "busy_s":
                busy.setdefault(component, {})[product.op] = value
    for component, by_op in busy.items():
        for op, value in schedule.serial(by_op).items():
            ledger.add("latency_s", op, component, value)
    extensive = [name for name, variable in VARIABLES.items() if variable.extensive and name in wanted]
    return {name: ledger.table(name) for name in extensive} | {
        "pe_count": system.array.rows * system.array.cols + frame.zero
    }


def _entries(system: System, product: Product, wanted: set[str]) -> Iterator[Entry]:
    """Yield what one kind of product costs on the engine it is routed to, and its operations."""
    yield "macs", "stream", product.macs
    if system.routing[product.kind] == "array":
        yield "array_macs", "stream", product.macs
        for variables, entries in _ARRAY_ENTRIES:
            if wanted & variables:
                yield from entries(system.array, product)


def _array_time(array: SystolicArray, product: Product) -> Iterator[Entry]:
    on = systolic.mapping(product.m, product.k, product.n, **_shape(array))
    for phase, value in systolic.phase_cycles(on).items():
        spent = value * product.calls
        yield "cycles", phase, spent
        yield "busy_s", phase, spent * (1 / array.rate_hz)


def _array_energy(array: SystolicArray, product: Product) -> Iterator[Entry]:
    on = systolic.mapping(product.m, product.k, product.n, **_shape(array))
    joules = systolic.energy(
        on,
        rows=array.rows,
        cols=array.cols,
        active_pe_energy_j=array.active_pe_energy_j,
        idle_pe_energy_j=array.idle_pe_energy_j,
        measured_cycle_energy_j=array.measured_cycle_energy_j,
        measured=(array.rows == array.measured_rows) & (array.cols == array.measured_cols),
    )
    for phase, value in joules.items():
        yield "energy_j", phase, value * product.calls


def _array_traffic(array: SystolicArray, product: Product) -> Iterator[Entry]:
    size, shape, calls = (product.m, product.k, product.n), _shape(array), product.calls
    words = systolic.sram_words(*size, **shape)
    for operand in ("inputs", "weights", "partial_sums"):
        yield "sram_reads", "stream", words[operand] * calls
    yield "sram_writes", "stream", words["results"] * calls
    for phase, value in systolic.register_accesses(*size, **shape).items():
        yield "register_accesses", phase, value * calls


def _shape(array: SystolicArray) -> dict[str, Any]:
    return {"rows": array.rows, "cols": array.cols, "dataflow": array.dataflow}


#: Which variables each function of the systolic array yields, so that unwanted work is not done.
_ARRAY_ENTRIES: tuple[tuple[set[str], Callable[[SystolicArray, Product], Iterator[Entry]]], ...] = (
    ({"cycles", "busy_s", "latency_s"}, _array_time),
    ({"energy_j"}, _array_energy),
    ({"sram_reads", "sram_writes", "register_accesses"}, _array_traffic),
)


def _stack(frame: Frame, models: list[Decoder], preset: Conventions) -> Decoder:
    """Return one decoder whose sizes vary along the model dimension, shaped as the conventions say."""
    shaped = [
        frame.align_part(as_published(m, d_ff=preset.published_ffn_width, gated=preset.published_ffn_gate))
        for m in models
    ]
    sizes = {
        name: frame.concat("model", [np.asarray(getattr(m, name), dtype=float) for m in shaped]) for name in _SHAPE
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
