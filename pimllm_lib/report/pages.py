"""The numbers and tables that the prose of the book takes from the archive and the library."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from inspect import getdoc, signature
from pathlib import Path
from typing import Any

from pimllm_lib import __version__, catalog, hardware
from pimllm_lib.analog.crossbar import calibration, cells, product
from pimllm_lib.analog.lm import checkpoint, docstrings, evaluation, language, source
from pimllm_lib.analog.noise import attention
from pimllm_lib.analysis import claims, endurance, technologies
from pimllm_lib.analysis.constants import TOOLS
from pimllm_lib.analysis.flips import flip
from pimllm_lib.archive import versions
from pimllm_lib.catalog.gguf_models import FAMILIES as ARCHITECTURES
from pimllm_lib.core.axes import axis
from pimllm_lib.core.conventions import AS_PUBLISHED, CORRECTED, ORDER, PRESETS, SLIPS, SWITCHES, Conventions
from pimllm_lib.core.parts import meanings, with_field
from pimllm_lib.core.schema import SUBSYSTEMS
from pimllm_lib.costs import crossbar, memory, nonlinear, placement, systolic, wear
from pimllm_lib.report import claims_page, constants, diagram, explorer, families, landing, tables, text
from pimllm_lib.report.numbers import listed, number
from pimllm_lib.report.result_page import plain
from pimllm_lib.report.text import escaped
from pimllm_lib.system import metrics
from pimllm_lib.system.evaluation import evaluate
from pimllm_lib.system.generation import generate
from pimllm_lib.workload.decoder import Decoder


def substitutions(results: Path) -> dict[str, str]:
    """Return the numbers and tables that the prose takes from the archive and the library."""
    every, answer = claims.every(), landing.rows(results)
    return {
        "version": __version__,
        "last_version": next(name for name in reversed(versions.releases()) if name != __version__),
        "claims_answer": str(text.agreement(every)),
        "landing_lines": landing.lines(answer, results),
        "landing_datasets": landing.datasets(),
        "landing_figure": landing.figure(answer)._repr_html_().replace("\n", " "),
        "conventions_table": _conventions_table(),
        "convention_fields": _convention_fields(),
        "accounting_table": _accounting_table(),
        "additions_table": _additions_table(),
        "block_area": number(_area_mm2("opt-6.7b")),
        "dummy_factors": _dummy_factors(),
        "standing": text.what_stands(),
        "static_watts": _static_watts(),
        "machine_drawing": diagram.machine(),
        "claims_table": claims_page.table(every, claims.published().set_index("id").quantity.to_dict()),
        "api_reference": _api_reference(),
        "parameters_table": tables.all_sources(),
        "constants_table": constants.compared(),
        "constants_counted": constants.counted(),
        "constants_converters": tables.one_line(constants.converters()),
        "constants_memories": tables.one_line(constants.memories()),
        "constants_tools": listed(TOOLS),
        "constants_without": constants.without(),
        "families_counted": families.counted(),
        "families_read": tables.one_line(families.read()),
        "models_table": tables.one_line(tables.all_models()),
        "families_refused": tables.one_line(tables.refused_families()),
        "architectures": listed([f"`{name}`" for name in sorted(ARCHITECTURES)]),
        "variables_table": tables.one_line(tables.variables()),
        "versions_table": _versions_table(),
        "explorer": explorer.page(),
        "explorer_grid": explorer.grid(),
    }


#: The public functions, in the order a reader meets them: those of the door, then others where they stand.
_DOOR: dict[str, Any] = {
    "evaluate": evaluate, "generate": generate, "axis": axis, "metrics.summary": metrics.summary,
    "metrics.compare": metrics.compare, "metrics.share": metrics.share, "metrics.power": metrics.power,
    "metrics.roofline": metrics.roofline, "catalog.model": catalog.model, "catalog.system": catalog.system,
    "catalog.part": catalog.part, "catalog.preset": catalog.preset,
}  # fmt: skip
_OTHERS: tuple[Any, ...] = (
    with_field, flip, systolic.cycles, systolic.sram_words, systolic.register_accesses, crossbar.layout, crossbar.latency,
    crossbar.energy, placement.hops, memory.dram_words, nonlinear.times, wear.slot_writes, wear.failed_share,
    endurance.lifetimes, technologies.spread, technologies.fitted, cells.program, product.multiply, calibration.full_scale,
    checkpoint.read, checkpoint.write, language.losses, attention.in_cells, evaluation.on_crossbars, evaluation.calibrate,
    source.documents, docstrings.corpus,
)  # fmt: skip


def _api_reference() -> str:
    """Return the signature and documentation of the public functions, then of the parts, as they stand in the code."""
    named = {f"pl.{name}": function for name, function in _DOOR.items()}
    parts = (getattr(hardware, name) for name in hardware.__all__)
    others = (*_OTHERS, Conventions, Decoder, *(part for part in parts if isinstance(part, type)))
    named |= {f"{f.__module__.removeprefix('pimllm_lib.')}.{f.__name__}": f for f in others}
    blocks = []
    for name, function in named.items():
        names = ", ".join(str(p).split(":")[0].split(" =")[0] for p in signature(function).parameters.values())
        blocks.append(f"**`{name}({names})`**\n\n{_prose(getdoc(function) or '')}")
    return "\n\n".join(blocks)


def _prose(documented: str) -> str:
    """Return a docstring in Markdown: paragraphs flow, fields below each other are a list, examples stay as they are."""
    return "\n\n".join(map(_paragraph, documented.split("\n\n")))


def _paragraph(said: str) -> str:
    if said.startswith(">>>"):
        return f"```python\n{said}\n```"
    items = re.sub(r"\n {2,}", " ", said).split("\n")
    if len(items) == 1 or not all(re.match(r"\w+(?: \([^)]*\))?: ", item) for item in items):
        return _escaped(" ".join(items))
    return "\n".join(f"- {_escaped(item)}" for item in items)


def _escaped(said: str) -> str:
    """Return text as it is, with what stands in backticks as code."""
    return "".join(f"`{part}`" if i % 2 else escaped(part) for i, part in enumerate(said.split("`")))


def _grid(head: Iterable[str], rows: Iterable[Iterable[str]], rule: str = "---") -> str:
    """Return a table in Markdown; rule: how the columns after the first are aligned."""
    first, *others = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([first, "|---|" + f"{rule}|" * (first.count(" | ")), *others])


def _conventions_table() -> str:
    """Return the presets field by field."""
    rows = [[f"`{name}`", *(plain(getattr(preset, name)) for preset in PRESETS.values())] for name in SWITCHES]
    return _grid(["field", *(f"`{name}`" for name in PRESETS)], rows)


def _convention_fields() -> str:
    """Return what each field does, as it is declared."""
    return "\n\n".join(f"`{name}`\n: {text}" for name, text in meanings(Conventions).items() if name in SWITCHES)


def _accounting_table() -> str:
    """Return the headline gains in tokens per joule as published, with each field alone put right, and with all."""
    off = {name: {name: False} for name in SLIPS}
    off["published_ffn_width"] |= {"published_pim_width": False}  # the crossbar width comes with its own FFN
    cases = [AS_PUBLISHED, *(replace(AS_PUBLISHED, name=name, **change) for name, change in off.items()), CORRECTED]
    models, contexts = ["gpt2-355m", "opt-6.7b"], [128, 4096]
    ds = evaluate(system=["tpu-llm", "pim-llm"], model=models, context_len=contexts, conventions=cases)
    gain = 100 * metrics.compare(metrics.summary(ds)).energy_gain.sel(system="pim-llm")
    corners = [{"model": m, "context_len": n} for m in models for n in contexts]
    rows = [
        [f"`{case.name}`{'' if case in (AS_PUBLISHED, CORRECTED) else ' put right'}"]
        + [f"{gain.sel(conventions=case.name, **corner).item():+.1f}" for corner in corners]
        for case in cases
    ]
    return _grid(
        ["tokens/J of PIM-LLM over TPU-LLM, %", *(f"{m}, {n}" for m, n in map(dict.values, corners))], rows, "--:"
    )


def _additions_table() -> str:
    """Return rate and energy of both systems as one addition after another is charged."""
    case, cases = CORRECTED, [CORRECTED]
    for name in (name for name in ORDER if name not in SLIPS):
        case = replace(case, name=f"+ {name}", **{name: True})
        cases.append(case)
    ds = evaluate(system=["tpu-llm", "pim-llm"], model="opt-6.7b", context_len=1024, conventions=cases)
    both = metrics.summary(ds).squeeze(["model", "context_len"], drop=True)
    head = ["charged", "tokens/s TPU-LLM", "tokens/s PIM-LLM", "mJ/token TPU-LLM", "mJ/token PIM-LLM"]
    rows = []
    for case in cases:
        cell = both.sel(conventions=case.name)
        rates = [f"{rate:.2f}" for rate in cell.tokens_per_s.values]
        energy = [number(value) for value in 1e3 * cell.energy_j.values]
        rows.append([case.name, *rates, *energy])
    return _grid(head, rows, "--:")


def _versions_table() -> str:
    """Return the released versions, newest first, with the hash of each one's archive."""
    rows = [
        [release.version, str(release.date), f"`{release.archive}`" if release.archive else "had no manifest yet"]
        for release in reversed(versions.releases().values())
    ]
    return _grid(["version", "date", "SHA-256 of `manifest.json`"], rows)


