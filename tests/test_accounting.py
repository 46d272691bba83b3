"""The way from preset to preset, and the values at which headlines turn."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import pimllm_lib as pl
from pimllm_chapters.accounting import HEADLINES
from pimllm_lib.analysis import flips
from pimllm_lib.core.conventions import AS_PUBLISHED, CORRECTED, FULL_SYSTEM, ORDER, SWITCHES, alone, walk
from pimllm_lib.core.parts import fingerprint, with_field

CASES = [(path, case) for _, case, paths in HEADLINES for path in paths]


def changed(a, b):
    return [name for name in SWITCHES if getattr(a, name) != getattr(b, name)]


def test_each_step_of_the_way_differs_from_the_one_before_in_one_field():
    way = walk()
    for (before, after), name in zip(pairwise(way), ORDER, strict=True):
        assert changed(before, after) == [name]
    assert set(ORDER) == set(SWITCHES)


def test_the_way_starts_passes_and_ends_at_the_presets_exactly():
    way = walk()
    for preset, place in ((AS_PUBLISHED, 0), (CORRECTED, 9), (FULL_SYSTEM, -1)):
        assert fingerprint(way[place]) == fingerprint(preset)
    args = {"system": ["tpu-llm", "pim-llm"], "model": ["gpt2-1.5b", "llama-7b"], "context_len": [128, 4096]}
    along = pl.evaluate(**args, conventions=way)
    for preset in (AS_PUBLISHED, CORRECTED, FULL_SYSTEM):
        direct = pl.evaluate(**args, conventions=preset)
        for name in ("latency_s", "energy_j"):
            xr.testing.assert_equal(along[name].sel(conventions=preset.name, drop=True), direct[name])


def test_a_step_alone_changes_its_field_and_what_it_needs():
    needed = {"published_ffn_width": ["published_pim_width"], "power_gating": ["static_power"]}
    for case, name in zip(alone(), ORDER, strict=True):
        base = AS_PUBLISHED if getattr(AS_PUBLISHED, name) else CORRECTED
        assert sorted(changed(case, base)) == sorted([name, *needed.get(name, [])])


@pytest.mark.parametrize(
    ("path", "case"),
    [
        pytest.param(p, c, id=f"{p}-{c['model']}-{c['conventions']}", marks=pytest.mark.slow if i % 3 else ())
        for i, (p, c) in enumerate(CASES)
    ],
)
def test_a_comparison_comes_out_differently_on_both_sides_of_its_root(path, case):
    root = flips.flip(path, **case)
    assert np.isfinite(root)
    sides = pl.axis(value=[root * (1 - 1e-6), root * (1 + 1e-6)])
    below, above = flips.margin(path, sides, **{"level": 0.0} | case).values
    assert np.sign(below) != np.sign(above)


def test_a_comparison_that_never_turns_has_no_root():
    case = {"quantity": "speedup", "level": 0.0, "model": "opt-1.3b", "context_len": 128, "conventions": "corrected"}
    assert np.isnan(flips.flip("pim.network_bps", **case))


def test_one_field_at_any_depth_is_changed_alone():
    pim_llm = pl.catalog.systems["pim-llm"]
    six = with_field(pim_llm, "pim.tile.crossbar.adc.bits", 6)
    assert six.pim.tile.crossbar.adc.bits == 6
    assert fingerprint(with_field(six, "pim.tile.crossbar.adc.bits", 8)) == fingerprint(pim_llm)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("pim.tiles", "unknown field of Pim 'tiles', did you mean 'tile'"),
        ("pim.act_bits.x", "Pim.act_bits is 8; wanted a part, to change x of it"),
        ("nothing", "unknown field of System 'nothing'"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path, words):
    with pytest.raises(ValueError, match=words):
        with_field(pl.catalog.systems["pim-llm"], path, 1)
