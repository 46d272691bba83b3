"""Accelerators: engines, and which product goes to which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pimllm_lib.errors import BadInput, unknown
from pimllm_lib.hardware.analog import Pim
from pimllm_lib.hardware.decoding import ONE_BY_ONE, Decoding
from pimllm_lib.hardware.digital import SystolicArray
from pimllm_lib.hardware.memory import Bus, Dram, KvStore, Nonlinear, Sram, Storage
from pimllm_lib.parts import part, require, require_inner
from pimllm_lib.schema import ATTENTION_OPS, KINDS, PRODUCT_KINDS

#: Engines a product can be routed to: the fields of `System` that do work.
ENGINES = ("array", "pim")


@part
class System:
    """An accelerator: its engines, and the engine that each kind of product goes to.

    array: a systolic array; pim: analog crossbar tiles, None where there are none. sram, dram, storage, nonlinear, bus:
    the machine around them, wanted by conventions that count it. kv: a memory for the key-value cache alone, None where
    that lies in dram. decoding: how a step is organised. routing: kind -> engine, every kind of `schema.KINDS` once; a
    product of `schema.PRODUCT_KINDS` may stand beside them and then goes its own way: {"projection": "array", "ff1":
    "pim", ...}. Raises BadInput for a kind left out, a name that is no kind, product or engine, attention routed to
    crossbars (their weights are written once), and an engine the system does not have.
    """

    name: str
    array: SystolicArray
    pim: Pim | None = None
    sram: Sram | None = None
    dram: Dram | None = None
    storage: Storage | None = None
    nonlinear: Nonlinear | None = None
    bus: Bus | None = None
    kv: KvStore | None = None
    decoding: Decoding = ONE_BY_ONE
    routing: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(KINDS, "array"))

    def __post_init__(self) -> None:
        """Refuse parts of a wrong class, and routing that names nothing or leaves a kind out."""
        inner = {"pim": Pim, "sram": Sram, "dram": Dram, "storage": Storage, "nonlinear": Nonlinear, "bus": Bus,
                 "kv": KvStore}  # fmt: skip
        require_inner(
            self,
            array=SystolicArray,
            decoding=Decoding,
            **{k: v for k, v in inner.items() if getattr(self, k) is not None},
        )
        for name, engine in self.routing.items():
            if name not in KINDS and name not in PRODUCT_KINDS:
                raise unknown(f"kind of product in {self.name}.routing", name, [*KINDS, *PRODUCT_KINDS])
            if not isinstance(engine, str) or engine not in ENGINES:
                raise unknown(f"engine in {self.name}.routing.{name}", engine, ENGINES)
            if getattr(self, engine) is None:
                raise BadInput(f"{self.name}.routing sends {name} to {engine}, and {self.name} has none; wanted one")
            if engine == "pim" and PRODUCT_KINDS.get(name, name) == "attention":
                raise BadInput(
                    f"{self.name}.routing.{name} is 'pim'; wanted array: the key-value cache changes with every token, "
                    "and writing crossbars is not modelled"
                )
        left = [kind for kind in KINDS if kind not in self.routing]
        require(not left, f"{self.name}.routing", dict(self.routing), f"an engine for {', '.join(left)} too")

    def engine(self, op: str) -> str:
        """Return the engine a product goes to: its own, or that of its kind."""
        return self.routing.get(op, self.routing[PRODUCT_KINDS[op]])

    @property
    def hybrid(self) -> bool:
        """Whether any projection runs on another engine than attention."""
        projections = [op for op, kind in PRODUCT_KINDS.items() if kind == "projection"]
        return any(self.engine(op) != self.engine(ATTENTION_OPS[0]) for op in projections)
