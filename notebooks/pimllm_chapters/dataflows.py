"""Chapter 02, the three dataflows of the array: its figure, its table and its sentences."""

from __future__ import annotations

from typing import Any

import xarray as xr

from pimllm_lib.core.schema import SUBSYSTEMS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, decades, label, legend, log_ticks, panels
from pimllm_lib.report.numbers import span
from pimllm_lib.report.tables import Table, points
from pimllm_lib.report.text import Sentence, where
from pimllm_lib.system import metrics

#: Dataflow -> name, colour, line and marker: told apart by shape as well.
_LOOKS = {
    "os": ("output stationary", "#117733", "-", "o"),
    "ws": ("weight stationary", "#AA4499", "--", "s"),
    "is": ("input stationary", "#B8860B", ":", "^"),
}
#: Quantity compared -> title of its panel, and how its output-stationary value is written there.
_PANELS = {
    "cycles": ("Cycles", "{:.3g}"),
    "register_accesses_per_mac": ("Register accesses", "{:.2f} a MAC"),
    "sram_words_per_mac": ("SRAM words", "{:.3g} a MAC"),
    "array_j": ("Energy, array", "{:.3g} J"),
    "on_chip_j": ("Energy, with SRAM", "{:.3g} J"),
}


def measures(ds: xr.Dataset) -> xr.Dataset:
    """Return what the page compares, for one step: cycles, utilisation, accesses for each MAC, and energy of the array
    alone (array_j) and with its SRAM (on_chip_j). From a dataset split by component that has no latency.
    """
    whole = metrics.summary(ds)
    energy = ds.energy_j.sum("op")
    array = energy.sel(component=list(SUBSYSTEMS["array"])).sum("component")
    kept = whole[["cycles", "utilisation", "register_accesses_per_mac", "sram_words_per_mac"]]
    return kept.assign(array_j=array, on_chip_j=array + energy.sel(component="sram", drop=True))


def small_multiples(compared: xr.Dataset) -> Figure:
    """Draw each quantity relative to output stationary over context, a row a phase, for the last model."""
    one = compared.isel(model=-1).squeeze("system", drop=True)
    ratios = one / one.sel(dataflow="os")
    phases, contexts = [str(name) for name in one.phase.values], one.context_len.values
    with panels(
        len(phases), len(_PANELS), figsize=(7.8, 0.9 + 2.0 * len(phases)), sharex=True, sharey=True, squeeze=False
    ) as (drawn, axes):
        for row, phase in zip(axes, phases, strict=True):
            for ax, (name, (title, text)) in zip(row, _PANELS.items(), strict=True):
                ax.set(xscale="log", yscale="log")
                for i, (flow, (called, colour, dash, marker)) in enumerate(_LOOKS.items()):
                    look: dict[str, Any] = {"color": colour, "ls": dash, "marker": marker, "ms": 4 + 2 * i, "lw": 1.5}
                    hollow = {"mfc": "none"} if i else {}  # lets lines that coincide be seen
                    ax.plot(contexts, ratios[name].sel(phase=phase, dataflow=flow), label=called, **look, **hollow)
                ax.margins(x=0.14)
                first = one[name].sel(phase=phase, dataflow="os").isel(context_len=0)
                ax.set_title(f"{title}\nOS: {text.format(first.item())}", fontsize=8.5)
            row[0].set_ylabel(f"{phase.capitalize()}, OS = 1")
        log_ticks(axes[0, 0], "x", contexts)
        log_ticks(axes[0, 0], "y", decades(1, 2, 5))
        for ax in axes[-1]:
            ax.tick_params(axis="x", labelrotation=90, labelsize=8.5)
        drawn.supxlabel(label(one.context_len), fontsize=10)
        legend(drawn, axes[0, 0], "upper")
    others = ratios.sel(dataflow=["ws", "is"])
    said = [f"{title.lower()} from {span(others[name], '.2f')}" for name, (title, _) in _PANELS.items()]
    alt = f"Weight and input stationary relative to output stationary over context, {one.model.item()}: {'; '.join(said)}."
    return Figure(drawn, alt)


def fewest(compared: xr.Dataset) -> Table:
    """Return each quantity of the three dataflows at the shortest and longest context, and which has the least."""
    one = compared.squeeze("system", drop=True)
    contexts = sorted({int(one.context_len.min()), int(one.context_len.max())})
    rows = []
    for phase, tokens, model, at in points(one.sel(context_len=contexts), "phase", "context_len", "model"):
        for name, (title, _) in _PANELS.items():
            shown = {flow.upper(): f"{at[name].sel(dataflow=flow).item():.4g}" for flow in _LOOKS}
            least = str(at.dataflow.values[int(at[name].values.argmin())]).upper()
            rows.append({"phase": phase, "l": tokens, "model": model, "quantity": title, **shown, "least": least})
    return Table(rows, long=True, title="Quantities of the three dataflows, and which has the least")


def box(compared: xr.Dataset) -> Box:
    """Return the box of the page: what a decoding step costs in each dataflow, over all models and contexts."""
    decode = compared.sel(phase="decode")
    ratios = decode / decode.sel(dataflow="os")
    more = {flow: span(ratios.cycles.sel(dataflow=flow), ".2f") for flow in ("ws", "is")}
    fewest = "the fewest" if bool((ratios.cycles >= 1).all()) else "not always the fewest"
    used = 100 * decode.utilisation.max().item()
    return Box(
        question="Which dataflow decodes with the least work?",
        answer=f"Output stationary takes {fewest} cycles: weight stationary takes {more['ws']} times as many, input "
        f"stationary {more['is']} times.",
        sure="Cycles equal those of a simulator; energies rest on a fit.",
        decides=f"One vector at a time: whatever the dataflow, at most {used:.1f} % of multiplier cycles are useful.",
    )


def prefill_turn(compared: xr.Dataset) -> Sentence:
    """Return where another dataflow than output stationary takes the fewest cycles in prefill, and the most it saves."""
    cycles = compared.cycles.sel(phase="prefill").squeeze("system", drop=True)
    ratios = cycles / cycles.sel(dataflow="os")
    best = ratios.min("dataflow")
    won, most = int((best < 1).sum()), best.isel(best.argmin(...))
    if not won:
        return Sentence(f"In prefill output stationary takes the fewest cycles at all {best.size} points too.")
    flow = str(ratios.dataflow.values[int(ratios.sel(model=most.model, context_len=most.context_len).values.argmin())])
    return Sentence(
        f"In prefill another dataflow takes fewer cycles than output stationary at {won} of {best.size} points. The largest "
        f"saving is {100 * (1 - most.item()):.1f} %, by {_LOOKS[flow][0]}, for {where(most)}."
    )


def sram_turn(compared: xr.Dataset) -> Sentence:
    """Return how the lead of output stationary over input stationary depends on charging SRAM, decode and prefill."""
    ratios = (compared / compared.sel(dataflow="os")).sel(dataflow="is")
    alone, both = (
        {p: span(ratios[name].sel(phase=p), ".2f") for p in ("decode", "prefill")} for name in ("array_j", "on_chip_j")
    )
    return Sentence(
        f"Input against output stationary, energy: {alone['decode']} times for the array alone and {both['decode']} with "
        f"SRAM in decoding, {alone['prefill']} and {both['prefill']} times in prefill."
    )
