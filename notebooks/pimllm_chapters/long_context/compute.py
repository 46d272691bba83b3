"""Chapter 10, long contexts: the machines, and remedies alone, stacked and searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from itertools import product
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.analysis import remedies
from pimllm_lib.analysis.bounds import cache_floor, decode_bounds
from pimllm_lib.analysis.crossing import crossings
from pimllm_lib.core import joining
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import fingerprint, with_field
from pimllm_lib.core.schema import SUBSYSTEMS, annotate
from pimllm_lib.hardware import System
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.generation import generate
from pimllm_lib.system.metrics import summary
from pimllm_lib.workload.caches import cache_words, token_words
from pimllm_lib.workload.decoder import Decoder

P = ParamSpec("P")
T = TypeVar("T", xr.Dataset, xr.DataArray)
CONVENTIONS = "full-system"
#: The recommended machine, in the catalog.
RECOMMENDED = "pim-llm-groups"


@dataclass(frozen=True)
class Setting:
    """What every part of the chapter asks about.

    gib: off-chip memory, enough for the longest cache; at: the context of rankings, the longest of the paper; far: one
    beyond it, at which remedies are stacked.
    """

    models: tuple[str, ...]
    context_len: tuple[int, ...]
    gib: float
    at: int
    far: int

    def __post_init__(self) -> None:
        """Refuse contexts of rankings that are not evaluated."""
        for name in ("at", "far"):
            if (got := getattr(self, name)) not in self.context_len:
                raise BadInput(f"{name} is {clip(got)}; wanted one of context_len, {clip(list(self.context_len))}")
        if self.at == self.far:
            raise BadInput(f"at and far are both {self.at}; wanted two contexts of context_len")

    @property
    def decoders(self) -> list[Decoder]:
        """The models, from the catalog or from files."""
        return [catalog.model(name) for name in self.models]

    @property
    def hybrid(self) -> System:
        """The published hybrid with so much off-chip memory, and ports of its on-chip memory as wide as its array asks."""
        return remedies.provisioned(with_field(catalog.systems["pim-llm"], "dram.capacity_bytes", self.gib * 2.0**30))

    def machines(self, decoder: Decoder, exact: Sequence[str]) -> dict[str, tuple[System, Decoder]]:
        """Return the machines compared: published, recommended, and improved by all remedies given."""
        recommended = with_field(catalog.systems[RECOMMENDED], "dram.capacity_bytes", self.gib * 2.0**30)
        return {
            "published": (self.hybrid, decoder), "recommended": (recommended, decoder), "improved": self.put(decoder, exact),
        }  # fmt: skip

    def put(self, decoder: Decoder, names: Sequence[str], context_len: int | None = None) -> tuple[System, Decoder]:
        """Return the hybrid and a model with remedies; a memory for the cache as large as a context asks for, given one."""
        system, model = remedies.put(self.hybrid, decoder, names)
        if system.kv is not None and system.storage is not None and context_len is not None:
            words = cache_words(model, context_len, system.decoding)
            system = with_field(system, "kv.capacity_bytes", float(words * system.storage.cached_bits / 8))
        return system, model

    def measured(self, system: System, model: Decoder, context_len: Sequence[int]) -> xr.Dataset:
        """Return rate, efficiency, power and area of a machine, along context_len."""
        ds = evaluate(system=system, model=model, context_len=list(context_len), conventions=CONVENTIONS,
                      variables=["latency_s", "energy_j", "area_m2"])  # fmt: skip
        found = summary(ds).squeeze(["system", "model"], drop=True)
        kept = found.assign(power_w=found.energy_j / found.latency_s)
        return annotate(kept[["tokens_per_s", "tokens_per_j", "power_w", "area_m2"]])


def over_models(made: Callable[Concatenate[Any, Decoder, P], xr.Dataset]) -> Callable[Concatenate[Any, P], xr.Dataset]:
    """Make a function of a setting and one of its models do all of them, along model."""

    @wraps(made)
    def every(setting: Any, /, *asked: P.args, **named: P.kwargs) -> xr.Dataset:
        parts = [
            made(setting, decoder, *asked, **named).expand_dims(model=[decoder.name]) for decoder in setting.decoders
        ]
        return joining.concat(parts, "model")

    return every


def along(dim: str, parts: Mapping[Any, T]) -> T:
    """Return parts one after another along a new dimension, with their names as its labels."""
    return joining.concat(parts.values(), xr.Variable(dim, list(parts)))


#: A remedy goes on a stack while it gains at least so much.
LEAST_GAIN = 0.01
#: What does not go on the stack -> why.
APART = {
    "speculation": "is for a program to switch on where it pays",
    "batch of 8": "serves more sequences, none of them faster",
    "half-batches in turns": "serves more sequences, none of them faster",
    "cache in SRAM": "is bought for one context",
    "cache in eDRAM": "is bought for one context",
    "keys and values in 2 bits": "nobody has published what a one-bit model makes of it",
}
_STACKED = ("tokens_per_s", "tokens_per_j", "floor_tokens_per_s", "floor_tokens_per_j")


@over_models
def alone(setting: Setting, decoder: Decoder, exact: Sequence[str]) -> xr.Dataset:
    """Return what each remedy does: dimensions model, machine, remedy ("none" first) and context_len, the two of the
    rankings.

    machine: put on the published hybrid, and on the one with the remedies that compute the same; NaN where one of these
    is in its place. more_tokens_per_s, more_area_m2, more_power_w: over the machine without it.
    """
    names = ["none", *remedies.REMEDIES]

    contexts = (setting.at, setting.far)

    def points(put: Sequence[str]) -> xr.Dataset:
        system, model = setting.put(decoder, put)
        if system.kv is None:
            return setting.measured(system, model, contexts)
        each = [setting.measured(*setting.put(decoder, put, context), [context]) for context in contexts]
        return joining.concat(each, "context_len")  # a store is as large as its context asks

    def on(under: Sequence[str]) -> xr.Dataset:
        tried = {"none": [*under]} | {name: [*under, name] for name in remedies.free(under)}
        found = along("remedy", {name: points(put) for name, put in tried.items()})
        more = found - found.sel(remedy="none", drop=True)
        gained = {f"more_{name}": more[name] for name in ("tokens_per_s", "area_m2", "power_w")}
        return found[["tokens_per_s", "tokens_per_j"]].assign(gained).reindex(remedy=names)

    return along("machine", {"published": on([]), "improved": on(exact)})


def best_set(setting: Setting) -> list[str]:
    """Return the set of remedies that compute the same with the best rate at the far context, geometric mean over the
    models.

    All sets are tried, since two remedies may gain together what neither gains alone; then those that gain nothing in
    the best one are left out, the least useful first, as long as the rate stays within `LEAST_GAIN` of the best.
    """
    slots: dict[str, list[str]] = {}
    for name, remedy in remedies.REMEDIES.items():
        if remedy.exact and name not in APART:
            slots.setdefault(remedy.slot, [""]).append(name)
    sets = [[name for name in names if name] for names in product(*slots.values())]
    kept = max(sets, key=lambda names: _rate(setting, names))
    enough = _rate(setting, kept) / (1 + LEAST_GAIN)
    while kept:
        without = {name: _rate(setting, [other for other in kept if other != name]) for name in kept}
        least = max(without, key=without.__getitem__)
        if without[least] < enough:
            break
        kept = [name for name in kept if name != least]
    return kept


def order(setting: Setting, exact: Sequence[str]) -> list[str]:
    """Return remedies in the best order: at each step the one that gains most at the far context.

    First those given, which compute the same; then the others, until none gains `LEAST_GAIN`.
    """
    taken: list[str] = []
    left = list(exact)
    lossy = [name for name, remedy in remedies.REMEDIES.items() if not remedy.exact and name not in APART]
    while left:
        taken.append(max(left, key=lambda name: _rate(setting, [*taken, name])))
        left.remove(taken[-1])
    rate = _rate(setting, taken)
    while tried := {name: _rate(setting, [*taken, name]) for name in remedies.free(taken) if name in lossy}:
        name = max(tried, key=tried.__getitem__)
        if tried[name] < rate * (1 + LEAST_GAIN):
            break
        taken, rate = [*taken, name], tried[name]
    return taken


def _rate(setting: Setting, names: Sequence[str]) -> float:
    """Return the geometric mean of the models' rates at the far context."""
    alike: dict[str, tuple[System, list[Decoder]]] = {}  # few remedies give each model a machine of its own
    for decoder in setting.decoders:
        system, model = setting.put(decoder, names)
        alike.setdefault(fingerprint(system), (system, []))[1].append(model)
    asked: Any = {"context_len": setting.far, "conventions": CONVENTIONS, "variables": ["latency_s"]}
    seconds = [evaluate(system=system, model=models, **asked).latency_s.values for system, models in alike.values()]
    return float(np.exp(-np.mean(np.log(np.concatenate(seconds, axis=1)))))


