"""Machines that one can buy: the rule worked by hand, a table in which every number has unit, way and source."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pimllm_lib import catalog
from pimllm_lib.analysis import devices
from pimllm_lib.analysis.devices import compared, decoding_rate, fitted_shares, here, measured, token_bytes
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.paths import DATA
from pimllm_lib.hardware import Device
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.products import stored_bytes

BIBLIOGRAPHY = Path(__file__).parents[1] / "book" / "references.bib"
TINY = Decoder(name="tiny", d_model=8, d_ff=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4, vocab_size=10)
ROOM = Device(name="room", kind="card", bandwidth_bps=8e6, capacity_bytes=1e4, efficiency=0.5)


def test_the_rule_by_hand():
    # q, x 8 x 8, k, v 8 x 4, ff1, ff2 8 x 16: 448 weights a block of 2 bits; head 8 x 10 of 8 bits, embedding the same
    weights = 2 * 448 * 2 / 8 + 80
    assert stored_bytes(TINY, read=True) == weights == 304
    # a token leaves 2 blocks x (4 + 4) numbers; 5 of them are read, one is written, 16 bits each
    moved = weights + 6 * 16 * 2
    assert token_bytes(TINY, 5) == moved == 496
    assert decoding_rate(ROOM, TINY, 5) == pytest.approx(1e6 * 0.5 / moved)
    # 448 x 2 + 80 products with weights, 2 x 2 heads x 2 x 4 x 5 with the cache
    assert decoding_rate(replace(ROOM, macs_hz=1e5), TINY, 5) == pytest.approx(1e5 / (896 + 80 + 160))


def test_a_format_says_what_a_weight_takes():
    assert token_bytes(TINY, 5, bits=4, head_bits=16) == 896 * 4 / 8 + 80 * 2 + 192
    assert token_bytes(TINY, 5, cache_bits=8) == 304 + 96
    assert stored_bytes(TINY, bits=4, head_bits=16) == 896 / 2 + 160  # head and embedding are one
    assert stored_bytes(replace(TINY, tied_embeddings=False), read=True) == 304  # a row of the other is looked up


@pytest.mark.parametrize(
    ("model", "bits", "head_bits", "mib"),
    [
        ("bonsai-8b-1bit", 1.125, 1.125, 1.07 * 1024),
        ("bonsai-4b-1bit", 1.125, 1.125, 540.09),
        ("bonsai-1.7b-1bit", 1.125, 1.125, 231.13),
        ("bonsai-4b-ternary", 2.125, 2.125, 1019.50),
        ("bonsai-1.7b-ternary", 2.25, 2.25, 461.79),
        ("bitnet-2b4t", 2, 16, 1187.31e6 / 2**20),
    ],
)
def test_files_are_as_large_as_llama_bench_and_a_report_print_in_the_sources_of_the_table(model, bits, head_bits, mib):
    size = stored_bytes(catalog.models[model], bits=bits, head_bits=head_bits)
    assert size / 2**20 == pytest.approx(mib, rel=0.01)  # norms, and what a file says of itself


def test_only_experts_that_work_are_read_and_all_are_stored():
    mixed = replace(TINY, n_experts=4, experts_per_token=1)
    assert stored_bytes(mixed, read=True) == 304
    assert stored_bytes(mixed) == 304 + 3 * 2 * 256 * 2 / 8


def test_contexts_may_be_an_array():
    assert decoding_rate(ROOM, TINY, np.array([5, 50])).tolist() == [decoding_rate(ROOM, TINY, n) for n in (5, 50)]


def test_a_model_that_does_not_fit_its_memory_is_refused_in_one_line():
    with pytest.raises(
        BadInput, match=r"^bonsai-8b-1bit needs 10\.8 GB at 65536 tokens; wanted at most the 10 GB of rtx-"
    ):
        decoding_rate("rtx-3080", "bonsai-8b-1bit", 65536)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bandwidth_bps": None}, "Device.bandwidth_bps is None; wanted a finite number above 0"),
        ({"efficiency": 1.2}, "Device.efficiency is 1.2; wanted a share above 0, up to 1"),
        ({"kind": "watch"}, "unknown Device.kind 'watch'"),
    ],
)
def test_a_device_without_bandwidth_or_of_no_kind_is_refused(wrong, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        replace(ROOM, **wrong)


def test_a_file_without_bandwidth_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('part = "Device"\nkind = { value = "card", source = "me", status = "assumed" }\n')
    with pytest.raises(BadInput, match=r"mine\.bandwidth_bps is missing; wanted a value with unit"):
        catalog.device(path)
    with pytest.raises(BadInput, match="is a SystolicArray; wanted a Device"):
        catalog.device(catalog.parts["edge-32x32"])


def altered(tmp_path, line, **fields):
    """Write the table's head and one line with some fields changed."""
    table = pd.read_csv(DATA / "machines.csv", dtype=str, keep_default_na=False).iloc[[line]].assign(**fields)
    table.to_csv(path := tmp_path / "machines.csv", index=False)
    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rate_unit": ""}, "line 2 has no rate_unit; wanted one of tokens/s, ms/token"),
        ({"rate_unit": "token/s"}, "unknown rate_unit 'token/s', did you mean 'tokens/s'"),
        ({"energy_unit": ""}, "line 2 has no energy_unit; wanted one of J/token"),
        ({"method": ""}, "line 2 has no method; wanted one of rail, package, board, wall, estimated"),
        ({"method": "guess"}, "unknown method 'guess'"),
        ({"energy": "a few"}, "line 2: energy is 'a few'; wanted a finite number above 0"),
        ({"context": ""}, "line 2: context is ''; wanted a finite number above 0"),
        ({"rate": "-3"}, "line 2: rate is '-3'; wanted a finite number above 0"),
        ({"device": "rtx-4091"}, "unknown device 'rtx-4091', did you mean 'rtx-4090'"),
        ({"model": "bonsai-9b"}, "unknown model 'bonsai-9b'"),
        ({"status": "heard"}, "unknown status 'heard'"),
        ({"where": " "}, "line 2 has no where; wanted one"),
        ({"energy": "900", "energy_unit": "W"}, "line 2: 900 W; wanted at most the 450 W of rtx-4090"),
    ],
)
def test_a_row_without_unit_way_source_or_sense_is_refused(tmp_path, fields, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        measured(altered(tmp_path, 0, **fields))


def test_a_table_without_a_column_and_one_that_is_no_text_are_refused(tmp_path):
    path = tmp_path / "machines.csv"
    path.write_text("device,model\nrtx-4090,bitnet-2b4t\n")
    with pytest.raises(BadInput, match=r"machines\.csv has no column engine; wanted device, model, engine"):
        measured(path)
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        measured(tmp_path / "none.csv")


def test_units_are_brought_to_tokens_a_second_and_joules_a_token(tmp_path):
    row = measured(altered(tmp_path, 2, rate="20", rate_unit="ms/token", energy="0.1", energy_unit="mWh/token")).loc[0]
    assert (row.tokens_per_s, row.energy_j) == (50, pytest.approx(0.36))
    for unit, joules in (("W", 0.002), ("tokens/J", 10), ("J/token", 0.1)):
        row = measured(altered(tmp_path, 2, rate="50", energy="0.1", energy_unit=unit)).loc[0]
        assert row.energy_j == pytest.approx(joules)


def test_the_table_is_wide_enough_and_every_source_is_in_the_bibliography():
    table = measured()
    assert len(table) >= 40
    assert table.device.nunique() >= 8
    assert set(table.device) == set(catalog.devices)
    assert set(table.source) <= set(re.findall(r"@\w+\{(\w+),", BIBLIOGRAPHY.read_text()))
    assert (table.second != "").sum() >= 3  # a second public source
    assert set(table.kind) == {"phone", "unified", "board", "card", "cpu"}
    assert not table.duplicated(["device", "model", "engine", "format", "context", "source", "tokens_per_s"]).any()


def test_estimated_energies_are_marked_and_a_battery_or_a_count_of_operations_is_one():
    table = measured().set_index(["device", "model"])
    estimated = table.index[table.method == "estimated"]
    assert set(estimated) >= {("iphone-17-pro-max", "bonsai-8b-1bit"), ("i7-13800h", "bitnet-2b4t")}
    assert (table.energy_j.notna() == (table.method != "")).all()


def test_efficiencies_are_the_median_share_of_each_kind_and_none_is_fitted_to_a_row():
    fitted = fitted_shares()
    for name, device in catalog.devices.items():
        assert device.efficiency == fitted[device.kind], name
        assert catalog.devices.entries[name]["efficiency"]["status"] == "fitted"


def test_no_device_reads_faster_than_its_memory_and_every_row_outside_of_the_factor_says_why():
    table = compared()
    assert (table.share < 1).all()
    assert (table.outside == (table.why != "")).all()
    assert table.outside.mean() < 0.2
    assert devices.FACTOR == 2


def test_the_report_of_four_power_modes_follows_its_clock():
    table = measured()
    table = table[table.device.str.startswith("jetson-orin-nano")]
    slow, fast = (table[table.device == f"jetson-orin-nano-{mode}"].tokens_per_s.to_numpy() for mode in ("7w", "maxn"))
    assert slow / fast == pytest.approx(0.24, abs=0.02)


@pytest.mark.parametrize("name", list(catalog.devices))
def test_every_quantity_of_a_device_has_a_source_that_the_bibliography_knows(name):
    known = set(re.findall(r"@\w+\{(\w+),", BIBLIOGRAPHY.read_text())) | {"pimllm"}
    assert name not in catalog.parts
    for field, entry in catalog.devices.entries[name].items():
        if isinstance(entry, dict):
            assert entry["source"] in known, field
            assert entry.get("where") or entry.get("note"), field
            assert (entry["status"] in ("fitted", "assumed")) == (entry["source"] == "pimllm"), field
            if "range" in entry:
                assert entry["range"][0] <= entry["value"] <= entry["range"][1], field


def test_what_was_measured_here_stands_beside_the_rule():
    table = here()
    assert {"TQ1_0", "TQ2_0", "Q8_0"} == set(table.format)
    assert table.context.nunique() == 3
    assert table.model.nunique() == 3
    one = table.iloc[0]
    moved = token_bytes(catalog.models[one.model], one.context, bits=one.bits, head_bits=one.head_bits)
    assert one.share == pytest.approx(one.tokens_per_s * moved / one.copy_gb_per_s / 1e9)
