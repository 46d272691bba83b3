"""The command that evaluates a study: sweep."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from pimllm_lib.cli.command import json_text, print_rows, say, whole
from pimllm_lib.cli.running import count
from pimllm_lib.core.errors import BadInput, clip

if TYPE_CHECKING:
    from pathlib import Path


def _add_sweep(commands: Any) -> None:
    parser = commands.add_parser(
        "sweep", help="evaluate a study: many designs, samples or runs, described in a YAML file",
        description="Evaluate every point of a study into a folder, chunk by chunk; what is there already is not run again.",
        epilog="example: pimllm sweep study.yaml --check && pimllm sweep study.yaml --into out --jobs 2",
    )  # fmt: skip
    add = parser.add_argument
    add("study", metavar="STUDY.yaml", help="what varies, over which values, and what is kept")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--into", metavar="DIR", help="folder for the chunks and the result")
    what.add_argument("--archive", action="store_true", help="renew a study of data/studies and its result, on purpose")
    what.add_argument("--check", action="store_true", help="say how many points, bytes and minutes, and stop")
    what.add_argument(
        "--plan", action="store_true", help="of a noise study: how models, chips and text are best allotted"
    )
    add("--models", type=whole(1, 1000), metavar="N", help="models of a plan (default: those that the study lists)")
    add(
        "--minutes",
        type=whole(1, 10**6),
        metavar="N",
        help="of a plan, in one process (default: what the study takes now)",
    )
    add("--json", action="store_true", help="print a plan as JSON")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--jobs", type=count, default=1, metavar="N", help="processes on this machine (default 1)")
    who.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a running Dask scheduler")
    add(
        "--strict",
        action="store_true",
        help="refuse a study with points that cannot be evaluated; they are left out",
    )
    add("--patience", type=_seconds, default=60.0, metavar="S",
        help="seconds that a cluster may have no worker that works (default 60)")  # fmt: skip
    parser.set_defaults(run=sweep)


def _seconds(text: str) -> float:
    if not text.replace(".", "", 1).isdecimal() or not 1 <= float(text) <= 1e6:
        raise argparse.ArgumentTypeError(f"got {clip(text)}; wanted seconds from 1 to 1e6")
    return float(text)


def sweep(args: argparse.Namespace) -> None:
    """Evaluate a study, or say how much it is."""
    from pimllm_lib.archive import jobs
    from pimllm_lib.core import paths
    from pimllm_lib.studies import folder, study_file
    from pimllm_lib.sweep.cluster import Gone

    path = paths.users(args.study)
    for name in ("models", "minutes", "json"):
        if getattr(args, name) and not args.plan:
            raise BadInput(f"--{name} stands without --plan; wanted both")
    into = None if args.check or args.plan else _target(args, path)
    plan = study_file.read(path, strict=args.strict)
    if args.plan:
        _show_plan(plan.name, plan.spec, args)
        return
    if into is None:
        print(json.dumps(folder.estimate(plan), indent=1))
        return
    if args.archive and plan.name != path.stem:
        raise BadInput(f"{path} is named {plan.name}; wanted the name of its file, {path.stem}, as the archive has it")
    who = {"jobs": args.jobs, "scheduler": args.scheduler, "patience_s": args.patience}
    try:
        made = folder.run(plan, into, **who, progress=sys.stderr.isatty())
    except Gone as error:
        raise BadInput(f"{error}; what is done is in {into}, and '{_again(args)}' goes on") from None
    say(*(jobs.keep(path, made, paths.DATA) if args.archive else [made]))


def _show_plan(name: str, spec: dict[str, Any], args: argparse.Namespace) -> None:
    """Print a row a curve, and what to write into the file."""
    from pimllm_lib.studies.noise_plans import planned

    if "curves" not in spec:
        raise BadInput(f"{name} has no curves; wanted a noise study to plan")
    found = planned(name, spec, models=args.models or 0, minutes=args.minutes, jobs=args.jobs)
    if args.json:
        print(json_text(found))
        return
    print_rows(found["rows"], as_json=False)
    times = f"{found['minutes']:.3g} minutes in one process, {found['minutes_now']:.3g} as the study is"
    say(
        f"models: {found['models']}; {times}; variances {found['variances']}; half: of the 95 % interval to expect, in %"
    )
    say(
        f"noise: {json.dumps(found['noise'])}",
        *(f"  {curve}: {json.dumps(less)}" for curve, less in found["curves"].items()),
    )


def _again(args: argparse.Namespace) -> str:
    """Return the command that goes on."""
    import shlex

    where = ["--archive"] if args.archive else ["--into", args.into]
    who = ["--scheduler", args.scheduler] if args.scheduler else ["--jobs", str(args.jobs)]
    return shlex.join(["pimllm", "sweep", args.study, *where, *who])


def _target(args: argparse.Namespace, study: Path) -> Path:
    """Return the folder for the chunks. Raises BadInput for none, one of the archive's, and one that takes no files."""
    from pimllm_lib.core import files, paths

    if args.archive:
        paths.checkout()
        if study.resolve().parent != paths.STUDIES.resolve():
            raise BadInput(f"{study} is not in {paths.STUDIES}; wanted a study that is, or --into DIR")
        files.require_folder(paths.STUDIES)
        return files.require_folder(paths.BUILD / "studies" / study.stem)
    if args.into is None:
        raise BadInput("a study needs a folder; wanted --into DIR, --archive, --check or --plan")
    return files.require_folder(paths.for_results(args.into))


COMMANDS = (_add_sweep,)
