"""Checkpoints in the BitNet layout: written and read back, and refused where they are not what they say."""

import json
import math
import os
import struct
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file, save_file

from pimllm_lib.analog.lm import checkpoint, packing, tensors
from pimllm_lib.analog.lm.checkpoint import Block, Matrix
from pimllm_lib.analog.lm.layout import Storage, expected, sizes, widths
from pimllm_lib.catalog.models import from_config
from pimllm_lib.core.errors import BadInput
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.shapes import parameter_count

SHAPE = Decoder(
    name="tiny", d_model=16, d_ff=24, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=4, vocab_size=11, gated=True,
    sub_norms=True, tied_embeddings=False,
)  # fmt: skip
LAYER = "model.layers.0."
GATE = f"{LAYER}mlp.gate_proj.weight"


def a_block(shape, rng, *, ternary=True):
    """Return a block of random weights whose outputs are about as large as its inputs."""
    matrices = {}
    for key, size in sizes(shape).items():
        if ternary:
            values = rng.integers(-1, 2, size, dtype=np.int8)
            matrices[key] = Matrix(values, float(np.float32(rng.uniform(0.5, 1.5) * (1.5 / size[0]) ** 0.5)), True)
        else:
            matrices[key] = Matrix(
                rng.normal(0, size[0] ** -0.5, size).astype(np.float16).astype(np.float32), 1.0, False
            )
    norms = {
        key: rng.uniform(0.5, 1.5, width).astype(np.float16).astype(np.float32) for key, width in widths(shape).items()
    }
    return Block(matrices, norms)


def a_model(shape=SHAPE, seed=0, *, ternary=True):
    """Return what `write` wants of a random model, all of it exact in float16."""
    rng = np.random.default_rng(seed)
    tables = rng.normal(0, 0.5, (2, shape.vocab_size, shape.d_model)).astype(np.float16).astype(np.float32)
    return {
        "embedding": tables[0],
        "blocks": [a_block(shape, rng, ternary=ternary) for _ in range(shape.n_layers)],
        "final_norm": rng.uniform(0.5, 1.5, shape.d_model).astype(np.float16).astype(np.float32),
        "head": None if shape.tied_embeddings else tables[1],
        "theta": 500000.0,
        "eps": 1e-5,
    }


@pytest.fixture
def folder(tmp_path):
    """A small ternary checkpoint."""
    checkpoint.write(tmp_path / "tiny", SHAPE, **a_model())
    return tmp_path / "tiny"


