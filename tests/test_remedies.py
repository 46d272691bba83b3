"""Remedies for long contexts: nothing changes while they are off, each costs something, what cannot be is refused."""

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.analysis import remedies
from pimllm_lib.core.errors import BadInput, UnknownName
from pimllm_lib.core.parts import with_fields
from pimllm_lib.engines.surroundings import digital_area, staging_entries
from pimllm_lib.workload.step import Step

MACHINES = [pl.catalog.systems["pim-llm"], pl.catalog.systems["tpu-llm"]]
MODELS = [pl.catalog.models["opt-125m"], pl.catalog.models["llama-3-8b"]]
ONES, NONE, ALL = (
    (1.0, np.float64(1), np.int64(1)),
    (0, 0.0, np.float64(0), np.int64(0)),
    (float("inf"), np.float64("inf")),
)
#: Field -> its off value in number types that take the general code, a value that is on, and what it needs beside it.
OFF = {
    "array.arrays": (ONES, 4, {}),
    "array.row_groups": (ONES, 8, {}),
    "array.overlap": (NONE, 1, {}),
    "sram.port_bits": (ALL, 512.0, {}),
    "storage.kv_group": (ALL, 32.0, {"storage.kv_scale_bits": 32, "storage.kv_convert_j": 1e-13}),
    "storage.kv_scale_bits": (NONE, None, {}),
    "decoding.batch": (ONES, 8, {}),
    "decoding.pack_heads": (NONE, 1, {}),
    "decoding.splits": (ONES, 4, {}),
    "decoding.pipelined": (NONE, 1, {"decoding.batch": 2}),
    "window": (ALL, 1020.0, {}),
    "sinks": (NONE, 4, {"window": 1020}),
    "top_tokens": (ALL, 256.0, {}),
    "latent_dim": (NONE, 512, {}),
    "rope_dim": (NONE, 64, {"latent_dim": 512}),
}
#: What a remedy may cost.
COSTS = ("energy_j", "busy_s", "area_m2", "kv_bytes")


_PLAIN = {}


def _plain(beside, phase):
    """Return what there is without a remedy, the same for most of them."""
    key = (repr(beside), phase)
    return _PLAIN[key] if key in _PLAIN else _PLAIN.setdefault(key, _all(beside, phase))


def _all(changes, phase):
    mine = {True: {}, False: {}}
    for path, value in changes.items():
        mine["." in path][path] = value
    machines, models = [with_fields(s, mine[True]) for s in MACHINES], [with_fields(m, mine[False]) for m in MODELS]
    return pl.evaluate(system=machines, model=models, context_len=[100, 4096], conventions="full-system",
                       detail="component", phase=phase)  # fmt: skip


@pytest.mark.parametrize("phase", ["decode", pytest.param("prefill", marks=pytest.mark.slow)])
@pytest.mark.parametrize("field", OFF)
def test_a_remedy_that_is_off_changes_no_bit_whatever_type_its_number_has(field, phase):
    values, _, beside = OFF[field]
    plain = _plain(beside, phase)
    for value in values:
        general = _all(beside | {field: value}, phase)
        differing = [name for name in plain.data_vars if not np.array_equal(plain[name], general[name])]
        assert differing == [], f"{field} = {value!r}"


@pytest.mark.parametrize("phase", ["decode", pytest.param("prefill", marks=pytest.mark.slow)])
@pytest.mark.parametrize("field", [field for field, (_, on, _) in OFF.items() if on is not None])
def test_a_remedy_that_is_off_on_an_axis_changes_nothing(field, phase):
    (off, *_), on, beside = OFF[field]
    plain, swept = _plain(beside, phase), _all(beside | {field: pl.axis(swept=[off, on])}, phase)
    for name in plain.data_vars:
        found = swept[name].isel(swept=0) if "swept" in swept[name].dims else swept[name]
        np.testing.assert_allclose(found.values, plain[name].values, rtol=1e-13, atol=0, err_msg=f"{name}, {field}")


