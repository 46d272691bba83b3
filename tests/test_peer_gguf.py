"""GGUF files that the package gguf writes, in an environment of its own: make test MARK=peer."""

import json
import subprocess
from pathlib import Path

import gguf_files as files
import numpy as np
import pytest
from test_gguf import SHAPE

from pimllm_lib import catalog
from pimllm_lib.analog.lm import described, gguf_weights
from pimllm_lib.catalog import gguf, gguf_models
from pimllm_lib.cli.main import main
from pimllm_lib.core.paths import ROOT

PEER = ROOT / ".venv-gguf" / "bin" / "python"
RUNNER = Path(__file__).parent / "peers" / "gguf_runner.py"
#: Types that the package packs, and those that it unpacks alone: bytes of a block, and of the scales in it. Of Q1_0 it has
#: the size and no more.
PACKED, UNPACKED = ("TQ1_0", "TQ2_0", "Q8_0", "F16", "BF16", "F32"), {"Q4_K": (144, 0, 4), "Q6_K": (210, 208, 2)}


def told(path, values, tensors, blocks=(), family="llama"):
    asked = {"path": str(path), "family": family, "values": values, "tensors": tensors, "blocks": dict(blocks)}
    done = subprocess.run([PEER, RUNNER], input=json.dumps(asked), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.peer
def test_weights_that_the_package_packs_are_worth_what_it_says_and_sizes_are_its_own(tmp_path):
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(0, 1, (6, 512)).round(3).tolist() for name in PACKED}
    rows |= {
        "TQ1_0": files.drawn(rng, "TQ1_0", (6, 512))[0].tolist(),
        "TQ2_0": files.drawn(rng, "TQ2_0", (6, 512))[0].tolist(),
    }
    blocks = {}
    for name, (size, at, width) in UNPACKED.items():
        raw = rng.integers(0, 256, (6, 2, size), np.uint8)
        raw[..., at : at + width] = rng.normal(0, 1, (6, 2, width // 2)).astype("<f2").view(np.uint8)
        blocks[name] = (name, raw.reshape(6, -1).tolist())
    values = {"a": 1, "b": "two", "c": 0.5, "d": [1, 2, 3]}
    said = told(tmp_path / "x.gguf", values, {name: (name, rows[name]) for name in PACKED}, blocks)
    found = gguf.header(tmp_path / "x.gguf")
    assert {key: found.values[key] for key in "abcd"} == {"a": 1, "b": "two", "c": 0.5, "d": (1, 2, 3)}
    for name in (*PACKED, *UNPACKED):
        np.testing.assert_array_equal(
            gguf_weights.numbers(found.tensors[name]), np.array(said["read"][name], np.float32)
        )
    for number, (name, weights, size) in said["sizes"].items():
        kind = gguf.KINDS.get(int(number))
        assert kind is None or (kind.name, kind.weights, kind.size) == (name, weights, size)
        assert kind is not None or name in ("Q8_1", "Q8_K")  # of products, never stored
    ours = gguf_models.FAMILIES.keys() - {"bitnet-25", "bitnet-b1.58"}  # of microsoft/BitNet's fork
    assert ours <= set(said["names"])


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
def test_a_model_that_the_package_writes_has_the_zeros_that_were_drawn(kind, tmp_path, capsys):
    tensors, held = files.llama_like(np.random.default_rng(0), SHAPE, kind)
    names = {number: name for name, number in files.NUMBERS.items()}
    rows = {
        name: (names[number], (held[name][0] if names[number] == kind else held[name]).tolist())
        for name, (number, _, _) in tensors.items()
    }
    values = {key: value for key, value in files.metadata(SHAPE, "llama").items() if key != "general.architecture"}
    told(tmp_path / "tiny.gguf", values, rows)
    assert catalog.model(tmp_path / "tiny.gguf").levels == 3
    found = described.describe(tmp_path / "tiny.gguf")
    for row in found.rows:
        if row.kind == kind:
            drawn = held[row.name][0]
            assert (row.negative, row.zero, row.positive) == tuple(int((drawn == value).sum()) for value in (-1, 0, 1))
    assert main(["describe", str(tmp_path / "tiny.gguf"), "--json"]) == 0
    total = sum(held[row.name][0].size for row in found.rows if row.kind == kind)
    zeros = sum(int((held[row.name][0] == 0).sum()) for row in found.rows if row.kind == kind)
    said = json.loads(capsys.readouterr().out)
    assert said["zeros"] == zeros / total
    assert said["low_share"] == (1 - zeros / total) / 2
