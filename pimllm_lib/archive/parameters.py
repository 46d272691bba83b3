"""Parameters of a notebook: which there are, and whether given values fit them, before any kernel starts."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pimllm_lib.archive.provenance import code_cells
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.paths import notebook
from pimllm_lib.core.plain import require_plain

#: Declared type of a notebook parameter -> the Python types its value may have, or its items where it is a list.
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
#: What a parameter that declares no type may be, or its items.
_ANY: tuple[type, ...] = (int, float, str, bool)
#: Names, paths and numbers; nothing that could be code.
_PLAIN = re.compile(r"[\w .,:+/~@-]*")
#: A file of parameters or a study is a short text: YAML takes seconds for so much of it.
_LONGEST = 1 << 18


def of(slug: str) -> dict[str, dict[str, str]]:
    """Return the parameters of a notebook from the cell tagged so, each as papermill has it: with `inferred_type_name`,
    the type as declared, `default`, as written, and `help`.

    Raises BadInput when it is no Python notebook, or has no parameter `into`, the folder that receives its result.
    """
    import papermill

    path = notebook(slug)
    code_cells(path)  # refuses what is no notebook
    try:
        found: dict[str, dict[str, str]] = papermill.inspect_notebook(str(path))
    except Exception as error:  # papermill and nbformat refuse in many ways
        said = str(error).partition("\n")[0]
        raise BadInput(f"{path} is not a Python notebook: {said}") from None
    found = _annotated(path) | found
    if "into" not in found:
        raise BadInput(
            f"{path} has no parameter 'into'; wanted a cell tagged 'parameters' with it, as new-study writes"
        )
    return found


def _annotated(path: Path) -> dict[str, dict[str, str]]:
    """Return the parameters of a notebook that declare a type, papermill's way; it overlooks types like `int | None`."""
    cells = json.loads(files.read(path))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    try:
        lines = [line for cell in tagged for line in ast.parse("".join(cell["source"])).body]
    except (SyntaxError, ValueError, RecursionError):
        return {}
    return {
        ast.unparse(line.target): {
            "inferred_type_name": ast.unparse(line.annotation), "default": ast.unparse(line.value), "help": "",
        }
        for line in lines
        if isinstance(line, ast.AnnAssign) and line.value is not None
    }  # fmt: skip


def check(slug: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values, typed for papermill; a text is read as the literal that the parameter's type asks for.

    Raises BadInput for a name the notebook does not have, a value of another type, and text that is more than
    names, paths and numbers.
    """
    known = of(slug)
    for name in given:
        if name not in known or name == "into":
            raise _of_a_machine(slug, name, known) or unknown(f"parameter of {slug}", name, known.keys() - {"into"})
    declared = {name: (known[name]["inferred_type_name"], known[name]["default"]) for name in given}
    return {name: _typed(name, *declared[name], value) for name, value in given.items()}


def _of_a_machine(slug: str, name: str, known: Mapping[str, Any]) -> BadInput | None:
    """Return what to do instead where a name is not of a parameter but of a part of a machine, or of a field of one."""
    from pimllm_lib import catalog
    from pimllm_lib.core.parts import places

    inside = list(places(catalog.systems["pim-llm"]))
    every = [path for path, _ in inside]
    every += [f"{path}.{field}" for path, part in inside for field in part.__dataclass_fields__ if field != "name"]
    path = next((path for path in every if f".{path}".endswith(f".{name}")), None)
    if path is None:
        return None
    file = f'systems takes a TOML file with base = "pim-llm" and {path} = ..., and ' if "systems" in known else ""
    tried = f"{file}'pimllm evaluate --set {path} VALUE' tries one value"
    return BadInput(f"{slug} has no parameter {clip(name)}, but a machine has: {tried}")


def changed(slug: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the checked values that are not the notebook's own defaults."""
    known = of(slug) if values else {}
    return {name: value for name, value in values.items() if value != _literal(known[name]["default"])}


def default(result: str, name: str) -> Any:
    """Return what a parameter of one of the project's notebooks is where it is not given, "absent" where it has none."""
    found = _annotated(paths.notebook(result)) if result in paths.slugs() else {}
    return _literal(found[name]["default"]) if name in found else "absent"


def from_file(path: Path) -> dict[str, Any]:
    """Return the parameters in a YAML file. Raises BadInput when it is no mapping, or holds more than plain values."""
    from pimllm_lib.archive import yaml_text

    try:
        text = files.read(path, limit=_LONGEST).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    content = yaml_text.read(text, path)
    if not isinstance(content, dict) or any(not isinstance(name, str) for name in content):
        raise BadInput(f"{path} holds {clip(content)}; wanted lines like 'context_len: [128, 4096]'")
    return content


def _typed(name: str, declared: str, default: str, given: Any) -> Any:
    kind, item, optional = _kind(declared, default)
    value = _literal(given) if kind != "str" or item else given
    if optional and (value is None or given in ("None", "null")):
        return None
    if isinstance(value, list) and kind != "str":
        value = [_literal(x) for x in value]  # YAML reads 1e-5 as text
    if item and value == [] == _literal(default):
        return value  # where nothing is a choice of its own
    allowed = _TYPES.get(kind, () if kind else _ANY)
    listed = isinstance(value, list) and (item or not kind)
    items = value if listed and value else [value]
    if (item and not listed) or not all(type(x) in allowed for x in items):
        raise BadInput(f"parameter {name} is {clip(given)}; wanted {_wanted(declared)}, like {default}")
    require_plain(value, f"parameter {name}")
    for x in items:
        if isinstance(x, str) and not _PLAIN.fullmatch(x):
            raise BadInput(f"parameter {name} holds {clip(x)}; wanted a name, a path or a number")
    return value


def _kind(declared: str, default: str) -> tuple[str, bool, bool]:
    """Return the type that a value is to have, "" for any, whether in a list of them, and whether None will do, too."""
    bare = "" if declared == "None" else re.sub(r"^Optional\[(.*)\]$|\s*\|\s*None$", r"\1", declared)
    item = re.fullmatch(r"list\[(\w+)\]", bare)
    return (item[1] if item else bare), bool(item), default == "None" or bare not in ("", declared)


def _wanted(declared: str) -> str:
    return "a number, a name, true or false, or a list of them" if declared == "None" else declared


def _literal(given: Any) -> Any:
    """Return what a Python or JSON literal says; the text itself when it is none, and what is no text as it is."""
    if not isinstance(given, str):
        return given
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python about code like 1if, which a name is to it
            return ast.literal_eval({"true": "True", "false": "False"}.get(given, given))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return given
