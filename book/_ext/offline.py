"""Keep every page free of requests to other hosts: drop scripts and styles that a dependency loads from elsewhere."""

from __future__ import annotations

from typing import Any


def _is_local(asset: Any) -> bool:
    text = f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', {}).get('body', '')}"
    return "://" not in text and "thebe" not in text.lower()


def _keep_local(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    for kind in ("script_files", "css_files"):
        context[kind] = [asset for asset in context.get(kind, []) if _is_local(asset)]


def setup(app: Any) -> dict[str, bool]:
    """Filter the assets of each page, after every extension has added its own."""
    app.connect("html-page-context", _keep_local, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
