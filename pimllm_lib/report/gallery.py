"""The gallery: every figure of the result pages as a small picture that leads to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from pimllm_lib.report.result_page import Result, figures, question

#: Where the pictures lie in the book. They are drawn in currentColor, which is black in a picture: the style inverts it.
FOLDER = "_static/figures"
_HEAD = """# Every figure

{count} figures of {chapters} chapters, each a way in: a picture leads to its figure, the question below it to the
chapter, which has the figure as SVG, its dataset and how to cite it.
"""
#: Chapters from this on ask what the study did not.
_BEYOND = 10


def page(results: Sequence[Result]) -> str:
    """Return the page in Markdown: a picture with chapter and caption for each figure, in two sections."""
    shown = [(one.slug, i, svg) for one in results for i, svg in enumerate(figures(one.executed), 1)]
    parts = [_HEAD.format(count=len(shown), chapters=len(results))]
    for beyond, title in enumerate(("Questions of the study", "Questions beyond it")):
        thumbs = "".join(_thumb(*one) for one in shown if (int(one[0][:2]) >= _BEYOND) == bool(beyond))
        parts.append(f'## {title}\n\n<div class="gallery">{thumbs}</div>\n')
    return "\n".join(parts)


def _thumb(slug: str, i: int, svg: str) -> str:
    chapter, name, said = f"results/{slug}.html", f"{int(slug[:2])}.{i}", re.search(r'aria-label="([^"]*)"', svg)
    return (
        f'<figure><a href="{chapter}#figure-{name}"><img alt="Figure {name}" src="{FOLDER}/{slug}-{i}.svg"></a><figcaption>'
        f'<a href="{chapter}">{escape(question(slug))}</a><br>Figure {name}. {said[1] if said else ""}</figcaption></figure>'
    )


def pictures(results: Sequence[Result]) -> dict[str, bytes]:
    """Return the pictures by their path in the book."""
    return {
        f"{FOLDER}/{one.slug}-{i}.svg": svg.encode()
        for one in results
        for i, svg in enumerate(figures(one.executed), 1)
    }
