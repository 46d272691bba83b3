"""Random files, given to the commands that read them: python tests/fuzz.py SEED SECONDS [KIND ...].

Each case is a good file with a few random changes. A command may do it or refuse it in one line; it may not raise, take more
than `MEMORY`, or more than `PATIENCE_S`. What is found is printed with the seed and number that give it again, once for each
place in the code; where PIMLLM_FUZZ_KEEP names a folder, the files are kept there.
"""

import contextlib
import faulthandler
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path

import gguf_files
import h5py
import layouts
import numpy as np
import test_spm

from pimllm_lib.analog.lm import checkpoint, spm
from pimllm_lib.archive import manifest, parameters, sources
from pimllm_lib.catalog import headers
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput
from pimllm_lib.workload.decoder import Decoder

MEMORY, PATIENCE_S = 2 << 30, 10
RESULT, BITNET = "01-operation-share", paths.CHECKPOINTS / "docstrings-0"
MODEL = """name = "mine"
d_model = 64
d_ff = 128
n_layers = 2
n_heads = 4
n_kv_heads = 2
head_dim = 16
vocab_size = 300
gated = true
window = inf
published = { d_ff = 64 }
"""
ARRAY = """part = "SystolicArray"
name = "mine"
rows = { value = 64, unit = "1", source = "us", status = "assumed", range = [32, 128] }
cols = { value = 16, unit = "1", source = "us", status = "assumed" }
rate_hz = { value = 500, unit = "MHz", source = "us", status = "cited" }
active_pe_energy_j = { value = 0.2, unit = "pJ", source = "us", status = "cited", note = "a note" }
idle_pe_energy_j = { value = 0.02, unit = "pJ", source = "us", status = "fitted" }
"""
SYSTEM = """array = "edge-32x32"
pim = "pim-published"
sram = "sram-8mb"
dram = "lpddr5x-8533"
storage = "ternary-packed"
nonlinear = "units-consmax"
bus = "bus-64bit"
routing = { projection = "pim", attention = "array", head = "array" }
"""
CONVENTIONS = 'base = "as-published"\nname = "mine"\nlm_head = true\noverlap = false\n'
STUDY = """name: study
system: pim-llm
model: [opt-125m]
context_len: [8, 1024]
axes:
  system.array.rate_hz: {low: 1e8, high: 8e8, law: log, points: 4}
  crossbar: {fields: [system.pim.tile.crossbar.rows, system.pim.tile.crossbar.cols], values: [128, 256], labels: [a, b]}
  conventions.overlap: [true, false]
metrics: [tokens_per_s, power_w]
reduce: {kind: pareto, objectives: {tokens_per_s: max, power_w: min}}
chunk: 4
"""
SAMPLE = """axes:
  system.array.rate_hz: {low: 1e8, high: 8e8}
  model.d_ff: {low: 1000, high: 2000, law: integer}
method: sobol
points: 8
seed: 1
metrics: [tokens_per_s]
reduce: {kind: quantiles, quantiles: [0.1, 0.9]}
"""
CURVES = """name: mine
noise: {checkpoints: [docstrings-0], text: README.md, windows: 2, device_seeds: 1}
curves:
  exact: {products: exact}
  variation: {field: devices.variation, values: [0.1, 0.2, 0.4], set: {crossbar.rows: 128}}
  fewer bits: {field: crossbar.adc.bits, values: [5, 6, 7], devices: cells-pcm, readout: readout-4-sigma}
  layer: {field: only, values: ["0", "1", q], set: {devices.variation: 0.4}}
"""
RUNS = """notebook: 01-operation-share
axes:
  which: {fields: [parameter.models], values: [[opt-1.3b], [llama-3-8b]]}
  counting: {fields: [parameter.conventions], values: [as-published, corrected]}
"""
GIVEN = "context_len: [8, 16]\nmodels: [opt-125m]\nconventions: corrected\nbattery_wh: 5.0\n"

