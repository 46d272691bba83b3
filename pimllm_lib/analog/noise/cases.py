"""The cases of a noise study: curves along which one field of crossbar, devices or readout takes value after value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pimllm_lib import catalog, hardware
from pimllm_lib.analog.lm.checkpoint import Checkpoint, Matrix
from pimllm_lib.analog.lm.evaluation import calibrate, on_crossbars
from pimllm_lib.analog.lm.language import looked_at
from pimllm_lib.analog.lm.layers import Attend, Prepare, attend, exact, zeroed
from pimllm_lib.analog.noise.attention import in_cells, require_cacheable
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import require, with_fields
from pimllm_lib.hardware import Crossbar, Devices, Readout
from pimllm_lib.sweep.entries import number, require_known, whole

#: Keys of a curve. PARTS name a part each; `field` is a path into one of them, a list of paths that take the same value, one
#: of the parts, or one of WAYS.
PARTS = {"crossbar": "crossbar-256", "devices": "cells-ideal", "readout": "readout-ideal"}
WAYS = ("products", "only", "tuned", "shared")
#: What a curve has less of than its study, where that is enough.
ALLOTTED = ("windows", "device_seeds")
KEYS = ("field", "values", "set", *PARTS, *WAYS, *ALLOTTED)
#: What products a case has: projections on crossbars, attention on crossbars ("cached"), both; exact ones, or none at all.
PRODUCTS = ("crossbars", "cached", "both", "exact", "zeroed")
#: Statistics that make two chips of one case differ.
_DRAWN = ("variation", "curve_siemens", "stuck_off", "stuck_on", "reading", "output_noise", "drift_spread")


@dataclass(frozen=True, eq=False)
class Case:
    """One point of a study. curve, setting: where it stands; value: the setting where it is a number, else NaN.

    products: one of `PRODUCTS`; only: layer or kind of the matrices that lie on crossbars, None for all; tuned: what follows
    the name of the checkpoint that is tried in the place of the first; shared: whether all matrices have one range of
    converters, the largest that any needs; windows, device_seeds: text and chips of its own, 0 for those of the study.
    """

    curve: str
    setting: str
    value: float
    crossbar: Crossbar
    devices: Devices
    readout: Readout
    products: str = "crossbars"
    only: str | None = None
    tuned: str = ""
    shared: bool = False
    windows: int = 0
    device_seeds: int = 0

    @property
    def name(self) -> str:
        """Return what tells it from all others."""
        return f"{self.curve} {self.setting}".strip()

    @property
    def drawn(self) -> bool:
        """Whether chips differ; else one stands for all."""
        random = any(getattr(self.devices, name) for name in _DRAWN) or bool(self.readout.dnl)
        return self.products in ("crossbars", "cached", "both") and random


def cases(curves: Mapping[str, Any]) -> tuple[Case, ...]:
    """Return the cases of curves by name, each a table of `KEYS`. Raises BadInput, naming the curve, for what is no case."""
    if not isinstance(curves, Mapping) or not curves:
        raise BadInput(f"curves are {clip(curves)}; wanted at least one, with field and values")
    found: list[Case] = []
    for name, entry in curves.items():
        try:
            found += _curve(str(name), entry)
        except BadInput as error:
            raise BadInput(f"curve {clip(name)}: {error}") from None
    for name, count in Counter(case.name for case in found).items():
        if count > 1:
            raise BadInput(f"{count} cases are named {name!r}; wanted one")
    return tuple(found)


def _curve(name: str, entry: Any) -> list[Case]:
    require(isinstance(entry, Mapping), "it", entry, "a table with field and values, or products")
    require_known("key", entry, KEYS)
    if ("field" in entry) != ("values" in entry):
        raise BadInput("it has one of field and values; wanted both, or neither")
    fixed = {key: entry[key] for key in (*PARTS, *WAYS) if key in entry}
    fixed |= {key: whole(key, entry[key], 1) for key in ALLOTTED if key in entry}
    changes, values, field = entry.get("set", {}), entry.get("values", [""]), entry.get("field", "")
    require(isinstance(changes, Mapping), "set", changes, "a table of path: value")
    if not isinstance(values, list) or not values:
        raise BadInput(f"values are {clip(values)}; wanted a list of at least one")
    if "field" not in entry or field in (*PARTS, *WAYS):
        return [_case(name, value, fixed | {field: value}, dict(changes)) for value in values]
    fields = field if isinstance(field, list) and field else [field]
    return [_case(name, value, fixed, dict(changes) | dict.fromkeys(map(str, fields), value)) for value in values]


def _case(curve: str, value: Any, fixed: dict[str, Any], changes: dict[str, Any]) -> Case:
    kinds = {key: getattr(hardware, key.capitalize()) for key in PARTS}
    parts = {key: catalog.part(fixed.get(key, name), kinds[key]) for key, name in PARTS.items()}
    for path, to in changes.items():
        key, _, field = str(path).partition(".")
        require_known("part", [key], parts)
        parts[key] = with_fields(parts[key], {field: tuple(to) if isinstance(to, list) else number(to)})
    ways = {key: fixed[key] for key in (*WAYS, *ALLOTTED) if key in fixed}
    require_known("products", [ways.get("products", "crossbars")], PRODUCTS)
    for key, kind, wanted in (("only", str, "a name"), ("tuned", str, "a name"), ("shared", bool, "true or false")):
        require(isinstance(ways.get(key, kind()), kind), key, ways.get(key), wanted)
    if ways.get("products") in ("cached", "both"):
        require_cacheable(parts["crossbar"], parts["readout"])
    at = number(value)
    at = float(at) if isinstance(at, int | float) and not isinstance(at, bool) else math.nan
    return Case(curve=curve, setting=str(value), value=at, **parts, **ways)


def ranges(case: Case, checkpoint: Checkpoint, calibrating: np.ndarray) -> dict[str, float | None]:
    """Return the full scale of each matrix's converters, from tokens (windows, length) that are used for nothing else."""
    found = calibrate(checkpoint, calibrating, case.crossbar, case.readout)
    return dict.fromkeys(found, max(scale or 0.0 for scale in found.values())) if case.shared and found else found


def prepared(case: Case, scales: Mapping[str, float | None], seed: int) -> Prepare:
    """Return what a case makes of each matrix of a model, drawn from a device seed."""
    if case.products not in ("crossbars", "both"):
        return zeroed if case.products == "zeroed" else exact
    bar = replace(case.crossbar, weight_bits=2) if case.products == "both" else case.crossbar
    return on_crossbars(bar, case.devices, case.readout, seed=seed, full_scales=scales, only=case.only)


def attending(case: Case, seed: int) -> Attend:
    """Return what a case makes of attention, drawn from a device seed."""
    if case.products not in ("cached", "both"):
        return attend
    return in_cells(case.crossbar, case.devices, case.readout, seed=seed)


def noise_to_signal(case: Case, checkpoint: Checkpoint, tokens: np.ndarray, prepare: Prepare) -> dict[str, float]:
    """Return the noise of each matrix's product over its signal, for the activations that exact products give it."""

    def look(name: str, matrix: Matrix, x: np.ndarray) -> float:
        wanted, noisy = exact(name, matrix)(x, 0), prepare(name, matrix)(x, 0)
        return float(np.square(noisy - wanted).mean() / np.square(wanted).mean())

    return looked_at(checkpoint, tokens, look)
