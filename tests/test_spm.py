"""Tokenizers of sentencepiece: parsed from their protocol buffer, and cut as the library sentencepiece does."""

import struct
import sys

import numpy as np
import pytest

from pimllm_lib.analog.lm import spm, text
from pimllm_lib.core.errors import BadInput


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number, value):
    """Return one field of a message: a whole number, a float, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


PIECES = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), *((f"<0x{n:02X}>", 0.0, 6) for n in range(256)),
          ("▁the", -3.0, 1), ("▁t", -1.0, 1), ("he", -2.0, 1), ("<own>", -9.0, 4),
          *((letter, -10.0, 1) for letter in "▁hetx")]  # fmt: skip


def model(pieces=PIECES, *, kind=2, more=b"", normal=b"\x20\x00"):
    listed = (field(1, field(1, word.encode()) + field(2, score) + field(3, of)) for word, score, of in pieces)
    return b"".join(listed) + field(2, field(3, kind) + more) + field(3, normal)


def test_a_vocabulary_is_read_as_it_was_written():
    found = spm.parsed(model(), "t")
    assert [*zip(found.pieces, found.scores, found.kinds, strict=True)] == PIECES
    assert (found.model, found.prefix, found.squeezed, found.charsmap) == (spm.BPE, True, False, b"")
    other = spm.parsed(model(kind=1, normal=field(2, b"map") + field(3, 0)), "t")
    assert (other.model, other.prefix, other.squeezed, other.charsmap) == (spm.UNIGRAM, False, True, b"map")


def test_pieces_are_joined_by_their_scores():
    merges = spm._merges(spm.parsed(model(), "t"))
    assert merges == [("▁", "t"), ("h", "e"), ("▁t", "he")]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "t has 0 pieces; wanted 1 to 1048576"),
        (b"{}", "t is no sentencepiece model, or a damaged one"),
        (model()[:-1], "t is no sentencepiece model"),
        (model()[:40], "t is no sentencepiece model"),
        (field(1, field(1, b"\xff")), "t is no sentencepiece model"),
        (field(1, field(2, 1.0)), "t is no sentencepiece model"),
        (field(1, 3), "t is no sentencepiece model"),
        (b"\x80" * 11, "t is no sentencepiece model"),
        (varint(1 << 3 | 2) + varint(1 << 60) + b"x", "t is no sentencepiece model"),
        (model(kind=3), "t cuts texts otherwise than by unigrams or merges"),
        (model(more=field(24, 1)), "t cuts texts otherwise than by unigrams or merges"),
    ],
)
def test_another_file_is_refused_in_one_line(raw, words):
    with pytest.raises(BadInput, match=words):
        spm.parsed(raw, "t")


def test_the_package_that_cuts_is_named_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.model").write_bytes(model())
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BadInput, match=r"tokenizer\.model needs the package tokenizers; wanted pip install"):
        text.tokens(b"the", "some.txt", tmp_path, 300)


@pytest.mark.torch
def test_a_text_is_cut_by_hand_worked_merges_and_bytes(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(model())
    found = text.tokens("the  hex<own>é".encode(), "some.txt", tmp_path, 300)
    words = [PIECES[i][0] for i in found.ids]
    assert words == ["▁the", "▁", "▁", "he", "x", "<own>", "<0xC3>", "<0xA9>"]
    np.testing.assert_array_equal(found.sizes, [3, 1, 1, 2, 1, 5, 2, 0])


@pytest.mark.torch
@pytest.mark.parametrize("kind", [1, 2])
def test_a_text_that_no_vocabulary_holds_is_unknown_and_counts_all_its_bytes(tmp_path, kind):
    (tmp_path / "tokenizer.model").write_bytes(model([piece for piece in PIECES if piece[2] != 6], kind=kind))
    content = "the théx €".encode()
    found = text.tokens(content, "some.txt", tmp_path, 300)
    assert 0 in found.ids
    assert found.sizes.sum() == len(content)
