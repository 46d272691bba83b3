"""English technical prose that every install has: the docstrings of the packages the lock pins, never committed.

Read from the installed sources, so the same lock gives the same bytes on every machine; hashes say whether it did. Only
NumPy's part, and of SciPy's what repeats it, is another from Python 3.12 on, where NumPy's wheels leave out distutils; what
is held out is not. Whole packages are held out. A docstring of which much was met before, in its package or another, is left
out, since templates repeat; some turns of phrase remain that both sides share.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, TypeAlias

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
#: Package -> SHA-256 and length of its part of the text.
Parts: TypeAlias = Mapping[str, Sequence[Any]]
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
    text, parts = _kept(tuple(expected))
    differences = tuple(
        f"docstrings of {name} have SHA-256 {parts[name][0]}; wanted {sha}"
        for name, sha in expected.items()
        if parts[name][0] != sha
    )
    learnt = sum(parts[name][1] + len(SEPARATOR) for name in TRAINING)
    whole = np.frombuffer(text, dtype=np.uint8)
    return Corpus(training=whole[: max(learnt - 1, 0)], held_out=whole[learnt:], differences=differences)


def _kept(packages: tuple[str, ...]) -> tuple[memoryview, Parts]:
    """Return the text of packages and its parts, from the user's cache where these very packages were read before.

    Reading them takes seconds and gives the same every time. The first line of a file of the cache says how each source lay
    on the disk, and what each part is: where a source has changed, or the text is damaged, it is made anew.
    """
    path = _place(packages)
    with suppress(BadInput, ValueError, KeyError, TypeError, OSError):  # none there, none that may be read, or any text
        line, text = _divided(files.read(path))
        said = json.loads(bytes(line))
        if said["sources"] == _lying(said["sources"]) and said["parts"] == _parts(text, said["parts"]):
            return text, said["parts"]
    seen: set[int] = set()
    fresh = {package: SEPARATOR.join(_fresh(package, seen)) for package in packages}
    text = memoryview(SEPARATOR.join(fresh.values()))
    parts = _parts(text, {package: ("", len(part)) for package, part in fresh.items()})
    sources = _lying(str(path) for package in packages for path in _sources(package))
    with suppress(BadInput):  # a cache that cannot be written is none
        files.write(path, json.dumps({"sources": sources, "parts": parts}).encode() + b"\n" + text)
    return text, parts


def _divided(content: bytes) -> tuple[memoryview, memoryview]:
    """Return the first line and the rest, not copied."""
    end = content.index(b"\n")
    return memoryview(content)[:end], memoryview(content)[end + 1 :]


def _lying(sources: Iterable[str]) -> dict[str, list[int]]:
    """Return the size of each file, and when it was changed."""
    return {path: [(now := os.stat(path)).st_size, now.st_mtime_ns] for path in sources}


def _parts(text: memoryview, lengths: Parts) -> Parts:
    """Return the hash and length of each package's part of a text, given the lengths."""
    found, start = {}, 0
    for package, (_, length) in lengths.items():
        found[package] = [sha256(text[start : start + length]).hexdigest(), length]
        start += length + len(SEPARATOR)
    return found


def _place(packages: tuple[str, ...]) -> Path:
    """Return the file of the cache for packages as they were installed where they are, read by this module."""
    digest = sha256(Path(__file__).read_bytes() + str(sys.version_info[:2]).encode())
    for package in packages:
        digest.update(f"\0{package}\0{_listing(package)}".encode())
    try:
        folder = user_cache_path("pimllm")
    except RuntimeError:  # a user whom the system does not know, without a home
        folder = Path(os.devnull)  # which holds no files
    return folder / f"docstrings-{digest.hexdigest()[:32]}"


def _listing(package: str) -> str:
    """Return where a package is, and what its installation lists, with hashes."""
    found = _installed(package)
    return f"{found.locate_file('')}\0{found.read_text('RECORD') or found.version}"


def _installed(package: str) -> Distribution:
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise BadInput(f"package {package} is not installed; wanted it, since its docstrings are the corpus") from None


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
    found = _installed(package)
    made = ("__config__", "_version", "version")
    every = sorted(found.files or [], key=lambda file: file.as_posix())
    own = (f for f in every if f.suffix == ".py" and not f.name.startswith(made) and "tests" not in f.parts)
    return [Path(str(found.locate_file(file))) for file in own]
