"""Run a notebook with checked parameters, and know when its executed copy is stale."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pimllm_lib.archive import code, kernels, manifest, parameters
from pimllm_lib.archive.provenance import RUNNING, package_versions, page_hash, source_hash
from pimllm_lib.core import files
from pimllm_lib.core.errors import one_line
from pimllm_lib.core.paths import NOTEBOOKS, notebook

#: Bytes that the name of a socket may have, less a number: macOS takes the fewest.
_LONGEST_SOCKET = 98


class NotebookFailed(RuntimeError):
    """A notebook cell raised. The text says in up to three lines where and what; `bad_input` that it refused parameters."""

    def __init__(self, text: str, bad_input: bool = False) -> None:
        """Keep the text for the reader."""
        super().__init__(text)
        self.bad_input = bad_input


def run(
    slug: str, into: Path, values: Mapping[str, Any] | None = None, *, data_only: bool = False, progress: bool = False
) -> Path:
    """Execute a notebook with checked values; put `<slug>.ipynb` and its dataset into the archive in the folder `into`.

    data_only: run no more than what the dataset depends on, and put the dataset alone there. Returns the path of the
    executed copy, or of the dataset. Nothing changes there unless every cell ran. Raises NotebookFailed with the cell and
    its error.
    """
    source = notebook(slug)
    slug, given = source.stem, dict(values or {})
    with TemporaryDirectory(prefix="pimllm.") as scratch:
        made = Path(scratch, f"{slug}.ipynb")
        content = json.loads(source.read_text(encoding="utf-8"))
        if data_only and source.parent == NOTEBOOKS:
            _keep_computing(content)
        made.write_text(json.dumps(content), encoding="utf-8")
        _execute(source, made, {**given, "into": scratch}, progress)
        content = json.loads(made.read_text(encoding="utf-8").replace(json.dumps(scratch)[1:-1], "executed"))
        made.unlink()
        _refuse_warnings(content["cells"], slug)
        contents = {path.name: path.read_bytes() for path in sorted(Path(scratch).iterdir()) if path.is_file()}
    if not data_only:
        _forget_the_run(content)
        content["metadata"]["pimllm"] = _made_from(source, given, contents.get(f"{slug}.nc"))
        contents[made.name] = json.dumps(content, indent=1, sort_keys=True).encode()
    manifest.publish(into, contents)
    return into / (f"{slug}.nc" if data_only else made.name)


def _keep_computing(content: dict[str, Any]) -> None:
    """Leave in a notebook its parameters and the statements that its dataset depends on."""
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    kept = code.computing(["".join(cell["source"]) for cell in cells])
    for cell, source in zip(cells, kept, strict=True):
        if "parameters" not in cell["metadata"].get("tags", []):
            cell["source"] = source
    content["cells"] = [cell for cell in cells if cell["source"]]


def _execute(source: Path, made: Path, settings: Mapping[str, Any], progress: bool) -> None:
    """Run every cell of a copy of a notebook, in place. Raises NotebookFailed when one raises or the kernel dies."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    own = made.parent / "own"
    own.mkdir()
    beside = None if source.parent == NOTEBOOKS else source.parent
    kernel = {
        "kernel_name": "python3", "config": _local_sockets(made.parent), "kernel_manager_class": _quiet_kernel(beside),
    }  # fmt: skip
    try:
        with kernels.environment(own, **{RUNNING: source_hash(source.stem, source)}):
            papermill.execute_notebook(str(made), str(made), dict(settings), progress_bar=progress, **kernel)
    except PapermillExecutionError as error:
        raise _failed(source.stem, error) from None
    except DeadKernelError:
        raise NotebookFailed(f"{source.stem} failed: its kernel died, killed or out of memory") from None
    except RuntimeError as error:  # nbclient's word for a kernel that does not answer
        raise NotebookFailed(f"{source.stem} failed: {error}") from None


def _failed(slug: str, error: Any) -> NotebookFailed:
    """Return what a failed cell says: one line where it refused its parameters, else cell, line and error."""
    said = f"{one_line(error.ename)}: {(str(error.evalue).splitlines() or [''])[0]}"
    if error.ename in ("BadInput", "UnknownName"):
        return NotebookFailed(f"{slug}, cell {error.exec_count}: {said}", bad_input=True)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    line = re.search(r"^-+> *(\d+) ?(.*)$", plain, flags=re.MULTILINE)
    where = f"line {line[1]}: {line[2].strip()}" if line else str(error.source).strip().splitlines()[0]
    return NotebookFailed(f"{slug} failed in cell {error.exec_count}; nothing was written\n  {where}\n  {said}")


def _refuse_warnings(cells: list[dict[str, Any]], slug: str) -> None:
    """Raise NotebookFailed when a cell wrote to stderr: a warning is a defect, and it names files of this machine. That a
    name of this library moved is none.
    """
    for cell in cells:
        for output in cell.get("outputs", []):
            text = "".join(output.get("text", []))
            if output.get("name") == "stderr" and "DeprecationWarning: pimllm_lib." not in text:
                raise NotebookFailed(f"{slug}, cell {cell['execution_count']} warns: {text.strip().splitlines()[0]}")


def _quiet_kernel(beside: Path | None) -> Any:
    """Return a kernel manager whose kernels share no stderr with the terminal, and import no more than `kernels` says.

    What a cell writes there reaches the notebook all the same; what is left is the noise of sockets that close while a
    finished kernel stops.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class QuietKernel(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=kernels.command(beside), display_name="Python 3", language="python")

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # the manager is asynchronous
            await super().start_kernel(stderr=subprocess.DEVNULL, **options)

    return QuietKernel


def _local_sockets(folder: Path) -> Any:
    """Return a kernel configuration that talks over sockets in a folder where the system has them, not over ports."""
    from traitlets.config import Config

    name = str(folder / "kernel")
    fits = os.name == "posix" and len(os.fsencode(name)) < _LONGEST_SOCKET
    return Config({"KernelManager": {"transport": "ipc", "ip": name}} if fits else {})


def _forget_the_run(content: dict[str, Any]) -> None:
    """Take times and drawn names out of an executed copy, so that equal runs give equal files."""
    content["metadata"].pop("papermill", None)
    for cell in content["cells"]:
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"  # papermill draws one


def _made_from(source: Path, values: Mapping[str, Any], dataset: bytes | None) -> dict[str, Any]:
    """Return everything that an executed copy depends on, and the hash of the dataset it made, if any."""
    return {
        "page_hash": page_hash(source),
        "parameters": parameters.changed(str(source), values),
        "packages": package_versions(),
        "dataset": "" if dataset is None else files.hash_of(dataset),
    }


def _names_a_file(text: str) -> bool:
    return bool(re.search(r"/|\.(toml|json)$", text)) or (len(text) < 256 and Path(text).exists())


def stale(slug: str, into: Path, values: Mapping[str, Any] | None = None) -> bool:
    """Return whether a folder lacks a notebook's executed copy or dataset, whole, from these sources and these values.

    Always true where the user's own files matter, which may have changed: a notebook of theirs, or a path as a value.
    """
    source, names = notebook(slug), (f"{slug}.ipynb", f"{slug}.nc")
    texts = [x for value in (values or {}).values() for x in (value if isinstance(value, list) else [value])]
    own_files = slug.endswith(".ipynb") or any(isinstance(text, str) and _names_a_file(text) for text in texts)
    if own_files or not manifest.intact(into, *names):
        return True
    executed, dataset = (files.read(into / name) for name in names)
    made = json.loads(executed)["metadata"].get("pimllm")
    return bool(made != _made_from(source, values or {}, dataset))
