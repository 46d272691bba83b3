"""From costs to figures of merit: Dataset in, Dataset out. No model of anything is in here."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pimllm_lib.schema import ANALOG_COMPONENTS, ARRAY_COMPONENTS, ATTENTION_OPS, VARIABLES, annotate


def total(ds: xr.Dataset) -> xr.Dataset:
    """Return the dataset with op and component summed out: extensive variables add up, intensive ones stay."""
    dims = [dim for dim in ("op", "component") if dim in ds.dims]
    if not dims:
        return ds
    return ds.map(lambda v: v.sum(dims) if VARIABLES[str(v.name)].extensive else v, keep_attrs=True)


def summary(ds: xr.Dataset) -> xr.Dataset:
    """Return per-token totals with figures of merit added.

    tokens_per_s = 1 / latency_s; tokens_per_j = 1 / energy_j; utilisation = MACs done by the array over its PE-cycles
    (as `cycles` counts them, one short for each product). From a dataset split by op also projection_share, from one
    split by component array_share and analog_share, both of latency.
    """
    whole = total(ds)
    merits = {
        "tokens_per_s": 1 / whole.latency_s,
        "tokens_per_j": 1 / whole.energy_j,
        "utilisation": whole.array_macs / (whole.cycles * whole.pe_count),
    }
    if "op" in ds.dims:
        attention = share(ds, "macs", "op").sel(op=list(ATTENTION_OPS)).sum("op")
        merits["projection_share"] = 1 - attention
    if "component" in ds.dims:
        parts = share(ds, "latency_s", "component")
        merits["array_share"] = parts.sel(component=list(ARRAY_COMPONENTS)).sum("component")
        merits["analog_share"] = parts.sel(component=list(ANALOG_COMPONENTS)).sum("component")
    return annotate(whole.assign(merits))


def compare(ds: xr.Dataset, baseline: str = "tpu-llm") -> xr.Dataset:
    """Return a summary with each system held against one of them: speedup, energy_gain, break_even_tokens.

    break_even_tokens is infinite where a system saves no energy. Raises KeyError when the baseline is not in it.
    """
    if baseline not in ds.system.values:
        raise KeyError(f"no system {baseline!r} here to compare with; evaluate it too")
    base = ds.sel(system=baseline, drop=True)
    saved = base.energy_j - ds.energy_j
    return annotate(
        ds.assign(
            speedup=ds.tokens_per_s / base.tokens_per_s,
            energy_gain=ds.tokens_per_j / base.tokens_per_j - 1,
            break_even_tokens=(ds.program_j / saved.where(saved > 0)).fillna(np.inf),
        )
    )


def share(ds: xr.Dataset, variable: str, dim: str) -> xr.DataArray:
    """Return how an extensive variable divides along one dimension ("op" or "component"): parts of 1.

    Raises KeyError when the dataset was evaluated with too coarse a detail to have that dimension.
    """
    if dim not in ds.dims:
        raise KeyError(f"no dimension {dim!r} here; evaluate with detail={dim!r}")
    others = [d for d in ("op", "component") if d in ds.dims and d != dim]
    table = ds[variable].sum(others)
    return (table / table.sum(dim)).assign_attrs(long_name=f"share of {ds[variable].attrs['long_name']}", units="1")
