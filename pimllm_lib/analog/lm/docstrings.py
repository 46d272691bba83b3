"""English technical prose that every install has: the docstrings of the packages the lock pins, never committed.

Read from the installed sources, so the same lock gives the same bytes on every machine; hashes say whether it did. Only
NumPy's part, and of SciPy's what repeats it, is another from Python 3.12 on, where NumPy's wheels leave out distutils; what
is held out is not. Whole packages are held out. A docstring of which much was met before, in its package or another, is left
out, since templates repeat; some turns of phrase remain that both sides share.
"""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from pimllm_lib.analog.lm.corpus import Corpus
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput

#: Package -> SHA-256 of its part of the corpus, as trained on. All are required by every install; see requirements.lock.
TRAINING = {
    "numpy": "95c31f968d5bfc2a8596c14c3050edf0ac36f9848e9e7a7a7f768e22880e8898",
    "scipy": "ea3a72e3c60dea35eb1694b0d8dabecbf023441a8d03430dd09ea799c091f383",
    "matplotlib": "91c470d7e02a02fa657daa9a8de747b86201fa475996813b1aef2ba1798f16a8",
    "pandas": "e105f4e58a10bc6ef6c089de7ea888f55df623c212282aed5f7040e09392c2db",
}
HELD_OUT = {
    "xarray": "d69394d024046c53552f2dbd5fb67de17c154b30df4f9a4be9eeab02a68795cd",
    "h5py": "64e35d8bc72a90a7abc7eff2b385dce2307783ce38968dd4a1bcfa9f1fa8cdb5",
}
#: Between two docstrings; it occurs in none.
SEPARATOR = b"\0"
#: Between the parts of two packages in the cache; a part holds no two separators in a row, since no docstring is empty.
_BETWEEN_PACKAGES = SEPARATOR * 2
#: Words of a shingle, and the share of known shingles beyond which a docstring counts as seen before.
SHINGLE, MOST_KNOWN = 8, 0.3
#: Shorter docstrings say little.
SHORTEST = 80


def corpus() -> Corpus:
    """Return the corpus: uint8 arrays, docstrings in the order of packages, files and lines, a zero byte between two.

    Raises BadInput when a package is missing. Another version of one gives another text: `differences` says which, with
    both hashes.
    """
    expected = TRAINING | HELD_OUT
    parts = _kept(tuple(expected))
    found = {package: files.hash_of(text) for package, text in parts.items()}
    differences = tuple(
        f"docstrings of {name} have SHA-256 {found[name]}; wanted {sha}"
        for name, sha in expected.items()
        if found[name] != sha
    )
    whole = (SEPARATOR.join(parts[name] for name in names) for names in (TRAINING, HELD_OUT))
    training, held = (np.frombuffer(text, dtype=np.uint8) for text in whole)
    return Corpus(training=training, held_out=held, differences=differences)


def _kept(packages: tuple[str, ...]) -> dict[str, bytes]:
    """Return package -> its part of the corpus, from the user's cache where these very packages were read before.

    Reading them takes seconds and gives the same every time. A file of the cache begins with the hash of its content: a
    damaged one is made anew.
    """
    path, kept = _place(packages), b""
    with suppress(BadInput):  # none there, or none that may be read
        kept = files.read(path)
    if sha256(kept[32:]).digest() == kept[:32]:
        return dict(zip(packages, kept[32:].split(_BETWEEN_PACKAGES), strict=True))
    seen: set[int] = set()
    parts = {package: SEPARATOR.join(_fresh(package, seen)) for package in packages}
    text = _BETWEEN_PACKAGES.join(parts.values())
    with suppress(BadInput):  # a cache that cannot be written is none
        files.write(path, sha256(text).digest() + text)
    return parts


def _place(packages: tuple[str, ...]) -> Path:
    """Return the file of the cache for packages as they lie on the disk, read by this module: changed ones have another."""
    digest = sha256(Path(__file__).read_bytes() + str(sys.version_info[:2]).encode())
    for package in packages:
        for path in _sources(package):
            now = path.stat()
            digest.update(f"\0{package}\0{path.name}\0{now.st_size}\0{now.st_mtime_ns}".encode())
    try:
        folder = user_cache_path("pimllm")
    except RuntimeError:  # a user whom the system does not know, without a home
        folder = Path(os.devnull)  # which holds no files
    return folder / f"docstrings-{digest.hexdigest()[:32]}"


def _fresh(package: str, seen: set[int]) -> Iterator[bytes]:
    """Yield the docstrings of a package that are not mostly known, and remember them."""
    for text in _docstrings(package):
        words = text.split()
        shingles = {hash(" ".join(words[i : i + SHINGLE])) for i in range(max(len(words) - SHINGLE + 1, 1))}
        if len(text) >= SHORTEST and len(shingles & seen) <= MOST_KNOWN * len(shingles):
            yield text.encode("utf-8", errors="replace")
        seen |= shingles


def _docstrings(package: str) -> Iterator[str]:
    for path in _sources(package):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in other people's strings
            todo: list[ast.AST] = [ast.parse(path.read_bytes())]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield (ast.get_docstring(node, clean=True) or "").replace("\0", "")
            inside = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]
            todo += reversed(inside)  # in the order of lines


def _sources(package: str) -> list[Path]:
    """Return an installed package's sources, in the order of their names, without tests and files made at its build."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise BadInput(f"package {package} is not installed; wanted it, since its docstrings are the corpus") from None
    made = ("__config__", "_version", "version")
    every = sorted(found.files or [], key=lambda file: file.as_posix())
    own = (f for f in every if f.suffix == ".py" and not f.name.startswith(made) and "tests" not in f.parts)
    return [Path(str(found.locate_file(file))) for file in own]
