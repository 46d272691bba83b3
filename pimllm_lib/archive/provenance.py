"""What a result came from: what the code says, the tables it reads and the packages that count, as a hash; and the versions.

Two hashes: of what computes a result (`source_hash`, which its file has), and of all of its page (`page_hash`).
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pimllm_lib import __version__
from pimllm_lib.archive import code
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, clip

#: The source hash of the notebook that a kernel runs: whoever started it knows the file, so the kernel need not read it.
RUNNING = "PIMLLM_SOURCE_HASH"
#: Packages whose version can change a number; the docstrings of the last two are read by language models.
PACKAGES = ("numpy", "scipy", "SALib", "xarray", "h5netcdf", "h5py", "pandas", "matplotlib")
#: The records of trained models, with the hashes that each is checked against: an installed package lacks some models.
RECORDS = "checkpoints/*/training.json"
#: A module -> what it reads beside the catalog: files of data/, by pattern.
_READS = {
    "analog/lm/checkpoint.py": (RECORDS,),
    "analysis/claims.py": ("published.csv", "earlier.csv"),
    "analysis/constants.py": ("peers/*.csv",),
    "analysis/devices.py": ("machines.csv", "peers/llamacpp.csv"),
    "analysis/validation.py": ("peers/*.csv", "published-blocks.csv", "macros.csv"),
    "studies/noise_runs.py": ("studies/*.yaml", "studies/*.nc"),
}


def closure(sources: Iterable[str]) -> list[Path]:
    """Return every library file that code reaches by imports, with the tables and archived files that these read, sorted.

    Imports inside functions and under TYPE_CHECKING count too: they name what a lazy import will load.
    """
    found: set[Path] = set()
    todo = [module for source in sources for module in _imports(source)]
    while todo:
        path = _file(todo.pop())
        if path is not None and path not in found:
            found.add(path)
            todo += _imports(_content(path).decode())
    patterns = [pattern for module, reads in _READS.items() if paths.PACKAGE / module in found for pattern in reads]
    read = {path for pattern in patterns for path in paths.DATA.glob(pattern)}
    return sorted(found | read | set(paths.PACKAGE.glob("catalog/*.toml")), key=paths.logical)


def source_hash(slug: str, path: Path | None = None) -> str:
    """Return 16 hex digits over what computes a result: statements of its notebook, what they reach, packages.

    path: the notebook, where it is not the project's own. Such a one counts whole, since nobody has run its computing
    statements alone.
    """
    try:
        place = path or paths.notebook(slug)
    except BadInput:
        return hash_of(["import pimllm_lib"])
    cells = code_cells(place)
    return hash_of(code.computing(cells) if place.parent == paths.NOTEBOOKS else cells)


def page_hash(path: Path) -> str:
    """Return 16 hex digits over everything that the executed copy of a notebook depends on, its prose too."""
    cells = json.dumps(json.loads(path.read_text(encoding="utf-8"))["cells"], sort_keys=True)
    return _hash(cells, [*closure(code_cells(path)), paths.LOCK])


def study_hash(spec: Mapping[str, Any]) -> str:
    """Return 16 hex digits over what evaluates a point of a study, given as its table; what is studied is not in it."""
    if "notebook" in spec:
        return source_hash(str(spec["notebook"]), paths.notebook(str(spec["notebook"])))
    evaluator = "analog.noise.study" if "curves" in spec else "sweep.points"
    return hash_of([f"import {paths.PACKAGE.name}.{evaluator}"])


def sources_here(name: str, made: Mapping[str, Any]) -> str | None:
    """Return the hash that the sources at hand would give a result, None where they have nothing that makes it.

    made: its provenance.
    """
    spec = made["parameters"]
    if name in paths.slugs():
        return source_hash(name)
    known = spec["notebook"] in paths.slugs() if "notebook" in spec else "curves" in spec or "axes" in spec
    return study_hash(spec) if known else None


def hash_of(cells: Iterable[str]) -> str:
    """Return 16 hex digits over what some code says, what it reaches, and the packages that can change a number."""
    cells = list(cells)
    return _hash("\n".join(code.said(cell) for cell in cells), [*closure(cells), paths.LOCK])


def sources_hash() -> str:
    """Return 16 hex digits over everything that results can depend on: all notebooks, the library, the tables, the lock.

    Of the archived studies it has what they are of, not what came out: their results depend on it.
    """
    cells = ["\n".join(map(code.said, code_cells(path))) for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))]
    read = [*paths.DATA.rglob("*.csv"), *paths.DATA.glob(RECORDS), *paths.STUDIES.glob("*.yaml"), paths.LOCK]
    return _hash("\n".join(cells), sorted([*paths.library(), *paths.chapters(), *read], key=paths.logical))


def _hash(text: str, read: Iterable[Path]) -> str:
    """Return 16 hex digits over a text and what files say, with their places in a checkout."""
    digest = sha256(text.encode())
    for path in read:
        if path.is_file():
            digest.update(paths.logical(path).encode() + b"\0" + _said(path))
    return digest.hexdigest()[:16]


def _said(path: Path) -> bytes:
    """Return what a file says: of a module its code, of the lock the packages that can change a number."""
    if path == paths.LOCK:
        names = "|".join(map(re.escape, PACKAGES))
        return "\n".join(re.findall(rf"(?im)^(?:{names})==[^ \\;]+", _content(path).decode())).encode()
    return code.said(_content(path).decode()).encode() if path.suffix == ".py" else _content(path)


def _content(path: Path) -> bytes:
    """Return the content of a file, whatever the system's line ends; read again where it changed."""
    now = path.stat()
    return _read(path, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1024)  # each of the results depends on most of the files
