"""Files and options that are wrong in ways nobody thought of: one line, status 2, in bounded memory and time."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_faults import a_notebook

import pimllm_lib as pl
from pimllm_lib.archive import dataset, notebooks, parameters
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.parts import field_of, with_field
from pimllm_lib.core.plain import DEEPEST, require_plain

pytestmark = pytest.mark.adversity
HERE = Path(__file__).parent
BITNET = paths.CHECKPOINTS / "docstrings-0"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and time are set as Linux has them")
NOISE = ["noise", "--text", "README.md", "--tokens", "8", "--window", "8", "--seeds", "1"]
#: Files that people write or are given.
HANDED = (
    "result", "result bytes", "zip bytes", "config.json", "safetensors", "gguf", "index", "model", "array", "system",
    "conventions", "technology", "study", "sample", "runs", "parameters", "notebook", "manifest", "attested",
)  # fmt: skip
#: Too large for 64 bits, for a float64, and for Python to read.
LARGE = ["9" * 20, "9" * 400, "9" * 5000]


def fuzzed(seed, seconds, *kinds):
    """Give random files to the commands for so many seconds; see tests/fuzz.py."""
    program = [sys.executable, str(HERE / "fuzz.py"), str(seed), str(seconds), *kinds]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=seconds + 300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@LINUX
@pytest.mark.slow
def test_random_files_are_read_or_refused_in_one_line():
    """Those that people hand over; the longer run has the chunks of a study, too."""
    assert "of each; longest: " in fuzzed(1, 2, *HANDED)


@LINUX
@pytest.mark.slow
def test_random_files_of_a_minute_are_read_or_refused_in_one_line():
    """PIMLLM_FUZZ_SEED and PIMLLM_FUZZ_SECONDS give other files, and more of them."""
    fuzzed(os.environ.get("PIMLLM_FUZZ_SEED", "2"), float(os.environ.get("PIMLLM_FUZZ_SECONDS", "60")))


def refusal(argv, capfd):
    """Return the one line with which a command refuses."""
    assert main([str(word) for word in argv]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("pimllm: ")
    return err


def config(folder, key, value):
    """Write the configuration of a checkpoint with one value written so."""
    text = json.dumps(json.loads((BITNET / "config.json").read_text()) | {key: "HERE"}, indent=1)
    (folder / "config.json").write_text(text.replace('"HERE"', value))
    return folder


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("rope_theta", "1e400", "rope_theta is inf; wanted a positive number"),
        ("rope_theta", LARGE[1], "rope_theta has 9999"),
        ("rms_norm_eps", LARGE[1], "rms_norm_eps has 9999"),
        ("rms_norm_eps", LARGE[2], "is not JSON"),
        ("hidden_size", LARGE[0], "below 2^53"),
        ("vocab_size", "1e400", "vocab_size is inf; wanted a whole number"),
        ("_name_or_path", '"\\ud800"', "has '\\ud800'; wanted text that UTF-8 can hold"),
        ("_name_or_path", '"a\\u0000b"', "has 'a\\x00b'; wanted text that UTF-8 can hold, without zero characters"),
        ("architectures", "[" * 300 + "]" * 300, f"has more than {DEEPEST} lists or tables in one another"),
        ("rope_scaling", '{"a":' * 300 + "1" + "}" * 300, f"has more than {DEEPEST} lists or tables in one another"),
    ],
)
def test_a_configuration_with_what_nothing_can_hold_is_refused(key, value, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(paths.ROOT)
    assert words in refusal([*NOISE, "--checkpoint", config(tmp_path, key, value)], capfd)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("devices.__class__", "unknown field of Devices '__class__'"),
        ("devices.__init__", "unknown field of Devices '__init__'"),
        ("crossbar.adc.__dict__", "unknown field of Adc '__dict__'"),
        ("crossbar.adc.bits.real", "Adc.bits is 8; wanted a part, to change real of it"),
        ("crossbar.adc", "unknown part '1'"),
        ("crossbar.adc.", "unknown field of Adc ''"),
        ("devices.variatio", "did you mean 'variation'?"),
    ],
)
def test_only_fields_can_be_set(path, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(paths.ROOT)
    assert words in refusal([*NOISE, "--checkpoint", BITNET, "--set", path, "1"], capfd)
    key, _, rest = path.partition(".")
    for method in ("grid", "sobol"):
        axis = {
            f"system.pim.tile.{path}" if key == "crossbar" else f"system.{rest}": {"low": 1, "high": 2, "points": 2}
        }
        if method == "sobol":
            axis = {name: {"low": 1, "high": 2} for name in axis}
        study = {"axes": axis, "method": method} | ({"points": 2} if method == "sobol" else {})
        (tmp_path / "study.yaml").write_text(json.dumps(study))
        assert re.search(
            r"is no name|unknown field|wanted a part|wanted a ",
            refusal(["sweep", tmp_path / "study.yaml", "--check"], capfd),
        )


def test_fields_are_found_and_set_at_any_depth_and_nothing_else_is():
    system = pl.catalog.systems["pim-llm"]
    assert field_of(system, "pim.tile.crossbar.adc.bits") == 8
    assert field_of(with_field(system, "pim.tile.crossbar.adc.bits", 6), "pim.tile.crossbar.adc.bits") == 6
    for path in ("__class__", "pim.__doc__", "pim.tile.crossbar.adc.bits.real", ""):
        with pytest.raises(BadInput, match=r"unknown field of|wanted a part"):
            field_of(system, path)
        with pytest.raises(BadInput, match=r"unknown field of|wanted a part"):
            with_field(system, path, 1)


@pytest.mark.parametrize("name", ["__class__", "__dict__", "into", "\udcff"])
def test_only_parameters_of_a_notebook_can_be_set(name, capfd):
    assert "unknown parameter of 01-operation-share" in refusal(["run", "01-operation-share", "-p", name, "1"], capfd)


STUDY = "axes:\n  system.array.rate_hz: {low: 1e8, high: 8e8, points: 2}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('axes:\n  x: {fields: system.array.rate_hz, values: [1e8], labels: ["\\ud800"]}\n', "has '\\ud800'; wanted text"),
        ("name: \"a\\0\"\n" + STUDY, "has 'a\\x00'; wanted text that"),
        (f"{STUDY}seed: {LARGE[0]}\n", "has 99999999999999999999; wanted whole numbers below 2^63"),
        (f"{STUDY}context_len: -{LARGE[1][:399]}\n", "wanted whole numbers below 2^63"),
        (f"{STUDY}context_len: {LARGE[2]}\n", "line 3, has a number of 5000 characters; wanted a shorter one"),
        (f"{STUDY}context_len: 0x{'f' * 300}\n", "wanted whole numbers below 2^63"),
        (f"{STUDY}seed: 1{':59' * 1000}\n", "line 3, has a number of 3001 characters"),
        (f"{STUDY}axes: {{}}\n", "line 3, has the key 'axes' twice; wanted each once"),
        ("axes:\n  a: {low: 1, high: 2,\n      low: 3}\n", "line 3, has the key 'low' twice; wanted each once"),
        (f"{STUDY}model: &a opt-125m\nsystem: *a\n", "line 4, has aliases; wanted plain values"),
        (f"{STUDY}model: {'[' * 40}{']' * 40}\n", f"has more than {DEEPEST} lists or tables"),
        (f"{STUDY}model: {'[' * 400}{']' * 400}\n", "is not YAML: RecursionError"),
        (f"{STUDY}model: [\n", "line 4, is not YAML"),
        ("axes:\n  a: {fields: system.array.rate_hz, low: 1, high: 2, points: 20000}\n"
         "  b: {fields: system.array.idle_pe_energy_j, low: 1, high: 2, points: 1000}\nchunk: 999999999\n",
         "chunk, in points of 1 values, is 999999999; wanted at most 16777216"),
        (STUDY.replace('points: 2', 'points: 90000') + f"context_len: {list(range(1, 200))}\n", "wanted at most 84307"),
        ("notebook: 01-operation-share\naxes:\n  a: {fields: parameter.__class__, values: [1]}\n", "unknown parameter"),
        ("axes:\n  a: {fields: parameter.models, values: [[a], [b]]}\n", "wanted numbers, names, true or false"),
    ],
)  # fmt: skip
def test_a_study_with_what_nothing_can_hold_is_refused(text, words, tmp_path, capfd):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    said = refusal(["sweep", path, "--into", tmp_path / "out"], capfd)
    assert words in said
    assert f"{path}" in said
    assert [*tmp_path.glob("out/**/*")] == []


def test_a_key_may_stand_once_in_each_of_two_tables(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: {low: 1, 2: [x]}\nb: {low: 1.5, high: true}\nc: null\n")
    assert parameters.from_file(path) == {"a": {"low": 1, 2: ["x"]}, "b": {"low": 1.5, "high": True}, "c": None}


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ("[128, 32]", "rows has the range [128, 32]; wanted [low, high], finite numbers, low up to high"),
        ("[nan, 128]", "has the range [nan, 128]; wanted [low, high], finite"),
        ("[32, inf]", "has the range [32, inf]; wanted [low, high], finite"),
        ("[32]", "has the range [32]; wanted [low, high]"),
        ("[32, 64, 128]", "has the range [32, 64, 128]; wanted [low, high]"),
        ("64", "has the range 64; wanted [low, high]"),
        ('["a", "b"]', "has the range ['a', 'b']; wanted [low, high]"),
        ("[true, 128]", "has the range [True, 128]; wanted [low, high]"),
        ("[65, 128]", "mine.rows has the value 64, outside of its range [65, 128]; wanted it inside"),
    ],
)  # fmt: skip
def test_a_range_is_two_numbers_that_hold_the_value(span, words, part_toml, capfd):
    path = part_toml('rows = { value = 64, unit = "1",', f'rows = {{ value = 64, unit = "1", range = {span},')
    said = refusal(["evaluate", "--model", "opt-125m", "--array", path], capfd)
    assert words in said
    assert "mine.toml: mine.rows" in said


def test_every_range_of_the_catalog_holds_its_value():
    spans = [entry for table in pl.catalog.parts.entries.values() for entry in table.values() if "range" in entry]
    assert len(spans) > 200
    assert len(list(pl.catalog.parts.values())) == len(pl.catalog.parts)  # made, so each was asked


@pytest.mark.parametrize("value", [f"-{LARGE[1]}", f"0x{'f' * 5000}"])
def test_a_whole_number_beyond_a_float_is_refused_in_a_toml_file(value, part_toml, capfd):
    path = part_toml("value = 64", f"value = {value}")
    said = refusal(["evaluate", "--model", "opt-125m", "--array", path], capfd)
    assert "mine.toml: rows.value has" in said
    assert "wanted whole numbers below 2^1023" in said


@pytest.mark.parametrize("value", LARGE)
@pytest.mark.parametrize(
    "argv",
    [
        ["evaluate", "--model", "opt-125m", "--context"],
        ["explain", "tokens_per_s", "--model", "opt-125m", "--context"],
        *(["lifetime", "--model", "llama-3-8b", "--technology", "rram", f"--{key}"] for key in
          ("context", "prompt", "answer", "minutes")),
        *([*NOISE, "--checkpoint", str(BITNET), f"--{key}"] for key in ("tokens", "seeds", "window")),
        [*NOISE, "--checkpoint", str(BITNET), "--set", "crossbar.rows"],
        ["sweep", "x.yaml", "--jobs"],
        ["run", "01-operation-share", "--jobs"],
        ["run", "04-latency-breakdown", "-p", "longest"],
        ["run", "11-analog-noise", "-p", "widths"],
        ["cite", "03-tokens-per-second::latency_s::context_len="],
    ],
    ids=lambda argv: " ".join(argv[:1] + argv[-1:]),
)  # fmt: skip
def test_an_option_beyond_64_bits_is_refused(argv, value, monkeypatch, capfd):
    monkeypatch.chdir(paths.ROOT)
    words = [*argv[:-1], argv[-1] + value] if argv[-1].endswith("=") else [*argv, value]
    assert "wanted" in refusal(words, capfd) or argv[0] in ("cite", "sweep")


@pytest.mark.parametrize("address", [
    "http://[::1", "http://[::1.zip", f"http://{'a' * 70}/", "http://a..b/", "http://a:99999999", "http://a:b", "http://",
    "https://%/", "http://u:p[x@h/",
])  # fmt: skip
def test_an_address_that_no_parser_takes_is_refused(address, tmp_path, capfd):
    said = refusal(["fetch", "0.7.0", "--from", address, "--into", tmp_path / "new"], capfd)
    assert re.search("is none|cannot be had|does not exist", said)
    assert not (tmp_path / "new").exists()


def test_a_text_that_cannot_be_encoded_is_refused_wherever_it_would_be_written(tmp_path, monkeypatch, capfd):
    for name in ("half a pair \ud800", "a\0b"):
        with pytest.raises(BadInput, match=r"Decoder.name is .* wanted one that UTF-8 can hold"):
            replace(pl.catalog.models["opt-125m"], name=name)
        with pytest.raises(BadInput, match="wanted text that UTF-8 can hold"):
            require_plain({"a": [name]}, "x")
        with pytest.raises(BadInput, match="wanted text that UTF-8 can hold"):
            require_plain({name: 1}, "x")
    ds = xr.Dataset({"x": ("a", [1.0])}, {"a": ["\ud800"]})
    with pytest.raises(BadInput, match=r"x.nc would hold the text '.*ud800'; wanted one that UTF-8 can hold"):
        dataset.write(ds, tmp_path / "x.nc")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(b"\xff.toml")).write_text("d_model = 64\nd_ff = 64\nn_layers = 1\nn_heads = 2\nn_kv_heads = 2\n"
                                               "head_dim = 32\nvocab_size = 9\n")  # fmt: skip
    said = refusal(["evaluate", "--model", os.fsdecode(b"\xff.toml"), "--netcdf", "x.nc"], capfd)
    assert "Decoder.name is '\\udcff'; wanted one that UTF-8 can hold" in said
    assert not Path("x.nc").exists()


def test_a_file_name_that_no_system_takes_is_refused(tmp_path, capfd):
    for key, name in (("system", "a/\\ud800.toml"), ("model", "a/\\0.toml")):
        (tmp_path / "study.yaml").write_text(f'{key}: "{name}"\n{STUDY}')
        assert "wanted text that UTF-8 can hold" in refusal(["sweep", tmp_path / "study.yaml", "--check"], capfd)
    for name in ("a\0.toml", "\ud800.toml"):
        with pytest.raises(BadInput, match="cannot be read: "):
            pl.catalog.model(name)


def test_white_space_on_the_standard_error_of_a_kernel_is_no_warning():
    def wrote(text):
        return [{"execution_count": 3, "outputs": [{"name": "stderr", "output_type": "stream", "text": [text]}]}]

    for text in ("", " ", "\n", " \n\t\r\n"):
        notebooks._refuse_warnings(wrote(text), "small")
    with pytest.raises(notebooks.NotebookFailed, match=r"small, cell 3 warns: hm"):
        notebooks._refuse_warnings(wrote("\n\n  hm\nmore"), "small")


FEW = ["evaluate --model opt-125m --netcdf x.nc", "show 01-operation-share", "sweep study.yaml --into out"]
KERNELS = ["run 01-operation-share 03-tokens-per-second --jobs 2 --into run", "sweep runs.yaml --into runs"]
MORE = ["models", "verify --no-recompute", "cite 01-operation-share", "new-study mine", "diff {d} {d}",
        "lifetime --model opt-125m", "explain tokens_per_s --model opt-125m", "claims"]  # fmt: skip
MORE_KERNELS = [
    "run 01-operation-share --into run",
    "verify 01-operation-share",
    "attest 01-operation-share --jobs 2",
    "run all --into every",  # as `book` does where something changed
]


@pytest.mark.skipif(os.name != "posix", reason="limits of handles are set so on POSIX systems")
@pytest.mark.skipif(not paths.IN_CHECKOUT, reason="an installed package has no archive")
@pytest.mark.slow
@pytest.mark.parametrize(("done", "refused"), [(FEW, KERNELS), (MORE, MORE_KERNELS)])
def test_with_twenty_file_handles_a_command_does_its_work_or_says_in_one_line_what_it_wants(done, refused, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY + "chunk: 1\n")
    runs = "notebook: 01-operation-share\naxes:\n  a: {fields: parameter.models, values: [[opt-125m], [opt-350m]]}\n"
    (tmp_path / "runs.yaml").write_text(runs)
    code = (
        "import resource, sys; from pimllm_lib.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "for command in sys.argv[1:]: print('status', main(command.split()), flush=True)"
    )
    given = [command.format(d=paths.DATA) for command in done + refused]
    ran = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert re.findall(r"^status (\d)$", ran.stdout, re.MULTILINE) == ["0"] * len(done) + ["2"] * len(refused)
    wanted = "pimllm: the number of files that may be open at once is 20; wanted 128, as ulimit -n 128 sets"
    assert ran.stderr.splitlines() == [wanted] * len(refused)


PARAMETERS = """plain = None
number: int = None  # of things
either: int | None = None
maybe: Optional[float] = None
names: list[str] = None
given = 3
into: str = "executed"  # folder"""


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("plain", "3", 3), ("plain", "1e-5", 1e-5), ("plain", "opt-125m", "opt-125m"), ("plain", "true", True),
        ("plain", "[1, 2]", [1, 2]), ("plain", "null", None), ("plain", None, None), ("number", "3", 3),
        ("number", "None", None), ("either", "3", 3), ("either", "null", None), ("maybe", "1.5", 1.5),
        ("names", "['a', 'b']", ["a", "b"]), ("names", None, None), ("given", "5", 5), ("given", "x", "x"),
    ],
)  # fmt: skip
def test_a_parameter_whose_default_is_none_takes_a_value(name, text, value, tmp_path):
    path = a_notebook(tmp_path)
    content = json.loads(path.read_text())
    content["cells"][0]["source"] = PARAMETERS
    path.write_text(json.dumps(content))
    assert parameters.check(str(path), {name: text}) == {name: value}
    assert parameters.changed(str(path), {name: value}) == ({} if value is None else {name: value})


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("number", "x", r"number is 'x'; wanted int, like None"),
        ("either", "1.5", r"either is '1.5'; wanted int \| None, like None"),
        ("names", "a", r"names is 'a'; wanted list\[str\], like None"),
        ("plain", "{}", "wanted a number, a name, true or false, or a list of them, like None"),
        ("plain", "$(id)", "wanted a name, a path or a number"),
        ("plain", LARGE[0], r"wanted whole numbers below 2\^63"),
        ("given", "None", "given is 'None'; wanted a number, a name, true or false, or a list of them, like 3"),
    ],
)  # fmt: skip
def test_a_parameter_without_a_type_takes_plain_values_alone(name, text, words, tmp_path):
    path = a_notebook(tmp_path)
    content = json.loads(path.read_text())
    content["cells"][0]["source"] = PARAMETERS
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=words):
        parameters.check(str(path), {name: text})


