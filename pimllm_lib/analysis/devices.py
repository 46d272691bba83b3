"""Machines that one can buy: the rule of their decoding rate, and data/machines.csv, what was measured on them.

The rule reads every weight that works on a token once, and the cache, at one share of the memory's peak rate for each kind
of machine. It is fitted to no row: what lies outside of `FACTOR` stays in the table, which says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pimllm_lib import catalog
from pimllm_lib.catalog.quantities import STATUSES, read_text
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import Value
from pimllm_lib.core.paths import DATA
from pimllm_lib.core.units import GIGA, HOUR, MILLI
from pimllm_lib.hardware import Device
from pimllm_lib.hardware.devices_to_buy import KINDS
from pimllm_lib.workload.caches import attended_words, reached_words, state_words, token_words
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.products import products, stored_bytes

#: How a power or an energy was found. What is estimated is never set beside what was measured.
METHODS = {
    "rail": "sensors of the processors' supply, without memory and board",
    "package": "counters of processors and memory, without board, screen and losses",
    "board": "sensors of a card or a board, memory included",
    "wall": "a meter before the power supply",
    "estimated": "from operations, a battery's drain or a limit of power: not measured",
}
#: Unit of a rate -> tokens a second; unit of an energy or a power -> joules a token at a rate.
RATES: dict[str, Callable[[float], float]] = {"tokens/s": lambda value: value, "ms/token": lambda value: 1e3 / value}
ENERGIES: dict[str, Callable[[float, float], float]] = {
    "J/token": lambda value, rate: value,
    "mWh/token": lambda value, rate: value * MILLI * HOUR,
    "tokens/J": lambda value, rate: 1 / value,
    "W": lambda value, rate: value / rate,
}
#: Of a row. second: another public source of the number; why: what explains a rate outside of `FACTOR`.
COLUMNS = ("device", "model", "engine", "format", "bits", "head_bits", "context", "rate", "rate_unit", "energy",
           "energy_unit", "method", "source", "status", "where", "second", "why")  # fmt: skip
#: A rate within this factor of the rule's is explained by it.
FACTOR = 2.0


def token_bytes(
    model: Decoder, context_len: Value, *, bits: Value = None, head_bits: Value = None, cache_bits: Value = 16
) -> Value:
    """Return the bytes that a token moves: weights read, cache read, cache written.

    bits, head_bits: of a stored weight of projections and of the head, scales included; None for what the model's levels
    and groups of scales need, see `workload.products.stored_bytes`.
    """
    words = attended_words(model, context_len) + token_words(model) + state_words(model)
    return stored_bytes(model, bits=bits, head_bits=head_bits, read=True) + words * cache_bits / 8


def decoding_rate(
    device: Device | str, model: Decoder | str, context_len: Value, *, bits: Value = None, head_bits: Value = None,
    cache_bits: Value = 16,
) -> Value:  # fmt: skip
    """Return the tokens per second that a machine decodes, one sequence: the rule.

    Raises BadInput where weights and cache do not fit its memory.
    """
    device, model = catalog.device(device), catalog.model(model)
    stored = stored_bytes(model, bits=bits, head_bits=head_bits)
    needed = np.max(stored + (reached_words(model, context_len) + state_words(model)) * cache_bits / 8)
    if needed > device.capacity_bytes:
        raise BadInput(
            f"{model.name} needs {needed / GIGA:.3g} GB at {clip(np.max(context_len))} tokens; wanted at most the"
            f" {device.capacity_bytes / GIGA:.3g} GB of {device.name}"
        )
    moved = token_bytes(model, context_len, bits=bits, head_bits=head_bits, cache_bits=cache_bits)
    seconds = moved * 8 / (device.bandwidth_bps * device.efficiency)
    if device.macs_hz is not None:
        seconds = np.maximum(seconds, sum(product.macs for product in products(model, context_len)) / device.macs_hz)
    return 1 / seconds


def measured(path: Path = DATA / "machines.csv") -> pd.DataFrame:
    """Return the table of measured rates, with `tokens_per_s` and `energy_j` (NaN where none is stated) in SI units.

    Raises BadInput, with the line, for a row without a device or a model of the catalog, without a unit, without source,
    status or place, with an energy or a power and no way of measurement, and for one above the machine's limit of power.
    """
    table = pd.read_csv(StringIO(read_text(path)), dtype=str, keep_default_na=False)
    for column in COLUMNS:
        if column not in table:
            raise BadInput(f"{path.name} has no column {column}; wanted {', '.join(COLUMNS)}")
    rows = [_row(f"{path.name}, line {at + 2}", row) for at, row in enumerate(table.to_dict("records"))]
    return pd.DataFrame(rows)


def _row(where: str, row: Mapping[str, str]) -> dict[str, Any]:
    for field, known in (("device", catalog.devices), ("model", catalog.models), ("status", STATUSES)):
        if row[field] not in known:
            raise BadInput(f"{where}: {unknown(field, row[field], known)}")
    for field in ("engine", "format", "source", "where"):
        if not row[field].strip():
            raise BadInput(f"{where} has no {field}; wanted one")
    numbers = {field: _number(where, field, row[field]) for field in ("bits", "head_bits", "context", "rate")}
    rate = _unit(where, "rate_unit", row["rate_unit"], RATES)(numbers["rate"])
    energy, device = np.nan, catalog.devices[row["device"]]
    if row["energy"]:
        _unit(where, "method", row["method"], METHODS)
        energy = _unit(where, "energy_unit", row["energy_unit"], ENERGIES)(
            _number(where, "energy", row["energy"]), rate
        )
        if device.power_w is not None and energy * rate > device.power_w:
            raise BadInput(f"{where}: {energy * rate:.3g} W; wanted at most the {device.power_w:g} W of {device.name}")
    kept = {field: row[field] for field in COLUMNS if field not in ("rate", "rate_unit", "energy", "energy_unit")}
    return {**kept, **numbers, "kind": device.kind, "tokens_per_s": rate, "energy_j": energy}


def _number(where: str, field: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (isfinite(value) and value > 0):
        raise BadInput(f"{where}: {field} is {clip(text)}; wanted a finite number above 0")
    return value


def _unit(where: str, field: str, unit: str, known: Mapping[str, Any]) -> Any:
    if not unit.strip():
        raise BadInput(f"{where} has no {field}; wanted one of {', '.join(known)}")
    if unit not in known:
        raise BadInput(f"{where}: {unknown(field, unit, known)}")
    return known[unit]


def compared(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the table with the rule beside each row: `bytes` a token, `share` of the peak bandwidth that was reached,
    `rule_tokens_per_s`, `ratio` of the measured rate to the rule's, and `outside`, whether that is beyond `FACTOR`.
    """
    table = (measured() if table is None else table).copy()
    found = [_compared(row) for row in table.to_dict("records")]
    table[["bytes", "share", "rule_tokens_per_s"]] = found
    table["ratio"] = table.tokens_per_s / table.rule_tokens_per_s
    table["outside"] = np.abs(np.log(table.ratio)) > np.log(FACTOR)
    return table


