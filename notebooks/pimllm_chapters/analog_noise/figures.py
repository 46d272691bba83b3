"""Chapter 11, how much noise a crossbar may have: its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from pimllm_lib.analog.noise.law import FAMILIES, of_family
from pimllm_lib.analog.noise.thresholds import LEVELS
from pimllm_lib.report.figure import Figure, decades, log_ticks, panels
from pimllm_lib.report.numbers import power

#: Panel of a departure -> label of its axis, and its curves with the words beside them.
PANELS: dict[str, tuple[str, dict[str, str]]] = {
    "Variation": ("standard deviation over conductance", {
        "variation": "normal", "variation, lognormal": "lognormal", "variation, on/off 10": "on/off 10"}),
    "Stuck cells": ("share of cells", {"stuck on": "on", "stuck off": "off"}),
    "Noise of reads": ("standard deviation over current", {
        "read noise, two's complement": "two's complement", "read noise, sign-magnitude": "sign-magnitude"}),
    "Noise of outputs": ("standard deviation in on-cell currents", {"output noise": ""}),
    "Drift, exponent 0.05 ± 0.02": ("time over first time", {"drift": "as it is", "drift, one gain": "one gain"}),
    "Wires": ("ohm from cell to cell", {
        "wire": "bit lines alone", "wire, word lines, apart": "word lines too, apart",
        "wire, word lines, side by side": "side by side"}),
}  # fmt: skip
#: Encoding of the inputs -> what follows the range in the name of a curve.
ENCODINGS = {"two's complement": "in 1-bit planes", "sign-magnitude": "in 1-bit planes", "one pass": "8-bit DAC"}
#: Range -> colour and marker.
RANGES = {"worst case": ("#D55E00", "s"), "unit step": ("#009E73", "^"), "4 sigma": ("#0072B2", "o")}
_CURVES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))
#: Least rise that a figure shows, and the greatest, in %.
FLOOR, TOP = 0.01, 1000.0
#: Colour and marker of each family of departures.
LOOKS = (("#0072B2", "o"), ("#009E73", "^"), ("#CC79A7", "v"), ("#56B4E9", "<"), ("#000000", "*"), ("#D55E00", "s"))


def curves(ds: xr.Dataset) -> Figure:
    """Draw the rise of the perplexity along each departure of the cells, with bands."""
    with panels(2, 3, figsize=(9.2, 5.6), sharey=True) as (drawn, axes):
        for ax, (title, (label, shown)) in zip(axes.flat, PANELS.items(), strict=True):
            _lines(ax, ds, shown, _CURVES)
            ax.set_title(title, fontsize=10, loc="left")
            ax.set_xlabel(label)
            ax.set_xscale("log")
            low, high = ax.get_xlim()
            inside = [tick for tick in decades(1, 2, 5) if low <= tick <= high]
            log_ticks(ax, "x", inside if len(inside) < 7 else decades())
            if high > 1e4:
                ax.xaxis.set_major_formatter(lambda value, _: power(value))
        _rises(axes[:, 0], axes.flat, top=TOP)
    return Figure(drawn, f"Rise of the perplexity along {len(PANELS)} departures of cells, with 95 % bands.")


def _rises(left: Sequence[Axes], every: Any, *, top: float) -> None:
    """Put the rise on the left axes, and lines at both levels everywhere."""
    for ax in every:
        ax.set_yscale("log")
        ax.set_ylim(FLOOR, top)
        log_ticks(ax, "y", [tick for tick in decades() if tick <= 10000])
        for level in LEVELS:
            ax.axhline(100 * level, color="#888888", lw=0.8, ls=(0, (4, 3)), zorder=0)
    for ax in left:
        ax.set_ylabel("Rise of the perplexity (%)")


def _lines(ax: Axes, ds: xr.Dataset, shown: dict[str, str], looks: Sequence[tuple[str, str]]) -> None:
    for (curve, words), (colour, marker) in zip(shown.items(), looks, strict=False):
        at = ds.sel(case=(ds.curve == curve) & np.isfinite(ds.value))
        if not at.case.size:
            continue
        x, order = at.value.values, np.argsort(at.value.values)
        rises = (at[f"perplexity_rise{end}"].values for end in ("", "_low", "_high"))
        y, low, high = (np.maximum(100 * rise, FLOOR / 2) for rise in rises)
        ax.fill_between(x[order], low[order], high[order], color=colour, alpha=0.2, lw=0)
        ax.plot(x[order], y[order], color=colour, marker=marker, ms=4, label=words)
    if any(shown.values()) and ax.lines:
        ax.legend(frameon=False, fontsize=8.5, loc="upper left", handlelength=1.4, borderaxespad=0.1)


def converters(ds: xr.Dataset) -> Figure:
    """Draw the rise of the perplexity over bits of a converter, a panel an encoding, a line a range."""
    with panels(1, 3, figsize=(9.2, 3.5), sharey=True) as (drawn, axes):
        for ax, (encoding, how) in zip(axes, ENCODINGS.items(), strict=True):
            _lines(ax, ds, {f"{name}, {encoding}": name for name in RANGES}, list(RANGES.values()))
            ax.set_title(f"{encoding}, {how}", fontsize=10, loc="left")
            ax.set_xlabel("Bits of the converter")
            ax.get_legend().set_loc("upper right")
            ax.set_xticks(range(3, 10))
        _rises(axes[:1], axes, top=1e5)
    alt = (
        "Rise of the perplexity over bits of the converter, for three encodings of the inputs and three ranges; a "
        "step of one cell is no choice for inputs in one pass."
    )
    return Figure(drawn, alt)


def law(ds: xr.Dataset) -> Figure:
    """Draw the rise of the loss over the measured noise-to-signal ratio, with the line of one kappa."""
    ratio = ds.noise_to_signal.mean("matrix")
    with panels(figsize=(6.4, 4.4)) as (drawn, ax):
        ends = np.array([3e-4, 1.0])
        ax.plot(ends, float(ds.kappa) * ends, color="#888888", lw=1.2, zorder=0)
        for family, (colour, marker) in zip(FAMILIES, LOOKS, strict=True):
            at = ds.sel(case=of_family(ds, family) & (ds.loss_rise.values > 0) & (ratio.values > 0))
            ax.plot(ratio.sel(case=at.case), at.loss_rise, marker, color=colour, ms=7 if marker == "*" else 4.5,
                    mfc="none" if marker == "s" else colour, label=family)  # fmt: skip
        ax.set(xscale="log", yscale="log", xlim=(3e-4, 2), ylim=(1e-4, 10),
               xlabel="Noise over signal, mean over matrices", ylabel="Rise of the loss of a token (nats)")  # fmt: skip
        ax.annotate(f"κ = {float(ds.kappa):.2f}", (0.6, 0.72 * float(ds.kappa) * 0.6), fontsize=9)
        ax.legend(frameon=False, fontsize=8.5, loc="upper left")
    alt = (
        "Rise of the loss over noise to signal: cells that vary or are stuck lie along one line, wires and drift "
        "below it, converters above."
    )
    return Figure(drawn, alt)
