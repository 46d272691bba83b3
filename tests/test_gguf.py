"""GGUF files: what their headers say, their weights bit by bit, and what is refused in one line."""

import itertools
import json
import math
import struct
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import gguf_files as files
import layouts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pimllm_lib import catalog
from pimllm_lib.analog.lm import blocks, checkpoint, described, gguf_weights, language, vocabulary
from pimllm_lib.analog.lm.rotary import Rotary, rotation
from pimllm_lib.analog.lm.text import tokens
from pimllm_lib.catalog import families, gguf, gguf_models
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.workload.decoder import Decoder

SHAPE = Decoder(
    name="tiny", d_model=256, d_ff=512, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=64, vocab_size=300, gated=True,
    tied_embeddings=False,
)  # fmt: skip
QWEN, BITNET = replace(SHAPE, qk_norm=True), replace(SHAPE, sub_norms=True, tied_embeddings=True)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux does")


def written(tmp_path, shape=SHAPE, family="llama", name="TQ2_0", *, seed=0, more=None, **options):
    """Write a model. Returns its path, and what its tensors hold."""
    tensors, held = files.llama_like(np.random.default_rng(seed), shape, name, **options)
    path = tmp_path / "tiny.gguf"
    path.write_bytes(files.file(files.metadata(shape, family, **(more or {})), tensors))
    return path, held


# --- headers ---------------------------------------------------------------------------------------------------------


def test_a_header_has_values_and_places_of_tensors(tmp_path):
    many = [f"token {i}" for i in range(2000)]
    values = {
        "general.architecture": "x",
        "a.flag": True,
        "a.list": [1, 2, 3],
        "a.many": many,
        "a.float": 0.5,
        "x.y": 7,
    }
    tensors = {"one": (0, (2, 3), np.arange(6, dtype="<f4").tobytes()), "two": (41, (3, 256), bytes(range(108)))}
    (tmp_path / "x.gguf").write_bytes(files.file(values, tensors))
    found = gguf.header(tmp_path / "x.gguf")
    assert {key: value for key, value in found.values.items() if key != "a.many"} == {
        "general.architecture": "x", "a.flag": True, "a.list": (1, 2, 3), "a.float": 0.5, "x.y": 7
    }  # fmt: skip
    assert found.value("y") == found.value("x.y") == 7
    assert gguf.texts(found, "a.many") == many
    assert gguf.numbers(found, "a.list") == [1, 2, 3]
    content = (tmp_path / "x.gguf").read_bytes()
    for name, (number, shape, held) in tensors.items():
        tensor = found.tensors[name]
        assert (tensor.kind, tensor.shape) == (gguf.KINDS[number], shape)
        assert content[tensor.start : tensor.start + tensor.size] == held


