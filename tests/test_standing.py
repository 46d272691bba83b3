"""Static power: what stands there and how hot it is, what is woken when, and what is paid for it."""

import ast
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import SEVEN, checkout
from hypothesis import given, settings
from hypothesis import strategies as st

import pimllm_lib as pl
from pimllm_lib.analysis.standing import duty, gains, with_cells, with_temperature
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.conventions import FULL_SYSTEM
from pimllm_lib.core.errors import BadInput, UnknownName
from pimllm_lib.core.parts import with_field, with_fields

PIM = pl.catalog.systems["pim-llm"]
CELLS = ("hp", "lop", "lstp")
UNGATED = replace(FULL_SYSTEM, name="ungated", power_gating=False)
DYNAMIC = replace(UNGATED, name="dynamic", static_power=False)
FREE = {"pim.gated_share": 0.0, "pim.wake_s": 0.0, "pim.break_even_s": 0.0}


def cost(system=PIM, model="opt-6.7b", context_len=128, conventions="full-system", **more):
    return pl.evaluate(system=system, model=model, context_len=context_len, conventions=conventions, **more)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_all_that_is_gated_for_free_costs_what_is_at_work_and_what_is_never_gated():
    idle = {"pim.tile.crossbar.adc.idle_share": 0.0, "pim.tile.crossbar.dac.idle_share": 0.0, "sram.gated_share": 0.0}
    free = with_fields(PIM, FREE | idle | {"array.gated_share": 0.0})
    spent = cost(free, detail="component").energy_j.sum("op").squeeze(drop=True)
    dynamic = cost(free, conventions=DYNAMIC).energy_j.squeeze(drop=True)
    assert spent.sel(component="asleep").item() == 0
    rest = spent.sum("component") - spent.sel(component=["leakage", "standby"]).sum("component")
    assert rest.item() == pytest.approx(dynamic.item(), rel=1e-12)


@pytest.mark.parametrize("model", ["gpt2-355m", "opt-6.7b", "llama-3-8b"])
def test_nothing_gated_takes_power_times_time(model):
    ds = cost(model=model, conventions=UNGATED, detail="component")
    whole = ds.static_power_w.sum(["op", "component"]) * ds.latency_s.sum(["op", "component"])
    static = ds.energy_j.sel(component=["leakage", "standby"]).sum(["op", "component"])
    never = with_field(PIM, "pim.woken", "never")
    same = cost(never, model=model).energy_j
    assert same.item() == pytest.approx(ds.energy_j.sum().item(), rel=1e-12)
    # while parts work, their static power is in what working takes
    assert (static <= whole).all()
    assert (static >= 0.98 * whole).all()


@settings(max_examples=10)
@given(share=st.floats(0, 1), even=st.floats(0, 1e-5), woken=st.sampled_from(["product", "block"]))
def test_the_states_sum_to_the_whole_time_and_their_energies_to_the_total(share, even, woken):
    """Energy is linear in the share: its slope is the time asleep, and with a share of one no state matters."""
    at = {"pim.woken": woken, "pim.wake_s": 0.0, "pim.break_even_s": even}
    parts = {s: cost(with_fields(PIM, at | {"pim.gated_share": s}), detail="component") for s in (0.0, share, 1.0)}
    joules = {s: ds.energy_j.sum("op").squeeze(drop=True) for s, ds in parts.items()}
    awake, asleep = joules[0.0].sel(component="leakage"), joules[1.0].sel(component="asleep")
    never = cost(with_field(PIM, "pim.woken", "never"), detail="component").energy_j.sum("op").squeeze(drop=True)
    assert (awake + asleep).item() == pytest.approx(never.sel(component="leakage").item(), rel=1e-12)
    assert joules[share].sel(component="asleep").item() == pytest.approx(share * asleep.item(), rel=1e-12)
    assert joules[share].sel(component="wake").item() == pytest.approx(
        (1 - share) * joules[0.0].sel(component="wake").item(), rel=1e-12
    )
    assert joules[1.0].sum().item() == pytest.approx(never.sum().item(), rel=1e-12)


