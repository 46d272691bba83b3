"""The machine as a drawing: system, bank, tile, PE, crossbar, converter, each a part of the one before."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from pimllm_lib.report.figure import SYSTEM_COLOURS

DIGITAL, ANALOG = SYSTEM_COLOURS["tpu-llm"], SYSTEM_COLOURS["pim-llm"]
WIDTH, HEIGHT, GAP, TOP = 220, 200, 30, 24


def rect(x: float, y: float, w: float, h: float, colour: str = "currentColor", fill: float = 0.0) -> str:
    """Return a box, its colour washed in to the given opacity."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="3" stroke="{colour}" fill="{colour}" '
        f'fill-opacity="{fill:g}"/>'
    )


def text(x: float, y: float, words: str, size: float = 12.5, anchor: str = "middle") -> str:
    """Return words in the page's font and colour."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" fill="currentColor" stroke="none">'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, w: float, h: float, words: str, colour: str = "currentColor", fill: float = 0.12) -> str:
    """Return a box with words in its middle."""
    return rect(x, y, w, h, colour, fill) + text(x + w / 2, y + h / 2 + 4, words)


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "currentColor", dash: str = "") -> str:
    """Return a line, dashed where a pattern is given."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{colour}"{dashes}/>'


def _system() -> str:
    tpu = rect(8, 56, 96, 136, DIGITAL, 0.06) + text(56, 72, "digital", 11.5)
    tpu += box(16, 80, 80, 26, "SRAM", DIGITAL) + box(16, 112, 80, 44, "32 x 32 array", DIGITAL)
    tpu += box(16, 162, 80, 24, "nonlinear", DIGITAL)
    pim = rect(116, 56, 96, 136, ANALOG, 0.06) + text(164, 72, "analog", 11.5)
    pim += box(124, 80, 80, 26, "global buffer", ANALOG) + box(124, 112, 80, 24, "controller", ANALOG)
    pim += "".join(box(124 + 28 * i, 146, 24, 40, "", ANALOG, 0.3) for i in range(3))
    return box(8, 10, 96, 28, "CPU") + box(116, 10, 96, 28, "LPDDR") + line(8, 47, 212, 47) + tpu + pim