@over_models
def stack(setting: Setting, decoder: Decoder, names: Sequence[str]) -> xr.Dataset:
    """Return rate, efficiency and floor with remedies put on one after another: dimensions model, put_on and
    context_len.

    The label of a place on the stack is the remedy put on there, "none" at its foot.
    """

    machines = [setting.put(decoder, names[:i]) for i in range(len(names) + 1)]
    rows = [setting.measured(*machine, setting.context_len) for machine in machines]
    floors = [cache_floor(system=s, model=m, context_len=setting.context_len) for s, m in machines]
    ds = along("put_on", dict(zip(["none", *names], rows, strict=True)))
    watts = xr.DataArray([_reading_w(system) for system, _ in machines], dims="put_on")
    floor = joining.concat(floors, "put_on")
    found = ds.assign(floor_tokens_per_s=floor, floor_tokens_per_j=floor / watts)[[*_STACKED]]
    return found.rename({name: f"stack_{name}" for name in _STACKED})


def _reading_w(system: System) -> float:
    """Return what the memory of the cache draws while it is read at its full rate."""
    store = system.kv or system.dram
    assert store is not None
    return float(store.bandwidth_bps * store.bit_j)


def full_memory(setting: Setting, gib: float = 16.0) -> dict[str, float]:
    """Return for each model the context whose cache alone fills a memory of a size."""
    storage = setting.hybrid.storage
    assert storage is not None
    return {d.name: gib * 2.0**30 / float(token_words(d) * storage.cached_bits / 8) for d in setting.decoders}


