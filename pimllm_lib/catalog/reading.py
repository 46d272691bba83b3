"""A decoder from a Hugging Face configuration: the entry of its family applied block by block."""

from __future__ import annotations

from collections import Counter
from dataclasses import MISSING, replace
from dataclasses import fields as dataclass_fields
from typing import Any

from pimllm_lib.catalog import mixing, unread
from pimllm_lib.catalog.configuration import MOST_BLOCKS, Config, known
from pimllm_lib.catalog.families import FAMILIES, FULL, Entry
from pimllm_lib.catalog.feedforward import feed_forward
from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.workload.decoder import Decoder
from pimllm_lib.workload.shapes import parameter_count

Fields = dict[str, Any]
_DEFAULTS: Fields = {f.name: f.default for f in dataclass_fields(Decoder) if f.default is not MISSING}
#: What a model without attention has for heads.
_ALONE: Fields = {"n_heads": 1, "n_kv_heads": 1, "head_dim": 1}
#: Norm of a family -> what it is for a Decoder, and how many of the parameters that this has it lacks.
_NORMS = {"rms": ("rmsnorm", 0), "layer": ("layernorm", 0), "gain": ("layernorm", 1), "bare": ("layernorm", 2),
          "bare rms": ("rmsnorm", 1)}  # fmt: skip
_LLAMA_BIAS = {"qkv": "attention_bias", "o": "attention_bias", "ffn": "mlp_bias"}


def entry(family: str) -> Entry:
    """Return the options of a family, with those that it takes over from another."""
    own = FAMILIES[family]
    return entry(own["like"]) | own if "like" in own else own


def shape(config: dict[str, Any], path: str) -> Fields:
    """Return the fields of the decoder that a configuration describes; of one with images or sound, those of its text.

    Raises BadInput, in one line, for a family that is not read, with the reason and what to do.
    """
    family = "bitnet" if _is_bitnet(config) else config.get("model_type")
    composite = known().get(family, {}) if isinstance(family, str) else {}
    if text := composite.get("text"):
        inner = config.get("text_config")
        if inner is not None and not isinstance(inner, dict):
            raise BadInput(f"{path}: text_config is {clip(inner)}; wanted a JSON object")
        config = (
            composite["set"]
            | ({"tie_word_embeddings": config["tie_word_embeddings"]} if "tie_word_embeddings" in config else {})
            | (config if inner is None else inner)
        )
        family = (inner or {}).get("model_type", text)
    unread.refuse(path, family, FAMILIES)
    c = Config(path, str(family), config)
    made = fields(c)
    unread.require_read(c, made)
    return made


def _is_bitnet(config: dict[str, Any]) -> bool:
    """Return whether it is BitNet, under whatever name: some checkpoints give the model type of the code they grew from."""
    named = config.get("architectures")
    named = [config.get("model_type"), *(named if isinstance(named, list) else [])]
    return any("bitnet" in str(one).lower() for one in named)


def fields(c: Config) -> Fields:
    """Return the fields of the decoder that a configuration of a known family describes.

    Raises BadInput, in one line that names the file and the key, for a value that no such model has and for keys that
    the family's class does not read and that would change the shape.
    """
    options = entry(c.family)
    for key, allowed in options.get("only", {}).items():
        if c.raw(key) not in allowed:
            raise c.wrong(key, " or ".join(map(str, allowed)))
    n = len(options["listed"](c)) if "listed" in options else c.n("num_hidden_layers")
    turns = options["turns"](c) if "turns" in options else range(n)
    if len(turns) > MOST_BLOCKS:
        raise c.wrong("num_hidden_layers", f"at most {MOST_BLOCKS} blocks")
    n = max(turns) + 1
    kinds, sparse = _kinds(c, options, n), _sparse(c, options, n)
    made = [_block(c, options, i, n, kinds[i], sparse[i]) for i in range(n)]
    again = Counter(one["shared_weights"] for one in made if "shared_weights" in one)
    twice = sum((count - min(count, distinct)) * weights for (weights, distinct), count in again.items())
    blocks = [_frozen(one) for one in made]
    shape = {"d_model": c.n("hidden_size"), "vocab_size": c.n("vocab_size"), "n_layers": len(turns)} | _whole(
        c, options
    )
    for i, count in Counter(turns).items() if "turns" in options else ():
        twice += (count - 1) * _weights(shape, dict(blocks[i]))
    if twice:
        shape["extra_once"] = shape.get("extra_once", 0) - twice
    return _ALONE | shape | _together([(dict(one), count) for one, count in Counter(blocks[i] for i in turns).items()])


