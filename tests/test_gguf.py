"""GGUF files: what their headers say, their weights bit by bit, and what is refused in one line."""

import math
import struct
import subprocess
import sys
from dataclasses import replace

import gguf_files as files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimllm_lib import catalog
from pimllm_lib.analog.lm import blocks
from pimllm_lib.catalog import gguf, gguf_models
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
        (files.file({"general.architecture": "llama"}, {"token_embd.weight": (0, (1, 8), b"\0" * 32)}), "has no hidden_"),
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
def test_blocks_unpack_to_what_was_packed_bit_by_bit(name, seed, zeros):
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
