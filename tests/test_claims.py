"""Published numbers: the committed verdicts are the ones the library computes."""

import pandas as pd
import pytest
from conftest import CONTEXTS, SEVEN

import pimllm_lib as pl
from pimllm_lib.report import claims

PUBLISHED = claims.published()


@pytest.fixture(scope="module")
def checked():
    ds = pl.evaluate(system="tpu-llm", model=SEVEN, context_len=CONTEXTS, conventions="as-published")
    return claims.check(pl.metrics.summary(ds))


def test_every_published_number_is_answered_with_the_committed_verdict(checked):
    assert checked.verdict.to_dict() == PUBLISHED.set_index("id").verdict.to_dict()


def test_all_42_printed_baseline_rates_agree_to_the_printed_digit(checked):
    rates = checked[checked.index.str.startswith("rate-tpu-llm-")]
    assert len(rates) == 42
    assert set(rates.verdict) == {"agrees"}


def test_a_claim_that_does_not_agree_has_a_reason():
    assert (PUBLISHED[PUBLISHED.verdict != "agrees"].reason != "").all()


def test_published_rows_are_complete_and_unique():
    assert PUBLISHED.id.is_unique
    for column in ("claim", "where", "value", "unit", "how_read", "verdict"):
        assert (PUBLISHED[column] != "").all(), column
    assert PUBLISHED.rounding.isin(claims.ROUNDINGS).all()
    printed = PUBLISHED.value.str.split(".").str[-1].str.len()
    assert (printed.where(PUBLISHED.value.str.contains("."), 0) == pd.to_numeric(PUBLISHED.decimals)).all()


def test_a_wrong_model_of_the_array_is_seen():
    ds = pl.evaluate(system="tpu-llm", model="opt-6.7b", context_len=128, conventions="as-published")
    slow = pl.metrics.summary(ds)
    off = claims.check(slow.assign(tokens_per_s=slow.tokens_per_s * 1.02))
    assert off.verdict.tolist() == ["differs"]


def test_other_conventions_answer_no_published_claim():
    ds = pl.evaluate(system="tpu-llm", model=SEVEN, context_len=CONTEXTS, conventions="corrected")
    assert claims.check(pl.metrics.summary(ds)).empty
