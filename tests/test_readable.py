"""What readers meet on pages: tables and figures that say what they are, sources that lead both ways, terms that lead."""

import importlib.util
import re
from itertools import pairwise

import matplotlib as mpl
import pytest
from conftest import DATA, checkout

from pimllm_lib.analysis import claims
from pimllm_lib.archive import cite, dataset, manifest
from pimllm_lib.core.paths import BOOK
from pimllm_lib.report import card, claims_page, figure, tables
from pimllm_lib.report.diagram import machine

KEYS = (
    set(re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text(), flags=re.MULTILINE))
    if BOOK.is_dir()
    else set()
)


def extension(name):
    """Return a module of the book's own extensions of Sphinx."""
    pytest.importorskip("pybtex")
    spec = importlib.util.spec_from_file_location(name, BOOK / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_table_has_a_caption_scopes_no_empty_header_and_a_box_that_the_keyboard_reaches():
    html = tables.Table([{"": "x", "a": "1"}, {"": "y", "a": "2"}], long=True, title="A < B")._repr_html_()
    assert html.startswith('<div class="long-table" tabindex="0" role="region" aria-label="A &lt; B, 2 rows">')
    assert "<caption>A &lt; B, 2 rows</caption>" in html
    assert '<th scope="col" class="number">a</th>' in html
    assert "></th>" not in html
    assert "<th>" not in html
    plain = tables.Table([{"a": "1"}])._repr_html_()
    assert plain.startswith('<div class="table-box" tabindex="0" role="region" aria-label="Table">')
    assert "<caption>" not in plain


def test_the_inputs_of_a_chapter_begin_with_the_constant_of_the_widest_range():
    frame = tables.sources("edge-32x32", "adc-8bit", "sram-8mb").frame
    entries = {(name, field): entry for name in frame.part.unique() for field, entry in tables._quantities(name)}
    widths = [tables._width(entries[row.part, row.quantity]) for row in frame.itertuples()]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1
    assert len(frame) == len(entries)


def test_names_that_would_leave_panels_no_room_stand_above_their_rows_on_a_phone():
    with figure.panels(1, 2, sharey=True, figsize=(7.6, 3)) as (drawn, axes):
        for ax in axes:
            ax.barh([f"{row} row, whose name is rather long" for row in "abc"], [1, 2, 3])
        figure.Figure(drawn, "Rows.")
        drawn.draw_without_rendering()
        for ax in axes:
            inside, names = ax.get_window_extent(), [name.get_window_extent() for name in ax.get_yticklabels()]
            assert ax.get_position().width > 0.8
            assert all(inside.x0 <= name.x0 and name.y1 <= above.y0 for name, above in pairwise(names))


def test_a_figure_has_its_panels_below_each_other_for_phones_and_shows_one_of_both():
    with figure.panels(1, 2, sharey=True, figsize=(7.6, 3)) as (drawn, (left, right)):
        left.plot([1, 2], [1, 2])
        left.set_ylabel("rate")
        right.set_xlabel("context")
        figure.legend(drawn, {"one": {}, "two": {}})
        shown = figure.Figure(drawn, "Two panels.")
        tops = [ax.get_position().y0 for ax in (left, right)]
        assert tops[0] > tops[1]
        assert left.get_position().x0 == pytest.approx(right.get_position().x0, abs=0.02)
        assert right.get_ylabel() == "rate"
        assert any(text.get_text() for text in right.get_yticklabels())
    sizes = [
        tuple(map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())) for svg in (shown.svg, shown.narrow)
    ]
    assert sizes[0][0] > 1.5 * sizes[0][1]
    assert sizes[1][0] < sizes[1][1]
    html = shown._repr_html_()
    assert html.count("<svg") == 2
    assert re.search(r'<svg[^>]*class="narrow" style="display: none;', html)
    assert html.index(shown.svg) < html.index('class="narrow"')
    assert 'id="DejaVuSans' in shown.svg
    assert 'id="DejaVuSans' not in shown.narrow


def test_a_figure_is_the_same_whatever_a_user_set_for_figures():
    def drawn():
        with figure.panels(1, 2, figsize=(7, 3)) as (panels, axes):
            for ax in axes:
                ax.plot([1, 2], [1, 2])
        return figure.Figure(panels, "Two lines.")

    with mpl.rc_context({"savefig.pad_inches": 3, "savefig.bbox": "tight", "font.size": 30}):
        theirs = drawn()
    ours = drawn()
    assert (theirs.svg, theirs.narrow) == (ours.svg, ours.narrow)


