"""What pages are made of: numbers keep the digits that count, tables hold what they are given, figures are closed."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from pimllm_lib.core.schema import SUBSYSTEMS
from pimllm_lib.core.units import UNITS
from pimllm_lib.report import figure, numbers, plots, tables
from pimllm_lib.system.evaluation import evaluate


@pytest.mark.parametrize(
    "value", [1e-7, 0.0123456, 0.9996, 9.995, 999.4, 999.6, 1234.5, 98765.4, -0.0123456, -98765.4, 0.0]
)
def test_a_number_is_within_half_a_digit_and_never_in_powers_of_ten_from_one_on(value):
    for digits in (2, 3):
        for said in (numbers.number(value, digits), numbers.rounded(value, digits)):
            got = float(said.replace(numbers.THIN, ""))
            assert got == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits), abs=1e-12)
            assert "e" not in said or abs(value) < 1e-4


@pytest.mark.parametrize("share", [0.00012, 0.0994, 0.0996, 0.5, 0.994, 0.996, 4.321, -0.3])
def test_a_share_keeps_two_digits(share):
    assert float(numbers.percent(share, "")) == pytest.approx(100 * share, rel=0.05)
    assert numbers.percent(share) == numbers.percent(share, "") + " %"


def test_a_span_ends_at_the_extremes_and_is_one_number_where_both_read_alike():
    values = xr.DataArray([2.0, np.nan, 1.0, 3.0])
    assert numbers.span(values, ".1f") == "1.0 to 3.0"
    assert numbers.span(values / 1e3, numbers.frequency) == "0.1 % to 0.3 %"
    assert numbers.span(1 + values / 1e9) == "1"


@pytest.mark.parametrize("symbol", sorted(set(UNITS) - {"1", "B", "KiB", "MiB", "GiB", "GB"}))
def test_a_value_with_its_unit_reads_back(symbol):
    si, factor = UNITS[symbol]
    field = {"Hz": "rate_hz", "s": "read_s", "J": "bit_j", "W": "power_w", "V": "supply_v", "ohm": "low_ohm",
             "S": "on_siemens", "K": "rated_k", "bit/s": "network_bps", "m2": "area_m2"}[si]  # fmt: skip
    said, unit = numbers.with_unit(field, 2 * factor).rsplit(" ", 1)
    read = UNITS[unit.replace("µ", "u").replace("²", "2")][1]
    assert float(said.replace(numbers.THIN, "")) * read == pytest.approx(2 * factor)


def test_points_are_all_there_in_order_and_a_crossed_table_has_their_values():
    ds = xr.Dataset(
        {"x": (("model", "context_len"), [[1.0, 2.0], [3.0, 4.0]])}, {"model": ["a", "b"], "context_len": [8, 16]}
    )
    assert [(m, n, at.x.item()) for m, n, at in tables.points(ds, "model", "context_len")] == [
        ("a", 8, 1.0), ("a", 16, 2.0), ("b", 8, 3.0), ("b", 16, 4.0)
    ]  # fmt: skip
    frame = tables.crossed(ds.x, "{:.1f}".format, corner="who").frame
    assert frame.to_dict("list") == {"who": ["a", "b"], "l = 8": ["1.0", "3.0"], "l = 16": ["2.0", "4.0"]}


def test_numbers_stand_on_the_right_also_with_their_thousands_apart():
    said = numbers.number(12345)
    shown = [said, f"{said} / 1.5", "+3.5 %", f"{said} (4.8 x)"]
    html = tables.Table([dict(enumerate([*shown, "12 GB"]))])._repr_html_()
    assert all(f'<td class="number">{one}</td>' in html for one in shown)
    assert "<td>12 GB</td>" in html
    mixed = tables.Table(
        [{"value": "0.01", "rise": "0.01"}, {"value": "2 mW", "rise": "-"}, {"rise": "3"}]
    ).frame.fillna("")
    html = tables.Table(mixed)._repr_html_()
    assert "<td>0.01</td>" in html, "a column of which half is words stands on the left"
    assert '<th scope="col" class="number">rise</th>' in html
    assert '<td class="number">-</td>' in html


def test_bars_are_stacked_to_their_sum_and_a_legend_names_each_part_once():
    with figure.panels(1, 2) as (drawn, axes):
        for ax in axes:
            ends = figure.stacked(ax, ["p", "q"], {"a": [1, 2], "b": [3, 4]}, {"a": "#000000", "b": "#ffffff"})
            assert ends.tolist() == [4, 6]
        figure.legend(drawn, axes[0])
        assert [text.get_text() for text in drawn.legends[0].texts] == ["a", "b"]
    assert not plt.get_fignums()


def test_shares_of_subsystems_fill_their_bars():
    ds = evaluate(system=["tpu-llm", "pim-llm"], model="opt-125m", context_len=[128, 256], conventions="full-system",
                  detail="component")  # fmt: skip
    assert "for 4 pairs of system and context" in plots.breakdown(ds).alt
    shares = plots._shares(ds.squeeze("model", drop=True).energy_j.sum("op"), [("pim-llm", 128), ("tpu-llm", 256)])
    assert np.sum(list(shares.values()), axis=0) == pytest.approx(100)


def test_every_subsystem_of_every_machine_has_a_colour():
    assert plots._COLOURS.keys() == SUBSYSTEMS.keys()
    ds = evaluate(system=["pim-llm", "pim-attention"], model="opt-125m", context_len=128, conventions="full-system",
                  detail="component")  # fmt: skip
    assert plots._COLOURS["kv_cells"] in plots.breakdown(ds).svg
