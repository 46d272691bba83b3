"""What a wheel carries beside the library: notebooks, printed numbers, checkpoints, studies, the lock.

An editable install has them all.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: pimllm_lib/core/paths.py looks for them there.
SHIPPED = "pimllm_lib/shipped"
#: Of trained models the records, with their hashes; models of the first three seeds, for studies of a user's own, and those
#: that go on from the first. Commands take no others unless told to, but for chapter 16, which also reads the twins.
CHECKPOINTS = ("data/checkpoints/*/training.json", "data/checkpoints/*-[0-2]/*", "data/checkpoints/docstrings-0-*/*")
CARRIED = (
    "notebooks/*.ipynb", "data/**/*.csv", "data/versions.json", "data/attested.json", *CHECKPOINTS,
    "data/studies/*.yaml", "data/studies/*.nc", "requirements.lock", "environment.yml", "CITATION.cff", "LICENSE",
    "README.md", "pyproject.toml", "hatch_build.py",
)  # fmt: skip


class Shipped(BuildHookInterface):
    """Adds the files to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say where each file goes."""
        if version == "standard":
            root = Path(self.root)
            found = (path.relative_to(root) for pattern in CARRIED for path in sorted(root.glob(pattern)))
            build_data["force_include"] |= {str(path): f"{SHIPPED}/{path.as_posix()}" for path in found}
