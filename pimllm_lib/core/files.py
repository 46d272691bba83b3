"""Files that are whole or not there: written beside their place, brought to disk, then renamed into it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.plain import levels

#: How long a run waits for another one to finish putting its files in place; that takes milliseconds.
PATIENCE_S = 60
LOCK = ".lock"
#: Files are read whole, so that one and what is made of it lie in 2 GiB of memory; a longer one is refused unread.
LONGEST = 512 << 20
#: What we write as JSON is flat; far below this depth Python takes and prints anything.
_DEEPEST = 64
#: What this process is writing, under the names that files have until they are whole.
unfinished: set[Path] = set()


def write(path: Path, content: bytes) -> Path:
    """Write a file so that a reader, or a machine that loses power, has the old content or the new one. Returns the path.

    Raises BadInput when it cannot be written; the old file then stays.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part") if path.name else path
    try:
        _require_plain(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.add(scratch)
        try:
            with _opened(scratch) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
            unfinished.discard(scratch)
        _sync_folder(path.parent)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def _opened(scratch: Path) -> BinaryIO:
    """Open a new file, held: a sweep that came before the lock has removed it, and it is opened again."""
    while True:
        file = scratch.open("wb")
        hold(file.fileno(), wait=True)
        if scratch.exists():
            return file
        file.close()


def hold(handle: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder for as long as this process lives, where the system can. Returns whether it is ours.

    wait: for another process to let go of it.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock

        flock(handle, LOCK_EX if wait else LOCK_EX | LOCK_NB)
    except (ImportError, OSError):  # Windows has none, some network drives neither
        return False
    return True


def sweep(paths: Iterable[Path]) -> None:
    """Remove what runs that were killed left of these files, not what others write. A name of "*" is all of a folder."""
    for path in paths:
        start = "." if path.name == "*" else f".{path.name}."
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        for left in [one for one in beside if one.name.startswith(start) and one.suffix == ".part"]:
            with suppress(OSError), left.open("rb") as file:
                if hold(file.fileno()):
                    left.unlink(missing_ok=True)


def _require_plain(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} cannot be written: it is a folder or a device; wanted the name of a file")


def require_file(path: Path) -> Path:
    """Return the path of a file that can be written. Raises BadInput for another, before the work whose result it takes."""
    _require_plain(path)
    require_folder(path.parent, path)
    return path


def require_folder(folder: Path, path: Path | None = None) -> Path:
    """Return a folder that can take files, there or yet to be made. Raises BadInput for another, naming `path` if given."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        with TemporaryFile(dir=there):  # permissions tell root nothing, nor of a disk that takes no files
            return folder
    except OSError as error:
        raise BadInput(f"{path or folder} cannot be written: {error.strerror or error}") from None


def _sync_folder(folder: Path) -> None:
    """Bring a renaming to disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(path: Path, *, limit: int | None = LONGEST) -> bytes:
    """Return the content of a file. Raises BadInput when it is missing, no plain file, or longer than `limit` bytes."""
    try:
        if not path.is_file():
            raise BadInput(f"{path} {'is not a file' if path.exists() else 'does not exist'}; wanted a file")
        if limit is not None and path.stat().st_size > limit:
            raise BadInput(f"{path} has {path.stat().st_size} bytes; wanted at most {limit}")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def from_json(text: str | bytes) -> Any:
    """Return what a JSON text says. Raises ValueError for what is none or is nested deeper than anything of ours."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if any(depth >= _DEEPEST for depth, _ in enumerate(levels(content))):
        raise ValueError("nested too deeply")
    return content


def hash_of(content: bytes | Path) -> str:
    """Return the SHA-256 of some bytes, or of a file of any size, in hexadecimal.

    Raises BadInput for a file that cannot be read.
    """
    if isinstance(content, bytes):
        return sha256(content).hexdigest()
    try:
        with content.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{content} cannot be read: {error.strerror or error}") from None


def below(name: object) -> str:
    """Return a file name. Raises BadInput for one that could lead out of its folder, in any system's spelling.

    >>> below("../secret")
    Traceback (most recent call last):
    pimllm_lib.core.errors.BadInput: the file name '../secret' leaves its folder; wanted a name below it
    """
    plain = isinstance(name, str) and name == str(PurePosixPath(name)) and name.isprintable()
    parts = PurePosixPath(str(name)).parts
    if not plain or not parts or ".." in parts or parts[0] == "/" or set(str(name)) & set("\\:"):
        raise BadInput(f"the file name {clip(name)} leaves its folder; wanted a name below it")
    return str(name)


def inside(folder: Path, name: object) -> Path:
    """Return `folder/name`. Raises BadInput for a name that leads out of the folder, also by way of a symbolic link."""
    path = folder / below(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"the file name {clip(name)} leaves its folder; wanted a name below it")
    return path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other runs while files are put in place. The system lets go of it when a process dies."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=PATIENCE_S)
        lock.acquire()
    except Timeout:
        raise BadInput(f"another run has held {folder} for {PATIENCE_S} s; wanted it to finish first") from None
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
