"""What code says, without comments, docstrings and layout, for hashes that these leave alone; and what of it computes."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import lru_cache

from pimllm_lib.core.errors import BadInput

#: The pieces of Python text. Python's own tokens take ten times as long, and are others in each version.
_PIECES = re.compile(
    r"""
    (?P<string> (?i:[rbuft]{0,2}) (?: \"{3} (?:[^\\]|\\.)*? \"{3} | '{3} (?:[^\\]|\\.)*? '{3}
                                  | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' ) )
    | (?P<comment> \#[^\n]*)
    | (?P<line> \n[ \t]*)
    | (?P<space> (?:[ \t\r\f]|\\\n)+)
    | (?P<open> [(\[{])
    | (?P<close> [)\]}])
    | (?P<word> [^\s\#"'()\[\]{}\\]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=1024)  # each result depends on most modules
def said(source: str) -> str:
    """Return what Python code says, a line each statement: the same for code that differs in comments, docstrings, blank
    lines, breaks inside brackets, or `__version__` alone.
    """
    depth, indent, words = 0, "", list[str]()
    statements: list[str] = []
    for piece in _PIECES.finditer(source + "\n"):
        kind, text = str(piece.lastgroup), piece[0]
        if kind == "line" and depth == 0:
            if words and not _unsaid(words):
                statements.append(indent + " ".join(words))
            indent, words = text[1:], []
        elif kind not in ("line", "space", "comment"):
            depth += (kind == "open") - (kind == "close")
            words.append(text)
    return "\n".join(statements)


def _unsaid(words: Sequence[str]) -> bool:
    """Return whether a statement does nothing, as a string that stands alone, or says the version."""
    alone = len(words) == 1 and re.match(r"(?i:[rbu]{0,2})[\"']", words[0])
    return bool(alone) or words[0] == "__version__"


def plain(cell: str) -> str:
    """Return a notebook cell as Python: Jupyter's own commands, and cells in another language, left out."""
    if cell.lstrip().startswith("%%"):
        return ""
    return "\n".join("" if line.startswith(("%", "!")) else line for line in cell.splitlines())


def parsed(cell: str) -> ast.Module:
    """Return the syntax tree of a notebook cell. Raises BadInput for what is no Python."""
    try:
        return ast.parse(plain(cell))
    except SyntaxError as error:
        raise BadInput(f"code that is no Python, in line {error.lineno}: {(error.text or '').strip()}") from None


def computing(cells: Sequence[str]) -> list[str]:
    """Return the cells of a notebook with no more than the statements that what it saves depends on, the others empty.

    A statement is one of these when it sets a name that a later one of them reads: tables, figures and sentences are left
    out, and imports of what only these use. What a function changes in its arguments is not seen, so `verify` runs these
    statements alone. A notebook that saves nothing is returned whole.
    """
    trees = [parsed(cell) for cell in cells]
    if not any(map(saves, trees)):
        return list(cells)
    needed: set[str] = set()
    kept: list[str] = []
    for cell, tree in zip(reversed(cells), reversed(trees), strict=True):
        texts = []
        for node in reversed(tree.body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                node.names = [alias for alias in node.names if (alias.asname or alias.name).split(".")[0] in needed]
                texts += [ast.unparse(node)] if node.names else []
            elif saves(node) or _bound(node) & needed:
                needed |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
                texts.append(_text(plain(cell), node))
        kept.append("\n".join(reversed(texts)))
    return kept[::-1]


def saves(tree: ast.AST) -> bool:
    """Return whether some code saves a dataset."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(getattr(called, "attr", getattr(called, "id", "")) == "save" for called in calls)


def _bound(node: ast.AST) -> set[str]:
    """Return the names that a statement sets or changes, at any depth: more than it does, never less."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            found.add(inner.name)
        elif isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call):  # items.append(...)
            found.add(_root(inner.value.func) if isinstance(inner.value.func, ast.Attribute) else "")
        elif not isinstance(getattr(inner, "ctx", ast.Load()), ast.Load):
            found.add(_root(inner))
    return found - {""}


def _root(node: ast.AST) -> str:
    """Return the name that an expression such as `a.b[c].d` starts with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _text(cell: str, node: ast.stmt) -> str:
    """Return the lines of a statement, with its decorators."""
    first = min([node.lineno, *(inner.lineno for inner in getattr(node, "decorator_list", []))])
    return "\n".join(cell.splitlines()[first - 1 : node.end_lineno])
