"""Attention in cells as version 0.7.0 had it, which that of `analog.noise.attention` is timed and compared against.

What programs cells and multiplies is the library's of today.
"""

from dataclasses import replace

import numpy as np

from pimllm_lib.analog.crossbar.cells import program
from pimllm_lib.analog.crossbar.product import multiply
from pimllm_lib.analog.crossbar.readout import ACT_BITS
from pimllm_lib.analog.lm.layers import causal, quantised


def in_cells(crossbar, devices, readout, *, seed=0):
    """Return attention with keys and values of crossbar.weight_bits in such cells, drawn from a device seed."""
    bits, softmax_bits = int(crossbar.weight_bits), int(readout.softmax_bits)
    ternary, most = replace(crossbar, weight_bits=2), (1 << softmax_bits) - 1

    def read(x, whole, place, window, act_bits):
        out = np.zeros((len(x), whole.shape[1]), dtype=np.float32)
        for order, part in enumerate(slices(whole, bits)):
            on = program(
                part, crossbar=ternary, devices=devices, readout=readout, seed=seed,
                layer=f"{place}.{order}{window}", place=f"{place}.{order}",
            )  # fmt: skip
            out += np.float32(1 << order) * multiply(on, x, act_bits=act_bits)
        return out

    def seen(q, k, v, head, window):
        group, length, width = q.shape
        (keys, key_scale), (values, value_scale) = quantised(k, bits), quantised(v, bits)
        asked, scale = quantised(q.reshape(-1, width), ACT_BITS)
        scores = read(asked, keys.T, f"{head}.k", window, ACT_BITS) / (scale * key_scale.T)
        shares = causal(scores.reshape(group, length, length)).reshape(-1, length) / value_scale.T
        step = np.maximum(shares.max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / most
        found = read(np.rint(shares / step), values, f"{head}.v", window, softmax_bits + 1)
        return np.asarray((found * step).reshape(q.shape))

    def attend(layer, q, k, v, first):
        found = np.empty_like(q)
        for at in np.ndindex(k.shape[:2]):
            found[at] = seen(q[at], k[at], v[at], f"{layer}.{at[1]}", f".{first + at[0]}")
        return found

    return attend


def slices(whole, bits):
    """Yield the bits of whole numbers' magnitudes, the lowest first, with the number's sign: -1, 0 or 1, int8."""
    magnitude, sign = np.abs(whole).astype(np.int16), np.sign(whole).astype(np.int8)
    for place in range(bits - 1):
        yield ((magnitude >> place) & 1).astype(np.int8) * sign
