"""Chapter 10, long contexts: remedies alone, stacked and searched. What is computed; tables and figures are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog, remedies
from pimllm_lib.axes import axis
from pimllm_lib.bounds import attention_bounds, cache_floor
from pimllm_lib.hardware import System
from pimllm_lib.llm import Decoder
from pimllm_lib.metrics import summary
from pimllm_lib.parts import with_field, with_fields
from pimllm_lib.schema import annotate
from pimllm_lib.system import evaluate

#: What decoding is judged by here; the area of the machine but for its crossbars is `digital_m2`.
_WANTED = ["latency_s", "energy_j", "area_m2"]
_CROSSBARS = ("pim",)
MM2 = 1e6


def bought(gib: float) -> System:
    """Return the published hybrid with ports as its array asks for, and off-chip memory of a size."""
    return remedies.provisioned(with_field(catalog.systems["pim-llm"], "dram.capacity_bytes", gib * 2.0**30))


def fitted(system: System, model: Decoder, context_len: Sequence[int]) -> System:
    """Return a machine whose own memory for the cache, if it has one, holds the longest context: its area and power follow."""
    if system.kv is None:
        return system
    assert system.storage is not None
    heads, key, value = remedies.cached(model)
    words = heads * (key + value) * model.n_layers * max(context_len) * system.decoding.batch
    return with_field(system, "kv.capacity_bytes", float(words * system.storage.cached_bits / 8))
