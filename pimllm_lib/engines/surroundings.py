"""What surrounds the engines: memory, nonlinear units, the bus between the halves, and power that flows while waiting.

Every function yields what engines yield.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value
from pimllm_lib.costs import memory, nonlinear
from pimllm_lib.engines.array import idle_power, laid_out
from pimllm_lib.engines.entries import Entry, Move, Said, Wait
from pimllm_lib.hardware import Dram, KvStore, Storage, System
from pimllm_lib.workload.caches import cached
from pimllm_lib.workload.elements import Elementwise
from pimllm_lib.workload.products import Product
from pimllm_lib.workload.step import Step

#: Convention -> the parts of a system that it needs.
NEEDED_BY = {"memory": ("sram", "dram", "storage"), "nonlinear": ("nonlinear",), "transfers": ("bus", "storage")}


def surrounding_entries(system: System, step: Step, on_array: Sequence[Product], wanted: set[str]) -> Iterator[Said]:
    """Yield what surrounds the engines, as far as the conventions count it. Raises BadInput for a part that is missing."""
    counting = step.counting
    require_parts(system, counting)
    if "area_m2" in wanted and step.first:
        yield from digital_area(system)
    if counting.memory:
        yield from sram_entries(system, on_array)
        yield from staging_entries(system, step)
        whole = step.whole or step
        weights = _fetched_bytes(system, on_array if whole is step else _on_array(system, whole))
        yield from dram_entries(system, on_array, step.products(), fetched=weights > 0)
        yield from _kept(system, step)
        if step.first:
            yield from capacity_entries(system, weights, whole.cache_words())
    if counting.nonlinear:
        yield from nonlinear_entries(system, step.elementwise())
    if counting.transfers:
        yield from bus_entries(system, step.products())
    if counting.static_power and step.first:
        yield from standing_entries(system)


def _on_array(system: System, step: Step) -> list[Product]:
    return [product for product in step.products() if system.engine(product.op) == "array"]


def require_parts(system: System, counting: Any) -> None:
    """Raise BadInput when the conventions count a part that the system does not have."""
    for convention, names in NEEDED_BY.items():
        for name in names if getattr(counting, convention) else ():
            if getattr(system, name) is None:
                raise BadInput(f"{system.name}.{name} is missing, and {counting.name} counts {convention}; wanted one")


T = TypeVar("T")


def _there(part: T | None) -> T:
    """Return a part that `require_parts` has asked for."""
    assert part is not None
    return part


def require_areas(system: Any) -> None:
    """Raise BadInput when a part of a system has no area, or the system is one that says nothing about its parts."""
    if not isinstance(system, System):
        raise BadInput(f"{system.name} has no parts whose area is known; wanted a system made of parts")
    for name, field in (("array", "pe_area_m2"), ("sram", "area_m2"), ("nonlinear", "area_m2")):
        item = getattr(system, name)
        if item is not None and getattr(item, field) is None:
            raise BadInput(
                f"{system.name}.{name} ({item.name}) has no {field}; wanted one, since its area was asked for"
            )


def sram_entries(system: System, products: Sequence[Product]) -> Iterator[Said]:
    """Yield what the array's accesses to on-chip memory take."""
    storage = _there(system.storage)
    widths = {"input_bits": storage.act_bits, "sum_bits": storage.sum_bits}
    for laid in chain.from_iterable(laid_out(system.array, product) for product in products):
        product, words, stored = laid.product, laid.sram_words, laid.product.stored_bits(storage)
        bits = memory.sram_bits(words, product.m * product.n, weight_bits=stored, **widths)
        yield from _on_chip(system, product.op, product.calls * bits)
        if product.kind == "attention":
            yield from _converted(storage, product.op, words["weights"] * product.calls)


def _on_chip(system: System, op: str, bits: Value) -> Iterator[Said]:
    """Yield the energy of bits moved to or from on-chip memory, and their time where its ports have a stated width."""
    sram = _there(system.sram)
    yield Entry(op, "sram", "energy_j", bits * sram.bit_j)
    if np.any(np.isfinite(sram.port_bits)):
        yield Move(op, "sram", bits / (sram.port_bits * system.array.rate_hz))


