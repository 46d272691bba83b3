"""What a reader sees first: a box of four parts on every chapter, of at most sixty words, computed from the archive."""

import ast
import json
import re

import pytest
from conftest import DATA

from pimllm_lib.archive import dataset
from pimllm_lib.core import paths
from pimllm_lib.report import box, result_page

#: How the archived dataset of a chapter becomes what its notebook calls for its box with; nothing where that is `ds`.
ARGUMENTS = {
    "01-operation-share": "summary = pl.metrics.summary(ds)",
    "02-dataflows": "compared = dataflows.measures(ds)",
    "03-tokens-per-second": "compared = pl.metrics.compare(pl.metrics.summary(ds))",
    "04-latency-breakdown": "crossed, summary = ds, pl.metrics.summary(ds)",
    "05-energy": "compared = pl.metrics.compare(pl.metrics.summary(ds))",
    "06-comparison": "ops = ds",
    "07-accounting": "way, _ = accounting.way_and_alone(ds)",
    "08-validation": "peers = blocks = chips = ds",
    "09-routing": """
ideal = VectorUnit.like(pl.catalog.systems["tpu-llm"].array, name="1024 lanes")
mixed = attention_from(ds, system="pim-llm", donor=ideal.name, name="mixed")
rates, same = pl.metrics.summary(ds).tokens_per_s, pl.metrics.summary(mixed).tokens_per_s
lead = routing.leads(rates.sel(system=["pim-llm", "tpu-llm", ideal.name]), same, ideal.name)""",
    "10-long-context": """
designs = stacked = ds
setting = Setting(tuple(models), tuple(context_len), memory_gib, at, far)""",
    "12-pim-attention": "rows = machines = ds; near, far = row_context[-2:]",
    "14-other-models": "groups = compute.families(models); verdicts = compute.verdicts(ds, groups)",
    "15-design-space": "front, both = ds, compute.published(model, context_len)",
    "18-one-bit-models": "scaled, shown = ds, 128.0",
}


def boxed(slug):
    """Return the box of a chapter as its notebook makes it, of the archived dataset."""
    cells = [cell for cell in json.loads(paths.notebook(slug).read_text())["cells"] if cell["cell_type"] == "code"]
    (answer,) = ("".join(cell["source"]) for cell in cells if cell["metadata"].get("tags") == ["answer"])
    ds = dataset.load(DATA / "results" / f"{slug}.nc")
    names = {"ds": ds}
    exec("".join(cells[1]["source"]), names)  # parameters that are younger than the file, at their defaults
    names |= dataset.parameters(ds)
    exec("".join(cells[0]["source"]) + "\n" + ARGUMENTS.get(slug, ""), names)
    return eval(ast.unparse(ast.parse(answer).body[-1]), names)


@pytest.mark.parametrize("slug", paths.slugs())
def test_a_chapter_begins_with_four_parts_of_sixty_words_in_all(slug):
    made = boxed(slug)
    assert all(getattr(made, part).strip() for part in box.PARTS)
    assert re.match(r"[A-Z].*\?$", made.question)
    assert all(getattr(made, part).endswith(".") for part in ("answer", "sure", "decides"))
    assert re.search(r"\d", made.answer)
    assert "nan" not in made._repr_markdown_()
    assert 25 <= made.words <= box.LONGEST, made._repr_markdown_()


def test_words_are_what_a_reader_reads():
    parts = {"question": "Why?", "answer": "Since [it is so](17-standing-power.ipynb), 12\u202f000 times.",
             "sure": "0.17 to 2.4 % &#60; x", "decides": "`static_power` / **SRAM**."}  # fmt: skip
    assert box.Box(**parts).words == 1 + 6 + 4 + 2
    shown = box.Box(**parts, more="| a |")._repr_markdown_()
    assert shown.startswith('<div class="answer">\n\n**Question** Why?\n\n**Answer** Since')
    assert shown.endswith("**SRAM**.\n\n</div>\n\n| a |")


def test_every_chapter_leads_on_to_two_others_by_their_questions():
    assert set(result_page.NEXT) == set(paths.slugs())
    for slug, after in result_page.NEXT.items():
        assert len(set(after)) == 2
        assert slug not in after
    assert result_page.following("01-operation-share") == (
        "## What next\n\n- [How much faster does PIM-LLM decode, and than what?](03-tokens-per-second.ipynb)\n"
        "- [Which conclusions hold for other models?](14-other-models.ipynb)"
    )
    assert result_page.following("mine") == ""


def test_the_time_to_read_counts_prose_and_computed_sentences_and_no_code():
    cells = [{"cell_type": "markdown", "source": "word " * 900}, {"cell_type": "code", "source": "x " * 9000, "outputs": [
        {"data": {"text/markdown": "said " * 300, "text/html": "<table>" + "cell " * 9000}}]}]  # fmt: skip
    assert "About 6 minutes to read." in result_page.reading({"cells": cells})
    assert "About 1 minutes" not in result_page.reading({"cells": []})
