"""What one system is charged for one step: what its engines and what surrounds them say, into one book."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from functools import reduce
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from pimllm_lib.core.axes import Frame
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import Value, numeric, require
from pimllm_lib.core.schema import ATTENTION_OPS, COMPONENTS, EXTENSIVE, PRODUCT_KINDS, STANDING
from pimllm_lib.core.units import NANO
from pimllm_lib.costs import memory
from pimllm_lib.engines import BY_NAME
from pimllm_lib.engines.entries import Entry, Move, Said, Turn, Wait, Work
from pimllm_lib.engines.surroundings import surrounding_entries
from pimllm_lib.hardware import System
from pimllm_lib.system import schedule
from pimllm_lib.system.ledger import Ledger
from pimllm_lib.system.standing import Standing
from pimllm_lib.workload.decoder import few_and_dense
from pimllm_lib.workload.step import Step, decoding_passes, tokens_of

#: Op -> component -> seconds.
Times: TypeAlias = dict[str, dict[str, Value]]


def tables(system: Any, step: Step, frame: Frame, detail: str, names: set[str], *, decode: bool) -> dict[str, Any]:
    """Return the wanted variables of one system for one step, along the frame's dimensions.

    decode: whether the step is organised as the system decodes, and its costs are those of each token it makes.
    """
    static = step.counting.static_power and "energy_j" in names  # which needs the time of the whole step
    ledger = Ledger(frame, detail, names | ({"latency_s", "busy_s", "static_power_w"} if static else set()))
    if not isinstance(system, System):
        for op, component, variable, value in [*_counts(step), *_external(system, step)]:
            ledger.add(variable, op, component, value)
        return _results(ledger, names, frame.zero)
    standing = Standing()
    for i, (once, times) in enumerate(decoding_passes(step, system.decoding) if decode else [(step, 1)]):
        for part in once.parts():
            _charge(system.routed(*few_and_dense(part.array)), part, times, ledger, standing, first=i == 0)
    _wait_for_late(system, step, ledger)
    if static:
        standing.charge(system.routed(*few_and_dense(step.array)), step, ledger)
    pe_count = system.array.rows * system.array.cols * system.array.arrays + frame.zero
    return _results(ledger, names, pe_count, tokens_of(system.decoding) if decode else 1)


def _wait_for_late(system: System, step: Step, ledger: Ledger) -> None:
    """Add what is waited for beyond the time of the step."""
    for late, field in ((BY_NAME[name].late, name) for name in _engines(system)):
        if late and "latency_s" in ledger.wanted:
            step_s = ledger.whole("latency_s")
            for op, component, seconds in chain.from_iterable(
                late(getattr(system, field), one, step_s) for one in step.parts()
            ):
                ledger.add("latency_s", op, component, seconds)


def _engines(system: System) -> list[str]:
    """Return the engines that any product goes to."""
    routed = {system.engine(op) for op in PRODUCT_KINDS}
    return [name for name in BY_NAME if name in routed]


def _counts(step: Step) -> Iterator[Entry]:
    yield from (Entry(product.op, "stream", "macs", product.macs) for product in step.products())


def _often(value: Value, times: Value) -> Value:
    """Return a cost of something done so often; once is the value itself, not a copy of it."""
    return value if isinstance(times, int) and times == 1 else value * times


def _add(sums: MutableMapping[Any, Value], key: Any, value: Value) -> None:
    """Add to a sum, which no other may hold on to."""
    sums[key] = sums[key] + value if key in sums else value


def _charge(system: System, step: Step, times: Value, ledger: Ledger, standing: Standing, *, first: bool) -> None:
    """Add what one pass costs, as often as it is done. first: whether it is this pass that says what stands there."""
    kept: dict[Any, Times] = {Work: {}, Move: {}, "busy_s": {}, "static_power_w": standing.standing_w}
    waits: list[Wait] = []
    for said in _said(system, step, ledger.wanted):
        if isinstance(said, Wait):
            waits.append(said)
        elif isinstance(said, Turn):
            standing.take(said, times)
        elif first or said.variable not in STANDING:
            op, component, variable, value = said.op, said.component, said.variable, said.value
            how = variable if isinstance(said, Entry) else type(said)
            if how in kept:
                _add(kept[how].setdefault(op, {}), component, value)
            ledger.add(variable, op, component, value if variable in STANDING else _often(value, times))
    if "latency_s" in ledger.wanted:
        critical = list(_critical(kept, waits, system, step))
        standing.time(critical, system, times)
        for op, component, seconds in critical:
            ledger.add("latency_s", op, component, _often(seconds, times))


def _said(system: System, step: Step, wanted: set[str]) -> Iterator[Said]:
    """Yield what the products cost, each on the engine it is routed to, and what surrounds the engines.

    Conventions may count the attention energy of a hybrid once a token.
    """
    on = {name: [p for p in step.products(name) if system.engine(p.op) == name] for name in _engines(system)}
    engines = (BY_NAME[e].entries(getattr(system, e), step, products, wanted) for e, products in on.items() if products)
    every = chain(_counts(step), *engines, surrounding_entries(system, step, on.get("array", []), wanted))
    if not (step.counting.attention_energy_once and system.hybrid):
        yield from every
        return
    for said in every:
        if isinstance(said, Entry) and said.variable == "energy_j" and said.op in ATTENTION_OPS:
            yield said._replace(value=said.value / step.layers)
        else:
            yield said


def _critical(busy: Mapping[Any, Times], waits: list[Wait], system: System, step: Step) -> Iterator[Wait]:
    """Yield the times on the critical path of one pass."""
    every = [*waits, *_latencies(busy[Work], busy[Move], system, step)]
    yield from _taking_turns([*every, *_late_softmax(busy["busy_s"], every)], system, step)


def _latencies(work: Times, moved: Times, system: System, step: Step) -> Iterator[Wait]:
    """Yield each product's time on the critical path, its wait for memory, and the rounding that closes a block."""
    engine = {op: system.engine(op) for op in (*work, *moved)}
    turns = {op: name not in schedule.PARALLEL_ENGINES for op, name in engine.items()}
    # of products that take turns only the scores matter, and only where work overlaps: a large sweep adds up no more
    needed = [op for op in work if not turns[op] or (op == "score" and step.counting.overlap)]
    times = {op: sum(work[op].values()) if op in needed else 0.0 for op in engine}
    share = schedule.exposed(times, engine, overlap=step.counting.overlap)
    on_pim: Any = 0.0
    for op in engine:
        parts = work.get(op, {})
        exposed = parts if turns[op] else {component: time * share[op] for component, time in parts.items()}
        yield from (Wait(op, component, time) for component, time in exposed.items())
        if step.counting.memory:
            yield Wait(op, "stall", memory.stall(_transfer(moved.get(op, {})), sum(parts.values())))
        if engine[op] == "pim" and op != "lm_head":
            on_pim = on_pim + sum(exposed.values())
    if step.counting.floor_block and "pim" in engine.values():
        steps = step.pim.n_layers * step.vectors
        yield Wait("block", "rounding", (np.floor(on_pim / steps / NANO) * NANO - on_pim / steps) * steps)


