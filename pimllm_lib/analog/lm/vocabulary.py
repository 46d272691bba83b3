"""Tokenizers that a GGUF file holds: byte-level BPE by its merges, and pieces of SentencePiece's BPE by their scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pimllm_lib.analog.lm import spm
from pimllm_lib.catalog import gguf
from pimllm_lib.core.errors import BadInput, clip

#: Where the metadata keep it.
KEYS = "tokenizer.ggml."
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Name of how a text is cut before merging -> the expression, None for GPT-2's; single digits of their own; words that are
#: tokens stay whole whatever the merges. Names and what they stand for are those of llama.cpp (llama-vocab.cpp).
CUTS: dict[str, tuple[str | None, bool, bool]] = {
    **dict.fromkeys(("default", "gpt-2", "olmo", "mpt", "phi-2"), (None, False, False)),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1"), (_LLAMA3 % "{1,3}", False, True)),
    "qwen2": (_LLAMA3 % "", False, False),
    **dict.fromkeys(("smollm", "starcoder", "refact"), (None, True, False)),
}  # fmt: skip


def of_gguf(path: Path, load: Callable[[], Any]) -> Any:
    """Return the tokenizer of a GGUF file, made by the package tokenizers, which `load` gives; None where it has none.

    Raises BadInput for a kind, a cut or lists that are not known, and where the package refuses them.
    """
    found = gguf.header(path)
    kind = found.values.get(f"{KEYS}model")
    if kind is None:
        return None
    if kind not in ("gpt2", "llama"):
        raise BadInput(f"{path}: {KEYS}model is {clip(kind)}; wanted gpt2 or llama, or a tokenizer.json beside it")
    words = gguf.texts(found, f"{KEYS}tokens")
    kinds = gguf.numbers(found, f"{KEYS}token_type") if f"{KEYS}token_type" in found.values else [1.0] * len(words)
    if len(kinds) != len(words) or not words:
        raise BadInput(f"{path} has {len(words)} tokens and the kinds of {len(kinds)}; wanted as many, at least 1")
    library = load()
    try:
        return (_byte_level if kind == "gpt2" else _pieces)(found, library, words, kinds)
    except BadInput:
        raise
    except Exception as error:  # the package has no narrower one
        raise BadInput(f"{path}: its tokenizer cannot be made: {clip(str(error), 100)}") from None


def _byte_level(found: gguf.Header, library: Any, words: list[str], kinds: list[float]) -> Any:
    cut = found.values.get(f"{KEYS}pre", "default")
    if not isinstance(cut, str) or cut not in CUTS:
        wanted = f"one of {', '.join(CUTS)}, or a tokenizer.json beside it"
        raise BadInput(f"{found.path}: {KEYS}pre is {clip(cut)}; wanted {wanted}")
    expression, digits, keeps = CUTS[cut]
    merges = [tuple(pair.split(" ", 1)) for pair in gguf.texts(found, f"{KEYS}merges")]
    ids = {word: i for i, word in enumerate(words)}
    made = library.Tokenizer(library.models.BPE(vocab=ids, merges=merges, ignore_merges=keeps))
    cuts = library.pre_tokenizers
    steps = [cuts.Digits(individual_digits=True)] if digits else []
    if expression is not None:
        steps.append(cuts.Split(library.Regex(expression), behavior="isolated"))
    steps.append(cuts.ByteLevel(add_prefix_space=False, use_regex=expression is None))
    made.pre_tokenizer = cuts.Sequence(steps)
    if cut == "qwen2":
        made.normalizer = library.normalizers.NFC()
    for number, add in ((spm.CONTROL, made.add_special_tokens), (spm.DEFINED, made.add_tokens)):
        given = (word for word, kind in zip(words, kinds, strict=True) if kind == number and word)
        add([library.AddedToken(word, normalized=False) for word in given])
    return made


def _pieces(found: gguf.Header, library: Any, words: list[str], kinds: list[float]) -> Any:
    scores = gguf.numbers(found, f"{KEYS}scores")
    if len(scores) != len(words):
        raise BadInput(f"{found.path} has {len(words)} tokens and the scores of {len(scores)}; wanted as many")
    prefix = bool(found.values.get(f"{KEYS}add_space_prefix", True))
    return spm.tokenizer(spm.Vocabulary(words, scores, [int(kind) for kind in kinds], prefix=prefix), library)
