"""The data of the page `explore`, added up here as its script does, against `evaluate`; in a browser, the page itself."""

import base64
import json
import random
import re
import shlex
import zlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.paths import BOOK
from pimllm_lib.report import explorer

PAGE = BOOK / "_build" / "html" / "explore.html"
MERITS = ("tokens_per_s", "tokens_per_j")


@cache
def unpacked():
    head, slices = (zlib.decompress(base64.b64decode(part)) for part in explorer.payload().split("."))
    return json.loads(head), np.frombuffer(slices, np.uint8).reshape(8, -1).T.copy().view("<f8").ravel()


def read_out(column, state):
    (place, said), index = column, 0
    for (axis, values), letters in zip(explorer.AXES.items(), said.split(" "), strict=True):
        slices = [int(letter, 16) for letter in letters]
        index = index * (max(slices) + 1) + slices[values.index(state[axis])]
    return float(unpacked()[1][place + index])


def token(state):
    """Return time and energy of a token, by the sums of `book/explore.js`."""
    book, _ = unpacked()
    columns = book["columns"][f"{state['system']} {state['conventions']}"]
    x = {key: read_out(column, state) for key, column in columns.items()}
    power = state["power_w"] / book["adc"]["power_w"]
    waiting, share = power * state["idle_share"] / book["adc"]["idle_share"], state["gated_share"]
    time = sum(number for key, number in x.items() if key.startswith("s:"))
    energy = sum(number * (power if key == "j:ADC:tiles" else 1) for key, number in x.items() if key.startswith("j:"))
    of = {key: x.get(key, 0.0) for key in ("on", "array", "leak", "leak_c", "pim", "adc", "sleep", "sleep_c", "wake", "wake_c")}
    energy += of["on"] * time - of["array"] * x.get("s:array", 0.0) + of["leak"] + of["leak_c"] * waiting
    energy += share * ((of["pim"] + of["adc"] * waiting) * time - of["sleep"] - of["sleep_c"] * waiting)
    return time, energy + (1 - share) * (of["wake"] + of["wake_c"] * waiting)


def drawn(seed):
    """Return a random state: a system with its cells, a point of the grid, and any value of what is linear."""
    draw = random.Random(seed)
    state = {axis: draw.choice(values) for axis, values in explorer.AXES.items()}
    state["scale_group"] = draw.choice(explorer.fitting(state["model"]))
    state["conventions"] = draw.choice(["as-published", "corrected", "full-system", "full-system"])
    names = [f"{name}-{cell}" if cell else name for name, cells in explorer.SYSTEMS.items() for cell in cells]
    state["system"] = draw.choice(names)
    state |= {"power_w": draw.uniform(1e-4, 2e-2), "idle_share": draw.uniform(0, 0.5), "gated_share": draw.uniform(0, 0.9)}
    return state


def evaluated(state):
    fields = {path: state[key] for key, path in explorer.FIELDS.items()}
    if state["system"].startswith("tpu"):
        fields = {path: value for path, value in fields.items() if not path.startswith("pim.")}
    system = with_fields(pl.catalog.system(state["system"]), fields)
    model = replace(pl.catalog.model(state["model"]), scale_group=state["scale_group"] or np.inf)
    where = {key: state[key] for key in ("context_len", "conventions")}
    return pl.metrics.summary(pl.evaluate(system=system, model=model, **where))


def test_fifty_random_states_of_the_page_are_what_evaluate_gives():
    for seed in range(50):
        state = drawn(seed)
        ds = evaluated(state)
        time, energy = token(state)
        assert time == pytest.approx(ds.latency_s.item(), rel=1e-11), state
        assert energy == pytest.approx(ds.energy_j.item(), rel=1e-11), state
        assert [f"{x:.4g}" for x in (1 / time, 1 / energy)] == [f"{ds[name].item():.4g}" for name in MERITS]
