"""From an accelerator, a model and a context length to an xarray Dataset. It wires; the costs are elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, schedule
from pimllm_lib.axes import Frame
from pimllm_lib.conventions import Conventions
from pimllm_lib.costs import memory
from pimllm_lib.engines import Entry, array_entries, pim_entries
from pimllm_lib.errors import BadInput, clip, unknown
from pimllm_lib.hardware import ENGINES, System
from pimllm_lib.ledger import Ledger, split_labels
from pimllm_lib.llm import Decoder, as_published, at_pim_width
from pimllm_lib.parts import Value, fingerprint, part
from pimllm_lib.schema import ATTENTION_OPS, SUBSYSTEMS, VARIABLES, annotate
from pimllm_lib.support import (
    bus_entries, digital_area, dram_entries, nonlinear_entries, require_areas, require_parts, sram_entries,
    standing_power, static_entries,
)  # fmt: skip
from pimllm_lib.units import NANO
from pimllm_lib.workload import Product, elementwise, products

PHASES = ("decode", "prefill")
#: The longest context that is taken: beyond it counts would leave the whole numbers of a float64.
MAX_CONTEXT = 10**9
_SHAPE = (
    "d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "head_dim", "vocab_size", "gated", "embedding_dim", "norm",
    "sub_norms", "qk_norm",
)  # fmt: skip


def evaluate(
    *,
    system: Any,
    model: Any,
    context_len: Any,
    conventions: Any = "corrected",
    detail: str = "total",
    phase: str = "decode",
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Return what one step costs, for every combination of the arguments and of the axes in them.

    system, model, conventions: a catalog name, an object, a path (TOML; for a model also a Hugging Face
    config.json), or a list of these. A system may also be any object with a `name` and a method `costs(products)`.
    context_len: tokens in the key-value cache, a whole number or a list.
    phase: "decode", one new token; or "prefill", all tokens of the context at once.
    detail: "total", "op" or "component", how fine the extensive variables are split.
    variables: the extensive variables wanted, all unless given; large sweeps save time and memory by naming few.
    Dimensions: system, model, conventions (only when a list was given, else an attribute), context_len, op,
    component, then swept axes. Units and meanings are attributes, from `schema`.
    Raises BadInput for anything unknown, out of range, or clashing; for conventions that count a part the system does not
    have; and for a variable asked for by name that a part has no figure for.
    """
    systems = _unique("system", [catalog.system(item) for item in _listed(system)])
    models = _unique("model", [catalog.model(item) for item in _listed(model)])
    presets = _unique("conventions", [catalog.preset(item) for item in _listed(conventions)])
    if phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    frame = Frame.over(
        [*systems, *models],
        system=[s.name for s in systems],
        model=[m.name for m in models],
        conventions=[c.name for c in presets],
        context_len=_contexts(context_len),
        **split_labels(detail),
    )
    context = frame.along("context_len", np.asarray(frame.labels["context_len"], dtype=float))
    wanted, tokens = _wanted(variables), 1 if phase == "decode" else context
    steps = [
        Step(**_shapes(frame, models, counting), context=context, tokens=tokens, counting=counting)
        for counting in presets
    ]
    for item in systems if "area_m2" in (variables or ()) else ():
        require_areas(item)
    tables = [[_tables(frame.align_part(s), step, frame, detail, wanted) for step in steps] for s in systems]
    joined = {
        name: frame.concat("system", [frame.concat("conventions", [t[name] for t in row]) for row in tables])
        for name in tables[0][0]
    }
    single = not isinstance(conventions, list | tuple)
    ds = _dataset(frame, joined, detail, single)
    ds.attrs |= {"phase": phase} | ({"conventions": presets[0].name} if single else {})
    ds.attrs["fingerprints"] = " ".join(f"{item.name}={fingerprint(item)}" for item in [*systems, *models])
    return annotate(ds)


@part
class Step:
    """One step to be costed: the decoder as each engine has it, context, new tokens, and how to count."""

    array: Decoder
    pim: Decoder
    context: Value
    tokens: Value
    counting: Conventions

    def products(self, engine: str = "array") -> list[Product]:
        """Return the matrix products, with the shapes of an engine; the output head only where it is counted."""
        every = products(self.pim if engine == "pim" else self.array, self.context, self.tokens)
        return [p for p in every if p.kind != "head" or self.counting.lm_head]


def _tables(system: Any, step: Step, frame: Frame, detail: str, wanted: set[str]) -> dict[str, Any]:
    """Return the wanted variables of one system for one step, along the frame's dimensions."""
    counting, ledger = step.counting, Ledger(frame, detail, wanted | _needed(step.counting, wanted))
    for product in step.products():
        ledger.add("macs", product.op, "stream", product.macs)
    if not isinstance(system, System):
        _external(system, step, ledger)
        return _results(ledger, wanted, frame.zero)
    busy, standing, worked = defaultdict(dict), defaultdict(float), defaultdict(float)
    for op, component, variable, value in _entries(system, step, ledger.wanted):
        ledger.add(variable, op, component, _counted(value, variable, op, system, step))
        if variable == "busy_s":
            busy[op][component] = busy[op].get(component, 0.0) + value
        elif variable == "static_power_w":
            standing[component] = standing[component] + value
        elif variable == "worked_j":
            worked[component] = worked[component] + value
    for op, component, value in _latencies(busy, system, step):
        ledger.add("latency_s", op, component, value)
    if counting.static_power and "energy_j" in wanted:
        share = system.pim.gated_share if counting.power_gating and system.pim is not None else 1.0
        for op, component, variable, value in static_entries(
            standing, worked, ledger.whole("latency_s"), tiles_share=share
        ):
            ledger.add(variable, op, component, value)
    return _results(ledger, wanted, system.array.rows * system.array.cols + frame.zero)


