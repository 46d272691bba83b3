"""A text as tokens: its bytes, or what the tokenizer beside a checkpoint makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pimllm_lib.analog.lm import spm
from pimllm_lib.analog.lm.vocabulary import of_gguf
from pimllm_lib.core import files
from pimllm_lib.core.errors import BadInput, clip

#: Where a Hugging Face checkpoint keeps its tokenizer; tokens of a model that reads bytes.
TOKENIZER, PIECES, BYTES = "tokenizer.json", "tokenizer.model", 256


@dataclass(frozen=True)
class Text:
    """Tokens of a text, int64 (tokens,), and how many of its bytes each stands for; name: its file, for messages."""

    name: str
    ids: np.ndarray
    sizes: np.ndarray

    def part(self, start: int, stop: int) -> Text:
        """Return the tokens from start up to stop."""
        return Text(self.name, self.ids[start:stop], self.sizes[start:stop])


def tokens(content: bytes, name: str, folder: Path, vocabulary: int) -> Text:
    """Return a UTF-8 text as tokens of a checkpoint: of its tokenizer.json, tokenizer.model or GGUF file, or bytes where it
    knows 256.

    Raises BadInput for a text that is not UTF-8, for another vocabulary without a tokenizer, for one that is damaged,
    and where the package that reads it is missing.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    packed = folder.suffix == ".gguf" and folder.is_file()
    path = (folder.parent if packed else folder) / TOKENIZER
    if (tokenizer := _of_gguf(folder, path) if packed else None) is not None:
        return Text(name, *_tokenised(text, tokenizer))
    if path.is_file():
        return Text(name, *_tokenised(text, _of_json(path)))
    if (pieces := path.with_name(PIECES)).is_file():
        return Text(name, *_tokenised(text, _of_pieces(pieces)))
    if vocabulary != BYTES:
        what = f"{folder} has a vocabulary of {vocabulary} and no {'tokenizer' if packed else TOKENIZER}"
        raise BadInput(f"{what}; wanted that file{' beside it' if packed else ''}, or the {BYTES} bytes")
    ids = np.frombuffer(content, dtype=np.uint8).astype(np.int64)
    return Text(name, ids, np.ones_like(ids))


def _of_gguf(path: Path, beside: Path) -> Any:
    """Return the tokenizer of a GGUF file; None where it has none, or one that is not known and another lies beside it."""
    try:
        return of_gguf(path, partial(_library, path))
    except BadInput:
        if beside.is_file():
            return None
        raise


def _library(path: Path) -> Any:
    try:
        return import_module("tokenizers")
    except ImportError:
        raise BadInput(f"{path} needs the package tokenizers; wanted pip install 'pimllm[text]'") from None


def _of_json(path: Path) -> Any:
    library = _library(path)
    try:
        return library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no narrower one
        raise BadInput(f"{path} is no tokenizer: {clip(str(error), 100)}") from None


def _of_pieces(path: Path) -> Any:
    found = spm.parsed(files.read(path), str(path))
    library = _library(path)
    try:
        return spm.tokenizer(found, library)
    except Exception as error:
        raise BadInput(f"{path} is no tokenizer: {clip(str(error), 100)}") from None


def _tokenised(text: str, tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and their bytes, without the marks of a start or an end.

    A character in several tokens counts for the first, characters that are in none for the token after them.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    found = tokenizer.encode(text, add_special_tokens=False)
    letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + sum((letters >= first).astype(np.int64) for first in (0x80, 0x800, 0x10000))
    before = np.concatenate([[0], np.cumsum(widths)])
    ends = np.maximum.accumulate(before[np.array([end for _, end in found.offsets], dtype=np.int64)])
    return np.array(found.ids, dtype=np.int64), np.diff(ends, prepend=0)
