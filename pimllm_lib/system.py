"""From an accelerator, a model and a context length to an xarray Dataset. It wires; the costs are elsewhere."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, schedule
from pimllm_lib.arguments import contexts, listed, shapes, unique, wanted
from pimllm_lib.axes import Frame
from pimllm_lib.catalog.departures import departures
from pimllm_lib.conventions import Conventions
from pimllm_lib.costs import memory
from pimllm_lib.engines import Entry, array_entries, pim_entries
from pimllm_lib.errors import BadInput, clip, unknown
from pimllm_lib.hardware import ENGINES, System
from pimllm_lib.ledger import Ledger, split_labels
from pimllm_lib.parts import Value, fingerprint, numeric, require
from pimllm_lib.schema import ATTENTION_OPS, SUBSYSTEMS, VARIABLES, annotate
from pimllm_lib.step import Step
from pimllm_lib.support import require_areas, static_entries, surrounding_entries
from pimllm_lib.units import NANO

PHASES = ("decode", "prefill")


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
    config.json), or a list of these. A system may also be any object with a `name` and a method `costs(products)`; it is
    charged what that method says, whatever the conventions add to systems made of parts.
    context_len: tokens in the key-value cache, a whole number or a list.
    phase: "decode", one new token; or "prefill", all tokens of the context at once.
    detail: "total", "op" or "component", how fine the extensive variables are split.
    variables: the extensive variables wanted, all unless given; large sweeps save time and memory by naming few.
    Dimensions: system, model, conventions (only when a list was given, else an attribute), context_len, op,
    component, then swept axes. Units and meanings are attributes, from `schema`.
    Raises BadInput for anything unknown, out of range, or clashing; for conventions that count a part the system does not
    have; and for a variable asked for by name that a part has no figure for.
    """
    systems = unique("system", [catalog.system(item) for item in listed(system)])
    models = unique("model", [catalog.model(item) for item in listed(model)])
    presets = unique("conventions", [catalog.preset(item) for item in listed(conventions)])
    if phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    frame = Frame.over(
        [*systems, *models],
        system=[s.name for s in systems],
        model=[m.name for m in models],
        conventions=[c.name for c in presets],
        context_len=contexts(context_len),
        **split_labels(detail),
    )
    context = frame.along("context_len", np.asarray(frame.labels["context_len"], dtype=float))
    names, tokens = wanted(variables), 1 if phase == "decode" else context
    steps = [
        Step(**shapes(frame, models, counting), context=context, tokens=tokens, counting=counting)
        for counting in presets
    ]
    for item in systems if "area_m2" in (variables or ()) else ():
        require_areas(item)
    tables = [[_tables(frame.align_part(s), step, frame, detail, names) for step in steps] for s in systems]
    joined = {
        name: frame.concat("system", [frame.concat("conventions", [t[name] for t in row]) for row in tables])
        for name in tables[0][0]
    }
    single = not isinstance(conventions, list | tuple)
    ds = _dataset(frame, joined, detail, single)
    ds.attrs |= {"phase": phase} | ({"conventions": presets[0].name} if single else {})
    given = [*systems, *models, *presets]
    ds.attrs["fingerprints"] = " ".join(f"{item.name}={fingerprint(item)}" for item in given)
    own = {name: value for item in given for name, value in departures(item).items()}
    ds.attrs |= {"user_values": json.dumps(own, sort_keys=True)} if own else {}
    return annotate(ds)


class _Tally:
    """What entries add up to besides the ledger: working times, and static power with what of it is charged already."""

    def __init__(self) -> None:
        self.busy: dict[str, dict[str, Value]] = defaultdict(dict)
        self.standing: dict[str, Value] = defaultdict(float)
        self.worked: dict[str, Value] = defaultdict(float)

    def take(self, op: str, component: str, variable: str, value: Value) -> None:
        if variable == "busy_s":
            mine = self.busy[op]
            mine[component] = mine[component] + value if component in mine else value
        elif variable == "static_power_w":
            self.standing[component] = self.standing[component] + value
        elif variable == "worked_j":
            self.worked[component] = self.worked[component] + value


def _tables(system: Any, step: Step, frame: Frame, detail: str, names: set[str]) -> dict[str, Any]:
    """Return the wanted variables of one system for one step, along the frame's dimensions."""
    ledger = Ledger(frame, detail, names | _needed(step.counting, names))
    for product in step.products():
        ledger.add("macs", product.op, "stream", product.macs)
    if not isinstance(system, System):
        _external(system, step, ledger)
        return _results(ledger, names, frame.zero)
    tally = _Tally()
    for op, component, variable, value in _entries(system, step, ledger.wanted):
        ledger.add(variable, op, component, _counted(value, variable, op, system, step))
        tally.take(op, component, variable, value)
    for op, component, value in _latencies(tally.busy, system, step) if "latency_s" in ledger.wanted else ():
        ledger.add("latency_s", op, component, value)
    if step.counting.static_power and "energy_j" in names:
        _charge_waiting(system, step, tally, ledger)
    return _results(ledger, names, system.array.rows * system.array.cols + frame.zero)


def _charge_waiting(system: System, step: Step, tally: _Tally, ledger: Ledger) -> None:
    """Add the static energy of a whole step, which needs the time of all the rest."""
    share = system.pim.gated_share if step.counting.power_gating and system.pim is not None else 1.0
    token_s = ledger.whole("latency_s")
    for op, component, variable, value in static_entries(tally.standing, tally.worked, token_s, tiles_share=share):
        ledger.add(variable, op, component, value)


