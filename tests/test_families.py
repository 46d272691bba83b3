"""Families of language models against the transformers library: products, caches, states and parameters of each.

What that library counts is archived in data/peers/transformers.csv; make test MARK=torch asks it again, and draws variants.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import families
import pytest

from pimllm_lib.catalog.configuration import known
from pimllm_lib.catalog.families import FAMILIES
from pimllm_lib.catalog.models import from_mapping
from pimllm_lib.catalog.unread import REFUSED, TEXT
from pimllm_lib.core.errors import BadInput

RUNNER = Path(__file__).parent / "peers" / "transformers_runner.py"
ROWS = list(families.rows().itertuples())


@pytest.mark.parametrize("row", ROWS, ids=[row.family for row in ROWS])
def test_a_family_has_the_products_and_the_cache_that_its_own_class_has(row):
    told = {name: getattr(row, name) for name in ("parameters", "projections", "head", "cache", "state")}
    told["state"] = int(told["state"] or 0)
    assert families.verdict(families.configuration(row), told) == ("right", "")


def test_every_family_that_is_read_was_compared_and_the_others_say_why():
    assert {row.family for row in ROWS} == {*FAMILIES, *TEXT}
    assert not set(REFUSED) & {*FAMILIES, *TEXT}
    for family in REFUSED:
        with pytest.raises(BadInput, match=re.escape(f"'{family}' {REFUSED[family]}; wanted a family")) as refused:
            from_mapping({"model_type": family}, "config.json", "model")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "gpt_neo", "attention_types": [[[], 10**12]]},
            r"attention_types is .*; wanted \[\[kinds, times\], ...\]",
        ),
        ({"model_type": "zamba", "n_mamba_heads": 10**9}, r"n_mamba_heads is 1000000000; wanted .* at most 1000"),
        ({"model_type": "hrm_text", "L_cycles": 10**9}, r"wanted at most 1000 blocks, all turns counted"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M" * 2000}, r"wanted letters M, E, \* and -"),
        ({"model_type": "deepseek_v2"}, r"has no num_experts_per_tok"),
        ({"model_type": "lfm2_moe"}, r"layer_types is None; wanted a list of 32, conv or full_attention"),
        ({"model_type": "qwen3_moe", "num_experts_per_tok": 129}, r"is 129; wanted at most the 128 experts"),
        ({"model_type": "gemma3", "text_config": [1]}, r"text_config is \[1\]; wanted a JSON object"),
        (
            {"model_type": "gemma3n_text", "intermediate_size": [64]},
            r"intermediate_size is \[64\]; wanted a list of 35",
        ),
        ({"model_type": "kimi_linear", "linear_attn_config": 3}, r"linear_attn_config is 3; wanted a JSON object"),
        ({"model_type": "bamba", "mamba_d_head": 3}, r"mamba_d_head is 3; wanted heads that share the 8192 channels"),
    ],
)
def test_a_configuration_that_no_such_model_has_is_refused_in_one_line(config, words):
    with pytest.raises(BadInput, match=words) as refused:
        from_mapping(config, "config.json", "model")
    assert "\n" not in str(refused.value)


def test_text_of_a_composite_configuration_is_read():
    inner = {"model_type": "gemma3_text", "hidden_size": 640, "num_hidden_layers": 6, "vocab_size": 1000}
    model = from_mapping({"model_type": "gemma3", "text_config": inner, "vision_config": {"hidden_size": 9}}, "x", "m")
    assert (model.d_model, model.n_layers, model.vocab_size) == (640, 6, 1000)
    assert [kind["count"] for kind in model.blocks] == [5, 1]


def test_experts_are_read_under_the_key_of_either_version_and_heads_are_as_wide_as_their_class_has_them():
    old, new = (
        {"model_type": "qwen3_moe", key: 16, "hidden_size": 1024} for key in ("num_experts", "num_local_experts")
    )
    for config in (old, new):
        model = from_mapping(config, "x", "m")
        assert (model.n_experts, model.head_dim) == (16, 1024 // 32)


def asked(*arguments, lines=()):
    """Return what the runner answers, in the environment that has the transformers library."""
    assert find_spec("transformers"), "run this with make test MARK=torch"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(
        [sys.executable, RUNNER, *arguments], input=text, capture_output=True, text=True, check=True,
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    return list(map(json.loads, done.stdout.splitlines()))


@pytest.mark.torch
def test_the_archived_table_is_what_the_library_says():
    told = asked(lines=[families.configuration(row) for row in ROWS])
    for row, one in zip(ROWS, told, strict=True):
        said = families.theirs(one)
        assert {name: str(value) for name, value in said.items()} == {name: str(getattr(row, name)) for name in said}, (
            row.family
        )


@pytest.mark.torch
def test_defaults_and_other_names_of_keys_are_those_of_the_classes():
    keys = {key for one in known().values() for key in (*one.get("defaults", {}), *one.get("names", {}))}
    (told,) = asked("--classes", *keys)
    assert {name: one for name, one in told["families"].items() if name not in REFUSED} == known()
    assert {*told["families"]} - {"emu3_text_model"} <= {*FAMILIES, *TEXT, *REFUSED}


@pytest.mark.torch
def test_no_drawn_variant_is_read_wrongly():
    told = [one for one in asked("--variants", "5", *FAMILIES) if "projections" in one]
    found = [families.verdict(one["asked"], families.theirs(one)) for one in told]
    assert [why for verdict, why in found if verdict == "wrong"] == []
    assert Counter(verdict for verdict, _ in found)["right"] >= 600
