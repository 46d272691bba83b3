"""How a machine decodes: how many sequences at once, how their attention is cut and packed, and what is guessed ahead."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.parts import (
    Value,
    numeric,
    part,
    require,
    require_counts,
    require_flags,
    require_inner,
    require_positive,
)


@part
class Speculation:
    """A few tokens are drafted by the model's own first blocks, then all of them are checked in one step.

    draft_len: tokens drafted; acceptance: chance that one is accepted, independent of the others; draft_layers: blocks
    that draft, the first of the model's own, so that drafting takes no weights and no cache of its own. Source of the
    scheme: Leviathan et al. (2023); of drafting with the first blocks: LayerSkip, Elhoushi et al. (2024).
    """

    name: str
    draft_len: Value
    acceptance: Value
    draft_layers: Value

    def __post_init__(self) -> None:
        """Refuse a draft of no tokens or no blocks, and chances that are none."""
        require_counts(self, ("draft_len", "draft_layers"))
        require_positive(self, ("acceptance",), or_zero=True)
        numeric("Speculation.acceptance", self.acceptance, "a chance from 0 to 1")
        require(self.acceptance <= 1, "Speculation.acceptance", self.acceptance, "a chance from 0 to 1")

    @property
    def accepted(self) -> Value:
        """Return the tokens that a checked draft yields on average: 1 + a + ... + a^draft_len, the checker's own
        included.
        """
        certain = np.asarray(self.acceptance) == 1
        chance = np.where(certain, 0.5, self.acceptance)
        return np.where(certain, self.draft_len + 1.0, (1 - chance ** (self.draft_len + 1)) / (1 - chance))


@part
class Decoding:
    """How a step of decoding is organised. Every default is the published way: one sequence, one token, head by head.

    batch: sequences that take a step together; projections then have as many vectors, and the cache as many copies.
    pack_heads: query heads that share keys and values are rows of one product, else each has a product of its own.
    splits: parts that the context of a head is cut into, each a product of its own, whose partial results are then
    reduced: of whole tokens, as even as can be, and no more parts than tokens. pipelined: one half of the batch is on
    the crossbars while the other is on the array; nothing to gain with a batch of 1. speculation: None where no tokens
    are drafted.
    """

    name: str
    batch: Value = 1
    pack_heads: Value = False
    splits: Value = 1
    pipelined: Value = False
    speculation: Speculation | None = None

    def __post_init__(self) -> None:
        """Refuse counts below 1 and switches that are none."""
        require_counts(self, ("batch", "splits"))
        require_flags(self, ("pack_heads", "pipelined"))
        if self.speculation is not None:
            require_inner(self, speculation=Speculation)


#: The published way.
ONE_BY_ONE = Decoding(name="one-by-one")
