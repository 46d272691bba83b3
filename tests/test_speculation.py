"""Tokens drafted ahead: how many are accepted on average, and what drafting and checking them takes."""

from dataclasses import replace

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.core.axes import Frame
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_fields
from pimllm_lib.hardware import Speculation
from pimllm_lib.system.charges import tables
from pimllm_lib.workload.step import Step

PIM, TPU = pl.catalog.systems["pim-llm"], pl.catalog.systems["tpu-llm"]
SMALL, LLAMA = pl.catalog.models["opt-125m"], pl.catalog.models["llama-3-8b"]
#: What is spent on work, all of it in proportion to the passes.
SPENT = ("latency_s", "busy_s", "macs", "dram_bytes")


def _costs(system, model, detail="total"):
    ds = pl.evaluate(system=system, model=model, context_len=4096, conventions="full-system", detail=detail)
    return ds.squeeze(["system", "model"], drop=True)


def _draft(acceptance, draft_len=4, layers=8):
    return Speculation(name="draft", draft_len=draft_len, acceptance=acceptance, draft_layers=layers)


@pytest.mark.parametrize(("chance", "length"), [(0.3, 2), (0.6, 4), (0.9, 12)])
def test_accepted_tokens_are_those_until_the_first_that_is_refused(chance, length):
    taken = np.random.default_rng(1).random((200_000, length)) < chance
    made = 1 + np.cumprod(taken, axis=1).sum(axis=1)  # the checker's own token comes on top
    error = made.std() / np.sqrt(len(made))
    assert abs(_draft(chance, length).accepted - made.mean()) < 4 * error


def test_a_draft_never_accepted_yields_one_token_and_one_always_accepted_all():
    assert _draft(0.0).accepted == 1
    assert _draft(1.0).accepted == 5
    assert _draft(1 - 1e-9).accepted == pytest.approx(5, rel=1e-6)
    assert _draft(pl.axis(chance=[0.0, 1.0])).accepted.tolist() == [1, 5]


def _pass(system, model, tokens):
    """Return what a step over so many tokens takes, all of which reach the output head."""
    frame = Frame.over([], system=["s"], model=["m"], context_len=[4096], op=[""], component=[""])
    step = Step(array=model, pim=model, context=4096, tokens=tokens, outputs=tokens,
                counting=pl.catalog.preset("full-system"))  # fmt: skip
    return {name: float(np.sum(tables(system, step, frame, "total", {name}, decode=False)[name])) for name in SPENT}


@pytest.mark.parametrize("system", [PIM, TPU])
@pytest.mark.parametrize("model", [SMALL, LLAMA])
def test_speculation_takes_one_checking_pass_and_a_drafting_pass_for_each_drafted_token(system, model):
    checking = _pass(system, model, 5)
    drafting = _costs(system, with_fields(model, {"n_layers": 8}))
    for chance in (0.0, 0.6, 1.0):
        ds = _costs(with_fields(system, {"decoding.speculation": _draft(chance)}), model)
        for name in SPENT:
            spent = ds[name].item() * float(_draft(chance).accepted)
            assert spent == pytest.approx(checking[name] + 4 * drafting[name].item(), rel=1e-12), name


def test_what_stands_there_is_not_doubled_by_drafting():
    plain, drafted = (
        _costs(system, LLAMA) for system in (PIM, with_fields(PIM, {"decoding.speculation": _draft(0.6)}))
    )
    for name in ("area_m2", "tiles", "kv_bytes", "static_power_w", "program_j"):
        assert np.array_equal(plain[name], drafted[name]), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"draft_len": 0}, "Speculation.draft_len is 0; wanted a whole number of at least 1"),
        ({"draft_layers": 1.5}, "Speculation.draft_layers is 1.5; wanted a whole number of at least 1"),
        ({"acceptance": 1.5}, "Speculation.acceptance is 1.5; wanted a chance from 0 to 1"),
        ({"acceptance": -0.1}, "Speculation.acceptance is -0.1; wanted"),
        ({"acceptance": pl.axis(chance=[0.5, 2.0])}, "Speculation.acceptance is .*; wanted a chance from 0 to 1"),
    ],
)
def test_a_draft_that_cannot_be_is_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        replace(_draft(0.6), **changes)


def test_no_more_blocks_draft_than_the_model_has():
    with pytest.raises(BadInput, match=r"Speculation.draft_layers is 13; wanted at most the 12 blocks of the model"):
        _costs(with_fields(PIM, {"decoding.speculation": _draft(0.6, layers=13)}), SMALL)
    assert _costs(with_fields(PIM, {"decoding.speculation": _draft(0.6, layers=12)}), SMALL).latency_s.sum() > 0
