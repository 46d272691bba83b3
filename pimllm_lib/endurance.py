"""How long crossbars of keys and values last, by how tokens are placed and how the machine is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.arguments import contexts
from pimllm_lib.axes import Frame
from pimllm_lib.costs import wear
from pimllm_lib.errors import BadInput, clip
from pimllm_lib.hardware import KvPim, System
from pimllm_lib.kv_engine import number_cells
from pimllm_lib.llm import Decoder
from pimllm_lib.parts import Value
from pimllm_lib.schema import annotate
from pimllm_lib.system import evaluate
from pimllm_lib.units import YEAR
from pimllm_lib.workload import attended

#: Share of failed cells at which crossbars are taken to be worn out.
WORN = 0.01


@dataclass(frozen=True)
class Use:
    """How a machine is used: answers of so many tokens after prompts of so many, for a share of the time.

    prompt: 0 where tokens are decoded at one context without end, each in a new slot.
    """

    name: str
    prompt: int = 0
    answer: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse answers of no tokens and shares that are none."""
        for what, value, least in (("prompt", self.prompt, 0), ("answer", self.answer, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise BadInput(f"{what} of {self.name} is {clip(value)}; wanted a whole number of at least {least}")
        if not 0 < self.share <= 1:
            raise BadInput(f"share of {self.name} is {clip(self.share)}; wanted above 0, up to 1")


def uses(*, prompt: int, answer: int, minutes_per_day: float) -> tuple[Use, ...]:
    """Return decoding without end, answers without pause, and answers for so many minutes a day."""
    if not 0 < minutes_per_day <= 1440:
        raise BadInput(f"minutes_per_day is {clip(minutes_per_day)}; wanted above 0, up to 1440")
    return (
        Use("decoding without pause"), Use("answers without pause", prompt, answer),
        Use("a phone", prompt, answer, minutes_per_day / 1440),
    )  # fmt: skip


def lifetimes(
    *, system: Any, model: Any, context_len: Any, uses: Sequence[Use], spare: float = 0.25, gap: float = 100.0,
    conventions: Any = "full-system",
) -> xr.Dataset:  # fmt: skip
    """Return the years until cells of keys and values fail: dimensions context_len, axes of the system, use, allocation.

    A machine has slots for the tokens that a context attends to. cell_writes: writes of the busiest cells for each token;
    first_failure_years: when one of them has failed with a chance of one half; worn_years: when `WORN` of all have, on
    average. Of a hot window and what lies behind it the sooner counts. spare, gap: see `wear.slot_writes`. system: one
    with attention in memory; model: one. Raises BadInput for others.
    """
    system, model = catalog.system(system), catalog.model(model)
    if not isinstance(system, System) or system.kv_pim is None or not system.in_memory:
        raise BadInput(f"{system.name} has attention elsewhere; wanted one with attention on kv_pim")
    lengths = contexts(context_len)
    frame = Frame.over([system, model], context_len=lengths)
    tokens = attended(frame.align_part(model), frame.along("context_len", np.asarray(lengths, dtype=float)))
    args = {"system": system, "model": model, "conventions": conventions, "variables": ["latency_s"]}
    step = _flat(frame, evaluate(context_len=lengths, **args))
    machine, decoder = frame.align_part(system), frame.align_part(model)
    assert machine.kv_pim is not None
    rows = []
    for use in uses:
        first = _flat(frame, evaluate(context_len=use.prompt, phase="prefill", **args)) if use.prompt else 0.0
        written_s = use.share * (use.prompt + use.answer) / (first + use.answer * step)
        rows.append([
            _one(frame, machine.kv_pim, decoder, tokens, written_s, use, name, {"spare": spare, "gap": gap})
            for name in wear.ALLOCATIONS
        ])  # fmt: skip
    named = [xr.concat(row, xr.Variable("allocation", list(wear.ALLOCATIONS))) for row in rows]
    whole = xr.concat(named, xr.Variable("use", [use.name for use in uses]))
    return annotate(whole.transpose(..., "use", "allocation"))


def _flat(frame: Frame, ds: xr.Dataset) -> Any:
    """Return the time of a step, along the frame's dimensions."""
    return frame.align(ds.latency_s.squeeze(["system", "model"], drop=True))


def _one(
    frame: Frame, kv: KvPim, decoder: Decoder, tokens: Value, written_s: Value, use: Use, allocation: str,
    levelling: Mapping[str, float],
) -> xr.Dataset:  # fmt: skip
    """Return the lifetime with one allocation, from the tokens written in a second."""
    busiest: Value = 0.0
    ends: dict[str, Value] = {"first_failure_years": np.inf, "worn_years": np.inf}
    for store, slots, share in _stores(kv, tokens, use):
        conversation = (use.prompt + use.answer) * share if use.prompt else np.inf
        found = wear.slot_writes(
            allocation, np.maximum(slots, 1), conversation=np.maximum(conversation, 1), **levelling
        )
        tech, used = store.technology, (slots > 0) & (share > 0)
        cycles_s = found["writes"] * written_s * share * tech.cycles_per_write + store.refreshed / tech.retention_s
        cells = slots * found["share"] * number_cells(store) * wear.written(
            decoder.n_kv_heads, decoder.head_dim, decoder.n_layers, bits=0, cells=1)["cells"]  # fmt: skip
        lives = {
            "first_failure_years": wear.first_failure(tech.endurance, tech.weibull_shape, np.maximum(cells, 1)),
            "worn_years": wear.failed_share(tech.endurance, tech.weibull_shape, WORN / found["share"]),
        }
        with np.errstate(divide="ignore"):
            years = {name: np.where(used, cycles / (cycles_s * YEAR), np.inf) for name, cycles in lives.items()}
        ends = {name: np.minimum(ends[name], years[name]) for name in ends}
        busiest = np.maximum(busiest, found["writes"] * share * used)
    data = {"cell_writes": busiest} | ends
    wrapped = {name: frame.wrap(value + frame.zero, ["context_len"]) for name, value in data.items()}
    used_dims = {dim for dims, _ in wrapped.values() for dim in dims}
    return xr.Dataset(wrapped, coords={dim: frame.labels[dim] for dim in used_dims})


def _stores(kv: KvPim, tokens: Value, use: Use) -> Iterator[tuple[KvPim, Value, Value]]:
    """Yield crossbars, their slots, and the share of written tokens that comes to each: those of a conversation beyond
    the hot window.
    """
    if kv.hot is None:
        yield kv, tokens, 1.0
        return
    yield kv.hot, np.minimum(tokens, kv.hot_tokens), 1.0
    length = use.prompt + use.answer if use.prompt else np.inf
    yield kv, np.maximum(tokens - kv.hot_tokens, 0), np.maximum(0.0, 1 - kv.hot_tokens / length)
