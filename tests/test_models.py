"""Language models: their sizes against their cards, their products, and configurations from files."""

import json
from dataclasses import replace

import pytest

from pimllm_lib import catalog
from pimllm_lib.llm import Decoder, as_published, parameter_count
from pimllm_lib.workload import products

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


@pytest.mark.parametrize("name", list(catalog.models))
def test_every_model_says_where_its_shape_was_read(name):
    entry = catalog.models.entries[name]
    assert entry["source"]
    assert entry["where"]
    assert entry["status"] in ("cited", "second_hand")


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(GPT2, 354_823_168), (OPT, 331_196_416), (LLAMA3, 8_030_261_248), (BITNET, 2_412_820_480),
     (MISTRAL_7B, 7_241_732_096), (QWEN2_7B, 7_615_616_512), (QWEN3_06B, 596_049_920)],
    ids=["gpt2", "opt", "llama", "bitnet", "mistral", "qwen2", "qwen3"],
)  # fmt: skip
def test_a_config_json_of_each_family_gives_the_released_parameter_count(tmp_path, config, parameters):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert parameter_count(catalog.model(path)) == parameters
    assert parameter_count(catalog.model(str(tmp_path) + "/")) == parameters


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
        ({"norm": "batch"}, r"norm of opt-6.7b is 'batch'; wanted one of layernorm, rmsnorm"),
    ],
)
def test_an_impossible_decoder_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(catalog.models["opt-6.7b"], **change)


def test_a_decoder_prints_its_shape():
    assert "d_model=4096" in repr(catalog.models["opt-6.7b"])
    assert isinstance(catalog.models["opt-6.7b"], Decoder)