def _results(ledger: Ledger, wanted: set[str], pe_count: Any) -> dict[str, Any]:
    names = [name for name, variable in VARIABLES.items() if variable.extensive and name in wanted]
    return {name: ledger.table(name) for name in names} | {"pe_count": pe_count}


def _needed(counting: Conventions, wanted: set[str]) -> set[str]:
    """Return the variables that others are made of: static energy needs the time of the whole step."""
    return {"latency_s", "busy_s", "static_power_w"} if counting.static_power and "energy_j" in wanted else set()


def _external(system: Any, step: Step, ledger: Ledger) -> None:
    """Add what a user's own object says its products cost: op -> variable -> value; products follow one another."""
    for op, costs in _checked(system, step).items():
        for variable, value in costs.items():
            ledger.add(variable, op, "external", value)
            if variable == "latency_s" and "busy_s" not in costs:
                ledger.add("busy_s", op, "external", value)


def _checked(system: Any, step: Step) -> Mapping[str, Mapping[str, Value]]:
    """Return what a user's object says. Raises BadInput for a product left out or unknown, and for what is no cost."""
    ops, said = [product.op for product in step.products()], system.costs(step.products())
    if not isinstance(said, Mapping) or set(said) != set(ops):
        got = sorted(map(str, said)) if isinstance(said, Mapping) else said
        raise BadInput(f"{system.name}.costs gives {clip(got)}; wanted a mapping with {', '.join(ops)}")
    known = {name for name, variable in VARIABLES.items() if variable.extensive}
    for op, costs in said.items():
        for variable, value in costs.items():
            if variable not in known:
                raise unknown(f"variable of {system.name}.costs[{op!r}]", variable, known)
            what = f"{system.name}.costs[{op!r}][{variable!r}]"
            numeric(what, value, "a finite number of at least 0")
            require((value >= 0) & np.isfinite(value), what, value, "a finite number of at least 0")
    return said


def _entries(system: System, step: Step, wanted: set[str]) -> Iterator[Entry]:
    """Yield what the products cost, each on the engine it is routed to, and what surrounds the engines."""
    on_array, on_pim = ([p for p in step.products(e) if system.engine(p.op) == e] for e in ENGINES)
    yield from array_entries(system.array, on_array, wanted)
    if on_pim and system.pim is not None:
        yield from pim_entries(system.pim, on_pim, step.counting, wanted)
    yield from surrounding_entries(system, step, on_array, wanted)


def _counted(value: Value, variable: str, op: str, system: System, step: Step) -> Value:
    """Return a cost as the conventions count it: attention energy of a hybrid once a token where they say so."""
    once = step.counting.attention_energy_once and system.hybrid and variable == "energy_j"
    return value / step.array.n_layers if once and op in ATTENTION_OPS else value


def _latencies(busy: dict[str, dict[str, Value]], system: System, step: Step) -> Iterator[tuple[str, str, Value]]:
    """Yield each product's time on the critical path, its wait for memory, and the rounding that closes a block."""
    engine = {product.op: system.engine(product.op) for product in step.products()}
    working = {op: {c: t for c, t in busy[op].items() if c in _WORKING} for op in busy if op in engine}
    # on the array only the scores matter, and only where work overlaps: a large sweep adds up no more than that
    needed = [op for op in working if engine[op] == "pim" or (op == "score" and step.counting.overlap)]
    times = {op: sum(working[op].values()) if op in needed else 0.0 for op in working}
    share = schedule.exposed(times, engine, overlap=step.counting.overlap)
    on_pim: Any = 0.0
    for op, parts in working.items():
        exposed = {component: time * share[op] if engine[op] == "pim" else time for component, time in parts.items()}
        yield from ((op, component, time) for component, time in exposed.items())
        transfer = sum(time for component, time in busy[op].items() if component.startswith("dram_"))
        if step.counting.memory:
            yield op, "stall", memory.stall(transfer, sum(parts.values()))
        if engine[op] == "pim" and op != "lm_head":
            on_pim = on_pim + sum(exposed.values())
    if step.counting.floor_block and "pim" in engine.values():
        steps = step.pim.n_layers * step.tokens
        yield "block", "rounding", (np.floor(on_pim / steps / NANO) * NANO - on_pim / steps) * steps


#: Components whose working time the engines themselves take.
_WORKING = frozenset((*SUBSYSTEMS["array"], *SUBSYSTEMS["pim"]))


def _dataset(frame: Frame, tables: dict[str, Any], detail: str, single: bool) -> xr.Dataset:
    """Wrap tables as variables. Intensive ones have no op or component; `single` leaves conventions out."""
    counted = [] if single else ["conventions"]
    split = {"total": [], "op": ["op"], "component": ["op", "component"]}[detail]
    extensive = ["system", "model", "context_len", *counted, *split]
    data = {
        name: frame.wrap(table, extensive if VARIABLES[name].extensive else ["system", *counted])
        for name, table in tables.items()
    }
    used = {dim for dims, _ in data.values() for dim in dims}
    return xr.Dataset(data, coords={dim: labels for dim, labels in frame.labels.items() if dim in used})
