"""Engines: from the products routed to one and its parts to what they cost, one token at a time.

Every function yields entries (op, component, variable, value): what all products of an op cost in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pimllm_lib.core.conventions import Conventions
from pimllm_lib.core.parts import Value
from pimllm_lib.costs import crossbar, placement, systolic
from pimllm_lib.hardware import Pim, SystolicArray
from pimllm_lib.workload.products import Product

Entry = tuple[str, str, str, Value]


def array_entries(array: SystolicArray, products: Sequence[Product], wanted: set[str]) -> Iterator[Entry]:
    """Yield what products cost on a systolic array; functions whose variables nobody wants are not run."""
    for product in products:
        yield product.op, "stream", "array_macs", product.macs
        yield product.op, "stream", "array_products", product.calls
        for laid in laid_out(array, product):
            for variables, entries in _ARRAY:
                if wanted & variables:
                    yield from ((product.op, *entry) for entry in entries(laid))


def laid_out(array: SystolicArray, product: Product) -> list[Laid]:
    """Return how a product lies on the arrays, each of its whole sizes after the larger one."""
    larger, *smaller = product.whole
    first = Laid(array, larger)
    return [first, *(Laid(array, share, first) for share in smaller)]


class Laid:
    """How the products of one op lie on the arrays: on which shape, on how many of them side by side, for how long."""

    def __init__(self, array: SystolicArray, product: Product, after: Laid | None = None) -> None:
        """Divide the rows as far as they are left, and map one product on what results.

        after: the larger ones of the same op; where these divide the rows alike, both are dealt to the same units.
        """
        m, k, n = product.m, product.k, product.n
        self.groups = systolic.groups(array.dataflow, m, k, rows=array.rows, row_groups=array.row_groups)
        rows = array.rows if isinstance(self.groups, int) else np.floor(array.rows / self.groups)
        self.shape: dict[str, Any] = {"rows": rows, "cols": array.cols, "dataflow": array.dataflow}
        self.units = array.arrays * self.groups
        self.on = systolic.mapping(m, k, n, **self.shape)
        self.array, self.product, self.beside = array, product, product.count * product.active
        before = None if after is None else (after.on, after.beside * (np.asarray(after.groups) == self.groups))
        self.how: dict[str, Any] = {"units": self.units, "overlap": array.overlap, "before": before}

    def cycles(self) -> dict[str, Value]:
        """Return the cycles of a step by phase; blocks follow one another."""
        shape = {"rows": self.shape["rows"], "dataflow": self.shape["dataflow"]}
        spent = systolic.work_cycles(self.on, self.beside, **self.how, **shape)
        return {phase: value * self.product.blocks for phase, value in spent.items()}

    def mapped_cycles(self) -> dict[str, Value]:
        """Return the cycles of mapped PEs in a step, by phase."""
        spent = systolic.mapped_cycles(self.on, self.beside, **self.how)
        return {phase: value * self.product.blocks for phase, value in spent.items()}

    def sram_words(self) -> dict[str, Value]:
        """Return the words that one product moves between SRAM and the arrays."""
        return systolic.sram_words(self.product.m, self.product.k, self.product.n, **self.shape)


def _array_time(laid: Laid) -> Iterator[tuple[str, str, Value]]:
    for phase, spent in laid.cycles().items():
        yield phase, "cycles", spent
        yield phase, "busy_s", spent * (1 / laid.array.rate_hz)


def _array_energy(laid: Laid) -> Iterator[tuple[str, str, Value]]:
    """Yield the energy of the PEs, and what groups of rows and second accumulators take more."""
    array, mapped, used = laid.array, laid.mapped_cycles(), laid.on.row_size * laid.on.col_size * laid.product.calls
    joules = systolic.energy(
        laid.cycles(),
        mapped,
        pes=array.rows * array.cols * array.arrays,
        active_pe_energy_j=array.active_pe_energy_j,
        idle_pe_energy_j=array.idle_pe_energy_j,
        measured_cycle_energy_j=array.measured_cycle_energy_j,
        measured=_measured(laid),
    )
    for phase, value in joules.items():
        yield phase, "energy_j", value + mapped[phase] * array.group_pe_energy_j * (laid.groups > 1)
    if np.any(array.overlap):
        yield "fill", "energy_j", used * array.shadow_j * array.overlap


def _measured(laid: Laid) -> Value:
    """Return where the reported energy per cycle holds: one array of its shape, dataflow and way, one row of
    activations.
    """
    array = laid.array
    shape = (array.rows == array.measured_rows) & (array.cols == array.measured_cols) & np.asarray(laid.units == 1)
    way = (array.dataflow == array.measured_dataflow) & (np.asarray(laid.product.m) == 1)
    way = way & np.logical_not(array.overlap)
    return shape & way & (np.asarray(array.measured_cycle_energy_j) > 0)


def _array_traffic(laid: Laid) -> Iterator[tuple[str, str, Value]]:
    product, words = laid.product, laid.sram_words()
    for operand in ("inputs", "weights", "partial_sums"):
        yield "stream", "sram_reads", words[operand] * product.calls
    yield "stream", "sram_writes", words["results"] * product.calls
    for phase, value in systolic.register_accesses(product.m, product.k, product.n, **laid.shape).items():
        yield phase, "register_accesses", value * product.calls


_ARRAY: tuple[tuple[set[str], Callable[[Laid], Iterator[tuple[str, str, Value]]]], ...] = (
    ({"cycles", "busy_s", "latency_s"}, _array_time),
    ({"energy_j"}, _array_energy),
    ({"sram_reads", "sram_writes", "register_accesses"}, _array_traffic),
)


class Mapped:
    """The matrices of a block on the tiles of the analog half: layouts, buffer sizes and hops, worked out once."""

    def __init__(
        self, pim: Pim, products: Sequence[Product], counting: Conventions, holds: Mapping[str, Value]
    ) -> None:
        """Map the products in the order of their use. Raises BadInput when they do not fit the grid.

        holds: for each op, where it is the one that is charged the area of what the machine has once.
        """
        self.pim, self.products, self.counting, self.holds = pim, products, counting, holds
        bits, dummy = pim.act_bits, counting.dummy_first_layer
        mapped_in = _after_dummy(products, pim.dummy_fan_in) if dummy else [p.k for p in products]
        self.layouts = [
            crossbar.layout(k, p.n, tile=pim.tile, act_bits=bits) for k, p in zip(mapped_in, products, strict=True)
        ]
        tiles = [on.tiles * p.count for on, p in zip(self.layouts, products, strict=True)]
        experts = [p.experts for p in products]
        before = [1] if dummy else []  # the dummy layer itself lies on the first tile
        grid = {"grid_side": pim.grid_side, "tiles_per_bank": pim.tiles_per_bank, "walk": pim.walk}
        self.hops = placement.hops([*before, *tiles], copies=[*before, *experts], **grid)[len(before) :]
        needs = [
            crossbar.input_buffer_size(k, on.crossbars, bits) * (p.count > 0)
            for k, on, p in zip(mapped_in, self.layouts, products, strict=True)
        ]
        needs += [crossbar.input_buffer_size(pim.dummy_fan_in, 1, bits)] if dummy else []
        self.buffers = {
            "input_buffer": _largest(needs),
            "output_buffer": _largest(
                crossbar.output_buffer_size(p.n, on.tiles) * (p.count > 0)
                for on, p in zip(self.layouts, products, strict=True)
            ),
        }


def _after_dummy(products: Sequence[Product], dummy_fan_in: Value) -> list[Value]:
    """Return the inputs of matrices when the first one there is, is mapped with the input of a dummy layer."""
    return [
        np.where(first, dummy_fan_in, product.k) if first.any() else product.k
        for product, first in zip(products, _first_there(products), strict=True)
    ]


def _first_there(products: Sequence[Product]) -> list[Any]:
    """Return for each product where it is the first that a model has: of models side by side, each has its own."""
    found, before = [], np.zeros((), dtype=bool)
    for product in products:
        there = np.asarray(product.count) > 0
        found.append(there & ~before)
        before = before | there
    return found


def pim_entries(pim: Pim, products: Sequence[Product], counting: Conventions, wanted: set[str]) -> Iterator[Entry]:
    """Yield what products cost on crossbar tiles that hold their weights.

    The matrices of a block are placed together; the output head has tiles of its own.
    """
    blocks = [p for p in products if p.kind != "head"]
    holds = dict(zip((p.op for p in products), _first_there(products), strict=True))
    for group in (blocks, [p for p in products if p.kind == "head"]):
        if group:
            dummy = counting.dummy_first_layer and group is blocks
            mapped = Mapped(pim, group, replace(counting, dummy_first_layer=dummy), holds)
            for product, on, hop in zip(group, mapped.layouts, mapped.hops, strict=True):
                for variables, entries in _PIM:
                    if wanted & variables:
                        yield from ((product.op, *entry) for entry in entries(mapped, product, on, hop))


def _pim_time(mapped: Mapped, product: Product, on: crossbar.Layout, hop: Any) -> Iterator[tuple[str, str, Value]]:
    """Yield the time of each part; experts have tiles of their own, so those that are active work side by side, as long
    as the one with the most vectors.
    """
    pim, counting, vectors = mapped.pim, mapped.counting, product.turns * product.whole[0].m
    spent = crossbar.latency(
        on,
        tile=pim.tile,
        act_bits=pim.act_bits,
        network_bps=pim.network_bps,
        fan_out=product.n,
        merge_hops=hop[0],
        transfer_hops=hop[1],
        reread_output=counting.output_reread,
    )
    for component, value in spent.items():
        yield component, "busy_s", value * vectors
    for component, part, _ in _auxiliary(mapped, on):
        yield component, "busy_s", part.delay_s * vectors


def _pim_energy(mapped: Mapped, product: Product, on: crossbar.Layout, hop: Any) -> Iterator[tuple[str, str, Value]]:
    pim, vectors = mapped.pim, product.calls * product.m
    for component, value in crossbar.energy(on, tile=pim.tile, act_bits=pim.act_bits, **mapped.buffers).items():
        yield component, "energy_j", value * vectors
    for component, part, number in _auxiliary(mapped, on):
        yield component, "energy_j", part.power_w * part.delay_s * number * vectors


def _pim_standing(mapped: Mapped, product: Product, on: crossbar.Layout, hop: Any) -> Iterator[tuple[str, str, Value]]:
    """Yield what stands there whether it works or not, idle experts too: tiles, area; and what it takes to write it."""
    pim, there = mapped.pim, product.matrices
    yield "crossbar", "tiles", on.tiles * there
    for component, value in crossbar.area(on, tile=pim.tile, **mapped.buffers).items():
        yield component, "area_m2", value * there
    for component, part, number in _auxiliary(mapped, on):
        times = there if component in _OF_TILES else mapped.holds[product.op]
        yield component, "area_m2", part.area_m2 * number * times
    written = crossbar.programming(product.k, product.n, bar=pim.tile.crossbar, program_rows=pim.program_rows)
    yield "crossbar", "program_s", written["time_s"] * there
    yield "crossbar", "program_j", written["energy_j"] * there


def _pim_static(mapped: Mapped, product: Product, on: crossbar.Layout, hop: Any) -> Iterator[tuple[str, str, Value]]:
    """Yield static power, and `worked_j`: the part of static energy that is charged already while a part works."""
    pim, vectors = mapped.pim, product.calls * product.m
    inside, outside = mapped.buffers["input_buffer"], mapped.buffers["output_buffer"]
    leaking = on.tiles * crossbar.leakage(on, pim.tile.buffer, inside, outside)
    words = crossbar.buffer_times(on, tile=pim.tile, act_bits=pim.act_bits)
    yield "buffer", "static_power_w", leaking * product.matrices
    yield "buffer", "worked_j", leaking * vectors * (2 * words["input"] + words["output_read"] + words["output_write"])
    if mapped.counting.static_power:
        waiting = crossbar.idle_converters(on, pim.tile)
        yield "adc", "static_power_w", waiting * product.matrices
        yield "adc", "worked_j", waiting * vectors * crossbar.computing_times(on, pim.tile)["adc"]


#: Auxiliary parts that a machine has in every tile; the others it has once.
_OF_TILES = ("post_processing", "input_distributor")


def _auxiliary(mapped: Mapped, on: crossbar.Layout) -> Iterator[tuple[str, Any, Value]]:
    """Yield the auxiliary parts that work for one product, and how many of each."""
    if mapped.counting.auxiliary_parts:
        pim = mapped.pim
        yield "post_processing", pim.post_processing, on.tiles * on.pes
        yield "input_distributor", pim.input_distributor, on.tiles
        yield "global_buffer", pim.global_buffer, 1
        yield "controller", pim.controller, 1


_PIM: tuple[tuple[set[str], Callable[..., Iterator[tuple[str, str, Value]]]], ...] = (
    ({"busy_s", "latency_s"}, _pim_time),
    ({"energy_j"}, _pim_energy),
    ({"tiles", "area_m2", "program_s", "program_j"}, _pim_standing),
    ({"static_power_w"}, _pim_static),
)


def _largest(values: Any) -> Value:
    values = list(values)
    largest = values[0]
    for value in values[1:]:
        largest = np.maximum(largest, value)
    return largest