#: What may stand anywhere in a text file.
TOKENS = [
    "0", "1", "-1", "2", "0.5", "1e400", "-1e400", "nan", ".nan", "inf", ".inf", "-.inf", "9" * 20, "9" * 400, "9" * 4000,
    "1e308", "5e-324", "1e16", "9007199254740993", "9223372036854775808", "0x" + "f" * 4000, "1_0", "true", "false",
    "null", "None", "~", '""', "''", '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '"a\\nb"', '"../x"', '"/"', '"x/y"',
    '"\\ud800.toml"', '"\\u0000.toml"', "name", '"name"', "__class__", '"__class__"', "system.__class__", "model.name",
    "system.name", "system.array.name", "system.routing", "[]", "{}", "[[]]", "[1, 2]", '["a", "b"]', "[" * 40 + "]" * 40,
    "[" * 600 + "]" * 600, '{"a": 1}', "{a: 1}", "{a = 1}", "'" + "x" * 5000 + "'", "2026-01-01", "12:30:45",
    "!!binary aGk=", "!!set {a, b}", "!!python/none", "&a", "*a", "<<", "? ", "- ", "#", "---", "...", "\t", "\n", ":", "=",
    '"', "%",
    "\x00", "\ufeff", "\u2028", "\u0661", "grid", "list", "latin", "sobol", "log", "all", "top", "opt-6.7b", "pim-llm",
]  # fmt: skip
_SPLIT = re.compile(r"[\w.+-]+|\"[^\"\n]*\"|\s+|.", re.DOTALL)


def text(good, choose):
    """Return a text with changes: tokens replaced, dropped, taken from elsewhere in it, or doubled lines, or bytes."""
    parts = _SPLIT.findall(good.decode())
    for _ in range(choose.choice((1, 1, 1, 2, 3, 6))):
        at, how = choose.randrange(len(parts)), choose.random()
        if how < 0.6:
            at = choose.choice([i for i, part in enumerate(parts) if not part.isspace()] or [at])
            parts[at] = choose.choice(TOKENS)
        elif how < 0.7:
            parts[at] = ""
        elif how < 0.8:
            parts[at] = choose.choice(parts)
        elif how < 0.9:
            lines = "".join(parts).splitlines(keepends=True)
            lines.insert(choose.randrange(len(lines) + 1), choose.choice(lines or [""]))
            parts = lines
        else:
            return flipped("".join(parts).encode(), choose)
    return "".join(parts).encode()


def flipped(content, choose, within=None):
    """Return bytes with a few changed, cut out, doubled or cut off, among the first `within`."""
    made, most = bytearray(content), min(within or len(content), len(content))
    for _ in range(choose.choice((1, 1, 2, 4, 16))):
        at, length = choose.randrange(most), choose.choice((1, 1, 1, 8, 64))
        how = choose.random()
        if how < 0.5:
            made[at : at + 1] = bytes([choose.choice((0, 1, 0x7F, 0xFF, choose.randrange(256)))])
        elif how < 0.7:
            made[at : at + 1] = bytes([made[at] ^ 1 << choose.randrange(8)]) if at < len(made) else b""
        elif how < 0.8:
            made[at : at + 8] = choose.choice((0, 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**64 - 1)).to_bytes(8, "little")
        elif how < 0.9:
            del made[at : at + length]
        elif how < 0.97:
            made[at:at] = made[at : at + length]
        else:
            del made[at:]
    return bytes(made)


def weights(good, choose):
    """Return a safetensors file with changes: in its header as text, mostly, or of bytes."""
    length = int.from_bytes(good[:8], "little")
    if choose.random() < 0.3:
        return flipped(good, choose, within=choose.choice((16, 8 + length, len(good))))
    header = text(good[8 : 8 + length], choose)
    said = len(header) if choose.random() < 0.9 else choose.choice((0, 1, 2**40, 2**64 - 1))
    return said.to_bytes(8, "little") + header + good[8 + length :]


#: A model of bytes with a few of each type of weights, and what may stand in the place of a value or a number of its file.
PACKED = Decoder(name="x", d_model=256, d_ff=256, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=64, vocab_size=256,
                 gated=True, tied_embeddings=True)  # fmt: skip
