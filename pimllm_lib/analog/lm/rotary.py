"""Rotary positions: how fast each pair of coordinates turns, and how configurations scale that for longer contexts.

Kinds and keys are those of the public `transformers` library (modeling_rope_utils), the arithmetic that of their papers:
linear; dynamic (NTK-aware); YaRN, Peng et al. 2023 (arXiv:2309.00071), equations 16 to 22; LongRoPE, Ding et al. 2024
(arXiv:2402.13753); and the one that Llama 3.1 was published with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from pimllm_lib.core.errors import BadInput, clip, unknown
from pimllm_lib.core.parts import require
from pimllm_lib.core.rules import is_number

#: Speeds in radians a token (head_dim / 2,), and what cosine and sine are multiplied by.
Scaled: TypeAlias = tuple[np.ndarray, float]
#: What a table may hold beside the numbers of its kind; the first says the base, the last was checked to be 1.
AROUND = ("rope_theta", "rope_type", "type", "partial_rotary_factor")


@dataclass(frozen=True)
class Rotary:
    """Positions of a model. theta: base of the speeds; kind: how they are scaled, "default" where they are not; numbers: of
    the kind, by the names that configurations use.
    """

    theta: float
    kind: str = "default"
    numbers: Mapping[str, Any] = field(default_factory=dict)


def rotation(rotary: Rotary, length: int, head_dim: int) -> np.ndarray:
    """Return cosine and sine of each position and pair of coordinates, float32 (2, length, head_dim / 2)."""
    if rotary.kind == "default":
        speeds, amplitude = rotary.theta ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim), 1.0
    else:
        speeds, amplitude = KINDS[rotary.kind][2](rotary, length, head_dim)
    angles = np.arange(length, dtype=np.float32)[:, None] * speeds.astype(np.float32)
    return (np.stack([np.cos(angles), np.sin(angles)]) * np.float32(amplitude)).astype(np.float32, copy=False)


def from_config(config: Mapping[str, Any], where: str, head_dim: int) -> Rotary:
    """Return the positions that a configuration describes, in either place that versions of the library put them.

    Raises BadInput for another kind, numbers that it lacks, does not know or cannot have, and two bases that differ.
    """
    table: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        given = config.get(key) or {}
        require(isinstance(given, dict), f"{where}: {key}", given, "a table")
        if table and given and table != given:
            raise BadInput(
                f"{where}: rope_parameters is {clip(given)} and rope_scaling {clip(table)}; wanted one of them"
            )
        table = given or table
    given = [of.get("rope_theta") for of in (config, table) if of.get("rope_theta") is not None] or [None]
    bases = [float(_positive(where, "rope_theta", base)) for base in dict.fromkeys(given)]
    require(len(bases) < 2, f"{where}: rope_theta", bases, "one value")
    theta = bases[0]
    kind = table.get("rope_type", table.get("type", "default"))
    if not isinstance(kind, str) or kind not in ("default", *KINDS):
        raise BadInput(f"{where}: {unknown('rope_type', kind, ('default', *KINDS))}")
    require(
        table.get("partial_rotary_factor", 1) == 1, f"{where}: partial_rotary_factor", table, "1: all coordinates turn"
    )
    rotary = Rotary(theta, kind, _numbers(config, table, kind, where, head_dim))
    try:
        sound = bool(np.isfinite(rotation(rotary, 2, head_dim)).all())
    except (ArithmeticError, ValueError):  # the logarithm of one, or of none
        sound = False
    require(sound, f"{where}: {kind} positions", dict(rotary.numbers), "numbers that give each pair a finite speed")
    return rotary


def _numbers(
    config: Mapping[str, Any], table: Mapping[str, Any], kind: str, where: str, head_dim: int
) -> dict[str, Any]:
    """Return the numbers of a kind, each checked, with what they are where a configuration leaves them out."""
    if kind == "default":
        return {}
    must, may, _ = KINDS[kind]
    longest, original = (config.get(f"{of}max_position_embeddings") for of in ("", "original_"))
    if original is None:
        original = table.get("original_max_position_embeddings", longest)
    known = {"original_max_position_embeddings": original, "max_position_embeddings": longest}
    if kind in ("yarn", "longrope") and table.get("factor") is None and longest and original:
        known["factor"] = longest / original
    found = {key: value for key, value in table.items() if key not in AROUND and value is not None}
    if odd := sorted(found.keys() - {*must, *may, *known}):
        raise BadInput(f"{where}: {kind} positions with {clip(odd[0])}; wanted {', '.join((*must, *may))} alone")
    found |= {key: value for key, value in known.items() if value is not None and (key in must or key in may)}
    for key in must:
        require(key in found, f"{where}: {key} of {kind} positions", None, "a positive number")
    for key, value in found.items():
        _require_fit(where, key, value, head_dim)
    return found


def _require_fit(where: str, key: str, value: Any, head_dim: int) -> None:
    if key == "truncate":
        require(isinstance(value, bool), f"{where}: truncate", value, "true or false")
    elif key in ("short_factor", "long_factor"):
        fits = isinstance(value, list) and len(value) == head_dim // 2
        require(fits, f"{where}: {key}", value, f"{head_dim // 2} numbers, one a pair")
        for number in value:
            _positive(where, key, number)
    else:
        _positive(where, key, value)


def _positive(where: str, key: str, value: Any) -> Any:
    require(is_number(value) and 0 < value < math.inf, f"{where}: {key}", value, "a positive number")
    return value


def _plain(theta: float, head_dim: int) -> np.ndarray:
    return np.asarray(theta ** (-np.arange(0, head_dim, 2) / head_dim))


def _linear(rotary: Rotary, _: int, head_dim: int) -> Scaled:
    return _plain(rotary.theta, head_dim) / rotary.numbers["factor"], 1.0


def _dynamic(rotary: Rotary, length: int, head_dim: int) -> Scaled:
    factor, longest = rotary.numbers["factor"], rotary.numbers["max_position_embeddings"]
    grown = factor * max(length, longest) / longest - (factor - 1)
    return _plain(rotary.theta * grown ** (head_dim / (head_dim - 2)), head_dim), 1.0


def _yarn(rotary: Rotary, _: int, head_dim: int) -> Scaled:
    of, original = rotary.numbers, rotary.numbers["original_max_position_embeddings"]

    def pair(turns: float) -> float:
        """Return the pair that turns so often within the original context."""
        return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rotary.theta))

    low, high = pair(of.get("beta_fast", 32)), pair(of.get("beta_slow", 1))
    if of.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp = np.clip((np.arange(head_dim // 2) - low) / (high - low or 0.001), 0, 1)
    speeds, factor = _plain(rotary.theta, head_dim), of["factor"]
    return speeds * (1 - ramp) + speeds / factor * ramp, of.get("attention_factor", _amplitude(of, factor))


def _amplitude(of: Mapping[str, Any], factor: float) -> float:
    """Return what YaRN multiplies cosine and sine by: the root of its temperature, or a ratio of two."""

    def scale(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1 if factor > 1 else 1.0

    one, other = of.get("mscale"), of.get("mscale_all_dim")
    return scale(one) / scale(other) if one and other else scale(1)


def _longrope(rotary: Rotary, length: int, head_dim: int) -> Scaled:
    of, original = rotary.numbers, rotary.numbers["original_max_position_embeddings"]
    by = np.array(of["long_factor" if length > original else "short_factor"], dtype=np.float64)
    grown = math.sqrt(1 + math.log(of["factor"]) / math.log(original)) if of["factor"] > 1 else 1.0
    return _plain(rotary.theta, head_dim) / by, of.get("attention_factor", grown)


def _llama3(rotary: Rotary, _: int, head_dim: int) -> Scaled:
    of, speeds = rotary.numbers, _plain(rotary.theta, head_dim)
    low, high = of["low_freq_factor"], of["high_freq_factor"]
    turns = of["original_max_position_embeddings"] * speeds / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return speeds * smooth + speeds / of["factor"] * (1 - smooth), 1.0


_ORIGINAL = "original_max_position_embeddings"
#: Kind -> numbers it needs, numbers it may have, and what it makes of positions, a length and a head's width.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Rotary, int, int], Scaled]]] = {
    "linear": (("factor",), (), _linear),
    "dynamic": (("factor", "max_position_embeddings"), (_ORIGINAL,), _dynamic),
    "yarn": (
        ("factor", _ORIGINAL),
        ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"), _yarn,
    ),
    "longrope": (("factor", _ORIGINAL, "short_factor", "long_factor"), ("attention_factor",), _longrope),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL), (), _llama3),
}  # fmt: skip
