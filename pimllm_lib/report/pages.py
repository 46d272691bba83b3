"""Turn an executed notebook into a page of the book: answer first, provenance last; and the numbers for the prose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xarray as xr

from pimllm_lib import __version__, metrics
from pimllm_lib.conventions import PRESETS, Conventions
from pimllm_lib.report import archive, claims, text


def result(executed: dict[str, Any], slug: str, ds: xr.Dataset) -> dict[str, Any]:
    """Return a notebook as a page: the output of the cell tagged `answer` right below the introduction, the cell that
    set the output folder left out, a box about provenance at the end.
    """
    cells = [cell for cell in executed["cells"] if "injected-parameters" not in _tags(cell)]
    answers = [cell for cell in cells if "answer" in _tags(cell)]
    cells = [cell for cell in cells if "answer" not in _tags(cell)]
    first = [
        _markdown(f"{slug}-answer-{i}", f":::{{div}} answer\n{_shown(cell)}\n:::") for i, cell in enumerate(answers)
    ]
    last = _markdown(f"{slug}-provenance", provenance(slug, ds))
    return executed | {"cells": [cells[0], *first, *cells[1:], last]}


def provenance(slug: str, ds: xr.Dataset) -> str:
    """Return the box that ends a result page, in Markdown."""
    record = json.loads(ds.attrs["provenance"])
    given = "; ".join(f"`{name}` = {_plain(value)}" for name, value in record["parameters"].items())
    rows = {
        "Version": f"pimllm {record['pimllm']}, source hash `{record['source_hash']}`",
        "Packages": ", ".join(f"{name} {number}" for name, number in record["packages"].items()),
        "Parameters": given,
        "Re-create it": f"`pimllm run {slug}`",
        "Download": f"[{slug}.nc]({slug}.nc), netCDF-4, {ds.attrs['licence']}",
        "Cite it": f"The pimllm contributors, *{ds.attrs['title']}*, dataset `{slug}`, pimllm {record['pimllm']}, "
        f"source hash `{record['source_hash']}`.",
    }
    return "## Where this comes from\n\n| | |\n|---|---|\n" + "\n".join(f"| **{k}** | {v} |" for k, v in rows.items())


def substitutions(results: Path) -> dict[str, str]:
    """Return the numbers and tables that the prose takes from the archive and the library."""
    rates = metrics.summary(archive.load(results / "03-tokens-per-second.nc"))
    return {
        "version": __version__,
        "baseline_answer": str(text.baseline_answer(rates)),
        "baseline_claims": str(text.agreement(claims.check(rates))),
        "baseline_table": text.rate_table(rates.tokens_per_s.sel(system="tpu-llm")),
        "conventions_table": _conventions_table(),
    }


def _conventions_table() -> str:
    """Return the presets field by field."""
    fields = [name for name in Conventions.__dataclass_fields__ if name != "name"]
    head = "| field | " + " | ".join(f"`{name}`" for name in PRESETS) + " |\n|---|" + "---|" * len(PRESETS)
    rows = [f"| `{f}` | " + " | ".join(_plain(getattr(p, f)) for p in PRESETS.values()) + " |" for f in fields]
    return "\n".join([head, *rows])


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _tags(cell: dict[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def _shown(cell: dict[str, Any]) -> str:
    return "\n\n".join("".join(output["data"]["text/markdown"]) for output in cell["outputs"])


def _markdown(name: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name[:60], "metadata": {}, "source": source}
