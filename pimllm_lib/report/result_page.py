"""Turn an executed notebook into a page of the book: answer first; at the end where it comes from and what can be had."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import xarray as xr

from pimllm_lib.archive import code, dataset
from pimllm_lib.archive.cite import Citation
from pimllm_lib.archive.describe import listed
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.schema import DIMS, VARIABLES
from pimllm_lib.report.text import escaped

#: How fast prose with numbers is read.
WORDS_A_MINUTE = 200
#: Chapter -> those that go on from where it ends.
NEXT = {
    "01-operation-share": ("03-tokens-per-second", "14-other-models"),
    "02-dataflows": ("09-routing", "10-long-context"),
    "03-tokens-per-second": ("09-routing", "04-latency-breakdown"),
    "04-latency-breakdown": ("10-long-context", "02-dataflows"),
    "05-energy": ("07-accounting", "17-standing-power"),
    "06-comparison": ("19-machines-one-can-buy", "08-validation"),
    "07-accounting": ("17-standing-power", "13-sensitivity"),
    "08-validation": ("13-sensitivity", "16-analog-engine"),
    "09-routing": ("19-machines-one-can-buy", "15-design-space"),
    "10-long-context": ("12-pim-attention", "15-design-space"),
    "11-analog-noise": ("16-analog-engine", "12-pim-attention"),
    "12-pim-attention": ("11-analog-noise", "15-design-space"),
    "13-sensitivity": ("17-standing-power", "08-validation"),
    "14-other-models": ("18-one-bit-models", "01-operation-share"),
    "15-design-space": ("19-machines-one-can-buy", "11-analog-noise"),
    "16-analog-engine": ("11-analog-noise", "08-validation"),
    "17-standing-power": ("19-machines-one-can-buy", "13-sensitivity"),
    "18-one-bit-models": ("19-machines-one-can-buy", "11-analog-noise"),
    "19-machines-one-can-buy": ("10-long-context", "06-comparison"),
}
_FIGURE = re.compile(r'<figure class="pimllm-figure">(<svg.*?</svg>).*?</figure>', flags=re.DOTALL)


@dataclass(frozen=True)
class Result:
    """What a page is made of: the executed notebook, the archived dataset and its bytes, how to cite it.

    repository: address of the project, empty while it has none; then no page links to Binder.
    """

    slug: str
    executed: dict[str, Any]
    ds: xr.Dataset
    content: bytes
    citation: Citation
    repository: str = ""

    @cached_property
    def downloads(self) -> dict[str, tuple[str, bytes]]:
        """Path in the book of everything a page offers for download -> what a reader is told of it, and its content."""
        drawn, start = figures(self.executed), f"downloads/{self.slug}"
        return {
            f"{start}.nc": (f"dataset (netCDF-4, {self.ds.attrs['licence']})", self.content),
            f"{start}.csv": ("values other than zero (CSV)", table(self.ds).encode()),
            f"{start}.ipynb": ("executed notebook", json.dumps(self.executed, indent=1, sort_keys=True).encode()),
        } | {
            f"{start}-{i}.svg": ("figure (SVG)" if len(drawn) == 1 else f"figure {i} (SVG)", svg.encode())
            for i, svg in enumerate(drawn, 1)
        }


def page(result: Result) -> dict[str, Any]:
    """Return a notebook as a page: the output of the cell tagged `answer` right below the title, the cell that set the
    output folder left out, the code of cells that only show or save something closed; at the end what to read next, the
    functions that compute the dataset, and where it comes from.
    """
    shown = (cell for cell in result.executed["cells"] if "injected-parameters" not in _tags(cell))
    answers: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    for cell in shown:
        if "answer" in _tags(cell):
            said = "\n\n".join("".join(output["data"]["text/markdown"]) for output in cell["outputs"])
            answers.append(_markdown(f"{result.slug}-answer-{len(answers)}", said))
        else:
            cells.append(_folded(cell) if _displays(cell) or _saves(cell) else cell)
    title, _, introduction = "".join(cells[0]["source"]).partition("\n\n")
    parts = {
        "title": title, "reading": reading(result.executed), "introduction": introduction, "next": following(result.slug),
        "functions": functions(result.executed), "provenance": box(result),
    }  # fmt: skip
    made = {name: [_markdown(f"{result.slug}-{name}", text)] if text else [] for name, text in parts.items()}
    opening = [*made["title"], *answers, *made["reading"], *made["introduction"]]
    ending = [*made["next"], *made["functions"], *made["provenance"]]
    return result.executed | {"cells": [*opening, *cells[1:], *ending]}


def reading(executed: dict[str, Any]) -> str:
    """Return how long a page takes to read: its words, and those of its sentences that are computed."""
    texts = ["".join(cell["source"]) for cell in executed["cells"] if cell["cell_type"] == "markdown"]
    outputs = [output.get("data", {}) for cell in executed["cells"] for output in cell.get("outputs", [])]
    texts += ["".join(data["text/markdown"]) for data in outputs if "text/markdown" in data]
    words = sum(len(re.sub(r"<[^>]*>", " ", text).split()) for text in texts)
    drawn = len(figures(executed))
    shown = f", with {drawn} figure{'s' * (drawn > 1)}" if drawn else ""
    minutes = max(1, round(words / WORDS_A_MINUTE))
    return f":::{{div}} reading\nAbout {minutes} minute{'s' * (minutes > 1)} to read{shown}.\n:::"


def following(slug: str) -> str:
    """Return which chapters to read after one, by their questions, in Markdown; nothing after one that names none."""
    links = [f"- [{question(name)}]({name}.ipynb)" for name in NEXT.get(slug, ())]
    return "\n".join(["## What next", "", *links]) if links else ""


def question(slug: str) -> str:
    """Return the title of a chapter, which is its question."""
    cells = files.from_json(files.read(paths.notebook(slug)))["cells"]
    return "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")


def _displays(cell: dict[str, Any]) -> bool:
    """Return whether a cell does no more than show something."""
    if cell["cell_type"] != "code":
        return False
    tree = code.parsed("".join(cell["source"]))
    return bool(tree.body) and all(isinstance(node, ast.Expr) for node in tree.body) and not code.saves(tree)


def _saves(cell: dict[str, Any]) -> bool:
    """Return whether a cell saves the dataset."""
    return cell["cell_type"] == "code" and code.saves(code.parsed("".join(cell["source"])))


def _folded(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell whose code is closed until a reader opens it."""
    tags = list(dict.fromkeys([*_tags(cell), "hide-input"]))
    return cell | {"metadata": cell["metadata"] | {"tags": tags}}