def staging_entries(system: System, step: Step) -> Iterator[Said]:
    """Yield what on-chip memory takes to gather what is packed, cut, or handed from half to half: each word in and out
    once.
    """
    storage, way = _there(system.storage), step.way
    packed, cut, turning = np.any(way.pack_heads), np.any(np.asarray(way.splits) > 1), np.any(way.pipelined)
    if not (packed or cut or turning):
        return
    for product in step.products():
        bits: Value = 0.0
        if packed and product.kind == "attention":
            group = step.array.n_heads / cached(step.array)[0]
            bits = product.m * product.k * product.calls * way.pack_heads * (group > 1) * storage.act_bits
        if cut and product.op == "av":
            bits = bits + product.m * product.n * product.calls * (product.cut > 1) * storage.sum_bits
        if turning and system.engine(product.op) == "pim":
            words = product.m * (product.k + product.n) * product.calls
            bits = bits + words * way.pipelined * (way.batch > 1) * storage.act_bits
        if np.any(bits):
            yield from _on_chip(system, product.op, 2 * bits)


def dram_entries(
    system: System, on_array: Sequence[Product], everything: Sequence[Product], *, fetched: Value
) -> Iterator[Said]:
    """Yield off-chip traffic: weights and cache for the array, activations too large for the chip, the cache's growth.

    Weights that fit on the chip all together are there already; of experts that do not, the active ones come in. A
    cached key or value is read once for all query heads that share it, if one head's part of it fits.
    """
    storage = _there(system.storage)
    for product in chain.from_iterable(product.whole for product in on_array):
        weights, activations = _array_traffic(system, product)
        if product.kind == "attention":
            yield from _moved(system, product.op, _cache_in(system), weights)
        else:
            yield from _moved(system, product.op, "dram_weights", weights * fetched)
        yield from _moved(system, product.op, "dram_activations", activations)
    for product in everything:
        if product.op in ("k", "v") and not system.in_memory:
            grown = product.m * product.n * product.calls * storage.cached_bits / 8
            yield from _moved(system, product.op, _cache_in(system), grown)
            yield from _converted(storage, product.op, product.m * product.n * product.calls)


def _kept(system: System, step: Step) -> Iterator[Said]:
    """Yield what else goes back to the cache: the state of a linear or recurrent mixer, and the keys of an index."""
    storage, decoder, way = _there(system.storage), step.array, step.way
    words = {"select": decoder.index_dim * step.tokens if np.any(decoder.index_heads) else 0}
    if decoder.mixer in ("linear", "both"):
        words["state"] = decoder.state_heads * decoder.state_dim * decoder.state_width + decoder.state_extra
    for op, number in words.items():
        if np.any(number):
            size_bytes = number * way.batch * decoder.n_layers * storage.cached_bits / 8
            yield from _moved(system, op, _cache_in(system), size_bytes)


def _array_traffic(system: System, product: Product) -> tuple[Value, Value]:
    """Return the bytes of weights or cache, and of activations, that one op moves for one token."""
    array, sram, storage = system.array, _there(system.sram), _there(system.storage)
    bits, act = product.stored_bits(storage), storage.act_bits
    words = memory.dram_words(
        product.m, product.k, product.n, rows=array.rows, cols=array.cols, dataflow=array.dataflow,
        inputs_held=sram.inputs_bytes * 8 / act, weights_held=sram.weights_bytes * 8 / bits,
    )  # fmt: skip
    fits = product.k * product.n * bits / 8 <= sram.weights_bytes
    users = 1 + fits * (product.shared - 1)
    spilled_in = product.m * product.k * act / 8 > sram.inputs_bytes
    spilled_out = product.m * product.n * act / 8 > sram.results_bytes
    activations = (words["inputs"] * spilled_in + words["results"] * spilled_out) * act / 8
    again = 1 - (product.held > 0) * (product.held * bits / 8 <= sram.weights_bytes)
    return words["weights"] * bits / 8 * product.calls / users * again, activations * product.calls


