"""A study ready to run, whatever it is a study of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xarray as xr

from pimllm_lib.archive import dataset
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Chunk, Space

Work = Callable[[Chunk], xr.Dataset]


@dataclass(frozen=True)
class Plan:
    """A study ready to run: its name and text, its space, what evaluates a chunk, what reduces the whole.

    identity: what is studied, by content, also where the text names a file; sources: the hash of what evaluates a chunk;
    own: values of it that are not the catalog's, None where only the chunks know them; finish: what is done to the whole at
    the end, if anything; tolerance: by which a repeated run may differ, relative.
    """

    name: str
    spec: dict[str, Any]
    space: Space
    work: Work
    reduction: Reduction
    cells: int
    metrics: int
    identity: str
    sources: str
    own: dict[str, str] | None
    finish: Callable[[xr.Dataset], xr.Dataset] | None = None
    tolerance: float = dataset.TOLERANCE