def functions(executed: dict[str, Any]) -> str:
    """Return a closed box with what of a chapter's package its dataset is computed by, nothing where its cells show all."""
    cells = ["".join(cell["source"]) for cell in executed["cells"] if cell["cell_type"] == "code"]
    parts = [
        f"`{paths.logical(place)}`\n\n```python\n" + "\n\n\n".join(_sources(place, names)) + "\n```"
        for place, names in _named("\n".join(code.computing(cells))).items()
    ]
    return "\n\n".join([":::{dropdown} The functions that compute this dataset", *parts, ":::"]) if parts else ""


def _named(source: str) -> dict[Path, set[str]]:
    """Return module of the chapters -> names that some code takes from it."""
    tree = code.parsed(source)
    modules: dict[str, Path] = {}
    found: dict[Path, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == paths.CHAPTERS.name:
            place = paths.CHAPTERS.parent.joinpath(*str(node.module).split("."))
            for alias in node.names:
                if place.is_dir():
                    modules[alias.asname or alias.name] = place / f"{alias.name}.py"
                else:
                    found.setdefault(place.with_suffix(".py"), set()).add(alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            found.setdefault(modules[node.value.id], set()).add(node.attr)
    return found


def _sources(place: Path, names: set[str]) -> Iterator[str]:
    """Yield the text of the named functions and classes of a module, in its order."""
    text = place.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            yield "\n".join(text.splitlines()[node.lineno - 1 - len(node.decorator_list) : node.end_lineno])


def box(result: Result) -> str:
    """Return the box that ends a result page, in Markdown."""
    slug, cited, record = result.slug, result.citation, dataset.record(result.ds)
    rows = {
        "Made": cited.fields["made"].removeprefix("made "),
        "Packages": ", ".join(f"{name} {number}" for name, number in record["packages"].items()),
        "Parameters": "; ".join(f"`{name}` = {escaped(plain(value))}" for name, value in record["parameters"].items()),
        "Re-create it": f"`pimllm run {slug}`, or with other parameters [as on this page](../run.md)",
        "Run it in a browser": binder(result.repository, slug),
        "Download": ", ".join(f"{{download}}`{text} <../{path}>`" for path, (text, _) in result.downloads.items()),
        "SHA-256": f"`{cited.fields['sha256']}`",
        "Content": f"`{cited.fields['dataset_swhid']}`",
    }
    table = "\n".join(f"| **{name}** | {value} |" for name, value in rows.items() if value)
    return (
        f"## Where this comes from\n\n| | |\n|---|---|\n{table}\n\n### Cite it\n\n{escaped(cited.text)}\n\n"
        f"```bibtex\n{cited.bibtex}\n```\n\nOne number of it: `pimllm cite {slug}::VARIABLE::dimension=label,...`"
    )


def figures(executed: dict[str, Any]) -> list[str]:
    """Return the figures of an executed notebook as SVG files."""
    outputs = (output for cell in executed["cells"] for output in cell.get("outputs", []))
    return [svg for output in outputs for svg in _FIGURE.findall("".join(output.get("data", {}).get("text/html", "")))]


def write_figures(copy: Path, into: Path) -> list[Path]:
    """Write the figures of an executed notebook as `NAME-1.svg` and so on; return the paths.

    Raises BadInput for a file that is none or has none, and for a folder that cannot be written.
    """
    try:
        drawn = figures(files.from_json(files.read(copy)))
    except (ValueError, TypeError, KeyError, AttributeError):
        drawn = []
    if not drawn:
        raise BadInput(f"{copy} has no figures; wanted the folder of a 'pimllm run' as --archive")
    return [files.write(into / f"{copy.stem}-{i}.svg", svg.encode()) for i, svg in enumerate(drawn, 1)]


def table(ds: xr.Dataset) -> str:
    """Return a dataset as comma-separated values, a row a number: variable, unit, a column a dimension, value.

    A dimension that a variable does not have is empty. Zeros of extensive variables are left out: they add nothing.
    """
    import pandas as pd

    order = [*(dim for dim in DIMS if dim in ds.dims), *(str(dim) for dim in ds.dims if dim not in DIMS)]
    frames = []
    for name in map(str, ds.data_vars):
        values = ds[name].to_series() if ds[name].dims else pd.Series([ds[name].item()])
        frame = values.rename("value").reset_index() if ds[name].dims else values.to_frame("value")
        if name in VARIABLES and VARIABLES[name].extensive:
            frame = frame[frame["value"] != 0]
        labels = {
            str(dim): frame[dim].astype(object) for dim in ds[name].dims
        }  # to stay what they are beside empty ones
        frames.append(frame.assign(variable=name, unit=ds[name].attrs.get("units", "1"), **labels))
    whole = pd.concat(frames, ignore_index=True).reindex(columns=["variable", "unit", *order, "value"])
    return str(whole.to_csv(index=False, lineterminator="\n"))


def binder(repository: str, slug: str) -> str:
    """Return a link that opens a notebook on Binder, nothing where the project has no address."""
    if not repository:
        return ""
    place = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", repository)
    where = f"gh/{place[1]}" if place else f"git/{quote(repository, safe='')}"
    return f"[Binder](https://mybinder.org/v2/{where}/HEAD?labpath={quote(f'notebooks/{slug}.ipynb', safe='')})"


def plain(value: Any) -> str:
    """Return a value as a table shows it."""
    return ("yes" if value else "no") if isinstance(value, bool) else listed(value)


def _tags(cell: dict[str, Any]) -> list[str]:
    return list(cell["metadata"].get("tags", []))


def _markdown(name: str, source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name[:60], "metadata": {}, "source": source}
