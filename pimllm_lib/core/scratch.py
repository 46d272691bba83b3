"""Folders for what is made on the way. They go with the run that made them, also where it was killed: the next run finds
them by their name, and by a lock that the system lets go of when a process dies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from pimllm_lib.core import files

#: How their names begin. Earlier versions had others, and no locks: theirs are left alone.
_PREFIX = "pimllm_"
_mine: set[Path] = set()


@contextmanager
def folder(what: str) -> Iterator[Path]:
    """Give a new temporary folder, which is gone afterwards. what: a word for its name."""
    sweep()
    path, handle = _made(what)
    _mine.add(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _mine.discard(path)
        if handle is not None:
            os.close(handle)


def sweep() -> None:
    """Remove the folders of runs that were killed: those of this user that no living process holds."""
    if not hasattr(os, "getuid"):
        return  # no lock on folders there
    for path in Path(gettempdir()).glob(f"{_PREFIX}*"):
        handle = _opened(path)
        if handle is None:
            continue
        try:
            if os.fstat(handle).st_uid == os.getuid() and files.hold(handle):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(handle)


def clear() -> None:
    """Remove the folders of this process, which ends, what it was writing, and the folders of its children, which have."""
    for part in list(files.unfinished):
        with suppress(OSError):
            part.unlink()
    for path in list(_mine):
        shutil.rmtree(path, ignore_errors=True)
    sweep()


def _made(what: str) -> tuple[Path, int | None]:
    """Return a new folder, and what holds it: a sweep that came before the lock has removed it, and another is made."""
    while True:
        path = Path(mkdtemp(prefix=f"{_PREFIX}{what}."))
        handle = _opened(path)
        if handle is not None:
            files.hold(handle, wait=True)
        if path.exists():
            return path, handle


def _opened(path: Path) -> int | None:
    """Return a handle of a folder, None where the system gives none, and for a link."""
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0))
    return None
