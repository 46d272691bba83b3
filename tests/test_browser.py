"""Every page in a real browser: no error in the console, no request to another host, nothing wider than the page."""

import functools
import http.server
import shutil
import threading

import pytest

from pimllm_lib.core.paths import BOOK

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
    width = page.evaluate("document.scrollingElement.scrollWidth")
    page.close()
    assert wrong == []
    assert width <= 700


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light(name):
    assert (HTML / name).stat().st_size < 1_000_000
