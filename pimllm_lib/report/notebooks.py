"""Run a notebook with checked parameters, and know when its executed copy is stale."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pimllm_lib.errors import BadInput, clip, unknown
from pimllm_lib.report.paths import notebook
from pimllm_lib.report.provenance import RUNNING, source_hash

#: Declared type of a notebook parameter -> the Python types its value may have, or its items where it is a list.
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
#: Names, paths and numbers; nothing that could be code.
_PLAIN = re.compile(r"[\w .,:+/~@-]*")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its declared type, its default as written, and its help text."""

    name: str
    type: str
    default: str
    help: str


class NotebookFailed(RuntimeError):
    """A notebook cell raised. `bad_input` says whether it refused its parameters."""

    def __init__(self, text: str, bad_input: bool) -> None:
        """Keep the text for the reader."""
        super().__init__(text)
        self.bad_input = bad_input


def parameters(slug: str) -> dict[str, Parameter]:
    """Return the parameters of a notebook, from the cell tagged so."""
    import papermill

    found = papermill.inspect_notebook(str(notebook(slug)))
    return {name: Parameter(name, p["inferred_type_name"], p["default"], p["help"]) for name, p in found.items()}


def check(slug: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the given texts as typed values for papermill.

    Raises BadInput for a name the notebook does not have, a value of another type, and text that is more than
    names, paths and numbers.
    """
    known = parameters(slug)
    for name in given:
        if name not in known or name == "into":
            raise unknown(f"parameter of {slug}", name, known.keys() - {"into"})
    return {name: _typed(known[name], text) for name, text in given.items()}


def _typed(parameter: Parameter, text: str) -> Any:
    value = text if parameter.type == "str" else _literal(text)
    item = re.fullmatch(r"list\[(\w+)\]", parameter.type)
    allowed = _TYPES[item[1] if item else parameter.type]
    items = value if item and isinstance(value, list) and value else [value]
    fits = (not item or isinstance(value, list)) and all(type(x) in allowed for x in items)
    if not fits:
        raise BadInput(f"parameter {parameter.name} is {clip(text)}; wanted {parameter.type}, like {parameter.default}")
    for x in items:
        if isinstance(x, str) and not _PLAIN.fullmatch(x):
            raise BadInput(f"parameter {parameter.name} holds {clip(x)}; wanted a name, a path or a number")
    return value


def _literal(text: str) -> Any:
    """Return what a Python or JSON literal says, the text itself when it is none."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def run(slug: str, into: Path, values: Mapping[str, Any] | None = None, *, progress: bool = False) -> Path:
    """Execute a notebook with checked values; leave `<slug>.ipynb` and its dataset in the folder `into`.

    Nothing is left there unless every cell ran. Raises NotebookFailed with the cell and its error in one line.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    into = into.expanduser().resolve()  # the kernel may have another idea of the current folder
    source = notebook(slug)
    slug = source.stem
    os.environ[RUNNING] = str(source)  # the kernel inherits it
    try:
        into.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=into, prefix=f".{slug}.") as scratch:
            made = Path(scratch, f"{slug}.ipynb")
            settings = {**(values or {}), "into": scratch}
            papermill.execute_notebook(
                str(source), str(made), settings, kernel_name="python3", progress_bar=progress,
                config=_local_sockets(),
            )  # fmt: skip
            _refuse_warnings(made, slug)
            _forget_the_machine(made, slug, scratch, values or {})
            for path in Path(scratch).iterdir():
                os.replace(path, into / path.name)
    except PapermillExecutionError as error:
        text = f"{slug}, cell {error.exec_count}: {error.ename}: {str(error.evalue).splitlines()[0]}"
        raise NotebookFailed(text, error.ename in ("BadInput", "UnknownName")) from None
    except OSError as error:
        raise BadInput(f"{into} cannot be written: {error.strerror or error}") from None
    return into / f"{slug}.ipynb"


def _refuse_warnings(path: Path, slug: str) -> None:
    """Raise NotebookFailed when a cell wrote to stderr: a warning is a defect, and it names files of this machine."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                said = "".join(output["text"]).strip().splitlines()[0]
                raise NotebookFailed(f"{slug}, cell {cell['execution_count']} warns: {said}", bad_input=False)


def _local_sockets() -> Any:
    """Return a kernel configuration that talks over files where the system has them, not over network ports."""
    from traitlets.config import Config

    return Config({"KernelManager": {"transport": "ipc"}} if os.name == "posix" else {})


def _forget_the_machine(path: Path, slug: str, scratch: str, values: Mapping[str, Any]) -> None:
    """Take times and folders of this run out of the executed copy, so that equal runs give equal files."""
    text = path.read_text(encoding="utf-8").replace(json.dumps(scratch)[1:-1], "executed")
    content = json.loads(text)
    content["metadata"].pop("papermill", None)
    content["metadata"]["pimllm"] = {"source_hash": source_hash(slug), "parameters": dict(values)}
    for cell in content["cells"]:
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
    path.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def stale(slug: str, into: Path) -> bool:
    """Return whether a notebook's executed copy or dataset is missing, or came from other sources or parameters."""
    path = into / f"{slug}.ipynb"
    if not path.is_file() or not path.with_suffix(".nc").is_file():
        return True
    made = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("pimllm")
    return bool(made != {"source_hash": source_hash(slug), "parameters": {}})
