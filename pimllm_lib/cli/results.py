"""Commands about archived results: show, verify, diff, cite."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pimllm_lib.cli.running import count


def _archive_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--archive", metavar="DIR", help="folder with results (default: data/ of the checkout)")


def _json_option(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_show(commands: Any) -> None:
    parser = commands.add_parser(
        "show", help="what a result holds",
        description="Print what a result holds: variables, units and ranges, labels, parameters, provenance.",
        epilog="example: pimllm show 03-tokens-per-second",
    )  # fmt: skip
    parser.add_argument("result", metavar="RESULT", help="such as 03-tokens-per-second")
    _archive_option(parser)
    _json_option(parser)
    parser.set_defaults(run=show)


def show(args: argparse.Namespace) -> None:
    """Print what a result holds."""
    from pimllm_lib.archive.describe import describe, lines
    from pimllm_lib.core import paths

    said = describe(paths.archive(args.archive), args.result)
    print(json.dumps(said, indent=1) if args.json else "\n".join(lines(said)))


def _add_verify(commands: Any) -> None:
    parser = commands.add_parser(
        "verify", help="whether the archive is whole and its numbers come out again; status 1 if not",
        description="Check hashes, schema and attributes, recompute its results, compare numbers and verdicts.",
        epilog="example: pimllm verify --no-recompute",
    )  # fmt: skip
    add = parser.add_argument
    add("results", nargs="*", metavar="RESULT", help="results to look at (default: all)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--no-recompute", action="store_true", help="hashes, schema and attributes only; takes seconds")
    how.add_argument("--heavy", action="store_true", help="compute trials of the studies again too; takes minutes")
    add("--jobs", type=count, default=1, metavar="N", help="recompute N results at a time (default 1)")
    _archive_option(parser)
    _json_option(parser)
    parser.set_defaults(run=verify)


def verify(args: argparse.Namespace) -> int:
    """Check an archive; return 1 when something is wrong with it."""
    from pimllm_lib.archive.verify import verify
    from pimllm_lib.core import paths

    found = verify(
        paths.archive(args.archive), args.results, recompute=not args.no_recompute, repeat=_repeat(args),
        at_once=args.jobs, progress=sys.stderr.isatty(),
    )  # fmt: skip
    if args.json:
        print(json.dumps(found.as_dict(), indent=1))
    for line in [] if args.json else found.notes:
        print(f"note: {line}")
    for line in found.problems:
        print(f"pimllm: {line}", file=sys.stderr)
    if not found.problems and not args.json:
        again = f", {len(found.recomputed)} recomputed" if found.recomputed else ""
        print(f"results as the manifest says: {len(found.results)}{again}; archive {found.archive_hash}")
    return 1 if found.problems else 0


def _repeat(args: argparse.Namespace) -> Any:
    if not args.heavy:
        return None
    from pimllm_lib.studies.noise_runs import repeated

    return repeated


def _add_attest(commands: Any) -> None:
    parser = commands.add_parser(
        "attest", help="say that the sources at hand give archived results again; status 1 if not",
        description="Compute again what the sources at hand have not given yet. Results that agree, values and attributes, "
        "are attested in attested.json; no archived file changes.",
        epilog="example: pimllm attest --jobs 2",
    )  # fmt: skip
    add = parser.add_argument
    add("results", nargs="*", metavar="RESULT", help="results to look at (default: all that notebooks make)")
    add("--jobs", type=count, default=1, metavar="N", help="compute N results at a time (default 1)")
    _archive_option(parser)
    _json_option(parser)
    parser.set_defaults(run=attest)


def attest(args: argparse.Namespace) -> int:
    """Attest an archive; return 1 when a result does not come out again."""
    from pimllm_lib.archive.attest import attest
    from pimllm_lib.core import paths

    folder = paths.archive(args.archive)
    found = attest(folder, args.results, at_once=args.jobs, progress=sys.stderr.isatty())
    if args.json:
        print(json.dumps(vars(found), indent=1))
    for line in found.problems:
        print(f"pimllm: {line}", file=sys.stderr)
    if not found.problems and not args.json:
        print(f"{len(found.held)} results held before, {len(found.attested)} attested now")
    return 1 if found.problems else 0


def _add_diff(commands: Any) -> None:
    parser = commands.add_parser(
        "diff", help="which numbers moved between two archives, and by how much; status 1 if any did",
        description="Compare two archives: folders, .nc files, exported .zip files, versions or revisions of the checkout.",
        epilog="example: pimllm diff data mine",
    )  # fmt: skip
    add = parser.add_argument
    add("old", metavar="A", help="the archive compared with")
    add("new", metavar="B", help="the archive that may have moved")
    how = parser.add_mutually_exclusive_group()
    _json_option(how)
    how.add_argument(
        "--changelog", action="store_true", help="print the part of CHANGELOG.md that says which numbers moved"
    )
    parser.set_defaults(run=diff)


def diff(args: argparse.Namespace) -> int:
    """Compare two archives; return 1 when a number moved."""
    from pimllm_lib.archive import diff, sources

    old, new = sources.results(args.old), sources.results(args.new)
    if len(old) == len(new) == 1:  # two files are compared whatever they are called
        new = dict.fromkeys(old, *new.values())
    changes = diff.archives(old, new)
    if args.json:
        print(json.dumps([change.as_dict() for change in changes], indent=1))
    elif args.changelog:
        print(diff.changelog(changes))
    else:
        print("\n".join(map(str, changes)) or "no number moved")
    return 1 if changes else 0


def _add_cite(commands: Any) -> None:
    parser = commands.add_parser(
        "cite", help="how to cite a dataset or one number of it",
        description="Print the citation of a dataset or of one number, as text and as BibTeX, by version and content.",
        epilog="example: pimllm cite 03-tokens-per-second::latency_s::system=pim-llm,model=opt-6.7b,context_len=128",
    )  # fmt: skip
    parser.add_argument("what", metavar="RESULT[::VARIABLE[::COORDS]]", help="what to cite")
    how = parser.add_mutually_exclusive_group()
    _json_option(how)
    how.add_argument("--bibtex", action="store_true", help="print the BibTeX entry alone")
    _archive_option(parser)
    parser.set_defaults(run=cite)


def cite(args: argparse.Namespace) -> None:
    """Print a citation."""
    from pimllm_lib.archive.cite import cite
    from pimllm_lib.core import paths

    found = cite(paths.archive(args.archive), args.what)
    if args.json:
        print(json.dumps(found.fields | {"text": found.text, "bibtex": found.bibtex}, indent=1))
    else:
        print(found.bibtex if args.bibtex else f"{found.text}\n\n{found.bibtex}")


COMMANDS = (_add_show, _add_verify, _add_attest, _add_diff, _add_cite)
