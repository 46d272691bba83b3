"""The numbers behind the page `explore`: a grid of designs, in columns that a browser adds up to what a token costs.

A column is a part of the time, or of the energy, along the axes of the grid. It depends on few of them: an axis keeps only
slices that differ, and says which of them each of its values has. What is exactly linear is a coefficient in place of an
axis: the energy of output converters in their power; static energy in the time of a token, in what tiles that sleep still
draw, and in what converters draw while they wait. `book/explore.js` adds up, and so does its test.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.core.axes import axis
from pimllm_lib.core.conventions import PRESETS
from pimllm_lib.core.parts import field_of, with_fields
from pimllm_lib.core.paths import BOOK
from pimllm_lib.core.schema import COMPONENTS, ENERGY_PARTS, LATENCY_PARTS, SUBSYSTEMS
from pimllm_lib.hardware import ONE_BY_ONE
from pimllm_lib.report.numbers import number
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.workload.decoder import is_plain
from pimllm_lib.workload.products import block_products

#: Axis -> its values, the last one narrowed first. 0 for a scale of all inputs together.
AXES: dict[str, list[Any]] = {
    "model": [
        "gpt2-355m", "gpt2-774m", "gpt2-1.5b", "opt-1.3b", "opt-2.7b", "opt-6.7b", "llama-7b", "bitcpm-3b", "bitnet-2b4t",
        "falcon-e-3b", "falcon3-10b-1.58bit", "llama3-8b-1.58", "trilm-3.9b",
        "bonsai-1.7b-1bit", "bonsai-4b-ternary", "bonsai-8b-1bit",
    ],
    "context_len": [128 * 2**i for i in range(9)],
    "scale_group": [0, 256, 128, 64],
    "rate_hz": [1e8, 2e8, 4e8, 8e8],
    "row_groups": [1, 2, 4, 8, 16, 32],
    "bits": [4, 5, 6, 7, 8],
}  # fmt: skip
#: Accelerators by the cells of their SRAM; the first cells are the system's own.
SYSTEMS: dict[str, list[str]] = {
    "tpu-llm": ["", "hp", "lop", "lstp"], "pim-llm": ["", "hp", "lop", "lstp"], "pim-llm-groups": [""],
}  # fmt: skip
#: Fields that have an axis, or are a coefficient.
FIELDS = {
    "rate_hz": "array.rate_hz", "row_groups": "array.row_groups", "bits": "pim.tile.crossbar.adc.bits",
    "power_w": "pim.tile.crossbar.adc.power_w", "idle_share": "pim.tile.crossbar.adc.idle_share",
    "gated_share": "pim.gated_share",
}  # fmt: skip
_STATIC = tuple(name for name, row in COMPONENTS.items() if row.energy == "static")
_OTHERS = list(AXES)[1:]
#: Share of a token's time or energy below which two slices are the same but for rounding.
_ROUNDING = 1e-13


def fitting(model: str) -> list[int]:
    """Return the groups of the grid that divide the inputs of a model's projections."""
    products = block_products(catalog.models[model], 1, 1, way=ONE_BY_ONE)
    inputs = {product.k for product in products if product.kind == "projection"}
    return [size for size in AXES["scale_group"] if not size or all(k % size == 0 for k in inputs)]


def columns(name: str, preset: str) -> dict[str, tuple[str, Any]]:
    """Return the columns of a system: key -> which slices the values of each axis have, a letter a value; the slices.

    s:PART and j:PART of time (s) and energy (J), parts of `LATENCY_PARTS` and `ENERGY_PARTS`, tiles apart, the energy of
    converters at the power they have in the catalog; and what static energy is made of, see `_static`. Those that are 0
    are left out.
    """
    tables = _evaluated(name, preset, 1)
    time, energy, _ = tables
    token_s, token_j = sum(time.values()), sum(energy.values())
    found = _parts("s", "latency", time) | _parts("j", "energy", {k: v for k, v in energy.items() if k not in _STATIC})
    if PRESETS[preset].static_power:
        found |= _static(tables, _evaluated(name, preset, 2)[1])
    scale = {"s": token_s, "j": token_j, "w": token_j / token_s}
    rounding = {key: _ROUNDING * scale[key[0]] for key in found}
    return {key: _narrow(table, rounding[key]) for key, table in found.items() if np.any(np.abs(table) > rounding[key])}