def _transfer(moved: Mapping[str, Value]) -> Value:
    """Return how long the memories of one product take: those of different subsystems move at the same time."""
    by_memory: dict[str, Value] = {}
    for component, seconds in moved.items():
        _add(by_memory, COMPONENTS[component].subsystem, seconds)
    return reduce(np.maximum, by_memory.values()) if by_memory else 0.0


def _late_softmax(busy: Times, waits: list[Wait]) -> Iterator[Wait]:
    """Yield what is left of the softmax that streams with the scores when these are done sooner."""
    if "softmax" in busy:
        taken = {name: sum(value for op, _, value in waits if op == name) for name in ("score", "softmax")}
        streaming = sum(busy["softmax"].values()) - taken["softmax"]
        yield Wait("softmax", "nonlinear", np.maximum(0.0, streaming - taken["score"]))


def _taking_turns(waits: list[Wait], system: System, step: Step) -> Iterator[Wait]:
    """Yield times on the critical path with those hidden that one half of a batch spends behind the other.

    Attention and nonlinear work take turns with what is on the crossbars. The output head and projections on the array
    share their weights over the whole batch, so they wait for all of it.
    """
    if not np.any(np.asarray(step.way.pipelined)):
        yield from waits
        return
    sides = {"pim": 0.0, "array": 0.0}
    for op, _, value in waits:
        if side := _side(system, op):
            sides[side] = sides[side] + value
    share = schedule.hidden(sides, blocks=step.layers, pipelined=step.way.pipelined, batch=step.way.batch)
    for op, component, value in waits:
        yield Wait(op, component, value * share.get(_side(system, op), 1.0))


def _side(system: System, op: str) -> str:
    """Return the half that an op keeps busy in turns with the other: "pim" or "array", "" for neither."""
    if op == "lm_head" or op == "block":
        return ""
    if op in PRODUCT_KINDS and system.engine(op) == "pim":
        return "pim"
    return "array" if op in ATTENTION_OPS or op not in PRODUCT_KINDS else ""


def _results(ledger: Ledger, wanted: set[str], pe_count: Any, made: Value = 1) -> dict[str, Any]:
    """Return the tables of the wanted variables, those of work for each of the tokens made."""
    whole = {name: ledger.table(name) for name in EXTENSIVE if name in wanted}
    if not (isinstance(made, int) and made == 1):
        whole = {name: value if name in STANDING else value / made for name, value in whole.items()}
    return whole | {"pe_count": pe_count}


def _external(system: Any, step: Step) -> Iterator[Entry]:
    """Yield what a user's own object says its products cost: op -> variable -> value; products follow one another.

    Raises BadInput for a product left out or unknown, and for what is no cost.
    """
    ops, said = [product.op for product in step.products()], system.costs(step.products())
    if not isinstance(said, Mapping) or set(said) != set(ops):
        got = sorted(map(str, said)) if isinstance(said, Mapping) else said
        raise BadInput(f"{system.name}.costs gives {clip(got)}; wanted a mapping with {', '.join(ops)}")
    for op, costs in said.items():
        for variable, value in costs.items():
            if variable not in EXTENSIVE:
                raise unknown(f"variable of {system.name}.costs[{op!r}]", variable, EXTENSIVE)
            what = f"{system.name}.costs[{op!r}][{variable!r}]"
            numeric(what, value, "a finite number of at least 0")
            require((value >= 0) & np.isfinite(value), what, value, "a finite number of at least 0")
            yield Entry(op, "external", variable, value)
            if variable == "latency_s" and "busy_s" not in costs:
                yield Entry(op, "external", "busy_s", value)
