"""Sources attest archived results: what code says decides, nothing is written anew, and nothing said is lost."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import tokenize

import pytest
from conftest import DATA, checkout, copied_checkout

from pimllm_lib import __version__
from pimllm_lib.archive import attested, code, dataset, diff, jobs, manifest, provenance, verify
from pimllm_lib.cli.main import main
from pimllm_lib.core import files, paths

SLUG = "01-operation-share"
NAME = f"results/{SLUG}.nc"
SHA256 = files.hash_of((DATA / NAME).read_bytes())


@pytest.fixture
def folder(tmp_path):
    """An archive of one result that no sources at hand have given."""
    ds = dataset.load(DATA / NAME)
    record = dataset.record(ds) | {"source_hash": "0" * 16}
    path = dataset.write(ds.assign_attrs(provenance=json.dumps(record)), tmp_path / "made" / NAME)
    manifest.publish(tmp_path / "archive", {NAME: path.read_bytes()})
    return tmp_path / "archive"


def sha256_of(folder):
    return files.hash_of((folder / NAME).read_bytes())


# what code says


def test_comments_docstrings_blank_lines_breaks_and_the_version_say_nothing():
    plain = '__version__ = "1"\nx = f(1, "a # b")\n\n\ndef g(y):\n    return y + 1\n'
    wordy = (
        '"""About\nit."""\n\n# first\n__version__ = "2.0.dev0"\nx = f(  # why\n    1, "a # b")\n\n\n\n'
        'def g(y):\n    r"""It\'s # "quoted".\n\n    """\n\n    # and so\n    return y + 1  # "then"\n'
    )
    assert code.said(plain) == code.said(wordy)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("def _a():\n    pass", "def _b():\n    pass"),
        ('x = """a\n# b"""', 'x = """a\n# c"""'),
        ("x = f'{a}  {b}'", "x = f'{a} {b}'"),
        ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"),
        ("x = a - b", "x = a + b"),
        ('x = ""\n"""a"""', 'x = ""\ny'),
    ],
)
def test_code_that_does_something_else_says_something_else(one, other):
    assert code.said(one) != code.said(other)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later Pythons take formatted strings apart")
def test_what_the_library_says_are_pythons_own_tokens():
    layout = {"COMMENT", "NL", "NEWLINE", "ENCODING", "ENDMARKER", "INDENT", "DEDENT"}
    for path in paths.library():
        if path.suffix == ".py":
            text = path.read_text()
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
            words, start = [], True
            for token in tokens:
                kind = tokenize.tok_name[token.type]
                alone = start and kind == "STRING" and token.line.rstrip().endswith(('"""', '"'))
                start = kind in layout - {"NL", "COMMENT"} or (start and kind in layout)
                words += [token.string] if kind not in layout and not alone else []
            wanted = re.sub(r'__version__="[^"]*"', "", "".join("".join(words).split()), count=1)
            assert "".join(code.said(text).split()) == wanted, path


def test_a_notebook_computes_what_it_saves_and_nothing_of_what_it_shows():
    cells = [
        "import numpy as np\nfrom pimllm_lib.archive import dataset\nfrom pimllm_lib.report import tables",
        "size = 3  # of it\nunused = 4",
        "ds = make(size)\nds['x'] = np.zeros(3)\ntables.claims(ds)",
        "parts = []\nfor i in range(size):\n    parts.append(i)\nshown = draw(ds)\nshown",
        "dataset.save(ds.assign(y=parts), 'x', title='X', parameters={}, into='.')",
    ]
    assert code.computing(cells) == [
        "import numpy as np\nfrom pimllm_lib.archive import dataset",
        "size = 3  # of it",
        "ds = make(size)\nds['x'] = np.zeros(3)",
        "parts = []\nfor i in range(size):\n    parts.append(i)",
        cells[-1],
    ]
    assert code.computing(cells[:-1]) == cells[:-1]  # saves nothing


