"""Commands that execute notebooks: run, new-study, book."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pimllm_lib.cli.command import Option, command, option, print_problems, say, whole
from pimllm_lib.core.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

#: How many are to run at a time.
count = whole(1, 256)


def jobs(what: str) -> Option:
    """Return the option that says how many are to run at a time."""
    return option("--jobs", type=count, default=1, metavar="N", help=f"{what} at a time (default 1)")


@command(
    "execute notebooks, with parameters of your own",
    "run 03-tokens-per-second -p context_len '[8192, 16384]' --into mine",
    option("notebooks", nargs="+", metavar="NOTEBOOK", help="such as 03-tokens-per-second or 03, a file.ipynb, or 'all'"),
    option("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a parameter"),
    option("-f", metavar="FILE.yaml", help="set parameters from a file; -p comes after it"),
    jobs("run N notebooks"),
    option("--force", action="store_true", help="run also what is up to date"),
    option("--data-only", action="store_true", help="compute the datasets alone, without figures and executed copies"),
    [option("--into", metavar="DIR", help="folder for the results (default: executed/)"),
     option("--archive", nargs="?", const=True, metavar="DIR", help="renew an archive with the results (default data/)")],
)  # fmt: skip
def run(args: argparse.Namespace) -> int:
    """Execute notebooks whose result is missing or stale. Executed copies and datasets go to a folder."""
    from pimllm_lib.archive import jobs, notebooks, parameters
    from pimllm_lib.core import files, paths

    names = _names(args)
    given = (parameters.from_file(paths.users(args.f)) if args.f else {}) | dict(args.p)
    if args.archive is not None and given:
        raise BadInput("the archive holds default parameters only; wanted --into DIR for a run with parameters")
    archive = paths.archive(None if args.archive is True else args.archive) if args.archive is not None else None
    into = _target(args, names)
    for folder in filter(None, (into, archive)):
        files.require_folder(folder)
    work = {name: parameters.check(name, given) for name in names}  # all of them before the first kernel starts
    always = args.force or args.data_only
    todo = {name: values for name, values in work.items() if always or notebooks.stale(name, into, values)}
    for name in names:
        if name not in todo:
            say(f"pimllm: {name} is up to date in {into}; --force runs it again", error=True)
    try:
        for path in jobs.run(todo, into, args.jobs, data_only=args.data_only, progress=sys.stderr.isatty()):
            say(path)
    except notebooks.NotebookFailed as error:
        print_problems([error])
        return 2 if error.bad_input else 1  # 2 where a cell refuses its parameters
    if archive is not None:
        say(*jobs.renew(names, into, archive))
    return 0


def _names(args: argparse.Namespace) -> list[str]:
    """Return the notebooks that are meant. Raises BadInput for two of one name, and for what an archive cannot hold."""
    from pimllm_lib.core import paths

    numbers = {slug[:2]: slug for slug in paths.slugs()}
    asked = numbers.values() if args.notebooks == ["all"] else (numbers.get(name, name) for name in args.notebooks)
    names = list(dict.fromkeys(asked))
    if "all" in names:
        raise BadInput("'all' stands beside other notebooks; wanted 'all' alone, or names")
    stems = [paths.notebook(name).stem for name in names]
    if len(set(stems)) < len(stems):
        raise BadInput(
            f"two notebooks are named {max(stems, key=stems.count)}; wanted distinct names, as results bear them"
        )
    if args.archive is not None and stems != names:
        raise BadInput("the archive holds the project's own notebooks only; wanted --into DIR for another file")
    return names


def _target(args: argparse.Namespace, names: list[str]) -> Path:
    """Return the folder for the results. Raises BadInput for one that is the archive's."""
    from pimllm_lib.core import paths

    own = all(not name.endswith(".ipynb") for name in names)
    if args.into is None and own and paths.IN_CHECKOUT:
        return paths.EXECUTED
    return paths.for_results("executed" if args.into is None else args.into)


@command(
    "write a ready notebook for a system and a model of your own",
    "new-study mine --system mine.toml --model config.json && pimllm run mine.ipynb",
    option("name", metavar="NAME", help="name of the study: letters, digits, '-' and '_'"),
    option("--system", default="pim-llm", metavar="NAME|FILE", help="accelerator (default pim-llm)"),
    option("--model", default="opt-6.7b", metavar="NAME|FILE", help="language model (default opt-6.7b)"),
)
def new_study(args: argparse.Namespace) -> None:
    """Write NAME.ipynb into the current folder: your system beside TPU-LLM and PIM-LLM, ready to run."""
    from pimllm_lib.core.paths import users
    from pimllm_lib.report.new_study import write

    say(write(args.name, system=args.system, model=args.model, folder=users(".")))


@command(
    "execute what is stale, compare with the archive, render the report",
    "book --jobs 2",
    jobs("run N notebooks"),
    option("--pdf", action="store_true", help="print the book as one PDF too; needs Chromium and pypdf (see make pdf)"),
)
def book(args: argparse.Namespace) -> int:
    """Execute stale notebooks, compare their results with the archive, render the report."""
    from pimllm_lib.archive import notebooks
    from pimllm_lib.report import book, pdf

    if args.pdf:
        pdf.tools()  # before minutes are spent
    try:
        problems = book.build(jobs=args.jobs, progress=sys.stderr.isatty())
    except notebooks.NotebookFailed as error:
        problems = [str(error)]
    if not problems:
        say(book.PAGE)
        if args.pdf:
            say(pdf.build())
    return print_problems(problems)


COMMANDS = (run, new_study, book)
