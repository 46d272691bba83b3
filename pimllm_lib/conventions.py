"""Accounting choices, each a named field, and the presets that combine them.

A published number is the product of a machine and of a way to count. The machine is in the catalog; the way to count
is here, so that either can be changed alone.
"""

from __future__ import annotations

from pimllm_lib.errors import BadInput
from pimllm_lib.parts import part


@part
class Conventions:
    """How a result is counted.

    published_ffn_width: use the FFN width a study used where it departs from the model's own. The published GPT-2 rows
    have d_ff = d_model, where the models have four times that.
    published_ffn_gate: use the number of FFN matrices a study used. The published LLaMA rows have two, up and down,
    where the models have a gate too.
    Both act only on models with published data in the catalog; any other keeps its true shape.
    """

    name: str
    published_ffn_width: bool
    published_ffn_gate: bool

    def __post_init__(self) -> None:
        """Refuse a switch that is not one."""
        for field in ("published_ffn_width", "published_ffn_gate"):
            if not isinstance(got := getattr(self, field), bool):
                raise BadInput(f"Conventions.{field} is {got!r}; wanted True or False")


AS_PUBLISHED = Conventions(name="as-published", published_ffn_width=True, published_ffn_gate=True)
CORRECTED = Conventions(name="corrected", published_ffn_width=False, published_ffn_gate=False)

PRESETS = {preset.name: preset for preset in (AS_PUBLISHED, CORRECTED)}
