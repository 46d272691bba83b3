"""Analog tiles: one layer worked by hand, limits, properties, and shapes of input."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pimllm_lib import catalog
from pimllm_lib.core.conventions import AS_PUBLISHED
from pimllm_lib.costs import crossbar
from pimllm_lib.engines.crossbars import counted

PIM = catalog.parts["pim-published"]
OWN, TILE = PIM.tile, counted(PIM.tile, AS_PUBLISHED)
SHRINK = (45 / 65) ** 2


def latency(fan_in, fan_out, tile=TILE, merge=0, transfer=0, network=20e9, reread=True):
    on = crossbar.layout(fan_in, fan_out, tile=tile, act_bits=8)
    return crossbar.latency(
        on, tile=tile, act_bits=8, network_bps=network, fan_out=fan_out, merge_hops=merge, transfer_hops=transfer,
        reread_output=reread,
    )  # fmt: skip


def energy(fan_in, fan_out, tile=TILE, inside=8192, outside=128):
    on = crossbar.layout(fan_in, fan_out, tile=tile, act_bits=8)
    return crossbar.energy(on, tile=tile, act_bits=8, input_buffer=inside, output_buffer=outside)


def with_(**changes):
    """Return the tile with fields of the crossbar, or of a converter in it, changed: adc__bits=4."""
    bar = TILE.crossbar
    for key, value in changes.items():
        inner, _, field = key.partition("__")
        bar = replace(bar, **({inner: replace(getattr(bar, inner), **{field: value})} if field else {key: value}))
    return replace(TILE, crossbar=bar)


def test_the_latency_of_one_layer_equals_the_hand_worked_table():
    """16 turns (8 activation bits, rows in one turn, columns in two), 2 ns clock, 10 and 14 hops; nanoseconds."""
    by_hand = {
        "dac": 16 * 3 / 1.0,
        "adc": 16 * 10 / 1.28,
        "crossbar": 16 * (3.16 + 1e-3 * (2e-4 * 8**2 + 5e-6 * 8 + 4e-14)),
        "registers": (2 + 16) * 2 + 2 * 2,
        "mux": 16 * 2 * 0.27933 + 16 * 2 * 0.032744,
        "shift_add": 16 * 2,
        "joint": 2 * 2,
        "buffer": 2 * 32 * 20 + 128 * 20 + 160 * 20,
        "intra_tile": (2 * (8 + 2) - 3) * 256 / 1024,
        "merge": 128 * 20 + 10 * (2 + 256 * 4 * 8 / 20),
        "transfer": 14 * 4096 * 8 / 20,
    }
    computed = latency(4096, 4096, merge=10, transfer=14)
    assert computed.keys() == by_hand.keys()
    for name, value in computed.items():
        assert value * 1e9 == pytest.approx(by_hand[name], rel=1e-12), name
    assert by_hand["dac"] + by_hand["adc"] + by_hand["crossbar"] == pytest.approx(223.56020544, rel=1e-12)
    assert by_hand["buffer"] == 7040


def test_the_energy_of_one_full_tile_equals_the_hand_worked_table():
    """Power of four PEs times the time each part works; joules."""
    cell_w = 0.1 * 0.15**2 * (0.33 / 1e4 + 0.67 / 1e6)
    register_w = 1.88e-8 * SHRINK
    reading = 4 * (0.018382e-9 / 20e-9 + 4.1222e-3) + 0.0075695e-9 / 20e-9 + 1.006428e-3
    writing = 4 * (0.0211344e-9 / 20e-9 + 4.1222e-3) + 0.0131361e-9 / 20e-9 + 1.006428e-3
    by_hand = {
        "dac": 4 * 256 * 3.9e-6 * 48e-9,
        "adc": 4 * 128 * 2e-3 * 125e-9,
        "crossbar": 4 * 2 * 256 * 256 * cell_w / 2 * 50.56020544e-9,
        "registers": 4 * 256 * register_w * 36e-9 + 4 * 128 * register_w * 4e-9,
        "mux": 4 * 256 * 9.6e-8 * 8.93856e-9 + 4 * 128 * 9.6e-8 * 1.047808e-9,
        "shift_add": 4 * 128 * 8.1e-7 * 32e-9,
        "joint": 3 * 128 * 2.64e-4 * SHRINK * 4e-9,
        "buffer": reading * 3200e-9 + writing * 3840e-9,
    }
    computed = energy(1024, 256)  # four crossbars: one tile
    assert computed.keys() == by_hand.keys()
    for name, value in computed.items():
        assert value == pytest.approx(by_hand[name], rel=1e-12), name
    assert sum(computed.values()) == pytest.approx(284.3e-9, rel=1e-3)


def test_a_small_matrix_works_partial_crossbars_and_tiles():
    on = crossbar.layout(100, 300, tile=TILE, act_bits=8)
    assert (on.crossbars, on.tiles, on.rows, on.cols, on.pes, on.levels) == (2, 1, 100, 256, 2, 1)
    assert crossbar.used_converters(on, TILE.crossbar) == (100, 128)
    few = crossbar.layout(100, 60, tile=TILE, act_bits=8)
    assert (few.cols, few.col_turns, few.turns, few.pes, few.levels) == (60, 1, 8, 1, 0)


def test_only_cells_of_columns_in_use_are_read():
    """Two columns share an ADC: 77 of them keep 39 busy, and on average 38.5 of them are read at a time."""
    odd, even = energy(300, 77), energy(300, 78)
    assert odd["crossbar"] / even["crossbar"] == pytest.approx(77 / 78, rel=1e-12)
    assert {name for name, joules in odd.items() if joules != even[name]} == {"crossbar"}
    on = crossbar.layout(300, 77, tile=TILE, act_bits=8)
    assert (crossbar.read_cells(on, TILE.crossbar), *crossbar.used_converters(on, TILE.crossbar)) == (19712, 256, 39)


def test_one_crossbar_has_nothing_to_join_merge_or_send():
    spent = latency(256, 256, tile=replace(TILE, pes=1), reread=False)
    assert (spent["joint"], spent["intra_tile"], spent["merge"], spent["transfer"]) == (0, 0, 0, 0)
    assert energy(256, 256, tile=replace(TILE, pes=1))["joint"] == 0


@given(columns=st.integers(1, 256), more=st.integers(1, 256), cols=st.integers(1, 2000))
def test_more_columns_on_an_adc_never_speed_a_layer_up(columns, more, cols):
    few = sum(latency(700, cols, tile=with_(adc__per_crossbar=max(1, 256 // (columns + more)))).values())
    many = sum(latency(700, cols, tile=with_(adc__per_crossbar=max(1, 256 // columns))).values())
    assert few >= many


def test_a_faster_network_shortens_only_what_travels_on_it():
    slow, fast = (latency(4096, 4096, merge=7, transfer=9, network=rate, reread=False) for rate in (20e9, 40e9))
    assert fast["transfer"] == slow["transfer"] / 2
    step = 7 / TILE.periphery.rate_hz
    assert fast["merge"] - step == pytest.approx((slow["merge"] - step) / 2)
    assert {k: v for k, v in fast.items() if k not in ("merge", "transfer")} == {
        k: v for k, v in slow.items() if k not in ("merge", "transfer")
    }


def test_more_dacs_than_rows_are_one_for_each_row():
    many, each = with_(dac__per_crossbar=1000), with_(dac__per_crossbar=256)
    assert latency(4096, 4096, tile=many) == latency(4096, 4096, tile=each)
    assert energy(4096, 4096, tile=many) == energy(4096, 4096, tile=each)
    on = crossbar.layout(4096, 4096, tile=TILE, act_bits=8)
    buffers = {"input_buffer": 128, "output_buffer": 128}
    assert crossbar.area(on, tile=many, **buffers) == crossbar.area(on, tile=each, **buffers)


def test_a_weight_of_more_bits_takes_more_cells():
    assert [float(crossbar.slices(with_(weight_bits=bits).crossbar)) for bits in (2, 3, 5)] == [1, 2, 4]
    assert float(crossbar.slices(with_(polarity=1, weight_bits=1).crossbar)) == 1
    assert float(crossbar.slices(with_(weight_bits=5, cell__bits=2).crossbar)) == 2
    one, four = energy(4096, 4096), energy(4096, 4096, tile=with_(weight_bits=5))
    assert four["crossbar"] == 4 * one["crossbar"]
    assert four["buffer"] == one["buffer"]


def test_an_adc_bit_costs_one_clock_period_a_turn():
    tiles = [replace(OWN, crossbar=with_(adc__bits=bits, adc__periods=1.0).crossbar) for bits in (8, 9)]
    eight, nine = (latency(4096, 4096, tile=counted(tile, AS_PUBLISHED))["adc"] for tile in tiles)
    assert nine - eight == pytest.approx(16 / 1.28e9)


def test_a_source_has_one_conversion_a_period_and_its_own_time_of_a_word():
    """By hand: 16 turns at 1.28 GS/s, 352 words of at least one clock period; a tenth of the energy of conversions."""
    own = latency(4096, 4096, tile=OWN)
    assert own["adc"] * 1e9 == pytest.approx(16 / 1.28)
    assert own["dac"] * 1e9 == pytest.approx(16 / 1.0)
    assert own["buffer"] * 1e9 == pytest.approx((2 * 32 + 128 + 160) * 2)
    assert energy(4096, 4096)["adc"] / energy(4096, 4096, tile=OWN)["adc"] == pytest.approx(10)
    assert crossbar.conversion_energy(OWN.crossbar.adc) == pytest.approx(1.5625e-12)
    slow = replace(OWN, buffer=replace(OWN.buffer, access_s=3e-9))
    assert latency(4096, 4096, tile=slow)["buffer"] * 1e9 == pytest.approx(352 * 3)


@pytest.mark.parametrize(("size", "entry"), [(1, 0), (2048, 0), (2049, 1), (8192, 2), (65536, 5)])
def test_a_buffer_takes_the_smallest_size_that_holds_it(size, entry):
    buffer = TILE.buffer
    assert crossbar.sized(size, buffer, buffer.leakage_w) == buffer.leakage_w[entry]


def test_a_buffer_beyond_the_table_is_several_of_the_largest():
    assert crossbar.sized(65537, TILE.buffer, TILE.buffer.leakage_w) == 2 * TILE.buffer.leakage_w[-1]


def test_programming_writes_every_cell_once():
    bar = TILE.crossbar
    written = crossbar.programming(512, 512, bar=bar, program_rows=1)
    assert written["cells"] == 2 * 512 * 512
    assert written["energy_j"] == pytest.approx(2 * 512 * 512 * bar.cell.write_pulses * bar.cell.write_j)
    pulse = bar.cell.write_s + crossbar.read_time(bar)
    assert written["time_s"] == pytest.approx(2 * 2 * 512 * bar.cell.write_pulses * pulse)
    wide = crossbar.programming(512, 512, bar=bar, program_rows=4)
    assert wide["time_s"] == written["time_s"] / 4


@settings(max_examples=30)  # what breaks is a kind of wrapping, not a size
@given(fan_in=st.integers(1, 9000), fan_out=st.integers(1, 9000))
def test_numbers_arrays_and_dataarrays_give_identical_results(fan_in, fan_out):
    def compute(wrap):
        size = wrap(fan_in), wrap(fan_out)
        on = crossbar.layout(*size, tile=TILE, act_bits=8)
        buffers = {
            "input_buffer": crossbar.input_buffer_size(size[0], on.crossbars, 8),
            "output_buffer": crossbar.output_buffer_size(size[1], on.tiles),
        }
        parts = [
            *latency(*size, merge=3, transfer=2).values(),
            *crossbar.energy(on, tile=TILE, act_bits=8, **buffers).values(),
            *crossbar.area(on, tile=TILE, **buffers).values(),
            *crossbar.programming(*size, bar=TILE.crossbar, program_rows=12).values(),
        ]
        return [float(np.ravel(np.asarray(part))[0]) for part in parts]

    plain = compute(float)
    assert compute(lambda x: np.full((2, 2), float(x))) == plain
    assert compute(lambda x: xr.DataArray(np.full(3, float(x)), dims="point")) == plain


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: with_(adc__bits=0), "Adc.bits is 0; wanted a whole number of at least 1"),
        (lambda: with_(adc__bits=40), "Adc.bits is 40; wanted 1 to 16 bits"),
        (lambda: with_(adc__per_crossbar=0), "Adc.per_crossbar is 0"),
        (lambda: with_(dac__rate_hz=-1.0), "Dac.rate_hz is -1.0"),
        (lambda: with_(polarity=3), "Crossbar.polarity is 3; wanted 1 or 2"),
        (lambda: with_(weight_bits=1), "wanted at least 2 with a differential pair"),
        (lambda: with_(cell__high_ohm=1.0), "Cell.high_ohm is 1.0; wanted at least low_ohm"),
        (lambda: with_(cell__low_share=1.5), "Cell.low_share is 1.5; wanted a share"),
        (lambda: replace(TILE, pes=0), "Tile.pes is 0; wanted a whole number of at least 1"),
        (lambda: replace(PIM, act_bits=17), "Pim.act_bits is 17; wanted 1 to 16 bits"),
        (lambda: replace(PIM, walk="spiral"), "unknown walk of tiles 'spiral'"),
        (lambda: replace(TILE.buffer, read_j=(1.0,)), "Buffer.read_j is .* wanted one value for each size"),
    ],
)
def test_an_impossible_part_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        change()
