"""The look of every figure, and a figure as inline SVG that follows the page's light or dark theme."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from pimllm_lib.core.errors import BadInput
from pimllm_lib.report.numbers import power, raised

#: One colour per system throughout (Okabe and Ito's palette: distinct to colour-blind readers and in grey).
SYSTEM_COLOURS = {"tpu-llm": "#0072B2", "pim-llm": "#D55E00"}
#: For systems of a reader's own, in their order: what the palette has left.
_OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B3294", "#777777")
#: So many names of lines fit beside their ends.
MOST_NAMES = 10
#: Widths of a figure for phones in inches: of panels below each other; of one that was wide alone, and of one whose names
#: would leave it less than that share of the first.
_PHONE, _ALONE, _NAMED, _LEAST = 3.8, 4.4, 5.6, 0.4
#: Points between a row and its name above it.
_UP = 4
#: Drawn in place of the page's text colour, which only the page knows.
_INK = "#010203"
_STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10, "svg.fonttype": "path",
    "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "xtick.minor.size": 0,
    "ytick.minor.size": 0, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "lines.linewidth": 1.8, "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a name with two dollars is a name
}  # fmt: skip


def system_colours(names: Iterable[object]) -> dict[str, str]:
    """Return the colour of each system, its own for one that has one. Raises BadInput where there are more than colours."""
    systems = list(dict.fromkeys(map(str, names)))
    others = [name for name in systems if name not in SYSTEM_COLOURS]
    if len(others) > len(_OTHERS):
        raise BadInput(f"there are {len(others)} systems beside the published ones; wanted at most {len(_OTHERS)}")
    colours = SYSTEM_COLOURS | dict(zip(others, _OTHERS, strict=False))
    return {name: colours[name] for name in systems}


class Figure:
    """A drawn figure: `svg` is its picture, `alt` what it shows in words. Shows itself in notebooks and pages."""

    def __init__(self, drawn: MplFigure, alt: str) -> None:
        """Draw to SVG, the same bytes for the same figure; then with its panels below each other, `narrow`, for phones."""
        self.alt = alt = raised(alt)
        _plain_powers(drawn)
        self.svg = _inline(_saved(drawn, alt), alt)
        with warnings.catch_warnings():  # names wider than a phone leave the layout no room: they overlap
            warnings.filterwarnings("ignore", message="constrained_layout not applied")
            with _house_style():
                _stack(drawn)
                drawn.set_layout_engine("none")  # it stands: laying it out once more takes as long as drawing it
                box = drawn.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
            narrow = _inline(_saved(drawn, f"{alt} narrow", bbox_inches=box), alt)
        self.narrow = re.sub(r'<path id="DejaVuSans[^>]*/>\s*', "", narrow)  # the wide one beside it defines them

    def _repr_html_(self) -> str:
        narrow = self.narrow.replace('style="', 'class="narrow" style="display: none; ', 1)
        return f'<figure class="pimllm-figure">{self.svg}{narrow}</figure>'

    def __repr__(self) -> str:
        """Return the description, so that a plain-text reader gets it too."""
        return f"Figure: {self.alt}"


def _plain_powers(drawn: MplFigure) -> None:
    """Write the powers of ten of log axes without the markup that the house style does not read."""
    for axis in (axis for ax in drawn.axes for axis in (ax.xaxis, ax.yaxis)):
        if isinstance(axis.get_major_formatter(), mpl.ticker.LogFormatter):
            axis.set_major_formatter(lambda value, _: power(value))
            axis.set_minor_formatter(mpl.ticker.NullFormatter())


def _saved(drawn: MplFigure, salt: str, **asked: Any) -> str:
    """Return a figure as SVG; salt: what tells the ids of its clip paths from those of other figures on a page."""
    out = StringIO()
    with _house_style(**{"svg.hashsalt": salt}):
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, **asked)
    return out.getvalue()


def _stack(drawn: MplFigure) -> None:
    """Put the panels of a figure below each other, as wide as a phone reads and as high as they were.

    Each gets the ticks and the label that only the first of its row had; those above one horizontal axis stay together.
    """
    for ax in [ax for ax in drawn.axes if not ax.get_visible()]:
        ax.remove()
    spots = {ax: spec for ax in drawn.axes if (spec := ax.get_subplotspec()) is not None}
    first = {spec.rowspan.start: ax for ax, spec in reversed(spots.items())}
    in_columns = any(len(ax.get_shared_x_axes().get_siblings(ax)) > 1 for ax in spots)
    order = sorted(spots, key=lambda ax: _place(spots[ax], in_columns))
    for ax, spec in spots.items():
        _label_alone(ax, first[spec.rowspan.start])
    width, height = drawn.get_size_inches()
    rows = max(spec.get_gridspec().nrows for spec in spots.values())
    drawn.set_size_inches(_PHONE if len(order) > 1 else min(width, _ALONE), height / rows * len(order))
    grid = GridSpec(len(order), 1, figure=drawn)
    for i, ax in enumerate(order):
        ax.set_subplotspec(grid[i])
    for old in list(drawn.legends):
        _narrow_legend(drawn, old)
    drawn.draw_without_rendering()
    if len(order) == 1 and order[0].get_position().width < _LEAST:
        drawn.set_figwidth(min(width, _NAMED))
        drawn.draw_without_rendering()
    elif crowded := [ax for ax in order if ax.get_position().width < _LEAST and _names(ax)]:
        drawn.set_figheight(drawn.get_figheight() * max(_above(ax) for ax in crowded))
        drawn.draw_without_rendering()
    for ax in order:
        _thin(ax)


def _names(ax: Axes) -> list[Any]:
    """Return what the rows of a panel are called; nothing where its vertical axis has numbers."""
    labels = ax.get_yticklabels()
    return labels if any(text.get_text()[:1].isalpha() for text in labels) else []


def _above(ax: Axes) -> float:
    """Write the name of each row above it, within the panel. Returns how many times as high the panel must be for it."""
    up = ScaledTranslation(0, _UP / 72, ax.figure.dpi_scale_trans)
    ax.tick_params(axis="y", length=0, pad=-2)
    names = _names(ax)
    for name in names:
        name.set(horizontalalignment="left", verticalalignment="bottom", transform=name.get_transform() + up)
    needed, high = len(names) * (2 * _UP + 1.3 * names[0].get_fontsize()) / 72, ax.bbox.height / ax.figure.dpi
    return max(1.0, float(needed / high))


def _thin(ax: Axes) -> None:
    """Leave out every other label of the horizontal axis until none touches the next."""
    shown = [text for text in ax.get_xticklabels() if text.get_text()]
    while any(a.get_window_extent().overlaps(b.get_window_extent()) for a, b in pairwise(shown)):
        for text in shown[1::2]:
            text.set_visible(False)
        shown = shown[::2]


def _place(spec: SubplotSpec, in_columns: bool) -> tuple[int, int]:
    row, column = spec.rowspan.start, spec.colspan.start
    return (column, row) if in_columns else (row, column)


def _label_alone(ax: Axes, first: Axes) -> None:
    """Give a panel the ticks and the label of its vertical axis that only the first panel of its row shows."""
    if ax is first:
        return
    ax.tick_params(axis="y", labelleft=True)
    if not ax.get_ylabel():
        ax.set_ylabel(first.get_ylabel())
    if not any(text.get_text() for text in ax.get_yticklabels()) and first.get_ylim() == ax.get_ylim():
        ax.set_yticks(first.get_yticks(), [text.get_text() for text in first.get_yticklabels()])


def _narrow_legend(drawn: MplFigure, old: Legend) -> None:
    """Write a legend again in as many columns as there is room for."""
    names = [text.get_text() for text in old.get_texts()]
    fitting = int(drawn.get_figwidth() / (0.5 + 0.085 * max(map(len, names))))
    place = getattr(old, "_outside_loc", None) or "lower"
    old.remove()
    _legend(drawn, old.legend_handles, names, place, ncols=max(1, min(fitting, len(names))))


def _house_style(**also: Any) -> Any:
    """Return a context in which matplotlib has its own defaults and the house style, whatever a user's settings say."""
    return style.context(["default", _STYLE | also])


