"""`pimllm noise`: bits per byte under a noise configuration, and one clear line for everything that is wrong."""

import itertools
import json
import math
import re
import sys
from importlib import import_module
from shutil import copytree

import numpy as np
import pytest

from pimllm_lib import catalog
from pimllm_lib.analog.lm import checkpoint, language, layers, text
from pimllm_lib.analog.lm.checkpoint import Block, Matrix
from pimllm_lib.analog.lm.layout import sizes, widths
from pimllm_lib.analog.noise import forecast, trial
from pimllm_lib.cli import noise as cli_noise
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.workload.decoder import Decoder

TRAINED = paths.DATA / "checkpoints" / "docstrings-0"
IDEAL = ["--devices", "cells-ideal", "--readout", "readout-ideal"]
PROSE = "".join(f"Line {n} of {n * n} says nothing that line {n - 1} did not.\n" for n in range(20))


def a_checkpoint(folder, *, vocabulary=256, ternary=True):
    """Write a tiny model of random weights."""
    shape = Decoder(
        name="tiny", d_model=32, d_ff=48, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, vocab_size=vocabulary,
        gated=True, sub_norms=True, tied_embeddings=True,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    blocks = [
        Block(
            {
                key: Matrix(rng.integers(-1, 2, size, dtype=np.int8), 0.2, True)
                if ternary
                else Matrix(rng.normal(0, 0.2, size).astype(np.float32), 1.0, False)
                for key, size in sizes(shape).items()
            },
            {key: np.ones(width, np.float32) for key, width in widths(shape).items()},
        )
        for _ in range(shape.n_layers)
    ]
    embedding = rng.normal(0, 0.5, (vocabulary, 32)).astype(np.float32)
    checkpoint.write(folder, shape, embedding=embedding, blocks=blocks, final_norm=np.ones(32, np.float32), head=None,
                     theta=10000.0, eps=1e-5)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with checkpoints and texts, sound ones and others."""
    root = tmp_path_factory.mktemp("noise")
    a_checkpoint(root / "tiny")
    a_checkpoint(root / "words", vocabulary=192)
    a_checkpoint(root / "full", ternary=False)
    copytree(root / "words", root / "tokenised")
    (root / "tokenised" / "tokenizer.json").write_text("{")
    (root / "bare").mkdir()
    copytree(root / "tiny", root / "cut")
    whole = (root / "cut" / "model.safetensors").read_bytes()
    (root / "cut" / "model.safetensors").write_bytes(whole[:-100])
    for name, content in {
        "prose": PROSE.encode(), "copy": PROSE.encode(), "part": PROSE[200:600].encode(), "other": PROSE[::-1].encode(),
        "short": b"too short", "empty": b"", "latin": "é".encode("latin-1") * 200,
    }.items():  # fmt: skip
        (root / f"{name}.txt").write_bytes(content)
    return root


def arguments(place, *more, folder="tiny", tried="prose.txt"):
    """Return a command line; a file among the options is one of the place's."""
    more = [str(place / item) if item.endswith(".txt") else item for item in more]
    return ["noise", "--checkpoint", str(place / folder), "--text", str(place / tried), "--window", "32", *more]


def printed(capsys, place, *more, **where):
    assert main(arguments(place, *more, **where)) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"noise: \d+ chips?, \d+ tokens, 2 blocks: about \d+ seconds?\n", err)
    return json.loads(out)


