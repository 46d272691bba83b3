"""Chunks in a row of which the best designs are kept together, so that neither files nor memory grow with a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import xarray as xr

from pimllm_lib.core.joining import CARRIED
from pimllm_lib.sweep.reduction import Reduction
from pimllm_lib.sweep.space import Chunk, Space

#: Chunks whose designs are merged at once.
_TOGETHER = 16


@dataclass(frozen=True)
class Stretch:
    """Some chunks of a space: its own number, the number of its first chunk, and of the one after its last."""

    index: int
    start: int
    stop: int


def cut(space: Space, reduction: Reduction) -> list[Stretch]:
    """Return a space in stretches, about twice the square root of its chunks where designs are merged, else one for each.

    They follow from the space alone: who is stopped loses the stretches under way, whatever the number of points.
    """
    size = max(isqrt(space.count) // 2, 1) if reduction.merges else 1
    starts = range(0, space.count, size)
    return [Stretch(i, start, min(start + size, space.count)) for i, start in enumerate(starts)]


@dataclass(frozen=True)
class Worker:
    """What evaluates a stretch: chunk by chunk, merged as they come. It can be sent to another process."""

    work: Callable[[Chunk], xr.Dataset]
    space: Space
    reduction: Reduction

    def __call__(self, stretch: Stretch) -> xr.Dataset:
        """Return what is kept of a stretch."""
        parts: list[xr.Dataset] = []
        for chunk in self.space.chunks(stretch.start, stretch.stop):
            parts.append(self._bare(self.work(chunk)))
            if len(parts) == _TOGETHER:
                parts = [self.reduction.of_all(parts)]
        return parts[0] if len(parts) == 1 else self.reduction.of_all(parts)

    def _bare(self, ds: xr.Dataset) -> xr.Dataset:
        """Return a chunk without what each says of its own values: of merged designs, the whole study says it."""
        if not self.reduction.merges:
            return ds
        return ds.drop_attrs(deep=False).assign_attrs({k: v for k, v in ds.attrs.items() if k not in CARRIED})
