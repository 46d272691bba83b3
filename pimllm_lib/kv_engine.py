"""Attention where keys and values lie: what it costs to multiply with them, to write those of each token, to keep them.

A key-value head of a block has crossbars of keys, a column a token, and crossbars of values, a row a token. Where a
head is narrower than a crossbar several share it, keys one below the other and values side by side; they are read one
after another, as are the queries of a group, since each has inputs of its own. Crossbars of different heads, sequences
and tokens work at once. Products are charged as on any crossbar tile (`costs.crossbar`).

Neglected: what the registers of the newest token take, and its own score and value; room for tokens that are written
while old ones are read; wear of hot crossbars that differ from the cold ones in their slots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pimllm_lib.costs import crossbar, wear
from pimllm_lib.engines import Entry
from pimllm_lib.errors import BadInput
from pimllm_lib.hardware import Auxiliary, KvPim
from pimllm_lib.llm import Decoder
from pimllm_lib.parts import Value, ceil_div, require
from pimllm_lib.step import Step
from pimllm_lib.workload import Product, attended


def kv_entries(kv: KvPim, step: Step, products: Sequence[Product], wanted: set[str]) -> Iterator[Entry]:
    """Yield what attention costs in memory. Raises BadInput for ways of decoding that are not modelled there."""
    _require_modelled(step)
    for product in products:
        places = _places(kv, product)
        slowest = np.maximum(*(place.busy_s(step) for place in places)) if len(places) > 1 else None
        taken: Value = 0.0
        for place in places:
            counts: Value = 1.0
            if slowest is not None:  # both work at once; of equal ones the first counts
                counts = (place.busy_s(step) == slowest) * (1 - taken)
                taken = taken + counts
            yield from place.entries(step, counts, wanted)
    yield from _written(kv, step)
    if step.counting.static_power:
        yield "block", "standby", "static_power_w", kept_w(kv, step)


def _require_modelled(step: Step) -> None:
    """Raise BadInput for latent attention, chosen tokens, a cut context and drafted tokens."""
    decoder, way = step.array, step.way
    for what, off in (
        ("latent attention (latent_dim)", np.equal(decoder.latent_dim, 0)),
        ("a choice of tokens (top_tokens)", np.isinf(np.asarray(decoder.top_tokens, dtype=float))),
        ("a context cut into parts (splits)", np.equal(way.splits, 1)),
        ("speculation", way.speculation is None),
    ):
        if not np.all(off):
            raise BadInput(f"attention in memory has {what}; wanted it off: it is not modelled there")


class _Place:
    """One product on the crossbars of one technology, for the tokens that lie there."""

    def __init__(self, kv: KvPim, product: Product, tokens: Value) -> None:
        """Lay keys along columns, or values along rows."""
        self.kv, self.product = kv, product
        self.there = np.asarray(tokens > 0) * 1.0
        some, tile = np.maximum(tokens, 1), kv.filled
        keys, bits = product.op == "score", kv.act_bits if product.op == "score" else kv.softmax_bits
        k, n = (product.k, some) if keys else (some, product.n)
        width, lines = (k, tile.crossbar.rows) if keys else (n, tile.crossbar.cols)
        self.tile, self.bits, self.fan_out = tile, bits, n
        self.on = crossbar.layout(k, n, tile=tile, act_bits=bits)
        groups = product.count / product.shared  # heads of keys and values, of every sequence
        self.sharing = _sharing(kv, width, lines, groups)
        self.banks = ceil_div(groups, self.sharing) * product.blocks * self.there
        self.vectors = product.calls * product.m * self.there
        side = np.ceil(np.sqrt(self.on.tiles))  # a bank lies on a square, its results meet in the middle
        self.merge_hops = 0.0 if keys else (self.on.tiles > 1) * side
        self.sizes = {
            "input_buffer": crossbar.input_buffer_size(k, self.on.crossbars, bits),
            "output_buffer": crossbar.output_buffer_size(n, self.on.tiles),
        }

    def turns(self) -> Value:
        """Return how many vectors a bank reads in a step, one after another."""
        return self.sharing * self.product.shared * self.product.m * self.product.blocks * self.there

    def times(self, step: Step) -> dict[str, Value]:
        """Return the time of one vector by component."""
        spent = crossbar.latency(
            self.on, tile=self.tile, act_bits=self.bits, network_bps=self.kv.network_bps, fan_out=self.fan_out,
            merge_hops=self.merge_hops, transfer_hops=0.0, reread_output=step.counting.output_reread,
        )  # fmt: skip
        for component, part, _ in self._auxiliary(step):
            spent[component] = part.delay_s
        return spent

    def busy_s(self, step: Step) -> Value:
        """Return the time of a step."""
        return sum(self.times(step).values()) * self.turns()

    def entries(self, step: Step, counts: Value, wanted: set[str]) -> Iterator[Entry]:
        """Yield time, as far as it counts beside other crossbars, energy, area and static power, as far as wanted."""
        if wanted & {"busy_s", "latency_s"}:
            yield from self._time(step, counts)
        if "energy_j" in wanted:
            yield from self._energy(step)
        if wanted & {"tiles", "area_m2"}:
            yield from self._standing(step)
        if "static_power_w" in wanted:
            yield from self._static(step)

    def _time(self, step: Step, counts: Value) -> Iterator[Entry]:
        for component, value in self.times(step).items():
            yield self.product.op, component, "busy_s", value * self.turns() * counts
        yield self.product.op, "stall", "latency_s", self._refreshing() * self.busy_s(step) * counts

    def _energy(self, step: Step) -> Iterator[Entry]:
        spent = crossbar.energy(self.on, tile=self.tile, act_bits=self.bits, **self.sizes)
        for component, part, number in self._auxiliary(step):
            spent[component] = part.power_w * part.delay_s * number
        for component, value in spent.items():
            yield self.product.op, component, "energy_j", value * self.vectors

    def _standing(self, step: Step) -> Iterator[Entry]:
        yield self.product.op, "crossbar", "tiles", self.on.tiles * self.banks
        takes = crossbar.area(self.on, tile=self.tile, **self.sizes)
        for component, part, number in self._auxiliary(step):
            takes[component] = part.area_m2 * number
        for component, value in takes.items():
            yield self.product.op, component, "area_m2", value * self.banks

    def _static(self, step: Step) -> Iterator[Entry]:
        op, on, tile = self.product.op, self.on, self.tile
        leaking = on.tiles * crossbar.leakage(on, tile.buffer, self.sizes["input_buffer"], self.sizes["output_buffer"])
        words = crossbar.buffer_times(on, tile=tile, act_bits=self.bits)
        used = 2 * words["input"] + words["output_read"] + words["output_write"]
        yield op, "buffer", "static_power_w", leaking * self.banks
        yield op, "buffer", "worked_j", leaking * self.vectors * used
        if step.counting.static_power:
            waiting = crossbar.idle_converters(on, tile)
            yield op, "adc", "static_power_w", waiting * self.banks
            yield op, "adc", "worked_j", waiting * self.vectors * crossbar.computing_times(on, tile)["adc"]

    def _auxiliary(self, step: Step) -> Iterator[tuple[str, Auxiliary, Value]]:
        if step.counting.auxiliary_parts:
            yield "post_processing", self.kv.post_processing, self.on.tiles * self.on.pes
            yield "input_distributor", self.kv.input_distributor, self.on.tiles

    def _refreshing(self) -> Value:
        """Return by what share reading is longer because cells are being written again. Raises BadInput where they
        would be all the time.
        """
        share = _refresh(self.kv, 1.0)["share"]
        what = f"the share of time in which {self.kv.technology.name} is written again"
        require(share < 1, what, share, "below 1: a longer retention, or more lines at once")
        return share / (1 - share)


def _sharing(kv: KvPim, width: Value, lines: Value, heads: Value) -> Value:
    """Return how many heads share a crossbar: as many as have room, are there, and are allowed to."""
    return np.clip(np.floor(lines / width), 1, np.minimum(kv.most_heads, heads))


def _places(kv: KvPim, product: Product) -> list[_Place]:
    """Return where the tokens of a product lie: all in one place, or the latest in hot crossbars."""
    tokens = product.n if product.op == "score" else product.k
    if kv.hot is None:
        return [_Place(kv, product, tokens)]
    latest = np.minimum(tokens, kv.hot_tokens)
    return [_Place(kv.hot, product, latest), _Place(kv, product, tokens - latest)]


def _written(kv: KvPim, step: Step) -> Iterator[Entry]:
    """Yield what writing keys and values takes in a step, and the time of writing that nothing hides."""
    vectors = step.vectors
    for store, share in _stores(kv, step):
        taken_s, taken_j = _token_write(store, step.array)
        joules = taken_j * step.array.n_layers * vectors * share
        for op in ("k", "v"):
            yield op, "kv_cells", "energy_j", joules / 2
            yield op, "kv_cells", "busy_s", taken_s[op] * step.array.n_layers * step.tokens * share
    first = kv if kv.hot is None else kv.hot
    waited = np.maximum(*_token_write(first, step.array)[0].values()) * step.array.n_layers * step.tokens
    yield "k", "kv_cells", "latency_s", waited * (1 - first.behind)


def _stores(kv: KvPim, step: Step) -> list[tuple[KvPim, Value]]:
    """Return the crossbars that are written, and the share of a step's tokens that each takes: those beyond the hot
    window move on from it.
    """
    if kv.hot is None:
        return [(kv, 1.0)]
    beyond = np.maximum(attended(step.array, step.context) - kv.hot_tokens, 0)
    return [(kv.hot, 1.0), (kv, np.minimum(beyond / step.tokens, 1.0))]


def _token_write(kv: KvPim, decoder: Decoder) -> tuple[dict[str, Value], Value]:
    """Return the time to write the keys and the values of one token in a block, which go on at once, and the energy."""
    tech, bar = kv.technology, kv.filled.crossbar
    wide = decoder.head_dim
    held = {
        "k": _sharing(kv, wide, bar.rows, decoder.n_kv_heads),
        "v": _sharing(kv, wide, bar.cols, decoder.n_kv_heads),
    }
    parallel = {"k": tech.column_parallel, "v": tech.row_parallel}
    beside = {"k": bar.cols - 1, "v": bar.rows - 1}  # a pulse on a row of one cell of a column, and the other way round
    pulse = {"pulses": bar.cell.write_pulses, "pulse_s": bar.cell.write_s, "verify_s": crossbar.read_time(bar)}
    taken_s = {
        op: wear.write_time(held[op] * wide, parallel[op], erase_s=tech.erase_s, erased=tech.erased, **pulse)
        for op in ("k", "v")
    }
    cells = decoder.n_kv_heads * wide * number_cells(kv)
    taken_j = sum(
        wear.write_energy(cells, pulses=bar.cell.write_pulses, pulse_j=bar.cell.write_j, erase_j=tech.erase_j,
                          beside=beside[op], half_select_j=tech.half_select_j)
        for op in ("k", "v")
    )  # fmt: skip
    return taken_s, taken_j


def number_cells(kv: KvPim) -> Value:
    """Return the cells of one key or value: its slices, on both crossbars of a pair."""
    bar = kv.filled.crossbar
    return bar.polarity * crossbar.slices(bar)


def late_writes(kv: KvPim, step: Step, step_s: Value) -> Value:
    """Return the wait for writes that are behind: what is left of a block's when the next step comes to it, step_s
    later. Tokens that leave a hot window are written while others are in it.
    """
    wait: Value = 0.0
    for store, share in _stores(kv, step):
        taken_s, _ = _token_write(store, step.array)
        slowest = np.maximum(*taken_s.values()) * step.tokens * share
        hidden = store.behind if store is not kv or kv.hot is None else True
        wait = np.maximum(wait, np.maximum(0.0, slowest - step_s) * hidden)
    return wait


def require_kept(kv: KvPim, step_s: Value) -> None:
    """Raise BadInput where cells that are not refreshed forget within a step."""
    for store in (kv, kv.hot):
        if store is not None:
            tech = store.technology
            kept = np.logical_or(store.refreshed, tech.retention_s >= step_s)
            wanted = f"at least a token's step, {float(np.max(np.asarray(step_s))):.3g} s, or refreshed on"
            require(kept, f"retention_s of {tech.name}", tech.retention_s, wanted)


def kept_w(kv: KvPim, step: Step) -> Value:
    """Return what keeping keys and values takes: leakage of their cells, and writing them again."""
    span, total = attended(step.array, step.context), 0.0
    latest = 0.0 if kv.hot is None else np.minimum(span, kv.hot_tokens)
    for store, tokens in ((kv, span - latest), (kv.hot, latest)):
        if store is not None:
            decoder = step.array
            cells = (
                wear.written(decoder.n_kv_heads, decoder.head_dim, decoder.n_layers, bits=0, cells=number_cells(store))[
                    "cells"
                ]
                * tokens
                * step.way.batch
            )
            total = total + cells * store.technology.leakage_w + _refresh(store, cells)["power_w"]
    return total


def _refresh(kv: KvPim, cells: Value) -> dict[str, Value]:
    """Return power and share of time of writing cells again, a line of cells as one of values is written."""
    tech, bar = kv.technology, kv.filled.crossbar
    line_s = wear.write_time(
        bar.cols, tech.row_parallel, pulses=bar.cell.write_pulses, pulse_s=bar.cell.write_s,
        verify_s=crossbar.read_time(bar),
    )  # fmt: skip
    cell_j = wear.write_energy(1, pulses=bar.cell.write_pulses, pulse_j=bar.cell.write_j)
    found = wear.refresh(cells, bar.rows, line_s=line_s, cell_j=cell_j, retention_s=tech.retention_s)
    return {name: value * kv.refreshed for name, value in found.items()}