VALUES_OF_KEYS = [
    0, 1, -1, 3, 255, 256, 2**31, 2**32 - 1, True, "", "llama", "qwen3", "bitnet", "gpt2", "qwen3moe", "\x1b[31m", 0.0, 1.5,
    -1.0, float("nan"), float("inf"), [], [0], [1, 2], [256, 256], ["a", "b"], [0.5], [True], "prism", "x" * 5000,
]  # fmt: skip
KEYS = [
    "general.alignment", "split.count", "llama.expert_count", "llama.expert_used_count", "llama.rope.scaling.type",
    "llama.rope.scaling.factor", "llama.vocab_size", "llama.attention.sliding_window", "prism.hadamard.block_size", "x.y",
    "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.scores", "tokenizer.ggml.pre",
]  # fmt: skip


def packed_model():
    """Return the keys and tensors of a good GGUF file."""
    tables = {"attn_q": "TQ1_0", "attn_k": "I2_S", "attn_v": "Q1_0", "ffn_up": "Q2_0", "ffn_down": "PTQ1_0"}
    tensors, _ = gguf_files.llama_like(np.random.default_rng(0), PACKED, "TQ2_0", tables=tables)
    return gguf_files.metadata(PACKED, "llama"), tensors


def gguf_model(good, choose):
    """Return a GGUF file with changes: of its bytes, those of the header mostly, or of keys, values, types and shapes."""
    if choose.random() < 0.4:
        return flipped(good, choose, within=choose.choice((64, 2000, 2000, len(good))))
    values, held = packed_model()
    for _ in range(choose.choice((1, 1, 2, 3))):
        if choose.random() < 0.6:
            values[choose.choice([*values, *KEYS])] = choose.choice(VALUES_OF_KEYS)
            continue
        name = choose.choice(list(held))
        number, shape, content = held.pop(name)
        how = choose.random()
        if how < 0.3:
            number = choose.choice([*gguf_files.NUMBERS.values(), 31, 99, 2**31])
        elif how < 0.6:
            shape = choose.choice([(*shape, 1), shape[:1], shape[::-1], (2**20, 2**32), (1, 128), (0, 5), (2**40,)])
        elif how < 0.8:
            content = flipped(content, choose)
        else:
            name = choose.choice(
                [*held, "rope_freqs.weight", "blk.0.attn_q.bias", "blk.99.attn_q.weight", "output.weight", ""]
            )
        held[name] = (number, shape, content)
    return gguf_files.file(values, held, alignment=choose.choice((32, 32, 1, 64)))


def netcdf(good, choose):
    """Return a netCDF-4 file with changes: of names, attributes, types and shapes of what is in it."""
    out = io.BytesIO(good)
    with h5py.File(out, "r+") as file:
        for _ in range(choose.choice((1, 1, 2, 3))):
            choose.choice(_METHODS)(file, choose.choice(list(file) or [""]), choose)
    return out.getvalue()


#: What an attribute, or a variable, may be.
VALUES = [
    "", "x", "\x1b[31m", "a\nb", "{}", "[]", "[" * 5000, '{"parameters": []}', "nan", "1e400", 0, -1, 1.5, 2**62, np.nan,
    np.inf, np.zeros(0), np.arange(3), [["a", "b"]], b"\xff\xfe", h5py.Empty("f"), np.bool_(True),
]  # fmt: skip
ARRAYS = [
    np.zeros(0), np.float64(1), np.arange(7), np.full(3, np.nan), np.array(["a", "b"], object), np.zeros((2, 2, 2)),
    np.array([b"\xff"]), np.zeros(2, [("a", "f4"), ("b", "i1")]), np.array([2**63], "u8"), np.array([True]),
    np.array([1 + 2j]), np.zeros(3, "f2"), np.array([""], object),
]  # fmt: skip
ATTRIBUTES = [
    "units", "long_name", "provenance", "tolerance", "schema_version", "title", "_FillValue", "scale_factor", "coordinates",
    "calendar", "dtype", "missing_value", "_Unsigned",
]  # fmt: skip
#: Attributes that HDF5 itself relies on: its own reader is not what is tried.
HDF5S = ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates")


def _attribute(file, name, choose):
    item = file if choose.random() < 0.5 or not name else file[name]
    key, value = choose.choice([*item.attrs, *ATTRIBUTES]), choose.choice(VALUES)
    if key == "provenance" and choose.random() < 0.7 and isinstance(item.attrs.get(key), str):
        value = text(item.attrs[key].encode(), choose).decode(errors="replace").replace("\0", "")
    if key in ("units", "calendar") and choose.random() < 0.5:
        value = choose.choice(["days since 2000-01-01", "seconds since x", "days", "noleap"])
    if key not in HDF5S:
        item.attrs[key] = value