@contextmanager
def panels(rows: int = 1, columns: int = 1, **asked: Any) -> Iterator[tuple[MplFigure, Any]]:
    """Yield a figure in the house style and its axes, as `plt.subplots` gives them; closed afterwards."""
    with _house_style():
        drawn, axes = plt.subplots(rows, columns, **asked)
        try:
            yield drawn, axes
        finally:
            plt.close(drawn)


def note(ax: Axes, text: str, at: Any, by: tuple[float, float], **look: Any) -> None:
    """Write words so many points beside a place of the axes."""
    ax.annotate(text, at, xytext=by, textcoords="offset points", **look)


def legend(drawn: MplFigure, looks: Axes | Mapping[str, Mapping[str, Any]], place: str = "lower", **asked: Any) -> None:
    """Write one legend below all panels, or above ("upper"): of what one axes shows, or of lines that look as said."""
    if isinstance(looks, Axes):
        handles, names = looks.get_legend_handles_labels()
    else:
        handles, names = [Line2D([], [], **look) for look in looks.values()], list(looks)
    _legend(drawn, handles, names, place, **{"ncols": len(names), **asked})


def _legend(drawn: MplFigure, handles: Any, names: list[str], place: str, **asked: Any) -> None:
    loc: Any = f"outside {place} center"
    drawn.legend(handles, names, loc=loc, frameon=False, **asked)