def _cache_in(system: System) -> str:
    """Return the component of the key-value cache: off-chip memory, or a memory of its own."""
    return "dram_kv" if system.kv is None else "kv_store"


def _moved(system: System, op: str, component: str, size_bytes: Value) -> Iterator[Said]:
    """Yield what moving bytes to or from the memory of a component takes."""
    store: Dram | KvStore = _there(system.kv) if component == "kv_store" else _there(system.dram)
    if component != "kv_store":
        yield Entry(op, component, "dram_bytes", size_bytes)
    yield Entry(op, component, "energy_j", size_bytes * 8 * store.bit_j)
    yield Move(op, component, size_bytes * 8 / store.bandwidth_bps)


def _converted(storage: Storage, op: str, numbers: Value) -> Iterator[Said]:
    """Yield the energy of bringing cached numbers to the bits of activations as the array reads them, or back as they
    are made. It keeps pace with either.
    """
    if np.any(np.isfinite(storage.kv_group)):
        yield Entry(op, "nonlinear", "energy_j", numbers * np.isfinite(storage.kv_group) * storage.kv_convert_j)


def _fetched_bytes(system: System, products: Sequence[Product]) -> Value:
    """Return the bytes of weights that are in off-chip memory: all the array works with, those of idle experts too, or none
    where they fit on the chip together.
    """
    storage, sram = _there(system.storage), _there(system.sram)
    total: Any = 0.0
    for product in products:
        if product.kind != "attention":
            total = total + product.k * product.n * product.matrices * product.stored_bits(storage) / 8
    return total * (total > sram.weights_bytes)


def capacity_entries(system: System, weights: Value, words: Value) -> Iterator[Said]:
    """Yield the size of the cache. Raises BadInput, with how much is too much, when a memory does not hold it.

    weights: bytes of weights in off-chip memory; words: numbers in the cache.
    """
    dram = _there(system.dram)
    if system.in_memory:
        _require_room(f"{system.name}.dram", dram, "weights", weights)
        return
    cache = words * _there(system.storage).cached_bits / 8
    if system.kv is None:
        _require_room(f"{system.name}.dram", dram, "weights and key-value cache", weights + cache)
    else:
        _require_room(f"{system.name}.dram", dram, "weights", weights)
        _require_room(f"{system.name}.kv", system.kv, "keys and values", cache)
    yield Entry("block", _cache_in(system), "kv_bytes", cache)


def _require_room(where: str, store: Dram | KvStore, what: str, size_bytes: Value) -> None:
    over = np.max(np.asarray(size_bytes - store.capacity_bytes))
    if over > 0:
        raise BadInput(
            f"{where} ({store.name}) holds {np.min(store.capacity_bytes) / 2**30:.3g} GiB, and {what} "
            f"need {over / 2**30:.3g} GiB more; wanted a larger memory, fewer bits, or a shorter context"
        )


#: Function -> the one whose energy an element takes: a rescaled addition has the multiplication and wide addition of a norm,
#: a comparison is a subtraction, and turning a pair of numbers multiplies and adds twice.
_LIKE = {"reduction": "layernorm", "choice": "residual", "turn": "layernorm", "decay": "layernorm"}


def nonlinear_entries(system: System, work: Sequence[Elementwise]) -> Iterator[Said]:
    """Yield what softmax, norms, activation functions and residual additions take and how much of it is waited for."""
    unit = _there(system.nonlinear)
    for item in work:
        function = unit.softmax if item.function == "softmax" else item.function
        spent = nonlinear.times(function, item.elements, lanes=unit.lanes, rate_hz=unit.rate_hz, depth_s=unit.depth_s)
        yield Entry(item.op, "nonlinear", "busy_s", spent["busy_s"] * item.blocks)
        yield Wait(item.op, "nonlinear", spent["latency_s"] * item.blocks)
        passes = 1 if item.function != "softmax" else nonlinear.PASSES[function][0]
        joules = getattr(unit, f"{_LIKE.get(item.function, item.function)}_j") * passes
        yield Entry(item.op, "nonlinear", "energy_j", item.elements * item.blocks * joules)


