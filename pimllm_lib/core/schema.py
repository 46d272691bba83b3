"""Every dimension and every result variable, said once: name, unit, meaning, and whether it adds up.

One operation is one multiply-accumulate (1 op = 1 MAC) everywhere in this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
    "q": "query projection",
    "k": "key projection",
    "v": "value projection",
    "k_up": "query into the latent space of keys (latent attention)",
    "select": "query times bounds of pages of keys, to choose the tokens attended to",
    "score": "query times cached keys",
    "av": "attention weights times cached values",
    "v_up": "weighted latents into values (latent attention)",
    "x": "attention output projection",
    "gate": "gate projection of a gated FFN",
    "ff1": "first FFN projection (up)",
    "ff2": "second FFN projection (down)",
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
    "q": "projection", "k": "projection", "v": "projection", "k_up": "projection",
    "select": "attention", "score": "attention", "av": "attention", "v_up": "projection", "x": "projection",
    "gate": "projection", "ff1": "projection", "ff2": "projection", "lm_head": "head",
}  # fmt: skip
#: Parts of a cost -> meaning. Parts sum to the whole.
COMPONENTS: dict[str, str] = {
    "stream": "array cycles in which operands stream through the mapped PEs",
    "fill": "array cycles that fill and drain the pipeline or load the stationary operand",
    "dac": "input converters of the crossbars",
    "adc": "output converters of the crossbars",
    "crossbar": "memory cells, their lines and drivers",
    "registers": "input and output registers of a PE",
    "mux": "analog multiplexers between lines and converters",
    "shift_add": "shift-and-add of bit-serial partial results",
    "joint": "sums over the PEs of a tile",
    "buffer": "SRAM buffers of the tiles",
    "intra_tile": "links between the PEs of a tile",
    "merge": "partial sums on the way to the aggregator tile",
    "transfer": "results on the way to the next matrix",
    "post_processing": "post-processing units of the PEs",
    "input_distributor": "input distributors of the tiles",
    "global_buffer": "global buffer of the analog half",
    "controller": "controller of the analog half",
    "sram": "on-chip memory of the digital half",
    "dram_weights": "weights from off-chip memory",
    "dram_kv": "key-value cache in off-chip memory",
    "kv_store": "key-value cache in a memory of its own",
    "kv_cells": "keys and values being written into cells that multiply",
    "dram_activations": "activations that do not fit on the chip",
    "stall": "waiting for off-chip memory",
    "nonlinear": "softmax, norms, activation functions, residual additions",
    "bus": "vectors between the analog and the digital half",
    "issue": "CPU and controller starting products",
    "leakage": "static power over the time of a token",
    "standby": "refresh and idle power of off-chip memory over the time of a token",
    "external": "a user's own accelerator",
    "rounding": "rounding that the published model does",
}
ATTENTION_OPS = ("score", "av", "select")
PROJECTION_OPS = ("q", "k", "v", "k_up", "v_up", "x", "gate", "ff1", "ff2")
#: Part of the machine -> its components, for power by subsystem.
SUBSYSTEMS: dict[str, tuple[str, ...]] = {
    "array": ("stream", "fill"),
    "pim": (
        "dac", "adc", "crossbar", "registers", "mux", "shift_add", "joint", "buffer", "intra_tile", "merge", "transfer",
        "post_processing", "input_distributor", "global_buffer", "controller",
    ),
    "sram": ("sram",),
    "dram": ("dram_weights", "dram_kv", "dram_activations", "standby"),
    "kv_store": ("kv_store",),
    "kv_cells": ("kv_cells",),
    "nonlinear": ("nonlinear",),
    "bus": ("bus", "issue"),
    "static": ("leakage",),
    "external": ("external",),
}  # fmt: skip
#: Kind of work -> the components that do it, for the time of a token. Every component is in one of them.
LATENCY_PARTS: dict[str, tuple[str, ...]] = {
    "array": SUBSYSTEMS["array"],
    "network": ("merge", "transfer", "intra_tile"),
    "buffers": ("buffer",),
    "crossbars and converters": ("dac", "adc", "crossbar"),
    "digital": ("registers", "mux", "shift_add", "joint"),
    "others": (
        "post_processing", "input_distributor", "global_buffer", "controller", *SUBSYSTEMS["sram"], *SUBSYSTEMS["dram"],
        "kv_store", "kv_cells", "stall", "nonlinear", "bus", "issue", "leakage", "external", "rounding",
    ),
}  # fmt: skip
#: The same for the energy of a token.
ENERGY_PARTS: dict[str, tuple[str, ...]] = {
    "array": SUBSYSTEMS["array"],
    "ADC": ("adc",),
    "DAC": ("dac",),
    "crossbar": ("crossbar",),
    "buffers": ("buffer",),
    "digital": LATENCY_PARTS["digital"],
    "memory": ("sram", "dram_weights", "dram_kv", "dram_activations", "kv_store", "kv_cells"),
    "static": ("leakage", "standby"),
    "others": (
        *LATENCY_PARTS["network"], "post_processing", "input_distributor", "global_buffer", "controller", "stall",
        "nonlinear", "bus", "issue", "external", "rounding",
    ),
}  # fmt: skip
#: Where the product itself happens, converters included.
ANALOG_COMPONENTS = ("dac", "adc", "crossbar")


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


VARIABLES: dict[str, Variable] = {
    "latency_s": Variable("s", "time on the critical path of one token"),
    "busy_s": Variable("s", "working time of the engines for one token"),
    "energy_j": Variable("J", "energy of one token"),
    "macs": Variable("1", "multiply-accumulates of one token"),
    "array_macs": Variable("1", "multiply-accumulates done by the systolic array"),
    "array_products": Variable("1", "matrix products done by the systolic array"),
    "cycles": Variable("1", "systolic-array cycles"),
    "sram_reads": Variable("1", "operand and partial-sum words read from SRAM by the array"),
    "sram_writes": Variable("1", "result and partial-sum words written to SRAM by the array"),
    "register_accesses": Variable("1", "register-file reads and writes inside mapped PEs"),
    "tiles": Variable("1", "crossbar tiles, all blocks together"),
    "dram_bytes": Variable("B", "bytes moved to and from off-chip memory"),
    "kv_bytes": Variable("B", "size of the key-value cache"),
    "static_power_w": Variable("W", "static power with nothing gated, as far as it is counted"),
    "area_m2": Variable("m2", "area of the parts whose area is known"),
    "program_s": Variable("s", "time to write the weights once"),
    "program_j": Variable("J", "energy to write the weights once"),
    "pe_count": Variable("1", "PEs of the systolic array", extensive=False),
    "tokens_per_s": Variable("tokens/s", "decoding rate", extensive=False),
    "tokens_per_j": Variable("tokens/J", "energy efficiency", extensive=False),
    "speedup": Variable("1", "decoding rate over that of the baseline", extensive=False),
    "energy_gain": Variable("1", "tokens per joule over that of the baseline, less one", extensive=False, scale=1.0),
    "words_per_battery": Variable("1", "words decoded with the energy of one battery", extensive=False),
    "attention_half_tokens": Variable("tokens", "context at which attention reaches half of latency", extensive=False),
    "rate_half_tokens": Variable("tokens", "context at which the decoding rate has halved", extensive=False),
    "break_even_tokens": Variable("tokens", "tokens until the saved energy has paid for programming", extensive=False),
    "array_share": Variable("1", "share of the systolic array in latency", extensive=False),
    "analog_share": Variable("1", "share of crossbars and their converters in latency", extensive=False),
    "projection_share": Variable("1", "share of projections in the multiply-accumulates", extensive=False),
    "projection_cycle_share": Variable("1", "share of projections in the cycles of the array", extensive=False),
    "sram_words_per_mac": Variable("1", "words between SRAM and array for each of its MACs", extensive=False),
    "register_accesses_per_mac": Variable("1", "register accesses for each MAC of the array", extensive=False),
    "power_w": Variable("W", "mean power over a token", extensive=False),
    "peak_power_w": Variable("W", "power while a subsystem works on its hungriest product", extensive=False),
    "power_density_w_m2": Variable("W/m2", "peak power over area", extensive=False),
    "intensity": Variable("1/B", "multiply-accumulates for each byte of off-chip memory", extensive=False),
    "attainable_macs_per_s": Variable("1/s", "bound of array and off-chip memory on its rate", extensive=False),
    "time_to_first_token_s": Variable("s", "time from the prompt to the first token", extensive=False),
    "time_per_token_s": Variable("s", "mean time of each token after the first", extensive=False),
    "answer_s": Variable("s", "time of a whole answer", extensive=False),
    "answer_j": Variable("J", "energy of a whole answer", extensive=False),
    "simulated": Variable("1", "cycles or words of one product as SCALE-Sim reports them", extensive=False),
    "closed_form": Variable("1", "cycles or words of one product in closed form", extensive=False),
    "reported_extra": Variable("1", "words that SCALE-Sim reports and the closed form leaves out", extensive=False),
    "block_s": Variable("s", "time of one decoder block on the crossbars", extensive=False),
    "block_j": Variable("J", "energy of one decoder block on the crossbars", extensive=False),
    "input_share": Variable("1", "share of input converters and cells in the energy of a block", extensive=False),
    "published_block_s": Variable("s", "published time of one decoder block on the crossbars", extensive=False),
    "published_block_j": Variable("J", "published energy of one decoder block on the crossbars", extensive=False),
    "mac_j": Variable("J", "energy of one multiply-accumulate of a macro", extensive=False),
    "band_mac_j": Variable("J", "energy of one multiply-accumulate at an end of a constant's range", extensive=False),
    "measured_mac_j": Variable("J", "measured energy of one multiply-accumulate of a macro", extensive=False),
    "ops_per_s": Variable("1/s", "multiply-accumulates a second", extensive=False),
    "ops_per_j": Variable("1/J", "multiply-accumulates for each joule", extensive=False),
    "ops_per_s_lead": Variable("1", "multiply-accumulates a second over a printed rate", extensive=False),
    "ops_per_j_lead": Variable("1", "multiply-accumulates a joule over a printed efficiency", extensive=False),
    "budget_tokens_per_s": Variable("tokens/s", "rate of the fastest design within a budget", extensive=False),
    "utilisation": Variable("1", "useful share of the array's PE-cycles", extensive=False),
    "tile_area_m2": Variable("m2", "area of the crossbar tiles and of what serves them", extensive=False),
    "first_order": Variable(
        "1", "share of an output's variance that a factor is behind alone", extensive=False, scale=1.0
    ),
    "first_order_error": Variable(
        "1", "half-width of the 95 % interval of the first-order index", extensive=False, scale=1.0
    ),
    "total_order": Variable("1", "share of an output's variance that a factor has part in", extensive=False, scale=1.0),
    "total_order_error": Variable(
        "1", "half-width of the 95 % interval of the total index", extensive=False, scale=1.0
    ),
    "swing": Variable("1", "output with one constant at an end of its range over the nominal one", extensive=False),
    "claim_ratio": Variable(
        "1", "what a claim comes to in a whole machine over what is printed", extensive=False, scale=1.0
    ),
    "holding_share": Variable("1", "share of draws in which a claim holds in a whole machine", extensive=False),
    "faster_share": Variable("1", "share of draws in which PIM-LLM decodes faster", extensive=False),
    "noise_to_signal": Variable(
        "1", "measured power of the noise of a product over that of the signal", extensive=False, scale=1e-6
    ),
    "predicted_noise_to_signal": Variable("1", "the same in closed form", extensive=False),
    "carried_over": Variable("1", "measured over predicted noise of a product in a trained matrix", extensive=False),
    "held_out_loss": Variable("1", "mean loss of a held-out token, in nats", extensive=False),
    "perplexity": Variable("1", "exponential of the mean loss of a held-out token", extensive=False),
    "perplexity_rise": Variable(
        "1", "rise of the perplexity over that with exact products, relative", extensive=False, scale=0.01
    ),
    "perplexity_rise_low": Variable(
        "1", "lower end of its 95 % interval over models, chips and text", extensive=False, scale=0.01
    ),
    "perplexity_rise_high": Variable(
        "1", "upper end of its 95 % interval over models, chips and text", extensive=False, scale=0.01
    ),
    "chips_rise_low": Variable(
        "1", "lower end of its 95 % interval over chips and text alone", extensive=False, scale=0.01
    ),
    "chips_rise_high": Variable(
        "1", "upper end of its 95 % interval over chips and text alone", extensive=False, scale=0.01
    ),
    "models_rise_low": Variable(
        "1", "lower end of its 95 % interval by Student's t over models", extensive=False, scale=0.01
    ),
    "models_rise_high": Variable(
        "1", "upper end of its 95 % interval by Student's t over models", extensive=False, scale=0.01
    ),
    "trials": Variable("1", "models times chips behind a number", extensive=False),
    "threshold": Variable("1", "setting at which the perplexity has risen to a level", extensive=False),
    "threshold_low": Variable("1", "lower end of the threshold's 95 % interval", extensive=False),
    "threshold_high": Variable("1", "upper end of the threshold's 95 % interval", extensive=False),
    "models_threshold_low": Variable("1", "lower end by Student's t over models", extensive=False),
    "models_threshold_high": Variable("1", "upper end by Student's t over models", extensive=False),
    "threshold_share": Variable("1", "share of resamples whose threshold is among the settings", extensive=False),
    "least_setting": Variable("1", "least setting of a curve that was tried", extensive=False),
    "most_setting": Variable("1", "greatest setting of a curve that was tried", extensive=False),
    "kappa": Variable("1", "rise of the loss in nats for each unit of noise to signal", extensive=False),
    "kind_kappa": Variable("1", "the same for one kind of matrix alone", extensive=False),
    "loss_rise": Variable("1", "rise of the loss of a token, in nats", extensive=False, scale=0.01),
    "law_rise": Variable("1", "rise of the loss that one kappa predicts", extensive=False, scale=0.01),
    "kinds_rise": Variable(
        "1", "rise of the loss that a kappa for each kind of matrix predicts", extensive=False, scale=0.01
    ),
    "wide_noise_to_signal": Variable("1", "noise over signal in a random ternary matrix", extensive=False),
    "archived_loss": Variable("1", "archived mean loss of a token in one trial, in nats", extensive=False),
    "recomputed_loss": Variable("1", "the same computed again", extensive=False),
    "remedy_effect": Variable(
        "1", "perplexity with a remedy over that of its control, less one", extensive=False, scale=0.01
    ),
    "remedy_effect_low": Variable("1", "lower end of its 95 % interval", extensive=False, scale=0.01),
    "remedy_effect_high": Variable("1", "upper end of its 95 % interval", extensive=False, scale=0.01),
    "models_effect_low": Variable(
        "1", "lower end of the effect by Student's t over models", extensive=False, scale=0.01
    ),
    "models_effect_high": Variable(
        "1", "upper end of the effect by Student's t over models", extensive=False, scale=0.01
    ),
    "noisy_perplexity": Variable("1", "perplexity on crossbars", extensive=False),
    "more_tokens_per_s": Variable("tokens/s", "rate that a remedy adds", extensive=False, scale="largest"),
    "more_area_m2": Variable("m2", "area that a remedy adds", extensive=False, scale="largest"),
    "more_power_w": Variable("W", "mean power that a remedy adds", extensive=False, scale="largest"),
    "stack_tokens_per_s": Variable("tokens/s", "rate with so many remedies, in the best order", extensive=False),
    "stack_tokens_per_j": Variable("tokens/J", "efficiency with so many remedies", extensive=False),
    "stack_floor_tokens_per_s": Variable("tokens/s", "the floor with so many remedies", extensive=False),
    "design_tokens_per_s": Variable("tokens/s", "rate of a design", extensive=False),
    "design_tokens_per_j": Variable("tokens/J", "efficiency of a design", extensive=False),
    "own_tokens_per_s": Variable("tokens/s", "rate of a design at a short context", extensive=False),
    "best_tokens_per_s": Variable("tokens/s", "rate of the fastest design with a cache and a memory", extensive=False),
    "target_tokens_per_s": Variable("tokens/s", "rate that a design is to reach", extensive=False),
    "sram_share": Variable("1", "share of the on-chip memory that a design leaves", extensive=False),
    "kept_rate": Variable("1", "rate of a machine over that of the published one at a short context", extensive=False),
    "stack_floor_tokens_per_j": Variable("tokens/J", "efficiency of reading the cache alone", extensive=False),
    "bound_s": Variable("s", "time that one bound alone takes for a token", extensive=False),
    "floor_tokens_per_s": Variable("tokens/s", "rate at which the attended cache is read once a step", extensive=False),
    "cell_writes": Variable(
        "1", "writes of the busiest cells of keys and values for each token written", extensive=False
    ),
    "first_failure_years": Variable(
        "year", "time until one cell has failed with a chance of one half", extensive=False
    ),
    "worn_years": Variable("year", "time until one in a hundred cells has failed, on average", extensive=False),
    "kv_area_m2": Variable("m2", "area of the crossbars of keys and values", extensive=False),
    "write_share": Variable("1", "share of a token's energy that writing its keys and values takes", extensive=False),
    "static_share": Variable("1", "share of a token's energy that static power takes", extensive=False),
    "attention_j": Variable("J", "energy of attention products, with what they move", extensive=False),
    "published_values": Variable("1", "published values behind a quantity", extensive=False),
    "needed_endurance": Variable("1", "write cycles needed so that crossbars last", extensive=False),
    "break_even_write_j": Variable("J", "energy to write a cell at which a token takes as much", extensive=False),
    "efficiency_ratio": Variable("1", "tokens a joule over those of the recommended hybrid", extensive=False),
    "time_share": Variable("1", "share of a token's time", extensive=False),
    "engines_tokens_per_s": Variable("tokens/s", "rate of the engines alone", extensive=False),
    "engines_attention_j": Variable("J", "energy of attention products by the engines alone", extensive=False),
    "engines_write_share": Variable("1", "share of energy that writing takes, by the engines alone", extensive=False),
    "changed_tokens_per_s": Variable("1", "rate with a change over that without", extensive=False),
    "changed_tokens_per_j": Variable("1", "efficiency with a change over that without", extensive=False),
    "changed_worn_years": Variable("1", "lifetime with a change over that without", extensive=False),
    "mixed_worn_years": Variable(
        "year", "time until one in a hundred cells has failed, with a hot window", extensive=False
    ),
    **{
        f"{of}_{name}": Variable(unit, f"{meaning}, {said}", extensive=False)
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
    "thriftier_share": Variable("1", "share of draws in which PIM-LLM decodes more tokens a joule", extensive=False),
}

#: Extensive variables that stand there, whatever number of tokens is made; the others are of each token.
STANDING = ("tiles", "kv_bytes", "static_power_w", "area_m2", "program_s", "program_j")


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
