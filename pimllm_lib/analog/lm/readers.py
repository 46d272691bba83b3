"""How well the shipped language models read, beside what bounds it, and what crossbars do to their matrices."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import xarray as xr

from pimllm_lib.analog.crossbar.probes import Cause
from pimllm_lib.analog.crossbar.ratios import Probe
from pimllm_lib.analog.lm import checkpoint, corpus, recipes, source, trained
from pimllm_lib.analog.lm.checkpoint import Matrix
from pimllm_lib.analog.lm.evaluation import expected_losses
from pimllm_lib.analog.lm.language import looked_at, losses
from pimllm_lib.analog.lm.layers import Prepare, exact, zeroed
from pimllm_lib.catalog.headers import require_model
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import require
from pimllm_lib.core.schema import annotate

#: The ternary models, by training seed.
MODELS = [f"seed {seed}" for seed in sorted({*chain(*recipes.SEEDS.values())})]
#: Who reads beside them -> what that is. Bounds are known for the generated source alone.
READERS = {
    "full precision": "the twin of the first in full precision, after as many steps",
    "no crossbars": "the first model with every crossbar giving zero",
    "best without the header": "the best predictor that cannot see a document's header",
    "floor": "the exponential of the source's exact entropy",
}


def with_models(ds: xr.Dataset, read: xr.Dataset, carried_over: xr.DataArray) -> xr.Dataset:
    """Return the dataset with what the language models read, and what departures do to a trained one."""
    joined = ds.assign(read.data_vars).assign(carried_over=carried_over)
    joined.reader.attrs["long_name"] = "who reads"
    joined.text_window.attrs["long_name"] = "window of text, or generated document"
    return annotate(joined)


def read(folder: Path, *, windows: int) -> xr.Dataset:
    """Return the loss of each reader on each window, in nats a token, and its perplexity; NaN where there is no such reader.

    folder: checkpoints by name; windows: of held-out text, spread over all of it, and as many documents of the generated
    source, of which the loss is that over the law. Raises BadInput for checkpoints that are not what their records say.
    """
    require_model(*(folder / f"{of}-{name}" for of, seeds in recipes.SEEDS.items() for name in (*seeds, "full")))
    tokens, drawn = held_out(windows), source.documents(windows, source.PARTS["held_out"][1])
    law = source.law(drawn) / source.TOTAL
    coords = {"corpus": ["docstrings", "generated"], "reader": [*MODELS, *READERS], "text_window": np.arange(windows)}
    loss = xr.DataArray(np.nan, coords, tuple(coords))
    for of, seeds in recipes.SEEDS.items():
        runs: dict[str, tuple[str, Prepare]] = {f"seed {seed}": (str(seed), exact) for seed in seeds}
        runs |= {"full precision": ("full", exact), "no crossbars": ("0", zeroed)}
        for reader, (name, prepare) in runs.items():
            model = checkpoint_of(folder / f"{of}-{name}")
            on_text = of == "docstrings"
            found = losses(model, tokens, prepare).mean(axis=1) if on_text else expected_losses(model, drawn, prepare)
            loss.loc[of, reader] = found
    loss.loc["generated", "best without the header"] = source.cross_entropies(law, source.without_header(drawn))
    loss.loc["generated", "floor"] = source.cross_entropies(law, law)
    return xr.Dataset({"held_out_loss": loss, "perplexity": np.exp(loss.mean("text_window"))})


def held_out(windows: int) -> np.ndarray:
    """Return windows of the held-out docstrings, spread over all of them: (windows, 128). Raises BadInput for too many."""
    found = corpus.windows(corpus.named("docstrings").held_out, recipes.Recipe.window)
    most = min(len(found), source.PARTS["held_out"][0])
    require(0 < windows <= most, "windows", windows, f"1 to {most}")
    return corpus.spread(found, windows)


def carried_over(folder: Path, chosen: Mapping[str, Cause], *, windows: int = 2) -> xr.DataArray:
    """Return measured over predicted noise of departures in each matrix of a trained model, (departure, matrix).

    The closed form is told the matrix's own density; the activations are those of held-out text.
    """

    def look(_: str, matrix: Matrix, x: np.ndarray) -> list[float]:
        whole, density = x.astype(np.int32), float(np.mean(matrix.values != 0))
        probe = Probe(matrix.values, whole, whole)
        return [cause.measured(probe, 0) / cause.predicted(probe, density) for cause in chosen.values()]

    found = looked_at(checkpoint_of(folder), held_out(windows), look)
    return xr.DataArray(np.array(list(found.values())).T, [("departure", list(chosen)), ("matrix", list(found))])


def checkpoint_of(folder: Path) -> checkpoint.Checkpoint:
    """Return a shipped checkpoint. Raises BadInput when it is not here, or not what its record says."""
    require_model(folder)
    for damage in trained.damaged(folder):
        raise BadInput(damage)
    return checkpoint.read(folder)
