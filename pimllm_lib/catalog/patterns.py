"""Which kind each block of a model is: patterns of windows and mixers, blocks with experts, blocks that work again.

A rule of kinds takes a configuration, the number of a block and how many there are, and returns the kind; one of experts
returns whether the block has them. They are those of the public configuration classes of `transformers`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from pimllm_lib.catalog.configuration import MOST_BLOCKS, Config

FULL, SLIDING, LINEAR, CHUNKED = "full_attention", "sliding_attention", "linear_attention", "chunked_attention"
INDEXED, HYBRID = "indexed_attention", "hybrid"
Rule = Callable[[Config, int, int], str]


def windowed(c: Config, i: int, n: int) -> str:
    """The window of all blocks, where one is given."""
    return FULL if c.raw("sliding_window") is None else SLIDING


def qwen_window(c: Config, i: int, n: int) -> str:
    """Windows after the first blocks, where they are used."""
    if c.raw("sliding_window") is None or not c.on("use_sliding_window"):
        return FULL
    return SLIDING if i >= c.n("max_window_layers", least=0) else FULL


def asked_window(c: Config, i: int, n: int) -> str:
    """Windows in all blocks, where they are used."""
    return SLIDING if c.raw("sliding_window") is not None and c.on("use_sliding_window") else FULL


def alternating_window(c: Config, i: int, n: int) -> str:
    """Windows in every second of the first blocks, where they are used."""
    used = asked_window(c, i, n) == SLIDING and (i + 1) % 2 and i < c.n("max_window_layers", least=0)
    return SLIDING if used else FULL


def no_rope(c: Config, i: int, n: int) -> str:
    """Windows in the blocks without rotary positions, where they are used."""
    listed = c.items("no_rope_layers", n)
    rope = bool(listed[i]) if listed else bool((i + 1) % c.n("no_rope_layer_interval", 4))
    return FULL if rope else asked_window(c, i, n)


def prefixed(c: Config, i: int, n: int) -> str:
    """Windows with a pattern for the first blocks and one for the others."""
    first = c.n("first_k_dense_replace", 0, least=0)
    step = c.n("prefix_dense_sliding_window_pattern" if i < first else "sliding_window_pattern")
    return SLIDING if ((i if i < first else i - first) + 1) % step else FULL


def llama4_window(c: Config, i: int, n: int) -> str:
    """Chunks in the blocks with rotary positions."""
    listed = c.items("no_rope_layers", n)
    rope = bool(listed[i]) if listed else bool((i + 1) % c.n("no_rope_layer_interval", 4))
    return CHUNKED if rope and c.raw("attention_chunk_size") is not None else FULL


def kimi(c: Config, i: int, n: int) -> str:
    """Attention where a table lists it, or in one of four blocks."""
    inner = c.inner("linear_attn_config")
    full, linear = inner.items("full_attn_layers"), inner.items("kda_layers")
    if full is None or linear is None:
        return FULL if i and i % 4 == 0 else LINEAR
    if (i + 1 in full) == (i + 1 in linear):
        raise c.wrong("linear_attn_config", f"each of the {n} blocks in one of full_attn_layers and kda_layers")
    return FULL if i + 1 in full else LINEAR


def must_list(c: Config, i: int, n: int) -> str:
    """Raise BadInput: the class has no pattern of its own."""
    raise c.wrong("layer_types", f"a list of {n}, conv or full_attention")


def zamba(c: Config, i: int, n: int) -> str:
    """A shared block in the third, and in one of each so many after it."""
    if i < 3:
        return HYBRID if i == 2 else LINEAR
    return HYBRID if (i - 3) % c.n("attn_layer_period") == c.n("attn_layer_offset", least=0) else LINEAR


def zamba2(c: Config, i: int, n: int) -> str:
    """Shared blocks as the released model of 54 has them."""
    if n != 54:
        raise c.wrong("layers_block_type", f"a list of {n}, linear_attention or hybrid")
    return HYBRID if i in (6, 12, 18, 24, 30, 36, 42, 47, 51) else LINEAR


def sparse_step(c: Config, i: int, n: int) -> bool:
    """Experts in each so manieth block but for those that are listed."""
    return i not in (c.items("mlp_only_layers") or []) and (i + 1) % c.n("decoder_sparse_step", 1) == 0


def every_so_many(c: Config, i: int, n: int) -> bool:
    """Experts in each so manieth block after the first ones."""
    return i >= c.n("first_k_dense_replace", 1, least=0) and i % c.n("moe_layer_freq", 1) == 0


def llama4_experts(c: Config, i: int, n: int) -> bool:
    """Experts in the blocks that are listed, or in each so manieth."""
    listed = c.items("moe_layers")
    return (i + 1) % c.n("interleave_moe_layer_step") == 0 if listed is None else i in listed


def every(count: int | str, default: int | None = None, first: str = SLIDING, then: str = FULL) -> Rule:
    """Return the pattern in which each so manieth block is of another kind, the last of its group."""

    def kind(c: Config, i: int, n: int) -> str:
        step = c.n(count, default) if isinstance(count, str) else count
        return first if (i + 1) % step else then

    return kind


def at_start(count: int | str, default: int | None = None) -> Rule:
    """Return the pattern in which the first of each so many blocks attends to all."""
    return lambda c, i, n: SLIDING if i % (c.n(count, default) if isinstance(count, str) else count) else FULL


def after(key: str, default: int = 0) -> Any:
    """Return the rule of experts in all blocks but the first ones, whose number a key may say."""
    return lambda c, i, n: i >= (c.n(key, default, least=0) if key else default)


def late_window(c: Config, i: int, n: int) -> str:
    """Windows after the first blocks."""
    return FULL if c.raw("sliding_window") is None or i < c.n("max_window_layers", least=0) else SLIDING


def local(c: Config, i: int, n: int) -> str:
    """GPT-Neo's kinds, listed with how often each list stands."""
    given = c.items("attention_types") or [[["global", "local"], 12]]
    try:
        listed = (name for names, count in given for _ in range(min(count, MOST_BLOCKS)) for name in names)
        return {"global": FULL, "local": SLIDING}[next(islice(listed, i, None))]
    except (TypeError, ValueError, KeyError, StopIteration):
        raise c.wrong("attention_types", f"[[kinds, times], ...] of {n} blocks, kinds global or local") from None