def _weights(shape: Fields, block: Fields) -> int:
    """Return the parameters of one block."""
    one, two = (Decoder(name="", **_ALONE | shape | block | {"n_layers": count}) for count in (1, 2))
    return int(parameter_count(two) - parameter_count(one))


def _frozen(block: Fields) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, value) for name, value in block.items() if name != "shared_weights"))


def _together(blocks: list[tuple[Fields, int]]) -> Fields:
    """Return fields of blocks that are all alike, or those of the first with what differs listed by kind."""
    everywhere = {name: next(one[name] for one, _ in blocks if name in one) for one, _ in blocks for name in one}
    full = [
        (
            everywhere | {name: _DEFAULTS[name] for name in everywhere if name not in one and name in _DEFAULTS} | one,
            count,
        )
        for one, count in blocks
    ]
    different = [name for name in everywhere if any(one[name] != full[0][0][name] for one, _ in full)]
    if not different:
        return full[0][0]
    kinds = tuple({"count": count, **{name: one[name] for name in different}} for one, count in full)
    return full[0][0] | {"blocks": kinds}


def _kinds(c: Config, options: Entry, n: int) -> list[str]:
    """Return the kind of each block: as listed, or in the family's own pattern. Raises BadInput for a kind it has not."""
    if "listed" in options:
        return options["listed"](c)
    mixes = options.get("mix")
    allowed = options.get("kinds", tuple(mixes) if isinstance(mixes, dict) else (FULL,))
    own = options.get("types")
    listed = c.kinds("layer_types", n, allowed)
    listed = listed and [options.get("rename", {}).get(kind, kind) for kind in listed]
    if listed and c.knows("layer_types"):
        return [*listed[:-1], options["last_kind"]] if "last_kind" in options else listed
    return _same(c, "layer_types", listed, [own(c, i, n) if own else allowed[0] for i in range(n)])


def _sparse(c: Config, options: Entry, n: int) -> list[bool]:
    """Return which blocks have experts."""
    experts = options.get("experts")
    listed = c.kinds("mlp_layer_types", n, ("dense",) if experts is None else ("sparse", "dense"))
    if listed and c.knows("mlp_layer_types"):
        return [kind == "sparse" for kind in listed]
    rule = (lambda c, i, n: False) if experts is None else experts.get("sparse", lambda c, i, n: True)
    have = [bool(rule(c, i, n)) for i in range(n)]
    _same(c, "mlp_layer_types", listed, ["sparse" if one else "dense" for one in have])
    return have


def _same(c: Config, key: str, listed: list[str] | None, built: list[str]) -> list[str]:
    """Return the kinds that are built. Raises BadInput where a list says otherwise that the family's class does not read."""
    if listed and listed != built:
        raise c.wrong(key, f"what {c.family} builds: {clip(built)}")
    return built


