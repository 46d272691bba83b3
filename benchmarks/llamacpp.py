"""llama.cpp on the cores of this machine: tokens per second of random weights in its few-valued formats.

`python -m benchmarks.llamacpp FILE` writes the table that data/peers/llamacpp.csv is; `make test MARK=llamacpp` installs
what it needs. The files of weights are made in a temporary folder, one at a time. A context is read once; then its decoding
is timed several times and the shortest counts, as everywhere here. Time is that of the processor, of one core, so that what
else runs on the machine counts little: it still takes its part of the memory's rate.
"""

import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pimllm_lib import catalog

#: Decoders of LLaMA's blocks, with sizes that all formats can hold: whole superblocks of 256 weights.
MODELS = ("trilm-390m", "llama-3.2-1b", "bitnet-2b4t")
#: Format -> bits of a stored weight, scales included. Embedding and head are Q8_0 throughout.
FORMATS, HEAD_BITS = {"TQ1_0": 1.6875, "TQ2_0": 2.0625, "Q8_0": 8.5}, 8.5
CONTEXTS, TOKENS, REPEATS = (128, 512, 1024), 16, 5
COLUMNS = "model,format,bits,head_bits,context,tokens_per_s,copy_gb_per_s"
POOL = 16  # rows that are drawn; the others repeat them, since a kernel's time does not depend on values


def tensors(decoder):
    """Yield the name of each matrix in a GGUF file, its outputs and its inputs."""
    d, ff, wide = decoder.d_model, decoder.d_ff, decoder.n_heads * decoder.head_dim
    kept = decoder.n_kv_heads * decoder.head_dim
    yield "token_embd", decoder.vocab_size, d
    if not decoder.tied_embeddings:
        yield "output", decoder.vocab_size, d
    for i in range(decoder.n_layers):
        for name, n, k in (("attn_q", wide, d), ("attn_k", kept, d), ("attn_v", kept, d), ("attn_output", d, wide),
                           ("ffn_gate", ff, d), ("ffn_up", ff, d), ("ffn_down", d, ff)):  # fmt: skip
            yield f"blk.{i}.{name}", n, k


def write(path, decoder, kind):
    """Write a GGUF file of a decoder's shape with random ternary weights in one format."""
    import gguf

    draw, asked = np.random.default_rng(0), gguf.GGMLQuantizationType[kind]
    file = gguf.GGUFWriter(path, "llama")
    file.add_block_count(decoder.n_layers)
    file.add_context_length(4096)
    file.add_embedding_length(decoder.d_model)
    file.add_feed_forward_length(decoder.d_ff)
    file.add_head_count(decoder.n_heads)
    file.add_head_count_kv(decoder.n_kv_heads)
    file.add_key_length(decoder.head_dim)
    file.add_value_length(decoder.head_dim)
    file.add_rope_dimension_count(decoder.head_dim)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_tokenizer_model("llama")
    file.add_token_list(["<unk>", "<s>", "</s>", *(f"t{i}" for i in range(decoder.vocab_size - 3))])
    file.add_token_scores([0.0] * decoder.vocab_size)
    file.add_token_types([2, 3, 3] + [1] * (decoder.vocab_size - 3))
    for name, n, k in tensors(decoder):
        form = asked if name.startswith("blk") else gguf.GGMLQuantizationType.Q8_0
        rows = gguf.quants.quantize(draw.choice(np.float32([-0.02, 0, 0.02]), (POOL, k)), form)
        file.add_tensor(f"{name}.weight", np.tile(rows, (-(-n // POOL), 1))[:n], raw_dtype=form)
    for name in ["output_norm", *(f"blk.{i}.{n}_norm" for i in range(decoder.n_layers) for n in ("attn", "ffn"))]:
        file.add_tensor(f"{name}.weight", np.ones(decoder.d_model, np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def decoded(path, contexts=CONTEXTS, tokens=TOKENS, repeats=REPEATS):
    """Return the tokens that llama.cpp decodes in a second of one core, at each context."""
    import xllamacpp

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it logs what it does
    asked = xllamacpp.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_parallel, asked.n_gpu_layers = str(path), 256 + max(contexts), 1, 0
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    server, rates = xllamacpp.Server(asked), {}
    for context in contexts:
        prompt = {"prompt": [5 + i % 100 for i in range(context)], "ignore_eos": True, "temperature": 0, "top_k": 1}
        spent = {n: _spent(server, {**prompt, "n_predict": n}, repeats) for n in (1, 1 + tokens)}
        rates[context] = tokens / (spent[1 + tokens] - spent[1])
    return rates


def _spent(server, prompt, repeats):
    """Return the processor time that an answer takes at least, after the first, which reads the context."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        server.handle_completions({**prompt, "cache_prompt": True})
        times.append(time.process_time() - start)
    return min(times[1:])


def copying(size=1 << 30, repeats=7):
    """Return the bytes that one core reads and writes in a second as it copies an array far larger than caches."""
    old, new, times = np.ones(size // 8), np.empty(size // 8), []
    for _ in range(repeats + 1):
        start = time.process_time()
        np.copyto(new, old)
        times.append(time.process_time() - start)
    return 2 * size / min(times[1:])


def machine():
    """Yield lines that describe the machine and what ran, without its name."""
    told = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else ():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    words = [told[key] for key in ("model name", "cache size") if key in told]
    can = [name for name in ("avx2", "avx512_vnni", "amx_int8") if name in told.get("flags", "").split()]
    yield f"# {platform.machine()}, one core of {os.cpu_count()}: {', '.join([*words, *can])}"
    yield f"# llama.cpp of xllamacpp {version('xllamacpp')}; files by gguf {version('gguf')}; numpy {version('numpy')}"


def report(models=MODELS, formats=tuple(FORMATS), **asked):
    """Yield the lines of the table."""
    yield from machine()
    yield COLUMNS
    copy = copying() / 1e9
    for decoder in map(catalog.model, models):
        for kind in formats:
            with TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                write(path := Path(folder) / "model.gguf", decoder, kind)
                rates = pool.submit(decoded, path, **asked).result()
            for context, rate in rates.items():
                yield f"{decoder.name},{kind},{FORMATS[kind]},{HEAD_BITS},{context},{rate:.4g},{copy:.4g}"


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w") as table:
        for line in report():
            print(line, file=table, flush=True)
