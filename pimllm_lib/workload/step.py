"""One step to be costed: what each engine is given to do, and how it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pimllm_lib.core.conventions import Conventions
from pimllm_lib.core.parts import Value, declare, part, require
from pimllm_lib.core.rules import ANY
from pimllm_lib.hardware import ONE_BY_ONE, Decoding
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.products import Elementwise, Product, cache_words, elementwise, products, together


@part
class Step:
    """One step to be costed."""

    array: Decoder = declare(ANY, "the decoder as the systolic array has it")
    pim: Decoder = declare(ANY, "the decoder as the crossbars have it")
    context: Value = declare(ANY, "tokens in the key-value cache")
    tokens: Value = declare(ANY, "new tokens of a sequence")
    counting: Conventions = declare(ANY, "how the step is counted")
    way: Decoding = declare(ANY, "how the step is organised", default=ONE_BY_ONE)
    outputs: Value = declare(ANY, "tokens that reach the output head", default=1)

    @property
    def vectors(self) -> Value:
        """New tokens of all sequences."""
        return together(self.tokens, self.way)

    def products(self, engine: str = "array") -> list[Product]:
        """Return the matrix products, with the shapes of an engine; the output head only where it is counted."""
        shape = self.pim if engine == "pim" else self.array
        every = products(shape, self.context, self.tokens, way=self.way, outputs=self.outputs)
        return [p for p in every if p.kind != "head" or self.counting.lm_head]

    def elementwise(self) -> list[Elementwise]:
        """Return the nonlinear work."""
        return elementwise(self.array, self.context, self.tokens, way=self.way)

    def cache_words(self) -> Value:
        """Return the numbers in the key-value caches."""
        return cache_words(self.array, self.context, self.way)


def decoding_passes(step: Step, way: Decoding) -> Iterator[tuple[Step, Value]]:
    """Yield the passes of one step of decoding, each with how often it is done: the checking one first, then drafting.

    step: over one token. Raises BadInput for more drafting blocks than the model has.
    """
    guess = way.speculation
    if guess is None:
        yield replace(step, way=way, outputs=together(1, way)), 1
        return
    checked = guess.draft_len + 1
    yield replace(step, way=way, tokens=checked, outputs=together(checked, way)), 1
    layers = guess.draft_layers
    wanted = f"at most the {int(np.min(step.array.n_layers))} blocks of the model"
    require(layers <= np.asarray(step.array.n_layers), "Speculation.draft_layers", layers, wanted)
    array, pim = replace(step.array, n_layers=layers), replace(step.pim, n_layers=layers)
    yield replace(step, way=way, outputs=together(1, way), array=array, pim=pim), guess.draft_len


def tokens_of(way: Decoding) -> Value:
    """Return the tokens that one step of decoding makes on average, over all sequences."""
    made = 1 if way.speculation is None else way.speculation.accepted
    return together(made, way)
