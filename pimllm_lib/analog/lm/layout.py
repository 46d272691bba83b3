"""The Hugging Face layout of decoders with a gated FFN: which tensors there must be, by name, type and shape.

Names are those of the public `transformers` library (models/bitnet, llama, qwen3; integrations/bitnet), of the older code
published with 1bitLLM/bitnet_b1_58, and of MLX, which keeps scales and biases of groups beside packed weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias

from pimllm_lib.analog.lm.packing import packed_rows
from pimllm_lib.analog.lm.tensors import BYTES, FLOATS, WORDS
from pimllm_lib.catalog.headers import Tensor
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.workload.decoder import Decoder

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
PROJECTIONS = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
NORMS = {
    "input": "input_layernorm", "post": "post_attention_layernorm", "query": "self_attn.q_norm", "key": "self_attn.k_norm",
}  # fmt: skip
SUB_NORMS = {"attention": "self_attn.attn_sub_norm", "ffn": "mlp.ffn_sub_norm"}
OLDER_SUB_NORMS = {"attention": "self_attn.inner_attn_ln", "ffn": "mlp.ffn_layernorm"}
#: Name, possible number types and shape of a tensor.
Expected: TypeAlias = tuple[str, tuple[str, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Storage:
    """How projections are stored.

    kind: in full precision; packed as -1, 0, 1 with a scale each; as masters, which are rounded to those; as values of which
    looking finds that they are few; or as codes of MLX, with scale and bias for each group of inputs. divided: whether the
    scale of packed ones divides; bits, group: of a code, and its inputs; tables: which of embedding and head are codes too;
    sub_norms: names of the norms before the two output projections.
    """

    kind: Literal["full", "packed", "masters", "found", "mlx"] = "full"
    divided: bool = False
    bits: int = 0
    group: int = 0
    tables: tuple[str, ...] = ()
    sub_norms: tuple[tuple[str, str], ...] = tuple(SUB_NORMS.items())


def sizes(decoder: Decoder) -> dict[str, tuple[int, int]]:
    """Return (fan_in, fan_out) of each projection of a block."""
    d, ff = int(decoder.d_model), int(decoder.d_ff)
    queries, keys = int(decoder.n_heads * decoder.head_dim), int(decoder.n_kv_heads * decoder.head_dim)
    return {
        "q": (d, queries), "k": (d, keys), "v": (d, keys), "o": (queries, d),
        "gate": (d, ff), "up": (d, ff), "down": (ff, d),
    }  # fmt: skip


def widths(decoder: Decoder) -> dict[str, int]:
    """Return the width of each norm of a block."""
    found = {"input": int(decoder.d_model), "post": int(decoder.d_model)}
    if decoder.sub_norms:
        found |= {"attention": int(decoder.n_heads * decoder.head_dim), "ffn": int(decoder.d_ff)}
    return found | ({"query": int(decoder.head_dim), "key": int(decoder.head_dim)} if decoder.qk_norm else {})


def projection(index: int, key: str) -> str:
    """Return the name of a projection's weights; what belongs to them lies beside, see `beside`."""
    return f"model.layers.{index}.{PROJECTIONS[key]}.weight"


def norm(index: int, key: str, storage: Storage) -> str:
    """Return the name of a norm's gains."""
    return f"model.layers.{index}.{(NORMS | dict(storage.sub_norms))[key]}.weight"


def beside(name: str, what: str) -> str:
    """Return the name of what MLX keeps beside weights: "scales" or "biases"."""
    return f"{name.removesuffix('weight')}{what}"


def expected(decoder: Decoder, storage: Storage) -> Iterator[Expected]:
    """Yield name, possible number types and shape of each tensor. Raises BadInput for sizes that the packing cannot hold."""
    for key, size in sizes(decoder).items():
        list(_weights(f"{PROJECTIONS[key]} of {decoder.name}", *size, storage))
    table = (int(decoder.vocab_size), int(decoder.d_model))
    for name in (EMBEDDING, HEAD) if not decoder.tied_embeddings else (EMBEDDING,):
        yield from _table(name, table, storage)
    yield FINAL_NORM, FLOATS, table[1:]
    for index in range(int(decoder.n_layers)):
        for key, width in widths(decoder).items():
            yield norm(index, key, storage), FLOATS, (width,)
        for key, size in sizes(decoder).items():
            yield from _weights(projection(index, key), *size, storage)


def _table(name: str, shape: tuple[int, int], storage: Storage) -> Iterator[Expected]:
    yield from _weights(name, *shape[::-1], storage) if name in storage.tables else [(name, FLOATS, shape)]


def _weights(name: str, fan_in: int, fan_out: int, storage: Storage) -> Iterator[Expected]:
    """Yield the tensors of one matrix."""
    if storage.kind == "packed":
        yield name, BYTES, (packed_rows(fan_out, name), fan_in)
        yield f"{name}_scale", FLOATS, (1,)
    elif storage.kind == "mlx":
        if fan_in % storage.group or fan_in * storage.bits % 32:
            wanted = f"a multiple of {storage.group}, the group, and of {32 // storage.bits}, as many as a word holds"
            raise BadInput(f"{name} has {fan_in} inputs; wanted {wanted}")
        yield name, WORDS, (fan_out, fan_in * storage.bits // 32)
        for what in ("scales", "biases"):
            yield beside(name, what), FLOATS, (fan_out, fan_in // storage.group)
    else:
        yield name, FLOATS, (fan_out, fan_in)


def require_tensors(folder: Path, found: Mapping[str, Tensor], decoder: Decoder, storage: Storage) -> None:
    """Raise BadInput unless the tensors are those of the layout, each of its type and shape, and no others."""
    wanted = set()
    for name, dtypes, shape in expected(decoder, storage):
        if name not in found:  # the first ends it, however many are asked for
            near = get_close_matches(name, found, n=1, cutoff=0.4)
            hint = f"; nearest: {near[0]}" if near else ""
            raise BadInput(f"{folder} has no tensor {name}; wanted {' or '.join(dtypes)} {list(shape)}{hint}")
        _require_kind(found[name], dtypes, shape)
        wanted.add(name)
    if decoder.tied_embeddings and HEAD in found:  # some converters write the embedding twice
        for name, dtypes, shape in _table(HEAD, (int(decoder.vocab_size), int(decoder.d_model)), storage):
            _require_kind(found[name], dtypes, shape)
            wanted.add(name)
    for name in sorted(found.keys() - wanted):
        got = f"{found[name].dtype} {list(found[name].shape)}"
        raise BadInput(f"{found[name].path} has the tensor {clip(name)}, {got}; the layout has no place for it")


def _require_kind(tensor: Tensor, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    if tensor.dtype not in dtypes or tensor.shape != shape:
        got, wanted = f"{tensor.dtype} {list(tensor.shape)}", f"{' or '.join(dtypes)} {list(shape)}"
        raise BadInput(f"{tensor.path}: {tensor.name} is {got}; config.json wants {wanted}")