def _compared(row: Mapping[str, Any]) -> tuple[float, float, float]:
    device, model = catalog.devices[row["device"]], catalog.models[row["model"]]
    asked = {"bits": row["bits"], "head_bits": row["head_bits"]}
    moved = float(token_bytes(model, row["context"], **asked))
    share = moved * 8 * row["tokens_per_s"] / device.bandwidth_bps
    return moved, share, float(decoding_rate(device, model, row["context"], **asked))


def here(path: Path = DATA / "peers" / "llamacpp.csv") -> pd.DataFrame:
    """Return what `benchmarks/llamacpp.py` measured, with `bytes` a token and `share`, their rate over that of a copy: what
    the rule would give for a machine of that bandwidth, all of it reached, is tokens_per_s / share.
    """
    table = pd.read_csv(path, comment="#")
    asked = table[["model", "context", "bits", "head_bits"]].itertuples(index=False)
    table["bytes"] = [
        float(token_bytes(catalog.models[one.model], one.context, bits=one.bits, head_bits=one.head_bits))
        for one in asked
    ]
    table["share"] = table.tokens_per_s * table.bytes / (table.copy_gb_per_s * GIGA)
    return table


def fitted_shares(table: pd.DataFrame | None = None) -> dict[str, float]:
    """Return the efficiency of each kind of machine: the median share that its rows reach, to two digits."""
    shares = compared(table).groupby("kind").share.median()
    return {kind: round(float(shares[kind]), 2) for kind in KINDS if kind in shares}
