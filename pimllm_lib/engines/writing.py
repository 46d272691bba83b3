"""Keys and values being written into crossbars, and kept there: time, energy, power, and what waits for it.

Neglected: what the registers of the newest token take, its own score and value, rows that are written while others are
read, and what writing does to cells beside those written but for its energy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pimllm_lib.core.parts import Value, require
from pimllm_lib.costs import crossbar, wear
from pimllm_lib.engines.entries import Entry, Said, Wait
from pimllm_lib.hardware import Crossbar, KvPim, Technology
from pimllm_lib.workload.caches import attended
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.step import Step


def token_cells(kv: KvPim, decoder: Decoder) -> Value:
    """Return the cells that the keys and values of a token take in all blocks: a pair for each slice of a number."""
    bar = kv.filled.crossbar
    numbers = wear.numbers(decoder.n_kv_heads, decoder.head_dim, decoder.n_layers)
    return numbers * bar.polarity * crossbar.slices(bar)


def sharing(kv: KvPim, width: Value, lines: Value, heads: Value) -> Value:
    """Return how many heads of one sequence share a crossbar: as many as have room, are there, and are allowed to."""
    return np.clip(np.floor(lines / width), 1, np.minimum(kv.most_heads, heads))


def stores(kv: KvPim, step: Step) -> list[tuple[KvPim, Value, Value]]:
    """Return the crossbars that hold tokens, how many, and what share of a step's tokens is written to each: those that
    leave a hot window go to the ones behind it.
    """
    span = attended(step.array, step.context)
    if kv.hot is None:
        return [(kv, span, 1.0)]
    latest = np.minimum(span, kv.hot_tokens)
    return [(kv.hot, latest, 1.0), (kv, span - latest, np.minimum((span - latest) / step.tokens, 1.0))]


def write_entries(kv: KvPim, step: Step) -> Iterator[Said]:
    """Yield what writing takes in a step, and the time of it that comes before reading where nothing is behind."""
    blocks = step.array.n_layers
    for store, _, share in stores(kv, step):
        joules = _cell_j(store, step.array)
        for op, value in _line_s(store, step.array).items():
            yield Entry(op, "kv_cells", "energy_j", joules[op] * share * step.vectors)
            yield Entry(op, "kv_cells", "busy_s", value * blocks * step.tokens * share)
    first = kv if kv.hot is None else kv.hot
    waited = np.maximum(*_line_s(first, step.array).values()) * blocks * step.tokens
    yield Wait("k", "kv_cells", waited * (1 - first.behind))


def _line_s(kv: KvPim, decoder: Decoder) -> dict[str, Value]:
    """Return the time to write the keys and the values of one token in a block; both go on at once."""
    tech, bar = kv.technology, kv.filled.crossbar
    along = {"k": (bar.rows, tech.column_parallel), "v": (bar.cols, tech.row_parallel)}
    found = {}
    for op, (lines, parallel) in along.items():
        wide = np.minimum(decoder.head_dim, lines)  # parts of a wider head lie in crossbars of their own
        cells = sharing(kv, wide, lines, decoder.n_kv_heads) * wide
        found[op] = _write_s(bar, cells, parallel, erase_s=tech.erase_s, erased=tech.erased)
    return found


def _write_s(bar: Crossbar, cells: Value, parallel: Value, **erasing: Value) -> Value:
    """Return the time to write a line of cells, so many at once."""
    pulse = {"pulses": bar.cell.write_pulses, "pulse_s": bar.cell.write_s, "verify_s": crossbar.read_time(bar)}
    return wear.write_time(cells, parallel, **pulse, **erasing)


def _cell_j(kv: KvPim, decoder: Decoder) -> dict[str, Value]:
    """Return the energy to write the keys and the values of one token in all blocks."""
    bar, cells = kv.tile.crossbar, token_cells(kv, decoder) / 2
    # of a column the cells along each row, of a row those along each column
    return {op: _write_j(kv.technology, cells, beside=lines - 1) for op, lines in (("k", bar.cols), ("v", bar.rows))}


def _write_j(tech: Technology, cells: Value, beside: Value = 0.0) -> Value:
    """Return the energy to write cells, each with so many beside it that share its pulsed line."""
    cell = tech.cell
    return wear.write_energy(
        cells, pulses=cell.write_pulses, pulse_j=cell.write_j, verify_j=tech.verify_j, erase_j=tech.erase_j,
        beside=beside, half_select_j=tech.half_select_j,
    )  # fmt: skip


def late(kv: KvPim, step: Step, step_s: Value) -> Iterator[Wait]:
    """Yield the wait for writes that are behind: what is left of a block's when the next step comes to it, step_s later.

    Tokens that leave a hot window are written while others are in it. Raises BadInput where cells that are not refreshed
    forget a token before it leaves them, tokens coming step by step.
    """
    wait: Value = 0.0
    for store, _, share in stores(kv, step):
        slowest = np.maximum(*_line_s(store, step.array).values()) * step.tokens * share
        hidden = store.behind if kv.hot is None or store is kv.hot else True
        wait = np.maximum(wait, np.maximum(0.0, slowest - step_s) * hidden)
    yield Wait("block", "kv_cells", wait)
    for store, tokens, _ in stores(kv, step):
        tech, needed = store.technology, (step_s + wait) * np.maximum(tokens / step.tokens, 1)
        kept = np.logical_or(store.refreshed, np.logical_or(tech.retention_s >= needed, np.equal(tokens, 0)))
        wanted = f"at least {float(np.max(np.asarray(needed))):.3g} s, while a token is attended to, or refreshed on"
        require(kept, f"retention_s of {tech.name}", tech.retention_s, wanted)


def kept_w(kv: KvPim, step: Step) -> Value:
    """Return what keeping keys and values takes: leakage of their cells, and writing them again."""
    total: Value = 0.0
    for store, tokens, _ in stores(kv, step):
        cells = token_cells(store, step.array) * tokens * step.way.batch
        total = total + cells * store.technology.leakage_w + refresh(store, cells)["power_w"]
    return total


def refresh(kv: KvPim, cells: Value) -> dict[str, Value]:
    """Return power, and share of a crossbar's time, of writing cells again, a line of cells as one of values."""
    tech, bar = kv.technology, kv.filled.crossbar
    line_s, cell_j = _write_s(bar, bar.cols, tech.row_parallel), _write_j(tech, 1)
    found = wear.refresh(cells, bar.rows, line_s=line_s, cell_j=cell_j, retention_s=tech.retention_s)
    return {name: value * kv.refreshed for name, value in found.items()}
