"""What products cost on crossbar tiles: those that hold weights, and what these share with those of keys and values."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from pimllm_lib.core.conventions import Conventions
from pimllm_lib.core.errors import BadInput, Note
from pimllm_lib.core.parts import Value, with_field, with_fields
from pimllm_lib.core.rules import everywhere
from pimllm_lib.costs import crossbar, placement
from pimllm_lib.engines.entries import Entry, Said, Turn, Wait, Work
from pimllm_lib.hardware import Auxiliary, KvPim, Pim, Tile
from pimllm_lib.workload.decoder import FEW
from pimllm_lib.workload.products import Product
from pimllm_lib.workload.step import Step

#: An auxiliary part: its component, the part, how many work for one vector, and of how many matrices each has its own.
Beside = tuple[str, Auxiliary, Value, Value]


@dataclass(eq=False)
class OnTiles:
    """A product on crossbar tiles, where every vector costs the same.

    on: how it lies on `tile`; bits: of an input; buffers: sizes of those in a tile; way: the network its results take.
    turns: vectors one after another; vectors: all of them; copies: matrices that are there; beside: auxiliary parts;
    starts: products one after another; woken: matrices woken in a step; wake_s: how long that takes.
    """

    op: str
    on: crossbar.Layout
    tile: Tile
    bits: Value
    buffers: Mapping[str, Value]
    way: Mapping[str, Any]
    turns: Value
    vectors: Value
    copies: Value
    beside: Sequence[Beside]
    starts: Value
    woken: Value
    wake_s: Value

    @cached_property
    def times(self) -> dict[str, Value]:
        """The time of one vector by component, in seconds."""
        spent = crossbar.latency(self.on, tile=self.tile, act_bits=self.bits, **self.way)
        return spent | {component: part.delay_s for component, part, *_ in self.beside}

    def entries(self, counting: Conventions, wanted: set[str], counts: Value = 1) -> Iterator[Said]:
        """Yield time, energy, what stands there whether it works or not, and static power, as far as wanted.

        counts: whether its time counts beside that of others.
        """
        if wanted & {"busy_s", "latency_s"}:
            yield from self._working(counts)
        if "energy_j" in wanted:
            spent = crossbar.energy(self.on, tile=self.tile, act_bits=self.bits, **self.buffers)
            spent |= {component: part.power_w * part.delay_s * number for component, part, number, _ in self.beside}
            yield from (Entry(self.op, name, "energy_j", value * self.vectors) for name, value in spent.items())
        if "tiles" in wanted:
            yield Entry(self.op, "crossbar", "tiles", self.on.tiles * self.copies)
        if "area_m2" in wanted:
            for component, value in crossbar.area(self.on, tile=self.tile, **self.buffers).items():
                yield Entry(self.op, component, "area_m2", value * self.copies)
            for component, part, number, copies in self.beside:
                yield Entry(self.op, component, "area_m2", part.area_m2 * number * copies)
        if "static_power_w" in wanted:
            yield from self._static(counting)

    def _working(self, counts: Value) -> Iterator[Said]:
        turns = self.turns * counts
        yield from (Work(self.op, name, value * turns) for name, value in self.times.items())
        if np.any(np.asarray(self.wake_s)):
            yield Work(self.op, "wake", self.wake_s * self.starts * counts)

    def _static(self, counting: Conventions) -> Iterator[Said]:
        """Yield static power, and the part of its energy that is charged already while a part works."""
        turn_s = sum(self.times.values()) * self.vectors + self.wake_s * self.woken
        waiting_w = {"buffer": self.on.tiles * crossbar.leakage(self.on, self.tile.buffer, **self.buffers)}
        if counting.static_power:
            waiting_w |= crossbar.idle_converters(self.on, self.tile)
            waiting_w |= {name: part.power_w * part.idle_share * number for name, part, number, _ in self.beside}
        standing = {name: copies for name, _, _, copies in self.beside}
        for component, watts in waiting_w.items():
            yield Entry(self.op, component, "static_power_w", watts * standing.get(component, self.copies))
            working_j = watts * self.vectors * self.times[component]
            yield Turn(self.op, component, working_j, watts * turn_s, watts * self.woken)


def counted(tile: Tile, counting: Conventions) -> Tile:
    """Return the tile as the conventions read its data sheets."""
    changes: dict[str, Value] = {}
    if counting.sample_rate_is_clock:
        bar = tile.crossbar
        changes |= {"crossbar.dac.periods": bar.dac.bits + 2, "crossbar.adc.periods": bar.adc.bits + 2}
    if counting.fixed_buffer_access and tile.buffer.fixed_s is not None:
        changes["buffer.access_s"] = tile.buffer.fixed_s
    return with_fields(tile, changes) if changes else tile


def waking(tiles: Pim | KvPim, counting: Conventions, woken: str = "product") -> Value:
    """Return how long the tiles that are woken together take to wake, 0 where others are."""
    asleep = counting.power_gating and tiles.woken == woken
    return tiles.wake_s * (tiles.gated_share < 1) if asleep else 0.0


def beside(tiles: Pim | KvPim, on: crossbar.Layout, copies: Value, counting: Conventions) -> list[Beside]:
    """Return the auxiliary parts of the tiles themselves, where they are counted."""
    if not counting.auxiliary_parts:
        return []
    return [
        ("post_processing", tiles.post_processing, on.tiles * on.pes, copies),
        ("input_distributor", tiles.input_distributor, on.tiles, copies),
    ]


def entries(pim: Pim, step: Step, products: Sequence[Product], wanted: set[str]) -> Iterator[Said]:
    """Yield what products cost on tiles that hold their weights.

    The matrices of a block are placed together; the output head has tiles of its own. What the machine has once is
    charged to the first product there is. Raises BadInput when matrices do not fit the grid, and for groups of inputs with a
    scale of their own that do not divide the inputs, or on tiles without a rescaler.
    """
    first = dict(zip((p.op for p in products), (one & step.first for one in _first_there(products)), strict=True))
    if "latency_s" in wanted and np.any(block_s := waking(pim, step.counting, "block")):
        yield Wait("block", "wake", block_s * step.pim.n_layers)
    blocks, head = ([p for p in products if (p.kind == "head") == is_head] for is_head in (False, True))
    for group in filter(None, (blocks, head)):
        for product, on in zip(group, _placed(pim, group, step.counting, first), strict=True):
            yield from on.entries(step.counting, wanted)
            if wanted & {"program_s", "program_j"}:
                scales, how = _scale_bits(product, on.tile), {"bar": on.tile.crossbar, "program_rows": pim.program_rows}
                written = crossbar.programming(product.k, product.n, scales=scales, **how)
                yield Entry(product.op, "crossbar", "program_s", written["time_s"] * product.matrices)
                yield Entry(product.op, "crossbar", "program_j", written["energy_j"] * product.matrices)


def _placed(
    pim: Pim, products: Sequence[Product], counting: Conventions, first: Mapping[str, Value]
) -> Iterator[OnTiles]:
    """Yield the matrices of a block, or the head, on the tiles, placed in the order of their use.

    Experts have tiles of their own, so those that are active work side by side, as long as the one with the most vectors.
    first: for each op, where it is the one that is charged the area of what the machine has once.
    """
    laid = _Matrices(pim, products, counting)
    bits, wake_s, tiles, layouts = pim.act_bits, waking(pim, counting), laid.tiles, laid.on(laid.tiles)
    held = list(zip(laid.inputs, layouts, products, strict=True))
    needs = [crossbar.input_buffer_size(k, on.crossbars, bits) * (p.count > 0) for k, on, p in held]
    needs += [crossbar.input_buffer_size(k, 1, bits) for k in laid.dummy]
    buffers = {
        "input_buffer": _largest(needs),
        "output_buffer": _largest(crossbar.output_buffer_size(p.n, on.tiles) * (p.count > 0) for _, on, p in held),
    }
    for product, tile, on, way in zip(products, tiles, layouts, laid.ways(layouts), strict=True):
        parts = beside(pim, on, product.matrices, counting)
        if parts:
            parts += [(name, getattr(pim, name), 1, first[product.op]) for name in ("global_buffer", "controller")]
        yield OnTiles(
            product.op, on, tile, bits, buffers, way, turns=product.turns * product.whole[0].m,
            vectors=product.calls * product.m, copies=product.matrices, beside=parts, starts=product.turns,
            woken=product.calls, wake_s=wake_s,
        )  # fmt: skip


@dataclass(eq=False)
class _Matrices:
    """Matrices that are placed together: those of a block, or the head."""

    pim: Pim
    products: Sequence[Product]
    counting: Conventions

    @cached_property
    def dummy(self) -> list[Value]:
        """The inputs of the dummy layer before them, where there is one."""
        return [self.pim.dummy_fan_in] if self.counting.dummy_first_layer and self.products[0].kind != "head" else []

    @cached_property
    def inputs(self) -> list[Value]:
        """The inputs of each matrix. The first there is, is mapped with those of a dummy layer before it."""
        if not self.dummy:
            return [p.k for p in self.products]
        return [
            np.where(there, self.dummy[0], p.k) if there.any() else p.k
            for p, there in zip(self.products, _first_there(self.products), strict=True)
        ]

    @cached_property
    def tiles(self) -> list[Tile]:
        """The tiles of each matrix: with as many slices as its weights need, and crossbars as high as its groups ask.

        Of two ways to read groups, "best" takes for each matrix that of the shorter time of one vector, rows in turns where
        both take as long. Times are compared with the hops of a machine where all matrices lie the same way.
        """
        tile, groups = counted(self.pim.tile, self.counting), self.pim.groups
        whole = [_sliced(tile, product) for product in self.products]
        grouped = [_is_grouped(product) for product in self.products]
        if not any(grouped) or np.all(np.equal(groups, "rows")):
            return whole
        low = [
            with_field(tile, "crossbar.rows", np.minimum(tile.crossbar.rows, p.scale_group)) if there else tile
            for tile, p, there in zip(whole, self.products, grouped, strict=True)
        ]
        chosen: list[Any] = [np.equal(groups, "crossbars")] * len(low)
        if np.any(best := np.equal(groups, "best")):
            with warnings.catch_warnings():  # of a grid on which these matrices may never lie
                warnings.simplefilter("ignore", Note)
                times = zip(self.times(whole), self.times(low), strict=True)
            chosen = [chosen[0] | best & (lower < taller) for taller, lower in times]
        rows = [np.where(c, b.crossbar.rows, a.crossbar.rows) for a, b, c in zip(whole, low, chosen, strict=True)]
        return [
            with_field(tile, "crossbar.rows", height) if there else tile
            for tile, height, there in zip(whole, rows, grouped, strict=True)
        ]

    def on(self, tiles: Sequence[Tile]) -> list[crossbar.Layout]:
        """Return how the matrices lie on such tiles."""
        return [
            crossbar.layout(k, p.n, tile=tile, act_bits=self.pim.act_bits, group=p.scale_group)
            for k, p, tile in zip(self.inputs, self.products, tiles, strict=True)
        ]

    def ways(self, layouts: Sequence[crossbar.Layout]) -> Iterator[dict[str, Any]]:
        """Yield the network that the results of each matrix take. The dummy layer lies on the first tile."""
        pim, before = self.pim, [1] * len(self.dummy)
        hops = placement.hops(
            [*before, *(on.tiles * p.count for on, p in zip(layouts, self.products, strict=True))],
            copies=[*before, *(p.experts for p in self.products)],
            grid_side=pim.grid_side,
            tiles_per_bank=pim.tiles_per_bank,
            walk=pim.walk,
        )
        for product, (merge_hops, transfer_hops) in zip(self.products, hops[len(before) :], strict=True):
            yield {
                "network_bps": pim.network_bps, "fan_out": product.n, "merge_hops": merge_hops,
                "transfer_hops": transfer_hops, "reread_output": self.counting.output_reread,
            }  # fmt: skip

    def times(self, tiles: Sequence[Tile]) -> list[Value]:
        """Return the time of one vector of each product on such tiles, in seconds."""
        layouts = self.on(tiles)
        return [
            sum(crossbar.latency(on, tile=tile, act_bits=self.pim.act_bits, **way).values())
            for on, tile, way in zip(layouts, tiles, self.ways(layouts), strict=True)
        ]


def _sliced(tile: Tile, product: Product) -> Tile:
    """Return the tile with the bits of a product's weights: those of the machine where they have three values at most,
    which is a weight of one cell or pair, else as many more as they need, in slices as `hardware.weights` has them.
    """
    if np.all(np.asarray(product.levels) <= FEW):
        return tile
    bits = np.where(np.asarray(product.levels) > FEW, np.ceil(np.log2(product.levels)), 1)
    return with_field(tile, "crossbar.weight_bits", np.maximum(tile.crossbar.weight_bits, bits))


def _is_grouped(product: Product) -> bool:
    """Return whether some inputs share a scale that others do not. Raises BadInput for groups that leave inputs over."""
    if np.all(np.isinf(product.scale_group)):
        return False
    k, group = product.k, np.minimum(product.k, product.scale_group)
    wrong = np.not_equal(k % group, 0) & (np.asarray(product.count) > 0)
    if not everywhere(~wrong):
        of, over = (float(np.broadcast_to(value, np.shape(wrong))[wrong].flat[0]) for value in (group, k))
        said = f"scale_group is {of:g} for {product.op}; wanted a divisor of its {over:g} inputs, or as many"
        raise BadInput(said).at(wrong, f"scale_group for {product.op}")
    return True


def _scale_bits(product: Product, tile: Tile) -> Value:
    """Return the bits of the scales of one output, none where it has no scale of its own."""
    if np.all(np.isinf(product.scale_group)):
        return 0
    groups = product.k / np.minimum(product.k, product.scale_group) * np.isfinite(product.scale_group)
    return groups * crossbar.rescaler(tile).scale_bits


def _first_there(products: Sequence[Product]) -> list[Any]:
    """Return for each product where it is the first that a model has: of models side by side, each has its own."""
    found, before = [], np.zeros((), dtype=bool)
    for product in products:
        there = np.asarray(product.count) > 0
        found.append(there & ~before)
        before = before | there
    return found


def _largest(values: Iterable[Value]) -> Value:
    return reduce(np.maximum, values)