def _block(c: Config, options: Entry, index: int, n: int, kind: str, sparse: bool) -> Fields:
    c = _of_block(c, options, index, n, kind)
    if "index_types" in options:
        listed = c.kinds("indexer_types", n, ("full", "shared"))
        options = options | {"indexes": listed[index] == "full" if listed else options["index_types"](c, index, n)}
    mix = options.get("mix", mixing.attention)
    mixed = (mix.get(kind, mixing.attention) if isinstance(mix, dict) else mix)(c, options, kind)
    if "ffn_in" in options:
        options, sparse = options | {"ffn": "intermediate_size" if kind in options["ffn_in"] else None}, kind == "moe"
    ffn = feed_forward(c, {"ffn": "intermediate_size"} | options, index, sparse)
    both = ffn | mixed | {"extra_weights": mixed.get("extra_weights", 0) + ffn.get("extra_weights", 0)}
    if mixing.shares(c, options.get("shares"), index):
        both["kv_shared"] = True
    norms = options.get("norms", 2)
    both["norms"] = (norms(c) if callable(norms) else norms) + options.get("expert_norms", 0) * sparse
    both["extra_weights"] -= _norm(c, options)[1] * both["norms"] * c.n("hidden_size")
    if "extra" in options:
        both["extra_weights"] += options["extra"](c, both)
    if "beside" in options:
        both["side"] = (*both.get("side", ()), *options["beside"](c, both))
    for place, there in (("first", index == 0), ("last", index == n - 1)):
        if place in options and there:
            both["extra_weights"] += options[place](c)
    return _biased(c, options, both)


def _of_block(c: Config, options: Entry, index: int, n: int, kind: str) -> Config:
    """Return the configuration as one block has it."""
    own = options["overlay"](c, index, kind) if "overlay" in options else {}
    if "heads" in options and (listed := c.list(options["heads"], n)):
        own = own | {"num_attention_heads": listed[index]}
    return replace(c, given={**c.given, **own}).block(index)


def _biased(c: Config, options: Entry, block: Fields) -> Fields:
    """Return the block with its biases: as one of the usual sets where they are, else among its other parameters."""
    spec, done = options.get("bias", _LLAMA_BIAS), block.pop("biased", False)
    d, gates = c.n("hidden_size"), 2 if options.get("gated", True) else 1
    places = {place: mixing.set_by(c, spec.get(place)) for place in ("qkv", "o", "ffn")}
    attends = block.get("mixer", "attention") in ("attention", "both") and not done
    usual = {(True, False): "qkv", (True, True): "attention", (False, False): "none"}.get((places["qkv"], places["o"]))
    experts, ff, shared = block.get("n_experts", 1), block["d_ff"], block.get("shared_ff", 0)
    if attends and all(places.values()) and experts == 1 and not shared:
        return block | {"linear_bias": "all"}
    if places["ffn"] and (dense := ff if experts == 1 else shared):  # experts that a router picks have none
        block["extra_weights"] += gates * dense + d
    if attends and usual and usual != "none":
        block["linear_bias"] = usual
    elif attends:
        width, value = block["head_dim"], block.get("value_dim") or block["head_dim"]
        q = places["qkv"] * (block["n_heads"] * width + block["n_kv_heads"] * (width + value))
        block["extra_weights"] += q + d * places["o"]
    return block


def _norm(c: Config, options: Entry) -> tuple[str, int]:
    name = options.get("norm", "rms")
    return _NORMS[name(c) if callable(name) else name]


def _whole(c: Config, options: Entry) -> Fields:
    """Return what a model has outside of its blocks."""
    (norm, lacks), final = _norm(c, options), options.get("final", True)
    final = final(c) if callable(final) else final
    shape: Fields = {"gated": options.get("gated", True), "norm": norm, "final_norm": final}
    shape |= {"tied_embeddings": c.on("tie_word_embeddings")} | options.get("fixed", {})
    if "positions" in options:
        key, more = options["positions"]
        shape["position_rows"] = c.n(key) + more
    shape |= options["whole"](c) if "whole" in options else {}
    if lacks and shape["final_norm"]:
        shape["extra_once"] = shape.get("extra_once", 0) - lacks * c.n("hidden_size")
    return shape
