"""The book as one PDF: pages, outline, links that stay inside, tables whole, figures as lines and not as pictures."""

import os
import re

import pytest
from conftest import checkout

from pimllm_lib import __version__
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.report import book, pdf

PAGES = ["index", "results/04-latency-breakdown", "explore", "claims"]


@checkout
def test_the_contents_list_every_page_that_the_book_has():
    listed = [name for _, names in pdf.contents() for name in names]
    assert listed[0] == "index"
    assert {f"results/{slug}" for slug in paths.slugs()} | {"claims", "bibliography"} < set(listed)
    assert len(listed) == len(set(listed))


@checkout
def test_without_a_browser_nothing_is_executed_and_one_line_says_what_is_wanted(monkeypatch, capsys):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(pdf, "_BROWSERS", ("chromium",))
    monkeypatch.setattr(book, "build", lambda **_: pytest.fail("executed"))
    assert main(["book", "--pdf"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"pimllm: no Chromium to print with; wanted version 131 or newer, .*\n", said.err)


@pytest.mark.parametrize(
    ("target", "link"),
    [
        ("#here", ' href="#p-results-04-x--here"'),
        ("../claims.html#table-1", ' href="#p-claims--table-1"'),
        ("../claims.html", ' href="#p-claims"'),
        ("https://doi.org/1", ' href="https://doi.org/1"'),
        ("../_downloads/a/04-x.nc", ""),
        ("../genindex.html", ""),
    ],
)
def test_a_link_leads_into_the_document_or_to_another_host_or_nowhere(target, link):
    assert pdf._link("href", target, "results/04-x", ["results/04-x", "claims"]) == link


def test_a_picture_that_a_page_shows_is_found_from_the_document():
    shown = pdf._retagged('<img alt="Figure 1.1" src="_static/figures/one%20two.svg">', "gallery", ["gallery"])
    assert f'src="{(pdf.HTML / "_static" / "figures" / "one two.svg").as_uri()}"' in shown
    assert pdf._retagged('<img src="data:x">', "gallery", ["gallery"]) == '<img src="data:x">'


def test_what_waits_to_be_opened_is_left_out_but_for_answers_which_paper_shows_open(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "HTML", tmp_path)
    page = '<details class="hide"><p>code</p></details><details class="sd-dropdown printed"><p>so</p></details>'
    (tmp_path / "x.html").write_text(f'<article class="bd-article">{page}</article>', encoding="utf-8")
    assert pdf._article("x", ["x"]) == '<details open class="sd-dropdown printed"><p>so</p></details>'


def test_a_book_that_is_not_rendered_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pdf, "HTML", tmp_path)
    with pytest.raises(BadInput, match=r"index\.html does not exist; wanted a rendered book"):
        pdf._read("index")


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    from pypdf import PdfReader

    return PdfReader(pdf.build(PAGES, tmp_path_factory.mktemp("pdf") / "some.pdf"))


def titles(outline):
    return [title for entry in outline for title in (titles(entry) if isinstance(entry, list) else [entry.title])]


@pytest.mark.browser
def test_the_contents_say_on_which_sheet_each_page_begins(printed):
    assert 12 < len(printed.pages) < 60
    begins = {
        name: printed.get_destination_page_number(place) + 1 for name, place in printed.named_destinations.items()
    }
    cover, contents = (page.extract_text() for page in printed.pages[:2])
    assert f"Version {__version__}, 20" in cover
    said = list(map(int, re.findall(r"(\d+)\s*$", contents, flags=re.MULTILINE)))
    assert [n for n in said if n != 2] == [begins[f"/{pdf._key(name)}"] for name in PAGES]  # 2: the sheet's own


@pytest.mark.browser
def test_the_outline_has_parts_pages_and_headings(printed):
    found = titles(printed.outline)
    assert {"Results", "Use it", "Shares", "Published and computed"} <= set(found)
    assert "Who wins" not in found  # of the explorer the note is printed alone


@pytest.mark.browser
def test_links_stay_inside_or_lead_to_another_host(printed):
    inside, outside = 0, set()
    for page in printed.pages:
        for note in (note.get_object() for note in page.get("/Annots", [])):
            if "/Dest" in note:
                assert note["/Dest"] in printed.named_destinations
                inside += 1
            else:
                outside.add(note["/A"]["/URI"].split(":")[0])
    assert inside > 15
    assert outside <= {"https", "http"}


@pytest.mark.browser
def test_a_long_table_is_there_to_its_last_row_and_no_figure_is_a_picture(printed):
    text = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in printed.pages))
    rows = re.findall(r"<tr.*?</tr>", pdf._read("claims"), flags=re.DOTALL)
    assert len(rows) > 200
    last = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", rows[-1], flags=re.DOTALL)]
    assert all(word in text for cell in last for word in cell.split())
    assert "Figure 4.1." in text
    assert [image for page in printed.pages for image in page.images] == []
