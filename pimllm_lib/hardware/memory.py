"""Memories, links and the units for everything that is no matrix product."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.errors import unknown
from pimllm_lib.core.parts import Name, Value, numeric, part, require, require_counts, require_paid, require_positive

SOFTMAXES = ("consmax", "conventional")


@part
class Sram:
    """On-chip memory of the digital half, split for inputs, weights and results.

    bit_j: energy of one bit read or written; leakage_w: of all of it; area_m2: None where it is not known. port_bits:
    bits that it and the array exchange in a cycle of the array (infinite: as many as are asked for, as the published
    simulations have it); port_bit_area_m2: area of the wires and drivers of each, at an array of at most port_rate_hz;
    a faster one takes as many more.
    """

    name: str
    inputs_bytes: Value
    weights_bytes: Value
    results_bytes: Value
    bit_j: Value
    leakage_w: Value
    area_m2: Value | None = None
    port_bits: Value = np.inf
    port_bit_area_m2: Value = 0.0
    port_rate_hz: Value = np.inf

    def __post_init__(self) -> None:
        """Refuse a memory that cannot exist, and ports of a stated width that take no room."""
        known = ("area_m2",) if self.area_m2 is not None else ()
        require_positive(self, ("inputs_bytes", "weights_bytes", "results_bytes", "bit_j", "leakage_w", *known))
        require_positive(self, ("port_bit_area_m2",), or_zero=True)
        for name in ("port_bits", "port_rate_hz"):
            numeric(f"Sram.{name}", getattr(self, name), "a number above 0; inf for no limit")
        require(self.port_rate_hz > 0, "Sram.port_rate_hz", self.port_rate_hz, "a number above 0; inf for no limit")
        require(self.port_bits > 0, "Sram.port_bits", self.port_bits, "a number above 0; inf for no limit")
        require_paid(self, np.isfinite(self.port_bits), ("port_bit_area_m2",), "port_bits is stated")


@part
class Dram:
    """Off-chip memory. bandwidth_bps: of all channels; bit_j: energy of one bit moved; standby_w: refresh and idle."""

    name: str
    capacity_bytes: Value
    bandwidth_bps: Value
    bit_j: Value
    standby_w: Value

    def __post_init__(self) -> None:
        """Refuse a memory that cannot exist."""
        require_positive(self, ("capacity_bytes", "bandwidth_bps", "bit_j", "standby_w"))


@part
class KvStore:
    """A memory on the chip for the key-value cache alone.

    bandwidth_bps: all of it together; bit_j: energy of one bit read or written; byte_standby_w, byte_area_m2: refresh
    or leakage, and area, of each byte.
    """

    name: str
    capacity_bytes: Value
    bandwidth_bps: Value
    bit_j: Value
    byte_standby_w: Value
    byte_area_m2: Value

    def __post_init__(self) -> None:
        """Refuse a memory that cannot exist."""
        require_positive(self, ("capacity_bytes", "bandwidth_bps", "bit_j", "byte_standby_w", "byte_area_m2"))


@part
class Storage:
    """How numbers are stored: bits of a weight (1.6 is five ternary digits in a byte), of a cached key or value, of an
    activation, of a partial sum, and of a weight of the output head.

    kv_group: cached numbers that share a scale (infinite: no scales, as published); kv_scale_bits: bits of a scale and
    offset; kv_convert_j: energy to bring one of them back to the bits of an activation. The array computes with these.
    """

    name: str
    weight_bits: Value
    kv_bits: Value
    act_bits: Value
    sum_bits: Value
    head_bits: Value
    kv_group: Value = np.inf
    kv_scale_bits: Value = 0
    kv_convert_j: Value = 0.0

    def __post_init__(self) -> None:
        """Refuse widths that cannot be, and scales that cost nothing."""
        require_positive(self, ("weight_bits", "kv_bits", "act_bits", "sum_bits", "head_bits"))
        require_positive(self, ("kv_scale_bits", "kv_convert_j"), or_zero=True)
        numeric("Storage.kv_group", self.kv_group, "at least 1; inf for no scales")
        require(self.kv_group >= 1, "Storage.kv_group", self.kv_group, "at least 1; inf for no scales")
        require_paid(self, np.isfinite(self.kv_group), ("kv_scale_bits", "kv_convert_j"), "kv_group is stated")

    @property
    def cached_bits(self) -> Value:
        """The bits of a cached key or value, its part of a scale included."""
        return self.kv_bits + self.kv_scale_bits / self.kv_group

    def operand_bits(self, kind: str) -> Value:
        """Return the bits of a stored number of the operand that a kind of product works with: weight, key or value."""
        return {"projection": self.weight_bits, "attention": self.cached_bits, "head": self.head_bits}[kind]


@part
class Nonlinear:
    """`lanes` units for softmax, norms, activation functions and residual additions, an element a cycle each.

    softmax: "consmax" needs neither maximum nor sum and streams, "conventional" passes over the scores three times.
    *_j: energy of one element; depth_s: time from an element's entry to its result.
    """

    name: str
    lanes: Value
    rate_hz: Value
    softmax: Name
    softmax_j: Value
    layernorm_j: Value
    rmsnorm_j: Value
    gelu_j: Value
    silu_j: Value
    residual_j: Value
    depth_s: Value
    area_m2: Value | None = None

    def __post_init__(self) -> None:
        """Refuse units that cannot exist."""
        require_counts(self, ("lanes",))
        names = ("softmax_j", "layernorm_j", "rmsnorm_j", "gelu_j", "silu_j", "residual_j", "rate_hz", "depth_s")
        require_positive(self, names if self.area_m2 is None else (*names, "area_m2"))
        if not isinstance(self.softmax, str) or self.softmax not in SOFTMAXES:
            raise unknown("softmax", self.softmax, SOFTMAXES)


@part
class Bus:
    """The link between the analog and the digital half. issue_s: time of CPU and controller to start a product."""

    name: str
    rate_bps: Value
    bit_j: Value
    issue_s: Value

    def __post_init__(self) -> None:
        """Refuse a link that cannot exist."""
        require_positive(self, ("rate_bps", "bit_j"))
        require_positive(self, ("issue_s",), or_zero=True)