def test_a_log_axis_has_powers_of_ten_and_no_markup_and_labels_that_do_not_touch():
    with figure.panels(1, 2, figsize=(7, 3)) as (drawn, (left, right)):
        left.loglog([1e-6, 1e6], [1e-9, 1e9])
        right.set_xticks(range(40), [f"label {i}" for i in range(40)])
        figure.Figure(drawn, "Powers.")
        texts = [text.get_text() for text in (*left.get_xticklabels(), *left.get_yticklabels())]
        shown = [text.get_window_extent() for text in right.get_xticklabels() if text.get_visible()]
    assert {"10⁻⁶", "10⁶", "1"} <= set(texts)
    assert not any("$" in text for text in texts)
    assert 1 < len(shown) < 40
    assert not any(a.overlaps(b) for a, b in pairwise(shown))


@checkout
def test_captions_are_numbered_by_chapter_and_say_what_the_figure_shows():
    captions = extension("captions")
    assert captions.chapter_of("results/03-tokens-per-second") == "3."
    assert captions.chapter_of("machine") == ""
    shown = tables.Table([{"a": "1"}], title="Rates")._repr_html_()
    svg = '<svg role="img" aria-label="What it shows." viewBox="0 0 1 1"></svg>'
    body = (
        f'{shown}<figure class="pimllm-figure">{svg}{svg}</figure>{shown}<figure class="pimllm-figure">{svg}</figure>'
    )
    page = captions.captioned(body, "3.")
    assert re.findall(r'<caption><a href="#table-(\S+)">Table \1\.</a> Rates</caption>', page) == ["3.1", "3.2"]
    assert re.findall(r'<a href="#figure-(\S+)">Figure \1\.</a> What it shows\.</figcaption>', page) == ["3.1", "3.2"]
    assert page.count('aria-labelledby="figure-3.1-caption"') == 2
    assert re.findall(
        r'id="table-(\S+)" class="table-box" tabindex="0" role="region" aria-label="Table \1\. Rates"', page
    )
    assert "figure-1" in captions.captioned(machine())


@checkout
def test_header_cells_of_prose_have_scopes_and_empty_heads_go():
    captions = extension("captions")
    assert captions.scoped('<th class="head"><p>a</p></th>') == '<th scope="col" class="head"><p>a</p></th>'
    assert captions.scoped('<th class="head"></th><th class="head"><p>b</p></th>').startswith("<td></td><th scope")
    assert captions.scoped("<thead><tr><th></th>\n<th></th></tr></thead><tbody>") == "<tbody>"
    assert captions.scoped('<thead><th scope="col">a</th>') == '<thead><th scope="col">a</th>'


@checkout
def test_every_source_of_the_catalog_is_an_entry_and_leads_there_and_back():
    references = extension("references")
    assert set(tables.uses()) - KEYS <= {"pimllm"}
    assert "adc-8bit" in tables.uses()["isaac2016"]
    told = {"isaac2016": "Shafiee et al.: ISAAC, 2016"}
    page = references.linked(tables.all_sources(), told, "")
    want = '<td><a class="reference internal" href="bibliography.html#isaac2016" title="Shafiee et al.: ISAAC, 2016">'
    assert want in page
    cited = '<a class="reference internal" href="../bibliography.html#isaac2016"><span>x</span></a>'
    assert 'title="Shafiee et al.: ISAAC, 2016"' in references.linked(cited, told, "../")
    entry = '<div role="list" class="citation-list"><div class="citation" id="isaac2016" role="doc-biblioentry">x</div>'
    back = references.used(entry, {"isaac2016": ['<a href="parameters.html#adc-8bit">adc-8bit</a>']})
    assert 'Used by <a href="parameters.html#adc-8bit">adc-8bit</a>.</p></div>' in back
    assert "role=" not in back
    for name in tables._entries():
        assert f'<h3 id="{name}">' in page


@checkout
def test_labels_of_the_bibliography_are_authors_and_year_each_once():
    references, pybtex = extension("references"), pytest.importorskip("pybtex.database")
    entries = list(pybtex.parse_file(str(BOOK / "references.bib")).entries.values())
    labels = list(references.AuthorYear().format_labels(entries))
    assert len(set(labels)) == len(labels) == len(KEYS)
    assert "Shafiee et al., 2016" in labels


@checkout
def test_terms_lead_to_the_glossary_at_their_first_use_and_not_within_others():
    glossary = extension("glossary")
    assert glossary.spots("GEMV and GEMV", {"GEMV": 1}) == [(0, 4, "GEMV")]
    assert glossary.spots("GEMVs, sub-GEMV", {"GEMV": 1}) == []
    assert glossary.spots("a systolic array", {"array": 1, "systolic array": 1}) == [(2, 16, "systolic array")]
    text = (BOOK / "glossary.md").read_text()
    for term in ("GEMV", "TPU-LLM", "tokens/J", "utilisation"):
        assert re.search(rf"^{term}\n  \S", text, flags=re.MULTILINE)


