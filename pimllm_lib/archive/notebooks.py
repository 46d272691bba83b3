"""Run a notebook with checked parameters, and know when its executed copy is stale."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pimllm_lib.archive import code, dataset, kernels, manifest, parameters
from pimllm_lib.archive.provenance import RUNNING, package_versions, page_hash, source_hash
from pimllm_lib.core import files, scratch
from pimllm_lib.core.errors import BadInput, clip, one_line
from pimllm_lib.core.parts import require
from pimllm_lib.core.paths import NOTEBOOKS, notebook

#: Bytes that the name of a socket may have, less a number: macOS takes the fewest.
_LONGEST_SOCKET = 98
#: Files that may be open at once for a kernel to run a chapter: with 64, some fail midway.
_HANDLES = 128


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
    executed copy, or of the dataset. Nothing changes there unless every cell ran and a result was saved. Raises
    NotebookFailed with the cell and its error.
    """
    require_handles()
    source = notebook(slug)
    slug, given = source.stem, dict(values or {})
    with scratch.folder("run") as place:
        made = place / f"{slug}.ipynb"
        content = json.loads(source.read_text(encoding="utf-8"))
        if data_only and source.parent == NOTEBOOKS:
            _keep_computing(content)
        try:
            made.write_text(json.dumps(content), encoding="utf-8")
            _execute(source, made, {**given, "into": str(place)}, progress)
            content = json.loads(made.read_text(encoding="utf-8").replace(json.dumps(str(place))[1:-1], "executed"))
            made.unlink()
        except OSError as error:
            if not str(error.filename or place).startswith(str(place)):
                raise  # it has a name already
            said = f"{place} cannot be written: {error.strerror or error}"
            raise BadInput(f"{said}; TMPDIR names another folder for what a run needs meanwhile") from None
        _refuse_warnings(content["cells"], slug)
        contents = _saved(place, slug, own=source.parent == NOTEBOOKS)
    if not data_only:
        _forget_the_run(content)
        content["metadata"]["pimllm"] = _made_from(source, given, contents.get(f"{slug}.nc"))
        contents[made.name] = json.dumps(content, indent=1, sort_keys=True).encode()
    manifest.publish(into, contents)
    return into / (next(iter(contents)) if data_only else made.name)


def _saved(folder: Path, slug: str, own: bool) -> dict[str, bytes]:
    """Return what a notebook saved: name -> content. Raises NotebookFailed where that is no result, or more than results.

    own: whether it is a notebook of the project, which saves the result of its name; a user's may give it another.
    """
    there = sorted(path for path in folder.iterdir() if path.is_file())
    for path in there:
        if path.suffix != ".nc":
            raise NotebookFailed(
                f"{slug} wrote {clip(path.name)} into its folder; wanted results by 'dataset.save' alone"
            )
        try:
            says = dataset.record(dataset.load(path))["result"]
        except BadInput as error:
            raise NotebookFailed(f"{slug} wrote {clip(path.name)} itself; wanted 'dataset.save': {error}") from None
        if says != path.stem or (own and says != slug):
            raise NotebookFailed(f"{slug} saved {clip(says)} as {clip(path.name)}; wanted a result under its own name")
    if not there:
        raise NotebookFailed(f"{slug} came to its end and saved no result; wanted 'dataset.save' with 'into=into'")
    return {path.name: path.read_bytes() for path in there}


def require_handles() -> None:
    """Raise BadInput where the system lets this process, and so a kernel, open fewer files than a kernel takes."""
    with suppress(ImportError):  # Windows has no such limit
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        enough = most == resource.RLIM_INFINITY or most >= _HANDLES
        require(
            enough, "the number of files that may be open at once", most, f"{_HANDLES}, as ulimit -n {_HANDLES} sets"
        )


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
        "kernel_name": "python3", "config": _local_sockets(own), "kernel_manager_class": _quiet_kernel(beside),
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
    where = f"line {line[1]}: {line[2].strip()}" if line else (str(error.source).strip().splitlines() or [""])[0]
    return NotebookFailed(f"{slug} failed in cell {error.exec_count}; nothing was written\n  {where}\n  {said}")


def _refuse_warnings(cells: list[dict[str, Any]], slug: str) -> None:
    """Raise NotebookFailed when a cell wrote to stderr: a warning is a defect, and it names files of this machine. That a
    name of this library moved is none, and a `Note` is kept without its place.
    """
    for cell in cells:
        for output in cell.get("outputs", []):
            text = "".join(output.get("text", [])).strip()
            if output.get("name") != "stderr" or not text:
                continue
            if notes := re.findall(r": Note: (.*)", text):
                output["text"] = "".join(f"note: {line}\n" for line in dict.fromkeys(notes))
            elif "DeprecationWarning: pimllm_lib." not in text:
                raise NotebookFailed(f"{slug}, cell {cell['execution_count']} warns: {text.splitlines()[0]}")


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
    sockets = {"transport": "ipc", "ip": name} if fits else {}
    return Config({"KernelManager": {"connection_file": f"{name}.json", **sockets}})


def _forget_the_run(content: dict[str, Any]) -> None:
    """Take times and drawn names out of an executed copy, so that equal runs give equal files."""
    content["metadata"].pop("papermill", None)
    for cell in content["cells"]:
        for key in ("papermill", "execution"):
            cell["metadata"].pop(key, None)
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["id"] = "injected-parameters"  # papermill draws one


def _made_from(source: Path, values: Mapping[str, Any], result: bytes | None) -> dict[str, Any]:
    """Return everything that an executed copy depends on, and the hash of the dataset of its name, if it made one."""
    return {
        "page_hash": page_hash(source),
        "parameters": parameters.changed(str(source), values),
        "packages": package_versions(),
        "dataset": "" if result is None else files.hash_of(result),
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
    executed, result = (files.read(into / name) for name in names)
    try:
        made = files.from_json(executed)["metadata"]["pimllm"]
    except (ValueError, TypeError, KeyError):
        return True  # no copy of ours, whatever the manifest says
    return bool(made != _made_from(source, values or {}, result))
