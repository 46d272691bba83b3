"""pimllm: what a hybrid of analog processing-in-memory and digital systolic arrays buys a 1-bit LLM.

    >>> import pimllm_lib as pl
    >>> ds = pl.evaluate(system="tpu-llm", model="opt-6.7b", context_len=[128, 4096], conventions="as-published")
    >>> pl.metrics.summary(ds).tokens_per_s.round(4).values.tolist()
    [[[0.4874, 0.4073]]]

Names are loaded when first used, so that `pimllm --help` does not wait for numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.8.0.dev0"

if TYPE_CHECKING:
    from pimllm_lib import catalog
    from pimllm_lib.core.axes import axis
    from pimllm_lib.system import metrics
    from pimllm_lib.system.evaluation import evaluate
    from pimllm_lib.system.generation import generate

__all__ = ["__version__", "axis", "catalog", "evaluate", "generate", "metrics"]

#: Public name -> where it is: a name of a module, or a module.
_HOME = {
    "axis": "pimllm_lib.core.axes", "evaluate": "pimllm_lib.system.evaluation", "generate": "pimllm_lib.system.generation",
}  # fmt: skip
_MODULES = {"catalog": "pimllm_lib.catalog", "metrics": "pimllm_lib.system.metrics"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
