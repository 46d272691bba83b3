"""Where things lie in a checkout."""

from __future__ import annotations

from pathlib import Path

from pimllm_lib.errors import BadInput, unknown

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pimllm_lib"
NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
DATA = ROOT / "data"
RESULTS = DATA / "results"
EXECUTED = ROOT / "executed"
BUILD = ROOT / "build"
LOCK = ROOT / "requirements.lock"


def slugs() -> list[str]:
    """Return the names of the notebooks, in order. Raises BadInput outside a checkout."""
    found = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]-*.ipynb"))
    if not found:
        raise BadInput(f"no notebooks at {NOTEBOOKS}; wanted a checkout of the project, installed with 'make env'")
    return found


def notebook(slug: str) -> Path:
    """Return the path of a notebook of the project, or of a file that is named. Raises UnknownName with the nearest name."""
    if slug.endswith(".ipynb"):
        if not Path(slug).is_file():
            raise BadInput(f"{slug} does not exist; wanted a notebook")
        return Path(slug).resolve()
    known = slugs()
    if slug not in known:
        raise unknown("notebook", slug, known)
    return NOTEBOOKS / f"{slug}.ipynb"
