"""The library's floors: a module imports only from lower ones, so that a change has one place and no surprise."""

import ast
import itertools
import re
from pathlib import Path

import pytest
from conftest import checkout

import pimllm_lib

ROOT = Path(pimllm_lib.__file__).parent
FLOOR = {
    "core": 0, "hardware": 1, "workload": 2, "costs": 2, "analog.crossbar": 2, "catalog": 3, "engines": 3, "system": 4,
    "analog.lm": 4, "sweep": 5, "analysis": 5, "analog.noise": 6, "archive": 7, "studies": 8, "report": 8, "cli": 9,
    "__main__": 10,
}  # fmt: skip


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(name):
    """Return the room of the library that a dotted name is in, None for its door and outside of it."""
    inside = name.removeprefix("pimllm_lib.")
    found = [one for one in FLOOR if f"{inside}.".startswith(f"{one}.")]
    return max(found, key=len) if inside != name and found else None


def name_of(path):
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_room_and_from_lower_floors(path):
    own = room(name_of(path))
    if path.name == "__init__.py" and own is None:
        return  # a folder of rooms
    for name in filter(None, map(room, imported(path))):
        assert name == own or FLOOR[name] < FLOOR[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "costs").glob("*.py")), ids=lambda path: path.name)
def test_cost_functions_know_no_catalog_no_conventions_and_not_one_another(path):
    assert {room(name) for name in imported(path)} <= {None, "core", "hardware"}
    assert not {"pimllm_lib.core.conventions", "pimllm_lib.core.schema"} & set(imported(path))


@checkout
def test_every_module_has_a_floor():
    assert {room(name_of(path)) for path in modules()} - {None} == set(FLOOR)


def test_no_room_holds_a_quarter_of_the_library():
    lines = {path: len(path.read_text().splitlines()) for path in modules()}
    sizes = {name: sum(n for path, n in lines.items() if room(name_of(path)) == name) for name in FLOOR}
    assert max(sizes.values()) < sum(lines.values()) / 4, sizes


@checkout
def test_the_house_that_contributing_shows_is_the_one_that_stands():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    house = text[text.index("## The house") : text.index("## What holds")]
    table = house[house.index("| room") : house.index("`notebooks/pimllm_chapters/`")]
    order = [re.findall(r"`([a-z/]+)/`", line.split("|")[1]) for line in table.splitlines()[2:] if line]
    named = [[name.replace("/", ".") for name in line] for line in order if line]
    assert sorted(itertools.chain(*named)) == sorted(FLOOR.keys() - {"__main__"})
    heights = [sorted(FLOOR[name] for name in line) for line in named]
    assert all(a[-1] <= b[0] for a, b in itertools.pairwise(heights))
    for place in set(re.findall(r"`([\w/]+(?:/|\.py|\.csv))`", house)):
        assert any((base / place).exists() for base in (ROOT, ROOT.parent)), place
