"""YAML as a description of something: plain values, each key once."""

from __future__ import annotations

from typing import Any

import yaml

from pimllm_lib.core.errors import BadInput, clip
from pimllm_lib.core.plain import require_plain

#: Characters of a number: the time that a number takes grows with their square, and none needs more.
_LONGEST_NUMBER = 400


def read(text: str, where: object) -> Any:
    """Return what a YAML text says.

    Raises BadInput, naming the line, for a text that is no YAML, a key that stands twice, an alias, a tag of another kind,
    and whatever `require_plain` refuses.
    """
    try:
        content = yaml.load(text, _Loader)
    except _Refused as refused:
        raise BadInput(f"{where}, line {refused.line}, {refused}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}," if mark else ""
        raise BadInput(f"{where}{at} is not YAML: {getattr(error, 'problem', None) or type(error).__name__}") from None
    require_plain(content, where)
    return content


class _Refused(Exception):
    """YAML that is no description of ours, as its reader sees it."""

    def __init__(self, what: str, at: Any) -> None:
        super().__init__(what)
        self.line = at.start_mark.line + 1


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml comes without types
    """The safe loader, without what it lets pass in silence."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias: a few lines of them can unfold to gigabytes."""
        if self.check_event(yaml.AliasEvent):
            raise _Refused("has aliases; wanted plain values", self.peek_event())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a key that stands twice: the later one would win."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key
            if name in seen:
                raise _Refused(f"has the key {clip(key.value)} twice; wanted each once", key)
            seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Refuse a long number."""
        if len(node.value) > _LONGEST_NUMBER and node.tag.endswith((":int", ":float")):
            raise _Refused(f"has a number of {len(node.value)} characters; wanted a shorter one", node)
        return super().construct_scalar(node)
