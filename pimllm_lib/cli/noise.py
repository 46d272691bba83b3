"""The command that tries a language model on crossbars: noise."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

from pimllm_lib.cli.command import say, whole
from pimllm_lib.cli.settings import KINDS, own, parts_of
from pimllm_lib.core.errors import BadInput

#: A longer text is the wrong file: a tokenizer holds all of it at once.
LONGEST = 1 << 26
#: Losses are float32: beyond this, digits say nothing.
FINEST = 1e-6
#: Seconds between two lines that say how far it is.
EVERY_S = 15
#: What holds of the printed numbers.
NOTE = (
    "numbers have the digits that hold: another processor, BLAS or number of threads adds in another order, rounds some "
    "activations otherwise, and moves them by up to about rounding_*; the chips of a seed are the same everywhere, to the "
    "rounding of a float32"
)


def _add_noise(commands: Any) -> None:
    parser = commands.add_parser(
        "noise", help="bits per byte of a text by a trained model whose projections lie on noisy crossbars",
        description="Try a model of few-bit weights on a text, with exact products and on crossbars; print one JSON object. "
        "Numbers have the digits that hold on another processor or with other threads; rounding_* says how far they move.",
        epilog="example: pimllm noise --checkpoint DIR --text README.md --devices cells-mnsim --set devices.variation 0.1",
    )  # fmt: skip
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="DIR|FILE", help="folder with config.json and safetensors, or GGUF")
    add("--text", required=True, metavar="FILE", help="UTF-8 text that the model is tried on")
    add("--crossbar", default="crossbar-256", metavar="NAME|FILE", help="a Crossbar (default crossbar-256)")
    add("--devices", default="cells-mnsim", metavar="NAME|FILE", help="how cells depart (default cells-mnsim)")
    add("--readout", default="readout-worst-case", metavar="NAME|FILE", help="(default readout-worst-case)")
    add("--set", nargs=2, action="append", default=[], metavar=("PATH", "VALUE"),
        help="change a field, such as devices.variation 0.05, crossbar.adc.bits 6, readout.range sigmas")  # fmt: skip
    add("--seeds", type=whole(1, 10_000), metavar="N", help="chips drawn (default 4, or as many as --minutes allow)")
    add(
        "--tokens", type=whole(2, 1 << 30), metavar="N", help="most tokens tried (default 32768, or as --minutes allow)"
    )
    add("--minutes", type=whole(1, 100_000), default=5, metavar="N",
        help="what seeds and tokens that are not given are chosen for, by the time of one block (default 5)")  # fmt: skip
    add("--window", type=whole(2, 4096), default=128, metavar="N", help="tokens read at once (default 128)")
    add("--calibration", metavar="FILE", help="text for a range that comes from data (default: the end of --text)")
    parser.set_defaults(run=noise)


def noise(args: argparse.Namespace) -> None:
    """Print what a noise configuration does to a model, and before it on stderr how long that will take."""
    from pimllm_lib.analog.lm import checkpoint, text
    from pimllm_lib.analog.noise import trial
    from pimllm_lib.core import files, paths
    from pimllm_lib.core.parts import require

    enough = args.tokens is None or args.tokens >= args.window
    require(enough, "--tokens", args.tokens, f"at least the {args.window} of --window")
    parts, folder = parts_of({key: getattr(args, key) for key in KINDS}, args.set), paths.users(args.checkpoint)
    model = checkpoint.read(folder)
    names = [name for name in (args.text, args.calibration) if name is not None]
    read = [files.read(paths.users(name), limit=LONGEST) for name in names]
    if len(read) > 1 and (read[0] in read[1] or read[1] in read[0]):
        what = f"{args.calibration} and {args.text} are the same, or one is in the other"
        raise BadInput(f"{what}; wanted different texts")
    pairs = zip(read, names, strict=True)
    tried, calibration, *_ = (*(text.tokens(*pair, folder, model.decoder.vocab_size) for pair in pairs), None)
    windows = trial.evaluated(model, tried, parts["readout"], window=args.window, calibration=calibration)
    most, seeds = _planned(args, model, parts, windows)
    with _progress((seeds + 2) * int(model.decoder.n_layers)) as progress:
        found = trial.run(
            model, tried, **parts, seeds=range(seeds), window=args.window, most=most, calibration=calibration,
            progress=progress,
        )  # fmt: skip
    shown = {"checkpoint": model.name, **{key: part.name for key, part in parts.items()}}
    shown["changed"] = {path: value for key, part in parts.items() for path, value in own(part, key)}
    print(json.dumps(shown | {"window": args.window} | _shown(found, args.calibration), indent=1, allow_nan=False))


def _planned(args: argparse.Namespace, model: Any, parts: dict[str, Any], windows: Any) -> tuple[int, int]:
    """Return tokens and seeds to try, and say on stderr what they are and how long they take."""
    from pimllm_lib.analog.noise import forecast

    known = forecast.measured(model, windows, **parts)
    options = {"window": args.window, "longest": windows.size, "tokens": args.tokens, "seeds": args.seeds}
    most, seeds = forecast.fitting(known, args.minutes, **options)
    most, blocks = min(most, windows.size) // args.window * args.window, int(model.decoder.n_layers)
    counts = (_counted(count, unit) for count, unit in ((seeds, "chip"), (most, "token"), (blocks, "block")))
    say(f"noise: {', '.join(counts)}: about {_lasting(known.seconds(most, seeds))}", error=True)
    return most, seeds


def _lasting(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds > 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return _counted(math.ceil(seconds), "second")


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}{'' if count == 1 else 's'}"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield what is told of blocks that are done: a bar on a terminal, else a line of stderr now and then."""
    from tqdm import tqdm

    if sys.stderr.isatty():
        with tqdm(total=total, unit="block") as bar:
            yield lambda count: bar.update(count) and None
        return
    done, said = 0, monotonic()

    def tell(count: int) -> None:
        nonlocal done, said
        done += count
        if monotonic() - said > EVERY_S:
            said = monotonic()
            say(f"noise: {100 * done // total} %", error=True)

    yield tell


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
