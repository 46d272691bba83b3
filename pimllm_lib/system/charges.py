"""What one system is charged for one step: entries from its engines and what surrounds them, into one book."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pimllm_lib.core.axes import Frame
from pimllm_lib.core.conventions import Conventions
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import Value, numeric, require
from pimllm_lib.core.schema import ATTENTION_OPS, PRODUCT_KINDS, STANDING, SUBSYSTEMS, VARIABLES
from pimllm_lib.core.units import NANO
from pimllm_lib.costs import memory
from pimllm_lib.engines.crossbars import Entry, array_entries, pim_entries
from pimllm_lib.engines.keys_values import kv_entries
from pimllm_lib.engines.surroundings import static_entries, surrounding_entries
from pimllm_lib.engines.writing import late_writes, require_kept
from pimllm_lib.hardware import ENGINES, KvPim, System
from pimllm_lib.system import schedule
from pimllm_lib.system.ledger import Ledger
from pimllm_lib.workload.step import Step, decoding_passes, tokens_of

#: op, component, seconds on the critical path.
Wait = tuple[str, str, Value]


def tables(system: Any, step: Step, frame: Frame, detail: str, names: set[str], *, decode: bool) -> dict[str, Any]:
    """Return the wanted variables of one system for one step, along the frame's dimensions.

    decode: whether the step is organised as the system decodes, and its costs are those of each token it makes.
    """
    ledger = Ledger(frame, detail, names | _needed(step.counting, names))
    if not isinstance(system, System):
        _count_products(step, ledger, 1)
        _external(system, step, ledger)
        return _results(ledger, names, frame.zero)
    tally, way = _Tally(), system.decoding
    for i, (once, times) in enumerate(decoding_passes(step, way) if decode else [(step, 1)]):
        _count_products(once, ledger, times)
        _charge(system, once, times, ledger, tally, standing=i == 0)
    if system.in_memory and system.kv_pim is not None and "latency_s" in ledger.wanted:
        _wait_for_writes(system.kv_pim, step, ledger)
    if step.counting.static_power and "energy_j" in names:
        _charge_waiting(system, step, tally, ledger)
    array = system.array
    pe_count = array.rows * array.cols * array.arrays + frame.zero
    return _results(ledger, names, pe_count, tokens_of(way) if decode else 1)


class _Tally:
    """What entries add up to besides the ledger: static power, and what of its energy is charged already."""

    def __init__(self) -> None:
        self.standing: dict[str, Value] = defaultdict(float)
        self.worked: dict[str, Value] = defaultdict(float)

    def stand(self, component: str, variable: str, value: Value) -> None:
        """Take static power."""
        if variable == "static_power_w":
            self.standing[component] = self.standing[component] + value

    def work(self, component: str, value: Value) -> None:
        """Take the part of static energy that is charged while a part works."""
        self.worked[component] = self.worked[component] + value


def _count_products(step: Step, ledger: Ledger, times: Value) -> None:
    for product in step.products():
        ledger.add("macs", product.op, "stream", _often(product.macs, times))


def _often(value: Value, times: Value) -> Value:
    """Return a cost of something done so often; once is the value itself, not a copy of it."""
    return value if isinstance(times, int) and times == 1 else value * times


def _charge(system: System, step: Step, times: Value, ledger: Ledger, tally: _Tally, *, standing: bool) -> None:
    """Add what one pass costs, as often as it is done, and what stands there if it is this pass that says so."""
    entries, waits = list(_entries(system, step, ledger.wanted)), list[Wait]()
    for op, component, variable, value in entries:
        if variable in STANDING:
            if standing:
                ledger.add(variable, op, component, value)
                tally.stand(component, variable, value)
        elif variable == "latency_s":
            waits.append((op, component, value))
        elif variable == "worked_j":
            tally.work(component, _often(value, times))
        else:
            ledger.add(variable, op, component, _often(_counted(value, variable, op, system, step), times))
    if "latency_s" in ledger.wanted:
        for op, component, value in _critical(_busy(entries), waits, system, step):
            ledger.add("latency_s", op, component, _often(value, times))


def _busy(entries: list[Entry]) -> dict[str, dict[str, Value]]:
    """Return op -> component -> working time."""
    busy: dict[str, dict[str, Value]] = defaultdict(dict)
    for op, component, variable, value in entries:
        if variable == "busy_s":
            busy[op][component] = busy[op][component] + value if component in busy[op] else value
    return busy


def _critical(busy: dict[str, dict[str, Value]], waits: list[Wait], system: System, step: Step) -> Iterator[Wait]:
    """Yield the times on the critical path of one pass."""
    every = [*waits, *_latencies(busy, system, step)]
    yield from _taking_turns([*every, *_late_softmax(busy, every)], system, step)


def _late_softmax(busy: Mapping[str, Mapping[str, Value]], waits: list[Wait]) -> Iterator[Wait]:
    """Yield what is left of the softmax that streams with the scores when these are done sooner."""
    if "softmax" not in busy:
        return
    taken = {name: sum(value for op, _, value in waits if op == name) for name in ("score", "softmax")}
    streaming = sum(busy["softmax"].values()) - taken["softmax"]
    yield "softmax", "nonlinear", np.maximum(0.0, streaming - taken["score"])


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
    share = schedule.hidden(sides, blocks=step.array.n_layers, pipelined=step.way.pipelined, batch=step.way.batch)
    for op, component, value in waits:
        yield op, component, value * share.get(_side(system, op), 1.0)


def _side(system: System, op: str) -> str:
    """Return the half that an op keeps busy in turns with the other: "pim" or "array", "" for neither."""
    if op == "lm_head" or op == "block":
        return ""
    if op in PRODUCT_KINDS and system.engine(op) == "pim":
        return "pim"
    return "array" if op in ATTENTION_OPS or op not in PRODUCT_KINDS else ""


def _wait_for_writes(kv: KvPim, step: Step, ledger: Ledger) -> None:
    """Add the wait for keys and values that are still being written when the next step comes to them.

    Raises BadInput where cells forget what is attended to.
    """
    ledger.add("latency_s", "block", "kv_cells", late_writes(kv, step, ledger.whole("latency_s")))
    require_kept(kv, step, ledger.whole("latency_s"))


def _charge_waiting(system: System, step: Step, tally: _Tally, ledger: Ledger) -> None:
    """Add the static energy of a whole step, which needs the time of all the rest."""
    tiles = system.pim or system.kv_pim
    share = tiles.gated_share if step.counting.power_gating and tiles is not None else 1.0
    token_s = ledger.whole("latency_s")
    for op, component, variable, value in static_entries(tally.standing, tally.worked, token_s, tiles_share=share):
        ledger.add(variable, op, component, value)


def _results(ledger: Ledger, wanted: set[str], pe_count: Any, made: Value = 1) -> dict[str, Any]:
    """Return the tables of the wanted variables, those of work for each of the tokens made."""
    names = [name for name, variable in VARIABLES.items() if variable.extensive and name in wanted]
    whole = {name: ledger.table(name) for name in names}
    if not (isinstance(made, int) and made == 1):
        whole = {name: value if name in STANDING else value / made for name, value in whole.items()}
    return whole | {"pe_count": pe_count}


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
    on_array, on_pim, on_kv = ([p for p in step.products(e) if system.engine(p.op) == e] for e in ENGINES)
    yield from array_entries(system.array, on_array, wanted)
    if on_pim and system.pim is not None:
        yield from pim_entries(system.pim, on_pim, step.counting, wanted)
    if on_kv and system.kv_pim is not None:
        yield from kv_entries(system.kv_pim, step, on_kv, wanted)
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
        if step.counting.memory:
            yield op, "stall", memory.stall(_transfer(busy[op]), sum(parts.values()))
        if engine[op] == "pim" and op != "lm_head":
            on_pim = on_pim + sum(exposed.values())
    if step.counting.floor_block and "pim" in engine.values():
        steps = step.pim.n_layers * step.vectors
        yield "block", "rounding", (np.floor(on_pim / steps / NANO) * NANO - on_pim / steps) * steps


def _transfer(busy: Mapping[str, Value]) -> Value:
    """Return how long the memories of one product take, which move at the same time."""
    slowest = sum(time for component, time in busy.items() if component.startswith("dram_"))
    for component in ("kv_store", "sram"):
        if component in busy:
            slowest = np.maximum(slowest, busy[component])
    return slowest


#: Components whose working time the engines themselves take.
_WORKING = frozenset((*SUBSYSTEMS["array"], *SUBSYSTEMS["pim"]))