def _content(file, name, choose):
    key = choose.choice([name, "latency_s", "x", "context_len", "model"])
    if not key or (key in file and key != name):
        return
    if key in file:
        del file[key]
    file[key] = choose.choice(ARRAYS)


def _rename(file, name, choose):
    to = choose.choice(["x", "a b", "größe", "latency_s", "\x1b[1m", ".", "context_len", "model", "phony_dim_0"])
    if name and to not in file and to != ".":
        file.move(name, to)


def _remove(file, name, choose):
    if name:
        del file[name]


def _group(file, name, choose):
    if "inner" not in file:
        file.create_group("inner")["x"] = 1.0


_METHODS = (_attribute, _attribute, _attribute, _content, _rename, _remove, _group)


#: How a command may end; of good files in one way alone.
allowed = {0}


def call(*words):
    """Run a command. Raises what it raises, and AssertionError where it does not end as a command is to end."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in words])
    said = re.sub("^noise: .*: about .*\n", "", err.getvalue())  # it begins, and may still refuse what comes out
    assert status in allowed, f"status {status}: {said[:300]!r}"
    assert status != 2 or (said.count("\n") == 1 and said.startswith("pimllm: ")), f"not one line: {said[:300]!r}"
    assert not re.search("MemoryError|allocate |more memory", said), f"more than {MEMORY} bytes: {said[:300]!r}"
    strange = [line for line in said.splitlines() if not line.startswith("pimllm: ")]
    assert status != 0 or not strange, f"said beside its work: {said[:300]!r}"


class Commands:
    """What reads each kind of file, in a folder of its own."""

    def __init__(self, home):
        self.home, self.case = home, home / "case"
        self.results = (paths.RESULTS / f"{RESULT}.nc").read_bytes()
        self.settings, self.weights = ((BITNET / name).read_bytes() for name in ("config.json", "model.safetensors"))
        self.put(f"{RESULT}.nc", self.results, "good")
        self.listing = manifest.compose({f"{RESULT}.nc": manifest.entry(self.results)})
        self.put("manifest.json", self.listing, "good")
        self.zip = sources.zipped({"manifest.json": self.listing, f"{RESULT}.nc": self.results})
        self.text, self.study = self.put("text.txt", b"some text " * 60, ""), self.put("study.yaml", STUDY.encode(), "")
        call("sweep", self.study, "--into", home / "swept")
        self.chunk, self.claim = ((home / "swept" / name).read_bytes() for name in ("chunks/000000.nc", "study.json"))

    def put(self, name, content, folder="case"):
        """Write a file and return its path."""
        path = self.home / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def result(self, content):
        path = self.put(f"{RESULT}.nc", content)
        call("show", RESULT, "--archive", self.case)
        call("diff", self.home / "good", path)
        call("diff", path, self.home / "good")
        call("cite", RESULT, "--archive", self.case)
        manifest.publish(self.case, {path.name: content})
        call("verify", "--no-recompute", "--archive", self.case)

    def packed(self, content):
        path = self.put("packed.zip", content)
        call("diff", path, self.home / "good")
        call(
            "fetch", "1", "--from", path, "--into", self.case / "new", "--sha256", manifest.files.hash_of(self.listing)
        )

    def config(self, content):
        path = self.put("config.json", content)
        call("evaluate", "--model", path, "--context", "8", "--netcdf", self.case / "out.nc")
        self.put("model.safetensors", self.weights)
        self.noise("--checkpoint", self.case)

    def noise(self, *more):
        checkpoint = () if "--checkpoint" in more else ("--checkpoint", BITNET)
        call("noise", *checkpoint, "--text", self.text, "--tokens", 16, "--window", 8, "--seeds", 1, *more)

    def gguf(self, content):
        path = self.put("mine.gguf", content)
        call("evaluate", "--model", path, "--context", "8", "--netcdf", self.case / "out.nc")
        call("describe", path)
        call("describe", path, "--header", "--json")
        self.noise("--checkpoint", path)

    def tensors(self, content):
        self.put("model.safetensors", content)
        self.put("config.json", self.settings)
        with contextlib.suppress(BadInput):
            read = checkpoint.read(self.case)
            for tensor in (read.block(0), read.embedding(), list(read.head()), read.final_norm()):
                assert tensor is not None

    def codes(self, content):
        folder = layouts.mlx(self.case, *layouts.drawn())
        (folder / "config.json" if content[:1] == b"{" else folder / "model.safetensors").write_bytes(content)
        call("evaluate", "--model", folder, "--context", "8", "--netcdf", self.case / "out.nc")
        with contextlib.suppress(BadInput):
            read = checkpoint.read(folder)
            assert read.block(0)
            assert list(read.head())

    def pieces(self, content):
        self.put("tokenizer.model", content)
        with contextlib.suppress(BadInput):
            assert spm.parsed(content, "mine").pieces

    def index(self, content):
        self.put("model.safetensors.index.json", content)
        self.put("one.safetensors", self.weights)
        self.put("config.json", self.settings)
        with contextlib.suppress(BadInput):
            checkpoint.read(self.case)

    def evaluated(self, option, content):
        more = () if option == "--model" else ("--model", "opt-125m")
        call(
            "evaluate", option, self.put("mine.toml", content), *more, "--context", 8, "--netcdf", self.case / "out.nc"
        )

    def lasting(self, content):
        call("lifetime", "--model", "opt-125m", "--technology", self.put("mine.toml", content), "--context", 8)

    def checked(self, content):
        call("sweep", self.put("mine.yaml", content), "--check")

    def swept(self, content):
        call("sweep", self.put("mine.yaml", content), "--into", self.case / "out")

    def given(self, content):
        with contextlib.suppress(BadInput):
            parameters.check("05-energy", parameters.from_file(self.put("given.yaml", content)))

    def notebook(self, content):
        path = str(self.put("mine.ipynb", content))
        with contextlib.suppress(BadInput):
            parameters.check(path, dict.fromkeys(parameters.of(path).keys() - {"into"}, "3"))

    def resumed(self, name, content):
        shutil.copytree(self.home / "swept", self.case)
        self.put(name, content)
        call("sweep", self.study, "--into", self.case)

    def listed(self, content):
        self.put("manifest.json", content)
        self.put(f"{RESULT}.nc", self.results)
        for command in ("verify --no-recompute", f"show {RESULT}", f"cite {RESULT}"):
            call(*command.split(), "--archive", self.case)

    def attests(self, content):
        manifest.publish(self.case, {f"{RESULT}.nc": self.results})
        self.put("attested.json", content)
        call("verify", "--no-recompute", "--archive", self.case)
        call("cite", RESULT, "--archive", self.case)


def signed(good, choose):
    """Return a manifest with changes and, where it is JSON still, the digest that fits them."""
    made = text(good, choose)
    try:
        return _with_digest({key: value for key, value in json.loads(made).items() if key != "digest"})
    except (ValueError, AttributeError, RecursionError):
        return made


def _with_digest(body):
    def said(content):
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    return said(body | {"digest": manifest.files.hash_of(said(body))})


def kinds(home):
    """Return the kinds of files: name -> (what changes a good one, a good one, what reads it)."""
    read, coded = Commands(home), layouts.mlx(home / "coded", *layouts.drawn())
    hashes = {"a" * 64: {"b" * 16: "0.7.0"}, manifest.entry(read.results)["sha256"]: {"c" * 16: "0.7.0"}}
    shards = {"weight_map": dict.fromkeys(headers.header(BITNET / "model.safetensors"), "one.safetensors")}
    return {
        "result": (netcdf, read.results, read.result),
        "result bytes": (flipped, read.results, read.result),
        "zip bytes": (flipped, read.zip, read.packed),
        "chunk": (netcdf, read.chunk, partial(read.resumed, "chunks/000000.nc")),
        "chunk bytes": (flipped, read.chunk, partial(read.resumed, "chunks/000000.nc")),
        "study.json": (text, read.claim, partial(read.resumed, "study.json")),
        "config.json": (text, read.settings, read.config),
        "safetensors": (weights, read.weights, read.tensors),
        "gguf": (gguf_model, gguf_files.file(*packed_model()), read.gguf),
        "codes": (weights, (coded / "model.safetensors").read_bytes(), read.codes),
        "configuration of codes": (text, (coded / "config.json").read_bytes(), read.codes),
        "pieces": (flipped, test_spm.model(), read.pieces),
        "index": (text, json.dumps(shards, indent=1).encode(), read.index),
        "model": (text, MODEL.encode(), partial(read.evaluated, "--model")),
        "array": (text, ARRAY.encode(), partial(read.evaluated, "--array")),
        "system": (text, SYSTEM.encode(), partial(read.evaluated, "--system")),
        "conventions": (text, CONVENTIONS.encode(), partial(read.evaluated, "--conventions")),
        "technology": (text, part_of("rram"), read.lasting),
        **{kind: (text, part_of(name), lambda content, kind=kind: read.noise(f"--{kind}", read.put("mine.toml", content)))
           for kind, name in (("crossbar", "crossbar-256"), ("devices", "cells-wan-1d"), ("readout", "readout-4-sigma"))},
        "study": (text, STUDY.encode(), read.checked),
        "swept": (text, STUDY.encode(), read.swept),
        "sample": (text, SAMPLE.encode(), read.swept),
        "curves": (text, CURVES.encode(), read.checked),
        "runs": (text, RUNS.encode(), read.checked),
        "parameters": (text, GIVEN.encode(), read.given),
        "notebook": (text, paths.notebook(RESULT).read_bytes(), read.notebook),
        "manifest": (signed, read.listing, read.listed),
        "attested": (text, json.dumps(hashes, indent=1).encode(), read.attests),
    }  # fmt: skip


def part_of(name):
    """Return a part of the catalog as a file of its own."""
    lines = (paths.PACKAGE / "catalog" / "parts.toml").read_text().split(f"\n[{name}]\n")[1].split("\n[")[0]
    return f'name = "mine"\n{lines}\n'.encode()


def run(seed, seconds, wanted, home):
    """Give files to commands for so many seconds, at first the good ones. Return what was found: place -> text."""
    found, made = {}, kinds(home)
    asked, longest, number = {name: made[name] for name in wanted or made}, dict.fromkeys(made, 0.0), -1
    end = time.monotonic() + seconds
    while number < 1 or time.monotonic() < end:
        for kind, (change, good, read) in asked.items():
            if number > 0 and time.monotonic() > end:
                break
            content = good if number < 0 else change(good, random.Random(f"{seed} {kind} {number}"))
            shutil.rmtree(home / "case", ignore_errors=True)
            signal.setitimer(signal.ITIMER_PROF, PATIENCE_S)  # of a processor: other programs may keep it busy
            faulthandler.dump_traceback_later(6 * PATIENCE_S, exit=True)  # of waiting
            started = time.process_time()
            try:
                read(content)
            except BaseException as error:
                note(found, f"{kind}: {type(error).__name__} in {place(error)}", (kind, seed, number), content)
            finally:
                faulthandler.cancel_dump_traceback_later()
                signal.setitimer(signal.ITIMER_PROF, 0)
            longest[kind] = max(longest[kind], time.process_time() - started)
        number += 1
        allowed.update((1, 2))
    sys.stdout.write(f"{number} of each; longest: {', '.join(f'{k} {longest[k]:.1f} s' for k in asked)}\n")
    return found


def place(error):
    """Return where an error came from: the last line of this library, or of a call here, on the way to it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if paths.PACKAGE in Path(f.filename).parents or f.name in ("run", "call")]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def note(found, what, case, content):
    """Keep what was found, once for each place."""
    if what in found:
        return
    kind, seed, number = case
    found[what] = f"{what}, seed {seed}, number {number}\n{traceback.format_exc()}"
    if folder := os.environ.get("PIMLLM_FUZZ_KEEP"):
        Path(folder, f"{kind.replace(' ', '-')}-{seed}-{number}").write_bytes(content)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)  # says where, and ends
    with tempfile.TemporaryDirectory(prefix="pimllm-fuzz.") as scratch:
        os.chdir(paths.ROOT)
        found = run(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:], Path(scratch))
    sys.stdout.write("\n".join(found.values()))
    sys.exit(bool(found))
