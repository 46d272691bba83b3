"""What readers see: figures, tables, sentences, pages, the book."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

#: What notebooks written by `new-study` before 0.8.0 import from here -> where it is now. To be removed with 0.9.0.
_MOVED = {"archive": "pimllm_lib.archive.dataset", "claims": "pimllm_lib.analysis.claims"}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is {_MOVED[name]} since pimllm 0.8.0", DeprecationWarning, stacklevel=2)
    return import_module(_MOVED[name])
