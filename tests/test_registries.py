"""Nothing is lost on the way to a number: a field or a component that nobody listed is in it, or is an error."""

import functools
import itertools
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

import pimllm_lib as pl
from pimllm_lib.core.axes import Frame
from pimllm_lib.core.conventions import CORRECTED, FULL_SYSTEM, SLIPS
from pimllm_lib.core.parts import Value, part, with_field, with_fields
from pimllm_lib.core.schema import COMPONENTS, OPS, SUBSYSTEMS, Component
from pimllm_lib.engines import BY_NAME, array
from pimllm_lib.engines.entries import Engine, Entry
from pimllm_lib.system import arguments, ledger
from pimllm_lib.system.ledger import Ledger
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.products import stored_bytes
from pimllm_lib.workload.shapes import parameter_count

OPT = pl.catalog.models["opt-1.3b"]
BITNET = pl.catalog.models["bitnet-2b4t"]


@pytest.mark.parametrize(
    ("variable", "op", "component"),
    [("energy_j", "q", "photons"), ("energy_j", "convolution", "adc"), ("worry_j", "q", "adc")],
)
@pytest.mark.parametrize("detail", ["total", "op", "part", "component"])
def test_what_the_schema_does_not_have_raises_at_any_detail(variable, op, component, detail):
    book = Ledger(Frame({}), detail, {"energy_j"})
    with pytest.raises(ValueError, match=r"unknown (variable|op|component) '(worry_j|convolution|photons)'"):
        book.add(variable, op, component, 1.0)


def test_a_component_that_an_engine_makes_up_raises_and_one_that_the_schema_has_adds_up(monkeypatch):
    def with_one_more(component):
        def entries(*args):
            yield from array.entries(*args)
            yield Entry("score", component, "energy_j", 1.0)

        monkeypatch.setitem(BY_NAME, "array", Engine(entries))
        return pl.evaluate(system="tpu-llm", model=OPT, context_len=1, detail="component")

    plain = pl.evaluate(system="tpu-llm", model=OPT, context_len=1)
    with pytest.raises(ValueError, match="unknown component 'photons'"):
        with_one_more("photons")
    monkeypatch.setitem(COMPONENTS, "photons", Component("light"))
    monkeypatch.setitem(ledger._COMPONENT, "photons", len(COMPONENTS) - 1)
    found = with_one_more("photons")
    assert found.energy_j.sel(component="photons").sum() == 1.0
    more = found.energy_j.sum(["op", "component"]) - plain.energy_j
    np.testing.assert_allclose(more, 1.0, rtol=1e-9)


def test_every_component_and_op_of_the_schema_has_a_place_of_its_own():
    book = Ledger(Frame.over([], op=list(OPS), component=list(COMPONENTS)), "component", {"energy_j"})
    for i, op in enumerate(OPS):
        for j, component in enumerate(COMPONENTS):
            book.add("energy_j", op, component, 1.0 + i * len(COMPONENTS) + j)
    table = book.table("energy_j").squeeze()
    assert table.ravel().tolist() == list(range(1, 1 + len(OPS) * len(COMPONENTS)))


def test_every_subsystem_takes_its_components_once():
    named = [component for components in SUBSYSTEMS.values() for component in components]
    assert len(named) == len(set(named))
    assert set(COMPONENTS) - set(named) == {"stall", "rounding"}  # waiting, and rounding, take no energy


@part
class Wider(Decoder):
    """A decoder with a field that no list has."""

    registers: Value = 0


def test_a_field_that_nobody_listed_travels_with_every_model():
    sizes = {f.name: getattr(OPT, f.name) for f in fields(OPT)} | {"name": "one"}
    models = [Wider(**sizes, registers=1), Wider(**sizes | {"name": "two"}, registers=4)]
    frame = Frame.over(models, model=["one", "two"])
    for decoder in arguments.shapes(frame, models, CORRECTED).values():
        assert decoder.registers.ravel().tolist() == [1, 4]


EVERYTHING = replace(FULL_SYSTEM, name="everything", **dict.fromkeys(SLIPS, True))


def numbers(system, models, counting=(EVERYTHING, FULL_SYSTEM), **more):
    """Return everything an evaluation says, of a long context, as one array a variable."""
    ds = pl.evaluate(
        system=system, model=models, context_len=4096, conventions=list(counting), detail="component", **more
    )
    return [np.nan_to_num(ds[name].values) for name in ds.data_vars]


def differ(one, other):
    return any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


