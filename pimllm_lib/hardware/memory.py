"""Memories, links and the units for everything that is no matrix product."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.parts import Name, Value, declare, part, require, require_paid
from pimllm_lib.core.rules import AT_LEAST_0, COUNT, PART, POSITIVE, SHARE, choice, number
from pimllm_lib.hardware.standing import TEMPERATURE, Transistors, heated

SOFTMAXES = ("consmax", "conventional")
_LIMIT = number("a number above 0; inf for no limit", gt=0)
_SCALES = number("at least 1; inf for no scales", ge=1)


@part
class Sram:
    """On-chip memory of the digital half, split for inputs, weights and results. Its ports exchange as many bits as are
    asked for, as the published simulations have it, unless port_bits is stated. Raises BadInput for such that take no room.
    """

    name: str
    inputs_bytes: Value = declare(POSITIVE, "capacity for inputs")
    weights_bytes: Value = declare(POSITIVE, "capacity for weights, and for keys and values")
    results_bytes: Value = declare(POSITIVE, "capacity for results")
    bit_j: Value = declare(POSITIVE, "energy of one bit read or written")
    leakage_w: Value = declare(POSITIVE, "leakage of all of it at `rated_k`")
    area_m2: Value | None = declare(POSITIVE, "area of all of it, None where it is not known", default=None)
    port_bits: Value = declare(_LIMIT, "bits that it and the array exchange in a cycle of the array", default=np.inf)
    port_bit_area_m2: Value = declare(AT_LEAST_0, "area of wires and drivers of each bit of `port_bits`", default=0.0)
    port_rate_hz: Value = declare(
        _LIMIT, "fastest array that `port_bit_area_m2` is for; a faster one takes as many more wires", default=np.inf
    )
    transistors: Transistors | None = declare(PART, "what leaks, None where temperature plays no part", default=None)
    gate_w: Value = declare(AT_LEAST_0, "part of the leakage that flows through gates, at any temperature", default=0.0)
    rated_k: Value = declare(TEMPERATURE, "temperature that `leakage_w` is for", default=300)
    temperature_k: Value = declare(TEMPERATURE, "temperature of the chip", default=300)
    gated_share: Value = declare(SHARE, "share of its leakage that it draws while crossbars work", default=1.0)

    def __post_init__(self) -> None:
        """Refuse ports of a stated width that take no room."""
        require_paid(self, np.isfinite(self.port_bits), ("port_bit_area_m2",), "port_bits is stated")
        within = self.gate_w <= self.leakage_w
        require(within, "Sram.gate_w", self.gate_w, "no more than leakage_w, of which it is a part")

    @property
    def leaking_w(self) -> Value:
        """The leakage of all of it at the temperature of the chip, in watts."""
        return heated(self)(self.leakage_w, self.gate_w)


@part
class Dram:
    """Off-chip memory."""

    name: str
    capacity_bytes: Value = declare(POSITIVE, "capacity for weights, and for a cache that no other part holds")
    bandwidth_bps: Value = declare(POSITIVE, "rate of all channels together")
    bit_j: Value = declare(POSITIVE, "energy of one bit moved")
    standby_w: Value = declare(POSITIVE, "power of refresh and of waiting")
    self_refresh_w: Value | None = declare(
        POSITIVE, "power while it keeps what it holds and does nothing else, None where it is `standby_w`", default=None
    )


@part
class KvStore:
    """A memory on the chip for the key-value cache alone."""

    name: str
    capacity_bytes: Value = declare(POSITIVE, "capacity")
    bandwidth_bps: Value = declare(POSITIVE, "rate of all of it together")
    bit_j: Value = declare(POSITIVE, "energy of one bit read or written")
    byte_standby_w: Value = declare(POSITIVE, "refresh or leakage of each byte")
    byte_area_m2: Value = declare(POSITIVE, "area of each byte")


@part
class Storage:
    """How numbers are stored, and with how many bits: 1.6 are five ternary digits in a byte. The array computes with
    activations; cached numbers in groups are brought back to their bits. Raises BadInput for scales that cost nothing.
    """

    name: str
    weight_bits: Value = declare(POSITIVE, "bits of a weight")
    kv_bits: Value = declare(POSITIVE, "bits of a cached key or value")
    act_bits: Value = declare(POSITIVE, "bits of an activation")
    sum_bits: Value = declare(POSITIVE, "bits of a partial sum")
    head_bits: Value = declare(POSITIVE, "bits of a weight of the output head")
    scale_bits: Value = declare(AT_LEAST_0, "bits of the scale of a group of weights", default=16)
    kv_group: Value = declare(
        _SCALES,
        "cached numbers that share a scale (infinite: no scales)",
        default=np.inf,
    )
    kv_scale_bits: Value = declare(AT_LEAST_0, "bits of a scale and its offset", default=0)
    kv_convert_j: Value = declare(AT_LEAST_0, "energy to bring a cached number to bits of an activation", default=0.0)

    def __post_init__(self) -> None:
        """Refuse scales that cost nothing."""
        require_paid(self, np.isfinite(self.kv_group), ("kv_scale_bits", "kv_convert_j"), "kv_group is stated")

    @property
    def cached_bits(self) -> Value:
        """The bits of a cached key or value, its part of a scale included."""
        return self.kv_bits + self.kv_scale_bits / self.kv_group

    def operand_bits(self, kind: str, levels: Value = 3, scale_group: Value = np.inf) -> Value:
        """Return the bits of a stored number of the operand that a kind of product works with: weight, key or value.

        levels, scale_group: of a weight, see `workload.Decoder`; its part of a scale included. Weights of 8 bits and more
        are taken to be stored as those of the output head.
        """
        if kind == "attention":
            return self.cached_bits
        if np.all(levels == (usual := 256 if kind == "head" else 3)) and np.all(np.isinf(scale_group)):
            return self.head_bits if usual > 3 else self.weight_bits
        few = np.where(np.equal(levels, 3), self.weight_bits, np.ceil(np.log2(levels)))
        return np.where(np.asarray(levels) >= 256, self.head_bits, few) + self.scale_bits / scale_group


@part
class Nonlinear:
    """Units for softmax, norms, activation functions and residual additions, an element a cycle each. Softmax needs neither
    maximum nor sum and streams ("consmax"), or passes over the scores three times ("conventional").
    """

    name: str
    lanes: Value = declare(COUNT, "units side by side")
    rate_hz: Value = declare(POSITIVE, "clock of the units")
    softmax: Name = declare(choice(SOFTMAXES, what="softmax"), "how softmax is computed, one of `SOFTMAXES`")
    softmax_j: Value = declare(POSITIVE, "energy of one element of softmax")
    layernorm_j: Value = declare(POSITIVE, "energy of one element of a layer norm")
    rmsnorm_j: Value = declare(POSITIVE, "energy of one element of an RMS norm")
    gelu_j: Value = declare(POSITIVE, "energy of one element of GELU")
    silu_j: Value = declare(POSITIVE, "energy of one element of SiLU")
    residual_j: Value = declare(POSITIVE, "energy of one element of a residual addition")
    depth_s: Value = declare(POSITIVE, "time from an element's entry to its result")
    area_m2: Value | None = declare(POSITIVE, "area of all units, None where it is not known", default=None)
    leakage_w: Value = declare(AT_LEAST_0, "leakage of all units", default=0.0)


@part
class Bus:
    """The link between the analog and the digital half."""

    name: str
    rate_bps: Value = declare(POSITIVE, "rate of the link")
    bit_j: Value = declare(POSITIVE, "energy of one bit moved")
    issue_s: Value = declare(AT_LEAST_0, "time of CPU and controller to start a product")
