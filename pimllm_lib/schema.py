"""Every dimension and every result variable, said once: name, unit, meaning, and whether it adds up.

One operation is one multiply-accumulate (1 op = 1 MAC) everywhere in this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
#: Names a swept axis may not take.
RESERVED = (*DIMS, "sample", "device_seed", "training_seed")

#: Matrix products of one decoding step -> meaning. A model without one has 0 there.
OPS: dict[str, str] = {
    "q": "query projection",
    "k": "key projection",
    "v": "value projection",
    "score": "query times cached keys",
    "av": "attention weights times cached values",
    "x": "attention output projection",
    "gate": "gate projection of a gated FFN",
    "ff1": "first FFN projection (up)",
    "ff2": "second FFN projection (down)",
}
#: Kinds of product, the unit of routing: a system sends each kind to one engine.
KINDS: dict[str, str] = {
    "projection": "activations times stored one-bit weights",
    "attention": "activations times the 8-bit key-value cache",
}
#: Parts of a cost -> meaning. Parts sum to the whole.
COMPONENTS: dict[str, str] = {
    "stream": "array cycles in which operands stream through the mapped PEs",
    "fill": "array cycles that fill and drain the pipeline or load the stationary operand",
}


@dataclass(frozen=True)
class Variable:
    """One result variable: `unit` in SI symbols; an extensive one sums over op and component."""

    unit: str
    meaning: str
    extensive: bool = True


VARIABLES: dict[str, Variable] = {
    "latency_s": Variable("s", "time on the critical path of one token"),
    "busy_s": Variable("s", "working time of the engines for one token"),
    "energy_j": Variable("J", "energy of one token"),
    "macs": Variable("1", "multiply-accumulates of one token"),
    "array_macs": Variable("1", "multiply-accumulates done by the systolic array"),
    "cycles": Variable("1", "systolic-array cycles"),
    "sram_reads": Variable("1", "operand and partial-sum words read from SRAM by the array"),
    "sram_writes": Variable("1", "result and partial-sum words written to SRAM by the array"),
    "register_accesses": Variable("1", "register-file reads and writes inside mapped PEs"),
    "pe_count": Variable("1", "PEs of the systolic array", extensive=False),
    "tokens_per_s": Variable("tokens/s", "decoding rate", extensive=False),
    "tokens_per_j": Variable("tokens/J", "energy efficiency", extensive=False),
    "utilisation": Variable("1", "useful share of the array's PE-cycles", extensive=False),
}


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
