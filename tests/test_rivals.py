"""Systems of a reader's own on pages about the published two: what is said of them, in which colours, against what."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

import pimllm_lib as pl
from pimllm_chapters import energy, latency_breakdown, tokens_per_second
from pimllm_lib.analysis import beside, claims, standing
from pimllm_lib.cli.main import main
from pimllm_lib.report import figure, rivals

PIM = pl.catalog.systems["pim-llm"]
MINE = replace(PIM, name="mine", array=replace(PIM.array, rows=8, cols=128))
POINT = {"model": ["gpt2-355m", "opt-6.7b"], "context_len": [128, 4096]}


def compared(*systems, conventions="as-published"):
    ds = pl.evaluate(system=list(systems), conventions=conventions, detail="component", **POINT)
    return pl.metrics.compare(pl.metrics.summary(ds), str(ds.system.values[0]))


def test_a_ratio_is_a_published_one_only_against_the_published_baseline():
    def kinds(ds):
        return set(claims.published().set_index("id").loc[claims.check(ds).index].quantity)

    assert {"speedup", "energy_gain", "tokens_per_s"} <= kinds(compared("tpu-llm", "pim-llm", MINE))
    assert kinds(compared(MINE, "pim-llm", "tpu-llm")).isdisjoint({"speedup", "energy_gain"})
    assert kinds(compared(replace(pl.catalog.systems["tpu-llm"], array=MINE.array), "pim-llm")).isdisjoint({"speedup"})
    assert claims.check(compared(MINE)).empty


def test_a_box_speaks_of_the_systems_that_the_result_is_of():
    assert "all-digital TPU-LLM" in tokens_per_second.box(compared("tpu-llm", "pim-llm")).question
    ds = compared("pim-llm", MINE)
    made = tokens_per_second.box(ds)
    ratio = ds.speedup.sel(system="mine")
    assert made.answer.startswith(f"mine decodes {ratio.min().item():.3g} times (")
    assert f"{ratio.max().item():.3g} times (" in made.answer
    assert made.answer.endswith("as fast as pim-llm, counted as-published.")
    assert "of pim-llm and mine" in made.more
    same_name = replace(MINE, name="pim-llm")
    assert "of tpu-llm and pim-llm" in tokens_per_second.box(compared("tpu-llm", same_name)).more


@pytest.mark.parametrize("count", [1, 6])
def test_figures_and_tables_hold_one_to_six_systems(count):
    systems = ["tpu-llm", MINE, "pim-llm", "tpu-llm-lop", "pim-llm-groups", "pim-attention"][:count]
    point = {"model": "opt-6.7b", "context_len": [128, 256], "conventions": ["as-published", "corrected"]}
    counted = pl.evaluate(system=systems, detail="component", **point)
    ds = pl.metrics.compare(pl.metrics.summary(counted), "tpu-llm")
    one = ds.sel(conventions="corrected")
    drawn = [energy.gains(ds), tokens_per_second.rates_and_speedup(one, claims.check(one))]
    drawn += [energy.parts(counted.isel(model=0, context_len=0))]
    assert all(name in drawn[1].alt for name in one.system.values)
    words = energy.words_table(pl.metrics.battery(one, battery_wh=5.0, tokens_per_word=1.5)).frame
    assert words.iloc[0, 1].count(" / ") == count - 1
    assert len(energy.tile_table(counted.isel(model=0, context_len=0)).frame) == 2 * len(
        {"mine", "pim-llm", "pim-llm-groups", "pim-attention"} & set(one.system.values)
    )


def test_each_system_has_a_colour_of_its_own_and_the_published_ones_theirs():
    names = ["pim-llm", *"abcdef", "tpu-llm", "a"]
    colours = figure.system_colours(names)
    assert len(set(colours.values())) == len(colours) == 8
    assert colours.items() >= figure.SYSTEM_COLOURS.items()
    with pytest.raises(ValueError, match="there are 7 systems beside the published ones; wanted at most 6"):
        figure.system_colours("abcdefg")


def test_an_array_in_fewer_rows_has_as_many_pes_and_ends_in_one_row(tmp_path):
    (tmp_path / "odd.toml").write_text(
        'base = "tpu-llm"\narray.rows = { value = 12, unit = "1", source = "us", status = "assumed" }\n'
    )
    array = tokens_per_second.in_fewer_rows(str(tmp_path / "odd.toml")).array
    assert array.rows.values.tolist() == [12, 6, 3, 1]
    assert (array.rows * array.cols == 12 * 32).all()


def test_a_part_that_a_system_lacks_is_not_made_quicker():
    assert [one.name for one in latency_breakdown.quicker("tpu-llm")] == ["tpu-llm", "array x 10"]
    assert len(latency_breakdown.quicker("pim-llm")) == 4


def test_a_whole_machine_of_a_readers_own_stands_beside_those_that_one_can_buy():
    point = {"model": ["bonsai-1.7b-ternary"], "context_len": [128]}
    ds = beside.hybrids(**point, systems=[MINE, "tpu-llm"])
    assert ds.built.values.tolist() == [*beside.BUILT, "mine", "tpu-llm"]
    own = pl.evaluate(system=MINE, conventions="full-system", **point)
    assert ds.energy_j.sel(built="mine").item() == pytest.approx(own.energy_j.item(), rel=1e-12)
    digital = ds.sel(built="tpu-llm")
    assert digital.energy_least_j.item() == digital.energy_j.item() == digital.energy_most_j.item()
    asked = {"model": "bonsai-1.7b-ternary", "context_len": 128, "tokens_per_s": 1e-3, "energy_j": 1e3}
    assert set(beside.needed(**asked, built="mine", systems=[MINE]).values()) == {1.0}
    with pytest.raises(ValueError, match=r"systems are named \['as published'\]; wanted distinct names, and others"):
        beside.hybrids(**point, systems=[replace(MINE, name="as published")])


def test_a_pair_stands_for_the_published_one_and_another_number_is_refused():
    assert rivals.stand_ins(["tpu-llm", "pim-llm"]) is None
    assert "TPU-LLM stands for pim-llm, PIM-LLM for pim-llm-lop" in rivals.stand_ins(["pim-llm", "pim-llm-lop"])
    for systems in (["tpu-llm"], ["pim-llm", "tpu-llm"], ["tpu-llm", "pim-llm", "pim-llm-lop"]):
        with pytest.raises(ValueError, match="wanted two, a baseline and then one with crossbars"):
            standing.gains(model="gpt2-355m", context_len=128, system=systems)


def test_the_figures_of_a_run_can_be_had_as_files(tmp_path, capsys):
    drawn = tokens_per_second.rates_and_speedup(ds := compared("pim-llm", MINE), claims.check(ds))
    output = {"data": {"text/html": drawn._repr_html_()}}
    executed = {"cells": [{"outputs": [output, {"data": {}}]}, {"outputs": [output]}, {}]}
    (tmp_path / "mine.ipynb").write_text(json.dumps(executed))
    asked = ["--archive", str(tmp_path), "--figures", str(tmp_path / "figures")]
    assert main(["show", "mine", *asked]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "figures" / f"mine-{i}.svg") for i in (1, 2)]
    assert ElementTree.parse(tmp_path / "figures" / "mine-2.svg").getroot().get("aria-label") == drawn.alt
    (tmp_path / "bare.ipynb").write_text('{"cells": []}')
    for name, words in (("bare", "bare.ipynb has no figures"), ("none", "none.ipynb")):
        assert main(["show", name, *asked]) == 2
        assert words in capsys.readouterr().err
