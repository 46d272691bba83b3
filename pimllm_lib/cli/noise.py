"""The command that tries a language model on crossbars: noise."""

from __future__ import annotations

import argparse
import json
import math
import sys
from functools import partial
from typing import Any

from pimllm_lib.cli.command import whole
from pimllm_lib.cli.settings import KINDS, own, parts_of
from pimllm_lib.core.errors import BadInput

#: A longer text is the wrong file: a tokenizer holds all of it at once.
LONGEST = 1 << 26
#: Losses are float32: beyond this, digits say nothing.
FINEST = 1e-6
#: What holds of the printed numbers.
NOTE = (
    "numbers have the digits that hold: another processor, BLAS or number of threads adds in another order, rounds some "
    "activations otherwise, and moves them by up to about rounding_*; the chips of a seed are the same everywhere, to the "
    "rounding of a float32"
)


def _add_noise(commands: Any) -> None:
    parser = commands.add_parser(
        "noise", help="bits per byte of a text by a trained model whose projections lie on noisy crossbars",
        description="Try a BitNet checkpoint on a text, with exact products and on crossbars; print one JSON object. "
        "Numbers have the digits that hold on another processor or with other threads; rounding_* says how far they move.",
        epilog="example: pimllm noise --checkpoint DIR --text README.md --devices cells-mnsim --set devices.variation 0.1",
    )  # fmt: skip
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR", help="folder with config.json and model.safetensors")
    add("--text", required=True, metavar="FILE", help="UTF-8 text that the model is tried on")
    add("--crossbar", default="crossbar-256", metavar="NAME|FILE", help="a Crossbar (default crossbar-256)")
    add("--devices", default="cells-mnsim", metavar="NAME|FILE", help="how cells depart (default cells-mnsim)")
    add("--readout", default="readout-worst-case", metavar="NAME|FILE", help="(default readout-worst-case)")
    add("--set", nargs=2, action="append", default=[], metavar=("PATH", "VALUE"),
        help="change a field, such as devices.variation 0.05, crossbar.adc.bits 6, readout.range sigmas")  # fmt: skip
    add("--seeds", type=whole(1, 10_000), default=4, metavar="N", help="chips drawn (default 4)")
    add("--tokens", type=whole(2, 1 << 30), default=1 << 15, metavar="N", help="most tokens tried (default 32768)")
    add("--window", type=whole(2, 4096), default=128, metavar="N", help="tokens read at once (default 128)")
    add("--calibration", metavar="FILE", help="text for a range that comes from data (default: the end of --text)")
    parser.set_defaults(run=noise)


def noise(args: argparse.Namespace) -> None:
    """Print what a noise configuration does to a model."""
    from tqdm import tqdm

    from pimllm_lib.analog.lm import checkpoint, text
    from pimllm_lib.analog.noise import trial
    from pimllm_lib.core import files, paths
    from pimllm_lib.core.parts import require

    require(args.tokens >= args.window, "--tokens", args.tokens, f"at least the {args.window} of --window")
    parts, folder = parts_of({key: getattr(args, key) for key in KINDS}, args.set), paths.users(args.checkpoint)
    model = checkpoint.read(folder)
    names = [name for name in (args.text, args.calibration) if name is not None]
    read = [files.read(paths.users(name), limit=LONGEST) for name in names]
    if len(read) > 1 and (read[0] in read[1] or read[1] in read[0]):
        what = f"{args.calibration} and {args.text} are the same, or one is in the other"
        raise BadInput(f"{what}; wanted different texts")
    pairs = zip(read, names, strict=True)
    tried, calibration, *_ = (*(text.tokens(*pair, folder, model.decoder.vocab_size) for pair in pairs), None)
    options = {"window": args.window, "most": args.tokens, "calibration": calibration}
    with tqdm(range(args.seeds), unit="seed", disable=not sys.stderr.isatty()) as seeds:
        found = trial.run(model, tried, **parts, seeds=seeds, **options)
    shown = {"checkpoint": model.name, **{key: part.name for key, part in parts.items()}}
    shown["changed"] = {path: value for key, part in parts.items() for path, value in own(part, key)}
    print(json.dumps(shown | {"window": args.window} | _shown(found, args.calibration), indent=1, allow_nan=False))


def _shown(found: Any, calibration: str | None) -> dict[str, Any]:
    """Return a trial as it is printed: every number to the digits that hold on another processor too."""
    from statistics import mean, stdev

    noisy, changes = found.noisy, found.perplexity_changes
    bits, percent = (partial(_held, by) for by in (found.rounding, found.change_rounding))
    source = f"{found.calibration} tokens of " + (calibration or "the end of the text, which are not evaluated")
    return {
        "calibration": source if found.calibration else None, "tokens": found.tokens, "bytes": found.size,
        "seeds": len(noisy), "clean_bits_per_byte": bits(found.clean), "zeroed_bits_per_byte": bits(found.zeroed),
        "noisy_bits_per_byte": bits(mean(noisy)), "noisy_std": bits(stdev(noisy)) if len(noisy) > 1 else None,
        "noisy_low": bits(min(noisy)), "noisy_high": bits(max(noisy)), "perplexity_change_percent": percent(mean(changes)),
        "perplexity_change_std": percent(stdev(changes)) if len(changes) > 1 else None,
        "rounding_bits_per_byte": _held(found.rounding / 10, found.rounding),
        "rounding_change_percent": _held(found.change_rounding / 10, found.change_rounding), "note": NOTE,
    }  # fmt: skip


def _held(by: float, number: float) -> float:
    """Return a number without the digits that less than `by` moves; those of float32 end earlier than a float's."""
    return round(number, math.floor(-math.log10(max(by, FINEST))))


COMMANDS = (_add_noise,)