def test_a_product_at_a_time_sleeps_longest_and_never_is_the_dearest():
    free = [with_fields(PIM, FREE | {"pim.woken": woken, "name": woken}) for woken in ("product", "block", "never")]
    joules = cost(free, model=SEVEN, context_len=[128, 4096]).energy_j
    product, block, never = (joules.sel(system=name) for name in ("product", "block", "never"))
    assert (product < block).all()
    assert (block < never).all()


def test_waking_is_waited_for_and_paid_for_once_a_product_or_a_block():
    slow = {"pim.wake_s": 1e-6, "pim.gated_share": 0.0}
    base = cost(with_fields(PIM, FREE)).latency_s.item()
    # of a block, query, key and value wake together, then come output projection and the two matrices of the FFN
    assert cost(with_fields(PIM, FREE | slow)).latency_s.item() - base == pytest.approx(4 * 32e-6)
    block = FREE | slow | {"pim.woken": "block"}
    assert cost(with_fields(PIM, block)).latency_s.item() - base == pytest.approx(32e-6)
    never = FREE | slow | {"pim.woken": "never"}
    assert cost(with_fields(PIM, never)).latency_s.item() == pytest.approx(base, rel=1e-12)
    paid = cost(with_fields(PIM, FREE | {"pim.break_even_s": 2e-6}), detail="component")
    waking = paid.energy_j.sel(component="wake").sum().item()
    tiles = paid.static_power_w.sel(component=["adc", "dac", "buffer"]).sum().item()
    others = paid.static_power_w.drop_sel(component=["adc", "dac", "buffer", "stream", "sram", "standby"]).sum().item()
    assert 2e-6 * tiles <= waking <= 2e-6 * (tiles + others * 400)


def test_sleep_shorter_than_the_break_even_is_dearer_than_none():
    def joules(even):
        return cost(with_fields(PIM, FREE | {"pim.break_even_s": even})).energy_j.item()

    token = cost(with_fields(PIM, FREE)).latency_s.item()
    never = cost(with_field(PIM, "pim.woken", "never")).energy_j.item()
    assert joules(0.5 * token) < never < joules(1.01 * token)


def test_a_digital_half_that_sleeps_while_crossbars_work_draws_its_share_then():
    half = with_fields(PIM, {"sram.gated_share": 0.25, "array.gated_share": 0.25})
    awake, slept = (cost(system, detail="op") for system in (PIM, half))
    projections = awake.latency_s.sel(op=["q", "k", "v", "x", "ff1", "ff2"]).sum().item()
    watts = PIM.sram.leakage_w + cost(PIM, detail="component").static_power_w.sel(component="stream").sum().item()
    saved = (awake.energy_j.sum() - slept.energy_j.sum()).item()
    assert saved == pytest.approx(0.75 * watts * projections, rel=1e-9)


# --- cells and temperature ----------------------------------------------------------------------------------------------


def test_leakage_of_cells_is_what_cacti_says_at_both_temperatures():
    """mW of 2, 8 and 64 KiB at 90 nm, gates included. Of cells for low operating power the catalog leaves 360 K out."""
    known = {
        ("hp", 300): (0.434, 1.53, 10.1), ("hp", 360): (1.10, 3.97, 26.6), ("lop", 300): (0.186, 0.686, 4.22),
        ("lstp", 300): (0.000246, 0.000913, 0.00558), ("lstp", 360): (0.000635, 0.00252, 0.0167),
    }  # fmt: skip
    for (cell, kelvin), expected in known.items():
        buffer = with_field(pl.catalog.parts[f"buffer-90nm-{cell}"], "temperature_k", kelvin)
        np.testing.assert_allclose(1e3 * np.array(buffer.leaking_w)[[0, 2, 5]], expected, rtol=0.006)
    # 8 MiB at 45 nm behind one port of 64 bits; ours are three memories behind wider ones
    watts = {("hp", 300): 3.97, ("hp", 360): 8.83, ("lop", 300): 0.175, ("lstp", 300): 0.000198, ("lstp", 360): 0.00187}
    for (cell, kelvin), expected in watts.items():
        memory = with_field(pl.catalog.parts[f"sram-8mb-{cell}"], "temperature_k", kelvin)
        assert memory.leaking_w == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("cell", CELLS)
