"""What a result came from: the contents of the code, the notebook and the lock, as one hash; and the versions."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pimllm_lib import __version__
from pimllm_lib.errors import BadInput
from pimllm_lib.report.paths import CHECKPOINTS, DATA, LOCK, NOTEBOOKS, PACKAGE, STUDIES, library, logical, notebook

#: Names the notebook that is run, for a result whose notebook is not the project's own.
RUNNING = "PIMLLM_NOTEBOOK"
#: Packages whose version can change a number.
PACKAGES = ("numpy", "scipy", "SALib", "xarray", "h5netcdf", "h5py")


def closure(sources: Iterable[str]) -> list[Path]:
    """Return every library file that code reaches by imports, the catalog's tables and the printed numbers, sorted.

    With the code that reads checkpoints come the checkpoints, with that of noise studies the archived ones. Imports inside
    functions and under TYPE_CHECKING count too: they name what a lazy import will load.
    """
    found: set[Path] = set()
    todo = [module for source in sources for module in _imports(source)]
    while todo:
        path = _file(todo.pop())
        if path is not None and path not in found:
            found.add(path)
            todo += _imports(_content(path).decode())
    shipped = set(CHECKPOINTS.glob("*/*")) if PACKAGE / "analog" / "checkpoint.py" in found else set()
    if PACKAGE / "report" / "noise_study.py" in found:
        shipped |= {path for kind in ("*.yaml", "*.nc") for path in STUDIES.glob(kind)}
    return sorted(found | shipped | set(PACKAGE.glob("catalog/*.toml")) | set(DATA.rglob("*.csv")), key=logical)


def source_hash(slug: str, path: Path | None = None) -> str:
    """Return 16 hex digits over everything a result depends on: notebook code, library closure, catalog, lock.

    path: the notebook, where it is not the one that runs nor the project's own.
    """
    cells = code_cells(path) if path else _own_cells(slug)
    return _hash("\n".join(cells), [*closure(cells), LOCK])


def sources_hash() -> str:
    """Return 16 hex digits over everything that results can depend on: all notebooks, the library, the tables, the lock.

    Of the archived studies it has what they are of, not what came out: their results depend on it.
    """
    code = ["\n".join(code_cells(path)) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    read = [*DATA.rglob("*.csv"), *CHECKPOINTS.glob("*/*"), *STUDIES.glob("*.yaml"), LOCK]
    return _hash("\n".join(code), sorted([*library(), *read], key=logical))


def _hash(text: str, paths: Iterable[Path]) -> str:
    """Return 16 hex digits over a text and files with their places in a checkout, whatever the system's line ends."""
    digest = sha256(text.encode())
    for path in paths:
        if path.is_file():
            digest.update(logical(path).encode() + b"\0" + _content(path))
    return digest.hexdigest()[:16]


def _content(path: Path) -> bytes:
    """Return what a file says, whatever the system's line ends; read again where it changed."""
    now = path.stat()
    return _read(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1024)  # each of the results depends on most of the files
def _read(path: Path, changed_ns: int, size: int) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n")


def _own_cells(slug: str) -> list[str]:
    """Return the code of a result's notebook: the one that runs, else the project's, else no more than the library."""
    running = os.environ.get(RUNNING, "")
    if running:
        return code_cells(Path(running))
    try:
        return code_cells(notebook(slug))
    except BadInput:
        return ["import pimllm_lib"]


def record(slug: str, parameters: dict[str, Any], attributes: Mapping[str, Any], source: str = "") -> str:
    """Return the provenance of a result as one JSON string: no commit and no clock, so equal runs give equal files.

    attributes: those of the dataset, of which `fingerprints` and `user_values` say what was evaluated; source: the hash of
    what a result of no notebook depends on.
    """
    content = {
        "result": slug,
        "pimllm": __version__,
        "source_hash": source or source_hash(slug),
        "parameters": parameters,
        "fingerprints": attributes.get("fingerprints", ""),
        "user_values": json.loads(attributes.get("user_values", "{}")),
        "packages": package_versions(),
    }
    return json.dumps(content, sort_keys=True)


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that can change a number."""
    return {name: version(name) for name in PACKAGES}


def code_cells(path: Path) -> list[str]:
    """Return the source of each code cell of a notebook. Raises BadInput when the file is none."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadInput(f"{path} is not a notebook; wanted a Jupyter notebook of format 4") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None


@lru_cache(maxsize=1024)
def _imports(source: str) -> list[str]:
    names: list[str] = []
    if source.lstrip().startswith("%%"):
        return []  # a cell in another language
    lines = ("" if line.startswith(("%", "!")) else line for line in source.splitlines())  # Jupyter's own commands
    plain = "\n".join(lines)
    try:
        tree = ast.parse(plain)
    except SyntaxError as error:
        raise BadInput(f"code that is no Python, in line {error.lineno}: {(error.text or '').strip()}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.split(".")[0] == PACKAGE.name]


@lru_cache(maxsize=1024)
def _file(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    choices = (path.with_suffix(".py"), path / "__init__.py")
    return next((choice for choice in choices if choice.is_file()), None)
