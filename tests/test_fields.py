"""Fields are declared once: what a declaration says is checked, and shown wherever fields are."""

import importlib
import pkgutil
import re
from dataclasses import fields, is_dataclass, replace
from html import unescape
from inspect import getdoc

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib import analysis, core, hardware, workload
from pimllm_lib.cli.main import main
from pimllm_lib.core import rules
from pimllm_lib.core.conventions import CORRECTED, SWITCHES, Conventions
from pimllm_lib.core.errors import BadInput, UnknownName
from pimllm_lib.core.parts import Name, Value, declare, meanings, part, switch
from pimllm_lib.core.units import si_unit
from pimllm_lib.hardware import Cell
from pimllm_lib.report import pages, tables

COLUMN = rules.number("a finite number above 0", gt=0, lt=np.inf, column=True)
CELL = pl.catalog.parts["rram-mnsim"]


def parts_of(room):
    for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
        module = importlib.import_module(found.name)
        for item in vars(module).values():
            if isinstance(item, type) and is_dataclass(item) and item.__module__ == module.__name__:
                made = item.__dataclass_params__
                if made.frozen and not made.eq:  # what `part` makes
                    yield item


PARTS = [cls for room in (core, hardware, workload, analysis) for cls in parts_of(room)]
EVERY = [*pl.catalog.parts.values(), *pl.catalog.systems.values(), *pl.catalog.devices.values()]
CATALOG = {type(one): one for one in EVERY}
MADE = [*CATALOG.values(), pl.catalog.models["opt-6.7b"], pl.catalog.models["opt-6.7b"].published, CORRECTED]


def refusal(make):
    with pytest.raises(BadInput) as refused:
        make()
    return str(refused.value)


@pytest.mark.parametrize("cls", PARTS, ids=lambda cls: cls.__name__)
def test_every_field_states_a_rule_and_a_meaning_on_which_documentation_rests(cls):
    assert [f.name for f in fields(cls) if not {"rule", "meaning"} <= f.metadata.keys()] == []
    text = " ".join(getdoc(cls).split())
    for f in fields(cls):
        unit = f" ({si_unit(f.name)})" if si_unit(f.name) != "1" else ""
        assert len(meanings(cls)[f.name].split()) > 0
        assert f"{f.name}{unit}: {meanings(cls)[f.name]}" in text


def test_a_field_without_rule_or_meaning_would_be_found():
    @part
    class Bare:
        rows: Value

    assert not fields(Bare)[0].metadata
    with pytest.raises(TypeError, match="meaning"):
        declare(rules.COUNT)


def test_every_part_of_the_library_is_looked_at():
    assert len(PARTS) > 25
    assert {type(one) for one in MADE} >= {getattr(hardware, name) for name in hardware.__all__ if name[1:].islower()}


@pytest.mark.parametrize("item", MADE, ids=lambda item: type(item).__name__)
def test_every_rule_refuses_what_is_nothing_of_the_kind_and_names_the_field(item):
    for f in fields(item):
        if f.metadata["rule"]:
            said = refusal(lambda name=f.name: replace(item, **{name: object()}))
            label = {"walk": "walk of tiles", "measured_dataflow": "dataflow"}.get(f.name, f.name)
            assert label in said
            assert "wanted" in said or "Known:" in said


@pytest.mark.parametrize(
    ("rule", "wrong", "wanted"),
    [
        (rules.COUNT, 0, "a whole number of at least 1"),
        (rules.COUNT, 1.5, "a whole number of at least 1"),
        (rules.COUNT, True, "a whole number of at least 1"),
        (rules.COUNT, float("inf"), "a whole number of at least 1, below 2^53"),
        (rules.COUNT, 2**53, "a whole number of at least 1, below 2^53"),
        (rules.COUNT, 2**2000, "a whole number of at least 1"),
        (rules.BITS, 17, "1 to 16 bits"),
        (rules.POSITIVE, 0, "a finite number above 0"),
        (rules.POSITIVE, float("inf"), "a finite number above 0"),
        (rules.POSITIVE, (1.0, 2.0), "a finite number above 0"),
        (COLUMN, (1.0, -2.0), "a finite number above 0"),
        (COLUMN, (), "a finite number above 0"),
        (rules.AT_LEAST_0, -1e-300, "a finite number of at least 0"),
        (rules.AT_LEAST_0, float("nan"), "a finite number of at least 0"),
        (rules.AT_LEAST_0, "0", "a finite number of at least 0"),
        (rules.SHARE, 1.01, "a share from 0 to 1"),
        (rules.SHARE, -0.01, "a finite number of at least 0"),
        (rules.CHANCE, 2, "a chance from 0 to 1"),
        (rules.FLAG, 2, "true or false"),
        (rules.FLAG, "yes", "true or false"),
        (rules.TEXT, 3, "a text"),
        (rules.number("above 0; inf for no limit", gt=0), 0.0, "above 0; inf for no limit"),
        (rules.number("above 0; inf for no limit", gt=0), float("nan"), "above 0; inf for no limit"),
    ],
)
def test_a_rule_refuses_a_wrong_value_on_one_line_with_class_and_field(rule, wrong, wanted):
    @part
    class Gadget:
        size: Value = declare(rule, "how large it is")

    said = refusal(lambda: Gadget(size=wrong))
    assert said.startswith("Gadget.size is ")
    assert said.endswith(f"; wanted {wanted}")


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        (rules.COUNT, 1), (rules.COUNT, 2.0), (rules.COUNT, 2**53 - 1), (rules.BITS, 16), (rules.POSITIVE, 1e-300),
        (COLUMN, (1.0, 2.0)), (rules.AT_LEAST_0, 0), (rules.SHARE, 1), (rules.CHANCE, 0.0), (rules.FLAG, True),
        (rules.FLAG, 0), (rules.TEXT, ""), (rules.number("above 0", gt=0), float("inf")), (rules.ANY, object()),
    ],
)  # fmt: skip
def test_a_rule_takes_a_right_value_and_an_axis_of_them(rule, right):
    @part
    class Gadget:
        size: Value = declare(rule, "how large it is")

    assert Gadget(size=right).size is right
    if rule not in (rules.TEXT, rules.ANY) and not isinstance(right, tuple | bool):
        assert Gadget(size=pl.axis(sizes=[right, right])).size.sizes == {"sizes": 2}


