"""The command line: what it prints, its exit status, and one clear line for everything that is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pimllm_lib.cli.main import _parser, main

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 100,
}  # fmt: skip


def refused(capsys, argv, words):
    """Run a command that must be refused: status 2, nothing on stdout, one line on stderr with the given words."""
    assert main([str(item) for item in argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("pimllm: ")
    assert words in err


def test_evaluate_prints_json_objects_with_the_published_rate(capsys):
    argv = ["evaluate", "--system", "tpu-llm", "--model", "opt-6.7b", "--model", "gpt2-355m", "--context", "128"]
    assert main([*argv, "--conventions", "as-published", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == ["opt-6.7b", "gpt2-355m"]
    keys = {"system", "model", "context_len", "latency_s", "energy_j", "tokens_per_s", "tokens_per_j", "conventions"}
    assert keys <= rows[0].keys()
    assert round(rows[0]["tokens_per_s"], 4) == 0.4874
    assert rows[0]["latency_s"] == pytest.approx(1 / rows[0]["tokens_per_s"], rel=1e-12)


def test_the_array_can_be_swapped(capsys):
    argv = ["evaluate", "--model", "opt-6.7b", "--context", "128", "--conventions", "as-published", "--json"]
    assert main([*argv, "--array", "cloud-256x256"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["pe_count"] == 65536
    assert row["tokens_per_s"] > 2


def test_a_table_names_its_conventions(capsys):
    assert main(["evaluate", "--model", "opt-6.7b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all("corrected" in line for line in lines[1:])


def test_csv_and_netcdf_hold_the_same_numbers(capsys, tmp_path):
    argv = ["evaluate", "--model", "opt-6.7b", "--context", "128"]
    assert main([*argv, "--csv"]) == 0
    header, row = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert main([*argv, "--netcdf", str(tmp_path / "x.nc")]) == 0
    from pimllm_lib.archive.dataset import load

    stored = load(tmp_path / "x.nc").tokens_per_s.item()
    assert float(row[header.index("tokens_per_s")]) == stored


@pytest.mark.parametrize("command", ["devices", "models", "parts", "systems"])
def test_listings_print_tables_and_json(capsys, command):
    assert main([command]) == 0
    table = capsys.readouterr().out.splitlines()
    assert main([command, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(table) - 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["evaluate", "--model", "opt-6.7"], "unknown model 'opt-6.7', did you mean 'opt-6.7b'?"),
        (["evaluate", "--model", "opt-6.7b", "--system", "tpullm"], "did you mean 'tpu-llm'?"),
        (["evaluate", "--model", "opt-6.7b", "--conventions", "published"], "did you mean 'as-published'?"),
        (["evaluate", "--model", "opt-6.7b", "--array", "edge"], "did you mean 'edge-32x32'?"),
        (["evaluate", "--model", "nowhere/config.json"], "nowhere/config.json cannot be read: No such file"),
        (["evaluate", "--model", "nowhere.toml"], "nowhere.toml cannot be read: No such file"),
        *(
            (["evaluate", "--model", "opt-6.7b", "--context", text], "wanted a whole number of tokens")
            for text in ("0", "-1", "1.5", "nan", "inf", "many", "", "1e3", "9" * 5000)
        ),
        (["evaluate", "--model", "opt-6.7b", "--context", "128", "--context", "128"], "wanted distinct lengths"),
        (["evaluate", "--model", "opt-6.7b", "--netcdf", "/proc/none/x.nc"], "x.nc cannot be written"),
        (["evaluate", "--model", "opt-6.7b", "--netcdf", "/dev/null"], "it is a folder or a device"),
        (["evaluate", "--model", "opt-6.7b", "--netcdf", "."], "it is a folder or a device"),
        (["evaluate", "--model", "opt-6.7b", "--netcdf", ""], "a path is empty"),
        (["evaluate", "--model", "opt-6.7b", "--array", ""], "unknown part ''"),
        (["evaluate", "--model", "x/" * 3000 + "a.toml"], "cannot be read"),
        (["evaluate", "--model", "a\nb/c.toml"], "a\\nb/c.toml cannot be read"),
        (["explain", "tokens", "--model", "opt-6.7b"], "unknown variable 'tokens'"),
        (["explain", "energy_j", "--model", "opt-6.7b", "--context", "x"], "context_len is 'x'"),
        (["evaluate"], "--model"),
        (["evaluate", "--model", "opt-6.7b", "--json", "--csv"], "not allowed with"),
        (["evalute"], "invalid choice"),
        ([], "COMMAND"),
        (["run", "03-tokens"], "unknown notebook '03-tokens', did you mean '03-tokens-per-second'?"),
        (["run", "03-tokens-per-second", "-p", "context_length", "[1]"], "did you mean 'context_len'?"),
        (["run", "03-tokens-per-second", "-p", "into", "x"], "unknown parameter"),
        (["run", "03-tokens-per-second", "-p", "context_len", "oops"], "wanted list[int]"),
        (["run", "03-tokens-per-second", "-p", "context_len", "[1.5]"], "wanted list[int]"),
        (["run", "03-tokens-per-second", "-p", "context_len", "128"], "wanted list[int]"),
        (["run", "03-tokens-per-second", "-p", "models", "['x'*3]"], "wanted list[str]"),
        (["run", "03-tokens-per-second", "-p", "conventions", "__import__('os')"], "wanted a name"),
        (["run", "03-tokens-per-second", "-p", "models", "['a\\nimport os']"], "wanted a name"),
        (["run", "03-tokens-per-second", "-p", "context_len", "[1]", "--archive"], "wanted --into DIR"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, argv, words):
    refused(capsys, argv, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"[1, 2]", "wanted a JSON object"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"model_type": "llama", "hidden_size": ' + b"9" * 10_000 + b"}", "is not JSON"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (json.dumps(CONFIG | {"model_type": "t5"}).encode(), "unknown model_type 't5'"),
        (json.dumps(CONFIG | {"model_type": ["llama"]}).encode(), "model_type is ['llama']; wanted one of"),
        (json.dumps({k: v for k, v in CONFIG.items() if k != "model_type"}).encode(), "model_type is None"),
        (json.dumps(CONFIG | {"hidden_size": None}).encode(), "has no hidden_size"),
        (json.dumps(CONFIG | {"num_attention_heads": 5}).encode(), "5 heads do not divide the width 64"),
        (json.dumps(CONFIG | {"num_hidden_layers": 0}).encode(), "num_hidden_layers is 0; wanted a whole number"),
        (json.dumps(CONFIG | {"num_hidden_layers": 2.5}).encode(), "num_hidden_layers is 2.5"),
        (json.dumps(CONFIG | {"vocab_size": "many"}).encode(), "vocab_size is 'many'"),
        (json.dumps(CONFIG | {"num_key_value_heads": 3}).encode(), "wanted a divisor of the 4 heads"),
        (json.dumps(CONFIG | {"tie_word_embeddings": "no"}).encode(), "wanted true or false"),
    ],
)  # fmt: skip
def test_a_bad_config_is_one_line_and_status_2(capsys, tmp_path, content, words):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    refused(capsys, ["evaluate", "--model", path], words)


def test_a_config_of_two_gigabytes_is_refused_at_once(capsys, tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(2 << 30)  # a sparse file: it takes no room
    refused(capsys, ["evaluate", "--model", path], "has 2147483648 bytes; wanted a description of at most")


def test_a_bad_part_is_one_line_and_status_2(capsys, part_toml):
    path = part_toml("value = 500", "value = -500")
    refused(capsys, ["evaluate", "--model", "opt-6.7b", "--array", path], "rate_hz is -500000000.0")


@pytest.mark.parametrize("system", ["tpu-llm", "pim-llm"])
@pytest.mark.parametrize("size", ["2**40", "2**41", "2**52", "2**53", "10**18", "2**64", "10**400"])
def test_a_size_that_no_machine_holds_is_one_line(capsys, tmp_path, system, size):
    path, size = tmp_path / "m.toml", pow(*map(int, size.split("**")))
    plain = {"n_heads": 16, "n_kv_heads": 16, "head_dim": 64, "window": "inf"}
    plain |= {"d_model": 1024, "d_ff": 4096, "n_layers": 24, "vocab_size": 50257, "n_experts": 4}
    for fields in (*([name] for name in plain), ["d_model", "d_ff"], list(plain)):
        sizes = plain | dict.fromkeys(fields, size)
        path.write_text("".join(f"{name} = {value}\n" for name, value in {"name": '"m"', **sizes}.items()))
        argv = ["evaluate", "--system", system, "--model", str(path), "--conventions", "full-system"]
        if fields == ["window"] and size < 10**400:  # beyond every context it is no window
            assert main(argv) == 0
            capsys.readouterr()
        else:
            refused(capsys, argv, "wanted")


def test_a_folder_is_no_output_file_and_nothing_is_left_behind(capsys, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("")
    refused(capsys, ["evaluate", "--model", "opt-6.7b", "--netcdf", tmp_path / "taken"], "cannot be written")
    assert os.listdir(tmp_path) == ["taken"]


@pytest.mark.parametrize("argv", [
    ["evaluate", "--model", "none.toml", "--netcdf", "{p}/file/x.nc"],
    ["export", "--archive", "{p}", "--to", "{p}/file/x.zip"],
    ["fetch", "7.7.7", "--from", "{p}/none", "--into", "{p}/file/x"],
    ["run", "01-operation-share", "-p", "none", "1", "--into", "{p}/file"],
    ["sweep", "{p}/none.yaml", "--into", "{p}/file/x"],
    ["train", "none", "--into", "{p}/file/x", "--states", "{p}"],
    ["train", "none", "--into", "{p}", "--states", "/proc/none"],
])  # fmt: skip
def test_a_target_that_cannot_be_written_is_refused_before_the_work_it_is_for_is_looked_at(capsys, tmp_path, argv):
    (tmp_path / "file").write_text("")
    refused(capsys, [text.format(p=tmp_path) for text in argv], "cannot be written")
    assert os.listdir(tmp_path) == ["file"]


def test_a_study_that_is_there_already_is_refused_before_its_model_is_looked_at(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.ipynb").write_text("{}")
    refused(capsys, ["new-study", "mine", "--model", "none"], "mine.ipynb is there already")


def test_explain_names_formula_parts_and_sources(capsys):
    argv = ["explain", "tokens_per_s", "--system", "pim-llm", "--model", "opt-6.7b", "--conventions", "as-published"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    for words in ("tokens_per_s = 38.6464 tokens/s", "1 / latency_s", "hops x bits of the result / network_bps",
                  "adc-8bit.power_w = 2 mW  [second_hand: isaac2016", "attention_energy_once"):  # fmt: skip
        assert words in out


def test_explain_shows_the_precision_and_the_kinds_of_blocks_of_a_model(tmp_path, capsys):
    path = tmp_path / "mixed.toml"
    path.write_text(
        "d_model = 64\nd_ff = 64\nn_layers = 2\nn_heads = 2\nn_kv_heads = 2\nhead_dim = 32\nvocab_size = 9\nlevels = 2\n"
        "blocks = [{ count = 1, window = 64 }, { count = 1 }]\n"
    )
    assert main(["explain", "energy_j", "--model", str(path)]) == 0
    out = capsys.readouterr().out
    assert "levels = 2" in out
    assert "blocks: count = 1, window = 64\n  blocks: count = 1\n" in out
    assert "window = inf" not in out, "what most models have is not said"


def test_explain_gives_each_variable_its_own_formulas(capsys):
    for variable, words in (("energy_j", "ADCs x adc.power_w x their time"), ("tiles", "memory cells, their lines")):
        assert main(["explain", variable, "--system", "pim-llm", "--model", "opt-6.7b"]) == 0
        assert words in capsys.readouterr().out


def test_explain_says_which_values_are_the_users(capsys, part_toml):
    path = part_toml().with_name("s.toml")
    path.write_text('array = "mine.toml"\n')
    assert main(["explain", "latency_s", "--system", str(path), "--model", "opt-1.3b"]) == 0
    assert "mine.rows = 64  [user]" in capsys.readouterr().out


def test_a_users_model_runs(capsys, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    assert main(["evaluate", "--model", str(path), "--context", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["macs"] == 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64 * 10)


def test_help_loads_neither_numpy_nor_xarray():
    code = (
        "import sys; from pimllm_lib.cli.main import _parser; _parser(); print({'numpy', 'xarray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(("given", "kept"), [({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2"),
                                             ({"OPENBLAS_NUM_THREADS": "2"}, "None")])  # fmt: skip
def test_sums_are_added_by_one_thread_unless_the_user_says_otherwise(given, kept):
    code = "import os; from pimllm_lib.cli.main import _keep_order; _keep_order(); print(os.environ.get('OMP_NUM_THREADS'))"
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain | given)
    assert done.stdout == f"{kept}\n"


def test_a_reader_that_stops_reading_is_no_error():
    program = Path(sys.executable).with_name("pimllm")
    done = subprocess.run(f"{program} parts | head -n 1", shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_remedies_are_put_on_every_system_and_model(capsys):
    point = ["--context", "4096", "--conventions", "full-system", "--json"]
    pair = ["--system", "pim-llm", "--system", "tpu-llm", "--model", "opt-6.7b", "--model", "llama-3-8b"]
    assert main(["evaluate", *pair, *point]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["evaluate", *pair, *point, "--remedy", "row groups", "--remedy", "speculation"]) == 0
    changed = json.loads(capsys.readouterr().out)
    key = ("system", "model")
    assert sorted([row[k] for k in key] for row in plain) == sorted([row[k] for k in key] for row in changed)
    before = {(row["system"], row["model"]): row["latency_s"] for row in plain}
    assert all(row["latency_s"] < before[row["system"], row["model"]] for row in changed)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["row group"], "did you mean 'row groups'?"),
        (
            ["row groups", "one row of 1024"],
            "'one row of 1024' and 'row groups' cannot both be had; wanted one of them",
        ),
    ],
)
def test_a_remedy_that_cannot_be_had_is_one_line(capsys, names, said):
    options = [option for name in names for option in ("--remedy", name)]
    assert main(["evaluate", "--system", "pim-llm", "--model", "opt-125m", *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_remedies_are_listed(capsys):
    assert main(["remedies", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"remedy": "row groups", "one of": "shape", "computes the same": "yes"} in rows


@pytest.mark.parametrize("text", ["-1e-1", "-.5", "-1E3", "-inf", "-1", "-0.5", "-1.", "-1_000", "-NaN", "-1,-2"])
def test_a_negative_number_in_any_notation_is_a_value_of_every_option_that_takes_one(text):
    parse = _parser().parse_args
    assert parse(["noise", "--checkpoint", "c", "--text", "t", "--set", "readout.inl", text]).set == [
        ["readout.inl", text]
    ]
    assert parse(["run", "n", "-p", "a", text, "-p", "b", "c"]).p == [["a", text], ["b", "c"]]
    assert parse(["evaluate", "--model", "m", "--context", text]).context == [text]


def test_a_negative_number_reaches_the_check_of_its_field(capsys):
    refused(capsys, ["lifetime", "--model", "opt-1.3b", "--minutes", "-1e-1"], "-0.1")


def test_who_calls_the_command_line_keeps_the_environment(monkeypatch, capsys):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    assert main(["models"]) == 0
    assert capsys.readouterr().out
    assert dict(os.environ) == before


@pytest.mark.filterwarnings("default")
def test_a_grid_that_grows_is_one_note_on_stderr(capsys):
    assert main(["evaluate", "--system", "pim-llm", "--model", "mixtral-8x7b", "--context", "128", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["model"] == "mixtral-8x7b"
    assert err.startswith("note: a block needs 5536 tiles: the grid of 64 x 64 is taken as 75 x 75, up to")
    assert err.count("\n") == 1