MIXED = {"mixer": "both", "mix_in": 1024, "mix_out": 256, "state_heads": 8, "state_dim": 64, "state_width": 64}
#: A field of Decoder -> other values for it and what goes with it. The others are doubled, or turned.
OTHER = {
    "n_kv_heads": {"n_kv_heads": 16}, "experts_per_token": {"n_experts": 4, "experts_per_token": 2},
    "window": {"window": 64}, "sinks": {"window": 64, "sinks": 4}, "top_tokens": {"top_tokens": 64},
    "page": {"top_tokens": 64, "page": 32}, "latent_dim": {"latent_dim": 512},
    "rope_dim": {"latent_dim": 512, "rope_dim": 64}, "embedding_dim": {"embedding_dim": 512},
    "linear_bias": {"linear_bias": "none"}, "norm": {"norm": "rmsnorm"}, "n_experts": {"n_experts": 4},
    "position_rows": {"position_rows": 7}, "value_dim": {"value_dim": 96}, "q_rank": {"q_rank": 512},
    "chunk": {"chunk": 1000}, "index_heads": {"top_tokens": 64, "index_heads": 8, "index_dim": 64},
    "index_dim": {"top_tokens": 64, "index_heads": 8, "index_dim": 128}, "shared_ff": {"shared_ff": 512},
    "mixer": {"mixer": "none"}, "mix_in": MIXED | {"mix_in": 2048}, "mix_out": MIXED | {"mix_out": 512},
    "state_heads": MIXED | {"state_heads": 16}, "state_dim": MIXED | {"state_dim": 128},
    "state_width": MIXED | {"state_width": 128}, "state_extra": MIXED | {"state_extra": 4096},
    "side": {"side": ((64, 64),)},
    "extra_weights": {"extra_weights": 7}, "extra_once": {"extra_once": 7},
    "once": {"once": ((64, 64),)}, "levels": {"levels": 16},
    "scale_group": {"scale_group": 128}, "head_levels": {"head_levels": 2}, "dense": {"dense": ("ff2",)},
    "embedding_levels": {"embedding_levels": 3}, "blocks": {"blocks": ({"count": 20}, {"count": 4, "d_ff": 512})},
}  # fmt: skip
#: What a field stands on: the change counts against these.
FIRST = {"sinks": {"window": 64}, "page": {"top_tokens": 64}, "rope_dim": {"latent_dim": 512},
         "experts_per_token": {"n_experts": 4}, "index_heads": {"top_tokens": 64},
         "index_dim": {"top_tokens": 64, "index_heads": 8, "index_dim": 64},
         **{name: MIXED for name in (*MIXED, "state_extra") if name != "mixer"}}  # fmt: skip
SIZES = [f.name for f in fields(Decoder) if f.name not in ("name", "published")]


@pytest.mark.parametrize("name", SIZES)
def test_every_field_of_a_model_reaches_a_number(name):
    before = with_fields(OPT, FIRST.get(name, {}))
    value = getattr(OPT, name)
    after = with_fields(OPT, OTHER.get(name) or {name: (not value) if isinstance(value, bool) else 2 * value})
    costs = differ(numbers("pim-llm", [before, BITNET]), numbers("pim-llm", [after, BITNET]))
    counts = [(parameter_count(model), stored_bytes(model)) for model in (before, after)]
    assert costs or counts[0] != counts[1]


def leaves(item, path=""):
    for f in fields(item):
        value, where = getattr(item, f.name), f"{path}{f.name}"
        if is_dataclass(value):
            yield from leaves(value, f"{where}.")
        elif isinstance(value, int | float):
            yield f"{type(item).__name__}.{f.name}", where, value


#: Fields that no cost of a catalog machine is made of -> why.
ELSEWHERE = {
    **dict.fromkeys(("Technology.endurance", "Technology.array_endurance", "Technology.cycles_per_write",
                     "Technology.weibull_shape"), "lifetimes"),
    **dict.fromkeys(("Storage.kv_group", "Storage.kv_scale_bits", "Storage.kv_convert_j", "Storage.sum_bits"),
                    "caches of fewer bits"),
    **dict.fromkeys(("SystolicArray.shadow_j", "SystolicArray.shadow_area_m2"), "arrays that load behind their work"),
    **dict.fromkeys(("KvPim.hot_tokens", "KvPim.gated_share"), "hot crossbars, and gating of attention"),
    **dict.fromkeys(("Dram.capacity_bytes", "Pim.grid_side", "KvPim.most_slices"), "a limit that is refused or not"),
    "Dram.self_refresh_w": "answers with pauses between", "Sram.gate_w": "a chip hotter than its leakage is rated for",
    "Pim.tiles_per_bank": "global wires",
    "Technology.erased": "blocks of flash", "Decoding.pipelined": "batches",
    "Decoding.pack_heads": "batches",
}  # fmt: skip


@pytest.mark.slow
def test_every_number_of_every_part_reaches_a_number():
    first = ["pim-llm-lop", "pim-attention"]  # between them they have nearly all fields
    systems = [pl.catalog.systems[name] for name in dict.fromkeys([*first, *pl.catalog.systems])]
    found = [(key, system, *at) for system in systems for key, *at in leaves(system)]
    assert ELSEWHERE.keys() <= {key for key, *_ in found}
    unmoved: dict[str, str] = {}
    models = [OPT, replace(pl.catalog.models["llama-3-8b"], scale_group=128)]
    plain = functools.cache(lambda system, counting: numbers(system, models, [counting]))
    for key, system, path, value in found:
        if key in ELSEWHERE or unmoved.get(key) == "":
            continue
        unmoved[key] = f"{path} of {system.name}"
        others = [other for other in (_other(value), 1, value / 64, value * 1.125) if other != value]
        for counting, other in itertools.product((EVERYTHING, FULL_SYSTEM), others):
            with suppress(ValueError):  # one that the field cannot have
                changed = with_field(system, path, other)
                if differ(plain(system, counting), numbers(changed, models, [counting])):
                    unmoved[key] = ""
                    break
    assert [where for where in unmoved.values() if where] == []


def _other(value):
    if isinstance(value, bool):
        return not value
    return 2 * value if value and np.isfinite(value) else 64
