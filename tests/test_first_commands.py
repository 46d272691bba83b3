"""A newcomer's first hour: the commands of README.md and of "Run it yourself", as printed and in order, in a fresh clone."""

import re
import subprocess
import sys

import pytest
from conftest import AWAY

from pimllm_lib.core import paths

pytestmark = pytest.mark.slow
#: Commands that are left out, and why.
LEFT_OUT = {
    "make book": "minutes, and built twice by another test; the environment it begins with is made",
    "make test": "this is one of the tests",
    "make train": "PyTorch, and an hour",
    "pimllm run 11-analog-noise": "a minute, and run by another slow test",
}
SHALLOW = subprocess.run(
    ["git", "-C", paths.ROOT, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=False
)
if SHALLOW.stdout.strip() == "true":
    LEFT_OUT["pimllm diff 0.6.0 0.7.0"] = "the history here does not go back to them"
#: A fence, and the name of the file that the line above it gives to it.
FENCE = re.compile(r"(?:`([\w-]+\.\w+)`:\n\n)?^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
#: A comparison of archives ends with 1 when a number moved, which is no failure of the command.
DIFFERS = re.compile(r"^(pimllm diff .*?)( *#.*)?$", flags=re.MULTILINE)


def script(text):
    """Return what a reader of a page types, and the files that it tells to save."""
    done = []
    for name, language, code in FENCE.findall(text):
        if language in ("bash", "console"):
            lines = re.sub(r"^\$ ", "", code.replace("\\\n", ""), flags=re.MULTILINE)
            done.append(DIFFERS.sub(r"\1 || [ $? = 1 ]", lines))
        elif name:
            done.append(f"cat > {name} <<'END'\n{code}END\n")
    kept = [line for line in "".join(done).splitlines() if not line.startswith(tuple(LEFT_OUT))]
    return "\n".join(kept)


@pytest.fixture
def newcomer(tmp_path):
    """Return how a newcomer runs a script: with the programs of the system alone, in a clone whose environment is made."""
    clone = tmp_path / "pimllm"
    subprocess.run(["git", "clone", "--quiet", paths.ROOT, clone], check=True)
    env = AWAY | {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin"}

    def run(text):
        return subprocess.run(["bash", "-exc", text], cwd=clone, env=env, capture_output=True, text=True, check=False)

    made = run("make env\n! command -v pimllm")
    assert made.returncode == 0, made.stderr
    return run


def test_the_commands_of_the_pages_run_as_printed(newcomer):
    for page in ("README.md", "book/run.md"):
        done = newcomer(script((paths.ROOT / page).read_text()))
        assert done.returncode == 0, f"{page}: {done.stderr[-4000:]}"
        newcomer("git clean --force -d --quiet")