@over_models
def roofline(setting: Setting, decoder: Decoder, exact: Sequence[str]) -> xr.Dataset:
    """Return what bounds decoding, and which bound decides: dimensions model, way, context_len and bound.

    way: the machine as published, in one long row, in row groups with ports as narrow as before and as wide as they ask
    for, and with all remedies that compute the same.
    """
    wide = setting.put(decoder, ["row groups"])
    narrow = with_field(wide[0], "sram.port_bits", remedies.port_bits(setting.hybrid))
    machines = {
        "as published": (setting.hybrid, decoder), "one row of 1024": setting.put(decoder, ["one row of 1024"]),
        "row groups, narrow ports": (narrow, decoder), "row groups": wide, "improved": setting.put(decoder, exact),
    }  # fmt: skip
    asked = {"context_len": list(setting.context_len)}
    bounds = {way: decode_bounds(system=s, model=m, **asked) for way, (s, m) in machines.items()}
    return along("way", {way: found.reset_coords("decides") for way, found in bounds.items()})


@over_models
def turning(setting: Setting, decoder: Decoder, exact: Sequence[str]) -> xr.Dataset:
    """Return where decoding changes its character: dimensions model and machine; see `crossing.crossings`."""
    asked: dict[str, Any] = {"conventions": CONVENTIONS, "longest": max(setting.context_len)}
    found = {
        name: crossings(system=system, model=model, **asked)
        for name, (system, model) in setting.machines(decoder, exact).items()
    }
    return along("machine", {name: row.squeeze(["system", "model"], drop=True) for name, row in found.items()})


@over_models
def answers(setting: Setting, decoder: Decoder, exact: Sequence[str], prompt: int, new_tokens: int) -> xr.Dataset:
    """Return time and energy of whole answers: dimensions model, machine and reader.

    reader: the engine that multiplies the prompt with the weights.
    On the crossbars every token of the prompt is a pass of its own; the array takes many at once, and its weights from
    off-chip memory, while the tiles wait at what they draw switched off.
    """
    asked: dict[str, Any] = {"prompt": prompt, "new_tokens": new_tokens, "conventions": CONVENTIONS}

    def read(system: System, model: Decoder) -> xr.Dataset:
        on_array = replace(system, routing=dict.fromkeys(system.routing, "array"))
        own = generate(system=system, model=model, **asked)
        lent = generate(system=system, model=model, reader=on_array, **asked)
        lent["answer_j"] = lent.answer_j + _waiting_w(system, model) * lent.time_to_first_token_s
        return along("reader", {"crossbars": own, "array": lent}).squeeze(["system", "model"], drop=True)

    return along("machine", {name: read(*machine) for name, machine in setting.machines(decoder, exact).items()})


def _waiting_w(system: System, model: Decoder) -> float:
    """Return what the tiles of a machine draw while nothing runs on them, which is charged only where something does."""
    assert system.pim is not None
    ds = evaluate(system=system, model=model, context_len=1, conventions=CONVENTIONS, detail="component",
                  variables=["static_power_w"])  # fmt: skip
    tiles = float(ds.static_power_w.sel(component=list(SUBSYSTEMS["pim"])).sum())
    return tiles * float(system.pim.gated_share)


def gathered(stacked: xr.Dataset, found: xr.Dataset, *others: xr.Dataset) -> xr.Dataset:
    """Return all that the chapter computes as one dataset; rankings are along ranked_at, remedies put on machines under."""
    ranked = found.rename(context_len="ranked_at", machine="under")
    ranked["ranked_at"].attrs = {"long_name": "context length of a ranking", "units": "tokens"}
    return annotate(joining.merge([stacked, ranked, *others], join="exact").set_coords("decides"))
