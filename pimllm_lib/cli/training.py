"""The command that trains the language models: train."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pimllm_lib.cli.command import say
from pimllm_lib.cli.running import count


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train", help="train the ternary language models of the noise study",
        description="Train models, or go on with those that were interrupted, and write checkpoints. Needs PyTorch.",
        epilog="example: pimllm train docstrings-0 --into mine",
    )  # fmt: skip
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="such as docstrings-0 or generated-full (default: all)")
    add("--into", metavar="DIR", help="folder for the checkpoints (default: data/checkpoints)")
    add("--states", metavar="DIR", help="folder for unfinished runs (default: build/training)")
    add("--jobs", type=count, default=1, metavar="N", help="models at a time (default 1)")
    parser.set_defaults(run=train)


def train(args: argparse.Namespace) -> None:
    """Train models and print the folder of each."""
    from pimllm_lib.analog.lm import recipes, trained
    from pimllm_lib.core import files, paths

    into = paths.checkout() / "data" / "checkpoints" if args.into is None else paths.users(args.into)
    states = paths.checkout() / "build" / "training" if args.states is None else paths.users(args.states)
    for folder in (into, states):
        files.require_folder(folder)
    names = list(dict.fromkeys(args.names)) or list(recipes.recipes())
    for folder in trained.train(names, into, states, jobs=args.jobs, progress=sys.stderr.isatty()):
        say(folder)


COMMANDS = (_add_train,)
