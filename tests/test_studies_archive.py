"""Studies in the archive: renewed on purpose, never with notebooks, and whole like every other file of it."""

import json
import runpy
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from conftest import checkout

from pimllm_lib.analog.noise import study as noise_study
from pimllm_lib.analysis import claims
from pimllm_lib.archive import (
    cite,
    dataset,
    describe,
    diff,
    export,
    jobs,
    manifest,
    parameters,
    provenance,
    sources,
    verify,
)
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.studies import noise_runs

pytestmark = checkout
#: Two cases of which neither draws chips, one with a value that is a number and one without.
STUDY = """noise: {{checkpoints: [docstrings-0], text: {text}, windows: 1, device_seeds: 1}}
curves:
  exact: {{products: exact}}
  bits: {{field: crossbar.adc.bits, values: [6], readout: readout-4-sigma, only: "0"}}
"""
NAMES = ["studies/small.nc", "studies/small.yaml"]


def moved_to(root, monkeypatch):
    """Let the checkout's data and working folders be those below a root, and its sources stay as they are."""
    for name, place in {"DATA": "data", "STUDIES": "data/studies", "BUILD": "build"}.items():
        monkeypatch.setattr(paths, name, root / place)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A checkout's data with one study in its archive, and the chunks it came from."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "text.txt").write_text("A crossbar adds the currents of its cells. " * 30)
    (root / "data" / "studies").mkdir(parents=True)
    (root / "data" / "studies" / "small.yaml").write_text(STUDY.format(text=root / "text.txt"))
    with pytest.MonkeyPatch.context() as patch:
        moved_to(root, patch)
        assert main(["sweep", str(paths.STUDIES / "small.yaml"), "--archive"]) == 0
    return root


@pytest.fixture
def here(kept, tmp_path, monkeypatch):
    """A copy of them that a test may change, in the place of the checkout's own."""
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    moved_to(tmp_path, monkeypatch)
    return tmp_path / "data"


def test_a_study_enters_the_archive_with_its_result_and_a_second_time_nothing_is_computed(here, monkeypatch, capsys):
    assert sorted(manifest.load(here)) == NAMES
    assert manifest.damage(here) == []
    before = (here / manifest.NAME).read_bytes()
    monkeypatch.setattr(noise_study, "compute", lambda study, chunk: pytest.fail("computed again"))
    (here / "studies" / "small.nc").unlink()
    assert main(["sweep", str(paths.STUDIES / "small.yaml"), "--archive"]) == 0
    assert capsys.readouterr().out.split() == [str(here / "studies" / f"small.{end}") for end in ("yaml", "nc")]
    assert (here / manifest.NAME).read_bytes() == before
    assert manifest.damage(here) == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("{root}/elsewhere.yaml --archive", "elsewhere.yaml is not in {root}/data/studies; wanted a study that is"),
        ("{root}/data/studies/other.yaml --archive", "other.yaml is named another; wanted the name of its file, other"),
        ("{root}/data/studies/small.yaml --into {root}/data/studies", "belongs to the archive; wanted another folder"),
        ("{root}/data/studies/small.yaml", "wanted --into DIR, --archive, --check or --plan"),
        ("{root}/data/studies/small.yaml --archive --into out", "not allowed with argument"),
        ("{root}/data/studies/small.yaml --archive --check", "not allowed with argument"),
    ],
)
def test_what_the_archive_cannot_hold_is_refused_in_one_line(here, argv, said, capsys):
    root, text = here.parent, (here / "studies" / "small.yaml").read_text()
    (root / "elsewhere.yaml").write_text(text)
    (here / "studies" / "other.yaml").write_text(f"name: another\n{text}")
    before = sorted(root.rglob("*"))
    try:
        status = main(["sweep", *argv.format(root=root).split()])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert said.format(root=root) in capsys.readouterr().err.splitlines()[-1]
    assert sorted(root.rglob("*")) == before


def test_a_study_that_changed_while_it_ran_is_refused(here):
    made, study = here / "studies" / "small.nc", here / "studies" / "small.yaml"
    assert jobs.keep(study, made, here) == [study, made]
    study.write_text(study.read_text().replace("[6]", "[7]"))
    with pytest.raises(ValueError, match=r"small.nc is of another study than .*small.yaml; wanted its own"):
        jobs.keep(study, made, here)


def test_a_changed_result_and_an_unlisted_one_are_damage(here):
    result = here / "studies" / "small.nc"
    result.write_bytes(result.read_bytes()[:-1] + b"x")
    shutil.copy(result, result.with_name("more.nc"))
    first, second = verify.verify(here, recompute=False).problems
    assert first.startswith("studies/small.nc has other bytes")
    assert second == "studies/more.nc is not in the manifest"


@pytest.mark.parametrize(
    ("heavy", "said"),
    [
        (False, "studies are not computed again (1 here): --heavy repeats a trial of each"),
        (True, "names no trial of it"),
    ],
)
def test_verify_says_that_a_study_is_not_computed_again(here, heavy, said, monkeypatch):
    monkeypatch.setattr(claims, "moved", list)
    found = verify.verify(here, repeat=noise_runs.repeated if heavy else None)
    assert (found.problems, found.results, found.recomputed) == ([], ["small"], [])
    assert [note for note in found.notes if said in note] == found.notes[-1:]