def test_a_rule_looks_at_all_of_an_axis():
    @part
    class Gadget:
        size: Value = declare(rules.POSITIVE, "how large it is")
        kind: Name = declare(rules.choice(("a", "b"), axis=True), "what it is", default="a")
        only: Name = declare(rules.choice(("a", "b"), what="kind of gadget"), "what it alone is", default="a")

    assert "size is [1, 0]" in refusal(lambda: Gadget(size=pl.axis(sizes=[1, 0])))
    assert Gadget(size=1, kind=pl.axis(kinds=["a", "b"])).kind.sizes == {"kinds": 2}
    with pytest.raises(UnknownName, match=r"unknown Gadget.kind 'c'. Known: a, b"):
        Gadget(size=1, kind=pl.axis(kinds=["a", "c"]))
    with pytest.raises(UnknownName, match="unknown kind of gadget"):
        Gadget(size=1, only=np.array(["a"]))


def test_a_field_added_to_a_part_is_checked_and_documented_without_another_line():
    @part
    class Shelf:
        """A shelf of cells."""

        name: str
        cell: Cell = declare(rules.PART, "the cell on it")
        spare: Cell | None = declare(rules.PART, "another, None where there is none", default=None)
        area_m2: Value = declare(rules.POSITIVE, "what it takes")
        full: bool = switch("nothing else has room")
        depth_s: Value | None = declare(
            rules.AT_LEAST_0,
            """how long it takes
            to get there""",
            default=None,
        )

    made = Shelf(name="s", cell=CELL, area_m2=1e-6, full=True)
    assert (made.spare, made.depth_s) == (None, None)
    assert getdoc(Shelf) == (
        "A shelf of cells.\n\nname: what the catalog, tables and errors call it\ncell: the cell on it\n"
        "spare: another, None where there is none\narea_m2 (m2): what it takes\nfull: nothing else has room\n"
        "depth_s (s): how long it takes\n    to get there"
    )
    for name, wrong, wanted in (
        ("name", 3, "a text"), ("cell", "rram", "a Cell"), ("cell", None, "a Cell"), ("spare", 1, "a Cell"),
        ("full", 1, "True or False"), ("area_m2", None, "a finite number above 0"),
        ("depth_s", -1, "a finite number of at least 0"),
    ):  # fmt: skip
        assert refusal(lambda n=name, w=wrong: replace(made, **{n: w})) == f"Shelf.{name} is {wrong!r}; wanted {wanted}"


def test_the_own_check_of_a_class_comes_after_its_rules():
    @part
    class Range:
        low: Value = declare(rules.POSITIVE, "lower end")
        high: Value = declare(rules.POSITIVE, "upper end")

        def __post_init__(self):
            if self.high < self.low:
                raise BadInput("upside down")

    assert refusal(lambda: Range(low=2, high=1)) == "upside down"
    assert "Range.high is '1'" in refusal(lambda: Range(low=2, high="1"))


def test_the_book_and_explain_show_what_fields_mean(capsys):
    conventions, reference = pages._convention_fields(), unescape(pages._api_reference())
    for name in SWITCHES:
        assert f"`{name}`\n: {meanings(Conventions)[name]}" in conventions
    parameters = tables.all_sources()
    for cls in CATALOG:
        for name, meaning in meanings(cls).items():
            assert re.search(rf"\n- {name}( \([^)]*\))?: {re.escape(meaning)}", reference), name
    assert "<td>read_v: voltage of a read</td>" in parameters
    assert main(["explain", "latency_s", "--model", "opt-1.3b"]) == 0
    assert "rram-mnsim.read_v = 0.15 V  [second_hand: mnsim2, default configuration]  voltage of a read" in (
        capsys.readouterr().out
    )