def test_a_chip_leaks_more_the_hotter_it_is_and_gates_do_not(cell):
    memory = pl.catalog.parts[f"sram-8mb-{cell}"]
    kelvin = np.arange(250, 401, 5)
    watts = np.array([with_field(memory, "temperature_k", k).leaking_w for k in kelvin])
    along = with_field(memory, "temperature_k", pl.axis(kelvin=kelvin)).leaking_w
    np.testing.assert_allclose(along, watts, rtol=1e-12)
    assert (np.diff(watts) > 0).all()
    assert (watts > memory.gate_w).all()
    assert with_field(memory, "temperature_k", memory.rated_k).leaking_w == pytest.approx(memory.leakage_w, rel=1e-12)


def test_both_machines_get_the_same_cells_and_nothing_else_changes():
    for cell in CELLS:
        tpu, pim = (pl.catalog.systems[f"{name}-{cell}"] for name in ("tpu-llm", "pim-llm"))
        assert tpu.sram.name == pim.sram.name == f"sram-8mb-{cell}"
        own = pl.catalog.systems["pim-llm"]
        assert (pim.array.name, pim.dram.name, pim.pim.act_bits) == (own.array.name, own.dram.name, own.pim.act_bits)
        assert pim.pim.tile.crossbar.name == own.pim.tile.crossbar.name


def test_the_published_numbers_do_not_know_what_cells_leak():
    """As published the buffers' own table is charged while they work, and nothing else stands."""
    args = {"model": SEVEN, "context_len": [128, 4096], "conventions": "as-published"}
    same = with_field(PIM, "pim.tile.buffer.transistors", None)
    xr.testing.assert_equal(pl.evaluate(system=same, **args), pl.evaluate(system=PIM, **args))
    fixed = pl.evaluate(system=["pim-llm", "pim-llm-lstp"], **args).latency_s  # 20 ns a word, whatever the cells
    np.testing.assert_array_equal(fixed.sel(system="pim-llm"), fixed.sel(system="pim-llm-lstp"))


# --- answers with pauses between ------------------------------------------------------------------------------------------


def test_one_token_an_hour_costs_standby_alone():
    ds = duty(["pim-llm", "tpu-llm"], "opt-1.3b", context_len=128, period_s=3600.0, answer_s=0.0)
    assert (ds.mean_power_w == ds.standby_w).all()
    assert (ds.standby_w == PIM.dram.self_refresh_w).all()


def test_an_assistant_pays_while_it_answers_and_while_it_waits():
    ds = duty(["pim-llm", "tpu-llm"], "opt-1.3b", context_len=128, period_s=60.0, answer_s=5.0)
    both = cost(["tpu-llm", "pim-llm"], "opt-1.3b")
    for name in ("pim-llm", "tpu-llm"):
        one = both.sel(system=name)
        working = (one.energy_j / one.latency_s).item()
        expected = (5 * working + 55 * ds.standby_w.sel(system=name).item()) / 60
        assert ds.mean_power_w.sel(system=name).item() == pytest.approx(expected, rel=1e-12)
    always = duty("pim-llm", "opt-1.3b", context_len=128, period_s=5.0, answer_s=5.0).mean_power_w.item()
    one = both.sel(system="pim-llm")
    assert always == pytest.approx((one.energy_j / one.latency_s).item(), rel=1e-12)


