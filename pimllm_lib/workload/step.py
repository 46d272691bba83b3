"""One step to be costed: what each engine is given to do, and how it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pimllm_lib.core.conventions import Conventions
from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import Value, declare, part, require
from pimllm_lib.core.rules import ANY
from pimllm_lib.hardware import ONE_BY_ONE, Decoding
from pimllm_lib.workload.caches import cache_words
from pimllm_lib.workload.decoder import Decoder, kinds, together
from pimllm_lib.workload.elements import Elementwise, elementwise
from pimllm_lib.workload.products import Product, block_products, outer_products


@part
class Step:
    """One step to be costed, or what the blocks of one kind do in it, see `parts`."""

    array: Decoder = declare(ANY, "the decoder as the systolic array has it")
    pim: Decoder = declare(ANY, "the decoder as the crossbars have it")
    context: Value = declare(ANY, "tokens in the key-value cache")
    tokens: Value = declare(ANY, "new tokens of a sequence")
    counting: Conventions = declare(ANY, "how the step is counted")
    way: Decoding = declare(ANY, "how the step is organised", default=ONE_BY_ONE)
    outputs: Value = declare(ANY, "tokens that reach the output head", default=1)
    whole: Step | None = declare(ANY, "the step that it is a part of, None where it is one", default=None)
    place: tuple[int, int] = declare(ANY, "which part it is, from 0, and of how many", default=(0, 1))

    def parts(self) -> list[Step]:
        """Return a step for each kind of blocks, with what is outside of the blocks in the last one; itself where all
        are alike.
        """
        if not self.array.blocks:
            return [self]
        pairs = list(zip(kinds(self.array), kinds(self.pim), strict=True))
        return [
            replace(self, array=array, pim=pim, whole=self, place=(i, len(pairs)))
            for i, (array, pim) in enumerate(pairs)
        ]

    @property
    def first(self) -> bool:
        """Whether it is the first of its parts, which what the machine has once is charged to."""
        return self.place[0] == 0

    @property
    def layers(self) -> Value:
        """Decoder blocks of all parts."""
        return (self.whole or self).array.n_layers

    @property
    def vectors(self) -> Value:
        """New tokens of all sequences."""
        return together(self.tokens, self.way)

    def products(self, engine: str = "array") -> list[Product]:
        """Return the matrix products, with the shapes of an engine; the output head only where it is counted."""
        if self.array.blocks:
            return [product for part in self.parts() for product in part.products(engine)]
        shape = self.pim if engine == "pim" else self.array
        inside = block_products(shape, self.context, self.tokens, way=self.way)
        if self.place[0] + 1 < self.place[1]:
            return inside
        *beside, head = outer_products(shape, self.vectors, self.outputs)
        return [*inside, *beside, *([head] if self.counting.lm_head else [])]

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
    if step.array.blocks:
        raise BadInput(
            "speculation drafts with the first blocks of a model whose blocks are not alike; wanted them alike"
        )
    require(layers <= np.asarray(step.array.n_layers), "Speculation.draft_layers", layers, wanted)
    array, pim = replace(step.array, n_layers=layers), replace(step.pim, n_layers=layers)
    yield replace(step, way=way, outputs=together(1, way), array=array, pim=pim), guess.draft_len


def tokens_of(way: Decoding) -> Value:
    """Return the tokens that one step of decoding makes on average, over all sequences."""
    made = 1 if way.speculation is None else way.speculation.accepted
    return together(made, way)
