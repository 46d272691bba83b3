"""Tables a page shows: inputs with their sources, results with readable numbers."""

from __future__ import annotations

import pandas as pd
import xarray as xr

from pimllm_lib import catalog


def sources(*names: str) -> pd.DataFrame:
    """Return every quantity of the named catalog parts: value, unit, status, source and where it stands in it."""
    rows = [
        {"part": name, "quantity": field, **{key: entry.get(key, "") for key in ("value", "unit", "status", "source")},
         "where": entry.get("where") or entry.get("note", "")}
        for name in names
        for field, entry in catalog.parts.entries[name].items()
        if isinstance(entry, dict)
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index(["part", "quantity"])


def shapes(names: list[str], conventions: str) -> pd.DataFrame:
    """Return the shapes that are evaluated for the named models under a set of conventions."""
    from pimllm_lib.llm import as_published

    preset = catalog.preset(conventions)
    fields = ["n_layers", "d_model", "d_ff", "gated", "n_heads", "n_kv_heads", "head_dim"]
    shaped = {
        name: as_published(catalog.model(name), d_ff=preset.published_ffn_width, gated=preset.published_ffn_gate)
        for name in names
    }
    return pd.DataFrame({name: {f: getattr(shape, f) for f in fields} for name, shape in shaped.items()}).T


def grid(values: xr.DataArray, decimals: int) -> pd.DataFrame:
    """Return a result that varies by model and context only, rounded for reading."""
    table = values.squeeze([d for d in values.dims if d not in ("model", "context_len")]).to_pandas()
    return pd.DataFrame(table).map(lambda value: f"{value:.{decimals}f}")
