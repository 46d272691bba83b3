"""How well the shipped language models read: perplexity of held-out text, beside what bounds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from pimllm_lib.analog import checkpoint, corpus, recipes, source
from pimllm_lib.analog.evaluation import expected_loss
from pimllm_lib.analog.language import Prepare, exact, losses, zeroed
from pimllm_lib.errors import BadInput
from pimllm_lib.report import trained

#: Who reads -> what that is. Bounds are known for the generated source alone.
READERS = {
    "seed 0": "ternary model, first training seed",
    "seed 1": "ternary model, second training seed",
    "seed 2": "ternary model, third training seed",
    "full precision": "the first seed's twin in full precision, after as many steps",
    "no crossbars": "the first seed's model with every crossbar giving zero",
    "best without the header": "the best predictor that cannot see a document's header",
    "floor": "the exponential of the source's exact entropy",
}


def perplexities(folder: Path, *, windows: int, documents: int) -> xr.DataArray:
    """Return perplexity by corpus and reader, NaN where there is no such reader.

    folder: checkpoints by name; windows: of held-out text; documents: of the generated source, over whose law the mean is
    taken. Raises BadInput for checkpoints that are not what their records say.
    """
    text = corpus.named("docstrings")
    tokens = corpus.windows(text.held_out, recipes.Recipe.window)[:windows]
    drawn = source.documents(documents, source.PARTS["held_out"][1])
    law = source.law(drawn) / source.TOTAL
    found = xr.DataArray(
        np.full((2, len(READERS)), np.nan), dims=("corpus", "reader"),
        coords={"corpus": ["docstrings", "generated"], "reader": list(READERS)}, name="perplexity",
    )  # fmt: skip
    runs: dict[str, tuple[str, Prepare]] = {f"seed {seed}": (str(seed), exact) for seed in recipes.SEEDS}
    runs |= {"full precision": ("full", exact), "no crossbars": ("0", zeroed)}
    for reader, (name, prepare) in runs.items():
        on_text, on_source = (checkpoint_of(folder / f"{of}-{name}") for of in ("docstrings", "generated"))
        found.loc["docstrings", reader] = np.exp(losses(on_text, tokens, prepare).mean())
        found.loc["generated", reader] = np.exp(expected_loss(on_source, drawn, prepare))
    found.loc["generated", "best without the header"] = np.exp(source.cross_entropy(law, source.without_header(drawn)))
    found.loc["generated", "floor"] = np.exp(source.cross_entropy(law, law))
    return found


def checkpoint_of(folder: Path) -> checkpoint.Checkpoint:
    """Return a shipped checkpoint. Raises BadInput when it is not what its record says."""
    damage = trained.damaged(folder)
    if damage:
        raise BadInput(damage[0])
    return checkpoint.read(folder)
