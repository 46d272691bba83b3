"""What `pimllm explain` says of how a number comes about: each formula as text gives what the function gives."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.core.parts import with_fields
from pimllm_lib.core.schema import COMPONENTS
from pimllm_lib.costs import crossbar, memory, systolic, wear
from pimllm_lib.engines import surroundings
from pimllm_lib.report.explain import MERITS
from pimllm_lib.system.standing import Spent
from pimllm_lib.workload.products import products

PIM = pl.catalog.systems["pim-llm"]


def value_of(text, names):
    """Return what a formula comes to: names in it, of several words or with dots, stand for values; x multiplies."""
    values = {}
    for i, name in enumerate(sorted(names, key=len, reverse=True)):
        assert name in text, name
        text, values[f"_{i}"] = text.replace(name, f"_{i}"), names[name]
    known = {"max": np.maximum, "ceil": np.ceil, "__builtins__": {}}
    return eval(text.replace(" x ", " * "), known, values)


def some(rng, low, high, *more):
    """Return random whole numbers, at least one."""
    found = [int(rng.integers(low, high)) for _ in (low, *more)]
    return found if more else found[0]


class Tiles:
    """A random matrix on random tiles, with what its functions say. grouped: its inputs have scales in groups."""

    def __init__(self, rng, grouped=False):
        rate = {f"{name}.rate_hz": rng.uniform(1e8, 1e9) for name in ("crossbar.adc", "crossbar.dac", "periphery")}
        size = {"crossbar.rows": some(rng, 16, 300), "crossbar.cols": some(rng, 16, 300), "pes": some(rng, 1, 9)}
        bits = {"crossbar.adc.periods": rng.uniform(1, 12), "crossbar.dac.periods": rng.uniform(1, 5)}
        bits |= {"crossbar.adc.bits": some(rng, 3, 10), "crossbar.dac.bits": some(rng, 1, 4)}
        self.tile = with_fields(PIM.pim.tile, rate | size | bits)
        self.fan_in, self.fan_out, self.act_bits = some(rng, 10, 3000), some(rng, 10, 3000), some(rng, 2, 12)
        size = {"group": some(rng, 1, 600)} if grouped else {}
        self.fan_in *= size.get("group", 1)
        self.on = crossbar.layout(self.fan_in, self.fan_out, tile=self.tile, act_bits=self.act_bits, **size)
        self.way = {
            "network_bps": rng.uniform(1e9, 1e11),
            "merge_hops": some(rng, 1, 9),
            "transfer_hops": some(rng, 1, 9),
        }
        self.sizes = {"input_buffer": 2.0 ** some(rng, 8, 18), "output_buffer": 2.0 ** some(rng, 8, 18)}
        how = {"tile": self.tile, "act_bits": self.act_bits}
        self.time = crossbar.latency(self.on, **how, **self.way, fan_out=self.fan_out, reread_output=False)
        self.joules = crossbar.energy(self.on, **how, **self.sizes)
        self.words = crossbar.buffer_times(self.on, **how)
        self.bar, self.buffer = self.tile.crossbar, self.tile.buffer
        self.pes = self.on.tiles * self.on.pes

    def held(self, column):
        """Return a column of the table of buffers for all of a tile's."""
        one, other = (crossbar.sized(size, self.buffer, column) for size in self.sizes.values())
        return self.on.pes * one + other


def converter_time(name):
    def case(rng):
        tiles = Tiles(rng)
        part = getattr(tiles.bar, name)
        names = {"turns": tiles.on.turns, f"{name}.periods": part.periods, f"{name}.rate_hz": part.rate_hz}
        return names, tiles.time[name]

    return case


def converter_joules(name):
    def case(rng):
        tiles = Tiles(rng)
        used = dict(zip(("dac", "adc"), crossbar.used_converters(tiles.on, tiles.bar), strict=True))[name]
        used = used * (crossbar.slices(tiles.bar) if name == "adc" else 1) * tiles.pes
        part = getattr(tiles.bar, name)
        return {
            f"{name.upper()}s": used,
            f"{name}.power_w": part.power_w,
            "their time": tiles.time[name],
        }, tiles.joules[name]

    return case


