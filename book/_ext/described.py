"""Each page says what it is about to search engines, and to those who link to it, with a picture of its own."""

from __future__ import annotations

import re
from html import escape, unescape
from pathlib import Path
from typing import Any

from docutils import nodes

from pimllm_lib.report import card

#: It has a figure for its card, which is drawn with the book.
_LANDING = "index"


def description(doctree: Any, longest: int = 200) -> str:
    """Return the answer of a page that begins with a box, else its first paragraph that says something, in whole words."""
    texts = [" ".join(paragraph.astext().split()) for paragraph in doctree.findall(nodes.paragraph)]
    answers = [text.removeprefix("Answer ") for text in texts if text.startswith("Answer ")]
    for text in answers or texts:
        if answers or len(text) > 60:
            return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " ..."
    return ""


def _describe(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Say what a page is about, and draw its picture.

    The address of the picture is whole once the book has a `baseurl`; until then it is seen from the page.
    """
    said = description(doctree) if doctree is not None else ""
    if not said:
        return
    title = unescape(re.sub(r"<[^>]*>", "", context.get("title", "")))
    name = f"{card.FOLDER}/{page.replace('/', '-')}.png"
    if page != _LANDING:
        path = Path(app.outdir, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(card.picture(title, said))
    home = app.config.html_baseurl.rstrip("/")
    tags = {'name="description"': said, 'property="og:title"': title, 'property="og:description"': said,
            'property="og:type"': "article", 'property="og:site_name"': "pimllm",
            'property="og:image"': f"{home or ('../' * page.count('/') or './').rstrip('/')}/{name}",
            'property="og:image:width"': "1200", 'property="og:image:height"': "630",
            'name="twitter:card"': "summary_large_image"}  # fmt: skip
    tags |= {'property="og:url"': f"{home}/{page}.html"} if home else {}
    context["metatags"] = context.get("metatags", "") + "".join(
        f'<meta {name} content="{escape(content)}">' for name, content in tags.items()
    )


def setup(app: Any) -> dict[str, bool]:
    """Describe each page as it is written."""
    app.connect("html-page-context", _describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
