"""Published numbers: the committed verdicts are the ones the library computes."""

from dataclasses import replace

import pandas as pd
import pytest
from conftest import CONTEXTS, SEVEN, checkout

import pimllm_lib as pl
from pimllm_lib.analysis import claims
from pimllm_lib.core.paths import ROOT

PUBLISHED = claims.published()
#: Models of the published heat map that no other figure has.
HEAT_MAP = ["opt-350m", "opt-13b", "opt-30b", "opt-66b"]


@pytest.fixture(scope="module")
def checked():
    every = ["gpt2-124m", *SEVEN, *HEAT_MAP]
    both = {"system": ["tpu-llm", "pim-llm"], "model": every, "context_len": CONTEXTS}
    ds = pl.evaluate(**both, conventions="as-published", detail="component")
    compared = pl.metrics.compare(pl.metrics.summary(ds))
    return claims.check(claims.merits(compared))


def test_every_published_number_is_answered_with_the_committed_verdict(checked):
    assert checked.verdict.to_dict() == PUBLISHED.set_index("id").verdict.to_dict()


@pytest.mark.parametrize(
    ("start", "rows"),
    [
        ("rate-tpu-llm-", 42),
        ("rate-pim-llm-", 42),
        ("speedup-", 42),
        ("tpj-", 14),
        ("gain-", 7),
        ("array-share-", 7),
        ("heat-map-", 42),
    ],
)
def test_printed_labels_agree_to_the_printed_digit(checked, start, rows):
    labels = checked[checked.index.str.startswith(start)]
    assert len(labels) == rows
    assert set(labels.verdict) == {"agrees"}


@checkout
def test_pages_say_how_many_agree():
    every = claims.every()
    assert (every.verdict == every.committed).all()
    agree = f"{(every.verdict == 'agrees').sum()} of {len(PUBLISHED)} published"
    for name in ("README.md", "CHANGELOG.md"):
        assert agree in " ".join((ROOT / name).read_text().split())


def test_a_claim_that_does_not_agree_has_a_reason():
    assert (PUBLISHED[PUBLISHED.verdict != "agrees"].reason != "").all()


def test_published_rows_are_complete_and_unique():
    assert PUBLISHED.id.is_unique
    for column in ("claim", "where", "value", "unit", "how_read", "verdict"):
        assert (PUBLISHED[column] != "").all(), column
    assert PUBLISHED.rounding.isin([*claims.ROUNDINGS, *claims.BOUNDS]).all()
    printed = PUBLISHED.value.str.extract(r"\.(\d+)$")[0].str.len().fillna(0)
    assert (printed >= pd.to_numeric(PUBLISHED.decimals)).all()


def test_a_wrong_model_of_the_array_is_seen():
    ds = pl.evaluate(system="tpu-llm", model="opt-6.7b", context_len=128, conventions="as-published")
    slow = pl.metrics.summary(ds)
    off = claims.check(slow.assign(tokens_per_s=slow.tokens_per_s * 1.02))
    assert off.verdict.tolist() == ["differs"]


def test_another_machine_or_model_under_a_known_name_answers_no_claim():
    tpu = pl.catalog.systems["tpu-llm"]
    wide = replace(tpu, array=replace(tpu.array, cols=64))
    swept = replace(tpu, array=replace(tpu.array, cols=pl.axis(cols=[32, 64])))
    for system in (wide, swept):
        ds = pl.evaluate(system=system, model="opt-6.7b", context_len=128, conventions="as-published")
        assert claims.check(pl.metrics.summary(ds)).empty


def test_other_conventions_answer_no_published_claim():
    ds = pl.evaluate(system="tpu-llm", model=SEVEN, context_len=CONTEXTS, conventions="corrected")
    assert claims.check(pl.metrics.summary(ds)).empty
