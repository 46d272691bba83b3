"""A noise study: a trained model for each training seed, tried on a text case by case, chip by chip. A kind of `sweep`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pimllm_lib.analog.lm import checkpoint, corpus, readers, recipes, text
from pimllm_lib.analog.lm.checkpoint import Checkpoint, Matrix
from pimllm_lib.analog.lm.language import losses
from pimllm_lib.analog.lm.layers import Prepare, Product
from pimllm_lib.analog.noise.cases import Case, attending, cases, noise_to_signal, prepared, ranges
from pimllm_lib.catalog.headers import require_model
from pimllm_lib.core import files, paths
from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import require
from pimllm_lib.core.schema import annotate
from pimllm_lib.sweep.entries import require_known, whole
from pimllm_lib.sweep.space import Axis, Chunk, Space

#: Keys of a study beside name and curves, and what they are unless given.
KEYS: dict[str, Any] = {
    "checkpoints": [f"docstrings-{seed}" for seed in recipes.SEEDS["docstrings"]], "text": "docstrings", "windows": 256,
    "device_seeds": 10, "design": "crossed",
}  # fmt: skip
#: Whether every chip reads all of the text, or each blocks of its own.
DESIGNS = ("crossed", "nested")
#: Windows that ranges are chosen from, and those that noise-to-signal ratios are measured on; parts that a text is cut into.
CALIBRATING, PROBING, BLOCKS = 8, 2, 16


@dataclass(frozen=True, eq=False)
class Study:
    """What is tried. checkpoints: folders, one a training seed; text: held-out docstrings by name, or a UTF-8 file.

    windows: of the text, `recipes.Recipe.window` tokens each; device_seeds: chips of each case whose chips differ; design:
    one of `DESIGNS`.
    """

    checkpoints: tuple[str, ...]
    text: str
    windows: int
    device_seeds: int
    cases: tuple[Case, ...]
    design: str = "crossed"

    def reading(self, case: Case, blocks: int) -> list[list[int]]:
        """Return which of so many blocks of text each chip of a case reads. Raises BadInput where one would read none."""
        chips = (case.device_seeds or self.device_seeds) if case.drawn else 1
        read = corpus.spread(np.arange(blocks), _share(case, self.windows, blocks))
        if self.design == "crossed":
            return [read.tolist()] * chips
        what = f"device_seeds of {case.curve}"
        require(chips <= len(read), what, chips, f"at most {len(read)}: nested, a chip reads blocks of its own")
        return [part.tolist() for part in np.array_split(read, chips)]

    @property
    def space(self) -> Space:
        """Return a point for each case and training seed."""
        points = {"case": [case.name for case in self.cases], "training_seed": range(len(self.checkpoints))}
        axes = (Axis(name, (name,), tuple((x,) for x in at), tuple(at)) for name, at in points.items())
        return Space(tuple(axes), chunk=1)

    def folder(self, seed: int, case: Case) -> Path:
        """Return where the checkpoint of a training seed lies that a case tries."""
        return _place(self.checkpoints[seed] + (f"-{case.tuned}" if case.tuned else ""))

    def identity(self) -> str:
        """Return what is tried by content: every checkpoint, and a text of the user's."""
        read = {folder: folder / "model.safetensors" for folder in self.folders()}
        own = [] if self.text in corpus.CORPORA else [paths.users(self.text)]
        read |= {path: path for path in own}
        return " ".join(f"{of.name}={files.hash_of(path)[:12]}" for of, path in read.items())

    def folders(self) -> list[Path]:
        """Return every checkpoint that some case tries. Raises BadInput for one that is not there."""
        seeds = range(len(self.checkpoints))
        found = list(dict.fromkeys(self.folder(seed, case) for case in self.cases for seed in seeds))
        require_model(*found)
        for folder in found:
            if not (folder / "model.safetensors").is_file():
                known = [path.name for path in paths.CHECKPOINTS.glob("*") if path.is_dir()]
                raise unknown("checkpoint", str(folder), known)
        return found


