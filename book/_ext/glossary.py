"""Terms of the glossary lead there where a page first uses them."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes

_PAGE = "glossary"


def spots(text: str, terms: dict[str, Any]) -> list[tuple[int, int, str]]:
    """Return start, end and term of the first whole-word use of each term in a text, none within another.

    >>> spots("a GEMV, GEMVs and GEMV", {"GEMV": 1})
    [(2, 6, 'GEMV')]
    """
    found: list[tuple[int, int, str]] = []
    for term in sorted(terms, key=len, reverse=True):
        match = re.search(rf"(?<![\w/-]){re.escape(term)}(?![\w/-])", text)
        if match and not any(match.start() < end and start < match.end() for start, end, _ in found):
            found.append((match.start(), match.end(), term))
    return sorted(found)


def _terms(env: Any) -> dict[str, tuple[str, str]]:
    """Return term -> its address in the glossary, and its meaning."""
    found = {}
    for item in env.get_doctree(_PAGE).findall(nodes.definition_list_item):
        meaning = item.next_node(nodes.definition).astext().replace("\n", " ")
        for term in item.findall(nodes.term):
            found[term.astext()] = (term["ids"][0], meaning)
    return found


def _link(app: Any, doctree: Any, page: str) -> None:
    if page in (_PAGE, "bibliography", "CHANGELOG", "versions") or app.builder.format != "html":
        return
    left = _terms(app.env)
    quiet = (nodes.literal, nodes.reference, nodes.math, nodes.title, nodes.caption, nodes.strong, nodes.table)
    for text in list(doctree.findall(nodes.Text)):
        above, inside = text.parent, False
        while above is not None and not inside:
            inside, above = isinstance(above, quiet), above.parent
        if not inside and any(isinstance(up, nodes.paragraph) for up in _above(text)):
            _replace(text, left, app.builder.get_relative_uri(page, _PAGE))


def _above(node: Any) -> Any:
    while node.parent is not None:
        node = node.parent
        yield node


def _replace(text: Any, left: dict[str, tuple[str, str]], address: str) -> None:
    """Put links in a text at the first uses of terms, which are then left no more."""
    said, parts, end = text.astext(), [], 0
    for start, stop, term in spots(said, left):
        place, meaning = left.pop(term)
        link = nodes.reference("", term, internal=True, refuri=f"{address}#{place}", reftitle=meaning, classes=["term"])
        parts += [nodes.Text(said[end:start]), link]
        end = stop
    if parts:
        text.parent.replace(text, [*parts, nodes.Text(said[end:])])


def setup(app: Any) -> dict[str, bool]:
    """Link terms once pages are read."""
    app.connect("doctree-resolved", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
