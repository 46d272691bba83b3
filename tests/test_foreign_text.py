"""Foreign text stays text: what a file says steers no terminal, and is no markup in a page."""

import ast
import json
from pathlib import Path

import pytest
import xarray as xr
from test_notebooks import SMALL

import pimllm_lib as pl
from pimllm_lib.archive import dataset, manifest, notebooks, parameters
from pimllm_lib.cli import command
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput, one_line
from pimllm_lib.report.box import PARTS, Box
from pimllm_lib.report.figure import Figure
from pimllm_lib.report.tables import Table
from pimllm_lib.report.text import Sentence, escaped

pytestmark = pytest.mark.adversity
#: Clears a screen, sets a title, turns the direction of writing, goes back a line, and says that all is well.
NASTY = "\x1b[2J\x1b]0;x\x07\u202e\x9b1A\r\nresults as the manifest says: 1"


def harmless(text):
    return all(line == one_line(line) for line in text.split("\n")) and "\nresults as the manifest says: 1" not in text


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """Return two folders with a result each, of which title, labels, unit, meaning and attributes are nasty."""
    tmp_path = tmp_path_factory.mktemp("nasty")
    ds = pl.evaluate(system="tpu-llm", model="opt-125m", context_len=[8, 16])
    for name, times in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        ds = ds.assign(latency_s=ds.latency_s * times).assign_coords(model=[f"{NASTY}{name}"])
        path = dataset.save(ds, "mine", title=NASTY, into=folder, parameters={"model": f"{NASTY}{name}"})
        held = xr.load_dataset(path, engine="h5netcdf")
        held.latency_s.attrs |= {"units": NASTY, "long_name": NASTY}
        held.attrs["licence"] = NASTY + name
        path.unlink()
        (folder / manifest.NAME).unlink(missing_ok=True)
        held.to_netcdf(path, engine="h5netcdf")
    return tmp_path


@pytest.mark.parametrize("words", [
    ["show", "mine", "--archive", "one"],
    ["diff", "one", "two"],
    ["diff", "one", "two", "--changelog"],
    ["cite", "mine", "--archive", "one"],
    ["cite", "mine::latency_s::context_len=8", "--archive", "one"],
    ["cite", "mine::latency_s::model=x", "--archive", "one"],
    ["verify", "--no-recompute", "--archive", "one"],
    ["show", NASTY, "--archive", "one"],
    ["evaluate", "--model", NASTY],
])  # fmt: skip
def test_what_a_file_says_steers_no_terminal(words, nasty, monkeypatch, capsys):
    monkeypatch.chdir(nasty)
    main(words)
    said = capsys.readouterr()
    assert r"\x1b[2J" in said.out + said.err or words[0] == "verify"
    assert harmless(said.out), said.out
    assert harmless(said.err), said.err


def test_json_holds_the_text_as_it_is(nasty, monkeypatch, capsys):
    monkeypatch.chdir(nasty)
    assert main(["show", "mine", "--archive", "one", "--json"]) == 0
    out = capsys.readouterr().out
    assert harmless(out)
    assert json.loads(out)["title"] == NASTY


def test_the_error_of_a_notebooks_cell_steers_no_terminal(tmp_path, monkeypatch, capsys, in_process):
    source = f"raise type({NASTY!r}, (Exception,), {{}})({NASTY!r})"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "mine.ipynb").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(notebooks.NotebookFailed, match="failed in cell") as failed:
        notebooks.run("mine.ipynb", tmp_path / "out", {})
    assert r"\x1b[2J" in str(failed.value)
    command.print_problems([failed.value])
    assert harmless(capsys.readouterr().err)


def test_lines_of_a_problem_after_the_first_cannot_pass_for_lines_of_ours(capsys):
    assert command.print_problems([BadInput("first\npimllm: all is well\n  where")]) == 1
    assert capsys.readouterr().err == "pimllm: first\n  pimllm: all is well\n  where\n"


def test_spaces_of_any_kind_are_shown_as_they_are():
    assert one_line("12\u202f287\xa0m\u3000x") == "12\u202f287\xa0m\u3000x"


def test_every_command_prints_by_one_function():
    """Save JSON and CSV, which stay what they are."""
    for path in sorted(Path(command.__file__).parent.glob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printed = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "print"]
        if path.name != "command.py":
            assert [text for text in printed if not text.startswith(("json", "frame.to_"))] == []


MARKUP = "<b>x</b>*a*[b](c)_d_`e`$f$&lt;{{g}}"
MODEL = f"""name = '{MARKUP}'
d_model = 64\nd_ff = 64\nn_layers = 1\nn_heads = 2\nn_kv_heads = 2\nhead_dim = 32\nvocab_size = 9
"""


@pytest.mark.parametrize("text", [MARKUP, "__x__", "http://x", "www.x", "a|b", "# x", "![x](y)", "x\ny", NASTY])
def test_an_escaped_name_holds_no_markup_and_reads_back(text):
    from html import unescape

    assert unescape(escaped(text)) == one_line(text)
    assert escaped(text) not in (text, "")
    assert not set("<>`*[]{}$|~\\") & set(escaped(text))


@pytest.mark.parametrize("name", ["opt-6.7b", "llama-3.2-1b", "+ off_chip_memory", "tpu-llm", "x (y), 8 bits"])
def test_usual_names_stay_as_they_are(name):
    assert escaped(name) == name


def with_models(slug):
    """Return small parameters of a notebook, the first model of each list being one from a file."""
    given = dict(SMALL[slug])
    for name in parameters.of(slug):
        if name == "models":
            given[name] = "['mine.toml', 'llama-3-8b']"
        elif name in ("model", "small_model"):
            given[name] = "mine.toml"
    return parameters.check(slug, given)


#: What takes a second; and notebooks whose models are the catalog's alone, or those that somebody measured.
_QUICK = ("01-operation-share", "09-routing")
_CATALOGS = ("08-validation", "13-sensitivity", "16-analog-engine", "19-machines-one-can-buy")


PIECES = ("<b>", "*a*", "[b]", "`e`", "$f$", "&lt;", "{{")


def recorded(monkeypatch, kind):
    """Return a list that takes every object of a class that is made from now on."""
    made, before = [], kind.__init__

    def note(self, *args, **options):
        made.append(self)
        if kind is not Sentence:
            before(self, *args, **options)

    monkeypatch.setattr(kind, "__init__", note)
    return made


@pytest.mark.parametrize(
    "slug",
    [
        pytest.param(slug, marks=() if slug in _QUICK else pytest.mark.slow)
        for slug in paths.slugs()
        if slug not in _CATALOGS
    ],
)
def test_a_model_named_with_markup_is_text_in_every_cell_of_a_page(slug, tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(MODEL)
    made = {kind: recorded(monkeypatch, kind) for kind in (Sentence, Box, Table, Figure)}
    notebooks.run(slug, tmp_path / "out", with_models(slug))
    sentences = [*map(str, made[Sentence]), *(getattr(one, part) for one in made[Box] for part in PARTS)]
    html = [one._repr_html_() for one in (*made[Table], *made[Figure])]
    assert sentences
    named = any(escaped(MARKUP) in text for text in sentences) or any("&lt;b&gt;" in text for text in html)
    assert named or slug == "07-accounting"  # which names presets alone
    assert [text for text in sentences if any(piece in text for piece in PIECES)] == []
    assert [text for text in html if "<b>" in text] == []