def configure(folder, **changes):
    """Change fields of config.json; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def exchange(folder, **changes):
    """Change tensors by name, with dots written as double underscores; None removes one."""
    path = folder / "model.safetensors"
    held = load_file(path) | {name.replace("__", "."): values for name, values in changes.items()}
    save_file({name: values for name, values in held.items() if values is not None}, path)


def whole_head(read):
    """Return the output head (vocab, d_model)."""
    return np.concatenate([part.values.T for _, part in read.head()])


def everything(read):
    """Load all of a checkpoint."""
    read.embedding(), whole_head(read), read.final_norm()
    return [read.block(index) for index in range(read.decoder.n_layers)]


def raw(path, kinds):
    """Write a safetensors file of any number types: name -> (type, shape, bytes)."""
    entries, data = {}, b""
    for name, (dtype, shape, content) in kinds.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    head = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


# --- packing ---------------------------------------------------------------------------------------------------------


@given(st.tuples(st.integers(1, 9), st.integers(1, 5)).flatmap(
    lambda size: arrays(np.int8, (size[0], 4 * size[1]), elements=st.integers(-1, 1))
))  # fmt: skip
def test_packed_weights_unpack_to_themselves(values):
    packed = packing.pack(values)
    assert packed.shape == (values.shape[1] // 4, values.shape[0])
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packing.unpack(packed), values)


def test_a_byte_holds_one_output_of_each_quarter_as_the_transformers_documentation_works_out():
    packed = np.array([[0b10100001, 0b00011000], [0b10010000, 0b00001010]], np.uint8)
    wanted = [[0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]]
    assert packing.unpack(packed).T.tolist() == wanted
    np.testing.assert_array_equal(packing.pack(np.array(wanted, np.int8).T), packed)


@given(arrays(np.float32, (5, 4), elements=st.floats(-8, 8, width=32)))
def test_master_weights_are_rounded_to_the_nearest_of_three_multiples_of_their_mean_magnitude(weights):
    values, scale = packing.ternarise(weights)
    assert scale == pytest.approx(max(np.abs(weights.astype(float)).mean(), 1e-5), rel=1e-6)
    assert set(values.ravel().tolist()) <= {-1, 0, 1}
    best = np.abs(weights[..., None] - scale * np.array([-1, 0, 1])).min(axis=-1)
    np.testing.assert_allclose(np.abs(weights - scale * values), best, atol=1e-5)


def test_packing_refuses_other_values_and_outputs_that_fill_no_byte():
    with pytest.raises(BadInput, match=r"^w holds 2; wanted -1, 0 and 1$"):
        packing.pack(np.array([[2, 0, 0, 0]], np.int8), "w")
    with pytest.raises(BadInput, match=r"^w has 6 outputs; wanted a multiple of 4"):
        packing.pack(np.zeros((3, 6), np.int8), "w")


# --- what is written is read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("float_dtype", [np.float16, np.float32])
@pytest.mark.parametrize("ternary", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sub_norms", [True, False])
def test_a_model_is_read_as_it_was_written(tmp_path, float_dtype, ternary, tied, sub_norms):
    shape = replace(SHAPE, tied_embeddings=tied, sub_norms=sub_norms)
    model = a_model(shape, ternary=ternary)
    checkpoint.write(tmp_path, shape, **model, float_dtype=float_dtype)
    read = checkpoint.read(tmp_path)
    assert asdict(read.decoder) == asdict(shape)
    assert (read.name, read.rotary.theta, read.eps, read.activation, read.act_bits) == (
        "tiny",
        500000.0,
        1e-5,
        "relu2",
        8,
    )
    np.testing.assert_array_equal(read.embedding(), model["embedding"])
    np.testing.assert_array_equal(whole_head(read), model["embedding"] if tied else model["head"])
    np.testing.assert_array_equal(read.final_norm(), model["final_norm"])
    for got, wanted in zip(everything(read), model["blocks"], strict=True):
        assert got.norms.keys() == wanted.norms.keys()
        for key, gains in wanted.norms.items():
            np.testing.assert_array_equal(got.norms[key], gains)
            assert got.norms[key].dtype == np.float32
        for key, matrix in wanted.matrices.items():
            np.testing.assert_array_equal(got.matrices[key].values, matrix.values)
            assert got.matrices[key].values.dtype == (np.int8 if ternary else np.float32)
            assert (got.matrices[key].scale, got.matrices[key].ternary) == (matrix.scale, ternary)


def test_a_model_is_written_to_the_same_bytes_from_a_list_or_one_block_at_a_time(tmp_path):
    checkpoint.write(tmp_path / "list", SHAPE, **a_model())
    model = a_model()
    checkpoint.write(tmp_path / "stream", SHAPE, **model | {"blocks": (block for block in model["blocks"])})
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "list" / file).read_bytes() == (tmp_path / "stream" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "list").iterdir()) == ["config.json", "model.safetensors"]


def test_the_safetensors_library_reads_what_is_written_and_every_tensor_is_aligned(folder):
    held = load_file(folder / "model.safetensors")
    assert held[GATE].shape == (6, 16)
    assert held[f"{GATE}_scale"].dtype == np.float32
    for tensor in checkpoint.read(folder).source.tensors.values():
        assert tensor.start % {"F32": 4, "F16": 2, "U8": 1}[tensor.dtype] == 0


def test_a_checkpoint_replaces_another_and_a_failed_one_leaves_it(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = a_model(seed=1)
    with pytest.raises(BadInput, match="gets 1 blocks; wanted 2"):
        checkpoint.write(folder, SHAPE, **model | {"blocks": model["blocks"][:1]})
    assert (folder / "model.safetensors").read_bytes() == before
    assert len(list(folder.iterdir())) == 2
    checkpoint.write(folder, SHAPE, **model)
    np.testing.assert_array_equal(checkpoint.read(folder).embedding(), model["embedding"])


def test_a_block_is_read_without_the_rest(folder):
    read = checkpoint.read(folder)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    first = read.block(0)
    touched = bytearray(whole)
    start = read.source.tensors["model.layers.1.mlp.gate_proj.weight"].start
    touched[start] = 0xFF
    path.write_bytes(touched)
    np.testing.assert_array_equal(read.block(0).matrices["gate"].values, first.matrices["gate"].values)
    with pytest.raises(BadInput, match=r"layers\.1\.mlp\.gate_proj\.weight holds the code 3; .*wrong packing"):
        read.block(1)
    with pytest.raises(BadInput, match="block 2 of tiny; wanted 0 to 1"):
        read.block(2)


# --- the other kinds of checkpoints ----------------------------------------------------------------------------------


def test_the_older_linear_class_divides_by_its_scale(folder):
    scale = checkpoint.read(folder).block(0).matrices["gate"].scale
    configure(folder, quantization_config={"quant_method": "bitnet", "linear_class": "bitlinear"})
    assert checkpoint.read(folder).block(0).matrices["gate"].scale == 1 / scale


@pytest.mark.parametrize("older", [True, False])
def test_master_weights_are_made_ternary_when_read(tmp_path, older):
    model = a_model(ternary=False)
    checkpoint.write(tmp_path, SHAPE, **model)
    if older:
        configure(tmp_path, weight_bits=1, input_bits=8, architectures=["BitnetForCausalLM"], model_type="llama",
                  hidden_act="silu")  # fmt: skip
        names = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}
        held = load_file(tmp_path / "model.safetensors")
        for old, new in names.items():
            held = {name.replace(old, new): values for name, values in held.items()}
        save_file(held, tmp_path / "model.safetensors")
    else:
        table = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
        configure(tmp_path, quantization_config=table)
    read = checkpoint.read(tmp_path)
    assert read.activation == ("silu" if older else "relu2")
    for got, wanted in zip(everything(read), model["blocks"], strict=True):
        assert got.norms.keys() == wanted.norms.keys()
        for key, matrix in wanted.matrices.items():
            values, scale = packing.ternarise(matrix.values)
            np.testing.assert_array_equal(got.matrices[key].values, values)
            assert got.matrices[key].ternary
            assert got.matrices[key].scale == scale


def test_bfloat16_is_widened_exactly(folder):
    held = load_file(folder / "model.safetensors")
    kinds = {name: ("U8", values.shape, values.tobytes()) for name, values in held.items() if values.dtype == np.uint8}
    rounded = {}
    for name in held.keys() - kinds.keys():
        upper = (held[name].astype(np.float32).view(np.uint32) >> 16).astype("<u2")
        rounded[name] = (upper.astype(np.uint32) << 16).view(np.float32)
        kinds[name] = "BF16", upper.shape, upper.tobytes()
    raw(folder / "model.safetensors", kinds)
    read = checkpoint.read(folder)
    np.testing.assert_array_equal(read.embedding(), rounded["model.embed_tokens.weight"])
    assert read.block(1).matrices["down"].scale == rounded["model.layers.1.mlp.down_proj.weight_scale"][0]


def shards(folder, *, files=("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
    """Split a checkpoint in two; return its index."""
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: files[i % 2] for i, name in enumerate(sorted(held))}
    for file in files:
        save_file({name: values for name, values in held.items() if places[name] == file}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_shards_are_read_like_one_file(folder):
    whole = everything(checkpoint.read(folder))
    shards(folder)
    for got, wanted in zip(everything(checkpoint.read(folder)), whole, strict=True):
        for key, matrix in wanted.matrices.items():
            np.testing.assert_array_equal(got.matrices[key].values, matrix.values)


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_the_base_of_the_positions_may_stand_in_a_table(folder, key):
    configure(folder, rope_theta=None, **{key: {"rope_type": "default", "rope_theta": 1234.0}})
    assert checkpoint.read(folder).rotary.theta == 1234.0


def test_a_tied_head_may_be_stored_twice_but_not_differ(tmp_path):
    shape = replace(SHAPE, tied_embeddings=True)
    model = a_model(shape)
    checkpoint.write(tmp_path, shape, **model | {"head": model["embedding"].copy()})
    exchange(tmp_path, lm_head__weight=model["embedding"])
    np.testing.assert_array_equal(whole_head(checkpoint.read(tmp_path)), model["embedding"])
    exchange(tmp_path, lm_head__weight=model["embedding"] + 1)
    with pytest.raises(BadInput, match=r"lm_head\.weight differs; wanted them equal"):
        whole_head(checkpoint.read(tmp_path))


def test_a_model_of_two_billion_weights_is_opened_from_its_header_alone(tmp_path):
    table = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
    config = {
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "hidden_size": 2560,
        "intermediate_size": 6912, "num_hidden_layers": 30, "num_attention_heads": 20, "num_key_value_heads": 5,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": True, "vocab_size": 128256, "bos_token_id": 128000,
        "eos_token_id": 128001, "max_position_embeddings": 4096, "quantization_config": table,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    wanted = expected(from_config(tmp_path / "config.json"), Storage("packed"))
    kinds = {name: (dtypes[0], shape) for name, dtypes, shape in wanted}
    tensors.write(tmp_path / "model.safetensors", kinds, [])
    size = sum(math.prod(shape) * (1 if dtype == "U8" else 2) for dtype, shape in kinds.values())
    os.truncate(tmp_path / "model.safetensors", (tmp_path / "model.safetensors").stat().st_size + size)  # a hole
    tracemalloc.start()
    read = checkpoint.read(tmp_path)
    _, opened = tracemalloc.get_traced_memory()
    rows = read.embedding(np.array([[1, 100_000], [1, 2]]))
    _, looked_up = tracemalloc.get_traced_memory()
    _, part = next(read.head())
    _, headed = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part.values.shape == (2560, checkpoint.HEAD_PART // 2560)
    assert headed < 10 * checkpoint.HEAD_PART
    assert rows.shape == (2, 2, 2560)
    assert opened < 8e6
    assert looked_up < 8e6
    assert parameter_count(read.decoder) == 2_412_820_480  # what the unpacked checkpoint of this shape holds


# --- refusals of folders and files -----------------------------------------------------------------------------------


def test_a_missing_folder_and_one_that_holds_no_checkpoint_are_refused(folder, tmp_path):
    with pytest.raises(BadInput, match=r"nowhere does not exist; wanted a GGUF file"):
        checkpoint.read(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"config\.json is a file; wanted a GGUF file"):
        checkpoint.read(folder / "config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"has no model\.safetensors and no model\.safetensors\.index\.json"):
        checkpoint.read(folder)
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"has no config\.json"):
        checkpoint.read(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "a.pt", "a.pth", "a.ckpt"])
def test_pickled_weights_are_refused_unread(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(BadInput, match="holds pickled weights, which can run code; wanted safetensors"):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:5],
        lambda content: b"",
        lambda content: content[:8] + b"?" + content[9:],
        lambda content: struct.pack("<Q", 1 << 60) + content[8:],
        lambda content: struct.pack("<Q", 3) + content[8:],
        lambda content: content.replace(b'"F16"', b'"F99"', 1),
    ],
)
def test_a_damaged_file_is_one_line(folder, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadInput, match=r"model\.safetensors is truncated or no safetensors file: ") as caught:
        checkpoint.read(folder)
    assert "\n" not in str(caught.value)


def test_a_file_that_shrinks_after_it_was_opened_is_refused(folder):
    read = checkpoint.read(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match="wanted the file as it was when first opened"):
        everything(read)
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        read.embedding()


def test_an_index_that_does_not_fit_its_shards_is_refused(folder):
    index = shards(folder)
    good = json.loads(index.read_text())
    first = sorted(good["weight_map"])[0]
    for change, words in (
        ({first: "model-00002-of-00002.safetensors"}, "which model.safetensors.index.json puts in"),
        ({"more": "model-00002-of-00002.safetensors"}, "has no tensor 'more'"),
        ({"more": "model-00003-of-00003.safetensors"}, "which is not there; wanted all shards"),
        ({"more": "../model.safetensors"}, "wanted a .safetensors file beside it"),
        ({"more": "model.bin"}, "wanted a .safetensors file beside it"),
        ({"more": 3}, "wanted a .safetensors file beside it"),
    ):
        index.write_text(json.dumps({"weight_map": good["weight_map"] | change}))
        with pytest.raises(BadInput, match=words.replace(".", r"\.")):
            checkpoint.read(folder)
    for text, words in (("{", "is not JSON"), ("[]", "weight_map is None"), ('{"weight_map": 3}', "weight_map is 3")):
        index.write_text(text)
        with pytest.raises(BadInput, match=words):
            checkpoint.read(folder)


# --- refusals of tensors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        (GATE, np.zeros((6, 15), np.uint8), r"is U8 \[6, 15\]; config\.json wants U8 \[6, 16\]"),
        (GATE, np.zeros((24, 16), np.float16), r"is F16 \[24, 16\]; config\.json wants U8 \[6, 16\]"),
        (f"{GATE}_scale", np.ones(2, np.float16), r"is F16 \[2\]; config\.json wants F16 or BF16 or F32 \[1\]"),
        ("model.embed_tokens.weight", np.ones((11, 16)), r"is F64 \[11, 16\]; config\.json wants F16 or BF16 or F32"),
        (GATE, None, r"has no tensor model\.layers\.0\.mlp\.gate_proj\.weight; wanted U8 \[6, 16\]; nearest: model\."),
        ("model.layers.0.mlp.gate_proj.bias", np.ones(24, np.float16), r"gate_proj\.bias', F16 \[24\]; the layout has no"),
        ("model.layers.2.mlp.up_proj.weight", np.ones((6, 16), np.uint8), r"up_proj\.weight', U8 \[6, 16\]; the layout"),
    ],
)  # fmt: skip
def test_a_tensor_that_is_missing_or_of_another_kind_is_refused_with_both_shapes(folder, name, values, words):
    exchange(folder, **{name: values})
    with pytest.raises(BadInput, match=words):
        checkpoint.read(folder)


def test_a_wrong_packing_is_refused(folder):
    exchange(folder, **{GATE: np.full((6, 16), 0b01_11_01_01, np.uint8)})
    with pytest.raises(BadInput, match=r"gate_proj\.weight holds the code 3; wanted 0, 1 and 2 .*: wrong packing"):
        checkpoint.read(folder).block(0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "lm_head.weight", f"{LAYER}input_layernorm.weight", f"{GATE}_scale"]
)
def test_what_is_no_number_is_refused_where_its_tensor_is_read(folder, name, bad):
    values = load_file(folder / "model.safetensors")[name].copy()
    values.flat[-1] = bad
    exchange(folder, **{name: values})
    read = checkpoint.read(folder)
    with pytest.raises(BadInput, match=f"{name} holds {bad}; wanted finite numbers"):
        everything(read)


@pytest.mark.parametrize("scale", [0.0, -0.0, -0.5])
def test_a_scale_that_is_not_positive_is_refused(folder, scale):
    exchange(folder, **{f"{GATE}_scale": np.array([scale], np.float16)})
    with pytest.raises(BadInput, match=rf"gate_proj\.weight_scale is {scale}; wanted a positive number"):
        checkpoint.read(folder).block(0)


# --- refusals of configurations --------------------------------------------------------------------------------------


LONG = {"type": "longrope", "factor": 2, "short_factor": [1, 1], "long_factor": [2, 4],
        "original_max_position_embeddings": 64}  # fmt: skip


def quantised(**changes):
    table = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"} | changes
    return {"quantization_config": {key: value for key, value in table.items() if value is not None}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (quantised(linear_class="autobitlinaer"), "unknown linear_class .* did you mean 'autobitlinear'"),
        (quantised(linear_class=["bitlinear"]), "unknown linear_class"),
        (quantised(quant_method="awq"), "wanted a table with quant_method bitnet"),
        ({"quantization_config": "bitnet"}, "wanted a table with quant_method bitnet"),
        (quantised(quantization_mode="sometimes"), "quantization_mode of autobitlinear is 'sometimes'"),
        (quantised(linear_class="bitlinear", quantization_mode="online"), "quantization_mode of bitlinear is 'online'"),
        (quantised(use_rms_norm=True), "use_rms_norm is True"),
        (quantised(modules_to_not_convert=["q_proj"]), "modules_to_not_convert is .'q_proj'."),
        ({"weight_bits": 1}, "both quantization_config and weight_bits"),
        ({"weight_bits": 2, "input_bits": 8, "quantization_config": None}, "weight_bits is 2 and input_bits 8; wanted 1"),
        ({"weight_bits": 1, "quantization_config": None}, "weight_bits is 1 and input_bits None; wanted 1 and 8"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; wanted one of relu2, silu"),
        ({"hidden_act": None}, "hidden_act is None"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None; wanted a positive number"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0; wanted a positive number"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan; wanted a positive number"),
        ({"rope_theta": None}, "rope_theta is None; wanted a positive number"),
        ({"rope_theta": True}, "rope_theta is True; wanted a positive number"),
        ({"rope_parameters": {"rope_theta": 3.0}}, r"rope_theta is \[500000.0, 3.0\]; wanted one value"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "factor of yarn positions is None; wanted a positive number"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor is 0; wanted a positive number"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "truncate": True}}, "linear positions with 'truncate'; wanted"),
        ({"rope_scaling": {"type": "lienar"}}, "unknown rope_type 'lienar', did you mean 'linear'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "dynamic"}}, "one of them"),
        ({"rope_scaling": 2.0}, "rope_scaling is 2.0; wanted a table"),
        ({"rope_scaling": LONG | {"short_factor": [1.0] * 3}}, "short_factor is .*; wanted 2 numbers, one a pair"),
        ({"rope_scaling": LONG | {"original_max_position_embeddings": 1}}, "longrope positions is .*; wanted numbers that"),
        ({"rope_scaling": LONG | {"type": "yarn", "truncate": 1}}, "yarn positions with 'long_factor'; wanted factor, orig"),
        ({"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 0.5}}, "partial_rotary_factor is .* wanted 1"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; wanted 1"),
        ({"attention_bias": True}, "linear_bias of tiny is 'attention'; wanted none"),
        ({"mlp_bias": True}, "mlp_bias is True; wanted False"),
        ({"sliding_window": 64}, "sliding_window is 64, which bitnet does not read"),
        ({"num_attention_heads": 3}, "n_kv_heads of tiny"),
        ({"num_attention_heads": 6, "head_dim": None}, "6 heads do not divide the width 16"),
        ({"head_dim": 5}, "head_dim of tiny is 5; wanted an even one"),
        ({"head_dim": 8}, r"attn_sub_norm\.weight is F16 \[16\]; config\.json wants .* \[32\]"),
        ({"hidden_size": 32}, r"embed_tokens\.weight is F16 \[11, 16\]; config\.json wants .* \[11, 32\]"),
        ({"hidden_size": None}, r"embed_tokens\.weight is F16 \[11, 16\]; config\.json wants .* \[11, 2560\]"),
        ({"intermediate_size": 20}, r"ffn_sub_norm\.weight is F16 \[24\]; config\.json wants .* \[20\]"),
        ({"intermediate_size": 22}, r"gate_proj of tiny has 22 outputs; wanted a multiple of 4"),
        ({"num_hidden_layers": 3}, r"has no tensor model\.layers\.2\.input_layernorm\.weight"),
        ({"num_hidden_layers": 2**50}, r"num_hidden_layers is .*; wanted at most \d+ blocks"),
        ({"num_hidden_layers": 1}, r"model\.layers\.1\.input_layernorm\.weight', F16 \[16\]; the layout has no place"),
        ({"vocab_size": "11"}, "vocab_size is '11'; wanted a whole number"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'"),
        ({"model_type": "gpt3", "architectures": None}, "unknown model_type 'gpt3'"),
        ({"model_type": "mistral", "architectures": None}, "model_type is 'mistral'; wanted bitnet, llama"),
    ],
)  # fmt: skip
def test_a_configuration_that_asks_for_something_else_is_refused(folder, changes, words):
    configure(folder, **changes)
    with pytest.raises(BadInput, match=words) as caught:
        checkpoint.read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 5000, '{"model_type": '])
def test_a_configuration_that_is_no_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json (is not JSON|holds)"):
        checkpoint.read(folder)


# --- refusals when writing -------------------------------------------------------------------------------------------


def with_gate(model, **changes):
    """Return the model with another gate in its last block."""
    last = model["blocks"][-1]
    gate = replace(last.matrices["gate"], **changes)
    return model | {"blocks": [*model["blocks"][:-1], Block(last.matrices | {"gate": gate}, last.norms)]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m | {"embedding": m["embedding"][:-1]}, r"embed_tokens\.weight has shape \[10, 16\]; wanted \[11, 16\]"),
        (lambda m: m | {"embedding": m["embedding"] * 1e6}, r"embed_tokens\.weight as F16 holds (-inf|inf); wanted finite"),
        (lambda m: m | {"final_norm": np.full(16, np.nan)}, r"norm\.weight as F16 holds nan"),
        (lambda m: m | {"head": None}, "tiny gets no head; wanted one"),
        (lambda m: m | {"blocks": [*m["blocks"], m["blocks"][0]]}, "tiny gets 3 blocks"),
        (lambda m: m | {"blocks": []}, "tiny gets 0 blocks; wanted 2"),
        (lambda m: m | {"blocks": [Block(b.matrices, {"input": b.norms["input"]}) for b in m["blocks"]]}, "norms .'input'"),
        (lambda m: with_gate(m, scale=0.0), "scale is 0.0; wanted a positive number"),
        (lambda m: with_gate(m, scale=np.inf), "scale is inf; wanted a positive number"),
        (lambda m: with_gate(m, values=np.full((16, 24), 2, np.int8)), r"gate_proj\.weight holds 2; wanted -1, 0 and 1"),
        (lambda m: with_gate(m, values=np.zeros((16, 28), np.int8)), r"gate_proj\.weight has shape \[7, 16\]; wanted \[6,"),
        (lambda m: with_gate(m, ternary=False), "is not ternary; wanted it as those of the first block"),
        (lambda m: m | {"theta": np.nan}, "rope_theta is nan; wanted a positive number"),
        (lambda m: m | {"eps": 0}, "rms_norm_eps is 0.0; wanted a positive number"),
        (lambda m: m | {"float_dtype": np.float64}, "float_dtype is 'float64'; wanted one of float16, float32"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_not_written(tmp_path, change, words):
    with pytest.raises(BadInput, match=words):
        checkpoint.write(tmp_path, SHAPE, **change(a_model()))
    assert not list(tmp_path.iterdir())


def test_a_decoder_that_is_not_modelled_is_not_written(tmp_path):
    with pytest.raises(BadInput, match="gated of tiny is False; wanted True"):
        checkpoint.write(tmp_path, replace(SHAPE, gated=False), **a_model())
    with pytest.raises(BadInput, match="gate_proj of tiny has 22 outputs; wanted a multiple of 4"):
        checkpoint.write(tmp_path, replace(SHAPE, d_ff=22), **a_model(replace(SHAPE, d_ff=22)))
    tied = replace(SHAPE, tied_embeddings=True)
    with pytest.raises(BadInput, match="ties its head to the embedding, and gets another"):
        checkpoint.write(tmp_path, tied, **a_model())


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written: "):
        checkpoint.write(Path(tmp_path / "file" / "below"), SHAPE, **a_model())