def _results(ledger: Ledger, wanted: set[str], pe_count: Any) -> dict[str, Any]:
    names = [name for name, variable in VARIABLES.items() if variable.extensive and name in wanted]
    return {name: ledger.table(name) for name in names} | {"pe_count": pe_count}


def _needed(counting: Conventions, wanted: set[str]) -> set[str]:
    """Return the variables that others are made of: static energy needs the time of the whole step."""
    return {"latency_s", "busy_s", "static_power_w"} if counting.static_power and "energy_j" in wanted else set()


def _external(system: Any, step: Step, ledger: Ledger) -> None:
    """Add what a user's own object says its products cost: op -> variable -> value; products follow one another."""
    for op, costs in system.costs(step.products()).items():
        for variable, value in costs.items():
            ledger.add(variable, op, "external", value)
            if variable == "latency_s" and "busy_s" not in costs:
                ledger.add("busy_s", op, "external", value)


def _entries(system: System, step: Step, wanted: set[str]) -> Iterator[Entry]:
    """Yield what the products cost, each on the engine its kind is routed to, and what surrounds the engines."""
    counting, everything = step.counting, step.products()
    on_array, on_pim = ([p for p in step.products(e) if system.routing[p.kind] == e] for e in ENGINES)
    require_parts(system, counting)
    yield from array_entries(system.array, on_array, wanted)
    if on_pim and system.pim is not None:
        yield from pim_entries(system.pim, on_pim, counting, wanted)
    if "area_m2" in wanted:
        yield from digital_area(system)
    if counting.memory:
        yield from sram_entries(system, on_array)
        yield from dram_entries(system, on_array, everything)
    if counting.nonlinear:
        yield from nonlinear_entries(system, elementwise(step.array, step.context, step.tokens))
    if counting.transfers:
        yield from bus_entries(system, everything)
    if counting.static_power:
        yield from (("block", component, "static_power_w", watts) for component, watts in standing_power(system))
        idle = system.array.idle_pe_energy_j * system.array.rate_hz * system.array.rows * system.array.cols
        for op, component, variable, value in array_entries(system.array, on_array, {"busy_s"}):
            if variable == "busy_s":
                yield op, "stream", "worked_j", value * idle


def _counted(value: Value, variable: str, op: str, system: System, step: Step) -> Value:
    """Return a cost as the conventions count it: attention energy of a hybrid once a token where they say so."""
    once = step.counting.attention_energy_once and system.hybrid and variable == "energy_j"
    return value / step.array.n_layers if once and op in ATTENTION_OPS else value


def _latencies(busy: dict[str, dict[str, Value]], system: System, step: Step) -> Iterator[tuple[str, str, Value]]:
    """Yield each product's time on the critical path, its wait for memory, and the rounding that closes a block."""
    engine = {product.op: system.routing[product.kind] for product in step.products()}
    working = {op: {c: t for c, t in busy[op].items() if c in _WORKING} for op in busy if op in engine}
    share = schedule.exposed({op: sum(t.values()) for op, t in working.items()}, engine, overlap=step.counting.overlap)
    on_pim: Any = 0.0
    for op, parts in working.items():
        exposed = {component: time * share[op] if engine[op] == "pim" else time for component, time in parts.items()}
        yield from ((op, component, time) for component, time in exposed.items())
        transfer = sum(time for component, time in busy[op].items() if component.startswith("dram_"))
        if step.counting.memory:
            yield op, "stall", memory.stall(transfer, sum(exposed.values()))
        if engine[op] == "pim" and op != "lm_head":
            on_pim = on_pim + sum(exposed.values())
    if step.counting.floor_block and "pim" in engine.values():
        steps = step.pim.n_layers * step.tokens
        yield "block", "rounding", (np.floor(on_pim / steps / NANO) * NANO - on_pim / steps) * steps


#: Components whose working time the engines themselves take.
_WORKING = frozenset((*SUBSYSTEMS["array"], *SUBSYSTEMS["pim"]))


def _shapes(frame: Frame, models: list[Decoder], counting: Conventions) -> dict[str, Decoder]:
    """Return the decoder each engine works on, sizes along the model dimension, shaped as the conventions say."""
    shaped = [as_published(m, d_ff=counting.published_ffn_width, gated=counting.published_ffn_gate) for m in models]
    on_pim = [at_pim_width(m) if counting.published_pim_width else m for m in shaped]
    return {"array": _stack(frame, shaped), "pim": _stack(frame, on_pim)}


def _stack(frame: Frame, models: list[Decoder]) -> Decoder:
    aligned = [replace(frame.align_part(m), embedding_dim=frame.align(m.embedding_dim or m.d_model)) for m in models]
    sizes = {name: frame.concat("model", [_numbers(getattr(m, name)) for m in aligned]) for name in _SHAPE}
    return Decoder(name="stack", **sizes)


def _numbers(value: Any) -> Any:
    """Return a size as float64, a name as it is."""
    return np.asarray(value) if isinstance(value, str) else np.asarray(value, dtype=float)


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