def read_time(rng):
    tiles = Tiles(rng)
    kib = tiles.bar.rows * tiles.bar.cols / 8192
    delay = sum(c * kib**i for i, c in enumerate(tiles.bar.delay_s))
    names = {"turns": tiles.on.turns, "cell.read_s": tiles.bar.cell.read_s, "delay of the crossbar's size": delay}
    return names, tiles.time["crossbar"]


def read_joules(rng):
    tiles = Tiles(rng)
    cells = crossbar.read_cells(tiles.on, tiles.bar) * tiles.pes
    power = crossbar.cell_power(tiles.bar)
    names = {"cells": cells, "mean power of a cell": power, "time of the reads": tiles.time["crossbar"]}
    return names, tiles.joules["crossbar"]


def rescaling(column):
    def case(rng):
        tiles = Tiles(rng, grouped=True)
        per, periods, bits = some(rng, 1, 99), rng.uniform(1, 9), some(rng, 2, 12)
        unit = {"per_crossbar": per, "periods": periods, "bits": bits, "scale_bits": some(rng, 2, 16)}
        tiles.tile = with_fields(tiles.tile, {f"rescaler.{name}": value for name, value in unit.items()})
        on, unit = tiles.on, tiles.tile.rescaler
        if column == "time":
            names = {"groups": on.groups, "columns": on.cols, "rescaler.per_crossbar": unit.per_crossbar,
                     "rescaler.periods": unit.periods, "rate_hz": tiles.tile.periphery.rate_hz}  # fmt: skip
            return names, crossbar.computing_times(on, tiles.tile)["rescale"]
        names = {"sums": on.scaled, "rescaler.multiply_add_j": unit.multiply_add_j, "bits of a sum": on.group_bits,
                 "rescaler.scale_bits": unit.scale_bits, "rescaler.bits": unit.bits}  # fmt: skip
        return names, crossbar.energy(on, tile=tiles.tile, act_bits=tiles.act_bits, **tiles.sizes)["rescale"]

    return case


def buffer_time(rng):
    tiles = Tiles(rng)
    words = np.ceil(tiles.on.rows * tiles.act_bits / tiles.buffer.word_bits) * 2
    for bits in (tiles.act_bits, tiles.on.sum_bits):
        words = words + np.ceil(tiles.on.cols * tiles.on.pes * bits / tiles.buffer.word_bits)
    return {"words in and out": words, "time of a word": crossbar.word_time(tiles.tile)}, tiles.time["buffer"]


def buffer_joules(rng):
    tiles = Tiles(rng)
    names = {
        "tiles": tiles.on.tiles, "time of reading": tiles.words["input"] + tiles.words["output_read"],
        "time of writing": tiles.words["input"] + tiles.words["output_write"],
        "time of a word": crossbar.word_time(tiles.tile),
        "read energy": tiles.held(tiles.buffer.read_j), "write energy": tiles.held(tiles.buffer.write_j),
        "leakage": tiles.held(tiles.buffer.leakage_w),
    }  # fmt: skip
    return names, tiles.joules["buffer"]


def merge_time(rng):
    tiles = Tiles(rng)
    names = {
        "hops": tiles.way["merge_hops"], "rate_hz": tiles.tile.periphery.rate_hz, "network_bps": tiles.way["network_bps"],
        "bits of a tile's result": tiles.on.cols * tiles.on.pes * tiles.act_bits,
    }  # fmt: skip
    return names, tiles.time["merge"]


def transfer_time(rng):
    tiles = Tiles(rng)
    names = {"hops": tiles.way["transfer_hops"], "bits of the result": tiles.fan_out * tiles.act_bits}
    return names | {"network_bps": tiles.way["network_bps"]}, tiles.time["transfer"]


