"""From costs to figures of merit: Dataset in, Dataset out. No model of anything is in here."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pimllm_lib.core import joining
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import LATENCY_PARTS, PROJECTION_OPS, SUBSYSTEMS, SUMMED, VARIABLES, annotate
from pimllm_lib.core.units import HOUR
from pimllm_lib.costs.memory import roofline as memory_bound


def total(ds: xr.Dataset) -> xr.Dataset:
    """Return the dataset with op and component summed out: extensive variables add up, intensive ones stay."""
    dims = [dim for dim in SUMMED if dim in ds.dims]
    if not dims:
        return ds
    return ds.map(lambda v: v.sum(dims) if VARIABLES[str(v.name)].extensive else v, keep_attrs=True)


def summary(ds: xr.Dataset) -> xr.Dataset:
    """Return per-step totals with the figures of merit that the dataset's variables and detail allow.

    tokens_per_s = 1 / latency_s; tokens_per_j = 1 / energy_j; utilisation = MACs done by the array over its PE-cycles,
    at most 1; sram_words_per_mac and register_accesses_per_mac, both for each
    MAC done by the array. From a dataset split by op also projection_share and projection_cycle_share, NaN where the array
    does nothing. It and utilisation count the last cycle of each product, which `cycles` leaves out; of products that end
    together, on arrays side by side, every one's, so that utilisation is too low by less than one cycle a product. From
    a dataset split by component array_share and analog_share, both of latency.
    """
    whole = total(ds)
    merits = {}
    if "latency_s" in ds:
        merits["tokens_per_s"] = 1 / whole.latency_s
    if "energy_j" in ds:
        merits["tokens_per_j"] = 1 / whole.energy_j
    if {"array_macs", "cycles", "array_products"} <= set(ds):
        merits["utilisation"] = whole.array_macs / ((whole.cycles + whole.array_products) * whole.pe_count)
    if {"array_macs", "sram_reads", "sram_writes"} <= set(ds):
        merits["sram_words_per_mac"] = (whole.sram_reads + whole.sram_writes) / whole.array_macs
    if {"array_macs", "register_accesses"} <= set(ds):
        merits["register_accesses_per_mac"] = whole.register_accesses / whole.array_macs
    if "op" in ds.dims:
        merits |= _projection_shares(ds)
    if "component" in ds.dims and "latency_s" in ds:
        parts = share(ds, "latency_s", "component")
        merits["array_share"] = parts.sel(component=list(SUBSYSTEMS["array"])).sum("component")
        merits["analog_share"] = parts.sel(component=list(LATENCY_PARTS["crossbars and converters"])).sum("component")
    return annotate(whole.assign(merits))


def _projection_shares(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the share of projections in MACs and in whole cycles of the array, as far as the dataset has them."""
    shares = {}
    if "macs" in ds:
        shares["projection_share"] = share(ds, "macs", "op")
    if {"cycles", "array_products"} <= set(ds):
        cycles = (ds.cycles + ds.array_products).assign_attrs(ds.cycles.attrs)
        shares["projection_cycle_share"] = share(ds.assign(cycles=cycles), "cycles", "op")
    return {name: parts.sel(op=list(PROJECTION_OPS)).sum("op") for name, parts in shares.items()}


def compare(ds: xr.Dataset, baseline: str = "tpu-llm") -> xr.Dataset:
    """Return a summary with each system held against one of them: speedup, energy_gain, break_even_tokens.

    break_even_tokens is infinite where a system saves no energy. Raises BadInput when the baseline is not in it, or it is
    no summary.
    """
    if baseline not in ds.system.values:
        raise BadInput(f"there is no system {baseline!r} to compare with; wanted it evaluated too")
    _require(ds, "tokens_per_s", "tokens_per_j", "program_j")
    base = ds.sel(system=baseline, drop=True)
    saved = base.energy_j - ds.energy_j
    return annotate(
        ds.assign(
            speedup=ds.tokens_per_s / base.tokens_per_s,
            energy_gain=ds.tokens_per_j / base.tokens_per_j - 1,
            break_even_tokens=(ds.program_j / saved.where(saved > 0)).fillna(np.inf),
        )
    )


def rivals(ds: xr.Dataset) -> xr.Dataset:
    """Return a dataset without its first system, which the others are held against; whole where there is no other."""
    return ds.isel(system=slice(1, None)) if ds.sizes["system"] > 1 else ds


def operations(ds: xr.Dataset) -> xr.Dataset:
    """Return a summary with operations per second and per joule, one operation being one multiply-accumulate.

    ops_per_s = macs x tokens_per_s, ops_per_j = macs x tokens_per_j. In units of 1e9 they are what others print as GOPS and
    as GOPS/W. Raises BadInput when the dataset is no summary.
    """
    _require(ds, "macs", "tokens_per_s", "tokens_per_j")
    return annotate(ds.assign(ops_per_s=ds.macs * ds.tokens_per_s, ops_per_j=ds.macs * ds.tokens_per_j))


