"""The whole book as one PDF: its rendered pages are joined into one document, which Chromium prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote

import yaml

from pimllm_lib import __version__
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.report import book

HTML = book.PAGE.parent
PDF = HTML / "pimllm.pdf"
#: What a browser that can print is called; the last is where macOS has it.
_BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)  # fmt: skip
#: How the browser is told to print, without a profile of the user's.
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--no-pdf-header-footer",
    "--generate-pdf-document-outline",
)  # fmt: skip
#: What paper has no use for: scripts, drawings for phones, code that a reader would have to open, marks beside headings.
_SCREEN = re.compile(
    r'<script.*?</script>|<svg class="narrow".*?</svg>|<details(?![^>]*\bprinted\b).*?</details>'
    r'|<a class="headerlink".*?</a>|<fieldset.*?</fieldset>',
    flags=re.DOTALL,
)
_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_NAMED = re.compile(r'\b(id|for|aria-labelledby|aria-describedby)="([^"]+)"')


def build(pages: Sequence[str] | None = None, into: Path = PDF) -> Path:
    """Print pages of the rendered book (all of them, in the book's order), link them to the file, and return it.

    A first print says on which sheet each page begins, a second one has the numbers in its contents.
    Raises BadInput as `tools` does, and where a page is not rendered or the browser prints nothing.
    """
    program, reader = tools()
    parts = [(caption, [one for one in names if pages is None or one in pages]) for caption, names in contents()]
    document = _document([(caption, names) for caption, names in parts if names])
    with TemporaryDirectory() as scratch:
        source, printed = Path(scratch, "book.html"), Path(scratch, "book.pdf")
        _print(program, document, source, printed)
        first = reader(printed)
        places = first.named_destinations
        begins = {key: first.get_destination_page_number(place) + 1 for key, place in places.items()}
        _print(program, _numbered(document, begins), source, printed)
        shutil.move(printed, into)
    if into == PDF:
        _linked(len(first.pages))
    return into


def tools() -> tuple[str, Any]:
    """Return the browser that prints, and what reads its PDF. Raises BadInput where one is missing."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        raise BadInput("no Chromium to print with; wanted version 131 or newer, on Debian: apt-get install chromium")
    try:
        from pypdf import PdfReader
    except ImportError:
        raise BadInput("pypdf is missing, which counts the sheets; wanted 'make pdf', or pip install pypdf") from None
    return program, PdfReader


def _linked(sheets: int) -> None:
    """Put a link to the PDF where the landing page has a place for it, which is empty without one."""
    size = f"{PDF.stat().st_size / 1e6:.0f} MB"
    link = f'<span id="as-pdf"><a href="{PDF.name}">The whole book as a PDF</a> ({sheets} sheets, {size}).</span>'
    book.PAGE.write_text(re.sub(r'<span id="as-pdf">.*?</span>', link, _read("index")), encoding="utf-8")


def contents() -> list[tuple[str, list[str]]]:
    """Return the parts of the book in order: what each is called, and its pages; the first has the landing page alone."""
    toc = yaml.safe_load((paths.BOOK / "_toc.yml").read_text(encoding="utf-8"))
    parts = [(part["caption"], [one["file"] for one in part["chapters"]]) for part in toc["parts"]]
    return [("", [toc["root"]]), *parts]


def _print(program: str, text: str, source: Path, into: Path) -> None:
    source.write_text(text, encoding="utf-8")
    command = [program, *_OPTIONS, f"--user-data-dir={source.parent / 'profile'}", f"--print-to-pdf={into}"]
    done = subprocess.run([*command, source.as_uri()], capture_output=True, text=True, check=False)
    if not into.is_file():
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise BadInput(f"{program} printed nothing, and said: {said}")


def _numbered(document: str, pages: dict[str, int]) -> str:
    """Return the document whose contents say on which page a chapter begins."""
    entry = r'(<li><a href="#([^"]+)">.*?<b>)000(?=</b>)'
    return re.sub(entry, lambda found: f"{found[1]}{pages[f'/{found[2]}']}", document)


def _document(parts: list[tuple[str, list[str]]]) -> str:
    """Return the pages as one HTML file: cover, contents with a page number of zeros for each, then page after page."""
    names = [name for _, chosen in parts for name in chosen]
    style = [(paths.BOOK / "pdf.css").read_text(encoding="utf-8")]
    listed, bodies = [], []
    for caption, chosen in parts:
        listed.append(f'<li class="part">{escape(caption)}</li>' if caption else "")
        for name in chosen:
            article, key = _article(name, names), _key(name)
            title = _words(re.search(r"<h2>(.*?)</h2>", article, flags=re.DOTALL))
            chapter = re.match(r"results/0*(\d+)-", name)
            number = chapter[1] if chapter else ""
            listed.append(f'<li><a href="#{key}"><i>{number}</i><span>{title}</span><b>000</b></a></li>')
            head = f"{number}  {unescape(title)}".strip().replace("\\", r"\\").replace('"', r"\"")
            style.append(f'@page {key} {{ @top-left {{ content: "{head}"; }} }} #{key} {{ page: {key}; }}')
            part = f'<h1 class="part">{escape(caption)}</h1>' if caption and name == chosen[0] else ""
            bodies.append(f'<div class="page" id="{key}">{part}{article}</div>')
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>pimllm {__version__}</title>{_sheets()}
<style>{"".join(style)}</style></head><body>{_cover()}
<div class="listed"><p class="title">Contents</p><ul>{"".join(listed)}</ul></div>
<div class="bd-content"><div class="bd-article">{"".join(bodies)}</div></div></body></html>"""


def _words(found: re.Match[str] | None) -> str:
    """Return what a heading says, without markup."""
    return re.sub(r"<[^>]*>", "", found[1]) if found else ""


def _sheets() -> str:
    """Return links to the style sheets of the book."""
    found = re.findall(r'<link[^>]*href="(_static/[^"?]*\.css)[^>]*>', _read("index"))
    return "".join(f'<link rel="stylesheet" href="{(HTML / sheet).as_uri()}">' for sheet in dict.fromkeys(found))


def _cover() -> str:
    """Return the title page: what the book asks, its version and date, and the sources it was made from."""
    logo = (paths.BOOK / "_static" / "logo.svg").read_text(encoding="utf-8")
    asked = _words(re.search(r"<h2>(.*?)</h2>", _article("index", ["index"]), flags=re.DOTALL))
    cited = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    who = ", ".join(author["name"] for author in cited["authors"])
    edition = f"{escape(who)}<br>Version {__version__}, {_date() or cited['date-released']}"
    return (
        f'<div class="cover">{logo}<p class="title">pimllm</p><p class="question">{asked}</p>'
        f'<p class="edition">{edition}</p><p class="stamp">{escape(book.stamp())}<br>'
        "Code that a page keeps closed, and what computes while it is read, are on the pages alone.</p></div>"
    )


def _date() -> str:
    """Return the day of the commit the sources come from, nothing where there is none."""
    command = ["git", "-C", str(paths.ROOT), "show", "-s", "--format=%cs"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _article(name: str, names: list[str]) -> str:
    """Return the text of a page: its names made distinct from those of other pages, its headings one level lower."""
    _, _, rest = _read(name).partition('<article class="bd-article">')
    text, _, _ = rest.partition("</article>")
    text = _SCREEN.sub("", text).replace("<details ", "<details open ")
    text = _TAG.sub(lambda tag: _retagged(tag[0], name, names), text)
    return re.sub(r"(</?h)([1-5])\b", lambda found: f"{found[1]}{int(found[2]) + 1}", text)


def _retagged(tag: str, name: str, names: list[str]) -> str:
    key = _key(name)
    tag = _NAMED.sub(lambda found: f'{found[1]}="{" ".join(f"{key}--{one}" for one in found[2].split())}"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}--\1)", tag)
    tag = re.sub(r'\ssrc="(?![a-z]+:)([^"]+)"', lambda found: f' src="{_file(name, found[1])}"', tag)
    return re.sub(r'\s((?:xlink:)?href)="([^"]*)"', lambda found: _link(found[1], found[2], name, names), tag)


def _file(name: str, target: str) -> str:
    """Return the address of a file that a page shows."""
    return (HTML / name).parent.joinpath(unquote(target)).absolute().as_uri()


def _link(attribute: str, target: str, name: str, names: list[str]) -> str:
    """Return where a link leads within the document; nothing for one to a file or to a page that is not printed."""
    if re.match(r"[a-z]+:", target):
        return f' {attribute}="{target}"'
    place, _, anchor = target.partition("#")
    page = os.path.normpath(f"{name}/../{unquote(place)}").removesuffix(".html") if place else name
    if page not in names:
        return ""
    return f' {attribute}="#{_key(page)}{"--" + anchor if anchor else ""}"'


def _key(name: str) -> str:
    """Return what a page is called within the document."""
    return "p-" + name.replace("/", "-")


def _read(name: str) -> str:
    path = HTML / f"{name}.html"
    if not path.is_file():
        raise BadInput(f"{path} does not exist; wanted a rendered book, see 'pimllm book'")
    return path.read_text(encoding="utf-8")