def test_verify_heavy_repeats_a_trial_and_names_one_that_comes_out_otherwise(here, monkeypatch):
    monkeypatch.setattr(claims, "moved", list)
    monkeypatch.setattr(noise_runs, "TRIALS", {"small": ("bits 6",)})
    found = verify.verify(here, repeat=noise_runs.repeated)
    assert (found.problems, found.recomputed) == ([], ["small"])
    path = here / "studies" / "small.nc"
    ds = dataset.load(path)
    dataset.write(ds.assign(held_out_loss=ds.held_out_loss * 1.01), path)
    manifest.publish(here, {"studies/small.nc": path.read_bytes()})
    (problem,) = verify.verify(here, repeat=noise_runs.repeated).problems
    assert problem == "small: the loss of the first chip of bits 6 moved by 9.9e-03 of the archived one"


def test_a_study_is_shown_cited_and_compared_like_any_result(here):
    found = sources.results(str(here))
    assert diff.archives(found, sources.results(str(here))) == []  # a case without a number has NaN as its value
    more = {"small": found["small"].assign(held_out_loss=found["small"].held_out_loss * 1.01)}
    (change,) = diff.archives(found, more)
    assert (change.variable, change.kind) == ("held_out_loss", "moved")
    assert describe.describe(here, "small")["dimensions"]["case"] == ["exact", "bits 6"]
    text = cite.cite(here, "small::held_out_loss::case=exact,text_block=0").text
    assert "held_out_loss = " in text
    assert text.endswith("made with small.yaml.")
    (here / "studies" / "small.nc").write_bytes(b"")
    with pytest.raises(ValueError, match="is not the file that the manifest names"):
        cite.cite(here, "small")


def test_an_exported_study_comes_back_and_is_described_as_the_work_of_a_sweep(here, tmp_path):
    crate = export.export(here, tmp_path / "crate.zip")
    contents = sources.crate(crate, crate)
    assert {name: contents[name] for name in NAMES} == {name: (here / name).read_bytes() for name in NAMES}
    assert diff.archives(sources.results(str(here)), sources.results(str(crate))) == []
    shutil.unpack_archive(crate, tmp_path / "crate")
    graph = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert entities["#sweep"]["result"] == [{"@id": "data/studies/small.nc"}]
    assert entities["#sweep"]["object"] == [{"@id": "data/studies/small.yaml"}]
    assert entities["data/studies/small.yaml"]["encodingFormat"] == "application/yaml"
    assert not entities["#run"].get("result")


def test_a_revision_has_its_studies(here, monkeypatch):
    def git(*options):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *options], cwd=here.parent, check=True)

    git("init", "-q")
    git("add", "data")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr(paths, "ROOT", here.parent)
    assert diff.archives(sources.results("HEAD"), sources.results(str(here))) == []


def test_renewed_notebooks_leave_studies_listed_and_a_changed_one_is_renewed(here, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "slugs", lambda: ["01-one"])
    dataset.write(dataset.load(here / "studies" / "small.nc"), tmp_path / "01-one.nc")
    manifest.publish(here, {"studies/gone.nc": b"gone"})
    (here / "studies" / "gone.nc").unlink()
    (here / "studies" / "small.yaml").write_text("# a new comment\n")
    assert jobs.renew(["01-one"], tmp_path, here) == [here / "results" / "01-one.nc"]
    assert sorted(manifest.load(here)) == ["results/01-one.nc", *NAMES]
    assert manifest.damage(here) == []


def test_who_reads_studies_depends_on_them_and_a_study_on_no_result(here, monkeypatch):
    for name, place in {"DATA": here, "STUDIES": here / "studies"}.items():
        monkeypatch.setattr(paths, name, place)
    monkeypatch.setattr(paths, "logical", str)
    read = {here / name for name in NAMES}
    assert read <= set(provenance.closure(["from pimllm_lib.studies import noise_runs"]))
    assert not read & set(provenance.closure(["from pimllm_lib.analog.noise import study as noise_study"]))
    before = provenance.sources_hash()
    (here / "studies" / "small.nc").write_bytes(b"another result")
    assert provenance.sources_hash() == before
    (here / "studies" / "small.yaml").write_text("# another study\n")
    assert provenance.sources_hash() != before


def test_a_missing_study_says_how_to_make_it(here):
    with pytest.raises(ValueError, match=r"does not exist; 'pimllm sweep data/studies/more.yaml --archive' makes it"):
        dataset.load(paths.STUDIES / "more.nc")


def test_a_wheel_carries_studies_and_their_results(here):
    shipped = runpy.run_path(str(paths.ROOT / "hatch_build.py"))["Shipped"]
    build_data = {"force_include": {}}
    shipped.initialize(SimpleNamespace(root=str(here.parent)), "standard", build_data)
    assert {f"data/{name}": f"pimllm_lib/shipped/data/{name}" for name in NAMES} == build_data["force_include"]


def test_every_archived_study_is_of_the_description_beside_it():
    for path in paths.STUDIES.glob("*.nc"):
        asked = json.loads(json.dumps(parameters.from_file(path.with_suffix(".yaml"))))
        assert dataset.parameters(dataset.load(path)) == asked, path.name
        assert {f"studies/{path.name}", f"studies/{path.stem}.yaml"} <= manifest.load(paths.DATA).keys()
