"""Sources both ways: each key leads to its entry in the bibliography, each entry back to what rests on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle

_ENTRY = re.compile(r'(<div class="citation" id="([^"]*)".*?)(</div>)', flags=re.DOTALL)
#: Roles of the bibliography that contradict each other: a list whose children are no items.
_ROLES = re.compile(r' role="(?:list|doc-biblioentry)"(?=[^>]*class="citation)|(?<=") role="doc-biblioentry"')


def plain(text: str) -> str:
    """Return what LaTeX writes, without braces and with its accents."""
    return str(Text.from_latex(text))


def authors(entry: Any) -> str:
    """Return who wrote an entry as a text cites it: one or two last names, the first and "et al." for more."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [plain(" ".join((*person.prelast_names, *person.last_names))) for person in people]
    if not names:
        return plain(entry.fields.get("title", "no author"))
    return names[0] if len(names) == 1 else f"{names[0]} and {names[1]}" if len(names) == 2 else f"{names[0]} et al."


class AuthorYear(BaseLabelStyle):
    """Labels as the text cites: authors and year, with a letter where several would be the same."""

    def format_labels(self, entries: Iterable[Any]) -> Iterator[str]:
        """Yield the label of each entry."""
        labels = [", ".join(part for part in (authors(one), one.fields.get("year", "")) if part) for one in entries]
        letters = {label: iter("abcdefghijklmnopqrstuvwxyz") for label in labels if labels.count(label) > 1}
        for label in labels:
            yield label + (next(letters[label]) if label in letters else "")


class Style(Plain):
    """Entries as in the plain style, with these labels."""

    default_label_style = AuthorYear


def linked(body: str, entries: Mapping[str, str], root: str) -> str:
    """Return a page on which every key in a table cell leads to its entry, and every such link tells it.

    entries: key -> the reference in one line; root: the way from the page to the bibliography's folder.
    """

    def cell(found: re.Match[str]) -> str:
        key = found[1]
        return (
            f'<td><a class="reference internal" href="{root}bibliography.html#{key}">{key}</a></td>'
            if key in entries
            else found[0]
        )

    def told(found: re.Match[str]) -> str:
        return f'{found[0]} title="{escape(entries[found[1]])}"' if found[1] in entries else found[0]

    body = re.sub(r"<td>([\w-]+)</td>", cell, body)
    return re.sub(r'<a class="reference internal" href="[^"#]*#([\w-]+)"(?! title)', told, body)


def used(body: str, users: Mapping[str, Iterable[str]]) -> str:
    """Return the bibliography with, below each entry, links to what uses it. users: key -> links."""

    def entry(found: re.Match[str]) -> str:
        links = ", ".join(users.get(found[2], ()))
        return f'{found[1]}<p class="users">{"Used by " + links if links else "Not used by a page"}.</p>{found[3]}'

    return _ROLES.sub("", _ENTRY.sub(entry, body))


def _users(app: Any) -> dict[str, list[str]]:
    """Return key -> links to the pages that cite it, and to the parts and models that rest on it."""
    from pimllm_lib import catalog
    from pimllm_lib.report import tables

    found: dict[str, list[str]] = {}
    for reference in app.env.get_domain("cite").citation_refs:
        title = app.env.titles[reference.docname].astext()
        link = f'<a href="{reference.docname}.html">{escape(title)}</a>'
        for target in reference.targets:
            found.setdefault(target.key, []).append(link)
    for key, names in tables.uses().items():
        links = [
            f'<a href="parameters.html#{"models" if name in catalog.models else name}">{name}</a>' for name in names
        ]
        found.setdefault(key, []).extend(links)
    return {key: list(dict.fromkeys(links)) for key, links in found.items()}


def _link(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if not context.get("body"):
        return
    data = app.env.get_domain("cite").bibdata.data.entries
    entries = {
        key: f"{authors(one)}: {one.fields.get('title', '')}, {one.fields.get('year', '')}".replace("{", "").replace(
            "}", ""
        )
        for key, one in data.items()
    }
    context["body"] = linked(context["body"], entries, "../" * page.count("/"))
    if page == "bibliography":
        context["body"] = used(context["body"], _users(app))


def setup(app: Any) -> dict[str, bool]:
    """Register the style of the bibliography, and link each page."""
    register_plugin("pybtex.style.formatting", "author-year", Style, force=True)
    app.connect("html-page-context", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
