"""Commands that carry an archive elsewhere: export, fetch."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def _add_export(commands: Any) -> None:
    parser = commands.add_parser(
        "export", help="write results, notebooks and library as one RO-Crate",
        description="Write a zip file with results, notebooks, library, environment and licence, described as an RO-Crate, "
        "and the metadata that a repository for DOIs takes (zenodo.json).",
        epilog="example: pimllm export --to pimllm.zip",
    )  # fmt: skip
    parser.add_argument("--to", metavar="FILE.zip", help="file to write (default: pimllm-VERSION.zip)")
    parser.add_argument("--archive", metavar="DIR", help="archive to export (default: data/ of the checkout)")
    parser.set_defaults(run=export)


def export(args: argparse.Namespace) -> None:
    """Write a crate."""
    from pimllm_lib import __version__
    from pimllm_lib.archive.export import export
    from pimllm_lib.core import paths

    print(export(paths.archive(args.archive), paths.users(f"pimllm-{__version__}.zip" if args.to is None else args.to)))


def _add_fetch(commands: Any) -> None:
    parser = commands.add_parser(
        "fetch", help="bring the archive of a released version",
        description="Bring the archive of a version from a folder, an address, or an exported .zip at either; each file is "
        "checked against its SHA-256.",
        epilog="example: pimllm fetch 0.2.0 --from downloads/pimllm-0.2.0.zip --into archive",
    )  # fmt: skip
    add = parser.add_argument
    add("version", metavar="VERSION", help="a released version")
    add("--from", dest="origin", required=True, metavar="URL_OR_DIR", help="where manifest.json lies, or a .zip")
    add("--into", metavar="DIR", help="folder to bring it to (default: pimllm-VERSION)")
    add("--sha256", metavar="HASH", help="SHA-256 of the manifest, for a version newer than this one")
    parser.set_defaults(run=fetch)


def fetch(args: argparse.Namespace) -> None:
    """Bring an archive."""
    from pimllm_lib.archive.fetch import fetch
    from pimllm_lib.core import paths
    from pimllm_lib.core.errors import BadInput, clip

    if args.into is None and not args.version.replace(".", "").isalnum():
        raise BadInput(f"the version is {clip(args.version)}; wanted letters, digits and dots")
    into = paths.users(f"pimllm-{args.version}" if args.into is None else args.into)
    print(fetch(args.version, args.origin, into, pinned=args.sha256, progress=sys.stderr.isatty()))


COMMANDS = (_add_export, _add_fetch)
