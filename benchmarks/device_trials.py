"""Noise trials an hour on a GPU where PyTorch finds one, else on this processor: python -m benchmarks.device_trials --help.

A trial is one chip of a shipped model on its held-out text: cells are drawn and programmed by numpy, wherever the products
are computed, and so is read noise. Before it is timed, a trial of a few windows has to agree with numpy's as trials of
archived studies have to. It ends within the minutes given, eight at most with what is loaded first; nothing depends on it.
"""

import argparse
import time
from dataclasses import replace
from importlib.util import find_spec

from pimllm_lib import catalog
from pimllm_lib.analog.lm import checkpoint, corpus
from pimllm_lib.analog.lm.evaluation import on_crossbars
from pimllm_lib.analog.lm.language import losses
from pimllm_lib.analog.lm.recipes import Recipe
from pimllm_lib.archive.agreement import STUDIES
from pimllm_lib.core import paths
from pimllm_lib.hardware import Devices, Readout

BAR = catalog.part("crossbar-256")
CASES = {
    "cells that vary by 0.3, ideal conversion": (Devices(name="varied", variation=0.3), Readout(name="ideal")),
    "read noise of 0.1, ideal conversion": (Devices(name="read", read_noise=0.1), Readout(name="ideal")),
    "cells that vary by 0.1, 8-bit converters": (
        Devices(name="varied", variation=0.1), replace(catalog.part("readout-unit"), lsb=2.0),
    ),
}  # fmt: skip
#: Windows on which a device is compared with numpy.
COMPARED = 8


def computing(device):
    """Return an array on the device that computes, None for numpy, and its name. device: of PyTorch, numpy, or none."""
    if device == "numpy" or (device is None and not find_spec("torch")):
        return None, "numpy on this processor"
    import torch

    if device is None and not torch.cuda.is_available():
        return None, "numpy on this processor"
    try:
        like = torch.zeros(1, device=device or "cuda")
    except (RuntimeError, AssertionError) as error:  # PyTorch's own words on a device that is not there
        raise SystemExit(f"device {device}: {str(error).splitlines()[0]}") from None
    return like, torch.cuda.get_device_name(like.device) if like.is_cuda else f"torch on {like.device}"


def trial(model, tokens, case, seed, like):
    """Return the mean loss in nats of one chip."""
    devices, readout = CASES[case]
    return float(losses(model, tokens, on_crossbars(BAR, devices, readout, seed=seed), like=like).mean())


def report(device=None, windows=256, minutes=6.0):
    """Yield one line for each case. Raises SystemExit where the device departs from numpy."""
    model = checkpoint.read(paths.CHECKPOINTS / "docstrings-0")
    tokens = corpus.spread(corpus.windows(corpus.named("docstrings").held_out, Recipe.window), windows)
    like, name = computing(device)
    yield f"noise trials of {len(tokens)} windows of {Recipe.window} tokens, {name}: an hour, off numpy's loss by"
    for case in CASES:
        end, done = time.perf_counter() + 60 * minutes / len(CASES), 0
        here, there = (trial(model, tokens[:COMPARED], case, 0, to) for to in (None, like))
        if not abs(there / here - 1) <= STUDIES:
            raise SystemExit(f"{case}: the loss is {there:.6f} on {name} and {here:.6f} by numpy alone")
        start = now = time.perf_counter()
        while not done or now + (now - start) / done < end:  # as another one fits in
            trial(model, tokens, case, done, like)
            done, now = done + 1, time.perf_counter()
        yield f"  {case:<44}{3600 * done / (now - start):>9.0f}{abs(there / here - 1):10.1e}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Noise trials an hour, compared with numpy's.")
    parser.add_argument("--device", help="of PyTorch, such as cuda or cpu, or numpy; unless given a GPU, or numpy")
    parser.add_argument("--windows", type=int, default=256, help="windows of text that a chip reads (256)")
    parser.add_argument("--minutes", type=float, default=6.0, help="minutes for all cases together (6)")
    given = parser.parse_args()
    if given.windows < 1 or not 0 < given.minutes <= 60:
        parser.error(f"{given.windows} windows, {given.minutes:g} minutes; wanted 1 at least, and up to 60 minutes")
    for line in report(**vars(given)):
        print(line, flush=True)