def _read(path: Path, changed_ns: int, size: int) -> bytes:
    return path.read_bytes().replace(b"\r\n", b"\n")


def record(slug: str, parameters: dict[str, Any], attributes: Mapping[str, Any], source: str = "") -> str:
    """Return the provenance of a result as one JSON string: no commit and no clock, so equal runs give equal files.

    attributes: those of the dataset, of which `fingerprints` and `user_values` say what was evaluated; source: the hash of
    what a result of no notebook depends on.
    """
    content = {
        "result": slug,
        "pimllm": __version__,
        "source_hash": source or os.environ.get(RUNNING) or source_hash(slug),
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
    text = files.read(path)
    try:
        cells = files.from_json(text)["cells"]
        tags = [tag for cell in cells if isinstance(tag := cell.get("metadata", {}).get("tags", []), str)]
        kinds = [clip(cell["cell_type"]) for cell in cells if cell["cell_type"] not in ("code", "markdown", "raw")]
        found = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInput(f"{path} is not a notebook; wanted a Jupyter notebook of format 4") from None
    if tags or kinds:
        wrong = f"the tags {clip(tags[0])}, which are no list" if tags else f"a cell of kind {kinds[0]}"
        raise BadInput(f"{path} has {wrong}; wanted a Jupyter notebook of format 4")
    return found


@lru_cache(maxsize=1024)
def _imports(source: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(code.parsed(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += _of_package(node) if node.module == paths.PACKAGE.name else [node.module]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in (paths.PACKAGE.name, paths.CHAPTERS.name)]


def _of_package(node: ast.ImportFrom) -> list[str]:
    """Return the package where a public name is taken from it: it loads these lazily, and its modules load nothing of it."""
    taken = (alias.name for alias in node.names if alias.name != "__version__")
    return [paths.PACKAGE.name] if any(_file(f"{paths.PACKAGE.name}.{name}") is None for name in taken) else []


@lru_cache(maxsize=1024)
def _file(module: str) -> Path | None:
    home = paths.CHAPTERS if module.split(".")[0] == paths.CHAPTERS.name else paths.PACKAGE
    path = home.parent.joinpath(*module.split("."))
    choices = (path.with_suffix(".py"), path / "__init__.py")
    return next((choice for choice in choices if choice.is_file()), None)
