"""Logits of Qwen3 and LLaMA blocks, with scaled rotary positions, against the transformers library: make test MARK=torch."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
from layouts import SHAPE
from safetensors.numpy import load_file

from pimllm_lib.analog.lm import checkpoint, language
from pimllm_lib.analog.lm.rotary import rotation
from pimllm_lib.core.errors import BadInput

QWEN3 = replace(SHAPE, qk_norm=True)
TOKENS = np.random.default_rng(1).integers(0, SHAPE.vocab_size, (4, 96))
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LONG = {
    "rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "long_factor": [2.0] * 8,
}  # fmt: skip
#: What configurations say of positions.
POSITIONS = {
    "default": {},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "dynamic, longer": {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}, "max_position_embeddings": 48},
    "dynamic, shorter": {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "llama3": {"rope_scaling": LLAMA3},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
    "yarn, parameters": {
        "rope_theta": None,
        "rope_parameters": {
            "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64, "rope_theta": 5e5,
            "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": False,
        },
    },
    "yarn, attention": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.3,
                                         "original_max_position_embeddings": 64}},
    "longrope, short": {"rope_scaling": LONG | {"original_max_position_embeddings": 128}, "max_position_embeddings": 256},
    "longrope, long": {"rope_scaling": LONG | {"original_max_position_embeddings": 64}},
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    """Return what loads a folder with the library, whose projections quantise activations where asked to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        import torch
        from transformers import AutoModelForCausalLM

        def eight_bits(_, inputs):
            scale = 127 / inputs[0].abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
            return ((inputs[0] * scale).round().clamp(-128, 127) / scale,)

        def logits(folder, *, quantised):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
            for module in model.modules():
                if quantised and isinstance(module, torch.nn.Linear):
                    module.register_forward_pre_hook(eight_bits)
            with torch.inference_mode():
                return model(torch.from_numpy(TOKENS)).logits.numpy()

        yield logits


def full(folder, shape, **config):
    """Write a model in full precision."""
    rng, (weights, norms) = np.random.default_rng(0), layouts.drawn(shape)
    held = {name: rng.normal(0, len(of[0]) ** -0.5, of[0].T.shape).astype(np.float16) for name, of in weights.items()}
    return layouts.save(folder, norms | held, shape, **config)


@pytest.mark.torch
@pytest.mark.parametrize("shape", [SHAPE, QWEN3], ids=["llama", "qwen3"])
@pytest.mark.parametrize("positions", list(POSITIONS))
def test_logits_in_full_precision_are_those_of_the_library(tmp_path, theirs, shape, positions):
    full(tmp_path, shape, **POSITIONS[positions])
    wanted = theirs(tmp_path, quantised=False)
    found = language.logits(checkpoint.read(tmp_path), TOKENS)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * wanted.std())


def test_positions_of_each_kind_differ(tmp_path):
    found = {}
    for kind, config in POSITIONS.items():
        read = checkpoint.read(full(tmp_path, SHAPE, **config))
        found[kind] = rotation(read.rotary, TOKENS.shape[1], SHAPE.head_dim).tobytes()
    assert found.pop("dynamic, shorter") == found["default"]
    assert len(set(found.values())) == len(found)


@pytest.mark.torch
@pytest.mark.parametrize("scales", [(1, 1), (32, 32)], ids=["one scale", "groups"])
def test_ternary_qwen3_gives_the_logits_of_its_numbers_with_activations_of_eight_bits(tmp_path, theirs, scales):
    weights, norms = layouts.drawn(QWEN3, scales=scales)
    wanted = theirs(layouts.unpacked(tmp_path / "found", weights, norms, QWEN3, **POSITIONS["yarn"]), quantised=True)
    layouts.mlx(tmp_path / "mlx", weights, norms, QWEN3, tables=(layouts.HEAD,), **POSITIONS["yarn"])
    for kind in ("found", "mlx"):
        read = checkpoint.read(tmp_path / kind)
        assert {"query", "key"} <= read.block(0).norms.keys()
        apart = np.abs(language.logits(read, TOKENS) - wanted) / wanted.std()
        assert np.median(apart) < 0.02
        assert apart.max() < 0.5  # an activation half-way between two of its levels goes to either


def test_a_window_that_the_family_does_not_use_is_no_window(tmp_path):
    off = {"sliding_window": 8, "use_sliding_window": False, "max_window_layers": 2}
    assert checkpoint.read(full(tmp_path, QWEN3, **off)).decoder.window == np.inf
    with pytest.raises(BadInput, match=r"window of .* is 8; wanted inf"):
        checkpoint.read(full(tmp_path, QWEN3, **off | {"use_sliding_window": True, "max_window_layers": 0}))


def test_minicpm_multiplies_embeddings_branches_and_the_input_of_the_head(tmp_path):
    shape = replace(SHAPE, tied_embeddings=False)
    full(tmp_path / "mini", shape, model_type="minicpm", scale_emb=12, scale_depth=1.4, dim_model_base=16)
    full(tmp_path / "llama", shape)
    held = load_file(tmp_path / "llama" / "model.safetensors")
    for name, values in held.items():
        by = 12 if name == layouts.EMBEDDING else 16 / 64 if name == layouts.HEAD else 1
        by = 1.4 / 2**0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else by
        held[name] = values.astype(np.float32) * np.float32(by)
    layouts.save(tmp_path / "llama", held, shape)
    one, other = (language.logits(checkpoint.read(tmp_path / kind), TOKENS) for kind in ("mini", "llama"))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * other.std())
    full(tmp_path / "mini", shape, model_type="minicpm", scale_emb=12, scale_depth=1.4)
    with pytest.raises(BadInput, match="dim_model_base is None; wanted a positive number"):
        checkpoint.read(tmp_path / "mini")