def _evaluated(name: str, preset: str, waiting: float) -> list[dict[str, Any]]:
    """Return time, energy and static power by component, along `AXES`.

    waiting: what output converters draw while they wait, over what they draw in the catalog. Tiles draw half of their static
    power while they sleep: less than all, at which they would not be woken.
    """
    system = catalog.systems[name]
    changes: dict[str, Any] = {FIELDS[key]: axis(**{key: AXES[key]}) for key in ("rate_hz", "row_groups")}
    if system.pim is not None:
        idle = waiting * field_of(system, FIELDS["idle_share"])
        changes |= {FIELDS["bits"]: axis(bits=AXES["bits"]), FIELDS["idle_share"]: idle, FIELDS["gated_share"]: 0.5}
    variables = ["latency_s", "energy_j", "static_power_w"]
    made = [
        evaluate(
            system=with_fields(system, changes), model=[_in_groups(model) for model in models], conventions=preset,
            context_len=AXES["context_len"], detail="part", variables=variables,
        ).squeeze("system")
        for _, models in groupby(AXES["model"], lambda model: is_plain(catalog.models[model]))  # alike, and so together
    ]  # fmt: skip
    return [_by_component([ds[variable] for ds in made]) for variable in variables]


def _in_groups(name: str) -> Any:
    """Return a model with an axis of groups of inputs that share a scale; at those that do not fit it has none."""
    fits = fitting(name)
    sizes = [float(size) if size and size in fits else np.inf for size in AXES["scale_group"]]
    return replace(catalog.models[name], scale_group=axis(scale_group=AXES["scale_group"]).copy(data=sizes))


def _by_component(tables: list[xr.DataArray]) -> dict[str, Any]:
    """Return a variable by component, along `AXES`, of tables that follow one another along models."""
    missing = [dim for dim in AXES if dim not in tables[0].dims]
    flat = np.concatenate(
        [table.expand_dims(missing).transpose("model", "component", *_OTHERS).values for table in tables]
    )
    return {name: flat[:, i] for i, name in enumerate(COMPONENTS)}


def _parts(letter: str, kind: str, tables: dict[str, Any]) -> dict[str, Any]:
    """Return sums of components by the part that they are counted to; those of tiles depend on other axes than the rest."""
    found: dict[str, Any] = {}
    for name, table in tables.items():
        row = COMPONENTS[name]
        key = f"{letter}:{getattr(row, kind)}{':tiles' if row.subsystem in ('pim', 'static') else ''}"
        found[key] = found[key] + table if key in found else table
    return found


def _static(tables: list[dict[str, Any]], doubled: dict[str, Any]) -> dict[str, Any]:
    """Return static power (W), and the energy (J) that is to be added to its product with the time of a token.

    doubled: the energy where converters that wait draw twice as much. Where T is the time of a token, t that of the array,
    g the share that sleeping tiles draw, and c what waiting converters draw over what they do in the catalog, static energy
    is on T - array t + leak + leak_c c + g ((pim + adc c) T - sleep - sleep_c c) + (1 - g) (wake + wake_c c); keys begin
    with the unit.
    """
    time, joules, watts = tables
    rest = {key: 2 * joules[key] - doubled[key] for key in ("leakage", "asleep", "wake")}  # but for converters
    of_adc = {key: doubled[key] - joules[key] for key in rest}
    token_s, array_s = sum(time.values()), time["stream"] + time["fill"]
    on = watts["stream"] + watts["sram"] + watts["standby"]
    pim: Any = sum(watts[name] for name in SUBSYSTEMS["pim"] if name != "adc")
    return {
        "w_on": on, "w_array": watts["stream"], "w_pim": pim, "w_adc": watts["adc"],
        "j_leak": rest["leakage"] + joules["standby"] - on * token_s + watts["stream"] * array_s,
        "j_leak_c": of_adc["leakage"],
        "j_sleep": pim * token_s - 2 * rest["asleep"], "j_sleep_c": watts["adc"] * token_s - 2 * of_adc["asleep"],
        "j_wake": 2 * rest["wake"], "j_wake_c": 2 * of_adc["wake"],
    }  # fmt: skip


