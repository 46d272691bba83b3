"""Every page in a real browser: no error, no request to another host, nothing wider than a phone, nothing out of reach."""

import functools
import html
import http.server
import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from pimllm_lib import catalog
from pimllm_lib.analysis.claims import published
from pimllm_lib.core.files import hash_of
from pimllm_lib.core.paths import BOOK, RESULTS
from pimllm_lib.report.box import PARTS
from pimllm_lib.report.landing import READ
from pimllm_lib.report.numbers import apart

HTML = BOOK / "_build" / "html"
PAGES = sorted(str(p.relative_to(HTML)) for p in HTML.rglob("*.html") if "_static" not in p.parts)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def address():
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=HTML)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "no Chromium on this machine; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=FLAGS)


@pytest.mark.browser
def test_the_book_has_pages():
    assert "index.html" in PAGES
    assert len(PAGES) >= 6


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_errors_and_without_the_network(name, browser, address):
    page = browser.new_page(viewport={"width": 700, "height": 1000})
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    at_home = (address, "data:")
    page.on("request", lambda request: None if request.url.startswith(at_home) else wrong.append(request.url))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    page.goto(f"{address}/{name}", wait_until="load")
    page.wait_for_timeout(300)
    widths = {}
    for width in (1280, 700, 360):
        page.set_viewport_size({"width": width, "height": 1000})
        widths[width] = page.evaluate("document.scrollingElement.scrollWidth")
    page.close()
    assert wrong == []
    assert all(found <= width for width, found in widths.items()), widths


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light_with_what_it_loads_of_ours(name):
    loaded = re.findall(r'<(?:link|script|img)[^>]*?(?:href|src)="([^":?]+)', (HTML / name).read_text())
    files = {(HTML / name).parent.joinpath(place).resolve() for place in loaded}
    ours = {path.name for path in BOOK.joinpath("_static").iterdir()}
    weights = {path.name: path.stat().st_size for path in files if path.name in ours}
    assert "pimllm.css" in weights
    assert (HTML / name).stat().st_size + sum(weights.values()) < 1_000_000


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_every_table_says_what_it_is(name):
    bare = re.findall(r'<table class="dataframe"[^>]*>\s*<(?!caption).*', (HTML / name).read_text())
    assert bare == []


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_no_word_leaves_a_phone_and_a_table_there_is_no_column_of_single_words(name, browser, address):
    page = browser.new_page(viewport={"width": 360, "height": 900})
    page.goto(f"{address}/{name}", wait_until="load")
    cut = page.evaluate("""() => [...document.querySelectorAll(".bd-article :is(p, li, dd, h1, h2, h3)")]
        .filter(e => !e.closest(".table-box, .long-table, .cell_output, pre, .math-display, svg"))
        .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display != "inline")
        .map(e => e.innerText.slice(0, 60))""")
    high = page.evaluate("""() => [...document.querySelectorAll(".bd-article table.dataframe td")]
        .map(e => e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).lineHeight))
        .filter(lines => lines > 15)""")
    one = page.evaluate("""() => [...document.querySelectorAll(".bd-article table.dataframe")]
        .filter(e => e.querySelector("thead th:nth-child(2)")?.getBoundingClientRect().left > 300)
        .map(e => e.innerText.slice(0, 60))""")
    page.close()
    assert cut == []
    assert high == []
    assert one == [], "tables of which a phone shows the first column alone"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_an_audit_finds_nothing_critical_or_serious(name, scheme, browser, address):
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.goto(f"{address}/{name}", wait_until="load")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    page.close()
    grave = [
        (one["id"], node["target"])
        for one in found
        if one["impact"] in ("critical", "serious")
        for node in one["nodes"]
    ]
    assert grave == [], grave[:5]


@pytest.mark.browser
def test_the_keyboard_alone_shows_the_claims_that_differ(browser, address):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/claims.html", wait_until="load")
    rows = page.locator(".claims tbody tr")
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "shown":
            break
    page.keyboard.press("ArrowRight")
    shown = [row for row in rows.all() if row.is_visible()]
    assert len(shown) == page.locator(".claims tr.differs").count() < rows.count()
    right = page.locator(".claims .table-box").evaluate("box => box.scrollWidth - box.clientWidth")
    page.emulate_media(media="print")
    assert page.locator(".claims tbody tr").last.is_visible()
    page.close()
    assert right <= 0


@pytest.mark.browser
def test_a_phone_sees_one_drawing_of_each_figure_and_that_is_the_stacked_one(browser, address):
    page = browser.new_page(viewport={"width": 360, "height": 900})
    page.goto(f"{address}/crossbar.html", wait_until="load")
    drawings = page.locator("figure.pimllm-figure svg")
    assert [drawing.is_visible() for drawing in drawings.all()] == [False, True]
    page.set_viewport_size({"width": 1280, "height": 900})
    assert [drawing.is_visible() for drawing in drawings.all()] == [True, False]
    page.close()


# --- two clicks from the landing page -----------------------------------------------------------------------------------


def read(name):
    return html.unescape((HTML / name).read_text())


def clicks(name):
    """Return where the links in the text of a page lead, as paths in the book with their anchors."""
    text = re.search(r"<article.*?</article>", (HTML / name).read_text(), flags=re.DOTALL)[0]
    found = re.findall(r'<a [^>]*href="([^"#:]*)(#[^"]*)?"', text)
    return {os.path.normpath(Path(name).parent / page) + anchor if page else name + anchor for page, anchor in found}


def anchored(name, anchor):
    """Return a page from one of its anchors on."""
    return re.split(rf'id="{re.escape(anchor)}"', read(name), maxsplit=1)[1]


@pytest.mark.browser
def test_whether_the_speed_up_is_real_is_on_the_landing_page_and_a_click_away():
    best = f"{float(published().set_index('id').value['speedup-opt-6.7b-128']):.1f}"
    assert f"{best} times as fast as TPU-LLM" in read("index.html")
    assert "results/03-tokens-per-second.html" in clicks("index.html")
    assert all(said in read("results/03-tokens-per-second.html") for said in (f"to {best} times", *PARTS.values()))


@pytest.mark.browser
def test_the_source_of_the_converters_power_is_two_clicks_away():
    assert "parameters.html#adc-8bit" in clicks("index.html")
    row = re.search(r"<td>power_w:.*?</tr>", anchored("parameters.html", "adc-8bit"), flags=re.DOTALL)[0]
    source = catalog.parts.entries["adc-8bit"]["power_w"]["source"]
    assert f'href="bibliography.html#{source}"' in row
    assert f"bibliography.html#{source}" in clicks("parameters.html")
    assert anchored("bibliography.html", source)


@pytest.mark.browser
def test_value_and_verdict_of_a_claim_are_a_click_away():
    assert "claims.html" in clicks("index.html")
    for claim in published().itertuples():
        row = anchored("claims.html", claim.id).split("</tr>")[0]
        assert apart(claim.value) in row
        assert claim.verdict in row


@pytest.mark.browser
@pytest.mark.parametrize("slug", READ)
def test_the_dataset_behind_the_landing_figure_is_two_clicks_away_with_hash_and_bibtex(slug):
    assert f"results/{slug}.html#where-this-comes-from" in clicks("index.html")
    said, content = anchored(f"results/{slug}.html", "where-this-comes-from"), (RESULTS / f"{slug}.nc").read_bytes()
    assert hash_of(content) in said
    assert re.search(r"@\w+\{", re.sub(r"<[^>]*>", "", said))
    (link,) = re.findall(r'href="([^"]*\.nc)"', said)
    assert (HTML / "results" / link).read_bytes() == content
