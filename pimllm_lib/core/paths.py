"""Where things lie: in a checkout, or inside an installed package, which carries the notebooks and the printed numbers."""

from __future__ import annotations

from pathlib import Path

from pimllm_lib.core.errors import BadInput, unknown

PACKAGE = Path(__file__).resolve().parents[1]
#: What a wheel carries of a checkout; hatch_build.py puts it there.
SHIPPED = PACKAGE / "shipped"
ROOT = SHIPPED if SHIPPED.is_dir() else PACKAGE.parent
#: Whether this is a checkout, which has an archive, a book, and folders to work in.
IN_CHECKOUT = ROOT != SHIPPED and (ROOT / "Makefile").is_file()
NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
DATA = ROOT / "data"
RESULTS = DATA / "results"
CHECKPOINTS = DATA / "checkpoints"
STUDIES = DATA / "studies"
#: The analysis of each chapter, a package beside the notebooks; in an installed package, beside the library.
CHAPTERS = (PACKAGE.parent if SHIPPED.is_dir() else NOTEBOOKS) / "pimllm_chapters"
EXECUTED = ROOT / "executed"
BUILD = ROOT / "build"
LOCK = ROOT / "requirements.lock"
VERSIONS = DATA / "versions.json"


def slugs() -> list[str]:
    """Return the names of the notebooks, in order. Raises BadInput where there are none."""
    found = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]-*.ipynb"))
    if not found:
        raise BadInput(f"no notebooks at {NOTEBOOKS}; wanted a checkout of the project, or an installed wheel")
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


def users(text: str) -> Path:
    """Return a path as the user wrote it, with ~ resolved. Raises BadInput for an empty one and an unknown ~user."""
    if not text.strip():
        raise BadInput("a path is empty; wanted the name of a file or folder")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise BadInput(f"{text} names the home of an unknown user; wanted a path") from None


def for_results(text: str) -> Path:
    """Return the user's folder for results. Raises BadInput as `users` does, and for one that is the archive's."""
    into = users(text)
    if into.resolve().is_relative_to(DATA):
        raise BadInput(f"{into} belongs to the archive; wanted another folder, or --archive to renew it on purpose")
    return into


def archive(folder: str | None) -> Path:
    """Return the archive that is meant: the named folder, else the checkout's. Raises BadInput where there is neither."""
    if folder is None and not IN_CHECKOUT:
        raise BadInput("an installed package has no archive of its own; wanted --archive DIR (see 'pimllm fetch')")
    path = DATA if folder is None else users(folder)
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise BadInput(f"{path} {what}; wanted a folder with results")
    return path


def checkout() -> Path:
    """Return the root of the checkout. Raises BadInput outside of one."""
    if not IN_CHECKOUT:
        raise BadInput("this needs a checkout of the project; an installed package has no book and no history")
    return ROOT


def library() -> list[Path]:
    """Return every file of the library, without what a wheel carries beside it."""
    skipped = {"__pycache__", SHIPPED.name}
    found = (path for path in PACKAGE.rglob("*") if path.is_file() and path.name[0] != ".")
    return sorted(path for path in found if not skipped & set(path.relative_to(PACKAGE).parts))


def chapters() -> list[Path]:
    """Return the modules of the chapters."""
    return sorted(CHAPTERS.rglob("*.py"))


def logical(path: Path) -> str:
    """Return where a file stands in a checkout, also when it was read out of an installed package."""
    if path.is_relative_to(CHAPTERS):
        return f"notebooks/{path.relative_to(CHAPTERS.parent).as_posix()}"
    home = ROOT if path.is_relative_to(ROOT) else PACKAGE.parent
    return path.relative_to(home).as_posix()