@LINUX
def test_a_file_of_two_gigabytes_with_a_vocabulary_takes_200_megabytes_to_read(tmp_path):
    """The model of 8 billion weights is a sparse file, which has the size and takes no place."""
    shape = replace(
        QWEN, d_model=4096, d_ff=12288, n_layers=36, n_heads=32, n_kv_heads=8, head_dim=128, vocab_size=151936
    )
    sizes = [(f"blk.{i}.{key}.weight", n) for i in range(36) for key, n in (
        ("attn_q", (4096, 4096)), ("attn_k", (1024, 4096)), ("attn_v", (1024, 4096)), ("attn_output", (4096, 4096)),
        ("ffn_gate", (12288, 4096)), ("ffn_up", (12288, 4096)), ("ffn_down", (4096, 12288)))]  # fmt: skip
    sizes += [("token_embd.weight", (151936, 4096)), ("output.weight", (151936, 4096))]
    words = {f"tokenizer.ggml.{key}": [f"{key}{i:06}" for i in range(151936)] for key in ("tokens", "merges")}
    path, at, rows = tmp_path / "big.gguf", 0, b""
    for name, (n, k) in sizes:
        rows += files.text(name) + struct.pack("<I2QIQ", 2, k, n, 35, at)
        at += n * k // 256 * 66
    values = files.metadata(shape, "qwen3", **words)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(sizes), len(values))
    head += b"".join(files.pair(key, value) for key, value in values.items()) + rows
    with path.open("wb") as out:
        out.write(head)
        out.truncate(-(-len(head) // 32) * 32 + at)
    assert path.stat().st_size > 2e9
    code = (
        "import pathlib, re, sys; from pimllm_lib import catalog; made = catalog.model(sys.argv[1])\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())\n"
        "print(made.n_layers, int(peak[1]) / 1e3)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    layers, megabytes = (float(word) for word in ran.stdout.split())
    assert layers == 36
    assert megabytes < 200


def changed(content, at, new):
    return content[:at] + new + content[at + len(new) :]


GOOD = files.file(files.metadata(SHAPE, "llama"), {"one": (0, (2, 3), b"\0" * 24), "two": (41, (1, 128), b"\0" * 18)})


def a_header(tensors=1, keys=0, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest


def a_row(name="one", shape=(4,), number=0, offset=0):
    return files.text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, offset)


@pytest.mark.adversity
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with b''; wanted b'GGUF'"),
        (b"PK\3\4" + GOOD[4:], r"begins with b'PK\x03\x04'; wanted b'GGUF'"),
        (GOOD[:3], "begins with b'GGU'; wanted"),
        (GOOD[:20], "is cut short: its header ends beyond its 20 bytes"),
        (GOOD[:200], "is cut short: its header ends beyond its 200 bytes"),
        (GOOD[:-40], "'two', Q1_0 [1, 128], would lie in bytes"),
        (changed(GOOD, 4, struct.pack("<I", 1)), "is of GGUF version 1; wanted version 2 or 3"),
        (changed(GOOD, 4, struct.pack(">I", 3)), "is a big-endian GGUF file; wanted version 2 or 3"),
        (changed(GOOD, 8, struct.pack("<Q", 2**63)), "says it has 9223372036854775808 tensors; wanted at most 65536"),
        (changed(GOOD, 16, struct.pack("<Q", 2**64 - 1)), "says it has 18446744073709551615 keys; wanted at most 4096"),
        (a_header(0, 1, struct.pack("<Q", 2**63)), "is cut short"),
        (a_header(0, 1, files.text("a") + struct.pack("<IIQ", 9, 8, 2**62)), "is cut short"),
        (a_header(0, 1, files.text("a") + struct.pack("<IIQ", 9, 10, 2**62)), "is cut short"),
        (a_header(0, 1, files.text("a") + struct.pack("<IIQ", 9, 9, 1) + b"\0" * 99), "'a' has lists in a list; wanted"),
        (a_header(0, 1, files.text("a") + struct.pack("<I", 77)), "'a' has a value of type 77; wanted plain values"),
        (a_header(0, 2, files.pair("a", 1) * 2), "has the key 'a' twice; wanted each once"),
        (a_header(0, 1, files.text(b"\xff") + b"\0" * 99), r"has the name b'\xff', not UTF-8 at byte 0"),
        (a_header(1, 0, a_row(number=99) + b"\0" * 99), "'one' has the type 99; wanted one of 0 F32, 1 F16"),
        (a_header(1, 0, a_row(shape=(1,) * 5) + b"\0" * 99), "'one' has 5 dimensions; wanted 1 to 4"),
        (a_header(1, 0, a_row(shape=()) + b"\0" * 99), "'one' has 0 dimensions; wanted 1 to 4"),
        (a_header(1, 0, a_row(shape=(4, 0)) + b"\0" * 99), "'one' has the shape [0, 4]; wanted sizes of at least 1"),
        (a_header(1, 0, a_row(shape=(2**32,) * 2) + b"\0" * 99), "wanted sizes of at least 1, below 2^53"),
        (a_header(1, 0, a_row(shape=(2**40,)) + b"\0" * 99), "beyond the file's end at"),
        (a_header(1, 0, a_row(offset=2**62) + b"\0" * 99), "would lie in bytes"),
        (a_header(1, 0, a_row(shape=(100,), number=41) + b"\0" * 99), "'one' has 100 inputs; wanted a multiple of 128"),
        (a_header(2, 0, a_row() + a_row("two") + b"\0" * 99), "beyond the next tensor at"),
        (a_header(2, 0, a_row() + a_row(offset=32) + b"\0" * 99), "'one' is there twice; wanted each tensor once"),
        (files.file({"general.alignment": 0}, {}), "general.alignment is 0; wanted 1 to 65536"),
        (files.file({"split.count": 3}, {}), "is one of 3 parts; wanted them merged into one file"),
        (files.file({}, {}), "general.architecture is None; wanted a name such as llama"),
        (files.file({"general.architecture": "mambo"}, {}), "has the architecture 'mambo'; wanted one of llama, "),
        (files.file({"general.architecture": "mambo"}, {}), "for another, its sizes as a TOML model: d_model, d_ff"),
        (files.file({"general.architecture": "llama"}, {}), "has no tensor token_embd.weight; wanted a language model"),
        (files.file({"general.architecture": "llama"}, {"token_embd.weight": (0, (1, 8), b"\0" * 32)}), "has no llama.emb"),
    ],
)  # fmt: skip
def test_what_is_no_whole_file_is_refused_in_one_line(content, words, tmp_path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(BadInput) as refused:
        catalog.model(path)
    assert words in str(refused.value)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.adversity
def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"none.gguf cannot be read: No such file"):
        catalog.model("./none.gguf")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(BadInput, match=r"config.json"):
        catalog.model(tmp_path / "folder.gguf")


# --- models ----------------------------------------------------------------------------------------------------------


def tables(levels):
    return {"head_levels": levels, "embedding_levels": levels}


@pytest.mark.parametrize(
    ("shape", "family", "name", "options", "fields"),
    [
        (SHAPE, "llama", "TQ2_0", {}, {"levels": 3, "scale_group": 256, "head_levels": 256, "dense": ()}),
        (QWEN, "qwen3", "Q1_0", {"table": "Q1_0"}, {"levels": 2, "scale_group": 128} | tables(2)),
        (QWEN, "qwen3", "Q2_0", {"table": "Q2_0"}, {"levels": 3, "scale_group": 64} | tables(3)),
        (BITNET, "bitnet-b1.58", "I2_S", {}, {"levels": 3, "scale_group": math.inf}),
        (SHAPE, "llama", "TQ1_0", {"tables": {"attn_v": "F16"}}, {"levels": 3, "scale_group": 256, "dense": ("v",)}),
        (SHAPE, "llama", "F16", {}, {"levels": 3, "scale_group": math.inf, "head_levels": 256}),
    ],
)  # fmt: skip
def test_a_decoder_has_the_sizes_and_precisions_of_its_file(shape, family, name, options, fields, tmp_path):
    path, _ = written(tmp_path, shape, family, name, **options)
    made = catalog.model(path)
    wanted = replace(shape, **fields)
    for field in Decoder.__dataclass_fields__:
        assert field == "published" or getattr(made, field) == getattr(wanted, field), field
    assert gguf_models.parameters(gguf.header(path)) == sum(
        int(np.prod(tensor.shape)) for tensor in gguf.header(path).tensors.values()
    )


def test_every_architecture_is_one_of_a_family_that_is_read():
    assert {model_type for model_type, *_ in gguf_models.FAMILIES.values()} <= families.FAMILIES.keys()


@pytest.mark.parametrize(
    ("there", "bias"),
    [
        ((), "none"),
        (("attn_q", "attn_k", "attn_v"), "qkv"),
        (("attn_q", "attn_k", "attn_v", "attn_output"), "attention"),
    ],
)
def test_biases_are_those_that_there_are(there, bias, tmp_path):
    tensors, _ = files.llama_like(np.random.default_rng(0), SHAPE, "TQ2_0")
    for i in range(SHAPE.n_layers):
        for name in there:
            width = tensors[f"blk.{i}.{name}.weight"][1][0]
            tensors[f"blk.{i}.{name}.bias"] = (0, (width,), bytes(4 * width))
    (tmp_path / "x.gguf").write_bytes(files.file(files.metadata(SHAPE, "llama"), tensors))
    assert catalog.model(tmp_path / "x.gguf").linear_bias == bias


def test_one_scale_for_a_matrix_is_seen_where_the_type_has_many(tmp_path):
    tensors, held = files.llama_like(np.random.default_rng(0), SHAPE, "TQ2_0")
    for key, (number, size, _) in tensors.items():
        if number == files.NUMBERS["TQ2_0"]:
            values, scales = held[key]
            tensors[key] = (number, size, files.packed("TQ2_0", values, np.full_like(scales, 0.25)))
    (tmp_path / "x.gguf").write_bytes(files.file(files.metadata(SHAPE, "llama"), tensors))
    assert catalog.model(tmp_path / "x.gguf").scale_group == math.inf


def test_blocks_with_sizes_of_their_own_are_kinds(tmp_path):
    tensors, _ = files.llama_like(np.random.default_rng(0), replace(SHAPE, n_layers=1), "TQ2_0")
    wide, _ = files.llama_like(np.random.default_rng(0), replace(SHAPE, n_layers=1, d_ff=1024), "TQ2_0")
    more = {
        key.replace("blk.0", f"blk.{i}"): value for i in (1, 2) for key, value in wide.items() if key.startswith("blk")
    }
    values = files.metadata(replace(SHAPE, n_layers=3), "llama") | {"llama.feed_forward_length": [512, 1024, 1024]}
    (tmp_path / "x.gguf").write_bytes(files.file(values, tensors | more))
    made = catalog.model(tmp_path / "x.gguf")
    assert made.blocks == ({"count": 1, "d_ff": 512}, {"count": 2, "d_ff": 1024})


def test_metadata_that_are_not_of_the_tensors_are_refused(tmp_path):
    path, _ = written(tmp_path, more={"llama.block_count": 3})
    with pytest.raises(
        BadInput, match=r"has tensors with 1334528 parameters, and its metadata make .* of llama; wanted"
    ):
        catalog.model(path)


def test_the_two_layouts_of_number_42_are_told_apart_by_their_places(tmp_path):
    rng = np.random.default_rng(0)
    for size, kind in ((64, 0), (128, 1)):
        values = rng.integers(-1, 2, (6, 512)).astype(np.int8)
        scales = rng.uniform(1, 2, (6, 512 // size)).astype(np.float16)
        content = files.packed("Q2_0", values, scales)
        path = tmp_path / f"{size}.gguf"
        path.write_bytes(
            files.file({}, {"a": (42, (6, 512), content), "b": (0, (1,), b"\0" * 4), "c": (42, (6, 512), content)})
        )
        found = gguf.header(path).tensors
        assert found["a"].kind == found["c"].kind == gguf.Q2_0[kind]


# --- weights ---------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(files.GROUP)), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_blocks_unpack_to_what_was_packed(name, seed, zeros):
    values, scales = files.drawn(np.random.default_rng(seed), name, (3, 512), zeros)
    kind = gguf.Q2_0[0] if name == "Q2_0" else gguf.KINDS[files.NUMBERS[name]]
    raw = np.frombuffer(files.packed(name, values, scales), np.uint8).reshape(-1, kind.size)
    got, by = blocks.whole(name, raw)
    np.testing.assert_array_equal(got.reshape(values.shape), values)
    np.testing.assert_array_equal(by.reshape(scales.shape), scales)


def test_a_scale_that_is_negative_or_zero_goes_into_the_numbers():
    values = np.array([[1, -1] * 64, [1, 0] * 64, [-1, 1] * 64], np.int8)
    raw = np.frombuffer(files.packed("PQ2_0", values, np.array([[-2], [0], [1]])), np.uint8).reshape(-1, 34)
    got, by = blocks.whole("PQ2_0", raw)
    np.testing.assert_array_equal(got, values * np.array([[-1], [0], [1]]))
    assert by.tolist() == [2, 0, 1]


# --- the same weights in other files ---------------------------------------------------------------------------------

WIDE = Decoder(
    name="wide", d_model=256, d_ff=512, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=64, vocab_size=64, gated=True,
    tied_embeddings=False,
)  # fmt: skip


def paired(rows, heads):
    """Return rows as converters turn those of queries and keys: the two of a pair, half a head apart, come together."""
    width = len(rows) // heads
    order = [h * width + s * (width // 2) + j for h in range(heads) for j in range(width // 2) for s in range(2)]
    return rows[order]


def as_gguf(path, weights, norms, shape, family, name):
    """Write a model of `layouts` as a GGUF file, norms as F32."""
    names = {ours: theirs for theirs, ours in gguf_weights.names(shape).items()}
    tensors = {}
    for ours, theirs in names.items():
        if theirs in norms:
            tensors[ours] = (files.NUMBERS["F32"], norms[theirs].shape, norms[theirs].astype("<f4").tobytes())
        elif theirs in weights:
            values, scales = (a.T for a in weights[theirs])
            scales = np.repeat(
                scales, values.shape[1] // files.GROUP.get(name, values.size) // scales.shape[1] or 1, axis=1
            )
            if family == "llama" and ("q_proj" in theirs or "k_proj" in theirs):
                heads = shape.n_heads if "q_proj" in theirs else shape.n_kv_heads
                values, scales = paired(values, heads), paired(scales, heads)
            tensors[ours] = (files.NUMBERS[name], values.shape, files.packed(name, values, scales))
    path.write_bytes(files.file(files.metadata(shape, family), tensors))
    return path


@pytest.mark.parametrize(
    ("family", "name", "draw", "scales"),
    [
        ("llama", "TQ2_0", layouts.ternary, (1, 1)),
        ("llama", "TQ1_0", layouts.ternary, (256, 64)),
        ("llama", "I2_S", layouts.ternary, (1, 1)),
        ("qwen3", "Q1_0", layouts.binary, (128, 64)),
        ("qwen3", "Q2_0", layouts.ternary, (64, 64)),
        ("bitnet-b1.58", "TQ2_0", layouts.ternary, (1, 1)),
        ("bitnet", "PTQ1_0", layouts.ternary, (128, 1)),
    ],
)
def test_the_same_weights_from_a_gguf_file_and_from_safetensors_give_equal_logits(family, name, draw, scales, tmp_path):
    shape = replace(WIDE, qk_norm=family == "qwen3", sub_norms="bitnet" in family)
    weights, norms = layouts.drawn(shape, draw=draw, scales=scales)
    config = {"model_type": "bitnet"} if shape.sub_norms else {}
    config |= {"hidden_act": "relu2"} if family == "bitnet-b1.58" else {}
    other = checkpoint.read(layouts.unpacked(tmp_path / "hf", weights, norms, shape, **config))
    one = checkpoint.read(as_gguf(tmp_path / "x.gguf", weights, norms, shape, family, name))
    assert one.ternary
    assert other.ternary
    tokens = np.random.default_rng(1).integers(0, shape.vocab_size, (3, 12))
    wanted = language.logits(other, tokens)
    assert wanted.std() > 0.1
    np.testing.assert_array_equal(language.logits(one, tokens), wanted)


# --- describe ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0", "Q1_0", "Q2_0", "PQ2_0", "PTQ1_0", "I2_S"])
def test_the_zeros_and_signs_that_were_drawn_are_counted(name, tmp_path, capsys):
    path, held = written(tmp_path, name=name)
    found = described.describe(path)
    assert (found.form, found.family) == ("GGUF", "llama")
    assert (found.note is None) == (name != "I2_S")
    counted = [row for row in found.rows if row.kind == name]
    assert len(counted) == 7 * SHAPE.n_layers
    for row in counted:
        values = held[row.name][0]
        assert (row.negative, row.zero, row.positive) == tuple(int((values == value).sum()) for value in (-1, 0, 1))
        assert row.levels == (2 if name == "Q1_0" else 3)
        assert row.size == len(files.packed(name, *held[row.name]))
    share = sum(row.zero for row in counted) / sum(row.weights for row in counted)
    assert share == (0 if name == "Q1_0" else pytest.approx(0.4, abs=1e-4))
    assert main(["describe", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["zeros"] == share
    assert said["low_share"] == (1 - share) / 2
    assert said["parameters"] == sum(int(np.prod(tensor.shape)) for tensor in gguf.header(path).tensors.values())
    assert {kind["matrix"] for kind in said["kinds"]} == {
        "q",
        "k",
        "v",
        "x",
        "gate",
        "ff1",
        "ff2",
        "embedding",
        "lm_head",
    }
    assert len(said["matrices"]) == 7 * SHAPE.n_layers + 2
    assert main(["describe", str(path), "--header"]) == 0
    out = capsys.readouterr().out
    assert "low_share" not in out
    assert f" {name} " in out


def test_a_folder_and_a_file_of_safetensors_are_described_as_they_compute(tmp_path, capsys):
    weights, norms = layouts.drawn(scales=(32, 32))
    for kind, write in {"mlx": layouts.mlx, "found": layouts.unpacked}.items():
        found = described.describe(write(tmp_path / kind, weights, norms))
        rows = {row.name: row for row in found.rows}
        for name, (values, _) in weights.items():
            if row := rows[name] if name.split(".")[-2] not in ("embed_tokens", "lm_head") else None:
                assert (row.levels, row.group, row.shape) == (3, 32, values.shape[::-1])
                assert row.zero == int((values == 0).sum())
        assert found.parameters == sum(v.size for v, _ in weights.values()) + sum(v.size for v in norms.values())
    bare = tmp_path / "bare" / "model.safetensors"
    bare.parent.mkdir()
    bare.write_bytes((tmp_path / "found" / "model.safetensors").read_bytes())
    assert main(["describe", str(bare)]) == 0
    assert "bare: safetensors, no configuration" in capsys.readouterr().out


def test_a_model_whose_blocks_are_not_computed_is_described_as_it_is_stored(tmp_path, capsys):
    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 9}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"h.0.attn.c_attn.weight": np.array([[0, 1, -1, 2.0]], np.float32)}, tmp_path / "model.safetensors")
    assert main(["describe", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "weights are those that are stored: " in out
    assert "0.25" in out


@pytest.mark.adversity
@pytest.mark.parametrize(
    ("name", "words"),
    [("none", "none cannot be read: No such file"), ("none.gguf", "none.gguf cannot be read: No such file"),
     ("empty", "has no model.safetensors and no"), ("text.txt", "is truncated or no safetensors file"),
     ("text.gguf", "begins with b'some'; wanted b'GGUF'")],
)  # fmt: skip
def test_what_is_no_model_is_not_described(name, words, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for text in ("text.txt", "text.gguf"):
        (tmp_path / text).write_text("some text")
    assert main(["describe", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_one_scale_for_all_inputs_is_counted_as_such_where_some_blocks_are_zero(tmp_path):
    values, scales = files.drawn(np.random.default_rng(0), "TQ2_0", (4, 512))
    values[:, :256], scales[:] = 0, [[0, 0.5]]
    content = files.packed("TQ2_0", values, scales)
    (tmp_path / "x.gguf").write_bytes(files.file({}, {"blk.0.attn_q.weight": (35, values.shape, content)}))
    (row,) = described.describe(tmp_path / "x.gguf").rows
    assert (row.group, row.zero, row.levels) == (math.inf, int((values == 0).sum()), 3)


# --- noise -------------------------------------------------------------------------------------------------------------


def test_noise_reads_a_gguf_file_of_bytes(tmp_path, capsys):
    path, _ = written(tmp_path, replace(SHAPE, vocab_size=256))
    (tmp_path / "text.txt").write_text("some text " * 20)
    words = [
        "noise",
        "--checkpoint",
        str(path),
        "--text",
        str(tmp_path / "text.txt"),
        "--tokens",
        "16",
        "--window",
        "8",
    ]
    assert main([*words, "--seeds", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["checkpoint"] == "tiny"
    assert said["clean_bits_per_byte"] > 0


@pytest.mark.adversity
@pytest.mark.parametrize(
    ("family", "more", "extra", "words"),
    [
        ("qwen2", {}, {}, "has the architecture 'qwen2'; wanted one of llama, bitnet"),
        (
            "llama",
            {"prism.hadamard.block_size": 1024},
            {},
            "prism.hadamard.block_size is 'there'; wanted weights that no",
        ),
        (
            "llama",
            {},
            {"blk.0.attn_q.bias": (0, (256,), b"\0" * 1024)},
            "linear_bias of x is 'qkv'; wanted none",
        ),
        (
            "llama",
            {},
            {"blk.0.attn_q.scale": (0, (1,), b"\0" * 4)},
            "'blk.0.attn_q.scale'; its architecture has no place",
        ),
        ("llama", {"llama.rope.scaling.type": "odd"}, {}, "unknown rope_type 'odd'"),
        ("llama", {"llama.attention.layer_norm_rms_epsilon": 0.0}, {}, "rms_norm_eps is 0.0; wanted a positive number"),
    ],
)
def test_a_model_that_is_not_computed_here_is_refused(family, more, extra, words, tmp_path):
    tensors, _ = files.llama_like(np.random.default_rng(0), SHAPE, "TQ2_0")
    (tmp_path / "x.gguf").write_bytes(files.file(files.metadata(SHAPE, family) | more, tensors | extra))
    with pytest.raises(BadInput) as refused:
        checkpoint.read(tmp_path / "x.gguf")
    assert words in str(refused.value)


def test_two_bits_with_a_fourth_value_are_no_ternary_weights(tmp_path):
    tensors, held = files.llama_like(np.random.default_rng(0), SHAPE, "PQ2_0")
    values, scales = held["blk.0.attn_q.weight"]
    values[0, 0] = 2
    tensors["blk.0.attn_q.weight"] = (142, values.shape, files.packed("PQ2_0", values, scales))
    (tmp_path / "x.gguf").write_bytes(files.file(files.metadata(SHAPE, "llama"), tensors))
    assert catalog.model(tmp_path / "x.gguf").dense == ("q",)
    with pytest.raises(BadInput, match=r"dense of x is \('q',\); wanted \(\): others are not modelled"):
        checkpoint.read(tmp_path / "x.gguf")
    row = next(row for row in described.describe(tmp_path / "x.gguf").rows if row.op == "q")
    assert row.levels == 4


def test_slowed_rotary_positions_are_read_off_their_factors(tmp_path):
    tensors, _ = files.llama_like(np.random.default_rng(0), SHAPE, "TQ2_0")
    by = np.linspace(1, 8, SHAPE.head_dim // 2, dtype=np.float32)
    (tmp_path / "x.gguf").write_bytes(
        files.file(files.metadata(SHAPE, "llama"), tensors | {"rope_freqs.weight": (0, by.shape, by.tobytes())})
    )
    plain, slowed = (
        rotation(r, 5, SHAPE.head_dim) for r in (Rotary(10000.0), checkpoint.read(tmp_path / "x.gguf").rotary)
    )
    speeds = 10000.0 ** (-np.arange(0, SHAPE.head_dim, 2) / SHAPE.head_dim)
    np.testing.assert_allclose(slowed, [np.cos(a := np.outer(np.arange(5), speeds / by)), np.sin(a)], atol=1e-6)
    assert not np.allclose(plain, slowed)


# --- tokenizers --------------------------------------------------------------------------------------------------------

LINES = ["The cloth, it's 12345 é€😀!", "  two  spaces\n\n\tand a tab", "日本語 text", ""]


@pytest.mark.torch
def test_tokenizers_of_gguf_files_are_those_that_they_were_made_of(tmp_path):
    made = import_module("tokenizers")
    text = [*LINES, *(paths.ROOT / "README.md").read_text().splitlines()] if paths.IN_CHECKOUT else LINES
    byte_level = made.Tokenizer(made.models.BPE())
    byte_level.pre_tokenizer = made.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = made.pre_tokenizers.ByteLevel.alphabet()
    trainer = made.trainers.BpeTrainer(vocab_size=500, special_tokens=["<end>"], initial_alphabet=alphabet)
    byte_level.train_from_iterator(text, trainer)
    model = json.loads(byte_level.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    values = {
        "general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": words, "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.token_type": [3 if word == "<end>" else 1 for word in words],
    }  # fmt: skip
    (tmp_path / "x.gguf").write_bytes(files.file(values, {}))
    read = vocabulary.of_gguf(tmp_path / "x.gguf", lambda: made)
    for line in (*text, "a<end>b"):
        assert read.encode(line, add_special_tokens=False).ids == byte_level.encode(line).ids
    content = "\n".join(text).encode()
    assert tokens(content, "x.txt", tmp_path / "x.gguf", len(words)).sizes.sum() == len(content)


def joined(word, scores):
    """Return the pieces of a word: as long as any two neighbours make a piece, those whose piece scores best are joined."""
    pieces = list(word)
    while True:
        pairs = [(scores.get(a + b, -math.inf), -i) for i, (a, b) in enumerate(itertools.pairwise(pieces))]
        if not pairs or max(pairs)[0] == -math.inf:
            return pieces
        at = -max(pairs)[1]
        pieces[at : at + 2] = ["".join(pieces[at : at + 2])]


@pytest.mark.torch
def test_pieces_are_joined_by_their_scores(tmp_path):
    rng, made = np.random.default_rng(0), import_module("tokenizers")
    letters = ["\u2581", "a", "b", "c"]
    more = sorted({"".join(rng.choice(letters, rng.integers(2, 5))) for _ in range(60)})
    words = ["<unk>", "<s>", *letters, *more]
    scores = [0.0, 0.0, *[-100.0 - i for i in range(4)], *(-rng.permutation(len(more)).astype(float)).tolist()]
    values = {
        "general.architecture": "llama", "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": [2, 3, *[1] * (len(words) - 2)],
    }  # fmt: skip
    (tmp_path / "x.gguf").write_bytes(files.file(values, {}))
    read = vocabulary.of_gguf(tmp_path / "x.gguf", lambda: made)
    known = dict(zip(words, scores, strict=True))
    for _ in range(200):
        text = "".join(rng.choice([" ", "a", "b", "c"], 20))
        found = read.encode(text, add_special_tokens=False).ids
        assert [words[i] for i in found] == joined("\u2581" + text.replace(" ", "\u2581"), known)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"tokenizer.ggml.model": "t5"},
            "tokenizer.ggml.model is 't5'; wanted gpt2 or llama, or a tokenizer.json beside it",
        ),
        ({"tokenizer.ggml.pre": "odd"}, "tokenizer.ggml.pre is 'odd'; wanted one of default, "),
        ({"tokenizer.ggml.merges": ["a z"]}, "its tokenizer cannot be made: "),
        ({"tokenizer.ggml.token_type": [1]}, "has 2 tokens and the kinds of 1; wanted as many"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.scores is None; wanted a list of numbers"),
    ],
)
def test_a_tokenizer_that_is_not_known_is_refused_unless_one_lies_beside(changes, words, tmp_path):
    values = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.merges": []}
    (tmp_path / "x.gguf").write_bytes(files.file(values | {"tokenizer.ggml.merges": ["a b"]} | changes, {}))
    with pytest.raises(BadInput) as refused:
        tokens(b"ab", "x.txt", tmp_path / "x.gguf", 2)
    assert words in str(refused.value)
    made = import_module("tokenizers")
    made.Tokenizer(made.models.BPE(vocab={"a": 0, "b": 1}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    assert tokens(b"ab", "x.txt", tmp_path / "x.gguf", 2).ids.tolist() == [0, 1]
