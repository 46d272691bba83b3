"""Chapter 15, the design space: its tables and sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from pimllm_chapters.design_space.compute import MM2, OBJECTIVES, better
from pimllm_lib import catalog
from pimllm_lib.analysis.uncertainty import SYSTEMS
from pimllm_lib.core.units import si_unit
from pimllm_lib.report import tables
from pimllm_lib.report.box import Box
from pimllm_lib.report.numbers import number, with_unit
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence, escaped
from pimllm_lib.sweep import points
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Axis, Space
from pimllm_lib.system.evaluation import evaluate


def knobs(space: Space) -> Table:
    """Return the axes with their values."""
    axes = [axis for axis in space.axes if isinstance(axis, Axis)]
    return Table(
        ({"knob": a.name, "values": ", ".join(_plain(a.name, x) for x in a.labels)} for a in axes),
        title="Axes of the space, with their values",
    )


def budget_table(front: xr.Dataset, best: xr.Dataset) -> Table:
    """Return the fastest design within each budget, a row each: rate, efficiency, area, and its knobs.

    An area in which no power finds a design is one row.
    """
    rows = []
    for mm2 in best.area_budget.values:
        found = best.budget_design.sel(area_budget=mm2)
        if (found < 0).all():
            rows.append({"mm² at most": number(mm2), "W at most": "any", "tokens/s": "none"})
            continue
        for watts in best.power_budget.values:
            at = int(found.sel(power_budget=watts))
            row = {"mm² at most": number(mm2), "W at most": f"{watts:g}"}
            rows.append(row | (_told(front.isel(design=at)) if at >= 0 else {"tokens/s": "none"}))
    return Table(pd.DataFrame(rows).fillna(""), long=True, title="The fastest design within each budget")


def _told(design: xr.Dataset) -> dict[str, str]:
    """Return what a design does and what it is made of."""
    d = {str(name): _plain(str(name), design[name].item()) for name in design.coords}
    made = (
        f"crossbars of {d['crossbar_size']}, {d['adcs_per_crossbar']} {d['adc']} each, {d['pes_per_tile']} to a tile, "
        f"links of {d['network_bps']}, tiles at {d['power_gating']} of static power; array {d['array_rows']} x "
        f"{d['array_cols']} {d['array_dataflow']} at {d['array_rate_hz']}; SRAM x {d['sram_scale']}, {d['dram']}"
    )
    return {
        "tokens/s": f"{design.tokens_per_s.item():.3g}", "tokens/J": f"{design.tokens_per_j.item():.3g}",
        "W": f"{design.power_w.item():.3g}", "mm²": number(design.area_m2.item() * MM2), "design": made,
    }  # fmt: skip


def steps(study: points.Study, both: xr.Dataset) -> Table:
    """Return what each knob does alone, from the published design: the best value of rate and of tokens per joule."""
    home, rows = both.sel(system="pim-llm"), []
    for axis in study.space.axes:
        alone = replace(study, space=Space((axis,)), reduction=Reduction("all"))
        ds = points.compute(alone, next(alone.space.chunks())).squeeze(["model", "context_len"])
        row = {"knob": axis.name}
        for metric, title in (("tokens_per_s", "rate"), ("tokens_per_j", "tokens/J")):
            at = int(np.argmax(ds[metric].values))
            row |= {f"best for {title}": _plain(axis.name, ds[axis.name].values[at]),
                    f"{title} over published": f"{float(ds[metric][at] / home[metric]):.3g}"}  # fmt: skip
        rows.append(row)
    return Table(rows, title="What each knob does alone, from the published design")


def box(front: xr.Dataset, both: xr.Dataset) -> Box:
    """Return the box of the page: whether the published design is on the front, and what beats it in everything."""
    home, above = both.sel(system="pim-llm"), better(front, both)
    told = "none of which beats it in everything"
    if above.sizes["design"]:
        gain, saved = (((above[name] / home[name]).max().item()) for name in ("tokens_per_s", "tokens_per_j"))
        told = (
            f"of which {above.sizes['design']} beat it in all four, by up to {gain:.2g} times in rate, {saved:.2g} in "
            "tokens per joule"
        )
    return Box(
        question="How good is the published design?",
        answer=f"Of {number(front.attrs['points'])} designs {front.sizes['design']} are Pareto-optimal in rate, tokens per "
        f"joule, power and area, {told}.",
        sure=f"For {escaped(front.model.values[0])} at {front.context_len.values[0]} tokens; accuracy is left out.",
        decides="Shape and clock of the array; for energy, crossbars and converters.",
        more=_rivals(front, both),
    )


def _rivals(front: xr.Dataset, both: xr.Dataset) -> str:
    """Return how many designs beat each system of a reader's own in everything, and how it stands to the published one."""
    home, told = both.sel(system="pim-llm"), []
    for name, here in tables.points(both.drop_sel(system=list(SYSTEMS)), "system"):
        over = (here[what].item() / home[what].item() for what in OBJECTIVES)
        told.append(
            "{} beat {}, which has {:.3g} times the rate of PIM-LLM as published, {:.3g} times its tokens per joule, {:.3g} "
            "times its power and {:.3g} times its area".format(
                better(front, both, name).sizes["design"] or "none", escaped(name), *over
            )
        )
    return f"Of the same designs, in all four, {'; '.join(told)}." if told else ""


def smallest(study: points.Study, front: xr.Dataset) -> Sentence:
    """Return how small the smallest design is, and what its cells alone take."""
    cell = catalog.parts["rram-mnsim"]
    (model,) = study.models
    ds = evaluate(
        system="pim-llm", model=model, context_len=1, conventions="full-system", variables=["macs", "array_macs"]
    )
    cells = 2 * (ds.macs - ds.array_macs).item() * cell.area_m2 * MM2
    return Sentence(
        f"The smallest of these designs takes {number(front.area_m2.min().item() * MM2)} mm². The cells of "
        f"{escaped(model.name)} "
        f"alone, two of {cell.area_m2 * 1e12:.3g} µm² for each weight, take {number(cells)} mm²: no choice of converters "
        "or arrays goes below."
    )


def _plain(name: str, value: Any) -> str:
    """Return a label of a knob, rates with their unit."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if si_unit(name) == "1" else with_unit(name, value)
