"""Accelerators: engines, and which product goes to which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pimllm_lib.core.errors import BadInput, unknown
from pimllm_lib.core.parts import declare, part, require
from pimllm_lib.core.rules import PART, needs
from pimllm_lib.core.schema import ATTENTION_OPS, KINDS, PRODUCT_KINDS
from pimllm_lib.hardware.analog import Pim
from pimllm_lib.hardware.attention import KvPim
from pimllm_lib.hardware.decoding import ONE_BY_ONE, Decoding
from pimllm_lib.hardware.digital import SystolicArray
from pimllm_lib.hardware.memory import Bus, Dram, KvStore, Nonlinear, Sram, Storage

#: Engines a product can be routed to: the fields of `System` that do work.
ENGINES = ("array", "pim", "kv_pim")
_TABLE = needs("a table of kind = engine", lambda value: isinstance(value, Mapping))


@part
class System:
    """An accelerator: its engines, the machine around them, and the engine that each kind of product goes to.

    sram, dram, storage, nonlinear and bus are wanted by conventions that count them. The key-value cache lies in dram unless
    kv or kv_pim says otherwise. routing has every kind of `schema.KINDS` once; a product of `schema.PRODUCT_KINDS` may stand
    beside them and then goes its own way: {"projection": "array", "ff1": "pim", ...}. Raises BadInput for a kind left out,
    a name that is no kind, product or engine, attention routed to crossbars of weights (which are written once) or in part
    to those of keys and values, anything else routed to these, and an engine the system does not have.
    """

    name: str
    array: SystolicArray = declare(PART, "a systolic array")
    pim: Pim | None = declare(PART, "analog crossbar tiles, None where there are none", default=None)
    sram: Sram | None = declare(PART, "memory on the chip", default=None)
    dram: Dram | None = declare(PART, "memory off the chip", default=None)
    storage: Storage | None = declare(PART, "how numbers are stored", default=None)
    nonlinear: Nonlinear | None = declare(PART, "units for everything that is no matrix product", default=None)
    bus: Bus | None = declare(PART, "the link between the analog and the digital half", default=None)
    kv: KvStore | None = declare(PART, "a memory for the key-value cache alone", default=None)
    kv_pim: KvPim | None = declare(PART, "crossbars that hold keys and values", default=None)
    decoding: Decoding = declare(PART, "how a step is organised", default=ONE_BY_ONE)
    routing: Mapping[str, str] = declare(
        _TABLE, "kind of product -> engine", default_factory=lambda: dict.fromkeys(KINDS, "array")
    )

    def __post_init__(self) -> None:
        """Refuse routing that names nothing or leaves a kind out."""
        for name, engine in self.routing.items():
            if name not in KINDS and name not in PRODUCT_KINDS:
                raise unknown(f"kind of product in {self.name}.routing", name, [*KINDS, *PRODUCT_KINDS])
            if not isinstance(engine, str) or engine not in ENGINES:
                raise unknown(f"engine in {self.name}.routing.{name}", engine, ENGINES)
            if getattr(self, engine) is None:
                raise BadInput(f"{self.name}.routing sends {name} to {engine}, and {self.name} has none; wanted one")
            self._require_home(name, engine)
        left = [kind for kind in KINDS if kind not in self.routing]
        require(not left, f"{self.name}.routing", dict(self.routing), f"an engine for {', '.join(left)} too")
        together = {self.engine(op) for op in ATTENTION_OPS}
        whole = "kv_pim" not in together or len(together) == 1
        require(whole, f"{self.name}.routing", dict(self.routing), "all attention on kv_pim, or none")
        if self.kv is not None and self.kv_pim is not None:
            raise BadInput(f"{self.name} has kv and kv_pim; wanted one place for the key-value cache")

    def _require_home(self, name: str, engine: str) -> None:
        """Refuse attention on crossbars of weights, and anything else on those of keys and values."""
        attention = PRODUCT_KINDS.get(name, name) == "attention"
        if engine == "pim" and attention:
            raise BadInput(
                f"{self.name}.routing.{name} is 'pim'; wanted array or kv_pim: the key-value cache changes with every "
                "token, and the crossbars of pim are written once"
            )
        if engine == "kv_pim" and not attention:
            raise BadInput(f"{self.name}.routing.{name} is 'kv_pim'; wanted array or pim: it holds keys and values")

    def engine(self, op: str) -> str:
        """Return the engine a product goes to: its own, or that of its kind."""
        return self.routing.get(op, self.routing[PRODUCT_KINDS[op]])

    def routed(self, few: Iterable[str], dense: Iterable[str]) -> System:
        """Return the system for a model with a head of few bits among `few`, and projections of many, `dense`: each goes
        where its bits go, unless routing names it.
        """
        own = {**dict.fromkeys(few, self.routing["projection"]), **dict.fromkeys(dense, self.routing["head"])}
        return replace(self, routing=own | dict(self.routing)) if own else self

    @property
    def hybrid(self) -> bool:
        """Whether attention runs on the array and any projection does not."""
        projections = [op for op, kind in PRODUCT_KINDS.items() if kind == "projection"]
        return self.engine(ATTENTION_OPS[0]) == "array" and any(self.engine(op) != "array" for op in projections)

    @property
    def in_memory(self) -> bool:
        """Whether attention runs where keys and values lie."""
        return self.engine(ATTENTION_OPS[0]) == "kv_pim"