def test_what_python_cannot_print_is_named_in_an_error_all_the_same():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert clip(deep) == "list that is too deep or too long to show"
    assert clip(10**5000) == "int that is too deep or too long to show"
    with pytest.raises(BadInput, match=f"x has more than {DEEPEST} lists or tables in one another; wanted a few"):
        require_plain(deep, "x")
    while deep:  # Python takes a level of the stack to forget each
        deep = deep.pop()


def test_a_file_whose_attributes_contradict_its_values_is_refused(tmp_path):
    made = xr.Dataset({"x": ("a", np.array([1.0]), {"_Unsigned": "true"})})
    dataset.write(made, tmp_path / "x.nc")
    with pytest.raises(BadInput, match=r"x.nc is not a netCDF-4 file: variable 'x' has _Unsigned attribute"):
        dataset.load(tmp_path / "x.nc")


@pytest.mark.skipif(not paths.IN_CHECKOUT, reason="an installed package has no archive")
@pytest.mark.parametrize("labels", [[128, 128, 512, 1024, 2048, 4096], [128, np.nan, np.nan, 1024, 2048, 4096]])
def test_labels_that_stand_twice_are_a_difference_of_their_own(labels, tmp_path, capfd):
    good = paths.RESULTS / "01-operation-share.nc"
    dataset.write(dataset.load(good).assign_coords(context_len=labels), tmp_path / good.name)
    for pair in ((good, tmp_path / good.name), (tmp_path / good.name, good)):
        assert main(["diff", *map(str, pair)]) == 1
        assert "share: macs: context_len has a label twice; values cannot be told apart" in capfd.readouterr().out
    assert main(["diff", str(tmp_path / good.name), str(tmp_path)]) == 0
