"""What noise studies say: rises against exact products, with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.analog.noise.cases import cases
from pimllm_lib.analog.noise.intervals import interval
from pimllm_lib.core import joining
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import annotate


def rises(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.DataArray:
    """Return the loss of each case less that of the same model with exact products, in nats a token, block by block.

    (case, training_seed, device_seed, text_block), NaN where a chip did not read a block, or where the first stands for all.
    Cases with exact products alone are left out.
    """
    tried = [case for case in cases(spec["curves"]) if case.products != "exact"]
    clean = {case.tuned: case.name for case in cases(spec["curves"]) if case.products == "exact"}
    for case in tried:
        if case.tuned not in clean:
            raise BadInput(f"case {case.name} has no exact products beside it; wanted a curve with products: exact")
    loss: xr.DataArray = ds.held_out_loss.transpose("case", "training_seed", "device_seed", "text_block")
    names = [case.name for case in tried]
    exact = loss.sel(case=[clean[case.tuned] for case in tried]).mean("device_seed")
    return loss.sel(case=names) - exact.drop_vars(("curve", "setting", "value")).assign_coords(case=names)


def means(rise: xr.DataArray) -> xr.DataArray:
    """Return the mean of trials over chips and blocks, and over models where it has them: each block weighs alike."""
    return rise.mean("device_seed").mean([dim for dim in ("training_seed", "text_block") if dim in rise.dims])


def summary(ds: xr.Dataset, spec: Mapping[str, Any]) -> xr.Dataset:
    """Return for each case the rise of the perplexity, and its interval over models, chips and text: see `intervals`."""
    rise = rises(ds, spec)
    ends = np.array([interval(one) for one in rise.values])
    nats = {"perplexity_rise": means(rise).values} | {
        f"perplexity_rise_{end}": ends[:, i] for i, end in enumerate(("low", "high"))
    }
    found: dict[str, Any] = {name: ("case", np.expm1(values)) for name, values in nats.items()}
    ratio = ds.noise_to_signal.sel(case=rise.case).mean("training_seed").transpose("case", "matrix")
    read = means(ds.held_out_loss.sel(case=rise.case))
    found |= {"noisy_perplexity": ("case", np.exp(read.values)), "noise_to_signal": ratio.reset_coords(drop=True)}
    tried = np.isfinite(rise.values).any(axis=-1).sum(axis=(1, 2))
    found["trials"] = ("case", tried.astype(float))
    return annotate(xr.Dataset(found, coords={key: rise[key] for key in ("case", "curve", "setting", "value")}))


def joined(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Return datasets of several studies as one, along cases and curves; a case of several is that of the first."""
    whole, *others = parts
    for part in others:
        along = "case" if "case" in part.dims else "curve_name"
        if along == "case":
            part = part.sel(case=[name not in whole.case.values for name in part.case.values])
        whole = joining.concat([whole, part], along, join="outer")
    return whole
