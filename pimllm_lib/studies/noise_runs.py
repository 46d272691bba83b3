"""Noise studies of chapters: those archived, smaller ones computed now, and trials of the archived ones again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.analog.noise import study as noise_study
from pimllm_lib.analog.noise.cases import ALLOTTED
from pimllm_lib.analog.noise.law import FITTED, kappa_ends, law
from pimllm_lib.analog.noise.remedies import effects
from pimllm_lib.analog.noise.results import joined, summary
from pimllm_lib.analog.noise.thresholds import thresholds
from pimllm_lib.archive import dataset, parameters
from pimllm_lib.archive.agreement import STUDIES
from pimllm_lib.archive.provenance import study_hash
from pimllm_lib.core import joining, paths, scratch
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import require
from pimllm_lib.core.schema import annotate
from pimllm_lib.studies import folder
from pimllm_lib.studies.folder import Plan
from pimllm_lib.sweep.entries import require_known

#: The studies of chapter 11, in the order in which they are told of; that of chapter 12.
KV = "kv-cells"
NAMES = ("noise-cells", "noise-wires", "noise-converters", "noise-combined", "noise-matrices")
#: Those with thresholds.
EDGES = NAMES[:3]
#: Of these, what no smaller study has: the network of a model's wires takes a minute whatever the text.
WIRES = "noise-wires"
#: Study -> cases whose first trial is computed again to check the archived one.
TRIALS = {
    "noise-cells": ("variation 0.4",), "noise-converters": ("4 sigma, sign-magnitude 5",),
    "noise-combined": ("ideal conversion cells-wan-1d",), "noise-matrices": ("layer 0",),
    WIRES: ("wire, word lines, apart 0.2",),
    KV: ("variation, 4 bits 0.3", "cells, 3 bits cells-wan-1d"),
}  # fmt: skip


def found(
    names: Sequence[str] = NAMES, *, checkpoints: Sequence[str] = (), text: str = "docstrings", windows: int = 0,
    device_seeds: int, jobs: int, recompute: bool,
) -> dict[str, xr.Dataset]:  # fmt: skip
    """Return the archived studies, or ones computed now: smaller, of other models or text, or, to recompute, as archived."""
    if recompute:
        return computed(specs(names, checkpoints=(), text="docstrings", windows=0, device_seeds=0), jobs=jobs)
    if not (checkpoints or device_seeds or text != "docstrings"):
        return archived(names)
    names = [name for name in names if name != WIRES]
    wanted = specs(names, checkpoints=checkpoints, text=text, windows=windows, device_seeds=device_seeds)
    return computed(wanted, jobs=jobs)


def archived(names: Sequence[str] = NAMES) -> dict[str, xr.Dataset]:
    """Return the archived studies by name. Raises BadInput where one is missing or is not of the description beside it."""
    found = {name: dataset.load(paths.STUDIES / f"{name}.nc") for name in names}
    for name, ds in found.items():
        if dataset.parameters(ds) != json.loads(json.dumps(parameters.from_file(paths.STUDIES / f"{name}.yaml"))):
            what = f"{name}.nc is of another study than {name}.yaml"
            raise BadInput(f"{what}; 'pimllm sweep' with --archive makes it anew")
    return found


def specs(
    names: Sequence[str] = NAMES, *, checkpoints: Sequence[str], text: str, windows: int, device_seeds: int
) -> dict[str, dict[str, Any]]:
    """Return the studies as tables, with another size, and other models and text where they are given.

    Models of one's own have no tuned versions, so those curves are left out. 0 leaves a size as it is archived; where one is
    given, all curves have it, and every chip reads all of the text.
    """
    found = {}
    for name in names:
        spec = parameters.from_file(paths.STUDIES / f"{name}.yaml")
        sizes = {"windows": windows, "device_seeds": min(device_seeds, spec["noise"]["device_seeds"])}
        spec["noise"] |= {key: size for key, size in sizes.items() if size} | {"text": text}
        if windows or device_seeds:
            spec["noise"].pop("design", None)
            spec["curves"] = unallotted(spec)
        if checkpoints:
            spec["noise"]["checkpoints"] = list(checkpoints)
            spec["curves"] = {key: curve for key, curve in spec["curves"].items() if curve.get("field") != "tuned"}
            spec["curves"].setdefault("exact", {"products": "exact"})
            if "layer" in spec["curves"]:
                spec["curves"]["layer"] |= {"values": [str(layer) for layer in range(noise_study.layers(checkpoints))]}
        found[name] = spec
    return found


def unallotted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the curves of a study, without what is allotted to them."""
    curves = spec["curves"].items()
    return {name: {key: value for key, value in curve.items() if key not in ALLOTTED} for name, curve in curves}


def computed(wanted: Mapping[str, dict[str, Any]], *, jobs: int) -> dict[str, xr.Dataset]:
    """Return studies computed now, in so many processes. Raises BadInput for one that cannot be."""
    require(1 <= jobs <= 256, "jobs", jobs, "1 to 256")
    plans = {name: noise_plan(name, spec) for name, spec in wanted.items()}
    with scratch.folder("noise") as place:
        return {name: dataset.load(folder.run(plan, place / name, jobs=jobs)) for name, plan in plans.items()}


