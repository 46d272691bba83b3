"""Writing keys and values: what is written, how long it takes, and how long cells last, against events and draws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.analysis.endurance import Use, lifetimes, uses
from pimllm_lib.core.errors import BadInput, UnknownName
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.core.units import YEAR
from pimllm_lib.costs import wear
from pimllm_lib.engines.writing import token_cells
from pimllm_lib.hardware import Technology

PIM = pl.catalog.systems["pim-attention"]
TINY = replace(
    pl.catalog.models["opt-125m"], name="tiny", d_model=8, d_ff=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=2
)


class Ring:
    """Crossbars of one layer and head, cell by cell: a column of keys and a row of values for each slot."""

    def __init__(self, slots, head_dim, bits):
        self.keys = np.zeros((head_dim, bits, slots), dtype=int)
        self.values = np.zeros((slots, head_dim, bits), dtype=int)
        self.next = 0

    def write(self):
        self.keys[:, :, self.next] += 1
        self.values[self.next] += 1
        self.next = (self.next + 1) % self.keys.shape[2]


def test_a_ring_of_events_writes_the_bits_of_the_closed_form_over_a_hundred_thousand_tokens():
    tokens, slots, bits = 100_000, 768, 3
    rings = [Ring(slots, TINY.head_dim, bits) for _ in range(TINY.n_layers * TINY.n_kv_heads)]
    for _ in range(tokens):
        for ring in rings:
            ring.write()
    told = wear.numbers(TINY.n_kv_heads, TINY.head_dim, TINY.n_layers) * bits
    assert told == 2 * TINY.n_kv_heads * TINY.head_dim * bits * TINY.n_layers
    assert sum(ring.keys.sum() + ring.values.sum() for ring in rings) == told * tokens
    each = wear.slot_writes("ring", slots, conversation=2000)["writes"] * tokens
    for ring in rings:
        assert {*np.unique(ring.keys), *np.unique(ring.values)} == {np.floor(each), np.ceil(each)}


def placed(allocation, slots, conversation, tokens, spare=0.0):
    """Return the writes of each slot after so many tokens, one by one."""
    count, wide = np.zeros(int(slots * (1 + spare)), dtype=int), int(slots * (1 + spare))
    for token in range(tokens):
        at = token % conversation if allocation == "in-place" else token
        count[at % (wide if allocation == "levelled" else slots)] += 1
    return count


@pytest.mark.parametrize("allocation", wear.ALLOCATIONS)
@pytest.mark.parametrize("conversation", [40, 100, 700])
def test_the_busiest_slots_get_what_placing_token_by_token_gives_them(allocation, conversation):
    slots, tokens = 100, 70_000
    count = placed(allocation, slots, conversation, tokens, spare=0.5 * (allocation == "levelled"))
    found = wear.slot_writes(allocation, slots, conversation=conversation, spare=0.5, gap=np.inf)
    assert count.max() / tokens == pytest.approx(found["writes"], rel=1e-3)
    busy = count > 0.99 * count.max()
    assert (busy.mean(), busy.sum()) == (pytest.approx(found["share"]), pytest.approx(found["slots"]))


def test_levelling_takes_one_move_in_so_many_writes():
    plain, moved = (wear.slot_writes("levelled", 64, conversation=1, gap=gap)["writes"] for gap in (np.inf, 100))
    assert moved == pytest.approx(1.01 * plain)


def test_an_unknown_allocation_is_refused():
    with pytest.raises(UnknownName, match="unknown allocation 'rings', did you mean 'ring'"):
        wear.slot_writes("rings", 8, conversation=8)


@pytest.mark.parametrize("shape", [1.0, 1.5, 5.0])
def test_lifetimes_drawn_cell_by_cell_agree_with_the_closed_forms(shape):
    endurance, cells, chips, rng = 1e6, 4000, 400, np.random.default_rng(3)
    lives = endurance / np.log(2) ** (1 / shape) * rng.weibull(shape, size=(chips, cells))
    first = np.sort(lives.min(axis=1))
    half = 1.96 * np.sqrt(chips) / 2  # of the rank of a median
    low, high = first[int(chips / 2 - half)], first[int(chips / 2 + half)]
    assert low < wear.first_failure(endurance, shape, cells) < high
    worn = np.partition(lives, cells // 100 - 1, axis=1)[:, cells // 100 - 1]  # when the fortieth of 4000 fails
    spread = 2.6 * worn.std() / np.sqrt(chips)
    assert worn.mean() == pytest.approx(wear.failed_share(endurance, shape, 0.01), abs=spread)


@settings(max_examples=50)
@given(shape=st.floats(0.5, 10), share=st.floats(1e-6, 0.9), cells=st.integers(1, 10**9))
def test_half_of_the_cells_have_failed_at_the_endurance_and_more_cells_fail_sooner(shape, share, cells):
    assert wear.failed_share(1e6, shape, 0.5) == pytest.approx(1e6)
    assert wear.failed_share(1e6, shape, share) < wear.failed_share(1e6, shape, share + 0.05)
    assert wear.first_failure(1e6, shape, cells) <= wear.first_failure(1e6, shape, 1) == pytest.approx(1e6)


def test_more_cells_than_are_worn_out_never_fail():
    assert wear.failed_share(1e6, 2.0, 1.0) == np.inf


def test_writing_a_line_is_what_counting_by_hand_gives():
    line = wear.write_time(256, 64, pulses=3, pulse_s=1e-7, verify_s=5e-8, erase_s=1e-3, erased=256)
    assert line == pytest.approx(4 * 3 * 1.5e-7 + 1e-3 / 256)
    beside = {"beside": 255, "half_select_j": 1e-15}
    joules = wear.write_energy(10, pulses=2, pulse_j=1e-12, verify_j=2e-13, erase_j=1e-13, **beside)
    assert joules == pytest.approx(10 * (2 * (1.2e-12 + 255e-15) + 1e-13))
    again = wear.refresh(1000, 256, line_s=1e-7, cell_j=1e-14, retention_s=1e-4)
    assert again == {"power_w": pytest.approx(1e-7), "share": pytest.approx(0.256)}


def _years(system=PIM, use=None, context=128, **more):
    use = use or uses(prompt=64, answer=16, minutes_per_day=16)
    return lifetimes(system=system, model="opt-125m", context_len=context, uses=use, **more)


def test_decoding_without_pause_wears_a_ring_once_for_each_round():
    use = (Use("decoding"),)
    ds = _years(use=use).squeeze().sel(allocation="ring")
    step = pl.evaluate(system=PIM, model="opt-125m", context_len=128, conventions="full-system").latency_s.item()
    tech, model = PIM.kv_pim.technology, pl.catalog.models["opt-125m"]
    cells = 128 * token_cells(PIM.kv_pim, model)
    cycles = wear.first_failure(tech.endurance, tech.weibull_shape, cells)
    assert ds.cell_writes.item() == 1 / 128
    expected = cycles * 128 * step / YEAR
    assert ds.first_failure_years.item() == pytest.approx(expected, rel=1e-4)  # but for refreshing once in ten years


def test_a_phone_lasts_as_much_longer_as_it_is_idle_and_the_three_allocations_are_in_order():
    ds = _years(system=with_field(PIM, "kv_pim.refreshed", False)).squeeze()
    ratio = ds.worn_years.sel(use="a phone") / ds.worn_years.sel(use="answers without pause")
    np.testing.assert_allclose(ratio, 1440 / 16)
    answers = ds.worn_years.sel(use="answers without pause")
    assert answers.sel(allocation="in-place") < answers.sel(allocation="ring") < answers.sel(allocation="levelled")


def test_more_sequences_wear_their_own_cells_at_the_rate_of_each():
    batch = with_fields(PIM, {"decoding.batch": 4, "kv_pim.refreshed": False})
    alone = with_field(PIM, "kv_pim.refreshed", False)
    ends = [_years(system=s, use=(Use("decoding"),)).squeeze().sel(allocation="ring") for s in (alone, batch)]
    steps = [
        pl.evaluate(system=s, model="opt-125m", context_len=128, conventions="full-system").latency_s.item() * b
        for s, b in ((alone, 1), (batch, 4))
    ]  # of all sequences together
    assert (ends[1].worn_years / ends[0].worn_years).item() == pytest.approx(steps[1] / steps[0])
    shape = PIM.kv_pim.technology.weibull_shape
    ratio = (ends[1].first_failure_years / ends[0].first_failure_years).item()
    assert ratio == pytest.approx(steps[1] / steps[0] * 4 ** (-1 / shape))


def test_a_prompt_is_written_faster_than_it_is_decoded():
    ds = _years(use=(Use("decoding"), Use("answers", prompt=120, answer=8))).squeeze().sel(allocation="ring")
    assert ds.worn_years.sel(use="answers") < ds.worn_years.sel(use="decoding")


def test_years_follow_endurance_and_take_its_axis():
    wide = with_field(PIM, "kv_pim.technology.endurance", pl.axis(cell_cycles=[1e6, 1e9, np.inf]))
    ds = _years(system=with_field(wide, "kv_pim.refreshed", False)).worn_years.sel(allocation="ring", use="a phone")
    values = ds.squeeze().values
    assert values[1] == pytest.approx(1000 * values[0])
    assert values[2] == np.inf


def test_a_hot_window_spares_what_lies_behind_it_as_long_as_conversations_end_in_it():
    hot = replace(PIM.kv_pim, name="hot", technology=pl.catalog.parts["sram-cim"])
    mixed = with_fields(PIM, {"kv_pim.hot": hot, "kv_pim.hot_tokens": 96, "kv_pim.refreshed": False})
    short, long = Use("short", 64, 16), Use("long", 256, 128)
    ds = _years(system=mixed, use=(short, long), context=512).squeeze().sel(allocation="ring")
    alone = _years(use=(short, long), context=512).squeeze().sel(allocation="ring")
    assert ds.worn_years.sel(use="short") == np.inf
    assert alone.worn_years.sel(use="long") < np.inf
    assert ds.cell_writes.sel(use="long") == pytest.approx(max(1 / 96, (1 - 96 / 384) / (512 - 96)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"endurance": 0}, "Technology.endurance is 0; wanted cycles above 0; inf for no limit"),
        ({"endurance": np.nan}, "Technology.endurance is nan; wanted cycles above 0"),
        ({"retention_s": -1.0}, "Technology.retention_s is -1.0; wanted seconds above 0"),
        ({"weibull_shape": 0}, "Technology.weibull_shape is 0; wanted a finite number above 0"),
        ({"row_parallel": 0}, "Technology.row_parallel is 0; wanted a whole number of at least 1"),
        ({"erased": 1.5}, "Technology.erased is 1.5; wanted a whole number"),
        ({"cell": "rram"}, "Technology.cell is 'rram'; wanted a Cell"),
    ],
)
def test_a_technology_that_cannot_be_is_refused(change, words):
    with pytest.raises(BadInput, match=words):
        replace(pl.catalog.parts["rram"], **change)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Use("mine", answer=0), "answer of mine is 0; wanted a whole number of at least 1"),
        (lambda: Use("mine", share=0), "share of mine is 0; wanted above 0, up to 1"),
        (lambda: uses(prompt=0, answer=1, minutes_per_day=1), "prompt is 0; wanted a whole number of at least 1"),
        (lambda: uses(prompt=1, answer=1, minutes_per_day=0), "minutes_per_day is 0; wanted above 0, up to 1440"),
        (lambda: _years(system="pim-llm"), "pim-llm has attention elsewhere; wanted one with attention on kv_pim"),
        (lambda: Technology(name="t", cell=None), "Technology.cell is None; wanted a Cell"),
    ],
)
def test_a_lifetime_of_nothing_is_refused(made, words):
    with pytest.raises(BadInput, match=words):
        made()