@pytest.mark.parametrize("slug", paths.slugs())
def test_no_figure_table_or_sentence_is_part_of_a_result(slug):
    cells = provenance.code_cells(paths.notebook(slug))
    found = {paths.logical(path) for path in provenance.closure(code.computing(cells))}
    shown = {f"pimllm_lib/report/{name}.py" for name in ("figure", "plots", "tables", "text")}
    assert not shown & found
    assert shown & {paths.logical(path) for path in provenance.closure(cells)}
    assert {"pimllm_lib/core/schema.py", "pimllm_lib/archive/dataset.py", "pimllm_lib/catalog/parts.toml"} <= found


#: A change -> the file, what is there, what comes in its place.
EDITS = {
    "a comment": ("pimllm_lib/engines/crossbars.py", "\ndef entries(", "\n# why\ndef entries("),
    "a docstring": ("pimllm_lib/system/evaluation.py", '"""Return what one step costs', '"""Say what one step costs'),
    "a blank line": ("pimllm_lib/workload/products.py", "\ndef products(", "\n\ndef products("),
    "a version": ("pimllm_lib/__init__.py", f'__version__ = "{__version__}"', '__version__ = "99.0"'),
    "another ruff": ("requirements.lock", "\nruff==", "\nruff==9"),
    "a sentence of chapter 3": ("notebooks/pimllm_chapters/tokens_per_second.py", "Sentence(", "Sentence (1 and "),
    "another numpy": ("requirements.lock", "\nnumpy==", "\nnumpy==9"),
    "a helper": ("pimllm_lib/workload/products.py", "_attention", "_attending"),
    "a device": ("pimllm_lib/catalog/parts.toml", "value = [4.782321, ", "value = [4.782322, "),
}
HASHES = """
import json, sys
from pathlib import Path
from pimllm_lib.core import paths; from pimllm_lib.archive import provenance
def found():
    pages = [provenance.page_hash(paths.notebook(slug)) for slug in paths.slugs()]
    studies = [provenance.study_hash(spec) for spec in ({"axes": {}}, {"curves": {}})]
    return [provenance.source_hash(slug) for slug in paths.slugs()], pages, studies
before, said = found(), {}
for name, (path, old, new) in json.loads(sys.argv[1]).items():
    text = Path(path).read_text(encoding="utf-8")
    assert old in text, name
    Path(path).write_text(text.replace(old, new), encoding="utf-8")
    said[name] = [sum(a != b for a, b in zip(*pair, strict=True)) for pair in zip(before, found(), strict=True)]
    Path(path).write_text(text, encoding="utf-8")
assert found() == before
print(json.dumps(said))
"""


