"""How a machine decodes: how many sequences at once, how their attention is cut and packed, and what is guessed ahead."""

from __future__ import annotations

import numpy as np

from pimllm_lib.core.parts import Value, declare, part
from pimllm_lib.core.rules import CHANCE, COUNT, FLAG, PART


@part
class Speculation:
    """A few tokens are drafted by the model's own first blocks, then all of them are checked in one step. Drafting takes no
    weights and no cache of its own. Source of the scheme: Leviathan et al. (2023); of drafting with the first blocks:
    LayerSkip, Elhoushi et al. (2024).
    """

    name: str
    draft_len: Value = declare(COUNT, "tokens drafted")
    acceptance: Value = declare(CHANCE, "chance that one is accepted, independent of the others")
    draft_layers: Value = declare(COUNT, "blocks that draft, the first of the model's own")

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

    With a batch, projections have as many vectors, and the cache as many copies. Parts of a context are of whole tokens, as
    even as can be, and no more than there are tokens. A pipeline has nothing to gain with a batch of 1.
    """

    name: str
    batch: Value = declare(COUNT, "sequences that take a step together", default=1)
    pack_heads: Value = declare(
        FLAG, "query heads that share keys and values are rows of one product, else each has its own", default=False
    )
    splits: Value = declare(
        COUNT, "parts that a head's context is cut into, products whose partial results are then reduced", default=1
    )
    pipelined: Value = declare(FLAG, "half of the batch is on the crossbars, the other on the array", default=False)
    speculation: Speculation | None = declare(PART, "how tokens are drafted, None where none are", default=None)


#: The published way.
ONE_BY_ONE = Decoding(name="one-by-one")
