"""The Hugging Face layout of BitNet checkpoints: which tensors there must be, by name, number type and shape.

Names are those of the public `transformers` library (models/bitnet and integrations/bitnet), and of the older code published
with 1bitLLM/bitnet_b1_58.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pimllm_lib.analog.lm.packing import packed_rows
from pimllm_lib.analog.lm.tensors import BYTES, FLOATS, Tensor
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.workload.decoder import Decoder

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
PROJECTIONS = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
NORMS = {"input": "input_layernorm", "post": "post_attention_layernorm"}
SUB_NORMS = {"attention": "self_attn.attn_sub_norm", "ffn": "mlp.ffn_sub_norm"}
OLDER_SUB_NORMS = {"attention": "self_attn.inner_attn_ln", "ffn": "mlp.ffn_layernorm"}


@dataclass(frozen=True)
class Storage:
    """How projections are stored.

    ternary: whether they compute as -1, 0, 1 with a scale; packed: whether they are stored so, rather than as master
    weights; divided: whether weight_scale divides; sub_norms: names of the norms before the two output projections.
    """

    ternary: bool
    packed: bool = False
    divided: bool = False
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
    inner = {"attention": int(decoder.n_heads * decoder.head_dim), "ffn": int(decoder.d_ff)}
    return {"input": int(decoder.d_model), "post": int(decoder.d_model)} | (inner if decoder.sub_norms else {})


def projection(index: int, key: str) -> str:
    """Return the name of a projection's weights; its scale is called `_scale` beside it."""
    return f"model.layers.{index}.{PROJECTIONS[key]}.weight"


def norm(index: int, key: str, storage: Storage) -> str:
    """Return the name of a norm's gains."""
    return f"model.layers.{index}.{(NORMS | dict(storage.sub_norms))[key]}.weight"


def expected(decoder: Decoder, storage: Storage) -> Iterator[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Yield name, possible number types and shape of each tensor that must be there.

    Raises BadInput where a packed projection has outputs that fill no byte.
    """
    for key, (_, fan_out) in sizes(decoder).items() if storage.packed else ():
        packed_rows(fan_out, f"{PROJECTIONS[key]} of {decoder.name}")
    table = (int(decoder.vocab_size), int(decoder.d_model))
    yield EMBEDDING, FLOATS, table
    yield FINAL_NORM, FLOATS, table[1:]
    if not decoder.tied_embeddings:
        yield HEAD, FLOATS, table
    for index in range(int(decoder.n_layers)):
        for key, width in widths(decoder).items():
            yield norm(index, key, storage), FLOATS, (width,)
        for key, (fan_in, fan_out) in sizes(decoder).items():
            name = projection(index, key)
            if storage.packed:
                yield name, BYTES, (packed_rows(fan_out, key), fan_in)
                yield f"{name}_scale", FLOATS, (1,)
            else:
                yield name, FLOATS, (fan_out, fan_in)


def require(folder: Path, found: Mapping[str, Tensor], decoder: Decoder, storage: Storage) -> None:
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
        _require_kind(found[HEAD], FLOATS, (int(decoder.vocab_size), int(decoder.d_model)))
        wanted.add(HEAD)
    for name in sorted(found.keys() - wanted):
        got = f"{found[name].dtype} {list(found[name].shape)}"
        raise BadInput(f"{found[name].path} has the tensor {clip(name)}, {got}; the layout has no place for it")


def _require_kind(tensor: Tensor, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    if tensor.dtype not in dtypes or tensor.shape != shape:
        got, wanted = f"{tensor.dtype} {list(tensor.shape)}", f"{' or '.join(dtypes)} {list(shape)}"
        raise BadInput(f"{tensor.path}: {tensor.name} is {got}; config.json wants {wanted}")