@pytest.mark.parametrize("phase", ["decode", pytest.param("prefill", marks=pytest.mark.slow)])
@pytest.mark.parametrize("field", [field for field, (_, on, _) in OFF.items() if on is not None])
def test_a_remedy_that_is_on_on_an_axis_does_what_it_does_alone(field, phase):
    # pair by pair, since broadcasting hides a rule that looks at the whole axis at once
    (off, *_), on, beside = OFF[field]
    alone, swept = _all(beside | {field: on}, phase), _all(beside | {field: pl.axis(swept=[off, on])}, phase)
    for name in alone.data_vars:
        found = swept[name].isel(swept=1) if "swept" in swept[name].dims else swept[name]
        np.testing.assert_allclose(found.values, alone[name].values, rtol=1e-13, atol=0, err_msg=f"{name}, {field}")


def _costs(system, model):
    if system.kv is not None:
        system = with_fields(system, {"kv.capacity_bytes": 2.0**32})
    return pl.evaluate(system=system, model=model, context_len=4096, conventions="full-system", detail="component",
                       variables=COSTS)  # fmt: skip


def _staged_j(system, model):
    """Return what gathering takes, which what packing saves in reads outweighs in the sum of both."""
    counting = pl.catalog.preset("full-system")
    step = Step(array=model, pim=model, context=4096, tokens=1, counting=counting, way=system.decoding)
    return sum(value for *_, value in staging_entries(system, step))


@pytest.mark.parametrize("name", remedies.REMEDIES)
def test_every_remedy_costs_something(name):
    home = remedies.provisioned(MACHINES[0])
    grown = []
    for model in (pl.catalog.models["opt-6.7b"], pl.catalog.models["llama-3-8b"]):
        machine, changed = remedies.put(MACHINES[0], model, [name])
        before, after = _costs(home, model), _costs(machine, changed)
        grown += [cost for cost in COSTS if np.any(after[cost].values > before[cost].values * (1 + 1e-12))]
        grown += ["port_bits"] if machine.sram.port_bits > home.sram.port_bits else []
        grown += ["staging"] if _staged_j(machine, changed) > _staged_j(home, model) else []
    assert grown


def test_what_is_exact_does_the_same_multiplications_over_the_same_cache():
    for name, remedy in remedies.REMEDIES.items():
        if remedy.exact and remedy.slot not in ("draft", "batch", "turns", "store"):
            machine, model = remedies.put(MACHINES[0], MODELS[1], [name])
            both = [MACHINES[0], with_fields(machine, {"name": "other"})]
            ds = pl.evaluate(system=both, model=model, context_len=4096, conventions="full-system")
            assert ds.macs.values[0] == ds.macs.values[1], name
            assert ds.kv_bytes.values[0] == ds.kv_bytes.values[1], name


def test_remedies_are_put_on_together_with_the_ports_that_they_ask_for():
    machine, model = remedies.put(MACHINES[0], MODELS[1], ["row groups", "packed heads", "window of 1024"])
    assert (machine.array.row_groups, machine.decoding.pack_heads, model.window, model.sinks) == (32, True, 1020, 4)
    # 32 groups of 32 columns and 32 rows, 8 bits each
    assert machine.sram.port_bits == remedies.port_bits(machine) == (32 * 32 + 32) * 8


@pytest.mark.parametrize("name", remedies.REMEDIES)
def test_ports_are_as_wide_as_the_arrays_ask_for_whatever_is_put_on(name):
    machine, _ = remedies.put(MACHINES[0], MODELS[1], [name])
    assert machine.sram.port_bits == remedies.port_bits(machine)


def test_no_remedy_leaves_the_machine_as_it_was_but_for_its_ports():
    machine, model = remedies.put(MACHINES[0], MODELS[0], [])
    assert model is MODELS[0]
    assert machine.sram.port_bits == (32 + 32) * 8


def test_what_is_free_beside_some_remedies_can_be_put_on_with_them():
    taken = ["row groups", "packed heads"]
    left = remedies.free(taken)
    assert set(left).isdisjoint(taken)
    assert "one row of 1024" not in left
    for name in left:
        remedies.put(MACHINES[0], MODELS[1], [*taken, name])


def test_groups_shadows_and_ports_take_area():
    array, sram = MACHINES[0].array, MACHINES[0].sram
    changes = {"array.row_groups": 8, "array.overlap": True, "array.arrays": 3, "sram.port_bits": 4096}
    found = sum(value for *_, value in digital_area(with_fields(MACHINES[0], changes)))
    plain = sum(value for *_, value in digital_area(MACHINES[0]))
    each = array.pe_area_m2 + array.group_area_m2 + array.shadow_area_m2
    more = 1024 * (3 * each - array.pe_area_m2) + 4096 * sram.port_bit_area_m2
    assert found - plain == pytest.approx(more, rel=1e-9)


