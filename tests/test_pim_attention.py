"""Chapter 12: rows of technologies, machines beside one another, the device needed, and the command."""

import json

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_chapters.pim_attention import compute, figures, words
from pimllm_chapters.pim_attention.compute import ENGINES_ALONE, SLOPE, Setting
from pimllm_lib.analysis import remedies, technologies
from pimllm_lib.analysis.endurance import lifetimes, uses
from pimllm_lib.cli.main import main
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import with_fields

USES = uses(prompt=512, answer=64, minutes_per_day=16)
SETTING = Setting(("opt-125m", "llama-3-8b"), (128, 4096, 32768), (128, 4096), "rram", 64.0, USES, 5.0)


@pytest.fixture(scope="module")
def machines():
    return compute.compared(SETTING)


@pytest.fixture(scope="module")
def rows():
    return compute.by_technology(SETTING)


def test_reading_alone_bounds_attention_in_memory_which_beats_the_cache_off_chip_at_long_contexts(machines):
    rate = machines.tokens_per_s
    assert (rate.sel(machine="in memory") <= rate.sel(machine="reading alone") * (1 + 1e-9)).all()
    assert (machines.tokens_per_j.sel(machine="in memory") < machines.tokens_per_j.sel(machine="reading alone")).all()
    far = rate.sel(context_len=32768, model="llama-3-8b")
    assert far.sel(machine="in memory") > far.sel(machine="improved") > far.sel(machine="published")


def test_each_machine_is_the_one_it_is_called(machines):
    llama = pl.catalog.models["llama-3-8b"]
    big = {"dram.capacity_bytes": 2.0**36}
    of = {"published": "pim-llm", "recommended": "pim-llm-groups", "in memory": "pim-attention"}
    homes = {name: (with_fields(pl.catalog.systems[system], big), llama) for name, system in of.items()}
    homes["improved"] = remedies.put(homes["published"][0], llama, ["row groups", "packed heads", "800 MHz"])
    for name, (system, model) in homes.items():
        ds = pl.evaluate(system=system, model=model, context_len=[128, 4096, 32768], conventions="full-system")
        found = machines.tokens_per_s.sel(machine=name, model="llama-3-8b")
        np.testing.assert_allclose(found, 1 / ds.latency_s.squeeze(), rtol=1e-12, err_msg=name)


def test_a_row_has_every_technology_context_and_estimate(rows):
    assert rows.technology.values.tolist() == technologies.names()
    assert rows.estimate.values.tolist() == ["low", "median", "high"]
    middle = rows.sel(estimate="median")
    for name in ("technology_tokens_per_s", "technology_tokens_per_j", "technology_area_m2"):
        assert middle[name].notnull().all(), name
    worn = middle.worn_years
    assert worn.sel(population="all published").notnull().all()
    arrays = worn.sel(population="arrays and products").notnull().all(["model", "context_len", "use", "allocation"])
    assert set(arrays.technology.values[~arrays.values]) == {"sot-mram", "oxide-gain-cell"}


def test_rows_are_the_machines_and_lifetimes_themselves(rows, machines):
    for name in ("tokens_per_s", "tokens_per_j", "area_m2", "write_share"):
        row = rows[f"technology_{name}"].sel(technology="rram", estimate="median")
        held = machines[name].sel(machine="in memory")
        np.testing.assert_allclose(row.transpose(*held.dims), held, rtol=1e-12)
    years = lifetimes(system=SETTING.in_memory("pcm"), model="opt-125m", context_len=4096, uses=USES).worn_years
    row = rows.worn_years.sel(
        technology="pcm", model="opt-125m", context_len=4096, estimate="median", population="all published"
    )
    np.testing.assert_allclose(row.transpose("use", "allocation"), years.squeeze().transpose("use", "allocation"))


def test_what_no_publication_spans_has_no_interval(rows):
    for population, field in technologies.POPULATIONS.items():
        ends = rows.worn_years.sel(estimate=["low", "high"], population=population)
        for name in technologies.names():
            there = ends.sel(technology=name).notnull()
            assert there.all() if technologies.has_interval(name, (field,)) else not there.any(), name
    assert "(no\u00a0interval)" in str(words.by_technology(rows))
    counts = compute.published_values().published_values.sel(quantity="endurance")
    assert counts.sel(technology="fefet") == 14
    assert counts.sel(technology="oxide-gain-cell") == 0


def test_lifetimes_grow_from_the_worse_to_the_better_end(rows):
    # flash is left out: at its worse end it is so slow to write that it lasts longer
    years = rows.worn_years.sel(technology=["rram", "pcm", "stt-mram", "sot-mram", "fefet"], population="all published")
    low, middle, high = (years.sel(estimate=e) for e in technologies.ESTIMATES)
    assert (low < middle).all()
    assert (middle < high).all()


def test_what_wears_out_by_the_endurance_of_arrays_need_not_by_all_that_was_published(rows):
    worn = rows.worn_years.sel(estimate="median", technology=["rram", "pcm", "fefet"])
    assert (worn.sel(population="arrays and products") < worn.sel(population="all published")).all()