@checkout
def test_a_page_is_described_by_its_first_paragraph_in_whole_words():
    described, nodes = extension("described"), pytest.importorskip("docutils.nodes")
    page = nodes.section("", nodes.paragraph(text="Short."), nodes.paragraph(text="word " * 80))
    said = described.description(page)
    assert len(said) <= 204
    assert set(said.split()) == {"word", "..."}
    assert described.description(nodes.section()) == ""
    boxed = nodes.section(
        "", *(nodes.paragraph(text=text) for text in ("Question Why?", "Answer So.", "How sure " * 9))
    )
    assert described.description(boxed) == "So."


@checkout
@pytest.mark.parametrize(("home", "before"), [("", "../"), ("https://example.org/b/", "https://example.org/b/")])
def test_a_page_has_a_card_of_its_own_whose_address_is_whole_once_the_book_has_one(home, before, tmp_path):
    described, nodes = extension("described"), pytest.importorskip("docutils.nodes")
    app = type("App", (), {"outdir": tmp_path, "config": type("Config", (), {"html_baseurl": home})})
    context = {"title": "<em>Who</em> &amp; what wins?"}
    described._describe(app, "results/x", "", context, nodes.section("", nodes.paragraph(text="Answer 1 < 2.")))
    tags = dict(re.findall(r'<meta (?:name|property)="([^"]*)" content="([^"]*)">', context["metatags"]))
    assert tags["og:image"] == f"{before}_static/cards/results-x.png"
    assert tags["og:title"] == "Who &amp; what wins?"
    assert tags["description"] == tags["og:description"] == "1 &lt; 2."
    assert ("og:url" in tags) == bool(home)
    drawn = (tmp_path / "_static" / "cards" / "results-x.png").read_bytes()
    assert drawn == card.picture("Who & what wins?", "1 < 2.")


@pytest.mark.parametrize("said", ["So.", "word " * 400, "$2 and $3"])
def test_a_card_has_the_size_that_those_who_link_show_whatever_a_user_set(said):
    with mpl.rc_context({"savefig.bbox": "tight", "figure.dpi": 50, "font.size": 40, "savefig.dpi": 30}):
        drawn = card.picture("Who wins? " * 40, said)
    assert drawn == card.picture("Who wins? " * 40, said)
    assert [int.from_bytes(drawn[i : i + 4]) for i in (16, 20)] == [1200, 630]


@pytest.fixture(scope="module")
def printed():
    return claims.published().set_index("id")


def test_claims_that_differ_stand_first_each_row_leads_to_its_chapter_and_buttons_hide_the_others(printed):
    every = claims.every()
    html = claims_page.table(every, printed.quantity.to_dict())
    rows = re.findall(r'<tr id="([^"]+)" class="(\w+) chapter-(\d\d)"><td>(\w+)</td>', html)
    assert {name for name, *_ in rows} == set(every.index)
    assert [verdict for _, verdict, *_ in rows] == sorted((v for _, v, *_ in rows), reverse=True)
    assert all(f'href="results/{claims_page.CHAPTERS[printed.quantity[name]]}.html"' in html for name, *_ in rows)
    assert "<script" not in html
    for kind, count in (("differs", (every.verdict == "differs").sum()), ("all", len(every))):
        assert f'value="{kind}"' in html
        assert f"{kind} ({count})" in html
    assert all(reason in html for reason in every.reason[every.verdict == "differs"])


@pytest.mark.parametrize(
    "slug",
    [
        pytest.param(slug, marks=pytest.mark.slow if slug in ("03-tokens-per-second", "05-energy") else ())  # most rows
        for slug in sorted(set(claims_page.CHAPTERS.values()))
    ],
)
def test_the_chapter_of_a_claim_holds_it_as_a_citable_cell(slug, printed):
    ds = dataset.load(manifest.names(DATA)[slug])
    rows = printed[[claims_page.CHAPTERS[quantity] == slug for quantity in printed.quantity]]
    assert len(rows)
    for row in rows.itertuples():
        if row.system not in ds.system.values or row.model not in ds.model.values:
            continue
        coords = {"system": row.system, "model": row.model, "context_len": row.context_len}
        coords |= {"conventions": "as-published"} if "conventions" in ds.dims else {}
        found = cite.cell(ds, row.quantity, ",".join(f"{dim}={label}" for dim, label in coords.items()))
        said = found["value"] * claims.SCALES.get(row.unit, 1.0)
        assert claims.verdict(row._asdict(), said) == row.verdict
