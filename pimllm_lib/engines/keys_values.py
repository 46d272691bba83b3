"""Attention where keys and values lie: what it costs to multiply with them. Writing and keeping: `kv_writing`.

A key-value head of a block has crossbars of keys, a column a token, and crossbars of values, a row a token. Where a
head is narrower than a crossbar several share it, keys one below the other and values side by side; they are read one
after another, as are the queries of a group, since each has inputs of its own. Crossbars of different heads, sequences
and tokens work at once. Products are charged as on any crossbar tile (`costs.crossbar`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value, ceil_div, require
from pimllm_lib.costs import crossbar
from pimllm_lib.engines.crossbars import Entry
from pimllm_lib.engines.writing import kept_w, refresh, sharing, write_entries
from pimllm_lib.hardware import Auxiliary, KvPim
from pimllm_lib.workload.products import Product
from pimllm_lib.workload.step import Step


def kv_entries(kv: KvPim, step: Step, products: Sequence[Product], wanted: set[str]) -> Iterator[Entry]:
    """Yield what attention costs in memory. Raises BadInput for ways of decoding that are not modelled there."""
    _require_modelled(step)
    for product in products:
        places = _places(kv, product, step.way.batch)
        slowest = np.maximum(*(place.busy_s(step) for place in places)) if len(places) > 1 else None
        taken: Value = 0.0
        for place in places:
            counts: Value = 1.0
            if slowest is not None:  # both work at once; of equal ones the first counts
                counts = (place.busy_s(step) == slowest) * (1 - taken)
                taken = taken + counts
            yield from place.entries(step, counts, wanted)
    yield from write_entries(kv, step)
    if step.counting.static_power:
        yield "block", "standby", "static_power_w", kept_w(kv, step)


def _require_modelled(step: Step) -> None:
    """Raise BadInput for latent attention, chosen tokens, a cut context, packed heads and drafted tokens."""
    decoder, way = step.array, step.way
    for what, off in (
        ("latent attention (latent_dim)", np.equal(decoder.latent_dim, 0)),
        ("a choice of tokens (top_tokens)", np.isinf(np.asarray(decoder.top_tokens, dtype=float))),
        ("a context cut into parts (splits)", np.equal(way.splits, 1)),
        ("heads packed as rows (pack_heads)", np.logical_not(way.pack_heads)),
        ("speculation", way.speculation is None),
    ):
        if not np.all(off):
            raise BadInput(f"attention in memory has {what}; wanted it off: it is not modelled there")


class _Place:
    """One product on the crossbars of one technology, for the tokens that lie there."""

    def __init__(self, kv: KvPim, product: Product, tokens: Value, batch: Value) -> None:
        """Lay keys along columns, or values along rows; every sequence of a batch has crossbars of its own."""
        self.kv, self.product = kv, product
        self.there = np.asarray(tokens > 0) * 1.0
        some, tile = np.maximum(tokens, 1), kv.filled
        keys, bits = product.op == "score", kv.act_bits if product.op == "score" else kv.softmax_bits
        k, n = (product.k, some) if keys else (some, product.n)
        width, lines = (k, tile.crossbar.rows) if keys else (n, tile.crossbar.cols)
        self.tile, self.bits, self.fan_out = tile, bits, n
        self.on = crossbar.layout(k, n, tile=tile, act_bits=bits)
        heads = product.count / product.shared / batch
        self.sharing = sharing(kv, width, lines, heads)
        self.banks = ceil_div(heads, self.sharing) * batch * product.blocks * self.there
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
        share = refresh(self.kv, 1.0)["share"]
        what = f"the share of time in which {self.kv.technology.name} is written again"
        require(share < 1, what, share, "below 1: a longer retention, or more lines at once")
        return share / (1 - share)


def _places(kv: KvPim, product: Product, batch: Value) -> list[_Place]:
    """Return where the tokens of a product lie: all in one place, or the latest in hot crossbars."""
    tokens = product.n if product.op == "score" else product.k
    if kv.hot is None:
        return [_Place(kv, product, tokens, batch)]
    latest = np.minimum(tokens, kv.hot_tokens)
    return [_Place(kv.hot, product, latest, batch), _Place(kv, product, tokens - latest, batch)]
