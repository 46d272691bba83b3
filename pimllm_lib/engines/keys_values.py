"""Attention where keys and values lie: what it costs to multiply with them. Writing and keeping: `writing`.

A key-value head of a block has crossbars of keys, a column a token, and crossbars of values, a row a token. Where a
head is narrower than a crossbar several share it, keys one below the other and values side by side; they are read one
after another, as are the queries of a group, since each has inputs of its own. Crossbars of different heads, sequences
and tokens work at once. Products are charged as on any crossbar tile (`crossbars.OnTiles`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value, ceil_div, require
from pimllm_lib.costs import crossbar
from pimllm_lib.engines.crossbars import OnTiles, beside, counted, waking
from pimllm_lib.engines.entries import Entry, Said, Wait, slowest
from pimllm_lib.engines.writing import kept_w, refresh, sharing, write_entries
from pimllm_lib.hardware import KvPim
from pimllm_lib.workload.products import Product
from pimllm_lib.workload.step import Step


def entries(kv: KvPim, step: Step, products: Sequence[Product], wanted: set[str]) -> Iterator[Said]:
    """Yield what attention costs in memory. Raises BadInput for ways of decoding that are not modelled there."""
    _require_modelled(step)
    for product in products:
        stores = _stores(kv, product)
        places = [_place(store, product, tokens, step) for store, tokens in stores]
        busy = [sum(place.times.values()) * place.turns for place in places]
        counted = slowest(dict(enumerate(busy))) if len(places) > 1 else {0: 1.0}  # all work at once
        for i, ((store, _), place) in enumerate(zip(stores, places, strict=True)):
            yield from place.entries(step.counting, wanted, counted[i])
            if wanted & {"busy_s", "latency_s"}:
                yield Wait(product.op, "stall", _refreshing(store) * busy[i] * counted[i])
    yield from write_entries(kv, step)
    if step.counting.static_power:
        yield Entry("block", "standby", "static_power_w", kept_w(kv, step))


def _require_modelled(step: Step) -> None:
    """Raise BadInput for latent attention, linear mixers, chosen tokens, a cut context, packed heads and drafted tokens."""
    decoder, way = step.array, step.way
    for what, off in (
        ("latent attention (latent_dim)", np.equal(decoder.latent_dim, 0)),
        (f"a mixer that is {decoder.mixer}", decoder.mixer == "attention"),
        ("keys and values of other widths, or of another block", decoder.value_dim is None and not decoder.kv_shared),
        ("a choice of tokens (top_tokens)", np.isinf(np.asarray(decoder.top_tokens, dtype=float))),
        ("a context cut into parts (splits)", np.equal(way.splits, 1)),
        ("heads packed as rows (pack_heads)", np.logical_not(way.pack_heads)),
        ("speculation", way.speculation is None),
    ):
        if not np.all(off):
            raise BadInput(f"attention in memory has {what}; wanted it off: it is not modelled there")


def _stores(kv: KvPim, product: Product) -> list[tuple[KvPim, Value]]:
    """Return where the tokens of a product lie, and how many: all in one place, or the latest in hot crossbars."""
    tokens = product.n if product.op == "score" else product.k
    if kv.hot is None:
        return [(kv, tokens)]
    latest = np.minimum(tokens, kv.hot_tokens)
    return [(kv.hot, latest), (kv, tokens - latest)]


def _place(kv: KvPim, product: Product, tokens: Value, step: Step) -> OnTiles:
    """Lay keys along columns, or values along rows; every sequence of a batch has crossbars of its own."""
    there, some, tile, batch = np.asarray(tokens > 0) * 1.0, np.maximum(tokens, 1), kv.filled, step.way.batch
    keys, heads = product.op == "score", product.count / product.shared / batch
    tile = counted(tile, step.counting)
    k, n, bits = (product.k, some, kv.act_bits) if keys else (some, product.n, kv.softmax_bits)
    shared = sharing(kv, k, tile.crossbar.rows, heads) if keys else sharing(kv, n, tile.crossbar.cols, heads)
    on = crossbar.layout(k, n, tile=tile, act_bits=bits)
    buffers = {
        "input_buffer": crossbar.input_buffer_size(k, on.crossbars, bits),
        "output_buffer": crossbar.output_buffer_size(n, on.tiles),
    }
    way = {
        "network_bps": kv.network_bps, "fan_out": n, "transfer_hops": 0.0, "reread_output": step.counting.output_reread,
        # a bank lies on a square, its results meet in the middle
        "merge_hops": 0.0 if keys else (on.tiles > 1) * np.ceil(np.sqrt(on.tiles)),
    }  # fmt: skip
    banks = ceil_div(heads, shared) * batch * product.blocks * there
    return OnTiles(
        product.op, on, tile, bits, buffers, way, turns=shared * product.shared * product.m * product.blocks * there,
        vectors=product.calls * product.m * there, copies=banks, beside=beside(kv, on, banks, step.counting),
        starts=product.blocks * there, woken=banks, wake_s=waking(kv, step.counting),
    )  # fmt: skip


def _refreshing(kv: KvPim) -> Value:
    """Return by what share reading is longer because cells are being written again. Raises BadInput where they would be
    all the time.
    """
    share = refresh(kv, 1.0)["share"]
    what = f"the share of time in which {kv.technology.name} is written again"
    require(share < 1, what, share, "below 1: a longer retention, or more lines at once")
    return share / (1 - share)