def recurrent_gemma(c: Config, i: int, n: int) -> str:
    """A short list of kinds, again and again."""
    names, listed = {"recurrent": LINEAR, "attention": SLIDING}, c.items("block_types")
    if not listed or any(name not in ("recurrent", "attention") for name in listed):
        raise c.wrong("block_types", "a list of recurrent and attention")
    return names[listed[i % len(listed)]]


def nemotron(c: Config) -> list[str]:
    """Return the kinds of Nemotron-H's blocks, of which each mixes tokens or is an FFN, as letters or as names."""
    names = {"M": LINEAR, "E": "moe", "*": FULL, "-": "mlp"}
    pattern, listed = c.raw("hybrid_override_pattern"), c.items("layers_block_type")
    if listed is not None:
        return c.kinds("layers_block_type", len(listed), tuple(names.values())) or []
    if pattern is None:
        return [LINEAR, "moe", FULL, "mlp"]
    if not isinstance(pattern, str) or not 0 < len(pattern) <= MOST_BLOCKS or set(pattern) - set(names):
        raise c.wrong("hybrid_override_pattern", "letters M, E, * and -")
    return [names[one] for one in pattern]


def ernie(c: Config, i: int, n: int) -> bool:
    """Experts in each so manieth block between two of them."""
    last = n - 1 if c.raw("moe_layer_end_index") == -1 else c.n("moe_layer_end_index", n - 1, least=0)
    return (i + 1) % c.n("moe_layer_interval") == 0 and c.n("moe_layer_start_index", least=0) <= i <= last


def glm_index(c: Config, i: int, n: int) -> bool:
    """Return whether a block chooses tokens by itself: by a pattern of F and S, or one of each so many."""
    pattern = c.raw("index_topk_pattern")
    if pattern is None:
        step = max(c.n("index_topk_freq", 1, least=0), 1)
        return max(i - c.n("index_skip_topk_offset", 2, least=0) + 1, 0) % step == 0
    letters = ("F", "S", "full", "shared")
    if not isinstance(pattern, str | list) or len(pattern) != n or any(one not in letters for one in pattern):
        raise c.wrong("index_topk_pattern", f"F or S for each of {n} blocks")
    return bool(pattern[i][0].upper() == "F")


def jamba(c: Config, i: int, n: int) -> str:
    """Attention in one of each so many blocks."""
    return FULL if i % c.n("attn_layer_period") == c.n("attn_layer_offset", least=0) else LINEAR


def jamba_experts(c: Config, i: int, n: int) -> bool:
    """Experts in one of each so many blocks."""
    return c.n("num_experts") > 1 and i % c.n("expert_layer_period") == c.n("expert_layer_offset", least=0)


def flint_sparse(c: Config, i: int, n: int) -> bool:
    """Experts but in two first blocks, or in those that are listed."""
    return (i > 1 or c.raw("mlp_only_layers") is not None) and sparse_step(c, i, n)


def lfm2(c: Config, i: int, n: int) -> str:
    """Attention in the blocks that are listed."""
    listed = c.items("full_attn_idxs")
    return FULL if listed is None or i in listed else "conv"


def bamba(c: Config, i: int, n: int) -> str:
    """Attention in the blocks that are listed."""
    return FULL if i in (c.items("attn_layer_indices") or []) else LINEAR


def dots3(c: Config, i: int, n: int) -> str:
    """An index in two first blocks and one of four, windows in the others."""
    return INDEXED if i < 2 or i % 4 == 1 or not c.on("use_sliding_window", True) else SLIDING


def flint(c: Config, i: int, n: int) -> str:
    """All tokens in two first blocks, one of four and the last."""
    return FULL if i < 2 or i % 4 == 1 or i == n - 1 else SLIDING


def beam(c: Config, i: int, n: int) -> str:
    """All tokens in one of six blocks and the last."""
    return FULL if (i + 1) % 6 == 0 or i == n - 1 else SLIDING


gemma4 = beam


def mimo(c: Config, i: int, n: int) -> str:
    """All tokens in the first block and one of six."""
    return FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING


def lara(c: Config, i: int, n: int) -> str:
    """Five blocks in turn."""
    return (LINEAR, SLIDING, LINEAR, FULL, SLIDING)[i % 5]


def lfm3(c: Config, i: int, n: int) -> str:
    """A convolution in each second block, and windows and all tokens in turn."""
    return FULL if i % 4 == 2 else SLIDING if i % 4 == 0 and i else "conv"


def olmo_hybrid(c: Config, i: int, n: int) -> str:
    """Attention in one of four blocks, and in one at least."""
    return FULL if i % 4 == 3 or (n < 4 and i == n - 1) else LINEAR
