"""Chapter 16, what the analog engine computes: predicted and measured noise, and the models it will be tried on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.ticker import MultipleLocator

from pimllm_lib.analog.lm.readers import READERS
from pimllm_lib.report.box import Box
from pimllm_lib.report.figure import Figure, legend, panels
from pimllm_lib.report.numbers import listed, span
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence

#: Marker and colour of each width in turn, told apart by shape as well.
_LOOKS = (("o", "#0072B2"), ("s", "#D55E00"), ("^", "#009E73"), ("D", "#CC79A7"), ("v", "#B8860B"))
#: The agreement asked for.
BAND = 0.1


def box(ds: xr.Dataset) -> Box:
    """Return the box of the page: how near measured noise is to its form, and how far that carries over."""
    worst = float(abs(_ratio(ds) - 1).max())
    change, error = _against_twin(ds)
    return Box(
        question="Can the analog engine be trusted?",
        answer=f"Yes: measured noise is within {100 * worst:.1f} % of its closed form for all {ds.cause.size} departures at "
        f"{listed(ds.fan_in.values, '.0f')} inputs.",
        sure=f"Nothing is fitted; {ds.device_seed.size} crossbars were drawn for each.",
        decides=f"Independent inputs: in a trained model the noise is {span(ds.carried_over, '.2f')} times the form.",
        more=f"On text the perplexity of the ternary models is {abs(change):.1f} ± {error:.1f} % "
        f"{'above' if change >= 0 else 'below'} that of their full-precision twin (standard error of seeds and windows).",
    )


def _seeds(ds: xr.Dataset | xr.DataArray) -> list[str]:
    """Return the readers that are ternary models, each of its own training seed."""
    return [str(reader) for reader in ds.reader.values if str(reader).startswith("seed")]


def _against_twin(ds: xr.Dataset) -> tuple[float, float]:
    """Return by how many percent the ternary models' perplexity differs, and the standard error of seeds and windows."""
    loss = ds.held_out_loss.sel(corpus="docstrings")
    apart = (loss.sel(reader=_seeds(ds)) - loss.sel(reader="full precision")).transpose("reader", "text_window")
    of_seeds = float(apart.mean("text_window").std("reader", ddof=1)) / np.sqrt(apart.reader.size)
    of_windows = float(apart.mean("reader").std("text_window", ddof=1)) / np.sqrt(apart.text_window.size)
    mean = float(apart.mean())
    return 100 * float(np.expm1(mean)), 100 * float(np.exp(mean)) * float(np.hypot(of_seeds, of_windows))


def carried(ds: xr.Dataset) -> Sentence:
    """Return how far the closed forms carry over to a trained model."""
    carry = ds.carried_over
    parts = [f"{span(carry.sel(departure=name), '.2f')} times the form for {name}" for name in ds.departure.values]
    return Sentence(f"In the {ds.matrix.size} matrices of the first text model the noise is {' and '.join(parts)}.")


def _ratio(ds: xr.Dataset) -> xr.DataArray:
    ratio: xr.DataArray = ds.noise_to_signal.mean("device_seed") / ds.predicted_noise_to_signal
    return ratio


def agreement(ds: xr.Dataset) -> Figure:
    """Draw measured over predicted noise: a row a departure, a mark a width, a line as long as the seeds spread."""
    ratio = _ratio(ds)
    spread = ds.noise_to_signal.std("device_seed") / ds.predicted_noise_to_signal
    names, rows = [str(name) for name in ds.cause.values], np.arange(ds.cause.size)
    with panels(figsize=(7.4, 1.2 + 0.27 * len(names))) as (drawn, ax):
        ax.axvspan(100 * (1 - BAND), 100 * (1 + BAND), color="#888888", alpha=0.13, lw=0)
        ax.axvline(100, color="#888888", lw=0.8)
        for number, (inputs, (marker, colour)) in enumerate(zip(ds.fan_in.values, _LOOKS, strict=False)):
            at = rows + 0.22 * (number - (ds.fan_in.size - 1) / 2)
            here, wide = 100 * ratio.sel(fan_in=inputs), 100 * spread.sel(fan_in=inputs)
            ax.errorbar(here, at, xerr=wide, fmt=marker, color=colour, ms=4, lw=1, label=f"{int(inputs)} inputs")
        ax.set_yticks(rows, names)
        ax.xaxis.set_major_locator(MultipleLocator(5))
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlabel("Measured over predicted noise-to-signal ratio (%)")
        legend(drawn, ax, "upper", ncols=5)
    alt = (
        f"Measured over predicted noise of {len(names)} departures at {ds.fan_in.size} widths: all from "
        f"{span(100 * ratio, '.0f')} %; the band is 90 to 110 %."
    )
    return Figure(drawn, alt)


def numbers(ds: xr.Dataset) -> Table:
    """Return predicted and measured ratios at each width, in decibels of signal over noise."""
    columns = {"departure, predicted / measured": [str(name) for name in ds.cause.values]}
    for inputs in ds.fan_in.values:
        at = ds.sel(fan_in=inputs)
        both = -10 * np.log10([at.predicted_noise_to_signal.values, at.noise_to_signal.mean("device_seed").values])
        columns[f"{int(inputs)} inputs"] = [f"{form:.2f} / {found:.2f}" for form, found in both.T]
    return Table(pd.DataFrame(columns), long=True, title="Predicted and measured signal over noise, in decibels")


def readers(ds: xr.Dataset) -> Table:
    """Return the perplexity of each reader on both corpora: of the ternary models the least and the greatest."""

    def shown(corpus: str, names: list[str]) -> str:
        found = ds.perplexity.sel(corpus=corpus, reader=names).dropna("reader")
        return span(found, ".3f") if found.size else ""

    seeds = _seeds(ds)
    counts = " and ".join(str(int(n)) for n in ds.perplexity.sel(reader=seeds).count("reader"))
    rows = [
        {
            "reader": reader, "what it is": what, "docstrings, a byte": shown("docstrings", names),
            "generated, a symbol": shown("generated", names),
        }
        for reader, what, names in (
            ("ternary models", f"{counts} trained alike, each from a seed of its own", seeds),
            *((reader, what, [reader]) for reader, what in READERS.items()),
        )
    ]  # fmt: skip
    return Table(rows, title="Perplexity of each reader on both corpora")


def gap(ds: xr.Dataset) -> Sentence:
    """Return how far each model of the generated source stays above the floor."""
    made = ds.perplexity.sel(corpus="generated").dropna("reader")
    floor, blind = (np.log(float(made.sel(reader=name))) for name in ("floor", "best without the header"))
    left = [np.log(float(made.sel(reader=reader))) - floor for reader in [*_seeds(made), "full precision"]]
    return Sentence(
        f"On the generated source the ternary models stay {span(left[:-1], '.3f')} nats above the exact entropy of "
        f"{floor:.3f}, and the twin {left[-1]:.3f}; who cannot see the header stays {blind - floor:.3f} above it."
    )