@checkout
def test_which_change_makes_which_results_and_studies_stale(tmp_path):
    copied_checkout(tmp_path, "*.safetensors")
    command = [sys.executable, "-c", HASHES, json.dumps(EDITS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, every = json.loads(done.stdout), len(paths.slugs())
    for name in ("a comment", "a docstring", "a blank line", "a version", "another ruff"):
        assert said[name][0] == said[name][2] == 0, name
    assert said["a sentence of chapter 3"] == [0, 1, 0]
    assert said["another numpy"] == [every, every, 2]
    assert said["a device"] == [every, every, 2]
    results, _, studies = said["a helper"]
    assert 0 < results < every + 1
    assert studies == 1  # what is evaluated, and no noise of cells


# saying that sources gave a result again


def test_results_that_agree_are_attested_and_no_file_changes(folder, in_process, capsys):
    before = {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    assert main(["attest", "--archive", str(folder)]) == 0
    assert capsys.readouterr().out == "0 results held before, 1 attested now\n"
    here = provenance.source_hash(SLUG)
    assert attested.load(folder) == {sha256_of(folder): {here: __version__}}
    assert {
        name: (folder / name).read_bytes() for name in before if (folder / name).is_file()
    }.items() <= before.items()
    assert attested.holds(folder, folder / NAME, here)
    assert main(["attest", SLUG, "--archive", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"held": [SLUG], "attested": [], "problems": []}


def test_what_ran_is_attested_and_no_file_that_changed_meanwhile(folder, monkeypatch):
    ds = dataset.load(folder / NAME)
    ran = json.dumps(dataset.record(ds) | {"source_hash": "e" * 16})
    monkeypatch.setattr(verify, "recomputed", lambda *_: {SLUG: ds.assign_attrs(provenance=ran)})
    assert verify.attest(folder).attested == [SLUG]
    assert attested.load(folder) == {sha256_of(folder): {"e" * 16: __version__}}


def test_a_running_notebook_lends_its_hash_to_what_it_saves_and_to_nothing_else(monkeypatch):
    before = provenance.source_hash(SLUG)
    monkeypatch.setenv(provenance.RUNNING, "e" * 16)
    assert provenance.source_hash(SLUG) == before
    assert json.loads(provenance.record("mine", {}, {}))["source_hash"] == "e" * 16


def test_a_formula_that_moved_by_a_millionth_is_named_and_attests_nothing(folder, monkeypatch, capsys):
    ds = dataset.load(folder / NAME)
    monkeypatch.setattr(verify, "recomputed", lambda *_: {SLUG: ds.assign(macs=ds.macs * (1 + 1e-6))})
    assert main(["attest", "--archive", str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"pimllm: {SLUG}: macs: ")
    assert "values moved, by up to 1.00e-06 of the old value" in said
    assert not (folder / attested.NAME).exists()


@pytest.mark.parametrize("key", ["title", "licence"])
def test_a_changed_attribute_is_a_change(folder, key, monkeypatch, capsys):
    ds = dataset.load(folder / NAME)
    monkeypatch.setattr(verify, "recomputed", lambda *_: {SLUG: ds.assign_attrs({key: "something else"})})
    assert main(["attest", "--archive", str(folder)]) == 1
    assert f"attribute {key} " in capsys.readouterr().err


def test_a_changed_unit_or_meaning_of_a_variable_is_a_change(folder):
    kept = dataset.load(folder / NAME)
    for key in ("units", "long_name"):
        fresh = kept.copy(deep=True)
        fresh.cycles.attrs[key] = "another"
        (change,) = diff.results(SLUG, kept, fresh)
        assert change.variable == "cycles"


def test_a_renewal_that_moves_nothing_keeps_the_file_and_one_that_does_replaces_it(folder, tmp_path):
    ds, before = dataset.load(DATA / NAME), (folder / NAME).read_bytes()
    dataset.write(ds, tmp_path / f"{SLUG}.nc")
    jobs.renew([SLUG], tmp_path, folder)
    assert (folder / NAME).read_bytes() == before
    made = dataset.record(ds)["source_hash"]
    assert attested.load(folder) == {files.hash_of(before): {made: __version__}}
    dataset.write(ds.assign(macs=ds.macs * 2), tmp_path / f"{SLUG}.nc")
    jobs.renew([SLUG], tmp_path, folder)
    assert (folder / NAME).read_bytes() == (tmp_path / f"{SLUG}.nc").read_bytes()
    assert manifest.damage(folder) == []
    (stranger,) = attested.strangers(folder)
    assert stranger == f"attested.json attests sha256 {files.hash_of(before)[:16]}..., which no file here has"


def test_the_sentence_says_who_made_and_who_gave_again(folder):
    record, sha256 = {"pimllm": "0.1.0", "source_hash": "a" * 16}, sha256_of(folder)
    made = "made by pimllm 0.1.0 from sources aaaaaaaaaaaaaaaa"
    assert attested.told(record, sha256, "b" * 16, folder) == made
    attested.add(folder, {sha256: "b" * 16})
    attested.add(folder, {sha256: "c" * 16})
    for here, named in (("b", "b"), ("c", "c"), ("d", "c")):
        again = f"{made}; given again by pimllm {__version__} from sources {named * 16}"
        assert attested.told(record, sha256, here * 16, folder) == again
    assert attested.told(record, sha256, "a" * 16, folder) == made


def test_a_released_version_takes_the_place_of_its_development(folder, monkeypatch):
    monkeypatch.setattr(attested, "__version__", "1.2.0.dev0")
    attested.add(folder, {SHA256: "a" * 16})
    monkeypatch.setattr(attested, "__version__", "1.2.0")
    attested.add(folder, {SHA256: "a" * 16})
    monkeypatch.setattr(attested, "__version__", "1.3.0")
    attested.add(folder, {SHA256: "a" * 16})
    assert attested.load(folder) == {SHA256: {"a" * 16: "1.2.0"}}


# a list that is damaged, shared, or cut off

DAMAGED = {
    "no JSON": ("{", "is not JSON"),
    "no mapping": ("[]", "wanted a mapping from the SHA-256 of a file"),
    "an unknown file": ('{"results/03.nc": {}}', "names 'results/03.nc'; wanted the SHA-256 of a file, 64 hexadecimal"),
    "a short hash": (f'{{"{SHA256[:-1]}": {{}}}}', "wanted the SHA-256 of a file, 64 hexadecimal digits"),
    "a short source": (f'{{"{SHA256}": {{"abc": "1"}}}}', "names 'abc'; wanted the hash of sources, 16 hexadecimal"),
    "no version": (f'{{"{SHA256}": {{"{"0" * 16}": 1}}}}', "says of 0000000000000000 1; wanted a version"),
    "deep": ("[" * 100_000, "is not JSON"),
}


@pytest.mark.parametrize(("text", "said"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_list_is_one_line_and_stays(folder, text, said, capsys):
    (folder / attested.NAME).write_text(text)
    assert main(["attest", "--archive", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert (folder / attested.NAME).read_text() == text


def test_verify_believes_nothing_of_a_damaged_list_and_computes_all_the_same(folder, in_process, monkeypatch):
    monkeypatch.setattr(verify.claims, "moved", list)
    (folder / attested.NAME).write_text("{")
    found = verify.verify(folder)
    (problem,) = found.problems
    assert problem.endswith("nothing in it is believed")
    assert found.recomputed == [SLUG]
    assert any(note.startswith(f"{SLUG} was made from other sources (0000000000000000); here ") for note in found.notes)


def test_a_file_that_is_not_there_is_attested_to_nobody(folder, capsys):
    attested.add(folder, {"f" * 64: "0" * 16})
    assert main(["verify", "--no-recompute", "--archive", str(folder)]) == 0
    assert "note: attested.json attests sha256 ffffffffffffffff..., which no file here has" in capsys.readouterr().out


def test_two_who_attest_at_once_lose_no_line(folder):
    program = (
        "import sys; from pathlib import Path; from pimllm_lib.archive import attested\n"
        "for i in range(40): attested.add(Path(sys.argv[1]), {f'{i:064x}': sys.argv[2] * 16})"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, str(folder), who]) for who in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    found = attested.load(folder)
    assert len(found) == 40
    assert all(sources.keys() == {"a" * 16, "b" * 16} for sources in found.values())


@pytest.mark.slow
def test_a_killed_attestation_leaves_a_list_that_can_be_read_and_grows(folder):
    choose, before = random.Random(1), 0
    for turn in range(100):
        pid = os.fork()
        if pid == 0:
            for i in range(10_000):
                attested.add(folder, {f"{turn * 10_000 + i:064x}": "0" * 16})
            os._exit(0)
        time.sleep(choose.uniform(0.0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        after = len(attested.load(folder))
        assert after >= before
        before = after
    attested.add(folder, {SHA256: "0" * 16})
    assert before > 0
    assert not list(folder.glob(".*.part"))
