"""The book's pages: their code runs as it is printed, their commands work, and their sources hold no surprise."""

import doctest
import json
import re
import shlex
from dataclasses import fields
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import DATA, checkout

from pimllm_lib import catalog
from pimllm_lib.analog.noise import cases
from pimllm_lib.analysis import claims
from pimllm_lib.archive import dataset
from pimllm_lib.archive.cite import cite
from pimllm_lib.catalog.families import FAMILIES
from pimllm_lib.catalog.unread import REFUSED
from pimllm_lib.cli.main import main
from pimllm_lib.core import files, paths
from pimllm_lib.core.parts import fingerprint
from pimllm_lib.report import book, gallery, landing, pages, result_page, tables
from pimllm_lib.report.numbers import number
from pimllm_lib.studies import study_file
from pimllm_lib.workload.decoder import Decoder

PAGES = [*sorted(paths.BOOK.glob("*.md")), paths.ROOT / "README.md"]


def fences(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_on_a_page_gives_what_the_page_prints(path):
    names = {}
    for i, block in enumerate(fences(path, "python")):
        test = doctest.DocTestParser().get_doctest(block, names, f"{path.name}[{i}]", str(path), 0)
        runner = doctest.DocTestRunner()
        report = []
        runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
        assert runner.failures == 0, "".join(report)


@checkout
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_on_a_page_work(path, capsys):
    for block in fences(path, "console"):
        for line in re.findall(r"^\$ pimllm (.*)$", block, flags=re.MULTILINE):
            assert main(shlex.split(line)) == 0, line
    capsys.readouterr()


@checkout
def test_the_parts_and_models_of_the_run_page_are_valid(tmp_path):
    model, rival, array, system = fences(paths.BOOK / "run.md", "toml")
    assert rival in fences(paths.ROOT / "README.md", "toml")
    (tmp_path / "rival.toml").write_text(rival)
    (tmp_path / "model.toml").write_text(model)
    (tmp_path / "mine-64x16.toml").write_text(array)
    (tmp_path / "system.toml").write_text(system)
    argv = ["evaluate", "--model", str(tmp_path / "model.toml"), "--array", str(tmp_path / "mine-64x16.toml")]
    assert main(argv) == 0
    for system in ("system", "rival"):
        assert main(["evaluate", "--model", "opt-1.3b", "--system", str(tmp_path / f"{system}.toml")]) == 0


@checkout
def test_a_model_of_the_run_page_takes_the_fields_named_there_and_the_window_it_has_without_one(tmp_path):
    page = (paths.BOOK / "run.md").read_text()
    said = re.search(r"A TOML file may have.*?(?=Here is)", page, flags=re.DOTALL)[0]
    infinite = re.search(r"`window` \(in tokens; `(\w+)`, all of the context\)", said)[1]
    plain, windowed = tmp_path / "mine.toml", tmp_path / "windowed.toml"
    plain.write_text(fences(paths.BOOK / "run.md", "toml")[0])
    windowed.write_text(plain.read_text() + f"window = {infinite}\n")
    assert fingerprint(catalog.model(windowed)) == fingerprint(catalog.model(plain))
    names = set(re.findall(r"`(\w+)`", said)) - {infinite, "Decoder"}
    assert names == {"n_experts", "experts_per_token", "window"}
    assert names <= {field.name for field in fields(Decoder)}


@checkout
def test_the_products_of_a_noise_study_are_all_on_the_run_page():
    page = (paths.BOOK / "run.md").read_text()
    assert all(f"`{name}`" in page for name in cases.PRODUCTS)


@checkout
def test_the_studies_of_the_run_page_are_valid(tmp_path):
    for i, text in enumerate(fences(paths.BOOK / "run.md", "yaml")):
        (tmp_path / f"s{i}.yaml").write_text(text)
        assert study_file.read(tmp_path / f"s{i}.yaml").space.size >= 4
    assert i == 2


def test_a_family_is_read_or_refused_and_the_page_says_which():
    shown = ", ".join(tables.refused_families().frame.families).split(", ")
    assert sorted(shown) == sorted(REFUSED)
    assert REFUSED.keys().isdisjoint(FAMILIES)


def test_every_number_the_prose_takes_from_the_archive_is_there():
    known = pages.substitutions(DATA / "results")
    used = {name for path in PAGES for name in re.findall(r"\{\{ (\w+) \}\}", path.read_text())}
    assert used <= known.keys()


@checkout
def test_a_book_whose_sources_and_pages_stayed_is_not_made_again_and_one_changed_file_makes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "EXECUTED", tmp_path / "executed")
    monkeypatch.setattr(book, "MADE_OF", tmp_path / "made")
    monkeypatch.setattr(book.batch, "run", lambda *_, **__: pytest.fail("looked for what is stale"))
    monkeypatch.setattr(book.notebooks, "stale", lambda *_: False)
    (tmp_path / "executed").mkdir()
    book.MADE_OF.write_text(book._made_of())
    assert book.build() == []
    (tmp_path / "executed" / "new.nc").write_bytes(b"1")
    with pytest.raises(pytest.fail.Exception, match="looked"):
        book.build()


