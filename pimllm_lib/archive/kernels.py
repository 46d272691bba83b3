"""Where kernels run: no settings of the user's reach them, and nothing that lies in the current folder is imported."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from platformdirs import user_cache_path

#: What would bring settings, kernels or code of the user's into a run.
_LEFT_OUT = ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "MATPLOTLIBRC", "MPLBACKEND", "PYTHONSTARTUP")


def command(beside: Path | None = None) -> list[str]:
    """Return the command that starts a kernel, as a kernel specification has it.

    Python's -P keeps the current folder off the import path, and IPython is told not to add it: a `numpy.py` that lies in
    an archive does not run when it is verified. beside: a folder whose modules may be imported, after all installed ones.
    """
    words = [sys.executable, "-P", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words += ["--IPKernelApp.ignore_cwd=True", "--HistoryManager.enabled=False"]
    if beside is not None:
        words.append(f"--IPKernelApp.exec_lines=import sys; sys.path.append({str(beside)!r})")
    return words


@contextmanager
def environment(folder: Path, **also: str) -> Iterator[None]:
    """Give processes that start meanwhile settings of their own, in a scratch folder, and the variables in `also`.

    IPython, Jupyter and matplotlib find none of the user's. A home that cannot be written is replaced.
    """
    home = _home() or folder
    ours = {
        "IPYTHONDIR": folder / "ipython", "JUPYTER_CONFIG_DIR": folder / "config", "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_RUNTIME_DIR": folder / "runtime", "HOME": home,
        "MPLCONFIGDIR": folder / "matplotlib" if home == folder else _fonts() or folder / "matplotlib",
        "PYTHONUSERBASE": site.getuserbase(),  # where packages may lie, below a home that is replaced
        "PYTHONSAFEPATH": "1", **also,
    }  # fmt: skip
    usual = {name: os.environ.pop(name) for name in (*ours, *_LEFT_OUT) if name in os.environ}
    os.environ.update({name: str(value) for name, value in ours.items()})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(usual)


def _fonts() -> Path | None:
    """Return where matplotlib keeps its list of fonts from run to run, which takes it a second; none without a cache."""
    with suppress(OSError, RuntimeError):  # nobody knows the user
        folder = user_cache_path("pimllm") / "matplotlib"
        folder.mkdir(parents=True, exist_ok=True)
        return _that_takes_files(folder)
    return None


def _home() -> Path | None:
    """Return the user's home, or none where there is none that takes files."""
    with suppress(OSError, RuntimeError):
        return _that_takes_files(Path.home())
    return None


def _that_takes_files(folder: Path) -> Path:
    with TemporaryFile(dir=folder):
        return folder
