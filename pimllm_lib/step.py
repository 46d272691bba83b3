"""One step to be costed: what each engine is given to do, and how it is counted."""

from __future__ import annotations

from pimllm_lib.conventions import Conventions
from pimllm_lib.llm import Decoder
from pimllm_lib.parts import Value, part
from pimllm_lib.workload import Elementwise, Product, elementwise, products


@part
class Step:
    """One step to be costed: the decoder as each engine has it, context, new tokens, and how to count."""

    array: Decoder
    pim: Decoder
    context: Value
    tokens: Value
    counting: Conventions

    def products(self, engine: str = "array") -> list[Product]:
        """Return the matrix products, with the shapes of an engine; the output head only where it is counted."""
        every = products(self.pim if engine == "pim" else self.array, self.context, self.tokens)
        return [p for p in every if p.kind != "head" or self.counting.lm_head]

    def elementwise(self) -> list[Elementwise]:
        """Return the nonlinear work."""
        return elementwise(self.array, self.context, self.tokens)