def array_time(phase):
    def case(rng):
        m, k, n, rows, cols = some(rng, 2, 99, 2, 3, 4, 5)
        flow, rate = rng.choice(["os", "ws", "is"]), rng.uniform(1e8, 1e9)
        down, across, streamed = {"os": (m, n, k), "ws": (k, n, m), "is": (k, m, n)}[flow]
        on = systolic.mapping(m, k, n, rows=rows, cols=cols, dataflow=str(flow))
        spent = systolic.work_cycles(on, 1, rows=rows, dataflow=str(flow))[phase]
        names = {"folds": -(-down // rows) * -(-across // cols), "rate_hz": rate}
        if phase == "stream":
            return names | {"streamed size": streamed}, spent / rate
        return names | {"cycles to fill and drain": (1 if flow == "os" else 2) * rows + cols - 2}, spent / rate

    return case


def array_joules(phase):
    def case(rng):
        cycles, mapped, pes, idle, active, whole = rng.uniform(1, 2, 6)
        reported = some(rng, 0, 2)
        each = {"idle_pe_energy_j": idle, "active_pe_energy_j": active, "measured_cycle_energy_j": whole}
        names = each | {"cycles": cycles, "cycles of mapped PEs": mapped, "PEs": pes, "reported": reported}
        return names, systolic.energy({phase: cycles}, {phase: mapped}, pes=pes, measured=reported, **each)[phase]

    return case


def said(entries, variable):
    """Return the one value of a variable that is among entries."""
    (found,) = (entry.value for entry in entries if getattr(entry, "variable", "") == variable)
    return found


def sram_joules(rng):
    bits, machine = rng.uniform(1, 9), with_fields(PIM, {"sram.bit_j": rng.uniform(1, 9)})
    names = {"bits moved": bits, "sram.bit_j": machine.sram.bit_j}
    return names, said(surroundings._on_chip(machine, "q", bits), "energy_j")


def dram_joules(component):
    def case(rng):
        size, machine = rng.uniform(1, 9), with_fields(PIM, {"dram.bit_j": rng.uniform(1, 9)})
        names = {"bytes": size, "dram.bit_j": machine.dram.bit_j}
        return names, said(surroundings._moved(machine, "q", component, size), "energy_j")

    return case


def stall_time(rng):
    size, computing, machine = *rng.uniform(1, 9, 2), with_fields(PIM, {"dram.bandwidth_bps": rng.uniform(1, 30)})
    moved = said(surroundings._moved(machine, "q", "dram_kv", size), "busy_s")
    names = {"bytes": size, "dram.bandwidth_bps": machine.dram.bandwidth_bps, "computing": computing}
    return names, memory.stall(moved, computing)


def write_time(rng):
    cells, parallel, pulses, erased = some(rng, 1, 99, 1, 2, 3)
    pulse, verify, erase = rng.uniform(1, 9, 3)
    names = {
        "cells of a line": cells, "written at once": parallel, "cell.write_pulses": pulses, "cell.write_s": pulse,
        "a read": verify, "erase_s": erase, "tokens erased together": erased,
    }  # fmt: skip
    how = {"pulses": pulses, "pulse_s": pulse, "verify_s": verify, "erase_s": erase, "erased": erased}
    return names, wear.write_time(cells, parallel, **how)


def write_joules(rng):
    cells, pulses, beside = some(rng, 1, 99, 1, 2)
    pulse, verify, erase, half = rng.uniform(1, 9, 4)
    names = {"cells": cells, "cell.write_pulses": pulses, "cell.write_j": pulse, "verify_j": verify, "erase_j": erase,
             "cells beside": beside, "half_select_j": half}  # fmt: skip
    how = {"pulses": pulses, "pulse_j": pulse, "verify_j": verify, "erase_j": erase, "half_select_j": half}
    return names, wear.write_energy(cells, beside=beside, **how)


def bus(component, column):
    def case(rng):
        changes = {"bus.rate_bps": rng.uniform(1, 9), "bus.bit_j": rng.uniform(1, 9), "bus.issue_s": rng.uniform(1, 9)}
        machine, (m, k, n, count, blocks) = with_fields(PIM, changes), some(rng, 1, 99, 1, 2, 3, 4)
        (product,) = (p for p in products(pl.catalog.models["opt-1.3b"], 1) if p.op == "x")
        product = replace(product, m=m, k=k, n=n, count=count, blocks=blocks)
        entries = [e for e in surroundings.bus_entries(machine, [product]) if e.component == component]
        if component == "issue":
            return {"products started": count * blocks, "bus.issue_s": machine.bus.issue_s}, said(entries, "busy_s")
        bits = {"bits": m * (k + n) * count * blocks * machine.storage.act_bits}
        if column == "time":
            return bits | {"bus.rate_bps": machine.bus.rate_bps}, said(entries, "busy_s")
        return bits | {"bus.bit_j": machine.bus.bit_j}, said(entries, "energy_j")

    return case


def standing(component):
    """What a converter draws while it waits for its turn, sleeps and wakes."""

    def case(rng):
        watts, gated, work, rest, even = rng.uniform(0, 1, 5)
        awake, woken, token = work + rest, some(rng, 1, 9), rng.uniform(2, 9)
        machine = with_fields(PIM, {"pim.gated_share": gated, "pim.break_even_s": even})
        turn = (watts * work, watts * awake, watts * woken)
        step = SimpleNamespace(counting=pl.catalog.preset("full-system"), pim=SimpleNamespace(n_layers=some(rng, 1, 9)))
        entries = list(Spent(machine, step, token, 0.0).by("q", "adc", watts, turn))
        spent = {name: all_token_w * token + joules for name, all_token_w, joules in entries}
        names = {"gated_share": gated, "static power": watts, "time of the token": token, "time awake": awake,
                 "time at work": work, "times woken": woken, "break_even_s": even}  # fmt: skip
        names = {name: value for name, value in names.items() if name in COMPONENTS[component].joules}
        return names, spent[component]

    return case


def waking_time(rng):
    wake, tiles = rng.uniform(1e-8, 1e-6), PIM.pim
    machine = with_fields(PIM, {"pim.wake_s": wake})
    ds = pl.evaluate(system=machine, model="gpt2-355m", context_len=128, conventions="full-system", detail="component")
    assert tiles.woken == "product"
    return {"tiles one after another": 4 * 24, "wake_s": wake}, ds.latency_s.sel(component="wake").sum().item()


#: (component, column of its row) -> what gives random values of the names in the formula, and what the function says.
CASES = {
    ("dac", "time"): converter_time("dac"), ("adc", "time"): converter_time("adc"),
    ("dac", "joules"): converter_joules("dac"), ("adc", "joules"): converter_joules("adc"),
    ("crossbar", "time"): read_time, ("crossbar", "joules"): read_joules,
    ("rescale", "time"): rescaling("time"), ("rescale", "joules"): rescaling("joules"),
    ("buffer", "time"): buffer_time, ("buffer", "joules"): buffer_joules,
    ("merge", "time"): merge_time, ("transfer", "time"): transfer_time,
    ("stream", "time"): array_time("stream"), ("fill", "time"): array_time("fill"),
    ("stream", "joules"): array_joules("stream"), ("fill", "joules"): array_joules("fill"),
    ("sram", "joules"): sram_joules, ("dram_weights", "joules"): dram_joules("dram_weights"),
    ("dram_kv", "joules"): dram_joules("dram_kv"), ("stall", "time"): stall_time,
    ("kv_cells", "time"): write_time, ("kv_cells", "joules"): write_joules,
    ("bus", "time"): bus("bus", "time"), ("bus", "joules"): bus("bus", "joules"), ("issue", "time"): bus("issue", "time"),
    **{(name, "joules"): standing(name) for name in ("leakage", "asleep", "wake")}, ("wake", "time"): waking_time,
}  # fmt: skip


def test_every_formula_of_a_component_is_tried():
    said = {(name, column) for name, row in COMPONENTS.items() for column in ("time", "joules") if getattr(row, column)}
    assert said == CASES.keys()


@pytest.mark.parametrize(("component", "column"), CASES)
def test_a_formula_as_text_gives_what_the_function_gives(component, column):
    rng = np.random.default_rng(1)
    for _ in range(20):
        names, wanted = CASES[component, column](rng)
        assert value_of(getattr(COMPONENTS[component], column), names) == pytest.approx(wanted, rel=1e-12, abs=0)


@pytest.mark.parametrize("merit", MERITS)
def test_the_formula_of_a_figure_of_merit_gives_its_value(merit):
    ds = pl.evaluate(system="pim-llm", model=["opt-1.3b", "llama-3-8b"], context_len=[1, 4096])
    formula, _ = MERITS[merit]
    values = {name: ds[name] for name in ds.data_vars if name in formula.replace("(", " ").replace(")", " ").split()}
    found = value_of(formula, values).transpose(*ds.latency_s.dims)
    np.testing.assert_allclose(found, pl.metrics.summary(ds)[merit], rtol=1e-12)
