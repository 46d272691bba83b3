"""How long crossbars of keys and values last, by how tokens are placed and how the machine is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core import joining
from pimllm_lib.core.axes import Frame
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import Value
from pimllm_lib.core.schema import annotate
from pimllm_lib.core.units import YEAR
from pimllm_lib.costs import wear
from pimllm_lib.engines.writing import token_cells
from pimllm_lib.hardware import KvPim, System
from pimllm_lib.system.arguments import MAX_CONTEXT, contexts
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.workload.caches import attended
from pimllm_lib.workload.decoder import Decoder

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
            if type(value) is not int or not least <= value <= MAX_CONTEXT:
                wanted = f"a whole number of at least {least}, up to {MAX_CONTEXT}"
                raise BadInput(f"{what} of {self.name} is {clip(value)}; wanted {wanted}")
        if not 0 < self.share <= 1:
            raise BadInput(f"share of {self.name} is {clip(self.share)}; wanted above 0, up to 1")

    @property
    def conversation(self) -> float:
        """Tokens of a prompt and its answer; without end where there is no prompt."""
        return self.prompt + self.answer if self.prompt else np.inf


def uses(*, prompt: int, answer: int, minutes_per_day: float) -> tuple[Use, ...]:
    """Return decoding without end, answers without pause, and answers for so many minutes a day.

    Raises BadInput for a prompt or an answer of less than a token, and for minutes that a day does not have.
    """
    if type(prompt) is not int or prompt < 1:
        raise BadInput(f"prompt is {clip(prompt)}; wanted a whole number of at least 1")
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

    A machine has slots for the tokens that a context attends to, in every sequence that it decodes together.
    cell_writes: writes of the busiest cells for each token; first_failure_years: when one of them has failed with a
    chance of one half; worn_years: when `WORN` of all have, on average. Of a hot window and what lies behind it the
    sooner counts. spare, gap: see `wear.slot_writes`. system: one with attention in memory; model: one. Raises BadInput
    for others.

    Answers are decoded at the context of their middle, or at all there is room for. Neglected: that a prompt longer than
    the room is read with less to attend to.
    """
    system, model = catalog.system(system), catalog.model(model)
    if not isinstance(system, System) or system.kv_pim is None or not system.in_memory:
        raise BadInput(f"{system.name} has attention elsewhere; wanted one with attention on kv_pim")
    if model.blocks:
        raise BadInput(f"{model.name} has blocks of {len(model.blocks)} kinds; wanted one whose blocks are alike")
    lengths = contexts(context_len)
    frame = Frame.over([system, model], context_len=lengths)
    machine, decoder = frame.align_part(system), frame.align_part(model)
    tokens = attended(decoder, frame.along("context_len", np.asarray(lengths, dtype=float)))
    args = {"system": system, "model": model, "conventions": conventions, "variables": ["latency_s"]}
    rows, rates = [], {}
    for use in uses:
        if (asked := (use.prompt, use.answer)) not in rates:
            rates[asked] = _written(frame, use, args)
        written_s = use.share * rates[asked]
        found = []
        for name in wear.ALLOCATIONS:
            data = _lasting(machine, decoder, tokens, use, written_s, allocation=name, spare=spare, gap=gap)
            wrapped = {key: frame.wrap(value + frame.zero, ["context_len"]) for key, value in data.items()}
            coords = {dim: frame.labels[dim] for dims, _ in wrapped.values() for dim in dims}
            found.append(xr.Dataset(wrapped, coords=coords))
        rows.append(joining.concat(found, xr.Variable("allocation", list(wear.ALLOCATIONS))))
    whole = joining.concat(rows, xr.Variable("use", [use.name for use in uses]))
    return annotate(whole.transpose(..., "use", "allocation"))


def _written(frame: Frame, use: Use, args: Mapping[str, Any]) -> Value:
    """Return the tokens written in a second of use to every sequence, along the frame's dimensions."""
    lengths, batch = frame.labels["context_len"], frame.align(args["system"].decoding.batch)
    at = [min(n, use.prompt + use.answer // 2) if use.prompt else n for n in lengths]
    ds = evaluate(context_len=sorted(set(at)), **args).squeeze(["system", "model"], drop=True)
    step = frame.align(ds.latency_s.sel(context_len=at).assign_coords(context_len=lengths))
    first: Value = 0.0
    if use.prompt:
        ds = evaluate(context_len=use.prompt, phase="prefill", **args)
        first = frame.align(ds.latency_s.squeeze(["system", "model", "context_len"], drop=True))
    return (use.prompt + use.answer) / (batch * (first + use.answer * step))


def _stores(system: System, tokens: Value, use: Use) -> Iterator[tuple[KvPim, Value, Value]]:
    """Yield crossbars, their slots, and the share of written tokens that comes to each: those of a conversation beyond
    the hot window.
    """
    kv = system.kv_pim
    assert kv is not None
    if kv.hot is None:
        yield kv, tokens, 1.0
        return
    yield kv.hot, np.minimum(tokens, kv.hot_tokens), 1.0
    yield kv, np.maximum(tokens - kv.hot_tokens, 0), np.maximum(0.0, 1 - kv.hot_tokens / use.conversation)


def _lasting(
    system: System, decoder: Decoder, tokens: Value, use: Use, written_s: Value, **levelling: Any
) -> dict[str, Value]:
    """Return the lifetime with one allocation, from the tokens written in a second to a sequence."""
    data: dict[str, Value] = {"cell_writes": 0.0, "first_failure_years": np.inf, "worn_years": np.inf}
    for store, slots, share in _stores(system, tokens, use):
        room = {"capacity": np.maximum(slots, 1), "conversation": np.maximum(use.conversation * share, 1)}
        busiest = wear.slot_writes(**room, **levelling)
        tech, used = store.technology, (slots > 0) & (share > 0)
        writes_s = busiest["writes"] * written_s * share + store.refreshed / tech.retention_s
        cells = busiest["slots"] * token_cells(store, decoder) * system.decoding.batch
        cycles = {
            "first_failure_years": wear.first_failure(tech.endurance, tech.weibull_shape, cells),
            "worn_years": wear.failed_share(tech.endurance, tech.weibull_shape, WORN / busiest["share"]),
        }
        for name, value in cycles.items():
            with np.errstate(divide="ignore"):
                years = np.where(used, value / (writes_s * tech.cycles_per_write * YEAR), np.inf)
            data[name] = np.minimum(data[name], years)
        data["cell_writes"] = np.maximum(data["cell_writes"], busiest["writes"] * share * used)
    return data