def _area_mm2(model: str) -> float:
    """Return the area of the crossbar tiles of one decoder block, in square millimetres."""
    ds = evaluate(system="pim-llm", model=model, context_len=1, conventions="as-published", detail="component")
    tiles = ds.area_m2.sel(component=list(SUBSYSTEMS["pim"])).sum().item()
    return float(1e6 * tiles / catalog.models[model].n_layers)


def _static_watts() -> str:
    """Return what waits in the hybrid for OPT-6.7B, by part, with nothing gated."""
    ds = evaluate(
        system="pim-llm", model="opt-6.7b", context_len=1, conventions="full-system", detail="component",
        variables=["static_power_w"],
    )  # fmt: skip
    watts = ds.static_power_w.sum("op").squeeze()
    names = {"adc": "in its ADCs", "buffer": "in the buffers of its tiles", "sram": "in SRAM"}
    return ", ".join(f"{watts.sel(component=part).item():.3g} W {where}" for part, where in names.items())


def _dummy_factors() -> str:
    """Return by how much the dummy layer raises the energy of the crossbars, for the smallest and the largest model."""
    cases = [AS_PUBLISHED, replace(AS_PUBLISHED, name="without", dummy_first_layer=False)]
    models = ["gpt2-355m", "opt-6.7b"]
    ds = evaluate(system="pim-llm", model=models, context_len=1, conventions=cases, detail="component")
    energy = ds.energy_j.sel(component=list(SUBSYSTEMS["pim"])).sum(["op", "component"]).squeeze()
    ratio = energy.sel(conventions="as-published") / energy.sel(conventions="without")
    return " and ".join(f"{ratio.sel(model=name).item():.1f} times ({name})" for name in models)
