"""What a wheel carries beside the library: notebooks, printed numbers, checkpoints, studies, the lock.

An editable install has them all.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: pimllm_lib/core/paths.py looks for them there.
SHIPPED = "pimllm_lib/shipped"
CARRIED = (
    "notebooks/*.ipynb", "data/**/*.csv", "data/versions.json", "data/attested.json", "data/checkpoints/*/*",
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
