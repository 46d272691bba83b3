"""Renew what is archived of the transformers library: the defaults of its classes, and what they multiply and keep.

In the environment that has it: .venv-torch/bin/python tests/peers/archive_transformers.py [KEY ...]. Keys are further ones
that the reader asks for. A family that is new in the table of the reader gets a line; those that are there are asked again.
"""

import csv
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import families  # noqa: E402
import transformers_runner as runner  # noqa: E402

from pimllm_lib.catalog.configuration import known  # noqa: E402
from pimllm_lib.catalog.families import FAMILIES  # noqa: E402
from pimllm_lib.catalog.unread import REFUSED, TEXT  # noqa: E402

CLASSES = HERE.parents[1] / "pimllm_lib" / "catalog" / "transformers.json"


def classes(more):
    """Write the defaults, a family a line."""
    keys = {*more, *(key for one in known().values() for key in (*one.get("defaults", {}), *one.get("names", {})))}
    lines = [
        f"  {json.dumps(name)}: {json.dumps(one)}"
        for name, one in sorted(runner.classes(keys).items())
        if name not in REFUSED
    ]
    version = json.dumps(runner.transformers.__version__)
    CLASSES.write_text(f'{{"version": {version}, "families": {{\n' + ",\n".join(lines) + "\n}}\n")


def table():
    """Write what is counted, a family a line; those that their defaults make no model of have what is set."""
    own = {row.family: row.set for row in families.rows().itertuples()}
    lines = []
    for family in sorted({*FAMILIES, *TEXT}):
        setting = own.get(family, "")
        said = families.theirs(runner.counted({"model_type": family, **json.loads(setting or "{}")}))
        lines.append({"family": family, "set": setting, **said, "transformers": runner.transformers.__version__})
    with families.TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    classes(sys.argv[1:])
    table()