def stacked(ax: Axes, places: Any, parts: Mapping[str, Any], colours: Mapping[str, str], **look: Any) -> Any:
    """Draw horizontal bars of parts one after the other; return where they end."""
    end = np.zeros(len(places))
    for name, widths in parts.items():
        ax.barh(places, widths, left=end, color=colours[name], label=name, **look)
        end = end + widths
    return end


def label(array: xr.DataArray, scale: str = "") -> str:
    """Return an axis label from a variable's own attributes: meaning, then unit."""
    unit = array.attrs.get("units", "1")
    text = str(array.attrs.get("long_name", array.name))
    text = text[0].upper() + text[1:]
    unit = scale or unit
    return text if unit == "1" else f"{text} ({unit})"


def end_labels(
    ax: Axes, ends: Sequence[tuple[float, str, str]], x: float, *, side: str = "right", gap: float = 0.052
) -> None:
    """Write (y, text, colour) labels at one end of lines on a log axis, moved apart until none overlap.

    side: "right" writes beyond the last point, "left" before the first. gap: least distance of two labels, as a share of
    the axis height.
    """
    low, high = np.log10(ax.get_ylim())
    places = sorted(((np.log10(y) - low) / (high - low), text, colour) for y, text, colour in ends)
    spots = _spread([place for place, _, _ in places], gap)
    if side == "left":  # room for the words inside the axes
        first, last = np.log10(ax.get_xlim())
        ax.set_xlim(10 ** (first - 0.42 * (last - first)), 10**last)
    for spot, (_, text, colour) in zip(spots, places, strict=True):
        ax.annotate(text, (x, spot), xycoords=("data", "axes fraction"), textcoords="offset points",
                    xytext=(8 if side == "right" else -8, 0), ha="left" if side == "right" else "right", va="center",
                    color=colour, annotation_clip=False)  # fmt: skip


def _spread(places: list[float], gap: float) -> list[float]:
    """Return sorted places moved apart to at least `gap`, each run of crowded ones about its own mean."""
    groups = [[place] for place in places]
    while True:
        centres = [[np.mean(g) + gap * (i - (len(g) - 1) / 2) for i in range(len(g))] for g in groups]
        crowded = [i for i in range(len(groups) - 1) if centres[i + 1][0] - centres[i][-1] < gap - 1e-12]
        if not crowded:
            return [float(spot) for group in centres for spot in group]
        i = crowded[0]
        groups[i : i + 2] = [groups[i] + groups[i + 1]]


def _inline(svg: str, alt: str) -> str:
    """Return the SVG element alone, scalable, in the page's text colour, with its description."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', _widest, body, count=1)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = body.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
    return body.replace(_INK, "currentColor").strip()


def _widest(match: re.Match[str]) -> str:
    return f'{match[1]} width="100%" style="max-width: {float(match[2]) * 4 / 3:.0f}px; height: auto"'


def log_ticks(ax: Any, which: str, ticks: Iterable[float]) -> None:
    """Put numbers at the given places of a log axis, as far as it goes: plain ones, where they are not too long."""
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(mpl.ticker.FixedLocator(list(ticks)))
    axis.set_major_formatter(lambda value, _: power(value) if "e" in (plain := f"{value:g}") else plain)
    axis.set_minor_locator(mpl.ticker.NullLocator())


def decades(*steps: float, every: int = 1) -> list[float]:
    """Return ticks for `log_ticks`: these steps of each decade, of every so-manieth."""
    return [m * 10.0**e for e in range(-12, 13, every) for m in steps or (1,)]
