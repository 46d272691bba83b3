"""Software Heritage identifiers, computed from what is on disk: they name content, wherever it is kept.

Source: ISO/IEC 18670 (SWHID 1.2), sections on contents and directories; the hashes are those of Git objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1

from pimllm_lib.core import paths


def content(data: bytes) -> str:
    """Return the identifier of a file's content.

    >>> content(b"")
    'swh:1:cnt:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return f"swh:1:cnt:{_object('blob', data).hex()}"


def directory(files: Mapping[str, bytes]) -> str:
    """Return the identifier of a directory of plain files that nobody executes, given as path -> content."""
    return f"swh:1:dir:{_tree(files).hex()}"


def library() -> str:
    """Return the identifier of the directory `pimllm_lib`, the same from a checkout and from an installed package."""
    return directory({path.relative_to(paths.PACKAGE).as_posix(): path.read_bytes() for path in paths.library()})


def _object(kind: str, data: bytes) -> bytes:
    return sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).digest()


def _tree(files: Mapping[str, bytes]) -> bytes:
    folders: dict[str, dict[str, bytes]] = {}
    entries: dict[bytes, bytes] = {}  # sorted as if a folder's name ended in a slash
    for path, data in files.items():
        first, _, rest = path.partition("/")
        if rest:
            folders.setdefault(first, {})[rest] = data
        else:
            entries[first.encode()] = f"100644 {first}\0".encode() + _object("blob", data)
    for name, inside in folders.items():
        entries[f"{name}/".encode()] = f"40000 {name}\0".encode() + _tree(inside)
    return _object("tree", b"".join(entries[name] for name in sorted(entries)))
