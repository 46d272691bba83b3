"""Logits against the BitNet class of the transformers library, from the same files: make test MARK=torch."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_checkpoint import a_model

from pimllm_lib.analog.lm import checkpoint, language
from pimllm_lib.workload.decoder import Decoder

pytestmark = pytest.mark.torch

SHAPE = Decoder(
    name="peer", d_model=128, d_ff=384, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=32, vocab_size=256, gated=True,
    sub_norms=True, tied_embeddings=False,
)  # fmt: skip
TOKENS = np.random.default_rng(1).integers(0, SHAPE.vocab_size, (40, 6))


@pytest.fixture(scope="module")
def theirs():
    """Return what loads a folder with the library and gives its logits in float32, without a network or a compiler."""
    assert find_spec("transformers"), "run this with make test MARK=torch"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        import torch
        from transformers import BitNetForCausalLM

        def logits(folder):
            model = BitNetForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
            with torch.inference_mode():
                return model(torch.from_numpy(TOKENS)).logits.numpy(), model

        yield logits


def divided(folder):
    """Turn a checkpoint into one of the older class, which divides by its scale."""
    held = load_file(folder / "model.safetensors")
    scales = {name: 1 / values for name, values in held.items() if name.endswith("_scale")}
    save_file(held | scales, folder / "model.safetensors", metadata={"format": "pt"})
    requantise(folder, linear_class="bitlinear")


def requantise(folder, **changes):
    """Change how config.json says that projections are stored."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitnet"} | config.get("quantization_config", {}) | changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", ["autobitlinear", "bitlinear", "online", "full"])
def test_logits_are_those_of_the_transformers_library(tmp_path, theirs, kind):
    model = a_model(SHAPE, ternary=kind in ("autobitlinear", "bitlinear")) | {"float_dtype": np.float32}
    checkpoint.write(tmp_path, SHAPE, **model)
    if kind == "bitlinear":
        divided(tmp_path)
    if kind == "online":
        requantise(tmp_path, linear_class="autobitlinear", quantization_mode="online")
    wanted, loaded = theirs(tmp_path)
    used = {"bitlinear": "BitLinear", "full": "Linear"}.get(kind, "AutoBitLinear")
    assert type(loaded.model.layers[0].mlp.gate_proj).__name__ == used
    got = language.logits(checkpoint.read(tmp_path), TOKENS)
    assert got.dtype == np.float32
    assert wanted.std() > 0.1
    # An activation half-way between two of its 256 levels goes to either, by the order of sums: about one in 100 000.
    apart = np.abs(got - wanted).max(axis=(1, 2)) / wanted.std()
    assert (apart < 1e-5).mean() >= (1 if kind == "full" else 0.85)
    assert apart.max() < 0.2
