"""What a result came from: the contents of the code, the notebook and the lock, as one hash; and the versions."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pimllm_lib import __version__
from pimllm_lib.errors import BadInput
from pimllm_lib.report.paths import DATA, LOCK, PACKAGE, notebook

#: Names the notebook that is run, for a result whose notebook is not the project's own.
RUNNING = "PIMLLM_NOTEBOOK"
#: Packages whose version can change a number.
PACKAGES = ("numpy", "xarray", "h5netcdf", "h5py")


def closure(sources: Iterable[str]) -> list[Path]:
    """Return every library file that code reaches by imports, the catalog's tables and the printed numbers, sorted.

    Imports inside functions and under TYPE_CHECKING count too: they name what a lazy import will load.
    """
    found: set[Path] = set()
    todo = [module for source in sources for module in _imports(source)]
    while todo:
        path = _file(todo.pop())
        if path is not None and path not in found:
            found.add(path)
            todo += _imports(path.read_text(encoding="utf-8"))
    return sorted(found | set(PACKAGE.glob("catalog/*.toml")) | set(DATA.rglob("*.csv")))


def source_hash(slug: str) -> str:
    """Return 16 hex digits over everything a result depends on: notebook code, library closure, catalog, lock."""
    cells = _own_cells(slug)
    digest = sha256("\n".join(cells).encode())
    for path in [*closure(cells), *([LOCK] if LOCK.is_file() else [])]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _own_cells(slug: str) -> list[str]:
    """Return the code of a result's notebook: the one that runs, else the project's, else no more than the library."""
    running = os.environ.get(RUNNING, "")
    if Path(running).stem == slug and Path(running).is_file():
        return code_cells(Path(running))
    try:
        return code_cells(notebook(slug))
    except BadInput:
        return ["import pimllm_lib"]


def record(slug: str, parameters: dict[str, Any], fingerprints: str) -> str:
    """Return the provenance of a result as one JSON string: no commit and no clock, so equal runs give equal files."""
    content = {
        "result": slug,
        "pimllm": __version__,
        "source_hash": source_hash(slug),
        "parameters": parameters,
        "fingerprints": fingerprints,
        "packages": {name: version(name) for name in PACKAGES},
    }
    return json.dumps(content, sort_keys=True)


def code_cells(path: Path) -> list[str]:
    """Return the source of each code cell of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _imports(source: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == PACKAGE.name]


def _file(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    choices = (path.with_suffix(".py"), path / "__init__.py")
    return next((choice for choice in choices if choice.is_file()), None)
