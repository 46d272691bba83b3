"""Put the book together from prose and executed notebooks, and render it. Nothing under data/ or book/ is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from pimllm_lib import __version__
from pimllm_lib.archive import dataset, diff, manifest, notebooks, provenance
from pimllm_lib.archive import jobs as batch
from pimllm_lib.archive.cite import cite
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.paths import BOOK, BUILD, DATA, EXECUTED, NOTEBOOKS, PACKAGE, RESULTS, ROOT, checkout, slugs
from pimllm_lib.report import card, gallery, landing, pages, result_page
from pimllm_lib.report.result_page import Result

SOURCE = BUILD / "book"
PAGE = BOOK / "_build" / "html" / "index.html"
#: What the rendered book was made of, as a hash: while that stays there is nothing to do.
MADE_OF = BUILD / "book-made-of"


def build(*, jobs: int = 1, progress: bool = False) -> list[str]:
    """Execute stale notebooks, compare with the archive, render. Return the problems in one line each, none if well.

    The book is rendered only when every result agrees with the archive.
    Raises NotebookFailed when a cell raises, BadInput when the archive is missing or a folder cannot be written.
    """
    checkout()
    for folder in (EXECUTED, SOURCE, PAGE.parent):
        files.require_folder(folder)
    if MADE_OF.is_file() and MADE_OF.read_text(encoding="utf-8") == _made_of():
        return []
    todo: dict[str, dict[str, Any]] = {slug: {} for slug in slugs() if notebooks.stale(slug, EXECUTED)}
    list(batch.run(todo, EXECUTED, jobs, progress=progress))
    problems = []
    for slug in slugs():
        fresh, kept = (dataset.load(folder / f"{slug}.nc") for folder in (EXECUTED, RESULTS))
        problems += [f"differs from the archive: {change}" for change in diff.results(slug, kept, fresh)]
    if problems:
        return problems
    assemble()
    problems = render()
    if not problems:
        files.write(MADE_OF, _made_of().encode())
    return problems


def _made_of() -> str:
    """Return a hash over every file that the book is made of, the versions that made it, and which pages there are."""
    digest = sha256(json.dumps([commit(), sys.version, provenance.package_versions()]).encode())
    own = (path for path in BOOK.iterdir() if path.name != "_build")
    inside = [path for folder in (NOTEBOOKS, PACKAGE, DATA, EXECUTED, *own) for path in (folder, *folder.rglob("*"))]
    for path in sorted(path for path in (*inside, *ROOT.glob("*.*")) if path.is_file() and path.suffix != ".pyc"):
        digest.update(f"{path}\0{files.hash_of(path)}\0".encode())
    digest.update("\0".join(sorted(str(page) for page in PAGE.parent.rglob("*.html"))).encode())
    return digest.hexdigest()


def assemble() -> None:
    """Bring the book's sources together under build/book; files whose content stays are not touched."""
    config = _config()
    prose = (path for path in BOOK.rglob("*") if path.is_file() and not {"_build", "__pycache__"} & set(path.parts))
    wanted = {path.relative_to(BOOK): path.read_bytes() for path in prose}
    results = [_result(slug, config["repository"]["url"]) for slug in slugs()]
    for result in results:
        contents = {Path(path): content for path, (_, content) in result.downloads.items()}
        text = json.dumps(result_page.page(result), indent=1, sort_keys=True)
        wanted |= {Path("results", f"{result.slug}.ipynb"): text.encode(), **contents}
    wanted |= {Path(path): content for path, content in gallery.pictures(results).items()}
    wanted[Path("gallery.md")] = gallery.page(results).encode()
    wanted[Path(card.FOLDER, "index.png")] = landing.card(landing.rows(RESULTS))
    wanted[Path("CHANGELOG.md")] = (ROOT / "CHANGELOG.md").read_bytes()
    wanted[Path("_config.yml")] = yaml.safe_dump(config, sort_keys=True, allow_unicode=True, width=10**6).encode()
    _sync(SOURCE, wanted)


def _result(slug: str, repository: str) -> Result:
    """Return what the page of a chapter is made of, from its executed notebook and the archive."""
    executed = json.loads((EXECUTED / f"{slug}.ipynb").read_text(encoding="utf-8"))
    content = files.read(RESULTS / f"{slug}.nc")
    return Result(slug, executed, dataset.decode(content, slug), content, cite(DATA, slug), repository)


def _config() -> dict[str, Any]:
    """Return the configuration with what depends on the sources: numbers in prose, and the version line."""
    config: dict[str, Any] = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))
    config["parse"]["myst_substitutions"] = pages.substitutions(RESULTS)
    config["sphinx"]["config"]["html_theme_options"]["extra_footer"] = f'<p class="stamp">{stamp()}</p>'
    return config


def stamp() -> str:
    """Return what every page says of its origin; the commit is where it was rendered, and alone differs between builds."""
    hashes = f"sources {provenance.sources_hash()} · archive {manifest.hash_of(DATA)[:16]}"
    return f"pimllm {__version__} · {hashes} · commit {commit()}"


def commit() -> str:
    """Return the short hash of the commit the sources come from, marked when they differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _sync(folder: Path, wanted: dict[Path, bytes]) -> None:
    """Make a folder hold exactly the wanted files, writing only those that changed."""
    try:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file() and path.relative_to(folder) not in wanted and "__pycache__" not in path.parts:
                path.unlink()
        for name, content in wanted.items():
            target = folder / name
            if not target.is_file() or target.read_bytes() != content:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    except OSError as error:
        raise BadInput(f"{error.filename} cannot be written: {error.strerror}") from None


def render() -> list[str]:
    """Run Jupyter Book with warnings as errors. Return its complaints, none if it rendered."""
    program = "from jupyter_book.cli.main import main; main()"
    options = ["--path-output", str(BOOK), "-W", "--keep-going"]
    if not (PAGE.is_file() and stamp() in PAGE.read_text(encoding="utf-8")):
        shutil.rmtree(
            BOOK / "_build", ignore_errors=True
        )  # every page bears the stamp, and Sphinx writes the changed alone
    command = [sys.executable, "-c", program, "build", str(SOURCE), *options]
    around = os.environ | {"NO_COLOR": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=around)
    if done.returncode == 0 and PAGE.is_file():
        info = PAGE.with_name(".buildinfo")  # a hash of the configuration, which holds the stamped commit
        info.unlink(missing_ok=True)
        return []
    shutil.rmtree(BOOK / "_build", ignore_errors=True)  # a half-rendered book is worse than none
    lines = (done.stdout + done.stderr).splitlines()
    said = [line for line in lines if "WARNING" in line or "ERROR" in line or "Error" in line]
    return [f"the book did not render: {line.strip()}" for line in said or lines[-3:]]
