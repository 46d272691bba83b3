"""GGUF files: what a header says of a model, and where each tensor lies, without its weights.

The layout is that of the format's specification (docs/gguf.md of ggml). The package `gguf` reads a vocabulary token by
token, 7.9 s and 525 MB for 151,936 of them, and no types of others; here tokens are passed over, and stay on disk.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from typing import Any, TypeVar

from pimllm_lib.core.errors import BadInput, clip

T = TypeVar("T")
MAGIC, VERSIONS = b"GGUF", (2, 3)
#: Bytes of a header that are looked at, at first and at most; most tensors and keys; most items of a list that is kept.
FIRST, LONGEST, MOST, KEYS, KEPT = 1 << 23, 1 << 26, 1 << 16, 1 << 12, 1 << 10
#: The format's number of a plain value -> how its bytes are read; those of texts and lists.
PLAIN = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, LIST = 8, 9


@dataclass(frozen=True)
class Kind:
    """A type of tensors: `size` bytes for `weights` of them, which take `levels` values beside a scale for each `group`.

    levels: 0 where they are floats. tail: bytes after all weights.
    """

    name: str
    weights: int
    size: int
    levels: int = 0
    group: float = 1
    tail: int = 0


def _kinds(*rows: tuple[int, str, int, int, int, int]) -> dict[int, Kind]:
    return {number: Kind(name, *sizes) for number, name, *sizes in rows}


#: Types that files store, by number, of ggml's ggml-common.h. 36 is of microsoft/BitNet, whose scale follows the weights;
#: 142 and 143 are of PrismML-Eng/llama.cpp. Values of a codebook count as they are told apart, shifted ones too.
KINDS = _kinds(
    (0, "F32", 1, 4, 0, 1), (1, "F16", 1, 2, 0, 1), (30, "BF16", 1, 2, 0, 1), (28, "F64", 1, 8, 0, 1),
    (24, "I8", 1, 1, 256, 1), (25, "I16", 1, 2, 1 << 16, 1), (26, "I32", 1, 4, 1 << 32, 1), (27, "I64", 1, 8, 1 << 64, 1),
    (2, "Q4_0", 32, 18, 16, 32), (3, "Q4_1", 32, 20, 16, 32), (6, "Q5_0", 32, 22, 32, 32), (7, "Q5_1", 32, 24, 32, 32),
    (8, "Q8_0", 32, 34, 256, 32), (10, "Q2_K", 256, 84, 4, 16),
    (11, "Q3_K", 256, 110, 8, 16), (12, "Q4_K", 256, 144, 16, 32), (13, "Q5_K", 256, 176, 32, 32),
    (14, "Q6_K", 256, 210, 64, 16), (16, "IQ2_XXS", 256, 66, 8, 32),
    (17, "IQ2_XS", 256, 74, 8, 16), (18, "IQ3_XXS", 256, 98, 16, 32), (19, "IQ1_S", 256, 50, 8, 32),
    (20, "IQ4_NL", 32, 18, 16, 32), (21, "IQ3_S", 256, 110, 16, 32), (22, "IQ2_S", 256, 82, 8, 16),
    (23, "IQ4_XS", 256, 136, 16, 32), (29, "IQ1_M", 256, 56, 8, 16), (34, "TQ1_0", 256, 54, 3, 256),
    (35, "TQ2_0", 256, 66, 3, 256), (39, "MXFP4", 32, 17, 16, 32), (40, "NVFP4", 64, 36, 16, 16),
    (41, "Q1_0", 128, 18, 2, 128), (142, "PQ2_0", 128, 34, 4, 128), (143, "PTQ1_0", 128, 28, 3, 128),
) | {36: Kind("I2_S", 4, 1, 3, inf, tail=32)}  # fmt: skip
#: The number 42 has two layouts: of ggml, and of PrismML's fork before it gave 142 to its own. Sizes tell which.
TWO_BITS, Q2_0 = 42, (Kind("Q2_0", 64, 18, 4, 64), Kind("Q2_0", 128, 34, 4, 128))


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: its file, type and shape (outputs, inputs), and the first of its bytes."""

    name: str
    path: Path
    kind: Kind
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Return how many bytes it takes."""
        return _bytes(self.kind, self.shape)


@dataclass(frozen=True)
class Items:
    """A long list that is left in the file: the type and number of its items, and the first of its bytes."""

    kind: int
    count: int
    start: int


@dataclass(frozen=True)
class Header:
    """What a file says: values by key, short lists as tuples, and its tensors by name."""

    path: Path
    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def family(self) -> str:
        """Return its architecture. Raises BadInput where it has none."""
        found = self.values.get("general.architecture")
        if not isinstance(found, str):
            raise BadInput(f"{self.path}: general.architecture is {clip(found)}; wanted a name such as llama")
        return found

    def value(self, key: str) -> Any:
        """Return the value of a key, with the architecture in front where it names none; None where there is none."""
        return self.values.get(f"{self.family}.{key}", self.values.get(key))


class _Short(Exception):
    """The bytes looked at end within the header."""


class _Bytes:
    """Bytes that are read forward. No number in them says how much memory is taken: it is a part of them."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def plain(self, form: str) -> Any:
        end = self.at + struct.calcsize(form)
        if end > len(self.data):
            raise _Short
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at = end
        return value

    def text(self) -> bytes:
        length = self.plain("<Q")
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise _Short
        return self.data[start : self.at]

    def passed(self, kind: int, count: int) -> None:
        """Pass over the items of a list."""
        if kind in PLAIN:
            self.at += struct.calcsize(PLAIN[kind]) * count
        else:
            data, at, last, unpack = self.data, self.at, len(self.data) - 8, struct.Struct("<Q").unpack_from
            for _ in range(count):  # one that leads beyond the end ends it, however many are said to follow
                if at > last:
                    raise _Short
                at += 8 + unpack(data, at)[0]
            self.at = at
        if self.at > len(self.data):
            raise _Short


