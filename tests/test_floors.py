"""The library's floors: a module imports only from lower ones, so that a change has one place and no surprise."""

import ast
from pathlib import Path

import pytest
from conftest import checkout

import pimllm_lib

ROOT = Path(pimllm_lib.__file__).parent
FLOOR = {
    "errors": 0, "units": 0, "schema": 0, "parts": 0,
    "joining": 0, "axes": 1, "llm": 1, "hardware": 1, "conventions": 1,
    "catalog": 2, "workload": 2, "costs": 2, "ledger": 2,
    "analog": 3, "arguments": 3, "engines": 3, "schedule": 3, "step": 3,
    "technologies": 3, "kv_writing": 4, "support": 4, "kv_engine": 5, "charges": 6, "system": 7,
    "metrics": 8, "pool": 8, "reduction": 8, "space": 8,
    "baselines": 9, "bounds": 9, "crossing": 9, "endurance": 9, "flips": 9, "generation": 9, "influence": 9,
    "remedies": 9, "sweep": 9, "uncertainty": 9, "report": 10, "commands": 11, "cli": 12, "__main__": 13,
}  # fmt: skip
#: Bottom-floor helpers that stand on the floor itself.
FOUNDATION = {"errors", "units"}


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
    """Return the module or package of the library that a dotted name is in, None outside the library."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pimllm_lib" and len(parts) > 1 and parts[1] in FLOOR else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_lower_floors(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in filter(None, map(room, imported(path))):
        same_package = name == own and own in ("analog", "catalog", "commands", "hardware", "report")
        foundation = name in FOUNDATION and own not in FOUNDATION
        assert same_package or foundation or FLOOR[name] < FLOOR[own], f"{own} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "costs").glob("*.py")), ids=lambda path: path.name)
def test_cost_functions_know_no_catalog_no_conventions_and_not_one_another(path):
    assert {room(name) for name in imported(path)} <= {None, "parts", "errors", "hardware"}


@checkout
def test_every_module_has_a_floor():
    assert {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in modules()} == set(FLOOR)
