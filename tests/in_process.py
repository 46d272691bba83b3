"""Notebooks run in this process: a second instead of the three that a kernel takes, for tests of what is in the cells.

`make book` and the tests of runs that fail start real kernels.
"""

from contextlib import contextmanager

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from papermill.engines import Engine, NBClientEngine, papermill_engines
from traitlets.config import Config


class InProcess(Engine):
    """An engine of papermill whose cells run in a fresh IPython shell of this process."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **_):
        shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
        for i, cell in enumerate(nb_man.nb.cells):
            nb_man.cell_start(cell, i)
            if cell.cell_type == "code" and not run(shell, cell):
                nb_man.cell_exception(cell, cell_index=i)
                return
            nb_man.cell_complete(cell, cell_index=i)


def run(shell, cell):
    """Run one cell, put its outputs into it, return whether it came to its end."""
    with capture_output() as captured:
        done = shell.run_cell(cell.source, store_history=True)
    cell.execution_count = shell.execution_count - 1
    streams = (("stdout", captured.stdout), ("stderr", captured.stderr))
    cell.outputs = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in streams if text]
    cell.outputs += [nbformat.v4.new_output("display_data", data=out.data) for out in captured.outputs]
    error = done.error_before_exec or done.error_in_exec
    if error is not None:
        said = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
        cell.outputs = [nbformat.v4.new_output("error", **said)]
    return error is None


@contextmanager
def notebooks_in_process():
    """Have papermill run notebooks in this process."""
    papermill_engines.register(None, InProcess)
    try:
        yield
    finally:
        papermill_engines.register(None, NBClientEngine)