def _narrow(table: Any, rounding: Any) -> tuple[str, Any]:
    """Return which slices each value of each axis has, and the slices, none the same as another but for rounding."""
    letters = []
    for at, values in reversed(list(enumerate(AXES.values()))):
        kept: list[int] = []
        said = ""
        for i in range(table.shape[at]):
            one, rounded = table.take(i, at), rounding.take(i, at)
            same = [j for j, k in enumerate(kept) if np.all(np.abs(one - table.take(k, at)) <= rounded)]
            kept += [] if same else [i]
            said += f"{same[0] if same else len(kept) - 1:x}"
        letters.append(said.ljust(len(values), "0"))  # a system without that axis is the same at all its values
        table, rounding = table.take(kept, at), rounding.take(kept, at)
    return " ".join(reversed(letters)), table


@cache
def payload() -> str:
    """Return all that the page needs, deflated and in base64: JSON, then after a full stop the slices of all columns.

    These are float64 in little endian, all first bytes first. A column is its place there and the slices that values have.
    """
    places: dict[bytes, int] = {}
    data = bytearray()
    book: dict[str, Any] = {}
    for name, cells in SYSTEMS.items():
        for cell in cells:
            system = f"{name}-{cell}" if cell else name
            for preset in PRESETS:
                book[f"{system} {preset}"] = rows = {}
                for key, (said, table) in columns(system, preset).items():
                    content = np.ascontiguousarray(table, "<f8").tobytes()
                    if content not in places:
                        places[content] = len(data) // 8
                        data += content
                    rows[key] = [places[content], said]
    shuffled = np.frombuffer(bytes(data), np.uint8).reshape(-1, 8).T.tobytes()
    head = json.dumps(_head() | {"columns": book}).encode()
    return ".".join(base64.b64encode(zlib.compress(part, 9)).decode() for part in (head, shuffled))


def _head() -> dict[str, Any]:
    """Return what the page says of its controls: values, fields behind them, and what the catalog has."""
    own = {
        name: {key: field_of(catalog.systems[name], FIELDS[key]) for key in ("rate_hz", "row_groups")}
        for name in SYSTEMS
    }
    coefficients = ("bits", "power_w", "idle_share", "gated_share")
    hybrid, models = catalog.systems["pim-llm"], {name: catalog.models[name].scale_group for name in AXES["model"]}
    return {
        "axes": AXES, "conventions": list(PRESETS), "systems": SYSTEMS, "fields": FIELDS, "own": own,
        "adc": {key: field_of(hybrid, FIELDS[key]) for key in coefficients},
        "groups": {name: [int(size) if np.isfinite(size) else 0, *fitting(name)] for name, size in models.items()},
        "parts": {"s": list(LATENCY_PARTS), "j": list(ENERGY_PARTS)},
    }  # fmt: skip


def grid() -> str:
    """Return the sentence that says how many points there are; TPU-LLM has no converters, and not all groups fit a model."""
    systems = sum(len(cells) * (1 if name == "tpu-llm" else len(AXES["bits"])) for name, cells in SYSTEMS.items())
    models = sum(len(fitting(model)) for model in AXES["model"])
    points = (
        systems
        * len(PRESETS)
        * models
        * int(np.prod([len(AXES[key]) for key in ("context_len", "rate_hz", "row_groups")]))
    )
    return f"The lists make {number(points)} designs and ways to count, with {len(AXES['model'])} models."


def page() -> str:
    """Return data and script of the page, as one block of HTML that needs no server."""
    script = (BOOK / "explore.js").read_text(encoding="utf-8")
    return f'<script type="text/plain" id="explore-data">{payload()}</script>\n<script>\n{script}</script>'
