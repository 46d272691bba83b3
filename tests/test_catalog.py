"""Every literature number has a source that the bibliography knows; parts from TOML are checked field by field."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pimllm_lib import catalog
from pimllm_lib.catalog.departures import departures
from pimllm_lib.catalog.quantities import STATUSES
from pimllm_lib.core.parts import fingerprint, with_fields
from pimllm_lib.core.units import UNITS, si_unit

BIBLIOGRAPHY = Path(__file__).parents[1] / "book" / "references.bib"
QUANTITIES = [
    (part, field, entry)
    for part, table in catalog.parts.entries.items()
    for field, entry in table.items()
    if isinstance(entry, dict)
]


def known_sources():
    return set(re.findall(r"@\w+\{(\w+),", BIBLIOGRAPHY.read_text())) | {"pimllm"}


@pytest.mark.parametrize(("part", "field", "entry"), QUANTITIES, ids=[f"{p}.{f}" for p, f, _ in QUANTITIES])
def test_every_quantity_has_a_status_and_a_source_that_the_bibliography_knows(part, field, entry):
    assert entry["status"] in STATUSES
    assert entry["source"] in known_sources()
    assert entry.get("where") or entry.get("note")
    ours = entry["status"] in ("fitted", "assumed")
    assert ours == (entry["source"] == "pimllm")
    if "range" in entry:
        assert entry["range"][0] <= entry["value"] <= entry["range"][1]


@pytest.mark.parametrize("name", list(catalog.models))
def test_every_model_has_a_source_that_the_bibliography_knows(name):
    assert catalog.models.entries[name]["source"] in known_sources()


def test_every_bibliography_entry_was_checked_or_says_that_it_was_not():
    for entry in BIBLIOGRAPHY.read_text().split("\n@")[1:]:
        assert "checked =" in entry or "note = {unverified}" in entry


def test_values_are_converted_to_si():
    array = catalog.parts["edge-32x32"]
    assert (array.rate_hz, array.measured_cycle_energy_j) == (1e8, pytest.approx(40.713e-12))


def test_every_field_of_a_part_is_a_count_or_ends_in_its_unit():
    for _, field, entry in QUANTITIES:
        if not isinstance(entry["value"], str):
            assert UNITS[entry["unit"]][0] == si_unit(field)


def test_a_part_from_toml_is_the_part_it_describes(part_toml):
    array = catalog.part(part_toml())
    assert (array.name, array.rows, array.cols, array.rate_hz) == ("mine", 64, 16, 5e8)


def test_a_system_from_toml_takes_an_array_beside_it(part_toml):
    path = part_toml().with_name("system.toml")
    path.write_text('name = "ours"\narray = "mine.toml"\n')
    assert catalog.system(path).array.rows == 64


def test_fingerprints_follow_content(part_toml):
    array = catalog.parts["edge-32x32"]
    assert fingerprint(array) == fingerprint(replace(array))
    assert fingerprint(array) != fingerprint(replace(array, rows=33))


def test_parts_that_name_each_other_are_refused(tmp_path):
    tile = """part = "Tile"
