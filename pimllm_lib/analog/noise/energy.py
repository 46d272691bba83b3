"""Energy against accuracy: what the resolution, sharing and rate of the converters cost, and what they spoil.

Neglected: the rise of perplexity depends on the resolution alone; what a slower converter would gain by settling, and what
converters shared by more columns would change by their mismatch, is left out. Activations cost their bits of
two's complement passes, also where the crossbars whose perplexity was read take sign and magnitude. The rise is read from a
model small enough to be trained here, the energy is that of the model given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.catalog.converters import converters
from pimllm_lib.core.axes import axis
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import annotate
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.metrics import summary

#: From one converter for 32 columns of the 256 to one for each; shares of the full clock, the last as published.
SHARING, SHARES = (8, 16, 32, 64, 128, 256), (0.25, 0.5, 1.0)
#: The published design, which every energy is held against.
HOME = {"adc_bits": 8, "adcs_per_crossbar": 128, "adc_rate_share": 1.0}
CONVENTIONS = ("corrected", "full-system")
#: Rises below one in ten thousand are drawn, and the knee found, as if they were that: the logarithm needs an end.
FLOOR = 1e-4
#: The rise called harmless.
LEVEL = 0.01
#: The curve of a noise study that says what a resolution spoils, and its rise of perplexity with both ends.
CURVE = "4 sigma, sign-magnitude"
RISES = ("perplexity_rise", "perplexity_rise_low", "perplexity_rise_high")


def of(ds: xr.Dataset, *, model: str, context_len: int) -> xr.Dataset:
    """Return designs with the rises that a study found for their resolutions, see `designs` and `against`.

    ds: `results.summary` of cases. Raises BadInput as `designs` does.
    """
    curve = ds.sel(case=ds.curve == CURVE)
    bits = curve.value.values.astype(int)
    rises = [xr.DataArray(curve[name].values, [("adc_bits", bits)]) for name in RISES]
    return against(designs([int(b) for b in np.sort(bits)], model=model, context_len=context_len), *rises)


def designs(bits: Sequence[int], *, model: str, context_len: int) -> xr.Dataset:
    """Return energy_j and tokens_per_s of one token: (conventions, adc_bits, adcs_per_crossbar, adc_rate_share).

    A share of the rate scales clock and power alike, so that a conversion costs the same energy: an assumption. All else
    is pim-llm as it is. Raises BadInput as `converters`, and where the published 8 bits are not among them.
    """
    made = converters(bits)
    if HOME["adc_bits"] not in bits:
        raise BadInput(f"bits are {clip(list(bits))}; wanted {HOME['adc_bits']}, the published ones, among them")
    along = axis(adc_bits=[part.bits for part in made])
    share = axis(adc_rate_share=list(SHARES))
    rate, power = (along.copy(data=[getattr(part, name) for part in made]) for name in ("rate_hz", "power_w"))
    shared = axis(adcs_per_crossbar=list(SHARING))
    changed = {"bits": along, "rate_hz": rate * share, "power_w": power * share, "per_crossbar": shared}
    paths = {f"pim.tile.crossbar.adc.{name}": value for name, value in changed.items()}
    system = with_fields(catalog.systems["pim-llm"], paths)
    ds = evaluate(
        system=system, model=model, context_len=context_len, conventions=list(CONVENTIONS),
        variables=["latency_s", "energy_j"],
    )  # fmt: skip
    ds = summary(ds)[["energy_j", "tokens_per_s"]].squeeze(["system", "model", "context_len"]).drop_vars("system")
    ds.attrs.pop("user_values", None)
    return ds.transpose("conventions", *HOME)


def against(ds: xr.Dataset, rise: xr.DataArray, rise_low: xr.DataArray, rise_high: xr.DataArray) -> xr.Dataset:
    """Return designs with the relative rise of perplexity (0.01 is 1 %) and its interval, each along adc_bits.

    Raises BadInput where a resolution of the designs has no rise.
    """
    missing = sorted(set(ds.adc_bits.values.tolist()) - set(rise.adc_bits.values.tolist()))
    if missing:
        raise BadInput(f"the rise of perplexity is missing for {clip(missing)} bits; wanted one for each resolution")
    given = zip(RISES, (rise, rise_low, rise_high), strict=True)
    return annotate(ds.assign({name: at.sel(adc_bits=ds.adc_bits).reset_coords(drop=True) for name, at in given}))


def front(ds: xr.Dataset, conventions: str) -> xr.Dataset:
    """Return the designs (design,) that none beats in energy and in middle rise of perplexity, by growing energy."""
    least = Reduction("pareto", {"energy_j": "min", "perplexity_rise": "min"})
    return kept(ds, conventions, least).sortby("energy_j")


def kept(ds: xr.Dataset, conventions: str, reduction: Reduction) -> xr.Dataset:
    """Return what a reduction keeps (design,); of designs that differ by rounding alone the fastest."""
    here = ds.sel(conventions=conventions, drop=True).isel(adc_rate_share=slice(None, None, -1))
    (whole,) = xr.broadcast(here)
    return reduction.of_chunk(whole.expand_dims(["model", "context_len"]))


def knee(ds: xr.Dataset, conventions: str) -> xr.Dataset:
    """Return the design of the front farthest below the chord between its ends, in the logarithms of both axes.

    Each logarithm is scaled to 0 to 1 over the front, rises below FLOOR count as FLOOR, so the knee depends on which
    resolutions were tried. attrs: `front`, the number of designs on it; `below_chord`, 0 where there is no knee.
    """
    best = front(ds, conventions)
    x, y = (np.log(values) for values in (best.energy_j.values, np.maximum(best.perplexity_rise.values, FLOOR)))
    x, y = ((z - z.min()) / (np.ptp(z) or 1.0) for z in (x, y))
    below = (1 - x - y) / np.sqrt(2)  # the chord goes from (0, 1) to (1, 0)
    at = int(np.argmax(below))
    far = float(max(below[at], 0.0)) if best.sizes["design"] > 2 and 0 < at < best.sizes["design"] - 1 else 0.0
    return best.isel(design=at).assign_attrs(front=best.sizes["design"], below_chord=far)


def cheapest_within(ds: xr.Dataset, conventions: str, level: float = LEVEL) -> xr.Dataset | None:
    """Return the design of least energy whose rise stays within a level up to its interval's upper end; None without."""
    fits = ds.assign(energy_j=ds.energy_j.where(ds.perplexity_rise_high <= level))
    best = kept(fits, conventions, Reduction("top", {"energy_j": "min"}, count=1))
    return best.isel(design=0) if best.sizes["design"] else None
