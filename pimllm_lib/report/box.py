"""The box that a chapter begins with: what is asked, the answer, how sure it is, and what decides it."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The most words of a box, numbers and names among them, the four headings not.
LONGEST = 60
#: Part of a box -> its heading.
PARTS = {"question": "Question", "answer": "Answer", "sure": "How sure", "decides": "What decides"}


@dataclass(frozen=True, kw_only=True)
class Box:
    """Four short parts in Markdown; more: a small table or a sentence that stands below them, in Markdown too."""

    question: str
    answer: str
    sure: str
    decides: str
    more: str = ""

    @property
    def words(self) -> int:
        """How many words a reader reads: without markup, addresses of links, and signs that stand alone."""
        shown = " ".join(getattr(self, part) for part in PARTS)
        shown = re.sub(r"\]\([^)]*\)|&#\d+;", " ", shown)
        return len(re.findall(r"[^ \n]*[^\W_][^ \n]*", shown))

    def _repr_markdown_(self) -> str:
        told = "\n\n".join(f"**{said}** {getattr(self, part)}" for part, said in PARTS.items())
        return f'<div class="answer">\n\n{told}\n\n</div>' + (f"\n\n{self.more}" if self.more else "")