def a_result(slug, executed, repository=""):
    content = (DATA / "results" / f"{slug}.nc").read_bytes()
    ds = dataset.decode(content, slug)
    return result_page.Result(slug, executed, ds, content, cite(DATA, slug), repository)


def test_a_result_page_has_its_answer_first_and_its_provenance_last():
    slug = "03-tokens-per-second"
    output = {"data": {"text/markdown": "**forty-two**"}}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# Question\n\nWhy it is asked."},
        {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "into = 'x'"},
        {"cell_type": "code", "metadata": {}, "source": "compute()"},
        {"cell_type": "code", "metadata": {"tags": ["answer"]}, "source": "say()", "outputs": [output]},
    ]
    page = result_page.page(a_result(slug, {"cells": cells}))["cells"]
    first_lines = ["".join(cell["source"]).splitlines()[0] for cell in page]
    assert first_lines == [
        "# Question", "**forty-two**", ":::{div} reading", "Why it is asked.", "compute()", "## What next",
        "## Where this comes from",
    ]  # fmt: skip
    assert f"pimllm run {slug}" in page[-1]["source"]
    assert files.hash_of((DATA / "results" / f"{slug}.nc").read_bytes()) in page[-1]["source"]
    assert "Binder" not in page[-1]["source"]


@checkout
@pytest.mark.parametrize(
    ("repository", "link"),
    [
        ("", ""),
        ("https://github.com/a/b.git", "https://mybinder.org/v2/gh/a/b/HEAD?labpath=notebooks%2F03-x.ipynb"),
        ("https://example.org/a/b", "https://mybinder.org/v2/git/https%3A%2F%2Fexample.org%2Fa%2Fb/HEAD?labpath="),
    ],
)
def test_a_page_links_to_binder_once_the_project_has_an_address(repository, link):
    assert link in result_page.binder(repository, "03-x")
    assert bool(link) == bool(result_page.binder(repository, "03-x"))
    assert (paths.ROOT / ".binder" / "postBuild").is_file()


@pytest.mark.parametrize("slug", paths.slugs())
def test_the_table_for_download_holds_every_value_of_the_dataset(slug):
    ds = dataset.load(DATA / "results" / f"{slug}.nc")
    rows = pd.read_csv(StringIO(result_page.table(ds)), keep_default_na=False, dtype=str)
    for name in ds.data_vars:
        mine = rows[rows.variable == name]
        values = pd.to_numeric(mine.value, errors="coerce")
        assert set(mine.unit) <= {ds[name].attrs["units"]}
        assert values.sum() == pytest.approx(float(ds[name].sum()), rel=1e-9)
        assert (values != 0).sum() == int((ds[name] != 0).sum())


def test_a_figure_for_download_is_a_whole_svg_file():
    svg = '<svg role="img" xmlns="http://www.w3.org/2000/svg"><g/></svg>'
    cell = {"outputs": [{"data": {"text/html": ['<figure class="pimllm-figure">', svg, "</figure>"]}}, {"text": "x"}]}
    assert result_page.figures({"cells": [cell, {"cell_type": "markdown"}]}) == [svg]


def test_every_figure_of_the_gallery_leads_to_itself_and_to_its_chapter():
    svg = '<svg role="img" aria-label="What it shows." xmlns="http://www.w3.org/2000/svg"><g/></svg>'
    cell = {"outputs": [{"data": {"text/html": f'<figure class="pimllm-figure">{svg}{svg}</figure>' * 2}}]}
    results = [a_result("03-tokens-per-second", {"cells": [cell]})]
    page = gallery.page(results)
    assert page.startswith("# Every figure\n\n2 figures of 1 chapters")
    assert re.findall(r'<a href="([^"]*)"><img alt="Figure 3.\d" src="([^"]*)"></a>', page) == [
        (f"results/03-tokens-per-second.html#figure-3.{i}", f"_static/figures/03-tokens-per-second-{i}.svg")
        for i in (1, 2)
    ]
    assert page.count('<a href="results/03-tokens-per-second.html">How much faster') == 2
    assert page.count("What it shows.</figcaption>") == 2
    assert gallery.pictures(results) == {f"_static/figures/03-tokens-per-second-{i}.svg": svg.encode() for i in (1, 2)}


