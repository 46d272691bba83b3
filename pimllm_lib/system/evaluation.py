"""From an accelerator, a model and a context length to an xarray Dataset. It wires; the costs are elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib import catalog
from pimllm_lib.catalog.departures import departures
from pimllm_lib.core.axes import Frame
from pimllm_lib.core.errors import unknown
from pimllm_lib.core.parts import fingerprint
from pimllm_lib.core.schema import VARIABLES, annotate
from pimllm_lib.engines.surroundings import require_areas
from pimllm_lib.system.arguments import contexts, listed, shapes, unique, wanted
from pimllm_lib.system.charges import tables
from pimllm_lib.system.ledger import DETAILS, split_labels
from pimllm_lib.workload.decoder import is_plain
from pimllm_lib.workload.step import Step

PHASES = ("decode", "prefill")


def evaluate(
    *,
    system: Any,
    model: Any,
    context_len: Any,
    conventions: Any = "corrected",
    detail: str = "total",
    phase: str = "decode",
    variables: Sequence[str] | None = None,
) -> xr.Dataset:
    """Return what one step costs, for every combination of the arguments and of the axes in them.

    system, model, conventions: a catalog name, an object, a path (TOML; for a model also GGUF, config.json or their folder),
    or a list of these. A system may also be any object with a `name` and a method `costs(products)`; it is charged what
    that method says, whatever the conventions add to systems made of parts. context_len: tokens in the key-value cache,
    a whole number or a list. phase: "decode", one new token; or "prefill", all tokens of the context at once. A system
    that decodes several sequences together, or drafts, is charged for each token that it makes, on average; prefill is
    of one prompt, and nothing is drafted, cut or chosen in it. detail: how fine the extensive variables are split: "total",
    "op", "part" (by component), or "component" (by op and component). variables: the extensive variables wanted, all unless
    given; large sweeps save time and memory by naming few. Dimensions: system, model, conventions (only when a list was
    given, else an attribute), context_len, op, component, then swept axes. Units and meanings are attributes, from `schema`.
    Raises BadInput for anything unknown, out of range, or clashing; for conventions that count a part the system does not
    have; and for a variable asked for by name that a part has no figure for.
    """
    systems = unique("system", [catalog.system(item) for item in listed(system)])
    models = unique("model", [catalog.model(item) for item in listed(model)])
    presets = unique("conventions", [catalog.preset(item) for item in listed(conventions)])
    if phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    frame = Frame.over(
        [*systems, *models],
        system=[s.name for s in systems],
        model=[m.name for m in models],
        conventions=[c.name for c in presets],
        context_len=contexts(context_len),
        **split_labels(detail),
    )
    context = frame.along("context_len", np.asarray(frame.labels["context_len"], dtype=float))
    names, tokens = wanted(variables), 1 if phase == "decode" else context
    decode = phase == "decode"
    # models whose blocks have the same products are evaluated together, any others one by one
    stacks = [models] if all(map(is_plain, models)) else [[one] for one in models]
    steps = [
        [Step(**shapes(frame, stack, counting, decode=decode), context=context, tokens=tokens, counting=counting)
         for stack in stacks]
        for counting in presets
    ]  # fmt: skip
    for item in systems if "area_m2" in (variables or ()) else ():
        require_areas(item)
    rows = []
    for item in systems:
        aligned = frame.align_part(item)
        made = [[tables(aligned, step, frame, detail, names, decode=decode) for step in row] for row in steps]
        rows.append([_along_models(frame, row) for row in made])
    joined = {
        name: frame.concat("system", [frame.concat("conventions", [t[name] for t in row]) for row in rows])
        for name in rows[0][0]
    }
    single = not isinstance(conventions, list | tuple)
    ds = _dataset(frame, joined, detail, single)
    ds.attrs |= {"phase": phase} | ({"conventions": presets[0].name} if single else {})
    given = [*systems, *models, *presets]
    ds.attrs["fingerprints"] = " ".join(f"{item.name}={fingerprint(item)}" for item in given)
    own = {name: value for item in given for name, value in departures(item).items()}
    ds.attrs |= {"user_values": json.dumps(own, sort_keys=True)} if own else {}
    return annotate(ds)


def _along_models(frame: Frame, made: list[dict[str, Any]]) -> dict[str, Any]:
    """Return tables of several stacks of models as one; what is not extensive is the same in all."""
    if len(made) == 1:
        return made[0]
    return {
        name: frame.concat("model", [one[name] for one in made]) if VARIABLES[name].extensive else made[0][name]
        for name in made[0]
    }


def _dataset(frame: Frame, joined: dict[str, Any], detail: str, single: bool) -> xr.Dataset:
    """Wrap tables as variables. Intensive ones have no op or component; `single` leaves conventions out."""
    counted = [] if single else ["conventions"]
    extensive = ["system", "model", "context_len", *counted, *DETAILS[detail]]
    data = {
        name: frame.wrap(table, extensive if VARIABLES[name].extensive else ["system", *counted])
        for name, table in joined.items()
    }
    used = {dim for dims, _ in data.values() for dim in dims}
    return xr.Dataset(data, coords={dim: labels for dim, labels in frame.labels.items() if dim in used})