def lead(ds: xr.Dataset, printed: xr.Dataset) -> xr.Dataset:
    """Return operations with each rate over a printed one of the same model and context: ops_per_s_lead, ops_per_j_lead.

    printed: ops_per_s and ops_per_j, either or both, along model and context_len. NaN where nothing is printed.
    """
    leads = {f"{name}_lead": ds[name] / printed[name].reindex_like(ds[name]) for name in printed.data_vars}
    return annotate(ds.assign(leads))


def share(ds: xr.Dataset, variable: str, dim: str) -> xr.DataArray:
    """Return how an extensive variable divides along one dimension ("op" or "component"): parts of 1.

    Raises BadInput when the dataset was evaluated with too coarse a detail to have that dimension.
    """
    table = _need(ds, dim)[variable].sum([d for d in SUMMED if d in ds.dims and d != dim])
    return (table / table.sum(dim)).assign_attrs(long_name=f"share of {ds[variable].attrs['long_name']}", units="1")


def by_part(ds: xr.Dataset, variable: str, groups: dict[str, tuple[str, ...]]) -> xr.DataArray:
    """Return an extensive variable by groups of components, op summed out: dimension `part` in place of `component`.

    groups: part -> components, such as `schema.LATENCY_PARTS`. Raises BadInput when the dataset is not split by component.
    """
    split = _need(ds, "component")[variable]
    table = split.sum("op") if "op" in split.dims else split
    rows = [table.sel(component=list(names)).sum("component") for names in groups.values()]
    return joining.concat(rows, xr.Variable("part", list(groups))).assign_attrs(split.attrs)


def by_phase(**phases: xr.Dataset) -> xr.Dataset:
    """Return the results of several phases as one dataset, along a dimension of their names."""
    whole = joining.concat(
        [ds.drop_attrs().assign_attrs(ds.attrs) for ds in phases.values()],
        xr.DataArray(list(phases), dims="phase", name="phase", attrs={"long_name": "phase of inference"}),
        data_vars="all", coords="minimal", compat="override", join="exact",
    )  # fmt: skip
    return annotate(whole)


def battery(ds: xr.Dataset, *, battery_wh: float, tokens_per_word: float) -> xr.Dataset:
    """Return a summary with words_per_battery: the words that the energy of a battery decodes at one fixed context."""
    return annotate(ds.assign(words_per_battery=ds.tokens_per_j * battery_wh * HOUR / tokens_per_word))


def power(ds: xr.Dataset) -> xr.Dataset:
    """Return mean and peak power by subsystem, from a dataset split by component.

    Dimensions: those of the dataset, op and component replaced by subsystem (`schema.SUBSYSTEMS`). power_w = energy of the
    subsystem over the time of the step; peak_power_w = the most energy over working time among its products, 0 where it
    does no work of its own time. power_density_w_m2 = peak power over area, NaN without area.
    """
    split = _need(ds, "op", "component")
    _require(ds, "latency_s", "busy_s", "energy_j", "area_m2", of="an evaluation")
    token_s = split.latency_s.sum(["op", "component"])
    rows = []
    for name, parts in SUBSYSTEMS.items():
        mine = split.sel(component=list(parts))
        energy, busy = mine.energy_j.sum("component"), mine.busy_s.sum("component")
        peak = (energy / busy.where(busy > 0)).max("op").fillna(0.0)
        area = mine.area_m2.sum(["op", "component"])
        density = peak / area.where(area > 0)
        found = {"power_w": energy.sum("op") / token_s, "peak_power_w": peak, "power_density_w_m2": density}
        rows.append(xr.Dataset(found, coords={"subsystem": name}))
    return annotate(joining.concat(rows, "subsystem").assign_attrs(ds.attrs))


def roofline(ds: xr.Dataset, *, rate_hz: float, bandwidth_bps: float) -> xr.Dataset:
    """Return intensity (MACs of the array for each off-chip byte) and the rate that array and memory allow.

    rate_hz: clock of the array; bandwidth_bps: of the off-chip memory. Only where traffic was counted.
    """
    whole = total(ds)
    peak = whole.pe_count * rate_hz
    moved = whole.dram_bytes.where(whole.dram_bytes > 0)
    attainable = memory_bound(whole.array_macs, moved, peak_macs_per_s=peak, bandwidth_bps=bandwidth_bps)
    bound = {"intensity": whole.array_macs / moved, "attainable_macs_per_s": attainable}
    return annotate(xr.Dataset(bound, attrs=ds.attrs))


def _require(ds: xr.Dataset, *names: str, of: str = "metrics.summary of an evaluation") -> None:
    """Raise BadInput when a variable is not in the dataset."""
    for name in names:
        if name not in ds:
            raise BadInput(f"the dataset has no {name}; wanted {of} with all variables")


def _need(ds: xr.Dataset, *dims: str) -> xr.Dataset:
    """Return the dataset; raises BadInput when it was evaluated with too coarse a detail."""
    for dim in dims:
        if dim not in ds.dims:
            raise BadInput(f"the dataset has no dimension {dim}; wanted one evaluated with detail={dims[-1]!r}")
    return ds