def test_a_machine_that_stays_awake_between_answers_draws_its_static_power():
    awake = duty("pim-llm", "opt-1.3b", context_len=128, period_s=3600.0, answer_s=0.0, state="awake")
    assert awake.standby_w.item() == pytest.approx(cost(model="opt-1.3b").static_power_w.item(), rel=1e-12)
    gated = duty("pim-llm", "opt-1.3b", context_len=128, period_s=3600.0, answer_s=0.0, state="gated")
    off = duty("pim-llm", "opt-1.3b", context_len=128, period_s=3600.0, answer_s=0.0)
    both = with_fields(pl.catalog.systems["pim-attention"], {"pim.gated_share": 0.0, "kv_pim.gated_share": 1.0})
    kept = duty(both, "opt-1.3b", period_s=3600.0, answer_s=0.0, state="gated").standby_w.item()
    standing = cost(both, "opt-1.3b", detail="op").static_power_w
    assert kept == pytest.approx(standing.sel(op=["block", "score", "av"]).sum().item(), rel=1e-12)
    assert off.standby_w.item() < gated.standby_w.item() < awake.standby_w.item()


# --- bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda: with_cells("pim-llm", "hvt"), UnknownName, "unknown cells 'hvt'.*Known: hp, lop, lstp"),
        (lambda: with_field(PIM, "pim.woken", "bank"), UnknownName, "unknown tiles that are woken together 'bank'"),
        (lambda: with_temperature(PIM, 500), BadInput, "temperature_k is 500; wanted a temperature from 250 to 400 K"),
        (lambda: with_temperature(PIM, np.nan), BadInput, "wanted a temperature from 250 to 400 K"),
        (lambda: with_field(PIM, "pim.gated_share", 1.5), BadInput, "gated_share is 1.5; wanted a share from 0 to 1"),
        (lambda: with_field(PIM, "sram.gate_w", 1.0), BadInput, "Sram.gate_w is 1.0; wanted no more than leakage_w"),
        (
            lambda: with_field(PIM, "pim.tile.buffer.gate_w", (1.0,) * 6),
            BadInput,
            r"Buffer.gate_w is .*; wanted no more than leakage_w",
        ),
        (
            lambda: cost(with_field(PIM, "pim.wake_s", 1.0)),
            BadInput,
            r"tiles take to wake, in seconds, is [0-9.]+; wanted no more than",
        ),
        (lambda: with_field(PIM, "sram.gated_share", 2), BadInput, "Sram.gated_share is 2; wanted a share from 0 to 1"),
        (lambda: duty("pim-llm", "opt-1.3b", state="asleep"), UnknownName, "unknown state 'asleep'"),
        (lambda: duty("pim-llm", "opt-1.3b", answer_s=9.0, period_s=5.0), BadInput, "answer_s is 9"),
    ],
)
def test_what_no_chip_has_is_refused(change, error, words):
    with pytest.raises(error, match=words):
        change()


def test_a_temperature_out_of_range_is_one_line_on_the_command_line(tmp_path, capsys):
    kelvin = 'temperature_k = { value = 999, unit = "K", source = "us", status = "assumed" }'
    (tmp_path / "hot.toml").write_text(f'base = "sram-8mb-lop"\n{kelvin}\n')
    (tmp_path / "mine.toml").write_text('base = "pim-llm-lop"\nsram = "hot.toml"\n')
    assert main(["evaluate", "--system", str(tmp_path / "mine.toml"), "--model", "opt-1.3b"]) == 2
    said, err = capsys.readouterr()
    assert (said, err.count("\n")) == ("", 1)
    assert "Sram.temperature_k is 999; wanted a temperature from 250 to 400 K" in err
    (tmp_path / "mine.toml").write_text('base = "pim-llm-lopp"\n')
    assert main(["evaluate", "--system", str(tmp_path / "mine.toml"), "--model", "opt-1.3b"]) == 2
    assert "unknown base 'pim-llm-lopp'" in capsys.readouterr().err


