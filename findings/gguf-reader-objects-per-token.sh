#!/usr/bin/env bash
# gguf: opening a file makes a few Python objects of every token of its vocabulary, 66 times the memory of the header.
#
# A `GGUFReader` maps the file into memory, so one would expect that opening it costs about what its header has, and that weights and
# tokens cost something when they are asked for. That holds for weights. Of each text in a list, as a vocabulary or its merges
# are, the reader makes two numpy arrays with a view each at once. A vocabulary of 151,936 tokens with as many merges is 6 MB of
# header; opening the file then takes 0.4 GB and 7 s of a processor, whatever is asked of it, the shape of one tensor for example.
#
# It matters to whoever reads shapes and types of many files, or on a small machine: what is needed lies behind the vocabulary, and can
# be had in 0.04 s by adding up the lengths of the texts.
#
# Seen with gguf 0.19.0, numpy 2.4.6 on Python 3.11. Fails when it changes.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install -qqq --disable-pip-version-check gguf==0.19.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
import resource
import struct
import time
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np

writer = gguf.GGUFWriter("words.gguf", "llama")
writer.add_token_list([f"token{i:06}" for i in range(151936)])
writer.add_token_merges([f"ab{i:06} cd" for i in range(151936)])
writer.add_tensor("one", np.zeros(32, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
del writer


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def passed_over(data):
    """Return the tensors of the file by adding up lengths."""
    at = 24
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        at += 8 + struct.unpack_from("<Q", data, at)[0]
        kind, at = struct.unpack_from("<I", data, at)[0], at + 4
        if kind == 9:
            _, count = struct.unpack_from("<IQ", data, at)
            at += 12
        else:
            count = 1
        for _ in range(count):
            at += 8 + struct.unpack_from("<Q", data, at)[0]
    length = struct.unpack_from("<Q", data, at)[0]
    return data[at + 8 : at + 8 + length].decode()


start = time.process_time()
assert passed_over(Path("words.gguf").read_bytes()) == "one"
by_lengths, size, before = time.process_time() - start, Path("words.gguf").stat().st_size, peak()
start = time.process_time()
reader = gguf.GGUFReader("words.gguf")
assert [tensor.name for tensor in reader.tensors] == ["one"]
took, more = time.process_time() - start, peak() - before
print(f"gguf {version('gguf')}, numpy {version('numpy')}: a file of {size / 1e6:.1f} MB")
print(f"opened: {took:.1f} s, {more / 1e6:.0f} MB more, {more / size:.0f} times the file; lengths added up: {by_lengths:.2f} s")
assert more > 20 * size, "opening takes less memory now"
assert took > 5 * by_lengths, "opening is faster now"
PYTHON
