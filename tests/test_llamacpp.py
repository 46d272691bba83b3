"""llama.cpp decodes files of random weights that are as large as the rule says: make test MARK=llamacpp."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from benchmarks import llamacpp
from pimllm_lib.core.paths import DATA
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.products import stored_bytes

pytestmark = pytest.mark.llamacpp
TINY = Decoder(
    name="tiny", d_model=256, d_ff=512, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=64, vocab_size=300, gated=True,
    tied_embeddings=False,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _installed():
    assert find_spec("xllamacpp"), "run this with make test MARK=llamacpp"


@pytest.mark.parametrize("kind", llamacpp.FORMATS)
@pytest.mark.parametrize("tied", [True, False])
def test_matrices_of_a_file_are_as_large_as_the_rule_says(kind, tied, tmp_path):
    import gguf

    decoder = replace(TINY, tied_embeddings=tied)
    llamacpp.write(path := tmp_path / "tiny.gguf", decoder, kind)
    file = gguf.GGUFReader(path)
    matrices = sum(one.n_bytes for one in file.tensors if "norm" not in one.name)
    assert matrices == stored_bytes(decoder, bits=llamacpp.FORMATS[kind], head_bits=llamacpp.HEAD_BITS)
    (up,) = (one for one in file.tensors if one.name == "blk.1.ffn_up.weight")
    weights = gguf.quants.dequantize(up.data, up.tensor_type)
    assert weights.shape == (512, 256)
    assert set(np.unique(weights.round(3))) == set(np.float32([-0.02, 0, 0.02]))


def test_a_tiny_file_is_decoded_and_stands_in_a_row_like_those_archived():
    lines = list(llamacpp.report([TINY], ["TQ2_0"], contexts=(8, 16), tokens=2, repeats=1))
    archived = (DATA / "peers" / "llamacpp.csv").read_text().splitlines()
    assert next(line for line in archived if not line.startswith("#")) == lines[2] == llamacpp.COLUMNS
    assert [line.split(",")[4] for line in lines[3:]] == ["8", "16"]
    assert all(float(line.split(",")[5]) > 0 for line in lines[3:])


def test_the_archived_table_has_every_model_format_and_context():
    table = pd.read_csv(DATA / "peers" / "llamacpp.csv", comment="#")
    every = {(m, f, c) for m in llamacpp.MODELS for f in llamacpp.FORMATS for c in llamacpp.CONTEXTS}
    assert {tuple(row) for row in table[["model", "format", "context"]].itertuples(index=False)} == every
    assert (table.bits == table.format.map(llamacpp.FORMATS)).all()
