"""What follows attention in a block, as fields of a Decoder: one FFN, experts of which a router picks, shared experts."""

from __future__ import annotations

from typing import Any

from pimllm_lib.catalog.configuration import Config

Fields = dict[str, Any]


def feed_forward(c: Config, options: Fields, index: int, sparse: bool) -> Fields:
    """Return the fields of a block's FFN: its experts where the block has some."""
    width = options["ffn"]
    if width is None:
        return {"d_ff": 0}
    if sparse and "dense_too" not in options["experts"]:
        return _experts(c, options["experts"])
    dense = width(c, index) if callable(width) else c.n(width, options.get("times", 0) * c.n("hidden_size") or None)
    return _experts(c, options["experts"]) | {"shared_ff": dense} if sparse else {"d_ff": dense}


def _experts(c: Config, experts: Fields) -> Fields:
    """Return routed experts, those that are shared, and what the router has beside its matrix."""
    d = c.n("hidden_size")
    names = {"n": "num_experts", "k": "num_experts_per_tok", "width": "moe_intermediate_size"} | experts
    n, k, width = (one(c) if callable(one) else c.n(one) for one in (names["n"], names["k"], names["width"]))
    fields: Fields = {"n_experts": n, "experts_per_token": k, "d_ff": width}
    shared = experts.get("shared")
    fields["shared_ff"] = shared(c, width) if callable(shared) else c.n(shared, 0, least=0) if shared else 0
    beside = experts["beside"](c, n, width) if "beside" in experts else 0
    fields["extra_weights"] = beside + d * (n == 1) + d * bool(experts.get("gate"))
    return fields


def times(key: str, default: int | None = None) -> Any:
    """Return the rule of shared experts that are so many of the routed ones' width."""
    return lambda c, width: c.n(key, default or 0, least=0) * width
