"""The command that evaluates a study: sweep."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pimllm_lib.commands.running import count
from pimllm_lib.errors import BadInput


def _add_sweep(commands: Any) -> None:
    parser = commands.add_parser(
        "sweep", help="evaluate a study: many designs, samples or runs, described in a YAML file",
        description="Evaluate every point of a study into a folder, chunk by chunk; what is there already is not run again.",
        epilog="example: pimllm sweep study.yaml --check && pimllm sweep study.yaml --into out --jobs 2",
    )  # fmt: skip
    add = parser.add_argument
    add("study", metavar="STUDY.yaml", help="what varies, over which values, and what is kept")
    add("--into", metavar="DIR", help="folder for the chunks and the result")
    add("--check", action="store_true", help="say how many points, bytes and minutes, and stop")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--jobs", type=count, default=1, metavar="N", help="processes on this machine (default 1)")
    who.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a running Dask scheduler")
    parser.set_defaults(run=sweep)


def sweep(args: argparse.Namespace) -> None:
    """Evaluate a study, or say how much it is."""
    from pimllm_lib.report import paths, studies, study_file

    plan = study_file.read(paths.users(args.study))
    if args.check:
        print(json.dumps(studies.estimate(plan), indent=1))
        return
    if args.into is None:
        raise BadInput("a study needs a folder; wanted --into DIR, or --check")
    into = paths.users(args.into)
    print(studies.run(plan, into, jobs=args.jobs, scheduler=args.scheduler, progress=sys.stderr.isatty()))


COMMANDS = (_add_sweep,)
