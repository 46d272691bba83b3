"""What products cost on systolic arrays.

Neglected: multiplying by scales of groups of weights. At the figures of the catalog's `Rescaler`, a product of 16 by 16 bits
for every 128 MACs is 3 % of their energy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pimllm_lib.core.parts import Value
from pimllm_lib.costs import systolic
from pimllm_lib.engines.entries import Entry, Said, Turn, Work
from pimllm_lib.hardware import SystolicArray
from pimllm_lib.workload.products import Product
from pimllm_lib.workload.step import Step


def entries(array: SystolicArray, step: Step, products: Sequence[Product], wanted: set[str]) -> Iterator[Said]:
    """Yield what products cost; of static energy, what idle PEs take while the array works is charged already."""
    charged_w = idle_power(array) if step.counting.static_power and "energy_j" in wanted else None
    for product in products:
        yield Entry(product.op, "stream", "array_macs", product.macs)
        yield Entry(product.op, "stream", "array_products", product.calls)
        for laid in laid_out(array, product):
            if wanted & {"cycles", "busy_s", "latency_s"}:
                for phase, spent in laid.cycles.items():
                    yield Entry(product.op, phase, "cycles", spent)
                    yield Work(product.op, phase, busy := spent * (1 / array.rate_hz))
                    if charged_w is not None:
                        yield Turn("block", "stream", busy * charged_w, busy * charged_w)
            if "energy_j" in wanted:
                yield from _energy(laid)
            if wanted & {"sram_reads", "sram_writes", "register_accesses"}:
                yield from _traffic(laid)


def idle_power(array: SystolicArray) -> Value:
    """Return the power of an array that waits, in watts."""
    return array.idle_pe_energy_j * array.rate_hz * array.rows * array.cols * array.arrays


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
        self.on = systolic.mapping(m, k, n, **self.shape)
        self.array, self.product, self.beside = array, product, product.count * product.active
        before = None if after is None else (after.on, after.beside * (np.asarray(after.groups) == self.groups))
        self.how: dict[str, Any] = {"units": array.arrays * self.groups, "overlap": array.overlap, "before": before}

    @cached_property
    def cycles(self) -> dict[str, Value]:
        """The cycles of a step by phase; blocks follow one another."""
        shape = {"rows": self.shape["rows"], "dataflow": self.shape["dataflow"]}
        spent = systolic.work_cycles(self.on, self.beside, **self.how, **shape)
        return {phase: value * self.product.blocks for phase, value in spent.items()}

    @property
    def sram_words(self) -> dict[str, Value]:
        """The words that one product moves between SRAM and the arrays."""
        return systolic.sram_words(self.product.m, self.product.k, self.product.n, **self.shape)

    @property
    def measured(self) -> Value:
        """Where the reported energy per cycle holds: one array of its shape, dataflow and way, one row of activations."""
        array = self.array
        shape = (array.rows == array.measured_rows) & (array.cols == array.measured_cols)
        way = (array.dataflow == array.measured_dataflow) & (np.asarray(self.product.m) == 1)
        way = way & np.asarray(self.how["units"] == 1) & np.logical_not(array.overlap)
        return shape & way & (np.asarray(array.measured_cycle_energy_j) > 0)


def _energy(laid: Laid) -> Iterator[Entry]:
    """Yield the energy of the PEs, and what groups of rows and second accumulators take more."""
    array, product = laid.array, laid.product
    mapped = systolic.mapped_cycles(laid.on, laid.beside, **laid.how)
    mapped = {phase: value * product.blocks for phase, value in mapped.items()}
    pes = array.rows * array.cols * array.arrays
    each = {
        f"{name}_energy_j": getattr(array, f"{name}_energy_j") for name in ("active_pe", "idle_pe", "measured_cycle")
    }
    joules = systolic.energy(laid.cycles, mapped, pes=pes, measured=laid.measured, **each)
    for phase, value in joules.items():
        yield Entry(product.op, phase, "energy_j", value + mapped[phase] * array.group_pe_energy_j * (laid.groups > 1))
    if np.any(array.overlap):
        used = laid.on.row_size * laid.on.col_size * product.calls
        yield Entry(product.op, "fill", "energy_j", used * array.shadow_j * array.overlap)


def _traffic(laid: Laid) -> Iterator[Entry]:
    product, words = laid.product, laid.sram_words
    for operand in ("inputs", "weights", "partial_sums"):
        yield Entry(product.op, "stream", "sram_reads", words[operand] * product.calls)
    yield Entry(product.op, "stream", "sram_writes", words["results"] * product.calls)
    for phase, value in systolic.register_accesses(product.m, product.k, product.n, **laid.shape).items():
        yield Entry(product.op, phase, "register_accesses", value * product.calls)
