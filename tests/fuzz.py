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
import sys
import tempfile
import time
import traceback
from pathlib import Path

import h5py
import numpy as np

from pimllm_lib.analog.lm import checkpoint
from pimllm_lib.archive import manifest, parameters
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.core.errors import BadInput

MEMORY, PATIENCE_S = 2 << 30, 10
RESULT = "01-operation-share"
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
DEVICES = """part = "Devices"
name = "mine"
variation = { value = 0.1, unit = "1", source = "us", status = "assumed" }
stuck_off = { value = 0.01, unit = "1", source = "us", status = "assumed", range = [0, 0.1] }
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
    "[" * 600 + "]" * 600, '{"a": 1}', "{a: 1}", "{a = 1}", "'" + "x" * 5000 + "'", "2026-01-01", "12:30:45", "!!binary aGk=",
    "!!set {a, b}", "!!python/none", "&a", "*a", "<<", "? ", "- ", "#", "---", "...", "\t", "\n", ":", "=", ",", "\"", "%",
    "\x00", "\ufeff", "\u2028", "\u0661", "grid", "list", "latin", "sobol", "log", "all", "top", "opt-6.7b", "pim-llm", "exact",
]  # fmt: skip
_SPLIT = re.compile(r"[\w.+-]+|\"[^\"\n]*\"|\s+|.", re.DOTALL)


def text(good):
    """Return what changes a text: tokens replaced, dropped, doubled, taken from elsewhere in it; lines too; or bytes."""

    def changed(choose):
        parts = _SPLIT.findall(good)
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
                return flipped("".join(parts).encode(errors="surrogatepass"), choose)
        return "".join(parts).encode(errors="surrogatepass")

    return changed


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


def weights(good):
    """Return what changes a safetensors file: its header as text, mostly, and its bytes."""
    length = int.from_bytes(good[:8], "little")

    def changed(choose):
        if choose.random() < 0.3:
            return flipped(good, choose, within=choose.choice((16, 8 + length, len(good))))
        header = text(good[8 : 8 + length].decode())(choose)
        said = len(header) if choose.random() < 0.9 else choose.choice((0, 1, 2**40, 2**64 - 1))
        return said.to_bytes(8, "little") + header + good[8 + length :]

    return changed


def netcdf(good):
    """Return what changes a netCDF-4 file: names, attributes, types and shapes of what is in it."""

    def changed(choose):
        out = io.BytesIO(good)
        with h5py.File(out, "r+") as file:
            for _ in range(choose.choice((1, 1, 2, 3))):
                names = list(file) or [""]
                name = choose.choice(names)
                _METHODS[choose.randrange(len(_METHODS))](file, name, choose)
        return out.getvalue()

    return changed


def _attribute(file, name, choose):
    item = file if choose.random() < 0.5 or not name else file[name]
    values = ["", "x", "\x1b[31m", "a\nb", "{}", "[]", "[" * 5000, '{"parameters": []}', "nan", "1e400", 0, -1, 1.5, 2**62,
              np.nan, np.inf, np.zeros(0), np.arange(3), [["a", "b"]], b"\xff\xfe", h5py.Empty("f"), np.bool_(True)]  # fmt: skip
    key = choose.choice([*item.attrs, "units", "long_name", "provenance", "tolerance", "schema_version", "title", "_FillValue",
                         "scale_factor", "coordinates", "calendar", "dtype", "missing_value", "_Unsigned"])  # fmt: skip
    value = choose.choice(values)
    if key == "provenance" and choose.random() < 0.7 and isinstance(item.attrs.get(key), str):
        value = text(item.attrs[key])(choose).decode(errors="replace").replace("\0", "")
    if key in ("units", "calendar") and choose.random() < 0.5:
        value = choose.choice(["days since 2000-01-01", "seconds since x", "days", "noleap"])
    if key not in ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates"):
        item.attrs[key] = value


def _content(file, name, choose):
    old, key = file.get(name), choose.choice([name, "latency_s", "x", "context_len", "model"])
    if not key or key in file and key != name:
        return
    if old is not None and key == name:
        del file[name]
    data = choose.choice([
        np.zeros(0), np.float64(1), np.arange(7), np.full(3, np.nan), np.array(["a", "b"], dtype=object), np.zeros((2, 2, 2)),
        np.array([b"\xff"]), np.zeros(2, dtype=[("a", "f4"), ("b", "i1")]), np.array([2**63], dtype="u8"), np.array([True]),
        np.array([1 + 2j]), np.zeros(3, dtype="f2"), np.array([""], dtype=object),
    ])  # fmt: skip
    file[key] = data


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


def call(*words):
    """Run a command. Raises what it raises, and AssertionError where it does not end as a command is to end."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in words])
    said = err.getvalue()
    assert status in (0, 1, 2), f"status {status}"
    assert status != 2 or (said.count("\n") == 1 and said.startswith("pimllm: ")), f"not one line: {said[:300]!r}"
    assert all(line.startswith("pimllm: ") for line in said.splitlines()), f"stderr: {said[:300]!r}"
    assert said.isprintable() or all(c.isprintable() or c == "\n" for c in said), f"control characters: {said[:300]!r}"