def noise_plan(name: str, spec: dict[str, Any]) -> Plan:
    """Return a noise study of a table, ready to run. Raises BadInput for one that cannot be."""
    study = noise_study.of(spec)
    return Plan(
        name, spec, study.space, partial(noise_study.compute, study), study.identity(), study_hash(spec), own={},
        finish=partial(noise_study.described, study),
    )  # fmt: skip


def results(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Return what the studies say: a rise for each case, thresholds, the law, and remedies beside their controls."""
    specs_of = {name: dataset.parameters(ds) for name, ds in found.items()}
    each = {name: summary(ds, specs_of[name]) for name, ds in found.items()}
    rises = joined(each.values())
    edges = joined(thresholds(found[name], specs_of[name]) for name in EDGES if name in found)
    parts = [rises, edges, law(rises), effects(found)]
    parts += [kappa_ends(ds, found[name], specs_of[name]) for name, ds in each.items() if FITTED in ds.curve.values]
    labels = {"case": "what is tried", "curve_name": "curve", "level": "rise of the perplexity", "kind": "kind of matrix",
              "matrix": "layer and kind of matrix", "comparison": "remedy against its control"}  # fmt: skip
    ds = joining.merge(parts, compat="override", join="outer")
    for name, said in labels.items():
        ds[name].attrs["long_name"] = said
    of = {key: next(iter(found.values())).attrs[key] for key in ("checkpoints", "text")}
    return annotate(ds.assign_attrs(of))


def of_attention(found: Mapping[str, xr.Dataset], names: Sequence[str]) -> xr.Dataset:
    """Return a rise for each case of the study of keys and values in cells, and some archived trials again."""
    ds = found[KV]
    rises = summary(ds, dataset.parameters(ds)).drop_vars(("noise_to_signal", "matrix"))
    rises = rises.sel(case=[case for case in ds.case.values if case in rises.case.values])  # as in the file
    return _with_trials(rises, found, names)


def with_others(
    ds: xr.Dataset, studies: Mapping[str, xr.Dataset], wide: xr.DataArray, energy: xr.Dataset, names: Sequence[str]
) -> xr.Dataset:
    """Return the results with what is computed beside them: wide matrices, energies, and some archived trials again."""
    whole = ds.assign(wide_noise_to_signal=wide, energy_j=energy.energy_j, tokens_per_s=energy.tokens_per_s)
    return _with_trials(whole, studies, names)


def _with_trials(ds: xr.Dataset, found: Mapping[str, xr.Dataset], names: Sequence[str]) -> xr.Dataset:
    return annotate(ds.assign(again(found, names).data_vars) if names else ds)


def agreement(found: Mapping[str, xr.Dataset]) -> tuple[int, int]:
    """Return for how many of the cases studies agree with the archived ones: their intervals overlap. And of how many."""
    own, kept = results(found), results(archived())
    common = [case for case in own.case.values if case in kept.case.values]
    a, b = own.sel(case=common), kept.sel(case=common)
    start = np.maximum(a.perplexity_rise_low, b.perplexity_rise_low)
    end = np.minimum(a.perplexity_rise_high, b.perplexity_rise_high)
    return int((end >= start).sum()), len(common)


def again(found: Mapping[str, xr.Dataset], names: Sequence[str]) -> xr.Dataset:
    """Return the loss of the first chip of the first model in the named cases, as in the studies and computed again.

    Raises UnknownName for a case that no study has.
    """
    known = {str(case): ds for ds in found.values() for case in ds.case.values}
    require_known("case", names, known)
    losses = np.empty((2, len(names)))
    for i, case in enumerate(names):
        study, first = noise_study.of(_of_one(dataset.parameters(known[case]))), {"case": [case], "training_seed": [0]}
        point = next(chunk for chunk in study.space.chunks() if study.space.labels(chunk) == first)
        losses[0, i] = known[case].held_out_loss.sel(case=case).isel(training_seed=0, device_seed=0).mean()
        losses[1, i] = noise_study.compute(study, point, chips=1).held_out_loss.mean()
    data = {"archived_loss": ("again", losses[0]), "recomputed_loss": ("again", losses[1])}
    return annotate(xr.Dataset(data, coords={"again": list(names)}))


def _of_one(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a study of its first model alone: an installed package need not have the others."""
    given = spec.get("noise") or {}
    return spec | {"noise": given | {"checkpoints": given.get("checkpoints", noise_study.KEYS["checkpoints"])[:1]}}


def repeated(studies: Mapping[str, xr.Dataset]) -> dict[str, list[str]]:
    """Compute trials of studies again, those that `TRIALS` names. Return the lines in which they depart, by study."""
    found: dict[str, list[str]] = {}
    for name in studies.keys() & TRIALS.keys():
        once = again({name: studies[name]}, TRIALS[name])
        apart = np.abs(once.recomputed_loss / once.archived_loss - 1).values.tolist()
        moved = ((case, by) for case, by in zip(TRIALS[name], apart, strict=True) if not by <= STUDIES)
        what = f"{name}: the loss of the first chip of"
        found[name] = [f"{what} {case} moved by {by:.1e} of the archived one" for case, by in moved]
    return found