def test_a_short_text_is_tried_whole_on_four_chips_where_the_minutes_allow(capsys, place):
    found = printed(capsys, place)
    assert (found["seeds"], found["tokens"]) == (4, len(PROSE) // 32 * 31)
    assert printed(capsys, place, "--seeds", "2", "--tokens", "70")["tokens"] == 62


def test_what_fits_into_minutes_is_less_of_a_slower_model_and_what_is_given_stays():
    def fits(minutes, slow, **given):
        known = forecast.Forecast(slow, (slow, slow / 100), (6 * slow, slow / 25), blocks=30, chips=30)
        options = {"window": 128, "longest": 1 << 20, "tokens": None, "seeds": None} | given
        tokens, seeds = forecast.fitting(known, minutes, **options)
        return tokens, seeds, known.seconds(tokens, seeds) / 60

    assert fits(5, 1e-4)[:2] == (forecast.TOKENS, forecast.SEEDS)
    spent = [fits(5, slow) for slow in 10 ** np.arange(-4, 1, 0.25)]
    assert all(minutes <= 5 or (tokens, seeds) == (128, 1) for tokens, seeds, minutes in spent)
    for quicker, slower in itertools.pairwise(spent):
        assert (quicker[1], quicker[0]) >= (slower[1], slower[0])  # chips before tokens
    assert spent[-1][:2] == (128, 1)
    assert fits(5, 1, tokens=4096)[:2] == (4096, 1)
    assert fits(5, 1, seeds=3)[:2] == (128, 3)
    assert fits(5, 1, tokens=200, seeds=3)[:2] == (200, 3)
    twice = [fits(5, 1, tokens=length, seeds=3)[2] for length in (1000, 2000)]
    assert twice[0] < twice[1] < 2 * twice[0]


def test_progress_is_told_without_a_terminal(capsys, place, monkeypatch):
    monkeypatch.setattr(cli_noise, "EVERY_S", -1)
    assert main(arguments(place, "--seeds", "1")) == 0
    first, *lines = capsys.readouterr().err.splitlines()
    assert first.startswith("noise: 1 chip, 960 tokens, 2 blocks: about ")
    assert lines == [f"noise: {100 * done // 6} %" for done in range(1, 7)]


def test_no_noise_changes_no_bit(capsys, place):
    found = printed(capsys, place, *IDEAL, "--seeds", "2")
    assert found["clean_bits_per_byte"] == found["noisy_bits_per_byte"] == found["noisy_low"] == found["noisy_high"]
    assert found["noisy_std"] == found["perplexity_change_percent"] == found["perplexity_change_std"] == 0
    assert found["zeroed_bits_per_byte"] != found["clean_bits_per_byte"]
    assert (found["changed"], found["calibration"]) == ({}, None)


def test_clean_and_zeroed_are_the_language_models_own(capsys, place):
    found = printed(capsys, place, "--seeds", "1", "--tokens", "100")
    read = checkpoint.read(place / "tiny")
    tokens = np.frombuffer(PROSE.encode()[:96], np.uint8).reshape(3, 32)
    for name, prepare in (("clean", layers.exact), ("zeroed", layers.zeroed)):
        nats = language.losses(read, tokens, prepare).mean()
        assert found[f"{name}_bits_per_byte"] == pytest.approx(
            nats / math.log(2), abs=5 * found["rounding_bits_per_byte"]
        )
    assert found["tokens"] == found["bytes"] == 3 * 31
    assert found["noisy_std"] is found["perplexity_change_std"] is None


def test_word_lines_and_where_pairs_lie_are_fields_like_others(capsys, place):
    def lost(**fields):
        changes = [item for name, value in fields.items() for item in ("--set", f"devices.{name}", value)]
        found = printed(capsys, place, *IDEAL, "--seeds", "1", *changes)
        return found["noisy_low"], found["changed"]

    alone, apart = lost(wire_ohm="20"), lost(wire_ohm="20", word_ohm="20")
    beside = lost(wire_ohm="20", word_ohm="20", pairs="side-by-side")
    assert len({alone[0], apart[0], beside[0]}) == 3
    assert beside[1]["devices.pairs"] == "side-by-side"


def test_the_summary_is_that_of_the_seeds(capsys, place):
    more = ["--readout", "readout-ideal", "--set", "devices.variation", "0.3"]
    found = printed(capsys, place, *more, "--seeds", "3")
    parts = {"crossbar": catalog.parts["crossbar-256"], "readout": catalog.parts["readout-ideal"]}
    devices = catalog.part("cells-mnsim")
    devices = type(devices)(**vars(devices) | {"variation": 0.3})
    read = checkpoint.read(place / "tiny")
    given = text.tokens(PROSE.encode(), "prose", place / "tiny", 256)
    every = [trial.run(read, given, **parts, devices=devices, seeds=[seed], window=32).noisy[0] for seed in range(3)]
    clean, mean = found["clean_bits_per_byte"], np.mean(every)
    held = {"abs": 5 * found["rounding_bits_per_byte"]}  # half a step of the last digit
    assert (found["noisy_low"], found["noisy_high"]) == (
        pytest.approx(min(every), **held),
        pytest.approx(max(every), **held),
    )
    assert found["noisy_bits_per_byte"] == pytest.approx(mean, **held)
    assert found["noisy_std"] == pytest.approx(np.std(every, ddof=1), **held)
    changes = 100 * (2 ** (np.array(every) - clean) - 1)  # a token is a byte here
    assert found["perplexity_change_percent"] == pytest.approx(changes.mean(), abs=5 * found["rounding_change_percent"])
    assert found["changed"] == {"devices.variation": 0.3}


def test_no_digit_is_printed_that_another_order_of_sums_moves(capsys, place):
    found = printed(capsys, place, "--seeds", "2", "--set", "devices.variation", "0.3")
    for kind, unit in (("rounding_bits_per_byte", "bits_per_byte"), ("rounding_change_percent", "change_percent")):
        step = 10.0 ** -math.floor(-math.log10(max(found[kind], 1e-6)))
        for name in (name for name in found if name.endswith(unit) and name != kind):
            assert found[name] / step == pytest.approx(round(found[name] / step), abs=1e-6), name
    assert "the chips of a seed are the same everywhere" in found["note"]


def test_the_same_command_prints_the_same_bytes(capsys, place):
    argv = arguments(place, "--seeds", "2", "--devices", "cells-pcm")
    assert main(argv) == 0
    once = capsys.readouterr().out
    assert main(argv) == 0
    assert capsys.readouterr().out == once


def test_a_range_from_data_takes_the_end_of_the_text_or_a_text_of_its_own(capsys, place):
    more = ["--readout", "readout-4-sigma", "--seeds", "1"]
    whole = len(PROSE) // 32
    kept = max(len(PROSE) // 8 // 32, 1)
    end = printed(capsys, place, *more)
    assert end["calibration"] == f"{32 * kept} tokens of the end of the text, which are not evaluated"
    assert end["tokens"] == 31 * ((len(PROSE) - 32 * kept) // 32)
    own = printed(capsys, place, *more, "--calibration", "other.txt")
    assert own["calibration"] == f"{32 * whole} tokens of {place / 'other.txt'}"
    assert own["tokens"] == 31 * whole


def test_settings_reach_every_depth_and_every_kind_of_value(capsys, place):
    more = {
        "crossbar.adc.bits": "6", "crossbar.rows": "32.0", "devices.law": "lognormal", "devices.compensated": "true",
        "devices.curve_siemens": "0.1,0.2", "devices.full_siemens": "1", "devices.stuck_on": "0.001",
    }  # fmt: skip
    found = printed(capsys, place, *(word for item in more.items() for word in ("--set", *item)), "--seeds", "1")
    assert found["changed"] == {
        "crossbar.adc.bits": 6, "crossbar.rows": 32, "devices.law": "lognormal", "devices.compensated": True,
        "devices.curve_siemens": [0.1, 0.2],
    }  # fmt: skip


def test_a_trained_model_gets_worse_with_variation():
    read = checkpoint.read(TRAINED)
    content = (paths.ROOT / "README.md").read_bytes()
    given = text.tokens(content, "README.md", TRAINED, 256).part(0, 1024)
    readout, crossbar = catalog.parts["readout-ideal"], catalog.parts["crossbar-256"]
    cells = catalog.parts["cells-ideal"]
    exact, noisy = (
        trial.run(
            read, given, crossbar=crossbar, devices=type(cells)(name="mine", variation=spread), readout=readout,
            seeds=range(1),
        )
        for spread in (0, 0.4)
    )  # fmt: skip
    assert exact.noisy[0] == exact.clean < 4  # of the 8 bits that knowing nothing takes
    assert noisy.noisy[0] > exact.clean + noisy.rounding
    assert 1e-5 < noisy.rounding < 0.01  # what rounding turns is there, and is little


@pytest.mark.parametrize(
    ("where", "more", "words"),
    [
        ({"folder": "none"}, [], "none does not exist; wanted a GGUF file, or a folder"),
        ({"folder": "prose.txt"}, [], "prose.txt is a file; wanted a GGUF file, or a folder"),
        ({"folder": "bare"}, [], "bare has no config.json"),
        ({"folder": "cut"}, [], "is truncated or no safetensors file"),
        ({"folder": "full"}, [], "full precision; wanted ternary"),
        ({"folder": "words"}, [], "has a vocabulary of 192 and no tokenizer.json; wanted that file, or the 256 bytes"),
        ({"tried": "none.txt"}, [], "none.txt does not exist; wanted a file"),
        ({"tried": "bare"}, [], "bare is not a file; wanted a file"),
        ({"tried": "empty.txt"}, [], "empty.txt has 0 tokens; wanted at least 32, one window"),
        ({"tried": "short.txt"}, [], "short.txt has 9 tokens; wanted at least 32, one window"),
        ({"tried": "latin.txt"}, [], "latin.txt is not UTF-8 text: invalid continuation byte at byte 0"),
        ({"tried": "part.txt"}, ["--readout", "readout-4-sigma", "--window", "201"],
         "part.txt has 400 tokens; wanted at least 402"),
        ({}, ["--readout", "readout-4-sigma", "--calibration", "prose.txt"], "wanted different texts"),
        ({}, ["--readout", "readout-4-sigma", "--calibration", "copy.txt"], "wanted different texts"),
        ({}, ["--readout", "readout-4-sigma", "--calibration", "part.txt"], "wanted different texts"),
        ({}, ["--readout", "readout-4-sigma", "--calibration", "short.txt"], "short.txt has 9 tokens"),
        ({}, ["--readout", "readout-4-sigma", "--calibration", "none.txt"], "none.txt does not exist"),
        ({}, ["--readout", "readout-4-sigma", "--calibration", ""], "a path is empty"),
        ({}, ["--calibration", "other.txt"], "range 'worst-case', which no data set; wanted no calibration"),
        ({}, ["--crossbar", "cells-ideal"], "'cells-ideal' is a Devices; wanted a Crossbar"),
        ({}, ["--devices", "cells-mnsm"], "did you mean 'cells-mnsim'?"),
        ({}, ["--readout", "none.toml"], "none.toml cannot be read"),
        ({}, ["--minutes", "0"], "wanted a whole number from 1 to 100000"),
        ({}, ["--seeds", "0"], "wanted a whole number from 1 to 10000"),
        ({}, ["--seeds", "9" * 5000], "wanted a whole number from 1 to 10000"),
        ({}, ["--window", "1"], "wanted a whole number from 2 to 4096"),
        ({}, ["--tokens", "31"], "--tokens is 31; wanted at least the 32 of --window"),
        ({}, ["--set", "devices.variation"], "expected 2 arguments"),
        ({}, ["--set", "devices.variation", "1e38", "--set", "readout.inl", "1"], "finite"),
        *(
            ({}, ["--set", path, value], words)
            for path, value, words in [
                ("devices.variance", "0.1", "unknown field of Devices 'variance', did you mean 'variation'?"),
                ("crossbar.adc.bit", "6", "unknown field of Adc 'bit', did you mean 'bits'?"),
                ("device.variation", "0.1", "unknown part of --set 'device', did you mean 'devices'?"),
                ("variation", "0.1", "unknown part of --set 'variation'"),
                ("devices", "0.1", "unknown field of Devices ''"),
                ("devices.variation.of", "0.1", "wanted a part, to change of of it"),
                ("crossbar.adc", "6", "unknown part '6'"),
                ("devices.variation", "-0.1", "Devices.variation is -0.1; wanted a finite number of at least 0"),
                ("devices.variation", "much", "--set 'devices.variation' is 'much'; wanted a finite number"),
                ("devices.variation", "0.1,0.2", "is '0.1,0.2'; wanted a finite number"),
                ("devices.variation", "", "is ''; wanted a finite number"),
                ("devices.variation", "true", "Devices.variation is True"),
                ("devices.curve_siemens", "0.1,x", "--set 'devices.curve_siemens' is 'x'; wanted a finite number"),
                ("readout.inl", "nan", "is 'nan'; wanted a finite number"),
                ("readout.lsb", "9" * 400, "wanted a finite number"),
                ("devices.drift_time", "long", "is 'long'; wanted a finite number"),
                ("readout.range", "sigma", "did you mean 'sigmas'?"),
                ("devices.word_ohm", "-1", "Devices.word_ohm is -1; wanted a finite number of at least 0"),
                ("devices.word_ohm", "1,2", "is '1,2'; wanted a finite number"),
                ("devices.pairs", "aside", "unknown Devices.pairs 'aside'"),
                ("readout.range", "3", "unknown Readout.range 3"),
                ("crossbar.adc.bits", "0", "Adc.bits is 0"),
                ("crossbar.adc.bits", "40", "Adc.bits is 40"),
                ("crossbar.rows", "1e300", "Crossbar.rows is 1e+300; wanted a whole number"),
                ("devices.stuck_on", "1.5", "Devices.stuck_on is 1.5; wanted a chance from 0 to 1"),
                ("crossbar.cell.high_ohm", "1", "Cell.high_ohm is 1; wanted at least low_ohm"),
                ("crossbar.polarity", "1", "wanted 2 and 2 (ternary) or 1 and 1 (binary)"),
                ("devices.read_noise", "1e30", "finite"),
                ("devices.output_noise", "1e300", "tiny with cells-mnsim and readout-worst-case gives outputs"),
                ("devices.variation", "1e300", "finite"),
            ]
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(capsys, place, where, more, words):
    before = sorted(place.rglob("*"))
    assert main(arguments(place, *more, **where)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *said, err = err.splitlines()
    assert len(said) <= (words.startswith(("finite", "tiny")))  # it has begun, and said how long it would take
    assert err.startswith("pimllm: ")
    assert words in err
    assert sorted(place.rglob("*")) == before


def test_an_on_off_ratio_of_one_is_refused(capsys, place):
    ohm = str(catalog.parts["crossbar-256"].cell.low_ohm)
    assert main(arguments(place, "--set", "crossbar.cell.high_ohm", ohm)) == 2
    assert "has an on/off ratio of 1; wanted one above 1" in capsys.readouterr().err


def test_a_tokenizer_without_its_package_names_the_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # as where it is not installed
    with pytest.raises(
        BadInput, match=r"tokenizer.json needs the package tokenizers; wanted pip install 'pimllm\[text\]'"
    ):
        text.tokens(b"some text", "some.txt", place / "tokenised", 192)


@pytest.mark.torch
def test_tokens_of_a_tokenizer_stand_for_every_byte_of_the_text_once(tmp_path):
    made = import_module("tokenizers")
    letters = sorted(made.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = made.Tokenizer(made.models.BPE(vocab={letter: i for i, letter in enumerate([*letters, "th"])},
                                               merges=[("t", "h")]))  # fmt: skip
    tokenizer.pre_tokenizer = made.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    content = "the cloth é€😀".encode()
    found = text.tokens(content, "some.txt", tmp_path, 257)
    assert len(found.ids) == len(content) - 2
    assert found.sizes.sum() == len(content)
    assert found.sizes[:5].tolist() == [2, 1, 1, 1, 1]
    assert found.sizes[-9:].tolist() == [2, 0, 3, 0, 0, 4, 0, 0, 0]


@pytest.mark.torch
def test_a_damaged_tokenizer_is_one_line(capsys, place):
    assert main(arguments(place, folder="tokenised")) == 2
    assert "tokenizer.json is no tokenizer: " in capsys.readouterr().err