#: Products with one input; the first of them on the crossbars brings it there.
_SAME_INPUT = (
    ("q_down", "q", "k", "v", "mix_in"), ("k_up",), ("score",), ("av",), ("v_up",), ("x",), ("mix_out",),
    ("ff1", "gate", "shared_ff1", "shared_gate"), ("ff2",), ("shared_ff2",), ("side",), ("lm_head",),
)  # fmt: skip


def bus_entries(system: System, products: Sequence[Product]) -> Iterator[Said]:
    """Yield vectors between the halves, where there are two, and the start of each product.

    The nonlinear units are on the digital side, so every input of the crossbars comes from there and every result
    goes back, scores and what softmax makes of them among them. Products that share an input share its transfer;
    every active expert is sent its own.
    """
    bus, storage = _there(system.bus), _there(system.storage)
    analog = [product.op for product in products if system.engine(product.op) != "array"]
    bringing = {next((op for op in ops if op in analog), None) for ops in _SAME_INPUT}
    bringing |= {"q"} if "q_down" in analog else set()  # whose input is then another
    for product in products:
        held = system.in_memory and product.op in ("k", "v")  # and on to the crossbars that hold them
        if product.op in analog or held:
            there = product.n + (product.k if product.op in bringing else 0) if product.op in analog else 0
            bits = product.m * (there + product.n * held) * product.calls * storage.act_bits
            yield Entry(product.op, "bus", "busy_s", bits / bus.rate_bps)
            yield Wait(product.op, "bus", bits / bus.rate_bps)
            yield Entry(product.op, "bus", "energy_j", bits * bus.bit_j)
        yield Entry(product.op, "issue", "busy_s", product.calls * bus.issue_s)
        yield Wait(product.op, "issue", product.calls * bus.issue_s)


def standing_entries(system: System) -> Iterator[Said]:
    """Yield what the digital half draws whatever it does: idle array, on-chip and off-chip memory."""
    sram, dram, kv = system.sram, system.dram, system.kv
    yield Entry("block", "stream", "static_power_w", idle_power(system.array))
    if sram is not None:
        yield Entry("block", "sram", "static_power_w", sram.leaking_w)
    if dram is not None:
        yield Entry("block", "standby", "static_power_w", dram.standby_w)
    if system.nonlinear is not None and np.any(system.nonlinear.leakage_w):
        yield Entry("block", "nonlinear", "static_power_w", system.nonlinear.leakage_w)
    if kv is not None:
        yield Entry("block", "standby", "static_power_w", kv.byte_standby_w * kv.capacity_bytes)


#: Wider than any port: what stands for an infinite width, which takes no area.
_WIDEST = 2.0**53


def digital_area(system: System) -> Iterator[Said]:
    """Yield the area of the digital parts whose area is known."""
    array, sram, kv = system.array, system.sram, system.kv
    if array.pe_area_m2 is not None:
        more = array.group_area_m2 * (array.row_groups > 1) + array.shadow_area_m2 * array.overlap
        yield Entry("block", "stream", "area_m2", (array.pe_area_m2 + more) * array.rows * array.cols * array.arrays)
    if sram is not None and sram.area_m2 is not None:
        stated = np.isfinite(sram.port_bits) * np.minimum(sram.port_bits, _WIDEST)
        wires = stated * np.maximum(1.0, array.rate_hz / sram.port_rate_hz)  # a faster array takes as many more of them
        yield Entry("block", "sram", "area_m2", sram.area_m2 + wires * sram.port_bit_area_m2)
    if system.nonlinear is not None and system.nonlinear.area_m2 is not None:
        yield Entry("block", "nonlinear", "area_m2", system.nonlinear.area_m2)
    if kv is not None:
        yield Entry("block", "kv_store", "area_m2", kv.byte_area_m2 * kv.capacity_bytes)
