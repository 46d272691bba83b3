"""Draw every equation as inline SVG while the book is built: no script, no font and no network in the page."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import ziamath
from sphinx.util.math import get_node_equation_number

ziamath.config.svg2 = False  # plain paths: several equations on one page share no ids


def draw(tex: str, *, inline: bool) -> str:
    """Return an SVG element in the text's colour, aligned to its baseline, with the TeX as its description."""
    equation = ziamath.Latex(tex, size=17 if inline else 19, inline=inline, color="currentColor")
    svg = equation.svg().replace("<svg ", f'<svg role="img" aria-label="{escape(tex)}" class="equation" ', 1)
    if not inline:
        return svg
    _, top, _, height = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
    return svg.replace("<svg ", f'<svg style="vertical-align: {-(top + height):.2f}px" ', 1)


def visit_inline(self: Any, node: Any) -> None:
    """Write an equation within a line."""
    from docutils.nodes import SkipNode

    self.body.append(f'<span class="math">{draw(node.astext(), inline=True)}</span>')
    raise SkipNode


def visit_display(self: Any, node: Any) -> None:
    """Write an equation of its own, with its number and a link to it where it has a label."""
    from docutils.nodes import SkipNode

    self.body.append(self.starttag(node, "div", CLASS="math math-display"))
    self.body.append(f'<div class="equation-body">{draw(node.astext(), inline=False)}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer as 'svg'."""
    app.add_html_math_renderer("svg", (visit_inline, None), (visit_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
