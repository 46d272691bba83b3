"""llama.cpp on the cores of this machine: tokens per second of random weights in its few-valued formats.

`python -m benchmarks.llamacpp FILE` writes the table that data/peers/llamacpp.csv is; it needs the extra `llamacpp`. The
files of weights are made in a temporary folder, one at a time. A context is read once; then its decoding is timed several
times and the shortest counts, as everywhere here.
"""

import json
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pimllm_lib import catalog

#: Decoders of LLaMA's blocks, with sizes that all formats can hold: whole superblocks of 256 weights.
MODELS = ("trilm-390m", "llama-3.2-1b", "bitnet-2b4t")
#: Format -> bits of a stored weight, scales included. Embedding and head are Q8_0 throughout.
FORMATS = {"TQ1_0": 1.6875, "TQ2_0": 2.0625, "Q8_0": 8.5}
CONTEXTS, THREADS, TOKENS, REPEATS = (128, 512, 1024), (1, 2), 16, 5
COLUMNS = "model,format,bits,head_bits,threads,context,tokens_per_s,copy_gb_per_s"
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


def decoded(path, threads, contexts=CONTEXTS, tokens=TOKENS, repeats=REPEATS):
    """Return the tokens per second that llama.cpp decodes a file with at each context."""
    import xllamacpp

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it logs what it does
    asked = xllamacpp.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_parallel, asked.n_gpu_layers = str(path), 256 + max(contexts), 1, 0
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
    server, rates = xllamacpp.Server(asked), {}
    for context in contexts:
        prompt = {"prompt": [5 + i % 100 for i in range(context)], "n_predict": tokens + 1, "ignore_eos": True}
        best = 0.0
        for _ in range(repeats):
            answer = server.handle_completions({**prompt, "cache_prompt": True, "temperature": 0, "top_k": 1})
            told = (json.loads(answer) if isinstance(answer, str | bytes) else answer)["timings"]
            # the first token comes out of the prompt
            best = max(best, (told["predicted_n"] - 1) * 1e3 / told["predicted_ms"])
        rates[context] = best
    return rates


def copying(threads, size=1 << 30, repeats=7):
    """Return the bytes that a copy of arrays reads and writes in a second, with so many threads side by side."""
    parts = [(np.ones(size // 8 // threads), np.empty(size // 8 // threads)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), parts))
            times.append(time.perf_counter() - start)
    return 2 * size / min(times[1:])


def machine():
    """Yield lines that describe the machine and what ran, without its name."""
    told = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else ():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    words = [
        f"{told[key]} {key}" if key == "cpu cores" else told[key] for key in ("model name", "cpu cores") if key in told
    ]
    if "flags" in told:
        words.append(" ".join(name for name in ("avx2", "avx512_vnni", "amx_int8") if name in told["flags"].split()))
    yield f"# {platform.machine()}: {', '.join(words)}"
    yield f"# llama.cpp of xllamacpp {version('xllamacpp')}; files by gguf {version('gguf')}; numpy {version('numpy')}"


def report(models=MODELS, formats=tuple(FORMATS), threads=THREADS, **asked):
    """Yield the lines of the table."""
    yield from machine()
    yield COLUMNS
    copies = {n: copying(n) / 1e9 for n in threads}
    for name in models:
        for kind in formats:
            with TemporaryDirectory() as folder:
                write(path := Path(folder) / "model.gguf", catalog.models[name], kind)
                for n in threads:
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                        rates = pool.submit(decoded, path, n, **asked).result()
                    for context, rate in rates.items():
                        yield f"{name},{kind},{FORMATS[kind]},8.5,{n},{context},{rate:.4g},{copies[n]:.4g}"


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w") as table:
        for line in report():
            print(line, file=table, flush=True)