pes = { value = 4, unit = "1", source = "us", status = "assumed" }
crossbar = "./b.toml"
periphery = "periphery-mnsim"
buffer = "buffer-90nm"
intra_bps = { value = 1, unit = "Gbit/s", source = "us", status = "assumed" }
"""
    (tmp_path / "a.toml").write_text(tile)
    (tmp_path / "b.toml").write_text(tile.replace("./b.toml", "./a.toml"))
    with pytest.raises(ValueError, match=r"a\.toml names itself, through 2 file"):
        catalog.part(tmp_path / "a.toml")
    (tmp_path / "c.toml").write_text('base = "./c.toml"\n')
    with pytest.raises(ValueError, match=r"c\.toml names itself, through 1 file"):
        catalog.preset(tmp_path / "c.toml")


ASSUMED = 'unit = "1", source = "us", status = "assumed" }'


def test_a_part_takes_from_its_base_what_it_does_not_say_and_from_a_file_beside_it_too(tmp_path):
    (tmp_path / "near.toml").write_text(f'base = "adc-8bit"\nbits = {{ value = 7, {ASSUMED}\n')
    far = tmp_path / "far"
    far.mkdir()
    (far / "mine.toml").write_text(f'base = "../near.toml"\nidle_share = {{ value = 0.5, {ASSUMED}\n')
    mine, known = catalog.part(far / "mine.toml"), catalog.parts["adc-8bit"]
    assert fingerprint(mine) == fingerprint(replace(known, name="mine", bits=7, idle_share=0.5))


def test_a_system_changes_parts_of_its_base_in_place_and_files_it_names_lie_beside_it(tmp_path):
    (tmp_path / "adc.toml").write_text(f'base = "adc-8bit"\nbits = {{ value = 7, {ASSUMED}\n')
    (tmp_path / "first.toml").write_text(
        'base = "pim-llm"\nsram = "sram-8mb-lstp"\npim.tile.crossbar.adc = "adc.toml"\n'
    )
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "second.toml").write_text(
        'base = "../first.toml"\n'
        f"pim.tile.crossbar.adc.per_crossbar = {{ value = 64, {ASSUMED}\n"
        f"pim.gated_share = {{ value = 0.2, {ASSUMED}\n"
    )
    known, made = catalog.systems["pim-llm"], catalog.system(tmp_path / "away" / "second.toml")
    adc = replace(known.pim.tile.crossbar.adc, name="adc", bits=7, per_crossbar=64)
    wanted = {"name": "second", "sram": catalog.parts["sram-8mb-lstp"], "pim.gated_share": 0.2,
              "pim.tile.crossbar.adc": adc}  # fmt: skip
    assert fingerprint(made) == fingerprint(with_fields(known, wanted))
    assert departures(made).keys() == {
        "second.routing", "second: pim-published.gated_share", *(f"second: adc.{f}" for f in adc.__dataclass_fields__)
    } - {"second: adc.name"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('base = "pim-lm"', "s.toml: unknown base 'pim-lm', did you mean 'pim-llm'"),
        ("base = 3", "s.toml: unknown base 3"),
        ('base = "s.toml"', r"s\.toml names itself, through 1 file"),
        ('base = "t.toml"', r"s\.toml names itself, through 2 file"),
        ('base = "gone.toml"', r"gone\.toml cannot be read"),
        ('base = "pim-llm"\npim.tile.crossbar.adc.bits = 6', r"^\S*s.toml: adc-8bit.bits is 6; wanted \{ value"),
        ('base = "pim-llm"\npim.tile.crossbar.adc.bits = { unit = "1" }', "adc-8bit.bits has no value; wanted one"),
        ('base = "pim-llm"\npim.tile.crossbar.acd = "adc-6bit"', "unknown field of crossbar-256 'acd', did you mean 'dac'"),
        ('base = "pim-llm"\npim.tile.crossbar.adc = "dac-1bit"', "adc is 'dac-1bit', a Dac; wanted a Adc"),
        ('base = "pim-llm"\npim.tile.crossbar.adc.base = "adc-6"', "unknown base 'adc-6', did you mean 'adc-6bit'"),
        ('base = "pim-llm"\narray.part = "Adc"', "unknown field of edge-32x32"),
        ('base = "tpu-llm"\npim.tile.pes = 4', "s.toml: pim has neither base nor part"),
        ('base = "pim-llm"\nsram = { value = 4 }', "s.sram is {'value': 4}; wanted the name or path of a Sram"),
    ],
)  # fmt: skip
def test_a_base_that_is_none_is_refused_with_what_is_nearest(tmp_path, text, words):
    (tmp_path / "s.toml").write_text(text)
    (tmp_path / "t.toml").write_text('base = "./s.toml"')
    with pytest.raises(ValueError, match=words) as error:
        catalog.system(tmp_path / "s.toml")
    assert "\n" not in str(error.value)


def test_conventions_cannot_wear_the_name_of_a_preset(tmp_path):
    for name, base in (("as-published", "corrected"), ("mine", "as-published")):
        (tmp_path / f"{name}.toml").write_text(f'base = "{base}"\nfloor_block = false\n')
    with pytest.raises(ValueError, match="conventions named 'as-published' are not the preset of that name"):
        catalog.preset(tmp_path / "as-published.toml")
    assert not catalog.preset(tmp_path / "mine.toml").floor_block
    with pytest.raises(ValueError, match="are not the preset of that name"):
        catalog.preset(replace(catalog.preset("corrected"), floor_block=True))


ROWS = 'rows = { value = 64, unit = "1", source = "us", status = "assumed" }'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("value = 500", "value = -500", r"mine.toml: SystolicArray.rate_hz is -500000000.0; wanted a finite"),
        ("value = 500", "value = nan", r"rate_hz is nan; wanted a finite"),
        ('"MHz", source = "us"', '"MHz"', r"mine.rate_hz has no source; wanted one"),
        ('"MHz", source = "us"', '"MHz", source = " "', r"mine.rate_hz has no source; wanted one"),
        ('"MHz"', '"mJ"', r"mine.rate_hz has the unit 'mJ'; wanted one of Hz, kHz, MHz, GHz"),
        ('"pJ"', '"ns"', r"active_pe_energy_j has the unit 'ns'; wanted one of J, uJ, nJ, pJ, fJ"),
        ('"assumed"', '"guessed"', r"unknown status 'guessed'"),
        (ROWS, "", r"mine.rows is missing"),
        (ROWS, "rows = 64", r"mine.rows is 64; wanted \{ value"),
        ("rows =", "row =", r"unknown field of mine 'row', did you mean 'rows'"),
        ("value = 64", 'valeu = 64', r"unknown key 'valeu', did you mean 'value'"),
        ("value = 64", "value = 0", r"SystolicArray.rows is 0; wanted a whole number of at least 1"),
        ("value = 64", "value = 6.5", r"SystolicArray.rows is 6.5"),
        ("value = 64", "value = true", r"rows has the value True; wanted a number"),
        ("value = 64", 'value = "many"', r"mine.rows has the value 'many'; wanted a number"),
        ("value = 64", "value = [64]", r"rows has the value \[64\]; wanted a number"),
        ('"assumed"', "[]", r"mine.rows has no status|unknown status"),
        ('unit = "1"', "unit = []", r"rows has the unit \[\]"),
        ('name = "mine"', "name = []", r"name is \[\]; wanted a name in quotes"),
        ('part = "SystolicArray"', "part = []", r"unknown part class of mine \[\]"),
        ('part = "SystolicArray"', 'part = "Array"', r"unknown part class of mine 'Array'"),
        ('part = "SystolicArray"', "part = [", r"mine.toml is not TOML"),
    ],
)  # fmt: skip
def test_a_bad_part_is_refused_with_file_and_field(part_toml, old, new, words):
    with pytest.raises(ValueError, match=words) as error:
        catalog.part(part_toml(old, new))
    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('array = "edge-32x32"\nrouting = { projection = "array" }', "wanted an engine for attention, head too"),
        ('array = "edge-32x32"\nrouting = { projection = "arry", attention = "array" }', "unknown engine in s.routing"),
        ('array = "edge-32x32"\nrouting = { projections = "array" }', "unknown kind of product in s.routing"),
        ('array = "edge-32x32"\nrouting = "array"', "s.routing is 'array'; wanted a table"),
        ("routing = {}", "s.array is missing"),
        ('array = "edge"', "unknown part 'edge', did you mean 'edge-32x32'"),
        ('array = "edge-32x32"\nfast = true', "unknown field of s 'fast'"),
    ],
)
def test_a_bad_system_is_refused_with_file_and_field(tmp_path, text, words):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        catalog.system(str(path))
    assert "s.toml" in str(error.value)
