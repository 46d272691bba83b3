"""A ready notebook for an accelerator and a model of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.system.evaluation import evaluate

_CELLS: tuple[tuple[str, str, str], ...] = (
    ("markdown", "", "# How does {name} compare with PIM-LLM and TPU-LLM?\n\nThe answer, in one sentence."),
    (
        "code",
        "",
        "import pimllm_lib as pl\nfrom pimllm_lib.analysis import claims\nfrom pimllm_lib.archive import dataset\n"
        "from pimllm_lib.report import plots, tables, text",
    ),
    ("markdown", "", "## Parameters"),
    (
        "code",
        "parameters",
        "systems: list[str] = {systems}  # accelerators; tpu-llm is the baseline\n"
        "model: str = {model}  # a name, or a file or folder of a model\n"
        "context_len: list[int] = [128, 512, 2048, 4096]  # tokens\n"
        'conventions: str = "full-system"  # or corrected, as-published, a TOML file\n'
        'into: str = "executed"  # folder that receives the dataset',
    ),
    ("markdown", "", "## Compute"),
    (
        "code",
        "",
        "ds = pl.evaluate(\n    system=systems, model=model, context_len=context_len,\n"
        '    conventions=conventions, detail="component",\n)\n'
        "compared = pl.metrics.compare(pl.metrics.summary(ds))\n"
        "tables.systems(compared)",
    ),
    ("markdown", "", "## Where time and energy go"),
    ("code", "", "plots.breakdown(ds)"),
    ("markdown", "", "What we see, why, and how sensitive it is.\n\n## Claims"),
    ("code", "", "tables.claims(claims.check(compared))"),
    ("markdown", "", "## Limits\n\nWhat is left out, and what to change next."),
    (
        "code",
        "",
        "dataset.save(\n    ds, {slug}, title={title}, into=into,\n    parameters={{\n"
        '        "systems": systems, "model": model, "context_len": context_len,\n'
        '        "conventions": conventions,\n    }},\n)',
    ),
)


def write(name: str, *, system: str, model: str, folder: Path) -> Path:
    """Write `<name>.ipynb` into a folder and return its path.

    Raises BadInput for a name that is no file name, a file that is there and not empty, and what cannot be evaluated.
    """
    if not re.fullmatch(r"[\w-]{1,60}", name):
        raise BadInput(f"the name of a study is {clip(name)}; wanted letters, digits, '-' and '_'")
    path = folder / f"{name}.ipynb"
    if path.exists() and not (path.is_file() and path.stat().st_size == 0):  # such a one a full disk leaves
        raise BadInput(f"{path} is there already; wanted another name, or the file gone")
    files.require_file(path)
    systems = list(dict.fromkeys([system, "tpu-llm", "pim-llm"]))
    evaluate(system=systems, model=model, context_len=128, conventions="full-system")  # what the notebook starts with
    words = {
        "name": name, "slug": json.dumps(name), "title": json.dumps(f"Study {name}"), "systems": json.dumps(systems),
        "model": json.dumps(model),
    }  # fmt: skip
    cells = [_cell(i, kind, tag, source.format(**words)) for i, (kind, tag, source) in enumerate(_CELLS)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    files.sweep([path])
    return files.write(path, (json.dumps(notebook, indent=1) + "\n").encode())


def _cell(i: int, kind: str, tag: str, source: str) -> dict[str, object]:
    cell: dict[str, object] = {"cell_type": kind, "id": f"cell-{i:02d}", "metadata": {}, "source": source}
    if tag:
        cell["metadata"] = {"tags": [tag]}
    return cell if kind == "markdown" else cell | {"execution_count": None, "outputs": []}
