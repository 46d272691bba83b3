"""Every dimension and every result variable, said once: name, unit, meaning, and whether it adds up.

One operation is one multiply-accumulate (1 op = 1 MAC) everywhere in this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1

#: Dimension -> meaning, in the order results carry them; swept axes follow.
DIMS: dict[str, str] = {
    "system": "accelerator",
    "model": "language model",
    "conventions": "accounting conventions",
    "context_len": "context length",
    "op": "matrix product of a decoder block",
    "component": "part of the machine or phase of its work",
}
#: Dimensions along which an extensive variable adds up.
SUMMED = ("op", "component")
#: Names a swept axis may not take.
RESERVED = (*DIMS, "sample", "device_seed", "training_seed")

#: Matrix products of one decoding step -> meaning. A model without one has 0 there.
OPS: dict[str, str] = {
    "q_down": "query into a space of few dimensions",
    "q": "query projection",
    "k": "key projection",
    "v": "value projection",
    "mix_in": "projections into a linear or recurrent mixer",
    "k_up": "query into the latent space of keys (latent attention)",
    "select": "query times bounds of pages of keys, or an index's keys, to choose the tokens attended to",
    "score": "query times cached keys",
    "av": "attention weights times cached values",
    "v_up": "weighted latents into values (latent attention)",
    "state": "query and key times the state that a linear or recurrent mixer keeps",
    "x": "attention output projection",
    "mix_out": "projection out of a linear or recurrent mixer",
    "gate": "gate projection of a gated FFN",
    "ff1": "first FFN projection (up)",
    "ff2": "second FFN projection (down)",
    "shared_gate": "gate projection of the experts that work on every token",
    "shared_ff1": "their first projection (up)",
    "shared_ff2": "their second projection (down)",
    "side": "projections beside these: between widths of the model, and what single families add",
    "lm_head": "output projection onto the vocabulary",
    "softmax": "softmax of the attention scores",
    "norm": "layer norms",
    "activation": "activation function of the FFN",
    "residual": "residual additions",
    "block": "the block as a whole: what belongs to no single product",
}
#: Kinds of product, the unit of routing: a system sends each kind to one engine, and may send single products elsewhere.
KINDS: dict[str, str] = {
    "projection": "activations times stored one-bit weights",
    "attention": "activations times the 8-bit key-value cache",
    "head": "activations times the output head, once a token",
}
#: Matrix product -> its kind. The other names of `OPS` are no products and run on no engine.
PRODUCT_KINDS: dict[str, str] = {
    "q_down": "projection", "q": "projection", "k": "projection", "v": "projection", "mix_in": "projection",
    "k_up": "projection", "select": "attention", "score": "attention", "av": "attention", "v_up": "projection",
    "state": "attention", "x": "projection", "mix_out": "projection", "gate": "projection", "ff1": "projection",
    "ff2": "projection", "shared_gate": "projection", "shared_ff1": "projection", "shared_ff2": "projection",
    "side": "projection", "lm_head": "head",
}  # fmt: skip


@dataclass(frozen=True)
class Component:
    """One part of a cost: what it is and where it is counted.

    subsystem: the part of the machine it is in; none for what takes no energy. latency, energy: the kind of work it is
    counted to in the time, and in the energy, of a token. time, joules: how its working time and its energy come about,
    where `pimllm explain` says so; x multiplies.
    """

    meaning: str
    subsystem: str = ""
    latency: str = "others"
    energy: str = "others"
    time: str = ""
    joules: str = ""


_CYCLES = (
    "reported x cycles x measured_cycle_energy_j + (1 - reported)"
    " x (cycles x PEs x idle_pe_energy_j + cycles of mapped PEs x (active_pe_energy_j - idle_pe_energy_j))"
)
#: Parts of a cost. Parts sum to the whole. A row is all that the schema has about one.
COMPONENTS: dict[str, Component] = {
    "stream": Component("array cycles in which operands stream through the mapped PEs", "array", "array", "array",
        "folds x streamed size / rate_hz", _CYCLES),
    "fill": Component("array cycles that fill and drain the pipeline or load the stationary operand", "array", "array",
        "array", "(folds x cycles to fill and drain - 1) / rate_hz", _CYCLES),
    "dac": Component("input converters of the crossbars", "pim", "crossbars and converters", "DAC",
        "turns x dac.periods / dac.rate_hz", "DACs x dac.power_w x their time"),
    "adc": Component("output converters of the crossbars", "pim", "crossbars and converters", "ADC",
        "turns x adc.periods / adc.rate_hz", "ADCs x adc.power_w x their time"),
    "crossbar": Component("memory cells, their lines and drivers", "pim", "crossbars and converters", "crossbar",
        "turns x (cell.read_s + delay of the crossbar's size)", "cells x mean power of a cell x time of the reads"),
    "registers": Component("input and output registers of a PE", "pim", "digital", "digital"),
    "mux": Component("analog multiplexers between lines and converters", "pim", "digital", "digital"),
    "shift_add": Component("shift-and-add of bit-serial partial results", "pim", "digital", "digital"),
    "joint": Component("sums over the PEs of a tile", "pim", "digital", "digital"),
    "rescale": Component("multipliers that give sums of groups their scales", "pim", "digital", "digital",
        "groups x ceil(columns / rescaler.per_crossbar) x rescaler.periods / rate_hz",
        "sums x rescaler.multiply_add_j x bits of a sum x rescaler.scale_bits / (rescaler.bits x rescaler.bits)"),
    "buffer": Component("SRAM buffers of the tiles", "pim", "buffers", "buffers",
        "words in and out x time of a word",
        "tiles x (time of reading x (read energy / time of a word + leakage)"
        " + time of writing x (write energy / time of a word + leakage))"),
    "intra_tile": Component("links between the PEs of a tile", "pim", "network"),
    "merge": Component("partial sums on the way to the aggregator tile", "pim", "network",
        time="hops x (1 / rate_hz + bits of a tile's result / network_bps)"),
    "transfer": Component("results on the way to the next matrix", "pim", "network",
        time="hops x bits of the result / network_bps"),
    "post_processing": Component("post-processing units of the PEs", "pim"),
    "input_distributor": Component("input distributors of the tiles", "pim"),
    "global_buffer": Component("global buffer of the analog half", "pim"),
    "controller": Component("controller of the analog half", "pim"),
    "sram": Component("on-chip memory of the digital half", "sram", energy="memory", joules="bits moved x sram.bit_j"),
    "dram_weights": Component("weights from off-chip memory", "dram", energy="memory", joules="bytes x 8 x dram.bit_j"),
    "dram_kv": Component("key-value cache in off-chip memory", "dram", energy="memory",
        joules="bytes x 8 x dram.bit_j"),
    "kv_store": Component("key-value cache in a memory of its own", "kv_store", energy="memory"),
    "kv_cells": Component("keys and values being written into cells that multiply", "kv_cells", energy="memory",
        time="ceil(cells of a line / written at once) x cell.write_pulses x (cell.write_s + a read)"
        " + erase_s / tokens erased together",
        joules="cells x (cell.write_pulses x (cell.write_j + verify_j + cells beside x half_select_j) + erase_j)"),
    "dram_activations": Component("activations that do not fit on the chip", "dram", energy="memory"),
    "stall": Component("waiting for off-chip memory", time="max(0, bytes x 8 / dram.bandwidth_bps - computing)"),
    "nonlinear": Component("softmax, norms, activation functions, residual additions", "nonlinear"),
    "bus": Component("vectors between the analog and the digital half", "bus",
        time="bits / bus.rate_bps", joules="bits x bus.bit_j"),
    "issue": Component("CPU and controller starting products", "bus", time="products started x bus.issue_s"),
    "leakage": Component("static power of parts that are awake and wait", "static", energy="static",
        joules="static power x (time awake - time at work)"),
    "asleep": Component("what is left of static power in parts that sleep", "static", energy="static",
        joules="gated_share x static power x (time of the token - time awake)"),
    "wake": Component("tiles waking", "static", time="tiles one after another x wake_s", energy="static",
        joules="(1 - gated_share) x static power x times woken x break_even_s"),
    "standby": Component("refresh and idle power of off-chip memory over the time of a token", "dram", energy="static"),
    "external": Component("a user's own accelerator", "external"),
    "rounding": Component("rounding that the published model does"),
}  # fmt: skip


def _grouped(column: str, *order: str) -> dict[str, tuple[str, ...]]:
    """Return the components of each group in a column of `COMPONENTS`: groups as ordered here, others as they come."""
    groups: dict[str, tuple[str, ...]] = dict.fromkeys(order, ())
    for name, component in COMPONENTS.items():
        if group := getattr(component, column):
            groups[group] = (*groups.get(group, ()), name)
    return groups


ATTENTION_OPS = ("score", "av", "select", "state")
PROJECTION_OPS = tuple(op for op, kind in PRODUCT_KINDS.items() if kind == "projection")
#: Part of the machine -> its components, for power by subsystem.
SUBSYSTEMS = _grouped("subsystem")
#: Kind of work -> the components that do it, for the time and for the energy of a token. Every component is in one of them.
LATENCY_PARTS = _grouped("latency", "array", "network", "buffers", "crossbars and converters", "digital", "others")
ENERGY_PARTS = _grouped("energy", "array", "ADC", "DAC", "crossbar", "buffers", "digital", "memory", "static", "others")


@dataclass(frozen=True)
class Variable:
    """One result variable: `unit` in SI symbols; an extensive one sums over op and component.

    scale: the size of what a value is the difference of, where that can be larger than the value; "largest": that of the
    variable's largest value. Rounding is told from a change on this scale, see `report.agreement`.
    """

    unit: str
    meaning: str
    extensive: bool = True
    scale: float | Literal["largest"] = 0.0


def _ends(name: str, of: str, *scale: float) -> dict[str, tuple[Any, ...]]:
    """Return the rows of the two ends of an interval."""
    return {f"{name}_{end}": ("1", f"{which} end {of}", *scale) for end, which in (("low", "lower"), ("high", "upper"))}


#: Name -> unit, meaning and scale, where it has one. Extensive ones, then intensive ones.
_EXTENSIVE: dict[str, tuple[Any, ...]] = {
    "latency_s": ("s", "time on the critical path of one token"),
    "busy_s": ("s", "working time of the engines for one token"),
    "energy_j": ("J", "energy of one token"),
    "macs": ("1", "multiply-accumulates of one token"),
    "array_macs": ("1", "multiply-accumulates done by the systolic array"),
    "array_products": ("1", "matrix products done by the systolic array"),
    "cycles": ("1", "systolic-array cycles"),
    "sram_reads": ("1", "operand and partial-sum words read from SRAM by the array"),
    "sram_writes": ("1", "result and partial-sum words written to SRAM by the array"),
    "register_accesses": ("1", "register-file reads and writes inside mapped PEs"),
    "tiles": ("1", "crossbar tiles, all blocks together"),
    "dram_bytes": ("B", "bytes moved to and from off-chip memory"),
    "kv_bytes": ("B", "size of the key-value cache"),
    "static_power_w": ("W", "static power with nothing gated, as far as it is counted"),
    "area_m2": ("m2", "area of the parts whose area is known"),
    "program_s": ("s", "time to write the weights once"),
    "program_j": ("J", "energy to write the weights once"),
}
_INTENSIVE: dict[str, tuple[Any, ...]] = {
    "pe_count": ("1", "PEs of the systolic array"),
    "tokens_per_s": ("tokens/s", "decoding rate"),
    "tokens_per_j": ("tokens/J", "energy efficiency"),
    "speedup": ("1", "decoding rate over that of the baseline"),
    "energy_gain": ("1", "tokens per joule over that of the baseline, less one", 1.0),
    "turning_idle_share": ("1", "share of its power that a waiting converter draws where no machine takes less energy"),
    "standby_w": ("W", "power of a machine between answers"),
    "paused_token_j": ("J", "energy of a token with its part of the pauses between answers"),
    "mean_power_w": ("W", "mean power of an assistant, pauses between answers included"),
    "words_per_battery": ("1", "words decoded with the energy of one battery"),
    "attention_half_tokens": ("tokens", "context at which attention reaches half of latency"),
    "rate_half_tokens": ("tokens", "context at which the decoding rate has halved"),
    "break_even_tokens": ("tokens", "tokens until the saved energy has paid for programming"),
    "array_share": ("1", "share of the systolic array in latency"),
    "analog_share": ("1", "share of crossbars and their converters in latency"),
    "projection_share": ("1", "share of projections in the multiply-accumulates"),
    "projection_cycle_share": ("1", "share of projections in the cycles of the array"),
    "sram_words_per_mac": ("1", "words between SRAM and array for each of its MACs"),
    "register_accesses_per_mac": ("1", "register accesses for each MAC of the array"),
    "power_w": ("W", "mean power over a token"),
    "peak_power_w": ("W", "power while a subsystem works on its hungriest product"),
    "power_density_w_m2": ("W/m2", "peak power over area"),
    "intensity": ("1/B", "multiply-accumulates for each byte of off-chip memory"),
    "attainable_macs_per_s": ("1/s", "bound of array and off-chip memory on its rate"),
    "time_to_first_token_s": ("s", "time from the prompt to the first token"),
    "time_per_token_s": ("s", "mean time of each token after the first"),
    "answer_s": ("s", "time of a whole answer"),
    "answer_j": ("J", "energy of a whole answer"),
    "simulated": ("1", "cycles or words of one product as SCALE-Sim reports them"),
    "closed_form": ("1", "cycles or words of one product in closed form"),
    "reported_extra": ("1", "words that SCALE-Sim reports and the closed form leaves out"),
    "layer_j": ("J", "energy of one projection of one vector"),
    "layer_s": ("s", "time of one projection of one vector"),
    "block_s": ("s", "time of one decoder block on the crossbars"),
    "block_j": ("J", "energy of one decoder block on the crossbars"),
    "input_share": ("1", "share of input converters and cells in the energy of a block"),
    "published_block_s": ("s", "published time of one decoder block on the crossbars"),
    "published_block_j": ("J", "published energy of one decoder block on the crossbars"),
    "energy_least_j": ("J", "energy of one token with converters that wait at the least power of their range"),
    "energy_most_j": ("J", "energy of one token with converters that wait at the most power of their range"),
    "bought_tokens_per_s": ("tokens/s", "decoding rate of a machine that one can buy"),
    "bought_energy_j": ("J", "measured energy of one token on a machine that one can buy"),
    "bought_estimated_j": ("J", "estimated energy of one token on a machine that one can buy"),
    "conversions": ("1", "output conversions of the crossbars for one token"),
    "rescale_energy_share": ("1", "share of multiplying by scales in the energy of a token"),
    "rescale_area_share": ("1", "share of what multiplies by scales in the area"),
    "converter_bits": ("1", "bits of an output converter"),
    "lossless_bits": ("1", "fewest bits of a converter that reads every sum of ideal cells as it is"),
    "mac_j": ("J", "energy of one multiply-accumulate of a macro"),
    "band_mac_j": ("J", "energy of one multiply-accumulate at an end of a constant's range"),
    "measured_mac_j": ("J", "measured energy of one multiply-accumulate of a macro"),
    "ops_per_s": ("1/s", "multiply-accumulates a second"),
    "ops_per_j": ("1/J", "multiply-accumulates for each joule"),
    "ops_per_s_lead": ("1", "multiply-accumulates a second over a printed rate"),
    "ops_per_j_lead": ("1", "multiply-accumulates a joule over a printed efficiency"),
    "budget_tokens_per_s": ("tokens/s", "rate of the fastest design within a budget"),
    "utilisation": ("1", "useful share of the array's PE-cycles"),
    "tile_area_m2": ("m2", "area of the crossbar tiles and of what serves them"),
    "first_order": ("1", "share of an output's variance that a factor is behind alone", 1.0),
    "first_order_error": ("1", "half-width of the 95 % interval of the first-order index", 1.0),
    "total_order": ("1", "share of an output's variance that a factor has part in", 1.0),
    "total_order_error": ("1", "half-width of the 95 % interval of the total index", 1.0),
    "swing": ("1", "output with one constant at an end of its range over the nominal one"),
    "claim_ratio": ("1", "what a claim comes to in a whole machine over what is printed", 1.0),
    "holding_share": ("1", "share of draws in which a claim holds in a whole machine"),
    "faster_share": ("1", "share of draws in which PIM-LLM decodes faster"),
    "noise_to_signal": ("1", "measured power of the noise of a product over that of the signal", 1e-6),
    "predicted_noise_to_signal": ("1", "the same in closed form"),
    "carried_over": ("1", "measured over predicted noise of a product in a trained matrix"),
    "held_out_loss": ("1", "mean loss of a held-out token, in nats"),
    "perplexity": ("1", "exponential of the mean loss of a held-out token"),
    "perplexity_rise": ("1", "rise of the perplexity over that with exact products, relative", 0.01),
    **_ends("perplexity_rise", "of its 95 % interval over models, chips and text", 0.01),
    "trials": ("1", "models times chips behind a number"),
    "threshold": ("1", "setting at which the perplexity has risen to a level"),
    **_ends("threshold", "of the threshold's 95 % interval"),
    "least_setting": ("1", "least setting of a curve that was tried"),
    "most_setting": ("1", "greatest setting of a curve that was tried"),
    "kappa": ("1", "rise of the loss in nats for each unit of noise to signal"),
    **_ends("kappa", "of its 95 % interval"),
    "kind_kappa": ("1", "the same for one kind of matrix alone"),
    "loss_rise": ("1", "rise of the loss of a token, in nats", 0.01),
    "law_rise": ("1", "rise of the loss that one kappa predicts", 0.01),
    "kinds_rise": ("1", "rise of the loss that a kappa for each kind of matrix predicts", 0.01),
    "wide_noise_to_signal": ("1", "noise over signal in a random ternary matrix"),
    "archived_loss": ("1", "archived mean loss of a token in one trial, in nats"),
    "recomputed_loss": ("1", "the same computed again"),
    "remedy_effect": ("1", "perplexity with a remedy over that of its control, less one", 0.01),
    **_ends("remedy_effect", "of its 95 % interval", 0.01),
    "noisy_perplexity": ("1", "perplexity on crossbars"),
    "more_tokens_per_s": ("tokens/s", "rate that a remedy adds", "largest"),
    "more_area_m2": ("m2", "area that a remedy adds", "largest"),
    "more_power_w": ("W", "mean power that a remedy adds", "largest"),
    "stack_tokens_per_s": ("tokens/s", "rate with so many remedies, in the best order"),
    "stack_tokens_per_j": ("tokens/J", "efficiency with so many remedies"),
    "stack_floor_tokens_per_s": ("tokens/s", "the floor with so many remedies"),
    "design_tokens_per_s": ("tokens/s", "rate of a design"),
    "design_tokens_per_j": ("tokens/J", "efficiency of a design"),
    "own_tokens_per_s": ("tokens/s", "rate of a design at a short context"),
    "best_tokens_per_s": ("tokens/s", "rate of the fastest design with a cache and a memory"),
    "target_tokens_per_s": ("tokens/s", "rate that a design is to reach"),
    "sram_share": ("1", "share of the on-chip memory that a design leaves"),
    "kept_rate": ("1", "rate of a machine over that of the published one at a short context"),
    "stack_floor_tokens_per_j": ("tokens/J", "efficiency of reading the cache alone"),
    "bound_s": ("s", "time that one bound alone takes for a token"),
    "floor_tokens_per_s": ("tokens/s", "rate at which the attended cache is read once a step"),
    "cell_writes": ("1", "writes of the busiest cells of keys and values for each token written"),
    "first_failure_years": ("year", "time until one cell has failed with a chance of one half"),
    "worn_years": ("year", "time until one in a hundred cells has failed, on average"),
    "kv_area_m2": ("m2", "area of the crossbars of keys and values"),
    "write_share": ("1", "share of a token's energy that writing its keys and values takes"),
    "static_share": ("1", "share of a token's energy that static power takes"),
    "attention_j": ("J", "energy of attention products, with what they move"),
    "published_values": ("1", "published values behind a quantity"),
    "needed_endurance": ("1", "write cycles needed so that crossbars last"),
    "break_even_write_j": ("J", "energy to write a cell at which a token takes as much"),
    "efficiency_ratio": ("1", "tokens a joule over those of the recommended hybrid"),
    "time_share": ("1", "share of a token's time"),
    "engines_tokens_per_s": ("tokens/s", "rate of the engines alone"),
    "engines_attention_j": ("J", "energy of attention products by the engines alone"),
    "engines_write_share": ("1", "share of energy that writing takes, by the engines alone"),
    "changed_tokens_per_s": ("1", "rate with a change over that without"),
    "changed_tokens_per_j": ("1", "efficiency with a change over that without"),
    "changed_worn_years": ("1", "lifetime with a change over that without"),
    "mixed_worn_years": ("year", "time until one in a hundred cells has failed, with a hot window"),
    **{
        f"{of}_{name}": (unit, f"{meaning}, {said}")
        for of, said in (("technology", "by technology"), ("bits", "by bits"), ("mixed", "with a hot window"))
        for name, unit, meaning in (
            ("tokens_per_s", "tokens/s", "decoding rate"),
            ("tokens_per_j", "tokens/J", "tokens for each joule"),
            ("area_m2", "m2", "area of the machine"),
            ("kv_area_m2", "m2", "area of the crossbars of keys and values"),
            ("attention_j", "J", "energy of attention products, with what they move"),
            ("write_share", "1", "share of a token's energy that writing takes"),
            ("static_share", "1", "share of a token's energy that static power takes"),
        )
    },
    "corner_thriftier_share": ("1", "the same, with one kind of cells of SRAM and one temperature in both machines"),
    "thriftier_share": ("1", "share of draws in which PIM-LLM decodes more tokens a joule"),
}
VARIABLES = {
    name: Variable(unit, meaning, rows is _EXTENSIVE, *scale)
    for rows in (_EXTENSIVE, _INTENSIVE)
    for name, (unit, meaning, *scale) in rows.items()
}

EXTENSIVE = tuple(_EXTENSIVE)
#: Extensive variables that stand there, whatever number of tokens is made; the others are of each token.
STANDING = ("tiles", "kv_bytes", "static_power_w", "area_m2", "program_s", "program_j")
#: Variables that every point has which is there at all. Where one of these is no number, a result has no such point: a model
#: that a remedy does not fit, a width that a system does not take. A result without any point has nothing to say.
ALWAYS = (
    *EXTENSIVE, "tokens_per_s", "tokens_per_j", "speedup", "energy_gain", "power_w", "array_share", "analog_share",
    "projection_share", "held_out_loss", "perplexity",
)  # fmt: skip


def annotate(ds: xr.Dataset) -> xr.Dataset:
    """Return the dataset with the unit and meaning of every variable and dimension as attributes.

    Raises KeyError for a variable this module does not define, so that none stays undocumented.
    """
    for name in ds.data_vars:
        variable = VARIABLES[str(name)]
        ds[name].attrs.update(long_name=variable.meaning, units=variable.unit)
    for name in DIMS.keys() & ds.coords.keys():
        ds[name].attrs.update(long_name=DIMS[name])
    if "context_len" in ds.coords:
        ds["context_len"].attrs.update(units="tokens")
    ds.attrs["schema_version"] = SCHEMA_VERSION
    return ds
