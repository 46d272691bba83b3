"""The data of the page `explore`, added up here as its script does, against `evaluate`; in a browser, the page itself."""

import base64
import json
import random
import re
import shlex
import shutil
import zlib
from dataclasses import replace
from functools import cache
from urllib.parse import parse_qs, urlencode

import numpy as np
import pytest
from conftest import checkout
from test_browser import FLAGS

import pimllm_lib as pl
from pimllm_lib.cli.main import main
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.paths import BOOK
from pimllm_lib.report import explorer

PAGE = BOOK / "_build" / "html" / "explore.html"
STATIC = [*(f"w_{key}" for key in ("on", "array", "pim", "adc")),
          *(f"j_{key}{c}" for key in ("leak", "sleep", "wake") for c in ("", "_c"))]  # fmt: skip
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
    of = {key: x.get(key, 0.0) for key in STATIC}
    energy += of["w_on"] * time - of["w_array"] * x.get("s:array", 0.0) + of["j_leak"] + of["j_leak_c"] * waiting
    energy += share * ((of["w_pim"] + of["w_adc"] * waiting) * time - of["j_sleep"] - of["j_sleep_c"] * waiting)
    return time, energy + (1 - share) * (of["j_wake"] + of["j_wake_c"] * waiting)


def drawn(seed):
    """Return a random state: a system with its cells, a point of the grid, and any value of what is linear."""
    draw = random.Random(seed)
    state = {axis: draw.choice(values) for axis, values in explorer.AXES.items()}
    state["scale_group"] = draw.choice(explorer.fitting(state["model"]))
    state["conventions"] = draw.choice(["as-published", "corrected", "full-system", "full-system"])
    names = [f"{name}-{cell}" if cell else name for name, cells in explorer.SYSTEMS.items() for cell in cells]
    state["system"] = draw.choice(names)
    state |= {
        "power_w": draw.uniform(1e-4, 2e-2),
        "idle_share": draw.uniform(0, 0.5),
        "gated_share": draw.uniform(0, 0.9),
    }
    return state


def evaluated(state):
    fields = {path: state[key] for key, path in explorer.FIELDS.items()}
    if state["system"].startswith("tpu"):
        fields = {path: value for path, value in fields.items() if not path.startswith("pim.")}
    system = with_fields(pl.catalog.system(state["system"]), fields)
    model = replace(pl.catalog.model(state["model"]), scale_group=state["scale_group"] or np.inf)
    where = {key: state[key] for key in ("context_len", "conventions")}
    return pl.metrics.summary(pl.evaluate(system=system, model=model, **where))


def test_fifty_random_states_of_the_data_are_what_evaluate_gives():
    for seed in range(50):
        state = drawn(seed)
        ds = evaluated(state)
        time, energy = token(state)
        assert time == pytest.approx(ds.latency_s.item(), rel=1e-11), state
        assert energy == pytest.approx(ds.energy_j.item(), rel=1e-11), state
        assert [f"{x:.4g}" for x in (1 / time, 1 / energy)] == [f"{ds[name].item():.4g}" for name in MERITS]


@pytest.mark.parametrize("field", ["power_w", "idle_share", "gated_share"])
def test_energy_is_linear_in_what_the_page_takes_for_linear_and_time_knows_nothing_of_it(field):
    state = drawn(1) | {"system": "pim-llm", "model": "opt-6.7b", "context_len": 1024, "conventions": "full-system"}
    made = [evaluated(state | {"scale_group": 0, field: x}) for x in (0.1, 0.2, 0.7)]
    low, middle, high = (ds.energy_j.item() for ds in made)
    assert middle - low == pytest.approx((high - low) / 6, rel=1e-12)
    assert high > low
    assert len({ds.latency_s.item() for ds in made}) == 1


def test_details_by_part_are_those_by_op_and_component_added_up():
    args = {
        "system": "pim-llm",
        "model": ["opt-125m", "bonsai-1.7b-1bit"],
        "context_len": [1, 300],
        "conventions": "full-system",
    }
    part, both = (pl.evaluate(**args, detail=detail) for detail in ("part", "component"))
    assert part.energy_j.dims == ("system", "model", "context_len", "component")
    for name in ("latency_s", "energy_j", "macs"):
        np.testing.assert_allclose(part[name], both[name].sum("op"), rtol=1e-14)
    assert pl.metrics.summary(part).array_share.values == pytest.approx(pl.metrics.summary(both).array_share.values)


def test_models_keep_the_groups_that_divide_their_inputs_alone():
    assert explorer.fitting("gpt2-1.5b") == [0, 64]
    assert explorer.fitting("opt-6.7b") == [0, 256, 128, 64]


@checkout
def test_the_page_asks_for_nothing_from_elsewhere_and_is_light():
    html = explorer.page()
    assert len(html) < 700_000
    assert not re.search(r"https?://|import\(|fetch\(", html)


@pytest.fixture
def page():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(PAGE.as_uri())
        page.wait_for_selector("[data-ready]")
        yield page
        browser.close()