# --- the map --------------------------------------------------------------------------------------------------------------


def test_the_line_where_the_gain_turns_is_where_it_turns():
    found = gains(model="gpt2-355m", context_len=128, temperature_k=[300, 360])
    for cells in CELLS:
        for kelvin in (300, 360):
            point = found.sel(cells=cells, temperature_k=kelvin, woken="product").squeeze()
            turning = point.turning_idle_share.item()
            if np.isfinite(turning):
                at = gains(model="gpt2-355m", context_len=128, cells=[cells], temperature_k=[kelvin],
                           idle_share=[turning], woken=["product"])  # fmt: skip
                assert at.energy_gain.item() == pytest.approx(0, abs=1e-9)
            else:
                assert (point.energy_gain < 0).all()
    tpu, pim = (with_temperature(with_cells(name, "lop"), 360) for name in ("tpu-llm", "pim-llm"))
    both = cost([tpu, pim], "gpt2-355m").energy_j.squeeze().values
    here = found.energy_gain.sel(cells="lop", temperature_k=360, woken="product", idle_share=0.01)
    assert here.item() == pytest.approx(both[0] / both[1] - 1, rel=1e-9)


# --- what is said of it ---------------------------------------------------------------------------------------------------


def sentences():
    """Yield each sentence of a page, a notebook, or what a chapter says, with where it stands."""
    for page in [*(paths.ROOT / "book").glob("*.md"), paths.ROOT / "README.md"]:
        yield from ((page.name, one) for one in _split(page.read_text()))
    for notebook in sorted((paths.ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(notebook.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                yield from ((notebook.name, one) for one in _split("".join(cell["source"])))
    for module in sorted((paths.ROOT / "notebooks" / "pimllm_chapters").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield from ((module.name, one) for one in _split(ast.unparse(node)))


def _split(text):
    return re.split(r"(?<=[.!?:])\s|\n\n|\n\||\n- ", text)


@checkout
def test_every_sentence_about_the_energy_of_a_whole_machine_says_what_it_holds_for():
    about = [
        (where, " ".join(said.split()))
        for where, said in sentences()
        if re.search("whole[ -]machine", said.lower()) and re.search(r"energy|tokens/J|joule", said)
    ]
    assert len(about) >= 4
    told = re.compile(r"what_stands|_drawn\(\)|\{\{ standing \}\}|(cells|CELLS).*(idle|wait)|17-standing-power")
    assert [one for one in about if not told.search(one[1])] == []


def test_cells_of_the_catalog_are_those_that_were_asked_of_cacti():
    asked = pd.read_csv(paths.DATA / "peers" / "cacti-sram.csv")

    def rows(node, cell, kelvin, port):
        at = asked.query("node_nm == @node and cell == @cell and temperature_k == @kelvin and port_bits == @port")
        return at.set_index("size_bytes")

    for cell in CELLS:
        buffer, memory = (pl.catalog.parts[f"{name}-{cell}"] for name in ("buffer-90nm", "sram-8mb"))
        mine = rows(90, cell, 300, 64).loc[[int(size) for size in buffer.sizes_bytes]]
        for name, column in (
            ("read_j",) * 2,
            ("write_j",) * 2,
            ("leakage_w",) * 2,
            ("gate_w", "gate_leakage_w"),
            ("area_m2",) * 2,
        ):
            np.testing.assert_allclose(getattr(buffer, name), mine[column], rtol=1e-4)
        for kelvin in (300, 320, 340, 380, 400):
            hot = rows(90, cell, kelvin, 64).loc[mine.index]
            np.testing.assert_allclose(with_field(buffer, "temperature_k", kelvin).leaking_w, hot.leakage_w, rtol=2e-4)
        wide = rows(45, cell, 300, 256).leakage_w
        assert memory.leakage_w == pytest.approx(2 * wide[2 << 20] + wide[4 << 20], rel=1e-4)
