"""cite and show: what is cited is what is there, the identifiers are those of git, the entry is BibTeX."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import DATA, checkout

from pimllm_lib.archive import attested, cite, dataset, manifest, swhid, versions
from pimllm_lib.cli.main import main
from pimllm_lib.core import files, paths

SLUG = "03-tokens-per-second"
CELL = f"{SLUG}::latency_s::system=pim-llm,model=opt-6.7b,context_len=128"


def test_one_number_is_the_one_in_the_dataset():
    found = cite.cite(DATA, CELL)
    path = DATA / "results" / f"{SLUG}.nc"
    where = {"system": "pim-llm", "model": "opt-6.7b", "context_len": 128}
    assert found.fields["value"] == dataset.load(path).latency_s.sel(where).sum().item()
    assert found.fields["sha256"] == files.hash_of(path.read_bytes())
    assert "latency_s = 0.0258756 s at system=pim-llm" in found.text
    assert "summed over op and component" in found.text
    assert "conventions as-published" in found.text


def test_a_figure_of_merit_is_computed_from_what_is_there():
    rate = cite.cite(DATA, CELL.replace("latency_s", "tokens_per_s")).fields
    assert rate["value"] == 1 / cite.cite(DATA, CELL).fields["value"]
    base = cite.cite(DATA, CELL.replace("latency_s", "tokens_per_s").replace("pim-llm", "tpu-llm")).fields["value"]
    found = cite.cite(DATA, CELL.replace("latency_s", "speedup"))
    assert found.fields["value"] == rate["value"] / base
    assert "speedup = " in found.text
    with pytest.raises(ValueError, match="unknown variable 'speed'"):
        cite.cite(DATA, CELL.replace("latency_s", "speed"))


def test_a_label_with_a_comma_is_a_label():
    what = "09-routing::latency_s::system=1024 lanes, LPDDR,context_len=128,op=q"
    assert cite.cite(DATA, what).fields["coordinates"] == ["system=1024 lanes, LPDDR", "context_len=128", "op=q"]


def test_the_bibtex_entry_can_be_read_and_says_the_same():
    database = pytest.importorskip("pybtex.database")  # of the book's packages
    for what in (SLUG, CELL):
        found = cite.cite(DATA, what)
        ((key, entry),) = database.parse_string(found.bibtex, "bibtex").entries.items()
        assert key == f"pimllm-{SLUG}-{found.fields['version']}"
        assert found.fields["sha256"] in entry.fields["note"]
        assert str(entry.persons["author"][0]) == f"{{{cite.AUTHORS}}}"
        assert entry.fields.get("year", "None") == str(found.fields["year"])


def test_no_character_of_a_title_breaks_latex():
    fields = {
        "result": "x", "title": r"100 % of {a_b} & #1 \ ~ ^ $", "version": "1", "year": 2026, "released": True,
        "sha256": "0", "source_hash": "0", "made": "m", "swhid": "s", "notebook": True, "parameters": "",
    }  # fmt: skip
    entry = cite.Citation(fields).bibtex
    assert r"100 \% of \{a\_b\} \& \#1 \textbackslash{} \textasciitilde{} \textasciicircum{} \$" in entry


def test_identifiers_are_the_hashes_git_computes(tmp_path):
    contents = {"b/c.txt": b"one", "b.txt": b"two", "b-": b"", "b/d/e": b"three"}
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)

    def git(*words):
        return subprocess.run(
            ["git", "-C", tmp_path, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    assert swhid.directory(contents) == f"swh:1:dir:{git('write-tree')}"
    assert swhid.content(b"one") == f"swh:1:cnt:{git('hash-object', 'b/c.txt')}"


def test_the_source_identifier_is_left_out_where_the_dataset_is_from_other_sources(tmp_path):
    ds = dataset.load(DATA / "results" / f"{SLUG}.nc")
    record = json.loads(ds.attrs["provenance"]) | {"source_hash": "0" * 16}
    dataset.write(ds.assign_attrs(provenance=json.dumps(record)), tmp_path / f"{SLUG}.nc")
    found = cite.cite(tmp_path, SLUG)
    assert found.fields["swhid"] is None
    assert "not given again by the sources at hand" in found.text
    assert "not in a released archive" in found.text


def test_a_dataset_of_a_release_is_cited_with_it_whatever_stands_beside_it():
    release = versions.releases()["0.7.0"]
    for name, path in manifest.names(DATA).items():
        said = cite.cite(DATA, name).fields
        assert said["released"] == (versions.first_with(files.hash_of(path.read_bytes())) is not None)
        if said["sha256"] in release.datasets:
            assert said["year"] == release.date.year


def test_a_file_that_the_manifest_does_not_name_is_not_cited(tmp_path):
    manifest.publish(tmp_path, {f"{SLUG}.nc": (DATA / "results" / f"{SLUG}.nc").read_bytes()})
    (tmp_path / f"{SLUG}.nc").write_bytes((DATA / "results" / "04-latency-breakdown.nc").read_bytes())
    with pytest.raises(ValueError, match="is not the file that the manifest names"):
        cite.cite(tmp_path, SLUG)


@checkout
def test_show_prints_text_and_json(capsys):
    assert main(["show", SLUG]) == 0
    assert "  latency_s" in capsys.readouterr().out
    assert main(["show", SLUG, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dimensions"]["context_len"] == [128, 256, 512, 1024, 2048, 4096]
    assert said["variables"]["latency_s"]["units"] == "s"
    assert Path(said["file"]).stat().st_size == said["bytes"]


def test_a_released_version_is_pinned_and_its_archive_is_made_from_these_sources():
    """While the version is a released one, nothing under data/ may move: the next change needs a new version."""
    import pimllm_lib
    from pimllm_lib.archive import provenance

    release = versions.releases().get(pimllm_lib.__version__)
    if release is None:
        assert ".dev" in pimllm_lib.__version__
        return
    assert manifest.hash_of(DATA) == release.archive
    for slug in paths.slugs():
        assert attested.holds(DATA, DATA / "results" / f"{slug}.nc", provenance.source_hash(slug))