def header(path: Path) -> Header:
    """Return the header of a GGUF file.

    Raises BadInput, in one line, for a file that is none or is cut short, one of several parts, a type or version that is
    not known, and tensors that lie outside of the file or on one another.
    """
    return _looked_at(path, lambda data, size: _header(path, _Bytes(data), size))


def texts(found: Header, key: str) -> list[str]:
    """Return a long list of texts that the header left in the file, such as a vocabulary. Raises BadInput for another."""
    items = found.values.get(key)
    if isinstance(items, tuple) and all(isinstance(item, str) for item in items):
        return list(items)
    if not isinstance(items, Items) or items.kind != TEXT:
        raise BadInput(f"{found.path}: {key} is {clip(items)}; wanted a list of texts")
    asked = items

    def read(data: bytes, size: int) -> list[str]:
        at = _Bytes(data, asked.start)
        return [at.text().decode("utf-8", "replace") for _ in range(asked.count)]

    return _looked_at(found.path, read)


def numbers(found: Header, key: str) -> list[float]:
    """Return a list of plain values, whether the header left it in the file or not. Raises BadInput for another."""
    items = found.values.get(key)
    if isinstance(items, tuple) and not any(isinstance(item, str) for item in items):
        return list(items)
    if not isinstance(items, Items) or items.kind not in PLAIN:
        raise BadInput(f"{found.path}: {key} is {clip(items)}; wanted a list of numbers")
    asked = items

    def read(data: bytes, size: int) -> list[float]:
        width = struct.calcsize(PLAIN[asked.kind])
        part = data[asked.start : asked.start + width * asked.count]
        if len(part) < width * asked.count:
            raise _Short
        return [value for (value,) in struct.iter_unpack(PLAIN[asked.kind], part)]

    return _looked_at(found.path, read)


def _looked_at(path: Path, read: Callable[[bytes, int], T]) -> T:
    """Return what `read` makes of the first bytes of a file and its size, of more of them where they end too early."""
    for most in (FIRST, LONGEST):
        try:
            with path.open("rb") as file:
                data, size = file.read(most), path.stat().st_size
        except (OSError, ValueError) as error:  # the latter for a name that no file can have
            raise BadInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        try:
            return read(data, size)
        except _Short:
            if len(data) < most:
                raise BadInput(f"{path} is cut short: its header ends beyond its {len(data)} bytes") from None
    raise BadInput(f"{path} has a header of more than {LONGEST} bytes; wanted one of at most so many")


def _header(path: Path, at: _Bytes, size: int) -> Header:
    if at.data[:4] != MAGIC:
        raise BadInput(f"{path} begins with {clip(at.data[:4])}; wanted {MAGIC!r}, as GGUF files do")
    at.at, version = 8, int.from_bytes(at.data[4:8], "little")
    if version not in VERSIONS:
        big = int.from_bytes(at.data[4:8], "big") in VERSIONS
        what = "is a big-endian GGUF file" if big else f"is of GGUF version {version}"
        raise BadInput(f"{path} {what}; wanted version 2 or 3, little-endian")
    counts = [at.plain("<Q"), at.plain("<Q")]
    for what, count, most in zip(("tensors", "keys"), counts, (MOST, KEYS), strict=True):
        if count > most:
            raise BadInput(f"{path} says it has {count} {what}; wanted at most {most}")
    values = _values(path, at, counts[1])
    rows = [_row(path, at) for _ in range(counts[0])]
    if values.get("split.count", 1) != 1:
        raise BadInput(f"{path} is one of {clip(values['split.count'])} parts; wanted them merged into one file")
    return Header(path, values, _tensors(path, rows, at.at, values.get("general.alignment", 32), size))


