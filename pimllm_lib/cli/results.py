"""Commands about archived results: show, verify, attest, diff, cite, export, fetch."""

from __future__ import annotations

import argparse
import sys

from pimllm_lib.cli.command import ARCHIVE, JSON, command, json_text, option, print_problems, say
from pimllm_lib.cli.running import jobs
from pimllm_lib.core.errors import BadInput, clip


@command(
    "what a result holds",
    "show 03-tokens-per-second",
    option("result", metavar="RESULT", help="such as 03-tokens-per-second"),
    option("--figures", metavar="DIR", help="write the figures of its run into a folder instead, as SVG"),
    ARCHIVE,
    JSON,
)
def show(args: argparse.Namespace) -> None:
    """Print what a result holds: variables, units and ranges, labels, parameters, provenance; or write its figures."""
    from pimllm_lib.archive.describe import describe, lines
    from pimllm_lib.core import paths

    folder = paths.archive(args.archive)
    if args.figures is not None:
        from pimllm_lib.report.result_page import write_figures

        say(*write_figures(folder / f"{args.result}.ipynb", paths.for_results(args.figures)))
        return
    said = describe(folder, args.result)
    print(json_text(said)) if args.json else say(*lines(said))


@command(
    "whether the archive is whole and its numbers come out again; status 1 if not",
    "verify --no-recompute",
    option("results", nargs="*", metavar="RESULT", help="results to look at (default: all)"),
    [option("--no-recompute", action="store_true", help="hashes, schema and attributes only; takes seconds"),
     option("--heavy", action="store_true", help="compute trials of the studies again too; takes minutes")],
    jobs("recompute N results"),
    ARCHIVE,
    JSON,
)  # fmt: skip
def verify(args: argparse.Namespace) -> int:
    """Check hashes, schema and attributes, recompute its results, compare numbers and verdicts."""
    from pimllm_lib.archive.verify import verify
    from pimllm_lib.core import paths
    from pimllm_lib.studies.noise_runs import repeated

    found = verify(
        paths.archive(args.archive), args.results, recompute=not args.no_recompute,
        repeat=repeated if args.heavy else None, at_once=args.jobs, progress=sys.stderr.isatty(),
    )  # fmt: skip
    if args.json:
        print(json_text(found.as_dict()))
        return print_problems(found.problems)
    for line in found.notes:
        say(f"note: {line}")
    if not found.problems:
        again = f", {len(found.recomputed)} recomputed" if found.recomputed else ""
        say(f"results as the manifest says: {len(found.results)}{again}; archive {found.archive_hash}")
    return print_problems(found.problems)


@command(
    "say that the sources at hand give archived results again; status 1 if not",
    "attest --jobs 2",
    option("results", nargs="*", metavar="RESULT", help="results to look at (default: all that notebooks make)"),
    jobs("compute N results"),
    ARCHIVE,
    JSON,
)
def attest(args: argparse.Namespace) -> int:
    """Compute again what the sources at hand have not given yet. Results that agree, values and attributes, are attested
    in attested.json; no archived file changes.
    """
    from pimllm_lib.archive.verify import attest
    from pimllm_lib.core import paths

    found = attest(paths.archive(args.archive), args.results, at_once=args.jobs, progress=sys.stderr.isatty())
    if args.json:
        print(json_text(vars(found)))
    elif not found.problems:
        say(f"{len(found.held)} results held before, {len(found.attested)} attested now")
    return print_problems(found.problems)


@command(
    "which numbers moved between two archives, and by how much; status 1 if any did",
    "diff data mine",
    option("old", metavar="A", help="the archive compared with"),
    option("new", metavar="B", help="the archive that may have moved"),
    [JSON, option("--changelog", action="store_true", help="print the part of CHANGELOG.md that says which numbers moved")],
)  # fmt: skip
def diff(args: argparse.Namespace) -> int:
    """Compare two archives: folders, .nc files, exported .zip files, versions or revisions of the checkout."""
    from pimllm_lib.archive import diff, sources

    old, new = sources.results(args.old), sources.results(args.new)
    if len(old) == len(new) == 1:  # two files are compared whatever they are called
        new = dict.fromkeys(old, *new.values())
    changes = diff.archives(old, new)
    if args.json:
        print(json_text([change.as_dict() for change in changes]))
    elif args.changelog:
        say(*diff.changelog(changes).split("\n"))
    else:
        say(*map(str, changes) if changes else ["no number moved"])
    return int(bool(changes))


@command(
    "how to cite a dataset or one number of it",
    "cite 03-tokens-per-second::latency_s::system=pim-llm,model=opt-6.7b,context_len=128",
    option("what", metavar="RESULT[::VARIABLE[::COORDS]]", help="what to cite"),
    [JSON, option("--bibtex", action="store_true", help="print the BibTeX entry alone")],
    ARCHIVE,
)
def cite(args: argparse.Namespace) -> None:
    """Print the citation of a dataset or of one number, as text and as BibTeX, by version and content."""
    from pimllm_lib.archive.cite import cite
    from pimllm_lib.core import paths

    found = cite(paths.archive(args.archive), args.what)
    if args.json:
        print(json_text(found.fields | {"text": found.text, "bibtex": found.bibtex}))
    else:
        say(*([] if args.bibtex else [found.text, ""]), *found.bibtex.split("\n"))


@command(
    "write results, notebooks and library as one RO-Crate",
    "export --to pimllm.zip",
    option("--to", metavar="FILE.zip", help="file to write (default: pimllm-VERSION.zip)"),
    option("--archive", metavar="DIR", help="archive to export (default: data/ of the checkout)"),
)
def export(args: argparse.Namespace) -> None:
    """Write a zip file with results, notebooks, library, environment and licence, described as an RO-Crate, and the
    metadata that a repository for DOIs takes (zenodo.json).
    """
    from pimllm_lib import __version__
    from pimllm_lib.archive.export import export
    from pimllm_lib.core import paths

    say(export(paths.archive(args.archive), paths.users(f"pimllm-{__version__}.zip" if args.to is None else args.to)))


@command(
    "bring the archive of a released version",
    "fetch 0.2.0 --from downloads/pimllm-0.2.0.zip --into archive",
    option("version", metavar="VERSION", help="a released version"),
    option("--from", dest="origin", required=True, metavar="URL_OR_DIR", help="where manifest.json lies, or a .zip"),
    option("--into", metavar="DIR", help="folder to bring it to (default: pimllm-VERSION)"),
    option("--sha256", metavar="HASH", help="SHA-256 of the manifest, for a version newer than this one"),
)
def fetch(args: argparse.Namespace) -> None:
    """Bring the archive of a version from a folder, an address, or an exported .zip at either; each file is checked
    against its SHA-256.
    """
    from pimllm_lib.archive.fetch import fetch
    from pimllm_lib.core import paths

    if args.into is None and not args.version.replace(".", "").isalnum():
        raise BadInput(f"the version is {clip(args.version)}; wanted letters, digits and dots")
    into = paths.users(f"pimllm-{args.version}" if args.into is None else args.into)
    say(fetch(args.version, args.origin, into, pinned=args.sha256, progress=sys.stderr.isatty()))


COMMANDS = (show, verify, attest, diff, cite, export, fetch)