def _bank() -> str:
    tiles = "".join(
        rect(14 + 50 * (i % 4), 16 + 46 * (i // 4), 40, 36, ANALOG, 0.45 if i == 3 else 0.15) for i in range(12)
    )
    return tiles + box(14, 160, 190, 26, "output buffer")


def _tile() -> str:
    parts = [box(10, 12, 200, 24, "input buffers, distributor")]
    for i in range(4):
        x, y = 22 + 104 * (i % 2), 48 + 54 * (i // 2)
        parts.append(box(x, y, 72, 38, "PE", ANALOG, 0.45 if i == 3 else 0.15))
        parts.append(line(x + (72 if i % 2 == 0 else 0), y + 19, 110, 94))
    parts.append('<circle cx="110" cy="94" r="10" stroke="currentColor" fill="currentColor" fill-opacity="0.15"/>')
    return "".join(parts) + text(110, 98, "+") + box(10, 160, 200, 26, "output buffer")


def _pe() -> str:
    dacs = "".join(
        rect(16, 34 + 17 * i, 34, 12, DIGITAL, 0.3) + line(50, 40 + 17 * i, 74, 40 + 17 * i) for i in range(6)
    )
    bars = rect(84, 18, 110, 104, ANALOG, 0.12) + rect(74, 28, 110, 104, ANALOG, 0.45)
    words = text(129, 76, "256 x 256") + text(129, 91, "pair, + and -", 11.5) + text(33, 150, "256 DACs", 11.5)
    mux = box(74, 138, 110, 16, "mux, 2 columns", fill=0.05) + box(74, 158, 110, 16, "128 ADCs", DIGITAL, 0.3)
    return dacs + bars + words + mux + box(74, 178, 110, 16, "shift and add", fill=0.05)


def _crossbar() -> str:
    parts = [line(20, 30 + 30 * i, 196, 30 + 30 * i, DIGITAL) for i in range(5)]
    parts += [line(44 + 34 * j, 14, 44 + 34 * j, 166, ANALOG) for j in range(5)]
    on = {(0, 0), (0, 3), (1, 1), (2, 2), (2, 4), (3, 0), (4, 3), (4, 1), (1, 4)}
    for i in range(5):
        for j in range(5):
            fill = 1 if (i, j) in on else 0
            parts.append(
                f'<circle cx="{44 + 34 * j}" cy="{30 + 30 * i}" r="6" stroke="currentColor" '
                f'fill="{ANALOG if fill else "currentColor"}" fill-opacity="{fill or 0.1}"/>'
            )
    return "".join(parts) + text(8, 94, "x", 12) + text(112, 186, "column currents add up to w · x", 12)


def _adc() -> str:
    parts = [line(60, 14, 60, 40, ANALOG), line(160, 14, 160, 40, ANALOG), text(110, 28, "two columns", 11.5)]
    parts += [box(40, 40, 140, 24, "multiplexer", fill=0.05), line(110, 64, 110, 82)]
    parts += [box(40, 82, 140, 34, "8-bit ADC, 1.28 GS/s", DIGITAL, 0.3), line(110, 116, 110, 134)]
    parts += [box(40, 134, 140, 24, "shift and add", fill=0.05), line(110, 158, 110, 172)]
    return "".join(parts) + text(110, 186, "16 reads for an 8-bit vector", 12)


#: Panels in order: name, drawing, and the place in it that the next one enlarges (x, y, w, h), None in the last.
PANELS: tuple[tuple[str, Callable[[], str], tuple[float, float, float, float] | None], ...] = (
    ("system", _system, (180, 146, 24, 40)),
    ("bank: 12 tiles", _bank, (164, 16, 40, 36)),
    ("tile: 4 PEs as simulated", _tile, (126, 102, 72, 38)),
    ("PE", _pe, (74, 28, 110, 104)),
    ("crossbar", _crossbar, (78, 10, 68, 158)),
    ("converter", _adc, None),
)


def machine() -> str:
    """Return the drawing in two rows, and in one column, as a figure whose lines Markdown leaves alone."""
    words = "The machine from system to converter: " + ", ".join(name for name, _, _ in PANELS)
    run_back = [0, 1, 2, 2, 1, 0]  # the second row runs back, so that each panel is beside the one it enlarges
    wide = _placed([(column, i // 3) for i, column in enumerate(run_back)], words)
    narrow = _placed([(0, i) for i in range(len(PANELS))], words)
    narrow = narrow.replace('style="', 'class="narrow" style="display: none; ', 1)
    return f'<figure class="pimllm-figure">{wide}{narrow}</figure>'


def _placed(cells: list[tuple[int, int]], words: str) -> str:
    """Return the panels in these columns and rows as one SVG element."""
    placed = [(4 + column * (WIDTH + GAP), TOP + row * (HEIGHT + 56)) for column, row in cells]
    parts = []
    for i, (name, draw, detail) in enumerate(PANELS):
        x, y = placed[i]
        title = text(WIDTH / 2, -8, f"{i + 1}. {name}", 14)
        frame = (
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" stroke="currentColor" stroke-opacity="0.35" fill="none"/>'
        )
        mark = "" if detail is None else _marked(*detail)
        parts.append(f'<g transform="translate({x} {y})">{title}{frame}{draw()}{mark}</g>')
        if detail is not None:
            parts.append(_enlarged((x, y), detail, placed[i + 1]))
    width, height = max(x for x, _ in placed) + WIDTH + 4, max(y for _, y in placed) + HEIGHT + 8
    return (
        f'<svg role="img" aria-label="{escape(words)}" viewBox="0 0 {width} {height}" '
        f'width="100%" style="max-width: {width}px; height: auto" stroke-width="1.2" fill="none">'
        f"{''.join(parts)}</svg>"
    )


def _marked(x: float, y: float, w: float, h: float) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" stroke="currentColor" stroke-width="2.2" fill="none"/>'
    )


def _enlarged(origin: tuple[int, int], detail: tuple[float, float, float, float], target: tuple[int, int]) -> str:
    """Return the two lines from a marked detail to the panel that enlarges it, beside or below."""
    x, y, w, h = detail
    left, top, right, bottom = origin[0] + x, origin[1] + y, origin[0] + x + w, origin[1] + y + h
    if target[0] > origin[0]:
        ends = [(right, top, target[0], target[1]), (right, bottom, target[0], target[1] + HEIGHT)]
    elif target[0] < origin[0]:
        edge = target[0] + WIDTH
        ends = [(left, top, edge, target[1]), (left, bottom, edge, target[1] + HEIGHT)]
    else:
        ends = [(left, bottom, target[0], target[1]), (right, bottom, target[0] + WIDTH, target[1])]
    return "".join(line(*end, dash="3 4") for end in ends)
