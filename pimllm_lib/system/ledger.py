"""The book of one evaluation: costs are added as they come and summed to the detail asked for, never finer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np

from pimllm_lib.core.axes import Frame
from pimllm_lib.core.errors import unknown
from pimllm_lib.core.schema import COMPONENTS, OPS, VARIABLES

#: How finely results are split -> the dimensions of that.
DETAILS = {"total": (), "op": ("op",), "part": ("component",), "component": ("op", "component")}
_OP = {op: i for i, op in enumerate(OPS)}
_COMPONENT = {component: i for i, component in enumerate(COMPONENTS)}
_KNOWN: dict[str, Collection[str]] = {"variable": VARIABLES, "op": OPS, "component": COMPONENTS}


def split_labels(detail: str) -> dict[str, list[str]]:
    """Return the labels of op and component that a detail asks for. Raises UnknownName for one that is none."""
    if detail not in DETAILS:
        raise unknown("detail", detail, DETAILS)
    return {dim: list(OPS if dim == "op" else COMPONENTS) for dim in DETAILS[detail]}


class Ledger:
    """Sums of extensive variables, kept as narrow as their terms: arrays of one shape are added at once,
    different shapes only when the sum is asked for, so that no term is held at full size.
    """

    def __init__(self, frame: Frame, detail: str, wanted: set[str]) -> None:
        """Open an empty book for the wanted variables."""
        self.frame, self.detail, self.split, self.wanted = frame, detail, DETAILS[detail], wanted
        self._sums: dict[str, dict[tuple[str, str], dict[Any, Any]]] = defaultdict(lambda: defaultdict(dict))

    def add(self, variable: str, op: str, component: str, value: Any) -> None:
        """Add to one variable, if it is wanted, what one op costs in one component.

        Raises UnknownName for a variable, op or component that `schema` does not have: it would be in no table.
        """
        if variable not in VARIABLES or op not in OPS or component not in COMPONENTS:
            given = {"variable": variable, "op": op, "component": component}
            raise next(unknown(what, name, _KNOWN[what]) for what, name in given.items() if name not in _KNOWN[what])
        if variable not in self.wanted:
            return
        self._put(variable, (op if "op" in self.split else "", component if "component" in self.split else ""), value)

    def take(self, variable: str, book: Ledger, times: Any) -> None:
        """Add what another book of this detail holds of a variable, so many times."""
        for cell, by_shape in book._sums[variable].items():
            self._put(variable, cell, book._sum(by_shape) * times)

    def _put(self, variable: str, cell: tuple[str, str], value: Any) -> None:
        by_shape, shape = self._sums[variable][cell], np.shape(value)
        by_shape[shape] = by_shape[shape] + value if shape in by_shape else value

    def whole(self, variable: str) -> Any:
        """Return one variable summed over everything."""
        return sum((self._sum(by_shape) for by_shape in self._sums[variable].values()), start=self.frame.zero)

    def table(self, variable: str) -> Any:
        """Return one variable along the frame's dimensions, with op and component as the detail asks."""
        cells = {cell: self._sum(by_shape) for cell, by_shape in self._sums[variable].items()}
        if not self.split:
            return cells.get(("", ""), 0.0) + self.frame.zero
        shape = list(np.broadcast_shapes(self.frame.zero.shape, *{np.shape(value) for value in cells.values()}))
        at, part_at = self.frame.position("op"), self.frame.position("component")
        shape[at], shape[part_at] = len(self.frame.labels["op"]), len(self.frame.labels["component"])
        table = np.zeros(shape)
        where: list[Any] = [slice(None)] * len(shape)
        for (op, component), value in cells.items():
            where[at] = slice(i := _OP[op] if op else 0, i + 1)
            where[part_at] = slice(j := _COMPONENT[component] if component else 0, j + 1)
            table[tuple(where)] = value
        return table

    def _sum(self, by_shape: dict[Any, Any]) -> Any:
        """Add arrays of different shapes: small ones into larger ones that hold their shape, the largest in place. What has
        one shape is returned as it is.
        """
        if len(by_shape) == 1:
            return next(iter(by_shape.values()))
        tops: list[Any] = [self.frame.zero]
        for value in sorted(by_shape.values(), key=np.size):
            inside = [top for top in tops if np.broadcast_shapes(np.shape(top), np.shape(value)) == np.shape(value)]
            tops = [top for top in tops if all(top is not other for other in inside)]
            total = value + inside.pop() if inside else value
            for top in inside:
                total += top  # `total` is ours: the first sum made it
            tops.append(total)
        return sum(tops[1:], start=tops[0])