def kinds(home):
    """Return the kinds of files: name -> (what changes a good one, what reads the changed one)."""
    results = (paths.RESULTS / f"{RESULT}.nc").read_bytes()
    bitnet = paths.CHECKPOINTS / "docstrings-0"
    weight = (bitnet / "model.safetensors").read_bytes()
    (home / "good").mkdir()
    (home / "good" / f"{RESULT}.nc").write_bytes(results)
    (home / "text.txt").write_text("some text " * 60)
    (home / "study.yaml").write_text(STUDY)
    call("sweep", home / "study.yaml", "--into", home / "chunks")
    chunk = (home / "chunks" / "chunks" / "000000.nc").read_bytes()
    small = ("--model", "opt-125m", "--context", "8")

    def put(name, content, folder="case"):
        path = home / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def result(content):
        path = put(f"{RESULT}.nc", content)
        call("show", RESULT, "--archive", path.parent)
        call("diff", home / "good", path)
        call("diff", path, home / "good")
        call("cite", f"{RESULT}::latency_s", "--archive", path.parent)
        manifest.publish(path.parent, {path.name: content})
        call("verify", "--no-recompute", "--archive", path.parent)

    def config(content):
        path = put("config.json", content)
        call("evaluate", "--model", path, "--context", "8", "--netcdf", path.with_name("out.nc"))
        put("model.safetensors", weight)
        with contextlib.suppress(BadInput):
            checkpoint.read(path.parent).block(0)

    def tensors(content):
        path = put("model.safetensors", content)
        put("config.json", (bitnet / "config.json").read_bytes())
        with contextlib.suppress(BadInput):
            read = checkpoint.read(path.parent)
            read.block(0), read.embedding(), read.head(), read.final_norm()

    def toml(option, *more):
        def ask(content):
            path = put("mine.toml", content)
            call("evaluate", option, path, *more, "--netcdf", path.with_name("out.nc"))

        return ask

    def devices(content):
        noise = ("noise", "--checkpoint", bitnet, "--text", home / "text.txt", "--tokens", 16, "--window", 8, "--seeds", 1)
        call(*noise, "--devices", put("mine.toml", content))

    def study(content):
        call("sweep", put("mine.yaml", content), "--check")

    def swept(content):
        call("sweep", put("mine.yaml", content), "--into", home / "case" / "out")

    def given(content):
        with contextlib.suppress(BadInput):
            parameters.check("05-energy", parameters.from_file(put("given.yaml", content)))

    def resumed(content):
        shutil.copytree(home / "chunks", home / "case" / "chunks")
        put("000000.nc", content, "case/chunks/chunks")
        call("sweep", home / "study.yaml", "--into", home / "case" / "chunks")

    def claimed(content):
        shutil.copytree(home / "chunks", home / "case" / "chunks")
        put("study.json", content, "case/chunks")
        call("sweep", home / "study.yaml", "--into", home / "case" / "chunks")

    def listed(content):
        path = put("manifest.json", content)
        put(f"{RESULT}.nc", results)
        for command in ("verify --no-recompute", f"show {RESULT}", f"cite {RESULT}"):
            call(*command.split(), "--archive", path.parent)

    def attests(content):
        put(f"{RESULT}.nc", results)
        manifest.publish(home / "case", {f"{RESULT}.nc": results})
        path = put("attested.json", content)
        call("verify", "--no-recompute", "--archive", path.parent)
        call("cite", RESULT, "--archive", path.parent)

    hashes = {"a" * 64: {"b" * 16: "0.7.0"}, manifest.entry(results)["sha256"]: {"c" * 16: "0.7.0"}}
    (home / "good" / "manifest.json").write_bytes(manifest.compose({f"{RESULT}.nc": manifest.entry(results)}))
    signed = text((home / "good" / "manifest.json").read_text())

    def resigned(choose):
        try:
            body = {key: value for key, value in json.loads(signed(choose)).items() if key != "digest"}
            return manifest._text(body | {"digest": manifest.files.hash_of(manifest._text(body))})
        except (ValueError, AttributeError, RecursionError):
            return signed(choose)

    return {
        "result": (netcdf(results), result),
        "result bytes": (lambda choose: flipped(results, choose), result),
        "chunk": (netcdf(chunk), resumed),
        "chunk bytes": (lambda choose: flipped(chunk, choose), resumed),
        "study.json": (text((home / "chunks" / "study.json").read_text()), claimed),
        "config.json": (text((bitnet / "config.json").read_text()), config),
        "safetensors": (weights(weight), tensors),
        "model": (text(MODEL), toml("--model", "--context", "8")),
        "array": (text(ARRAY), toml("--array", *small)),
        "system": (text(SYSTEM), toml("--system", *small)),
        "conventions": (text(CONVENTIONS), toml("--conventions", *small)),
        "devices": (text(DEVICES), devices),
        "study": (text(STUDY), study),
        "swept": (text(STUDY), swept),
        "sample": (text(SAMPLE), swept),
        "curves": (text(CURVES), study),
        "runs": (text(RUNS), study),
        "parameters": (text(GIVEN), given),
        "manifest": (resigned, listed),
        "attested": (text(json.dumps(hashes, indent=1)), attests),
    }  # fmt: skip