def _values(path: Path, at: _Bytes, count: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for _ in range(count):
        key = _decoded(path, at.text())
        if key in values:
            raise BadInput(f"{path} has the key {clip(key)} twice; wanted each once")
        values[key] = _value(path, key, at, at.plain("<I"))
    return values


def _value(path: Path, key: str, at: _Bytes, kind: int) -> Any:
    if kind == TEXT:
        return at.text().decode("utf-8", "replace")
    if kind in PLAIN:
        return at.plain(PLAIN[kind])
    inner, count = (at.plain("<I"), at.plain("<Q")) if kind == LIST else (kind, 0)
    if inner not in PLAIN and inner != TEXT:
        what = "lists in a list" if kind == inner == LIST else f"a value of type {inner}"
        raise BadInput(f"{path}: {clip(key)} has {what}; wanted plain values, texts, or a list of them")
    if count <= KEPT:
        return tuple(_value(path, key, at, inner) for _ in range(count))
    start = at.at
    at.passed(inner, count)
    return Items(inner, count, start)


def _row(path: Path, at: _Bytes) -> tuple[str, tuple[int, ...], int, int]:
    """Return name, shape, number of the type, and place of a tensor."""
    name, dims = _decoded(path, at.text()), at.plain("<I")
    if not 1 <= dims <= 4:
        raise BadInput(f"{path}: {clip(name)} has {dims} dimensions; wanted 1 to 4")
    shape = tuple(at.plain("<Q") for _ in range(dims))[::-1]
    if not all(1 <= n < 1 << 53 for n in shape) or prod(shape) >= 1 << 53:
        raise BadInput(
            f"{path}: {clip(name)} has the shape {clip(list(shape))}; wanted sizes of at least 1, below 2^53"
        )
    return name, shape, at.plain("<I"), at.plain("<Q")


def _decoded(path: Path, text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} has the name {clip(text)}, not UTF-8 at byte {error.start}") from None


def _tensors(
    path: Path, rows: list[tuple[str, tuple[int, ...], int, int]], end: int, alignment: Any, size: int
) -> dict[str, Tensor]:
    """Return tensors by name. Raises BadInput unless they lie in the file, each in its place."""
    if isinstance(alignment, bool) or not isinstance(alignment, int) or not 1 <= alignment <= MOST:
        raise BadInput(f"{path}: general.alignment is {clip(alignment)}; wanted 1 to {MOST}")
    first = -(-end // alignment) * alignment
    places = sorted((first + offset, name, shape, number) for name, shape, number, offset in rows)
    ends = [*(start for start, *_ in places[1:]), *([size] if places else [])]
    two = _two_bits(places, ends, alignment)
    found: dict[str, Tensor] = {}
    for (start, name, shape, number), after in zip(places, ends, strict=True):
        kind = two if number == TWO_BITS else KINDS.get(number)
        what = f"{path}: {clip(name)}"
        if kind is None:
            raise BadInput(f"{what} has the type {number}; wanted one of {_known()}")
        if name in found:
            raise BadInput(f"{what} is there twice; wanted each tensor once")
        if shape[-1] % kind.weights:
            raise BadInput(f"{what} has {shape[-1]} inputs; wanted a multiple of {kind.weights}, as {kind.name} has")
        found[name] = Tensor(name, path, kind, shape, start)
        if (stop := start + found[name].size) > after:
            where = f"the next tensor at {after}" if after < size else f"the file's end at {size}"
            raise BadInput(f"{what}, {kind.name} {list(shape)}, would lie in bytes {start} to {stop}, beyond {where}")
    return found


def _known() -> str:
    return ", ".join(f"{number} {kind.name}" for number, kind in sorted((KINDS | {TWO_BITS: Q2_0[0]}).items()))


def _two_bits(places: list[tuple[int, str, tuple[int, ...], int]], ends: list[int], alignment: int) -> Kind:
    """Return which of the two layouts of the number 42 fills the places of its tensors, ggml's where both do."""
    mine = [(shape, end - start, end) for (start, _, shape, n), end in zip(places, ends, strict=True) if n == TWO_BITS]
    for kind in Q2_0:
        left = [(room - _bytes(kind, shape), end) for shape, room, end in mine if shape[-1] % kind.weights == 0]
        if len(left) == len(mine) and all(rest >= 0 and (rest < alignment or end == ends[-1]) for rest, end in left):
            return kind
    return Q2_0[0]


def _bytes(kind: Kind, shape: tuple[int, ...]) -> int:
    return prod(shape) // kind.weights * kind.size + kind.tail
