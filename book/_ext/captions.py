"""Number the figures and tables of every page, and say of each table cell that heads others which way it does."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

_FIGURE = re.compile(r'<figure class="pimllm-figure">(.*?)</figure>', flags=re.DOTALL)
_TABLE = re.compile(
    r'<div class="(?:long-table|table-box)"[^>]*>\s*<table[^>]*>(?:<caption>.*?</caption>)?', flags=re.DOTALL
)
_NO_HEAD = re.compile(r"<thead>\s*<tr[^>]*>(?:\s*<td[^>]*></td>)+\s*</tr>\s*</thead>")


def chapter_of(page: str) -> str:
    """Return what numbers on a page begin with: "3." in chapter 03, nothing on a page that is no chapter."""
    found = re.match(r"results/(\d+)-", page)
    return f"{int(found[1])}." if found else ""


def captioned(body: str, chapter: str = "") -> str:
    """Return a page whose figures have what they show as their captions, and whose tables are numbered."""
    figures, tables = count(1), count(1)

    def figure(found: re.Match[str]) -> str:
        n = f"{chapter}{next(figures)}"
        alt = re.search(r'aria-label="([^"]*)"', found[1])
        if alt is None:
            return found[0]
        drawn = found[1].replace(alt[0], f'aria-labelledby="figure-{n}-caption"')
        words = f'<figcaption id="figure-{n}-caption"><a href="#figure-{n}">Figure {n}.</a> {alt[1]}</figcaption>'
        return f'<figure class="pimllm-figure" id="figure-{n}">{drawn}{words}</figure>'

    def table(found: re.Match[str]) -> str:
        n = f"{chapter}{next(tables)}"
        named = found[0].replace("<div ", f'<div id="table-{n}" ', 1)
        named = re.sub(r'aria-label="(?:Table)?', f'aria-label="Table {n}. ', named, count=1)
        return named.replace("<caption>", f'<caption><a href="#table-{n}">Table {n}.</a> ', 1)

    return _TABLE.sub(table, _FIGURE.sub(figure, body))


def scoped(body: str) -> str:
    """Return a page whose header cells say that they head their column, and none of which is empty; formulas, which
    scroll where they are wide, are reached by keyboard.
    """
    body = re.sub(r"<th(?: [^>]*)?>\s*(?:<p>\s*</p>)?\s*</th>", "<td></td>", body)
    body = re.sub(r'<div class="math(?=[ "])', '<div tabindex="0" role="group" aria-label="formula" class="math', body)
    body = re.sub(r"<th(?=[ >])(?![^>]*\bscope=)", '<th scope="col"', body)
    return _NO_HEAD.sub("", body)


def _mend(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if context.get("body"):
        context["body"] = scoped(captioned(context["body"], chapter_of(page)))


def setup(app: Any) -> dict[str, bool]:
    """Mend the body of each page."""
    app.connect("html-page-context", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
