"""What the library reads of a configuration, as the runner of transformers counts it."""

import json
from collections import Counter
from math import isfinite

import pandas as pd

from pimllm_lib.catalog.models import from_mapping
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.paths import DATA
from pimllm_lib.workload.decoder import kinds, parameter_count
from pimllm_lib.workload.products import products, state_words, token_words

TABLE = DATA / "peers" / "transformers.csv"
#: Families whose class keeps more than attention reaches, or the same keys several times.
KEEPS_MORE = ("gpt_neo", "falcon")


def rows():
    """Return the archived table: configuration, and what the library of that version counts."""
    return pd.read_csv(TABLE, keep_default_na=False)


def configuration(row):
    return {"model_type": row.family, **json.loads(row.set or "{}")}


def ours(config):
    """Return the same of the decoder that is read."""
    decoder = from_mapping(config, "config.json", "model")
    macs = Counter()
    for product in products(decoder, 64):
        macs[product.op == "lm_head"] += int(product.macs) if product.kind in ("projection", "head") else 0
    cache = Counter()
    for kind in kinds(decoder):
        reach = min(kind.window, kind.chunk)
        if words := int(token_words(kind)) // kind.n_layers:
            cache[words, int(reach) if isfinite(reach) else None] += int(kind.n_layers)
    return {"parameters": int(parameter_count(decoder)), "projections": macs[False], "head": macs[True],
            "cache": written(cache), "state": int(state_words(decoder))}  # fmt: skip


def theirs(told):
    """Return what the runner says of a configuration, as `ours` has it; nothing where it did not run."""
    if "projections" not in told:
        return {}
    layers = told.get("layers", [])
    cache = Counter((words, window) for words, window, _ in layers if words)
    found = {name: told[name] for name in ("parameters", "projections", "head")}
    return found | (
        {"cache": written(cache), "state": sum(state for *_, state in layers)} if layers else {"cache": "", "state": ""}
    )


def written(cache):
    """Return blocks of one kind as `count x words`, with @ and the window where there is one."""
    lines = [f"{count} x {words}{'' if window is None else f' @ {window}'}" for (words, window), count in cache.items()]
    return "; ".join(sorted(lines))


def verdict(config, told):
    """Return right, wrong with what differs, or refused with the reason."""
    try:
        mine = ours(config)
    except BadInput as error:
        return "refused", str(error)
    skipped = ("cache", "state") if told.get("cache") == "" or config["model_type"] in KEEPS_MORE else ()
    differs = {name: (mine[name], value) for name, value in told.items() if mine[name] != value and name not in skipped}
    return ("wrong", f"{config}: {differs}") if differs else ("right", "")