def asked(seed):
    """Return a random state as a link has it."""
    state, draw = drawn(seed), random.Random(-seed)
    system, _, cells = state["system"].partition("-llm")
    name = "pim-llm-groups" if cells == "-groups" else f"{system}-llm"
    state |= {"system": name, "cells": "" if cells == "-groups" else cells.removeprefix("-")}
    state |= {"groups": str(state.pop("scale_group")), "base": draw.choice(["catalog", "same"])}
    return urlencode(state)


def set_to(page, link):
    page.evaluate("link => { location.hash = link }", link)
    page.wait_for_function("location.hash.startsWith('#system=')")
    chosen = parse_qs(link, keep_blank_values=True)
    page.wait_for_function(
        "([key, value]) => document.getElementById(key).value === value", arg=["explore-model", chosen["model"][0]]
    )


def shown(page, key):
    return float(page.locator(f"#explore-results [data-key={key}]").get_attribute("data-value"))


@pytest.mark.browser
def test_fifty_random_states_of_the_page_are_what_its_commands_print(page, capsys):
    for seed in range(50):
        set_to(page, asked(seed))
        commands = page.locator("#explore-command").inner_text().replace("\\\n", " ").splitlines()
        assert len(commands) == 2
        for command, prefix in zip(commands, ("", "base_"), strict=True):
            assert main([*shlex.split(command)[1:], "--json"]) == 0
            (row,) = json.loads(capsys.readouterr().out)
            for key in ("tokens_per_s", "tokens_per_j", "latency_s", "energy_j"):
                assert f"{shown(page, prefix + key):.4g}" == f"{row[key]:.4g}", (command, key)
            said = page.locator(f"#explore-results [data-key={prefix}tokens_per_s]").inner_text()
            assert float(said) == float(f"{row['tokens_per_s']:.4g}")
        speedup, gain = shown(page, "tokens_per_s") / shown(page, "base_tokens_per_s"), shown(page, "energy_gain")
        assert shown(page, "speedup") == pytest.approx(speedup, rel=1e-12)
        assert gain == pytest.approx(
            shown(page, "tokens_per_j") / shown(page, "base_tokens_per_j") - 1, rel=1e-12, abs=1e-12
        )
        word = {(True, True): "both", (True, False): "faster", (False, True): "thriftier"}.get(
            (speedup > 1, gain > 0), "neither"
        )
        assert page.locator("#explore-map td[aria-current]").get_attribute("data-win") == word


@pytest.mark.browser
@pytest.mark.parametrize("seed", [3, 8, 21])
def test_copied_python_gives_the_same(page, seed, capsys):
    set_to(page, asked(seed))
    exec(page.locator("#explore-python").inner_text(), {})
    rows = capsys.readouterr().out.splitlines()
    chosen = next(line for line in rows if line.startswith("chosen")).split()
    for key, number in zip(("tokens_per_s", "tokens_per_j", "speedup", "energy_gain"), chosen[-4:], strict=True):
        assert shown(page, key) == pytest.approx(float(number), rel=1e-5, abs=1e-6)


@pytest.mark.browser
def test_a_link_brings_the_same_design_back(page):
    set_to(page, asked(5))
    before = [
        page.locator(f"#explore-{part}").inner_text() for part in ("answer", "results", "parts", "command", "link")
    ]
    page.goto("about:blank")
    page.goto(before[-1])
    page.wait_for_selector("[data-ready]")
    assert [
        page.locator(f"#explore-{part}").inner_text() for part in ("answer", "results", "parts", "command", "link")
    ] == before


@pytest.mark.browser
def test_the_keyboard_reaches_every_control_and_results_are_announced(page):
    controls = page.locator("#explore-form :is(select, input, button)")
    names = [one.get_attribute("id") or one.inner_text() for one in controls.all()]
    assert all(page.locator(f"label[for={name}]").count() == 1 for name in names[:-1])
    controls.first.focus()
    reached = []
    for _ in names:
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
        page.keyboard.press("Tab")
    assert reached == names
    assert page.locator("#explore-answer").get_attribute("role") == "status"
    before = page.locator("#explore-answer").inner_text()
    page.locator("#explore-model").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#explore-answer").inner_text() != before
    page.locator("#explore-power_w").fill("-1")
    assert page.locator("#explore-power_w").get_attribute("aria-invalid") == "true"
    assert "-1" not in page.locator("#explore-link").inner_text()
    assert page.locator("#explore-wins .explore-scroll").get_attribute("tabindex") == "0"
    page.locator("#explore-take button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('explore-said').innerText.includes('done')")


@pytest.mark.browser
def test_groups_that_do_not_divide_the_inputs_of_a_model_are_said_and_shown_as_no_number(page):
    page.select_option("#explore-groups", "128")
    page.select_option("#explore-model", "gpt2-1.5b")
    assert "cannot be divided" in page.locator("#explore-answer").inner_text()
    assert (
        page.locator("#explore-results td").count()
        == page.locator("#explore-command").inner_text().count("pimllm")
        == 0
    )
    assert page.locator("#explore-map td", has_text="–").count() == len(explorer.AXES["context_len"])