@checkout
def test_the_landing_page_says_the_same_as_its_figure_and_each_line_leads_to_its_chapter():
    found = landing.rows(DATA / "results")
    told, drawn = landing.lines(found, DATA / "results"), landing.figure(found)
    assert len(told.splitlines()) == 5
    for row in found:
        low, high = (float(end(row.faster)) for end in (np.nanmin, np.nanmax))
        assert f"{row.name.lower()} {number(low, 2)} to {number(high, 2)} and" in drawn.alt
        assert row.name == "The same, fed from memory" or f"[{row.name}](results/{row.slug}.ipynb)" in told
        assert paths.notebook(row.slug).is_file()
    for row in found[:3]:
        assert f"{np.nanmin(row.faster):.1f} to {np.nanmax(row.faster):.1f} times" in told
        assert f"{int((row.thriftier > 1).sum())} of {row.thriftier.size} pairs" in told
    assert drawn.svg.count("<svg") == drawn.narrow.count("<svg") == 1


def test_the_picture_for_those_who_link_to_the_book_has_the_size_that_they_show():
    card = landing.card(landing.rows(DATA / "results"))
    assert card[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(card[i : i + 4]) for i in (16, 20)] == [1200, 630]
    assert len(card) < 200_000


def test_figures_describe_themselves_and_follow_the_theme():
    import pimllm_lib as pl
    from pimllm_chapters import tokens_per_second

    two = {"system": ["tpu-llm", "pim-llm"], "model": ["opt-1.3b", "opt-6.7b"], "context_len": [128, 256]}
    compared = pl.metrics.compare(pl.metrics.summary(pl.evaluate(conventions="as-published", **two)))
    figures = [tokens_per_second.rates_and_speedup(compared, claims.check(compared)) for _ in range(2)]
    assert figures[0].svg == figures[1].svg
    assert 'role="img" aria-label="Left: tokens per second of tpu-llm and pim-llm' in figures[0].svg
    assert "currentColor" in figures[0].svg
    assert "#010203" not in figures[0].svg
    assert len(figures[0].svg) < 60_000


@checkout
def test_no_page_source_asks_another_host_for_anything():
    for path in [*Path(paths.BOOK / "_static").iterdir(), *PAGES]:
        text = path.read_text()
        assert not re.search(r"""(src|@import|url\()\s*=?\s*["'(]?https?://""", text), path


def prose(text):
    """Return Markdown without code, tables and substitutions."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    return re.sub(r"`[^`]*`|\{\{.*?\}\}|\$.*?\$", "", "\n".join(lines), flags=re.DOTALL)


def test_no_headline_number_is_typed_into_prose():
    rows = claims.published()
    headlines = {value for value in rows.value if len(value.replace(".", "").replace("-", "").lstrip("0")) >= 3}
    texts = {path.name: path.read_text() for path in sorted(paths.BOOK.glob("*.md"))}
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        texts[path.name] = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    typed = {
        (name, number)
        for name, text in texts.items()
        for number in re.findall(r"(?<![\w.])-?\d+\.?\d*", prose(text))
        if number in headlines and number not in ("128", "256", "512", "1024", "145", "169", "279", "318")
    }
    assert typed == set()


def test_a_page_closes_what_only_shows_and_ends_with_the_functions_that_compute():
    executed = json.loads(paths.notebook("15-design-space").read_text())
    text = result_page.functions(executed)
    assert text.startswith(":::{dropdown} ")
    assert "`notebooks/pimllm_chapters/design_space/compute.py`" in text
    assert "def explore(" in text
    assert "def answer(" not in text
    assert result_page.functions(json.loads(paths.notebook("03-tokens-per-second").read_text())) == ""
    closed = ["".join(c["source"]) for c in executed["cells"] if result_page._displays(c)]
    assert "figures.map_of(front, both)" in closed
    assert not [text for text in closed if "save(" in text or " = " in text]


@checkout
def test_answers_of_the_exercises_are_what_their_commands_print(capsys):
    same, text = doctest.OutputChecker().check_output, (paths.BOOK / "exercises.md").read_text()
    answers = [
        part for block in fences(paths.BOOK / "exercises.md", "console") for part in block.split("$ pimllm ")[1:]
    ]
    assert 6 <= len(re.findall(r"^## \d", text, flags=re.MULTILINE)) <= 10
    assert text.count("{dropdown} Answer") == len(re.findall(r"^## \d", text, flags=re.MULTILINE))
    for command, wanted in (part.split("\n", 1) for part in answers):
        assert main(shlex.split(command)) == 0
        printed = capsys.readouterr().out
        assert wanted.strip()
        assert same(wanted, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), f"{command}\n{printed}"