def refused_memory(error):
    """Return whether more memory was asked for than there is, also where an error says something else of it."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__context__
    return error is not None


def run(seed, seconds, wanted, home):
    """Give files to commands for so many seconds and return what was found: place -> text."""
    found, counts, made = {}, {}, kinds(home)
    asked = {name: made[name] for name in wanted or made}
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for kind, (change, read) in asked.items():
            content = change(random.Random(f"{seed} {kind} {number}"))
            shutil.rmtree(home / "case", ignore_errors=True)
            (home / "last").write_text(f"{kind} {number}")
            faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
            started = time.monotonic()
            try:
                read(content)
            except BaseException as error:
                frames = traceback.extract_tb(error.__traceback__)
                last = [frame for frame in frames if paths.PACKAGE in Path(frame.filename).parents or frame.name == "call"][-1]
                place = f"{kind}: {type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
                if place not in found:
                    found[place] = f"{place}, seed {seed}, number {number}\n{traceback.format_exc()}"
                    keep(kind, number, content)
            finally:
                faulthandler.cancel_dump_traceback_later()
            took = time.monotonic() - started
            counts[kind] = (counts.get(kind, (0, 0))[0] + 1, max(took, counts.get(kind, (0, 0))[1]))
        number += 1
    print(", ".join(f"{kind} {n} (longest {took:.1f} s)" for kind, (n, took) in counts.items()))
    return found


def keep(kind, number, content):
    if folder := os.environ.get("PIMLLM_FUZZ_KEEP"):
        Path(folder, f"{kind.replace(' ', '-')}-{number}").write_bytes(content)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="pimllm-fuzz.") as scratch:
        os.chdir(paths.ROOT)
        found = run(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:], Path(scratch))
    print("\n".join(found.values()))
    sys.exit(bool(found))
