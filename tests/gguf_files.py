"""GGUF files of a few kilobytes, written by the layout of the format, and the packings of few-bit weights."""

import struct

import numpy as np

from pimllm_lib.catalog.gguf import KINDS, Q2_0, TWO_BITS

NUMBERS = {kind.name: number for number, kind in (KINDS | {TWO_BITS: Q2_0[0]}).items()}
FORMS = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "u64": 10, "i64": 11, "f64": 12}


def text(value):
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(content)) + content


def pair(key, value):
    """Return a key with its value: an int is a u32, a float an f32, a list has the type of its first item."""
    return text(key) + struct.pack("<I", _type(value)) + _packed(value)


def _type(value):
    return {str: 8, bytes: 8, list: 9, tuple: 9, bool: 7, int: 4, float: 6}[type(value)]


def _packed(value):
    if isinstance(value, list | tuple):
        inner = _type(value[0]) if value else 4
        inner = 5 if inner == 4 else inner
        return struct.pack("<IQ", inner, len(value)) + b"".join(_packed(item) for item in value)
    if isinstance(value, str | bytes):
        return text(value)
    return struct.pack(
        {bool: "<?", int: "<I", float: "<f"}[type(value)], value & 0xFFFFFFFF if type(value) is int else value
    )


def file(values, tensors, *, alignment=32, version=3):
    """Return the bytes of a file. values: by key; tensors: name -> (number of the type, shape, bytes)."""
    rows, data = [], b""
    for name, (number, shape, content) in tensors.items():
        rows.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], number, len(data)))
        data += content + b"\0" * (-len(content) % alignment)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    head += b"".join(pair(key, value) for key, value in values.items()) + b"".join(rows)
    return head + b"\0" * (-len(head) % alignment) + data


def packed(name, values, scales):
    """Return weights (outputs, inputs) of -1, 0, 1 with scales (outputs, groups) as a type stores them."""
    if name == "I2_S":
        out = np.einsum("bip,i->bp", values.reshape(-1, 4, 32) + 1, [64, 16, 4, 1]).astype(np.uint8).tobytes()
        return out + struct.pack("<f", float(scales.flat[0])) + b"\0" * 28
    blocks = values.reshape(scales.size, -1).astype(np.int64)
    parts = [scales.reshape(-1, 1).astype("<f2").view(np.uint8), _CODES[name](blocks).astype(np.uint8)]
    return np.hstack(parts if name in ("Q1_0", "Q2_0", "PQ2_0") else parts[::-1]).tobytes()


def _bits(blocks):
    return (blocks > 0).reshape(len(blocks), -1, 8) @ (1 << np.arange(8))


def _pairs(blocks):
    return (blocks + 1).reshape(len(blocks), -1, 4) @ (4 ** np.arange(4))


def _runs_of_pairs(blocks):
    return np.einsum("brip,i->brp", (blocks + 1).reshape(len(blocks), 2, 4, 32), 4 ** np.arange(4)).reshape(
        len(blocks), -1
    )


def _trits(blocks):
    """Return five digits a byte, the first counts most, as a fraction of 256 rounded up; the last bytes have four."""
    runs = {256: ((32, 5), (16, 5), (4, 4)), 128: ((16, 5), (8, 5), (2, 4))}[blocks.shape[1]]
    out, at = [], 0
    for places, digits in runs:
        part = (blocks[:, at : at + places * digits] + 1).reshape(-1, digits, places)
        number = np.einsum("bdp,d->bp", part, 3 ** np.arange(4, 4 - digits, -1))
        out.append(-(-number * 256 // 243))
        at += places * digits
    return np.hstack(out)


_CODES = {"Q1_0": _bits, "Q2_0": _pairs, "PQ2_0": _pairs, "TQ2_0": _runs_of_pairs, "TQ1_0": _trits, "PTQ1_0": _trits}
GROUP = {"Q1_0": 128, "Q2_0": 64, "PQ2_0": 128, "TQ2_0": 256, "TQ1_0": 256, "PTQ1_0": 128}


def drawn(rng, name, shape, zeros=0.4):
    """Return weights of -1, 0 and 1 with that share of zeros exactly, none where the type has none, and their scales."""
    size = int(np.prod(shape))
    none = 0 if name == "Q1_0" else round(zeros * size)
    values = np.concatenate([np.zeros(none, np.int8), rng.choice(np.array([-1, 1], np.int8), size - none)])
    rng.shuffle(values)
    groups = 1 if name == "I2_S" else shape[1] // GROUP[name]
    scales = (
        rng.uniform(0.5, 1.5, (1, 1) if name == "I2_S" else (shape[0], groups)).astype(np.float16).astype(np.float32)
    )
    return values.reshape(shape), scales


def llama_like(rng, shape, name, *, table="F16", tables=None):
    """Return tensors of a decoder with gated FFN, and what they hold: projections of a type, tables in another, norms F32.

    Returns name -> (number, shape, bytes) and name -> (values, scales), or -> floats.
    """
    d, q, kv, ff = (
        int(n) for n in (shape.d_model, shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim, shape.d_ff)
    )
    tensors, held = {}, {}

    def put(key, kind, size):
        if kind in GROUP or kind == "I2_S":
            held[key] = drawn(rng, kind, size)
            content = packed(kind, *held[key])
        else:
            held[key] = rng.normal(0, 0.5, size).astype(np.float16).astype(np.float32)
            content = held[key].astype({"F16": "<f2", "F32": "<f4"}[kind]).tobytes()
        tensors[key] = (NUMBERS[kind], size, content)

    put("token_embd.weight", table, (int(shape.vocab_size), d))
    if not shape.tied_embeddings:
        put("output.weight", table, (int(shape.vocab_size), d))
    put("output_norm.weight", "F32", (d,))
    sizes = {"attn_q": (q, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, q),
             "ffn_gate": (ff, d), "ffn_up": (ff, d), "ffn_down": (d, ff)}  # fmt: skip
    norms = {"attn_norm": d, "ffn_norm": d}
    norms |= {"attn_sub_norm": q, "ffn_sub_norm": ff} if shape.sub_norms else {}
    norms |= {"attn_q_norm": int(shape.head_dim), "attn_k_norm": int(shape.head_dim)} if shape.qk_norm else {}
    for index in range(int(shape.n_layers)):
        for key, size in sizes.items():
            put(f"blk.{index}.{key}.weight", (tables or {}).get(key, name), size)
        for key, width in norms.items():
            put(f"blk.{index}.{key}.weight", "F32", (width,))
    return tensors, held


def metadata(shape, family, **more):
    """Return the keys that converters write for a decoder."""
    sizes = {
        "embedding_length": shape.d_model, "block_count": shape.n_layers, "feed_forward_length": shape.d_ff,
        "attention.head_count": shape.n_heads, "attention.head_count_kv": shape.n_kv_heads,
        "attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim, "context_length": 2048,
    }  # fmt: skip
    floats = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0}
    own = {f"{family}.{key}": value for key, value in (sizes | floats).items()}
    return {"general.architecture": family, "general.name": "tiny"} | own | more
