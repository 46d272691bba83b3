"""Language models: their sizes against their cards, their products, and configurations from files."""

import json
from dataclasses import replace
from math import inf

import pytest

from pimllm_lib import catalog
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.products import products, stored_bytes
from pimllm_lib.workload.shapes import as_published, parameter_count

GPT2 = {"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16, "n_positions": 1024, "vocab_size": 50257}
OPT = {
    "model_type": "opt", "hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "word_embed_proj_dim": 512, "max_position_embeddings": 2048, "vocab_size": 50272, "do_layer_norm_before": False,
}  # fmt: skip
LLAMA3 = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
}  # fmt: skip
BITNET = {
    "model_type": "bitnet", "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 30,
    "num_attention_heads": 20, "num_key_value_heads": 5, "vocab_size": 128256, "tie_word_embeddings": True,
}  # fmt: skip
#: Shapes of released models of three more families, with the number of their tensors' elements.
MISTRAL_7B = LLAMA3 | {"model_type": "mistral", "vocab_size": 32000}
QWEN2_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
MIXTRAL = MISTRAL_7B | {
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}
PHI3_MINI = {
    "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "vocab_size": 32064, "sliding_window": 2047,
}  # fmt: skip
QWEN3_30B = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
    "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
QWEN3_06B = {
    "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.mark.parametrize("name", list(catalog.models))
def test_the_parameter_count_is_that_of_the_model_card(name):
    card, count = catalog.models.entries[name]["card_parameters"], parameter_count(catalog.models[name])
    if card["exact"]:
        assert count == card["value"]
    else:  # a nominal size, rounded to two or three digits for the card
        digits = len(str(card["value"]).rstrip("0"))
        assert f"{count:.{digits - 1}e}" == f"{card['value']:.{digits - 1}e}"


@pytest.mark.parametrize(
    ("name", "size"),
    [("bonsai-8b-1bit", 1.15e9), ("bonsai-4b-1bit", 0.57e9), ("bonsai-1.7b-1bit", 0.24e9),
     ("bonsai-8b-ternary", 2.18e9), ("bonsai-4b-ternary", 1.07e9), ("bonsai-1.7b-ternary", 0.46e9),
     ("falcon-e-1b", 665e6), ("falcon-e-3b", 999e6), ("bitnet-2b4t", 1.19e9), ("llama3-8b-1.58", 3.85e9),
     ("bonsai-27b-1bit", 3.53 * 2**30), ("bonsai-27b-ternary", 6.66 * 2**30), ("bonsai-2-27b-ternary", 6.70 * 2**30)],
)  # fmt: skip
def test_a_released_file_is_as_large_as_shape_and_precision_say(name, size):
    """Sizes as cards and file lists print them; where projections alone have few bits, embedding and head have 16."""
    model = catalog.models[name]
    assert stored_bytes(model, head_bits=16 if model.head_levels > 3 else None) == pytest.approx(size, rel=0.011)


@pytest.mark.parametrize("name", list(catalog.models))
def test_every_model_says_where_its_shape_was_read(name):
    entry = catalog.models.entries[name]
    assert entry["source"]
    assert entry["where"]
    assert entry["status"] in ("cited", "second_hand")


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(GPT2, 354_823_168), (OPT, 331_196_416), (LLAMA3, 8_030_261_248), (BITNET, 2_412_820_480),
     (MISTRAL_7B, 7_241_732_096), (QWEN2_7B, 7_615_616_512), (QWEN3_06B, 596_049_920),
     (MIXTRAL, 46_702_792_704), (PHI3_MINI, 3_821_079_552), (QWEN3_30B, 30_532_122_624)],
    ids=["gpt2", "opt", "llama", "bitnet", "mistral", "qwen2", "qwen3", "mixtral", "phi3", "qwen3_moe"],
)  # fmt: skip
def test_a_config_json_of_each_family_gives_the_released_parameter_count(tmp_path, config, parameters):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert parameter_count(catalog.model(path)) == parameters
    assert parameter_count(catalog.model(str(tmp_path) + "/")) == parameters


def read(tmp_path, config):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return catalog.model(path)


