"""Notebooks: they run with small parameters, keep to their budget, and a refused parameter is said in one line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from pimllm_chapters import accounting
from pimllm_lib.archive import dataset, notebooks, parameters, verify
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths

README = paths.ROOT / "README.md"
#: Small parameters for each notebook.
SMALL = {
    "03-tokens-per-second": {
        "models": "['opt-125m', 'llama-3-8b']",
        "context_len": "[8, 16]",
        "systems": "['pim-llm', 'tpu-llm-lop', 'pim-llm-groups', 'pim-attention', 'pim-llm-lop', 'pim-llm-lstp']",
    },
    "01-operation-share": {"models": "['opt-125m', 'llama-3-8b']", "context_len": "[8, 16]"},
    "02-dataflows": {"models": "['opt-125m', 'llama-3-8b']", "context_len": "[8, 16]"},
    "04-latency-breakdown": {
        "models": "['opt-125m', 'llama-3-8b']",
        "context_len": "[8, 16]",
        "systems": "['pim-llm-groups', 'tpu-llm-lop']",
    },
    "05-energy": {"models": "['opt-125m', 'llama-3-8b']", "context_len": "[8, 16]", "systems": "['tpu-llm-lop']"},
    "06-comparison": {
        "models": "['opt-125m', 'llama-3-8b']",
        "context_len": "[8, 16]",
        "candidates": "['opt-6.7b', 'llama-7b']",
        "systems": "['pim-llm', 'tpu-llm-lop', 'pim-llm-groups']",
    },
    "07-accounting": {"models": "['opt-125m', 'llama-3-8b']", "context_len": "[8, 16]"},
    "08-validation": {"models": "['opt-1.3b']", "macros": "['neurram']"},
    "15-design-space": {"model": "opt-125m", "thin": "4", "mm2": "[1000.0, 10000.0]", "systems": "['tpu-llm-lop']"},
    "09-routing": {"model": "llama-3-8b", "context_len": "[8, 16]"},
    "14-other-models": {
        "models": "['opt-125m', 'llama-3-8b']",
        "context_len": "[8, 16]",
        "weight_bits": "[2, 4]",
        "systems": "['pim-llm', 'pim-llm-groups']",
    },
    "16-analog-engine": {"fan_in": "[256]", "device_seeds": "2", "tokens": "32", "outputs": "32", "windows": "4"},
    "11-analog-noise": {"widths": "[256, 512]", "model": "opt-125m", "context_len": "16"},
    "12-pim-attention": {
        "models": "['opt-125m']",
        "context_len": "[128, 512, 1024]",
        "row_context": "[128, 512, 1024]",
        "again": "['bits 3']",
    },
    "10-long-context": {
        "models": "['opt-125m']",
        "context_len": "[128, 4096]",
        "at": "128",
        "far": "4096",
        "draws": "8",
        "prompt": "8",
        "new_tokens": "2",
    },
    "17-standing-power": {
        "models": "['opt-125m', 'llama-3-8b']",
        "context_len": "[8, 16]",
        "systems": "['tpu-llm', 'pim-llm-groups']",
    },
    "19-machines-one-can-buy": {
        "models": "['bonsai-1.7b-1bit']",
        "shown": "bonsai-1.7b-1bit",
        "context_len": "[8, 16]",
        "systems": "['tpu-llm', 'pim-llm-groups']",
    },
    "18-one-bit-models": {
        "models": "['opt-125m', 'bonsai-1.7b-ternary']",
        "context_len": "[8, 16]",
        "systems": "['pim-llm', 'tpu-llm', 'pim-llm-groups']",
    },
    "13-sensitivity": {"draws": "16", "models": "['opt-125m', 'llama-3-8b']", "context_len": "[8, 16]"},
}

#: Notebooks that the default tests run with small parameters; the others are slow ones.
QUICK = ("01-operation-share", "03-tokens-per-second", "18-one-bit-models")


def cells(slug):
    return json.loads(paths.notebook(slug).read_text())["cells"]


def seen(folder):
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


def source(slug, kind):
    return ["".join(cell["source"]) for cell in cells(slug) if cell["cell_type"] == kind]


@pytest.mark.parametrize(
    "slug", [slug if slug in QUICK else pytest.param(slug, marks=pytest.mark.slow) for slug in paths.slugs()]
)
def test_a_notebook_runs_with_small_parameters(slug, tmp_path, monkeypatch, in_process):
    monkeypatch.setattr(accounting, "HEADLINES", accounting.HEADLINES[:1])  # test_accounting.py turns them all
    values = parameters.check(slug, SMALL[slug])
    made = notebooks.run(slug, tmp_path, values)
    ds = dataset.load(tmp_path / f"{slug}.nc")
    assert dataset.parameters(ds).items() >= values.items()
    assert list(verify.schema_problems(slug, ds)) == []
    assert seen(tmp_path) == [f"{slug}.ipynb", f"{slug}.nc", "manifest.json"]
    assert str(tmp_path) not in made.read_text()
    assert notebooks.stale(slug, tmp_path)  # it is fresh, but with other parameters than the page's


@pytest.mark.parametrize("slug", paths.slugs())
def test_a_notebook_keeps_to_its_budget(slug):
    code, prose = source(slug, "code"), source(slug, "markdown")
    lines = [len(cell.splitlines()) for cell in code]
    assert len(code) <= 12
    assert sum(lines) <= 100
    assert sorted(lines)[len(lines) // 2] <= 6
    assert 400 <= sum(len(cell.split()) for cell in prose) <= 900
    assert max(len(line) for cell in code for line in cell.splitlines()) <= 88


@pytest.mark.parametrize("slug", paths.slugs())
def test_a_notebook_is_stored_without_outputs_and_every_parameter_is_explained(slug):
    for cell in cells(slug):
        assert not cell.get("outputs")
        assert not cell.get("execution_count")
    for parameter in parameters.of(slug).values():
        assert parameter["help"]
        assert parameter["inferred_type_name"] != "None"


@pytest.mark.slow
def test_plain_papermill_runs_a_notebook(tmp_path):
    notebook = paths.notebook("03-tokens-per-second")
    options = ["-y", "{context_len: [8192]}", "--no-progress-bar"]
    command = [sys.executable, "-m", "papermill", notebook, "out.ipynb", *options]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    ds = dataset.load(tmp_path / "executed" / "03-tokens-per-second.nc")
    assert ds.context_len.values.tolist() == [8192]


def test_a_relative_folder_receives_notebook_and_dataset_and_relative_models_are_found(
    tmp_path, monkeypatch, capsys, in_process
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(
        "d_model = 64\nd_ff = 64\nn_layers = 1\nn_heads = 2\nn_kv_heads = 2\nhead_dim = 32\nvocab_size = 9\n"
    )
    argv = ["run", "03-tokens-per-second", "-p", "context_len", "[8]", "-p", "models", "['mine.toml']", "--into", "a/b"]
    assert main(argv) == 0
    capsys.readouterr()
    assert seen(Path("a/b")) == ["03-tokens-per-second.ipynb", "03-tokens-per-second.nc", "manifest.json"]
    assert dataset.load(Path("a/b/03-tokens-per-second.nc")).model.values.tolist() == ["mine"]


#: What new-study of 0.7.0 wrote, its cells of code.
OLD_STUDY = [
    "import pimllm_lib as pl\nfrom pimllm_lib.report import archive, claims, plots, tables, text",
    'systems: list[str] = ["tpu-llm", "pim-llm"]  # accelerators; tpu-llm is the baseline\n'
    'model: str = "opt-1.3b"  # a name, a TOML file or a config.json\n'
    "context_len: list[int] = [128]  # tokens\n"
    'conventions: str = "full-system"  # or corrected, as-published, a TOML file\n'
    'into: str = "executed"  # folder that receives the dataset',
    "ds = pl.evaluate(\n    system=systems, model=model, context_len=context_len,\n"
    '    conventions=conventions, detail="component",\n)\n'
    "compared = pl.metrics.compare(pl.metrics.summary(ds))\ntables.systems(compared)",
    "plots.breakdown(ds)",
    "tables.claims(claims.check(compared))",
    'archive.save(\n    ds, "old", title="Study old", into=into,\n    parameters={\n'
    '        "systems": systems, "model": model, "context_len": context_len,\n'
    '        "conventions": conventions,\n    },\n)',
]


@pytest.mark.slow
def test_a_study_written_by_an_earlier_version_still_runs_and_is_told_what_moved(tmp_path):
    made = [nbformat.v4.new_code_cell(text) for text in OLD_STUDY]
    made[1].metadata.tags = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), tmp_path / "old.ipynb")
    ran = notebooks.run(str(tmp_path / "old.ipynb"), tmp_path / "out")
    assert dataset.load(tmp_path / "out" / "old.nc").attrs["title"] == "Study old"
    assert "pimllm_lib.report.archive is pimllm_lib.archive.dataset since pimllm 0.8.0" in ran.read_text()


def test_a_new_study_is_ready_to_run(tmp_path, monkeypatch, capsys, in_process):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('array = "cloud-256x256"\n' + "".join(
        f'{field} = "{name}"\n' for field, name in (
            ("pim", "pim-published"), ("sram", "sram-8mb"), ("dram", "lpddr5-6400"), ("storage", "ternary-2bit"),
            ("nonlinear", "units-consmax"), ("bus", "bus-64bit"),
        )
    ) + 'routing = { projection = "pim", attention = "array", head = "array" }\n')  # fmt: skip
    assert main(["new-study", "compare", "--system", "mine.toml", "--model", "opt-1.3b"]) == 0
    assert main(["run", "compare.ipynb", "-p", "context_len", "[8, 16]", "--into", "out"]) == 0
    ds = dataset.load(tmp_path / "out" / "compare.nc")
    assert ds.system.values.tolist() == ["mine", "tpu-llm", "pim-llm"]
    assert main(["new-study", "compare"]) == 2
    assert main(["new-study", "../x"]) == 2
    assert main(["new-study", "other", "--model", "opt"]) == 2
    (tmp_path / "bare.toml").write_text('array = "edge-32x32"\n')
    assert main(["new-study", "other", "--system", "bare.toml"]) == 2
    assert capsys.readouterr().err.count("pimllm: ") == 4
    assert not (tmp_path / "other.ipynb").exists()


def test_a_value_the_notebook_refuses_is_one_line_and_status_2(capfd, tmp_path, in_process):
    argv = ["run", "03-tokens-per-second", "-p", "models", "['opt-6.7']", "--into", str(tmp_path / "out")]
    assert main(argv) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("pimllm:")]
    assert len(said) == 1
    assert "did you mean 'opt-6.7b'?" in said[0]
    assert not Path(tmp_path, "out").exists()


def test_a_rival_design_as_the_readme_has_it_answers_a_chapter_anew(tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    Path("rival.toml").write_text(re.search(r"^```toml\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)[1])
    small = ["-p", "models", "['opt-125m']", "-p", "context_len", "[8, 16]"]
    assert main(["run", "05", "-p", "systems", '["pim-llm", "rival.toml"]', *small, "--into", "out"]) == 0
    ds = dataset.load(Path("out/05-energy.nc"))
    assert ds.system.values.tolist() == ["pim-llm", "rival"]
    assert ds.attrs["title"].endswith("under three accountings; systems: pim-llm, rival.toml")
    changed = dataset.record(ds)["user_values"]
    assert {name for name in changed if "routing" not in name} == {"rival: adc-8bit.bits", "rival: adc-8bit.power_w"}
    assert "What is computed on this page is of pim-llm and rival" in Path("out/05-energy.ipynb").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("03 -p adc 4", "systems takes a TOML file with base = \"pim-llm\" and pim.tile.crossbar.adc = ..., and 'pimllm "
                        "evaluate --set pim.tile.crossbar.adc VALUE' tries one value"),
        ("01 -p array.rows 4", "01-operation-share has no parameter 'array.rows', but a machine has: 'pimllm evaluate"),
        ("03 -p system pim-llm", "unknown parameter of 03-tokens-per-second 'system', did you mean 'systems'"),
        ("03 -p systems pim-llm", "parameter systems is 'pim-llm'; wanted list[str], like"),
    ],
)  # fmt: skip
def test_a_machine_that_is_given_otherwise_than_as_systems_is_told_how(words, said, capsys, tmp_path):
    assert main(["run", *words.split(), "--into", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_folder_that_cannot_be_written_is_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["run", "03-tokens-per-second", "--into", str(tmp_path / "file" / "x")]) == 2
    assert "cannot be written" in capsys.readouterr().err
