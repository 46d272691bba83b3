"""From costs to figures of merit: Dataset in, Dataset out. No model of anything is in here."""

from __future__ import annotations

import xarray as xr

from pimllm_lib.schema import VARIABLES, annotate


def total(ds: xr.Dataset) -> xr.Dataset:
    """Return the dataset with op and component summed out: extensive variables add up, intensive ones stay."""
    dims = [dim for dim in ("op", "component") if dim in ds.dims]
    if not dims:
        return ds
    return ds.map(lambda v: v.sum(dims) if VARIABLES[str(v.name)].extensive else v, keep_attrs=True)


def summary(ds: xr.Dataset) -> xr.Dataset:
    """Return per-token totals with tokens_per_s, tokens_per_j and the array's utilisation added.

    tokens_per_s = 1 / latency_s; tokens_per_j = 1 / energy_j; utilisation = MACs done by the array over its PE-cycles
    (as `cycles` counts them, one short for each product).
    """
    ds = total(ds)
    return annotate(
        ds.assign(
            tokens_per_s=1 / ds.latency_s,
            tokens_per_j=1 / ds.energy_j,
            utilisation=ds.array_macs / (ds.cycles * ds.pe_count),
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