def test_experts_of_a_config_json_are_those_of_the_catalog(tmp_path):
    for config, name in ((MIXTRAL, "mixtral-8x7b"), (QWEN3_30B, "qwen3-30b-a3b")):
        model, known = read(tmp_path, config), catalog.models[name]
        for field in ("n_experts", "experts_per_token", "d_ff", "window"):
            assert getattr(model, field) == getattr(known, field)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        (MISTRAL_7B, 4096),  # the family's default
        (MISTRAL_7B | {"sliding_window": None}, inf),
        (MISTRAL_7B | {"sliding_window": 512}, 512),
        (MIXTRAL, inf),
        (PHI3_MINI, 2047),
        (QWEN2_7B | {"sliding_window": 131072}, inf),  # stated, and not used
        (QWEN2_7B | {"sliding_window": 512, "use_sliding_window": True, "max_window_layers": 0}, 512),
        (QWEN2_7B | {"sliding_window": 512, "use_sliding_window": True, "max_window_layers": 28}, inf),
    ],
)
def test_the_window_of_a_config_json_is_read_as_its_family_reads_it(tmp_path, config, window):
    assert read(tmp_path, config).window == window


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (MISTRAL_7B | {"sliding_window": -1}, r"config.json: sliding_window is -1; wanted a whole number"),
        (LLAMA3 | {"sliding_window": 512}, r"sliding_window is 512, which llama does not read; wanted a family"),
        (LLAMA3 | {"num_experts": 3}, r"num_experts is 3, which llama does not read"),
        (BITNET | {"num_experts": 3, "mlp_only_layers": [0, 2]}, r"num_experts is 3, which bitnet does not read"),
        (LLAMA3 | {"kv_lora_rank": 512}, r"kv_lora_rank is 512, which llama does not read"),
        (
            LLAMA3 | {"layer_types": ["sliding_attention"] * 32},
            r"layer_types of llama has 'sliding_attention'; wanted full",
        ),
        (
            QWEN3_06B | {"layer_types": ["linear_attention"] * 28},
            r"layer_types of qwen3 has 'linear_attention'; wanted full",
        ),
        (
            QWEN2_7B | {"layer_types": ["full_attention", "sliding_attention"]},
            r"wanted a list of 28, one for each block",
        ),
        (LLAMA3 | {"num_hidden_layers": 2**40}, r"num_hidden_layers is 1099511627776; wanted at most 1000 blocks"),
        (
            {"model_type": "longcat_flash"},
            r"'longcat_flash' may send a token to experts that do nothing.*; wanted a family",
        ),
        ({"model_type": "bert"}, r"'bert' is built as an encoder"),
        (MIXTRAL | {"num_experts_per_tok": 9}, r"experts_per_token of .* is 9; wanted at most the 8 experts"),
        (MIXTRAL | {"num_local_experts": None}, r"has no num_local_experts; wanted a whole number of at least 1"),
        (
            MIXTRAL | {"model_type": "mixtrals"},
            r"unknown model_type 'mixtrals'; wanted a family that is read, or the model as",
        ),
    ],
)
def test_a_config_json_that_is_not_understood_is_refused_in_one_line(tmp_path, config, words):
    with pytest.raises(ValueError, match=words) as refused:
        read(tmp_path, config)
    assert "\n" not in str(refused.value)


def test_a_bitnet_checkpoint_that_calls_itself_llama_is_a_bitnet(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(BITNET | {"model_type": "llama", "architectures": ["BitnetForCausalLM"]}))
    assert catalog.model(path).sub_norms


def test_published_shapes_replace_true_ones_only_where_asked_for():
    gpt, llama = catalog.models["gpt2-1.5b"], catalog.models["llama-7b"]
    assert [as_published(gpt, d_ff=x, gated=True).d_ff for x in (True, False)] == [1600, 6400]
    assert [as_published(llama, d_ff=True, gated=x).gated for x in (True, False)] == [False, True]
    assert as_published(catalog.models["llama-3-8b"], d_ff=True, gated=True).gated


def test_decoding_multiplies_every_projection_weight_once():
    model = catalog.models["llama-3-8b"]
    macs = sum(p.macs for p in products(model, 128) if p.kind == "projection")
    embeddings, norms = 2 * model.vocab_size * model.d_model, model.d_model * (2 * model.n_layers + 1)
    assert macs == parameter_count(model) - embeddings - norms


def test_attention_reads_the_cache_once_per_query_head():
    model = catalog.models["llama-3-8b"]
    macs = {p.op: p.macs for p in products(model, 1000) if p.kind == "attention"}
    assert macs == dict.fromkeys(("score", "av"), 32 * 32 * 128 * 1000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d_model": 0}, r"Decoder.d_model is 0; wanted a whole number of at least 1"),
        ({"n_layers": 1.5}, r"Decoder.n_layers is 1.5; wanted a whole number"),
        ({"d_ff": "wide"}, r"Decoder.d_ff is 'wide'; wanted a whole number"),
        ({"head_dim": float("nan")}, r"Decoder.head_dim is nan"),
        ({"n_kv_heads": 5}, r"n_kv_heads of opt-6.7b is 5; wanted a divisor of the 32 heads"),
        ({"n_experts": 0}, r"Decoder.n_experts is 0; wanted a whole number of at least 1"),
        ({"experts_per_token": 2}, r"experts_per_token of opt-6.7b is 2; wanted at most the 1 experts"),
        ({"window": -1}, r"window of opt-6.7b is -1; wanted whole tokens, at least 1; inf for all"),
        ({"window": 0}, r"window of opt-6.7b is 0; wanted whole tokens, at least 1; inf for all"),
        ({"window": 0.5}, r"window of opt-6.7b is 0.5; wanted whole tokens, at least 1; inf for all"),
        ({"window": float("nan")}, r"window of opt-6.7b is nan; wanted whole tokens, at least 1; inf for all"),
        ({"norm": "batch"}, r"norm of opt-6.7b is 'batch'; wanted one of layernorm, rmsnorm"),
    ],
)
def test_an_impossible_decoder_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(catalog.models["opt-6.7b"], **change)


def test_a_decoder_prints_its_shape():
    assert "d_model=4096" in repr(catalog.models["opt-6.7b"])
    assert isinstance(catalog.models["opt-6.7b"], Decoder)
