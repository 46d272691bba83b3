"""A Hugging Face configuration as its class reads it: other names of a key, the class's own defaults, checked types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from pimllm_lib.core.errors import BadInput, clip

#: Most blocks that are read: a file that asks for more is no model.
MOST_BLOCKS = 1_000
_RENAMED = {
    "mamba": "linear_attention", "attention": "full_attention", "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}  # fmt: skip


@cache
def known() -> dict[str, dict[str, Any]]:
    """Return, of each family, the defaults of its configuration class and its other names of keys, as `transformers`
    has them; of a composite one, the family of its text, and what it sets there.
    """
    text = files("pimllm_lib.catalog").joinpath("transformers.json").read_text(encoding="utf-8")
    families: dict[str, dict[str, Any]] = json.loads(text)["families"]
    return families


@dataclass(frozen=True)
class Config:
    """A configuration: where it is from, which class reads it, and what stands in it."""

    path: str
    family: str
    given: Mapping[str, Any]
    seen: set[str] = field(default_factory=set, compare=False)

    def raw(self, key: str, default: Any = None) -> Any:
        """Return what stands there under any of the key's names; else the class's default, else the one given here."""
        same = self._names(key)
        self.seen.update(same)
        found = next((self.given[name] for name in same if name in self.given), self)
        return self.default(key, default) if found is self else found

    def default(self, key: str, default: Any = None) -> Any:
        """Return the class's default, or the one given here where the class has no such key."""
        table = known().get(self.family, {}).get("defaults", {})
        return next((table[name] for name in self._names(key) if name in table), default)

    def _names(self, key: str) -> tuple[str, ...]:
        """Return the names of a key, those that no field of the class has first: they are set last there."""
        table = known().get(self.family, {})
        names = table.get("names", {})
        real = names.get(key, key)
        same = (real, *(other for other, target in names.items() if target == real))
        return tuple(sorted(same, key=lambda name: name in table.get("defaults", {})))

    def knows(self, key: str) -> bool:
        """Return whether the family's class has the key."""
        table = known().get(self.family, {}).get("defaults", {})
        return any(name in table for name in self._names(key))

    def n(self, key: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number; the default where there is none. Raises BadInput for anything else."""
        value = default if (found := self.raw(key)) is None else found
        if value is None:
            raise BadInput(f"{self.path} has no {key}; wanted a whole number of at least {least}")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**53:
            raise self.wrong(key, f"a whole number of at least {least}, below 2^53")
        return value

    def on(self, key: str, default: bool = False) -> bool:
        """Return whether a flag is set; the default where it does not stand there."""
        value = default if (found := self.raw(key)) is None else found
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def number(self, key: str, default: float) -> float:
        """Return a number above 0."""
        value = default if (found := self.raw(key)) is None else found
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**53:
            raise self.wrong(key, "a number above 0")
        return value

    def list(self, key: str, count: int | None = None) -> list[Any] | None:
        """Return a list, of so many items where that is known; None where there is none."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > MOST_BLOCKS or (count is not None and len(value) != count):
            raise self.wrong(key, "a list" if count is None else f"a list of {count}, one for each block")
        return value

    def kinds(self, key: str, count: int, allowed: tuple[str, ...]) -> list[str] | None:
        """Return the kinds of all blocks, under the names of today; None where they are not listed."""
        if (found := self.list(key, count)) is None:
            return None
        names = [_RENAMED.get(name, name) if isinstance(name, str) else "" for name in found]
        if strange := [given for given, name in zip(found, names, strict=True) if name not in allowed]:
            wanted = " or ".join(allowed)
            raise BadInput(f"{self.path}: {key} of {self.family} has {clip(strange[0])}; wanted {wanted}")
        return names

    def inner(self, key: str) -> Config:
        """Return the configuration that stands there, such as that of attention alone."""
        found = self.raw(key)
        if found is not None and not isinstance(found, dict):
            raise self.wrong(key, "a JSON object")
        return replace(self, family=f"{self.family}.{key}", given=found or {})

    def block(self, index: int) -> Config:
        """Return the configuration of one block, with what `per_layer_config` says otherwise of it."""
        table = self.raw("per_layer_config")
        if not table:
            return self
        if not isinstance(table, dict) or not all(isinstance(one, dict) for one in table.values()):
            raise self.wrong("per_layer_config", "a JSON object of a block's number and its keys")
        own = [one for name, one in table.items() if str(name).isdecimal() and int(name) == index]
        return replace(self, given={**self.given, **own[0]}) if own else self

    def wrong(self, key: str, wanted: str) -> BadInput:
        """Return the error for what stands there."""
        return BadInput(f"{self.path}: {key} is {clip(self.raw(key))}; wanted {wanted}")