def test_an_unknown_remedy_is_answered_with_the_nearest_one():
    with pytest.raises(UnknownName, match="unknown remedy 'row group', did you mean 'row groups'"):
        remedies.put(MACHINES[0], MODELS[0], ["row group"])


@pytest.mark.parametrize("pair", [("row groups", "one row of 1024"), ("grouped heads", "latent attention"),
                                  ("cache in SRAM", "cache in eDRAM"), ("speculation", "speculation")])  # fmt: skip
def test_two_remedies_of_one_slot_cannot_both_be_had(pair):
    with pytest.raises(BadInput, match=f"'{pair[1]}' and '{pair[0]}' cannot both be had"):
        remedies.put(MACHINES[0], MODELS[0], pair)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"array.row_groups": 5}, r"SystolicArray.row_groups is 5; wanted a divisor of the 32 rows"),
        ({"array.row_groups": 0}, r"SystolicArray.row_groups is 0; wanted a whole number of at least 1"),
        ({"array.arrays": 1.5}, r"SystolicArray.arrays is 1.5; wanted a whole number"),
        ({"array.overlap": 2}, r"SystolicArray.overlap is 2; wanted true or false"),
        ({"array.row_groups": 8, "array.group_area_m2": 0.0}, r"group_area_m2 is 0.0; wanted .* row_groups is above 1"),
        ({"array.row_groups": 8, "array.group_pe_energy_j": 0.0}, r"group_pe_energy_j is 0.0; wanted .* row_groups"),
        ({"array.overlap": True, "array.shadow_area_m2": 0.0}, r"shadow_area_m2 is 0.0; wanted .* overlap is on"),
        ({"array.overlap": True, "array.shadow_j": 0.0}, r"shadow_j is 0.0; wanted .* overlap is on"),
        ({"sram.port_bits": 512, "sram.port_bit_area_m2": 0.0}, r"port_bit_area_m2 is 0.0; .* port_bits is stated"),
        ({"sram.port_bits": 0}, r"Sram.port_bits is 0; wanted a number above 0; inf for no limit"),
        ({"sram.port_bits": np.nan}, r"Sram.port_bits is nan; wanted a number above 0"),
        ({"storage.kv_group": 32, "storage.kv_convert_j": 1e-13}, r"kv_scale_bits is 0; wanted .* kv_group is stated"),
        ({"storage.kv_group": 32, "storage.kv_scale_bits": 32}, r"kv_convert_j is 0.0; wanted .* kv_group is stated"),
        ({"storage.kv_group": 0.5}, r"Storage.kv_group is 0.5; wanted at least 1; inf for no scales"),
        ({"decoding.batch": 0}, r"Decoding.batch is 0; wanted a whole number of at least 1"),
        ({"decoding.splits": 0}, r"Decoding.splits is 0; wanted a whole number of at least 1"),
        ({"decoding.splits": pl.axis(cut=[1, 2.5])}, r"Decoding.splits is .*2.5.*; wanted a whole number"),
        ({"decoding.pack_heads": "yes"}, r"Decoding.pack_heads is 'yes'; wanted true or false"),
        ({"decoding.speculation": 4}, r"Decoding.speculation is 4; wanted a Speculation"),
        ({"n_kv_heads": 3}, r"n_kv_heads of llama-3-8b is 3; wanted a divisor of the 32 heads"),
        ({"window": 0}, r"window of llama-3-8b is 0; wanted whole tokens, at least 1; inf for all"),
        ({"top_tokens": 0.5}, r"top_tokens of llama-3-8b is 0.5; wanted whole tokens, at least 1"),
        ({"top_tokens": "few"}, r"top_tokens of llama-3-8b is 'few'; wanted whole tokens"),
        ({"sinks": -1}, r"Decoder.sinks is -1; wanted a finite number of at least 0"),
        ({"page": 0}, r"Decoder.page is 0; wanted a whole number of at least 1"),
        ({"rope_dim": 64}, r"rope_dim of llama-3-8b is 64; wanted 0 without a latent_dim"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(changes, words):
    item = MACHINES[0] if any("." in path for path in changes) else MODELS[1]
    with pytest.raises(BadInput, match=words) as refused:
        with_fields(item, changes)
    assert "\n" not in str(refused.value)