def test_the_device_that_is_needed_lasts_as_long_as_is_asked(machines):
    found = compute.needed(SETTING, machines)
    at = found.needed_endurance.sel(model="llama-3-8b", context_len=4096)
    cycles = at.sel(use="answers without pause").item()
    unit = {"kv_pim.technology.endurance": cycles, "kv_pim.technology.weibull_shape": SLOPE, "kv_pim.refreshed": False}
    years = lifetimes(system=with_fields(SETTING.in_memory(), unit), model="llama-3-8b", context_len=4096, uses=USES)
    worn = years.worn_years.sel(allocation="ring", use="answers without pause")
    assert worn.item() == pytest.approx(5.0)
    # the break-even write energy makes both machines take as much
    joules = found.break_even_write_j.sel(model="opt-125m", context_len=32768, against="published").item()
    dear = {"kv_pim.technology.cell.write_j": joules, "kv_pim.technology.cell.write_pulses": 1,
            "kv_pim.technology.verify_j": 0.0}  # fmt: skip
    system = with_fields(SETTING.in_memory(), dear)
    spent = compute.measured(system, pl.catalog.models["opt-125m"], [32768]).tokens_per_j.item()
    published = machines.tokens_per_j.sel(model="opt-125m", machine="published", context_len=32768).item()
    assert spent == pytest.approx(published, rel=1e-6)
    assert ENGINES_ALONE in found.against.values


def test_fewer_bits_take_less_room_and_the_parts_of_a_token_sum_to_it():
    bits = compute.by_bits(SETTING)
    assert (bits.bits_kv_area_m2.diff("kv_bits") < 0).all()
    shares = compute.times(SETTING).time_share
    np.testing.assert_allclose(shares.sum("part"), 1)
    assert (shares >= -1e-12).all()
    assert (shares.sel(part="everything else") < 0.06).all()


def test_a_window_longer_than_a_conversation_keeps_all_writes_from_what_lies_behind():
    found = compute.mixed(SETTING, ["rram"], [0, 256, 1024])
    years = found.mixed_worn_years.sel(
        cold="rram", use="a phone", allocation="ring", context_len=4096, model="llama-3-8b"
    )
    assert years.sel(hot_tokens=0) < years.sel(hot_tokens=256) < years.sel(hot_tokens=1024) == np.inf


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"models": ()}, "models are none; wanted at least one"),
        ({"row_context": (64, 128)}, "row_context has 64; wanted contexts of context_len"),
        ({"row_context": (4096,)}, r"row_context is \[4096\]; wanted two or three contexts that grow"),
        ({"row_context": (4096, 128)}, "wanted two or three contexts that grow"),
        ({"technology": "ram"}, "unknown technology 'ram', did you mean"),
        ({"technology": "adc-8bit"}, "unknown technology 'adc-8bit'"),
        ({"gib": -1.0}, "gib is -1.0; wanted a number above 0"),
        ({"lasting": 0.0}, "lasting is 0.0; wanted a number above 0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(changed, words):
    with pytest.raises(BadInput, match=words):
        Setting(**(vars(SETTING) | changed))


def test_each_change_moves_what_it_is_about():
    found = compute.sensitivity(SETTING).sel(model="llama-3-8b", context_len=4096)
    assert found.changed_tokens_per_s.sel(change="a bus twice as fast") > 1
    assert found.changed_worn_years.sel(change="every pulse wears like a write").item() == pytest.approx(0.1, rel=0.01)
    assert found.changed_tokens_per_s.sel(change="written before it is read") < 1
    assert (
        found.changed_worn_years.sel(change="slope of cells 1")
        < 1
        < found.changed_worn_years.sel(change="slope of cells 3")
    )


def test_the_answer_names_those_that_do_not_last_and_figures_take_any_years(rows, machines):
    made = words.box(rows.sel(SETTING.shown), machines, (128, 4096), 5.0)
    assert "of arrays and products, rram, pcm, fefet and flash;" in made.more
    assert f"of {rows.technology.size} technologies 4 or " in made.decides
    needed, ratio = compute.needed(SETTING, machines), compute.swept(SETTING, [1e-12, 1e-9])
    for lasting in (0.1, 1.0, 100.0):
        assert f"cycles for {lasting:g} years" in figures.contours(needed, ratio, lasting).alt


def test_lifetimes_are_printed_for_a_technology_from_worse_to_better(capsys):
    argv = ["lifetime", "--model", "opt-125m", "--technology", "rram", "--technology", "edram", "--context", "512"]
    assert main([*argv, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    rram = [
        r["worn_years"] for r in rows if (r["technology"], r["use"], r["allocation"]) == ("rram", "a phone", "ring")
    ]
    assert [r["estimate"] for r in rows if r["technology"] == "rram"][:3] == ["low", "median", "high"]
    assert rram == sorted(rram)
    assert {r["worn_years"] for r in rows if r["technology"] == "edram"} == {None}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--technology", "rrram"], "unknown technology 'rrram', did you mean 'rram'"),
        (
            ["--technology", "rram", "--technology", "rram"],
            "technology 'rram' was given 2 times; wanted distinct names",
        ),
        (["--prompt", "0"], "prompt is 0; wanted a whole number of at least 1"),
        (["--system", "pim-llm"], "pim-llm has no crossbars for keys and values; wanted a system with kv_pim"),
        (["--minutes", "2000"], "minutes_per_day is 2000.0; wanted above 0, up to 1440"),
        (["--answer", "0"], "answer of answers without pause is 0; wanted a whole number of at least 1"),
        (["--context", "many"], "context_len is 'many'; wanted a whole number of tokens"),
    ],
)
def test_a_lifetime_that_cannot_be_is_one_line(argv, words, capsys):
    assert main(["lifetime", "--model", "opt-125m", *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
