"""Accounting choices, each a named field, and the presets that combine them.

A published number is the product of a machine and of a way to count. The machine is in the catalog; the way to count
is here, so that either can be changed alone.
"""

from __future__ import annotations

from dataclasses import replace

from pimllm_lib.core.errors import BadInput
from pimllm_lib.core.parts import part, switch


@part
class Conventions:
    """How a result is counted. The first nine fields, when on, count as the original study did; the others add what it
    leaves out.
    """

    name: str
    published_ffn_width: bool = switch("""use the FFN width a study used where it departs from the model's own. The
        published GPT-2 rows have d_ff = d_model, where the models have four times that. The array and the crossbars
        do less work.""")
    published_ffn_gate: bool = switch("""use the number of FFN matrices a study used. The published LLaMA rows have
        two, up and down, where the models have a gate too. Both engines do less work.""")
    published_pim_width: bool = switch("""use the width a study gave its crossbar simulation where it departs from the
        one it gave the array. The published GPT2-1.5B has 1792 on the crossbars and 1600 on the array. The crossbars
        do more work. It comes with a published FFN width, so it cannot be on without `published_ffn_width`.""")
    attention_energy_once: bool = switch("""charge the energy of attention once a token, not once a decoder block,
        where attention and projections run on different engines. Energy of the hybrid is too low, the more so the
        longer the context.""")
    dummy_first_layer: bool = switch("""map the first matrix with the input length of the dummy layer that preceded
        it, and size every input buffer for that layer. Energy of the crossbars is too high, by 1.6 to 3.1 times for
        the published models.""")
    output_reread: bool = switch("""count the read of the output buffer twice. Latency of the crossbars is too high by
        2.56 us a matrix.""")
    floor_block: bool = switch("round the latency of a block on the crossbars down to whole nanoseconds.")
    sample_rate_is_clock: bool = switch("""take the sample rate of a converter for a clock, and bits + 2 of its periods
        for one conversion, as the simulator behind the study does. Its source has one conversion a period: 1.56 pJ
        where 15.6 pJ are charged. Time and energy of the crossbars are too high.""")
    fixed_buffer_access: bool = switch("""charge every word of a buffer `fixed_s`, 20 ns in the simulator behind the
        study, whatever time its own table has. Latency of the crossbars is too high, and with it the leakage charged
        for each word.""")
    auxiliary_parts: bool = switch("""charge post-processing, input distributor, global buffer and controller, which
        the machine has and the published numbers leave out. Their costs are assumptions.""")
    lm_head: bool = switch("compute the output head, once a token, where the study leaves it out.")
    memory: bool = switch("""charge SRAM accesses and off-chip traffic of weights, cache and activations, and wait for
        it.""")
    nonlinear: bool = switch("charge softmax, norms, activation functions and residual additions.")
    transfers: bool = switch("charge vectors between the analog and the digital half, and the start of each product.")
    overlap: bool = switch("""start attention scores when query and key are there, with the value projection still
        running.""")
    static_power: bool = switch("""charge leakage of buffers, converters, array and SRAM, and standby of off-chip
        memory, over the token.""")
    power_gating: bool = switch("""switch tiles off between their turns; they draw `gated_share` of their static power
        then. It says how static power is charged, so it cannot be on without `static_power`.""")

    def __post_init__(self) -> None:
        """Refuse switches that contradict each other."""
        if self.published_pim_width and not self.published_ffn_width:
            raise BadInput(
                "Conventions.published_pim_width is on and published_ffn_width off; wanted both on or the width off: "
                "the published crossbar width comes with an FFN of the same width"
            )
        if self.power_gating and not self.static_power:
            raise BadInput(
                "Conventions.power_gating is on and static_power off; wanted both on or power_gating off: "
                "gating says how static power is charged"
            )


#: The fields that choose how to count.
SWITCHES = tuple(name for name in Conventions.__annotations__ if name != "name")

#: Those that say how the study counted; the others add what it leaves out.
SLIPS = SWITCHES[: SWITCHES.index("auxiliary_parts")]

CORRECTED = Conventions(name="corrected", **dict.fromkeys(SWITCHES, False))
AS_PUBLISHED = replace(CORRECTED, name="as-published", **dict.fromkeys(SLIPS, True))
FULL_SYSTEM = replace(CORRECTED, name="full-system", **{name: name not in SLIPS for name in SWITCHES})

#: The order in which one preset is turned into the next, a field at a time. A published crossbar width goes before the FFN
#: width it comes with, gating after the static power it gates.
ORDER = (
    "attention_energy_once", "dummy_first_layer", "sample_rate_is_clock", "fixed_buffer_access", "output_reread",
    "floor_block", "published_pim_width",
    "published_ffn_width", "published_ffn_gate", "lm_head", "memory", "nonlinear", "transfers", "auxiliary_parts",
    "overlap", "static_power", "power_gating",
)  # fmt: skip


def walk() -> list[Conventions]:
    """Return the way from as-published through corrected to full-system; each differs from the one before in one field."""
    steps = [AS_PUBLISHED]
    for name in ORDER:
        sign = "-" if name in SLIPS else "+"
        steps.append(replace(steps[-1], name=f"{sign} {name}", **{name: name not in SLIPS}))
    steps[len(SLIPS)], steps[-1] = CORRECTED, FULL_SYSTEM
    return steps


def alone() -> list[Conventions]:
    """Return each field of `walk` changed alone: slips put right as-published, additions charged on top of corrected.

    A field that needs another takes it along: the FFN width its crossbar width, gating its static power.
    """
    along = {"published_ffn_width": {"published_pim_width": False}, "power_gating": {"static_power": True}}
    return [
        replace(AS_PUBLISHED if name in SLIPS else CORRECTED, name=f"only {name}",
                **{name: name not in SLIPS} | along.get(name, {}))
        for name in ORDER
    ]  # fmt: skip


PRESETS = {preset.name: preset for preset in (AS_PUBLISHED, CORRECTED, FULL_SYSTEM)}