def of(spec: Mapping[str, Any]) -> Study:
    """Return the study that a table describes: `curves`, and under `noise` any of `KEYS`. Raises BadInput for another."""
    given = spec.get("noise") or {}
    if not isinstance(given, Mapping):
        raise BadInput(f"noise is {clip(given)}; wanted a table")
    require_known("key of noise", given, KEYS)
    full = KEYS | dict(given)
    counts = {key: whole(key, full[key], 1) for key in ("windows", "device_seeds")}
    text, folders = full["text"], full["checkpoints"]
    require(isinstance(text, str), "text", text, "a name or a file")
    if not isinstance(folders, list) or not folders or not all(isinstance(name, str) for name in folders):
        raise BadInput(f"checkpoints are {clip(folders)}; wanted a list of folders or names, one a training seed")
    if len(set(folders)) < len(folders):
        raise BadInput(f"checkpoints are {clip(folders)}; wanted no name twice")
    require_known("design", [full["design"]], DESIGNS)
    study = Study(tuple(folders), text, **counts, cases=cases(spec.get("curves", {})), design=full["design"])
    for case in study.cases:
        what = f"device_seeds of {case.curve}"
        require(
            case.device_seeds <= study.device_seeds,
            what,
            case.device_seeds,
            f"at most the study's {study.device_seeds}",
        )
        study.reading(case, min(BLOCKS, study.windows))
    _require_tried(study)
    return study


def _share(case: Case, windows: int, blocks: int) -> int:
    """Return how many of a study's blocks a case reads. Raises BadInput where its windows are no whole number of them."""
    read, left = divmod((case.windows or windows) * blocks, windows)
    wanted = f"at most {windows}, the study's, and whole blocks of {windows / blocks:g}"
    require(not left and read <= blocks, f"windows of {case.curve}", case.windows, wanted)
    return read


def compute(study: Study, chunk: Chunk, *, chips: int | None = None) -> xr.Dataset:
    """Return the losses of one case and training seed for each chip, block of text by block, and its noise to signal.

    chips: how many are tried, from the first; None for all.
    """
    (_, at, _), (_, seed, _) = chunk.slices
    case = study.cases[at]
    model, tokens, calibrating, header = _setting(study.folder(seed, case), study.text, study.windows)
    scales = ranges(case, model, calibrating)
    blocks = np.array_split(tokens, min(BLOCKS, len(tokens)))
    found = np.full((study.device_seeds, len(blocks)), np.nan)
    first = _kept(prepared(case, scales, 0))
    for chip, places in enumerate(study.reading(case, len(blocks))[:chips]):
        on, attention = prepared(case, scales, chip) if chip else first, attending(case, chip)
        read = [blocks[place] for place in places]
        lost = losses(model, np.concatenate(read), on, header=header, attention=attention).mean(axis=1)
        found[chip, places] = [part.mean() for part in np.split(lost, np.cumsum([len(block) for block in read[:-1]]))]
    ratios = noise_to_signal(case, model, tokens[:PROBING], first)
    data = {
        "held_out_loss": (("case", "training_seed", "device_seed", "text_block"), found[None, None]),
        "noise_to_signal": (("case", "training_seed", "matrix"), np.array([[list(ratios.values())]])),
    }
    labels = {"device_seed": np.arange(study.device_seeds), "matrix": list(ratios)}
    return annotate(xr.Dataset(data, coords=study.space.labels(chunk) | labels))


def reader(study: Study, case: Case) -> Callable[[int], np.ndarray]:
    """Return what draws a case's first chip anew and reads so many windows with it and the first model, as trials do."""
    model, tokens, calibrating, header = _setting(study.folder(0, case), study.text, study.windows)
    scales = ranges(case, model, calibrating)

    def read(windows: int) -> np.ndarray:
        on, attention = prepared(case, scales, 0), attending(case, 0)
        return losses(model, tokens[:windows], on, header=header, attention=attention)

    return read


def longest(study: Study) -> int:
    """Return how many windows its text has."""
    return len(_setting(study.folder(0, study.cases[0]), study.text, 1 << 30)[1])


