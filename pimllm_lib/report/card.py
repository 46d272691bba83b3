"""The picture that those show who link to a page: what the page asks, and what it answers."""

from __future__ import annotations

from io import BytesIO
from textwrap import wrap
from typing import Any

from matplotlib.figure import Figure

from pimllm_lib.report.figure import SYSTEM_COLOURS, panels

#: Where the cards lie in the book.
FOLDER = "_static/cards"
_WIDE, _HIGH, _MARGIN = 12.0, 6.3, 0.72
#: Of a card's figure, in inches of 100 pixels: as those who show cards expect them.
SIZE: dict[str, Any] = {"figsize": (_WIDE, _HIGH), "dpi": 100}
#: Of the title and of what is said: letters a line, most lines, height of a line in inches, and its font.
_TITLE = 33, 3, 0.7, {"fontsize": 36, "fontweight": "bold"}
_SAID = 54, 4, 0.54, {"fontsize": 27}


def picture(title: str, said: str) -> bytes:
    """Return a card as PNG: title, what is said below it, and whose it is. What finds no room ends with dots."""
    with panels(**SIZE, layout="none") as (drawn, edge):
        edge.set(position=(0, 0, 0.2 / _WIDE, 1), facecolor=SYSTEM_COLOURS["pim-llm"], xticks=[], yticks=[])
        edge.spines[:].set_visible(False)
        y = _HIGH - 0.72
        for text, (letters, most, height, font) in ((title, _TITLE), (said, _SAID)):
            lines = wrap(text, letters)
            if len(lines) > most:
                lines[most - 1 :] = [lines[most - 1].rsplit(" ", 1)[0] + " ..."]
            for line in lines:
                drawn.text(_MARGIN / _WIDE, y / _HIGH, line, va="top", **font)
                y -= height
            y -= 0.28
        drawn.text(_MARGIN / _WIDE, 0.1, "pimllm", fontsize=22, fontweight="bold", color=SYSTEM_COLOURS["tpu-llm"])
        return png(drawn)


def png(drawn: Figure) -> bytes:
    """Return a figure of the size of a card as PNG on white, without a word of what drew it."""
    out = BytesIO()
    drawn.set_facecolor("white")
    drawn.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
