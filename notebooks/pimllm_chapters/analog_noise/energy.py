"""Chapter 11, energy against accuracy: its sentence, its table and its figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pimllm_chapters.analog_noise.tables import rise
from pimllm_lib.analog.noise import energy
from pimllm_lib.analog.noise.energy import CONVENTIONS, HOME, cheapest_within, front, kept, knee
from pimllm_lib.catalog.converters import PARTS, converters
from pimllm_lib.report.figure import Figure, decades, label, log_ticks, note, panels
from pimllm_lib.report.numbers import span
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence, escaped
from pimllm_lib.sweep.reduction import Reduction

#: The saving below which a design is not worth building.
WORTH = 0.01
_GREY, _DARK, _FRONT, _KNEE, _HOME = "#999999", "#666666", "#0072B2", "#D55E00", "#009E73"


def answer(ds: xr.Dataset) -> Sentence:
    """Return the answer of the page: the knee under each way to count, and the cheapest design that spoils nothing."""
    head = f"{escaped(ds.model.item())} at {ds.context_len.item()} tokens, energies over that of the published design"
    return Sentence(f"{head} ({_named(HOME)}). " + " ".join(_judged(ds, name) for name in map(str, CONVENTIONS)))


def _judged(ds: xr.Dataset, conventions: str) -> str:
    best, home, within = knee(ds, conventions), _at(ds, conventions, HOME), cheapest_within(ds, conventions)
    ratio = (best.energy_j / home.energy_j).item()
    alike = (_at(ds, conventions, _knobs(best) | {"adc_bits": HOME["adc_bits"]}).energy_j / home.energy_j).item()
    told = (
        f"{_named(_knobs(best))}: {ratio:.3g} of the energy, where {HOME['adc_bits']} bits at the same sharing and rate "
        f"take {alike:.3g}, and perplexity higher by {rise(best)}.{_reserve(ratio, alike)}"
    )
    if best.attrs["front"] == 1:
        text = f"Under {conventions} there is no trade: one design is best in energy and in perplexity, {told}"
    elif best.attrs["below_chord"] > 0:
        text = f"Under {conventions} the knee is {told}"
    else:
        text = f"Under {conventions} the front of {best.attrs['front']} designs has no knee."
    if within is None:
        return f"{text} No resolution tried is sure to stay within {100 * energy.LEVEL:g} %."
    share = (within.energy_j / home.energy_j).item()
    return (
        f"{text} The cheapest sure to stay within {100 * energy.LEVEL:g} % is {_named(_knobs(within))}, at {share:.3g}."
    )


def _reserve(ratio: float, alike: float) -> str:
    """Return what has to be said of a saving that is hardly one, or hardly one of the resolution."""
    if ratio > 1 - WORTH:
        return f" It saves less than {100 * WORTH:g} %."
    return f" The resolution by itself saves less than {100 * WORTH:g} %." if ratio > (1 - WORTH) * alike else ""


def _at(ds: xr.Dataset, conventions: str, knobs: dict[str, float]) -> xr.Dataset:
    return ds.sel({"conventions": conventions, **knobs})


def _knobs(design: xr.Dataset) -> dict[str, float]:
    return {name: design[name].item() for name in HOME}


def _named(knobs: dict[str, float]) -> str:
    rate = "full rate" if knobs["adc_rate_share"] == 1 else f"{knobs['adc_rate_share']:g} of the rate"
    corner = (knobs["adcs_per_crossbar"], knobs["adc_rate_share"]) == (energy.SHARING[0], energy.SHARES[0])
    end = " (the fewest and slowest tried)" if corner else ""
    return f"{knobs['adc_bits']} bits, {knobs['adcs_per_crossbar']} converters a crossbar, {rate}{end}"


def _joule(energy_j: xr.DataArray) -> str:
    value = energy_j.item()
    return f"{value:.3g} J" if value >= 1 else f"{1e3 * value:.3g} mJ"


def table(ds: xr.Dataset) -> Table:
    """Return for each resolution its converter, its energy at the published sharing and at the best, and the rise."""
    rows = []
    for part in converters(ds.adc_bits.values.tolist()):
        mine = ds.sel(adc_bits=[part.bits])
        row = {
            "bits": str(part.bits),
            "converter": part.name if part.name in PARTS else f"{part.name} (assumed)",
        }
        for name in CONVENTIONS:
            best = kept(mine, name, Reduction("top", {"energy_j": "min"}, count=1)).isel(design=0)
            knobs = f"{best.adcs_per_crossbar.item()} at {best.adc_rate_share.item():g}"
            row[f"{name}, as published"] = _joule(_at(mine, name, HOME | {"adc_bits": part.bits}).energy_j)
            row[f"{name}, cheapest (converters at share of rate)"] = f"{_joule(best.energy_j)} ({knobs})"
        rows.append(row | {"rise of perplexity": rise(mine.squeeze("adc_bits"))})
    return Table(rows, title="Each resolution: converter, energy at two sharings, and the rise of the perplexity")


def figure(ds: xr.Dataset) -> Figure:
    """Draw rise of perplexity over energy of a token, a panel each way to count.

    All designs (faint), those shared and clocked as published with intervals and bits, the front, its knee, the published.
    """
    with panels(1, len(CONVENTIONS), figsize=(8.2, 4.2), sharey=True) as (drawn, axes):
        for ax, name in zip(axes, CONVENTIONS, strict=True):
            _panel(ax, ds, name)
        axes[0].set_ylabel(f"Rise of perplexity (%; {100 * energy.FLOOR:g} and less alike)")
    spans = [f"{name} {_joule(e.min())} to {_joule(e.max())}" for name, e in zip(CONVENTIONS, ds.energy_j, strict=True)]
    knees = {name: knee(ds, name) for name in CONVENTIONS}
    ringed = [f"{_named(_knobs(k))} under {name}" for name, k in knees.items() if k.attrs["below_chord"] > 0]
    alt = (
        f"Rise of perplexity over energy of one token for converters of {span(ds.adc_bits, 'g')} bits at every sharing and "
        f"rate: {'; '.join(spans)}. Ringed as knee: {'; '.join(ringed) or 'none'}."
    )
    return Figure(drawn, alt)


def _panel(ax: Axes, ds: xr.Dataset, conventions: str) -> None:
    here, plain = ds.sel(conventions=conventions), _at(ds, conventions, {**HOME, "adc_bits": ds.adc_bits.values})
    scale, unit = (1.0, "J") if here.energy_j.min() >= 1 else (1e3, "mJ")
    (every,) = xr.broadcast(here)
    ax.plot(scale * every.energy_j.values.ravel(), _drawn(every).ravel(), "o", ms=3, color=_GREY, alpha=0.6, mew=0)
    x, y = scale * plain.energy_j.values, _drawn(plain)
    spread = [y - _drawn(plain, "_low"), _drawn(plain, "_high") - y]
    ax.errorbar(x, y, yerr=np.abs(spread), fmt="o", ms=4.5, lw=1.2, color=_DARK)
    for bits, *at in zip(plain.adc_bits.values, x, y, strict=True):
        _beside(ax, f"{bits} bits", at, (6, 5), "left")
    best, found, home = front(ds, conventions), knee(ds, conventions), _at(ds, conventions, HOME)
    ax.plot(scale * best.energy_j, _drawn(best), ".-", color=_FRONT)
    _beside(ax, "front", (scale * best.energy_j[0], _drawn(best)[0]), (-7, 0), "right", _FRONT)
    if found.attrs["below_chord"] > 0:
        ax.plot(scale * found.energy_j, _drawn(found), "o", ms=12, mfc="none", mec=_KNEE, mew=1.8)
        _beside(ax, "knee", (scale * found.energy_j, _drawn(found)), (-9, -5), "right", _KNEE)
    ax.plot(scale * home.energy_j, _drawn(home), "D", ms=8, mfc="none", mec=_HOME, mew=1.8)
    _beside(ax, "published", (scale * home.energy_j, _drawn(home)), (-6, -22), "right", _HOME)
    ax.set_title(conventions, fontsize=10, loc="left")
    ax.set(xscale="log", yscale="log", xlabel=label(ds.energy_j, unit))
    low, high = np.log10(ax.get_xlim())
    ax.set_xlim(10 ** (low - 0.12 * (high - low)), 10 ** (high + 0.08 * (high - low)))  # room for the words
    log_ticks(ax, "x", decades(1, 2, 3, 5))
    log_ticks(ax, "y", decades())


def _beside(ax: Axes, text: str, at: Any, by: tuple[int, int], side: str, colour: str | None = None) -> None:
    note(ax, text, at, by, ha=side, va="center", fontsize=9, color=colour)


def _drawn(ds: xr.Dataset, end: str = "") -> NDArray[Any]:
    """Return rises in percent, no lower than the axis goes."""
    return np.asarray(100 * np.maximum(ds[f"perplexity_rise{end}"].values, energy.FLOOR))