def _kept(prepare: Prepare) -> Prepare:
    """Return what prepares each matrix of one model once, by its name: the network of its wires takes long to solve."""
    known: dict[str, Product] = {}

    def again(name: str, matrix: Matrix) -> Product:
        if name not in known:
            known[name] = prepare(name, matrix)
        return known[name]

    return again


def described(study: Study, ds: xr.Dataset) -> xr.Dataset:
    """Return the dataset in the order of the cases, with curve, setting and number of each, and what was read."""
    ds = ds.sel(case=[case.name for case in study.cases])
    told = {name: ("case", [getattr(case, name) for case in study.cases]) for name in ("curve", "setting", "value")}
    ds = ds.assign_coords(told)
    names = {"case": "case", "training_seed": "model, by the seed of its training", "device_seed": "chip, by its seed",
             "text_block": "part of the held-out text", "matrix": "layer and kind of the matrix",
             "curve": "curve that a case is on", "setting": "what the curve's field is set to",
             "value": "that setting as a number"}  # fmt: skip
    for name, said in names.items():
        if name in ds.coords:
            ds[name].attrs["long_name"] = said
    return ds.assign_attrs(checkpoints=" ".join(study.checkpoints), text=study.text, windows=study.windows)


def layers(checkpoints: Sequence[str]) -> int:
    """Return how many layers all of the named checkpoints have. Raises BadInput for one that cannot be read."""
    return min(int(_model(_place(name)).decoder.n_layers) for name in checkpoints)


def _place(name: str) -> Path:
    """Return where a checkpoint lies: among the shipped ones, or where a path leads."""
    shipped = paths.CHECKPOINTS / name
    return shipped if shipped.is_dir() else paths.users(name)


def _require_tried(study: Study) -> None:
    """Raise BadInput for a model, a text or a part of a model that cannot be tried, before anything runs."""
    for folder in study.folders():
        model = _model(folder)
        if study.text not in corpus.CORPORA:
            _own_text(study.text, folder, model)
        layers, kinds = [str(layer) for layer in range(model.decoder.n_layers)], list(model.block(0).matrices)
        names = [*layers, *kinds, *(f"{layer}.{kind}" for layer in layers for kind in kinds)]
        require_known(f"matrix of {model.name}", [case.only for case in study.cases if case.only is not None], names)


def _model(folder: Path) -> Checkpoint:
    shipped = folder.parent == paths.CHECKPOINTS
    model = readers.checkpoint_of(folder) if shipped else checkpoint.read(folder)
    checkpoint.require_ternary(model)
    return model


def _own_text(name: str, folder: Path, model: Checkpoint) -> np.ndarray:
    """Return the windows of a text of the user's: at least two."""
    path, length = paths.users(name), recipes.Recipe.window
    ids = text.tokens(files.read(path), str(path), folder, model.decoder.vocab_size).ids
    if len(ids) < 2 * length:
        raise BadInput(f"{path} has {len(ids)} tokens; wanted at least {2 * length}: a window to calibrate, one to try")
    return corpus.windows(ids, length)


@lru_cache(maxsize=4)
def _setting(folder: Path, name: str, windows: int) -> tuple[Checkpoint, np.ndarray, np.ndarray, int]:
    """Return a checkpoint, windows it is tried on, others to choose ranges from, and how many tokens of one are given."""
    model, length = _model(folder), recipes.Recipe.window
    if name in corpus.CORPORA:
        whole = _corpus(name)
        tried, apart = corpus.windows(whole.held_out, length), corpus.windows(whole.training, length)
        return model, corpus.spread(tried, windows), corpus.spread(apart, CALIBRATING), whole.header
    found = _own_text(name, folder, model)
    kept = min(max(len(found) // 8, 1), CALIBRATING)
    return model, corpus.spread(found[:-kept], windows), found[-kept:], 0


@lru_cache(maxsize=1)
def _corpus(name: str) -> corpus.Corpus:
    return corpus.named(name)
