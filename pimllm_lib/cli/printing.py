"""How commands print what they found."""

from __future__ import annotations

import json
from typing import Any

from pimllm_lib.core.errors import one_line


def rows(items: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print objects as JSON, or as a table with numbers on the right."""
    if as_json or not items:
        print(json.dumps(items, indent=1) if as_json else "nothing")
        return
    cells = [list(items[0])] + [[_cell(value) for value in row.values()] for row in items]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    number = [isinstance(value, int | float) for value in items[0].values()]
    for row in cells:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, number, strict=True)]
        print("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))
