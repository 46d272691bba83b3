"""One small model of few-bit weights, written in each layout that such models are published in."""

import json

import numpy as np
from safetensors.numpy import save_file

from pimllm_lib.analog.lm import packing
from pimllm_lib.analog.lm.layout import EMBEDDING, FINAL_NORM, HEAD, Storage, beside, norm, projection, sizes, widths
from pimllm_lib.workload.decoder import Decoder

SHAPE = Decoder(
    name="tiny", d_model=64, d_ff=128, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, vocab_size=64, gated=True,
    tied_embeddings=False,
)  # fmt: skip
TOKENS = np.random.default_rng(1).integers(0, SHAPE.vocab_size, (3, 12))


def ternary(size, rng):
    """Return weights of which exactly half are not zero, so that their mean magnitude is exact."""
    flat = np.repeat(np.array([-1, 0, 0, 1], np.int8), size[0] * size[1] // 4)
    return rng.permutation(flat).reshape(size)


def binary(size, rng):
    return rng.choice(np.array([-1, 1], np.int8), size)


def drawn(shape=SHAPE, seed=0, *, draw=ternary, scales=(1, 1)):
    """Return values (fan_in, fan_out) and scales (groups, fan_out) by name, and the float tensors, exact in float16.

    scales: groups of inputs and of outputs that have a scale each, or inputs in a group where above 16.
    """
    rng, weights = np.random.default_rng(seed), {}
    tables = {HEAD: (shape.d_model, shape.vocab_size), EMBEDDING: (shape.d_model, shape.vocab_size)}
    named = {projection(i, key): size for i in range(shape.n_layers) for key, size in sizes(shape).items()}
    for name, size in (tables | named).items():
        groups = size[0] // scales[0] if scales[0] > 16 else scales[0]
        of = rng.uniform(0.5, 1.5, (groups, scales[1])) * (1.5 / size[0]) ** 0.5
        weights[name] = draw(size, rng), np.repeat(of.astype(np.float16), size[1] // scales[1], axis=1)
    floats = {norm(i, key, Storage()): width for i in range(shape.n_layers) for key, width in widths(shape).items()}
    norms = {name: rng.uniform(0.5, 1.5, width).astype(np.float16) for name, width in floats.items()}
    norms[FINAL_NORM] = np.ones(shape.d_model, np.float16)
    return weights, norms


def numbers(values, scales):
    """Return weights (fan_out, fan_in) as they are, float16."""
    return (values * np.repeat(scales, len(values) // len(scales), axis=0)).T


def save(folder, tensors, shape=SHAPE, **config):
    """Write a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    base = {
        "model_type": "qwen3" if shape.qk_norm else "llama", "hidden_act": "silu", "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff, "num_hidden_layers": shape.n_layers, "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_kv_heads, "head_dim": shape.head_dim, "vocab_size": shape.vocab_size,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": bool(shape.tied_embeddings),
        "attention_bias": False, "max_position_embeddings": 128,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(base | config))
    whole = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def floats_of(weights, names=(EMBEDDING, HEAD)):
    return {name: numbers(*weights[name]) for name in names}


def packed(folder, weights, norms, shape=SHAPE, *, divided, **table):
    """Four weights a byte, with a scale that multiplies or divides."""
    held = norms | floats_of(weights)
    for name, (values, scales) in weights.items():
        if name not in held:
            held[name] = packing.pack(values)
            scale = np.float32(scales[0, 0])
            held[f"{name}_scale"] = np.array([1 / scale if divided else scale])
    return save(folder, held, shape, quantization_config={"quant_method": "bitnet"} | table)


def masters(folder, weights, norms, **config):
    """Numbers whose mean magnitude is the scale, where half are zero."""
    held = norms | floats_of(weights)
    held |= {name: numbers(2 * values, scales) for name, (values, scales) in weights.items() if name not in held}
    return save(folder, held, **config)


def unpacked(folder, weights, norms, shape=SHAPE, **config):
    """Products of value and scale, without a mark."""
    return save(folder, norms | floats_of(weights, weights), shape, **config)


def mlx(folder, weights, norms, shape=SHAPE, *, bits=2, group=32, tables=(), sign=1, **config):
    """Codes with scale and bias; sign: of the scales. tables: which of embedding and head are codes too."""
    held = norms | floats_of(weights, [name for name in (EMBEDDING, HEAD) if name not in tables])
    for name, (values, scales) in weights.items():
        if name in held:
            continue
        one = np.repeat(scales, len(values) // group // len(scales), axis=0).T.astype(np.float16)
        codes = ((values.T + 1) // 2 if bits == 1 else values.T * sign + 1).astype(np.uint32)
        words = codes.reshape(len(codes), -1, 32 // bits) << np.arange(0, 32, bits, dtype=np.uint32)
        held[name] = words.sum(axis=2, dtype=np.uint32)
        held[beside(name, "scales")] = one * np.float16(2 if bits == 1 else sign)
        held[beside(name, "biases")] = one * np.float16(-1 if bits == 1 else -sign)
    return save(folder, held, shape, quantization={"group_size": group, "bits": bits}, **config)
