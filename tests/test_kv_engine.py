"""Attention in memory: its bound where writing is free, what writing adds, where tokens lie, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.analysis import technologies
from pimllm_lib.cli.main import main
from pimllm_lib.core.conventions import CORRECTED
from pimllm_lib.core.errors import BadInput, UnknownName
from pimllm_lib.core.parts import with_field, with_fields
from pimllm_lib.costs import crossbar
from pimllm_lib.engines.writing import token_cells
from pimllm_lib.hardware import KvPim, Speculation

PIM = pl.catalog.systems["pim-attention"]
KV = PIM.kv_pim
MODEL = pl.catalog.models["llama-3-8b"]
FREE = {f"kv_pim.technology.cell.{name}": 1e-40 for name in ("write_s", "write_j")} | {
    "kv_pim.technology.endurance": np.inf, "kv_pim.technology.retention_s": np.inf, "kv_pim.technology.verify_j": 0.0,
}  # fmt: skip


def cost(system=PIM, model=MODEL, context=4096, conventions="full-system", **more):
    return pl.evaluate(system=system, model=model, context_len=context, conventions=conventions, detail="component",
                       **more).squeeze()  # fmt: skip


def test_where_writing_is_free_and_nothing_wears_only_reading_is_left():
    costly, free = cost(), cost(with_fields(PIM, FREE))
    written = costly.energy_j.sel(component="kv_cells").sum().item()
    assert written > 0
    assert free.energy_j.sel(component="kv_cells").sum() < 1e-30
    assert free.energy_j.sum().item() == pytest.approx(costly.energy_j.sum().item() - written, rel=1e-6)
    assert free.latency_s.sum().item() == pytest.approx(costly.latency_s.sum().item(), rel=1e-12)
    # writing that nothing hides adds its whole time
    before = cost(with_field(PIM, "kv_pim.behind", False))
    waited = before.latency_s.sel(component="kv_cells").sum().item()
    assert before.latency_s.sum().item() == pytest.approx(free.latency_s.sum().item() + waited, rel=1e-9)


def test_a_product_reads_every_crossbar_of_its_head_once_for_each_query():
    ds = cost(conventions="corrected")
    bar = KV.filled.crossbar
    on = crossbar.layout(MODEL.head_dim, 4096, tile=KV.filled, act_bits=8)
    spent = crossbar.computing_times(on, KV.filled)["adc"]
    heads_sharing = bar.rows // MODEL.head_dim
    turns = heads_sharing * MODEL.n_heads / MODEL.n_kv_heads * MODEL.n_layers
    assert ds.busy_s.sel(op="score", component="adc").item() == pytest.approx(spent * turns)
    banks = MODEL.n_kv_heads / heads_sharing * MODEL.n_layers
    assert ds.tiles.sel(op="score").sum().item() == on.tiles * banks


def test_writing_takes_the_cells_of_every_key_and_value():
    ds = cost(conventions="corrected")
    cell = KV.filled.crossbar.cell
    cells = 2 * MODEL.n_kv_heads * MODEL.head_dim * MODEL.n_layers * 14  # seven slices on both crossbars of a pair
    assert token_cells(KV, MODEL) == cells
    joules = ds.energy_j.sel(component="kv_cells").sum().item()
    assert joules == pytest.approx(cells * cell.write_pulses * (cell.write_j + KV.technology.verify_j))


def test_writes_behind_are_waited_for_where_they_are_longer_than_a_step():
    slow = with_field(PIM, "kv_pim.technology.cell.write_s", 1e-3)
    ds = cost(slow)
    line = 256 * KV.technology.cell.write_pulses * (1e-3 + crossbar.read_time(KV.filled.crossbar))
    assert ds.latency_s.sum().item() == pytest.approx(line, rel=1e-9)


def test_nothing_of_the_cache_is_in_off_chip_memory():
    ds = cost()
    assert ds.dram_bytes.sel(component="dram_kv").sum() == 0
    assert ds.kv_bytes.sum() == 0
    assert ds.energy_j.sel(op=["score", "av"], component=["stream", "fill", "sram"]).sum() == 0


def test_heads_that_share_no_crossbar_are_read_sooner_and_take_more_room():
    model = pl.catalog.models["gpt2-355m"]  # four heads of 64 in 256 rows
    apart = cost(with_field(PIM, "kv_pim.most_heads", 1), model)
    shared = cost(model=model)
    ratio = shared.busy_s.sel(op="score", component="adc") / apart.busy_s.sel(op="score", component="adc")
    assert ratio.item() == pytest.approx(4)
    assert apart.tiles.sel(op="score").sum() == 4 * shared.tiles.sel(op="score").sum()


def test_fewer_bits_take_fewer_slices():
    bits = with_field(PIM, "kv_pim.tile.crossbar.weight_bits", pl.axis(kv_bits=[8, 4, 3]))
    ds = cost(bits, conventions="corrected").energy_j.sel(op=["score", "av"], component="adc").sum("op")
    np.testing.assert_allclose(ds / ds.sel(kv_bits=3), [7 / 2, 3 / 2, 1])


def test_a_hot_window_of_all_tokens_is_the_hot_technology_alone():
    hot = replace(KV, name="hot", technology=pl.catalog.parts["sram-cim"])
    mixed = cost(with_fields(PIM, {"kv_pim.hot": hot, "kv_pim.hot_tokens": 4096}))
    alone = cost(with_fields(PIM, {"kv_pim.technology": hot.technology}))
    for name in ("latency_s", "energy_j", "area_m2", "tiles"):
        assert mixed[name].sum().item() == pytest.approx(alone[name].sum().item(), rel=1e-9), name


def test_a_token_that_leaves_the_hot_window_is_written_again():
    hot = replace(KV, name="hot", technology=pl.catalog.parts["sram-cim"])
    mixed = cost(with_fields(PIM, {"kv_pim.hot": hot, "kv_pim.hot_tokens": 1024}), conventions="corrected")
    both = [
        cost(with_field(PIM, "kv_pim.technology", t), conventions="corrected") for t in (KV.technology, hot.technology)
    ]
    joules = [ds.energy_j.sel(component="kv_cells").sum().item() for ds in both]
    assert mixed.energy_j.sel(component="kv_cells").sum().item() == pytest.approx(sum(joules))


def test_keeping_is_leakage_and_writing_again():
    for name, tech in ((n, pl.catalog.parts[n]) for n in ("sram-cim", "edram", "gain-cell")):
        ds = cost(with_field(PIM, "kv_pim.technology", tech))
        cells = 4096 * token_cells(KV, MODEL)
        again = tech.cell.write_j / tech.retention_s
        others = pl.catalog.systems["pim-attention"].dram.standby_w
        watts = ds.static_power_w.sel(component="standby").sum().item() - others
        assert watts == pytest.approx(cells * (tech.leakage_w + again), rel=1e-9), name


def test_crossbars_being_written_again_are_waited_for():
    edram = with_field(PIM, "kv_pim.technology", pl.catalog.parts["edram"])
    kept = cost(with_field(edram, "kv_pim.technology.retention_s", np.inf))
    busy = kept.busy_s.sel(op=["score", "av"]).drop_sel(component=["bus", "issue", "wake"]).sum().item()
    bar = edram.kv_pim.filled.crossbar
    share = 256 * (bar.cell.write_s + crossbar.read_time(bar)) / 4.5e-5
    longer = cost(edram).latency_s.sum().item() - kept.latency_s.sum().item()
    assert longer == pytest.approx(busy * share / (1 - share), rel=0.01)


def test_more_sequences_take_more_crossbars_and_no_more_time_of_attention():
    def of(batch):
        return cost(with_field(PIM, "decoding.batch", batch), conventions="corrected")

    one, four = of(1), of(4)
    assert four.tiles.sel(op="score").sum() == 4 * one.tiles.sel(op="score").sum()
    assert four.latency_s.sel(op="score").sum().item() == pytest.approx(one.latency_s.sel(op="score").sum().item() / 4)


def test_a_batch_of_a_model_with_one_head_has_crossbars_of_its_own():
    one_head = replace(MODEL, name="mqa", n_kv_heads=1)
    one, two = (cost(with_field(PIM, "decoding.batch", b), one_head, conventions="corrected") for b in (1, 2))
    assert two.tiles.sel(op="score").sum() == 2 * one.tiles.sel(op="score").sum()
    assert 2 * two.busy_s.sel(op="score").sum().item() == pytest.approx(one.busy_s.sel(op="score").sum().item())


def test_keys_and_values_go_back_over_the_bus_to_the_crossbars_that_hold_them():
    there, home = cost(), cost(pl.catalog.systems["pim-llm-groups"])
    more = (there.energy_j - home.energy_j).sel(op=["k", "v"], component="bus").sum().item()
    words = 2 * MODEL.n_kv_heads * MODEL.head_dim * MODEL.n_layers
    assert more == pytest.approx(words * PIM.storage.act_bits * PIM.bus.bit_j)


def test_no_slip_of_the_published_accounting_is_given_to_a_machine_that_was_not_published():
    assert not PIM.hybrid
    ds = cost(conventions="as-published")
    alike = replace(
        CORRECTED, name="alike", sample_rate_is_clock=True, fixed_buffer_access=True
    )  # data sheets are read alike
    assert ds.energy_j.sel(op="score").sum().item() == pytest.approx(
        cost(conventions=alike).energy_j.sel(op="score").sum().item()
    )


def test_every_technology_has_a_value_between_its_ends_and_costs_in_that_order():
    assert len(technologies.names()) == 10
    for name in technologies.names():
        system = technologies.fitted(PIM, technologies.spread(name))
        ds = pl.metrics.summary(cost(system))
        for merit in ("tokens_per_s", "tokens_per_j"):
            low, middle, high = ds[merit].sel(estimate=list(technologies.ESTIMATES)).values
            assert low <= middle * (1 + 1e-12), (name, merit)
            assert middle <= high * (1 + 1e-12), (name, merit)
        alone = pl.metrics.summary(cost(technologies.fitted(PIM, pl.catalog.parts[name])))
        assert ds.tokens_per_s.sel(estimate="median").item() == pytest.approx(alone.tokens_per_s.item(), rel=1e-12)


def test_how_many_values_were_published_is_said():
    assert technologies.published("rram", "endurance") == 9
    assert technologies.published("rram", "array_endurance") == 4
    assert technologies.published("oxide-gain-cell", "endurance") == 0
    assert technologies.published("stt-mram", "write_pulses") == 1
    assert not technologies.has_interval("oxide-gain-cell", ("endurance",))
    assert not technologies.has_interval("sot-mram", ("area_m2",))  # its range is assumed
    assert technologies.has_interval("rram", ("write_s",))


def test_a_technology_of_ones_own_has_no_ends_and_an_unknown_one_is_named(tmp_path):
    text = 'part = "Technology"\ncell = "cell-rram"\n'
    (tmp_path / "mine.toml").write_text(
        text + 'endurance = { value = 5, unit = "1", source = "us", status = "assumed" }\n'
    )
    assert technologies.spread(str(tmp_path / "mine.toml")).endurance == 5
    with pytest.raises(UnknownName, match=r"unknown technology 'adc-8bit'.*Known: edram, fefet"):
        technologies.spread("adc-8bit")
    with pytest.raises(BadInput, match="sot-mram has no array_endurance; wanted one, or all published endurances"):
        technologies.spread("sot-mram", "arrays and products")
    arrays, every = (technologies.spread("fefet", p).endurance for p in ("arrays and products", "all published"))
    assert float(arrays) == 1e5
    assert every.values.tolist() == [500, 1e10, 1e12]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_pim.most_slices": 4}, "bits of a key or value is 8; wanted 2 to 5: a sign and 4 cells of 1 bits"),
        ({"kv_pim.tile.crossbar.weight_bits": 1, "kv_pim.tile.crossbar.polarity": 1}, "polarity is 1; wanted 2"),
        ({"kv_pim.hot_tokens": 5}, "KvPim.hot_tokens is 5; wanted 0 without hot crossbars"),
        ({"kv_pim.hot_tokens": 0.5}, "KvPim.hot_tokens is 0.5; wanted whole tokens"),
        ({"kv_pim.most_heads": 1.5}, "KvPim.most_heads is 1.5; wanted whole heads, at least 1"),
        ({"kv_pim.technology.endurance": 0}, "Technology.endurance is 0; wanted cycles above 0"),
        ({"kv": pl.catalog.parts["kv-sram"]}, "has kv and kv_pim; wanted one place"),
        ({"routing": {"projection": "kv_pim", "attention": "kv_pim", "head": "array"}},
         "routing.projection is 'kv_pim'; wanted array or pim: it holds keys and values"),
        ({"routing": {"projection": "pim", "attention": "kv_pim", "av": "array", "head": "array"}},
         "wanted all attention on kv_pim, or none"),
        ({"routing": {"projection": "pim", "attention": "pim", "head": "array"}}, "wanted array or kv_pim"),
    ],
)  # fmt: skip
def test_a_machine_that_cannot_be_is_refused(change, words):
    with pytest.raises(BadInput, match=words):
        with_fields(PIM, change)


@pytest.mark.parametrize(
    ("changes", "model", "words"),
    [
        ({"kv_pim.refreshed": False, "kv_pim.technology": pl.catalog.parts["edram"]}, {},
         r"retention_s of edram is 4.5e-05; wanted at least 13\d s, while a token is attended to, or refreshed on"),
        ({"kv_pim.refreshed": False, "kv_pim.technology.retention_s": 60.0}, {}, "retention_s of rram is 60.0; wanted"),
        ({"decoding.pack_heads": True}, {}, r"heads packed as rows \(pack_heads\)"),
        ({"kv_pim.technology.retention_s": 1e-5}, {}, "the share of time in which rram is written again is"),
        ({"decoding.splits": 2}, {}, r"a context cut into parts \(splits\); wanted it off"),
        ({"decoding.speculation": Speculation(name="s", draft_len=2, acceptance=0.5, draft_layers=1)}, {}, "speculation"),
        ({}, {"latent_dim": 64}, "latent attention"),
        ({}, {"top_tokens": 64}, "a choice of tokens"),
    ],
)  # fmt: skip
def test_what_is_not_modelled_in_memory_is_refused(changes, model, words):
    with pytest.raises(BadInput, match=words):
        cost(with_fields(PIM, changes), with_fields(MODEL, model))


def test_a_bad_technology_in_a_file_is_one_line_on_the_command_line(tmp_path, capsys):
    def said(**values):
        return "".join(
            f'{k} = {{ value = {v}, unit = "1", source = "us", status = "assumed" }}\n' for k, v in values.items()
        )

    (tmp_path / "mine.toml").write_text('part = "Technology"\ncell = "cell-rram"\n' + said(endurance=0))
    (tmp_path / "kv.toml").write_text(
        'part = "KvPim"\ntile = "tile-kv"\ntechnology = "./mine.toml"\npost_processing = "post-processing"\n'
        'input_distributor = "input-distributor"\n' + said(act_bits=8, softmax_bits=8)
        + said(network_bps=20).replace('"1"', '"Gbit/s"')
    )  # fmt: skip
    (tmp_path / "s.toml").write_text(
        'array = "edge-32x32"\npim = "pim-published"\nkv_pim = "./kv.toml"\n'
        'routing = { projection = "pim", attention = "kv_pim", head = "array" }\n'
    )
    assert main(["evaluate", "--system", str(tmp_path / "s.toml"), "--model", "opt-125m"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine.toml: Technology.endurance is 0; wanted cycles above 0; inf for no limit" in line


def test_the_parts_of_attention_in_memory_are_what_the_machine_is_made_of():
    assert isinstance(KV, KvPim)
    assert KV.filled.crossbar.cell.name == KV.technology.cell.name == "cell-rram"
