"""Tokenizers of sentencepiece: what a tokenizer.model holds, made into a tokenizer of the package `tokenizers`.

Such a file is a protocol buffer. Numbers of its fields are those of sentencepiece_model.proto in the public sentencepiece
repository; how messages are written is the encoding that protobuf.dev documents.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pimllm_lib.core.errors import BadInput

#: Kinds of pieces: words of the text, the unknown one, marks that no text has, words that are never cut, unused ones, bytes.
NORMAL, UNKNOWN, CONTROL, DEFINED, UNUSED, BYTE = range(1, 7)
#: Kinds of models that are read; most pieces; what stands for a space.
UNIGRAM, BPE, MOST, SPACE = 1, 2, 1 << 20, "▁"


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary. pieces, scores, kinds: of each token, by its number; model: how a text is cut; prefix: whether a space
    precedes it; squeezed: whether spaces at its ends, and all but one between words, go; charsmap: what else is normalised,
    as sentencepiece compiles it.
    """

    pieces: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]
    model: int = BPE
    prefix: bool = True
    squeezed: bool = False
    charsmap: bytes = b""


def parsed(raw: bytes, what: str) -> Vocabulary:
    """Return what a tokenizer.model holds. Raises BadInput for a file that is none, and for what is not read here."""
    rows, found = list[tuple[str, float, int]](), Vocabulary((), (), (), UNIGRAM, squeezed=True)
    try:
        for number, value in _fields(raw):
            of = dict(_fields(value)) if number <= 3 else {}
            if number == 1:
                rows.append((of[1].decode("utf-8"), struct.unpack("<f", of.get(2, bytes(4)))[0], of.get(3, NORMAL)))
            elif number == 2:
                found = replace(found, model=-1 if of.get(24) else of.get(3, UNIGRAM))
            elif number == 3:
                found = replace(found, charsmap=of.get(2, b""), prefix=bool(of.get(3, 1)), squeezed=bool(of.get(4, 1)))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise BadInput(f"{what} is no sentencepiece model, or a damaged one") from None
    if found.model not in (UNIGRAM, BPE):
        raise BadInput(
            f"{what} cuts texts otherwise than by unigrams or merges, or at spaces behind words; wanted those"
        )
    if not 0 < len(rows) <= MOST:
        raise BadInput(f"{what} has {len(rows)} pieces; wanted 1 to {MOST}")
    pieces, scores, kinds = zip(*rows, strict=True)
    return replace(found, pieces=pieces, scores=scores, kinds=kinds)


def _fields(raw: Any) -> Iterator[tuple[int, Any]]:
    """Yield number and content of each field of a message. Raises ValueError where it ends within one."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(raw, at)
            yield key >> 3, value
            continue
        size, at = _varint(raw, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if size > len(raw) - at:
            raise ValueError(size)
        yield key >> 3, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(raw):
            break
        value, at = value | (raw[at] & 127) << shift, at + 1
        if raw[at - 1] < 128:
            return value, at
    raise ValueError(at)


def tokenizer(of: Vocabulary, library: Any) -> Any:
    """Return a tokenizer of the package `tokenizers`, which is given, that cuts texts as sentencepiece does.

    Marks such as that of a start are not looked for in a text. Where some pieces are never cut, spaces at the ends of a text
    may give one token more or fewer than sentencepiece does.
    """
    unknown = next((i for i, kind in enumerate(of.kinds) if kind == UNKNOWN), None)
    fallback = BYTE in of.kinds
    if of.model == UNIGRAM:
        of_text = [piece if kind != CONTROL else f"\0{piece}" for piece, kind in zip(of.pieces, of.kinds, strict=True)]
        model = library.models.Unigram(list(zip(of_text, of.scores, strict=True)), unknown, fallback)
    else:
        names = {
            "unk_token": None if unknown is None else of.pieces[unknown],
            "fuse_unk": True,
            "byte_fallback": fallback,
        }
        model = library.models.BPE({piece: i for i, piece in enumerate(of.pieces)}, _merges(of), **names)
    made = library.Tokenizer(model)
    defined = [piece for piece, kind in zip(of.pieces, of.kinds, strict=True) if kind == DEFINED]
    steps = [library.normalizers.Precompiled(of.charsmap)] if of.charsmap else []
    if of.squeezed:  # ends of the text are not those of what lies between pieces
        spaces = [(" {2,}", " ")] if defined else [(r"\A +| +\z", ""), (" {2,}", " ")]
        steps += [library.normalizers.Replace(library.Regex(what), by) for what, by in spaces]
    if of.prefix and defined:  # what precedes the text alone, and not what follows each such piece
        made.pre_tokenizer = library.pre_tokenizers.Metaspace(SPACE, prepend_scheme="first", split=False)
    elif of.prefix:
        steps += [library.normalizers.Prepend(SPACE)]
    made.normalizer = library.normalizers.Sequence([*steps, library.normalizers.Replace(" ", SPACE)])
    made.add_tokens([library.AddedToken(piece, normalized=False) for piece in defined])
    return made


def _merges(of: Vocabulary) -> list[tuple[str, str]]:
    """Return pairs of pieces that make another, the best first: sentencepiece joins whatever makes a piece, by its score."""
    usual = {piece: i for i, (piece, kind) in enumerate(zip(of.pieces, of.kinds, strict=True)) if kind == NORMAL}
    found = []
    for piece, number in usual.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in usual and right in usual:
                found.append((-of.scores[number], number, left, right))
    return [(left, right) for *_, left, right in sorted(found)]
