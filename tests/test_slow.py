"""What takes minutes: real runs killed at random moments, the wheel in an empty environment, the book built twice."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import archive_given_here

from pimllm_lib.archive import dataset, manifest, verify
from pimllm_lib.core import paths
from pimllm_lib.report import book

pytestmark = pytest.mark.slow
SLUG = "01-operation-share"
SMALL = ["run", SLUG, "-p", "models", "['opt-125m']", "-p", "context_len", "[8]"]
RUN = [sys.executable, "-m", "pimllm_lib", *SMALL]
HERE = Path(__file__).parent
#: What is not part of a checkout, and the notebooks that were executed in it.
BUILT, EXECUTED = (".git", ".venv*", "build", "_build", "dist", "__pycache__", ".*_cache", ".lock"), "executed"
IGNORED = shutil.ignore_patterns(*BUILT, EXECUTED)


def command(*words, **options):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True, **options)


def kill_runs(folder, seed):
    """Kill forty runs without a kernel at random moments, and ten that have one, which is left alone then."""
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    command(sys.executable, HERE / "kill_runs.py", seed, 40, *SMALL, "--force", "--into", folder, env=environment)
    choose, killed = random.Random(seed), 0
    while killed < 10:  # a run that was faster does not count
        words = [*RUN, "--force", "--into", folder]
        run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(timeout=choose.uniform(0.05, 3.2))
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed += 1
        assert verify.verify(folder, recompute=False).problems == []


@pytest.mark.adversity
def test_a_hundred_runs_killed_at_random_moments_leave_archives_that_verify_and_the_next_run_completes(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        command(*RUN, "--into", folder)
    whole = [(folder / f"{SLUG}.nc").read_bytes() for folder in folders]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill_runs, folders, (1, 2)))
    for folder, before in zip(folders, whole, strict=True):
        command(*RUN, "--force", "--into", folder)
        assert manifest.damage(folder) == []
        assert (folder / f"{SLUG}.nc").read_bytes() == before


def test_the_wheel_runs_and_verifies_in_an_empty_environment(tmp_path):
    command(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=paths.ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 12e6
    uv, python = Path(sys.executable).with_name("uv"), tmp_path / "venv" / "bin" / "python"
    command(uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    command(uv, "pip", "install", "--quiet", "--python", python, *tmp_path.glob("*.whl"))
    away = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    pimllm = python.with_name("pimllm")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    argv = [pimllm, "run", "03-tokens-per-second", "-p", "context_len", "[8192, 16384]", "--into", "DIR"]
    command(*argv, cwd=elsewhere, env=away)
    assert verify.verify(elsewhere / "DIR", recompute=False).problems == []
    archive_given_here(tmp_path / "archive")
    done = command(pimllm, "verify", "04-latency-breakdown", "--archive", tmp_path / "archive", cwd=elsewhere, env=away)
    assert "1 recomputed; archive" in done.stdout
    assert "other sources" not in done.stdout  # the installed package has the sources that gave the archive
    command(pimllm, "export", "--archive", tmp_path / "archive", "--to", "x.zip", cwd=elsewhere, env=away)
    command(pimllm, "diff", "x.zip", tmp_path / "archive", cwd=elsewhere, env=away)
    argv = [pimllm, "run", "16-analog-engine", "-p", "windows", "4", "--into", "DIR"]
    lacking = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=elsewhere, env=away)
    assert re.search(r"wanted 'pimllm train docstrings-3 .* docstrings-full generated-full --into", lacking.stderr)
    alone = subprocess.run([pimllm, "verify"], capture_output=True, text=True, check=False, cwd=elsewhere, env=away)
    assert (alone.returncode, alone.stderr.count("\n")) == (2, 1)
    assert "an installed package has no archive of its own; wanted --archive DIR" in alone.stderr


#: As whom an administrator tries what an ordinary user can: nobody.
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


#: Whether a Python is new enough and its processes can start others, as root's own cannot where only root may read it.
_STARTS_ANOTHER = (
    "import subprocess, sys; assert sys.version_info >= (3, 11); subprocess.run([sys.executable, '-c', ''], check=True)"
)


def someones_python():
    """Return a Python that an ordinary user can start, and what starts it as one."""
    if os.geteuid() != 0:
        return sys.executable, []
    for python in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        asked = [*NOBODY, python, "-c", _STARTS_ANOTHER]
        if (
            python
            and shutil.which("setpriv")
            and subprocess.run(asked, check=False, capture_output=True).returncode == 0
        ):
            return python, NOBODY
    pytest.skip("no Python that an ordinary user can start")


@pytest.fixture
def open_folder():
    """Return a folder that every user can enter, below none that some cannot."""
    folder = Path(tempfile.mkdtemp(prefix="pimllm-"))
    folder.chmod(0o755)
    yield folder
    command("chmod", "-R", "u+w", folder)
    shutil.rmtree(folder)


STUDY = """system: pim-llm
model: opt-125m
context_len: 64
axes: {system.array.rate_hz: {low: 1e8, high: 8e8, law: log, points: 4}}
metrics: [tokens_per_s]
"""


@pytest.mark.adversity
def test_an_ordinary_user_without_a_home_uses_what_pip_installed_and_what_he_cannot_write(open_folder):
    python, ordinary = someones_python()
    command(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", open_folder, cwd=paths.ROOT)
    programs, archive, mine = open_folder / "venv" / "bin", open_folder / "archive", open_folder / "mine"
    command(Path(sys.executable).with_name("uv"), "venv", "--quiet", "--seed", "--python", python, programs.parent)
    command(programs / "python", "-m", "pip", "install", "--quiet", *open_folder.glob("*.whl"))
    archive_given_here(archive)
    mine.mkdir()
    (mine / "study.yaml").write_text(STUDY)
    (mine / "text").write_text(20 * STUDY)
    mine.chmod(0o777)
    command("chmod", "-R", "a-w,a+rX", programs.parent, archive)
    away = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "XDG"))}
    nowhere = away | {"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}

    def pimllm(*words):
        words = [*ordinary, programs / "pimllm", *words]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=mine, env=nowhere)
        said = [line for line in done.stderr.splitlines() if not line.startswith("noise: ")]  # how long it takes
        assert (done.returncode, said) == (0, []), done.stderr
        return done.stdout

    pimllm("run", "03-tokens-per-second", "01-operation-share", "-p", "context_len", "[8]", "--jobs", "2")
    pimllm("show", "03-tokens-per-second", "--archive", "executed")
    pimllm("sweep", "study.yaml", "--into", "out", "--jobs", "2")
    assert "1 recomputed; archive" in pimllm("verify", "04-latency-breakdown", "--archive", archive)
    pimllm("cite", "04-latency-breakdown", "--archive", archive)
    pimllm("export", "--archive", archive, "--to", "x.zip")
    checkpoint = archive / "checkpoints" / "docstrings-0"
    pimllm("noise", "--checkpoint", checkpoint, "--text", "text", "--tokens", "256")
    assert not Path("/nonexistent").exists()


def built_at(root, left_out):
    """Build the book in a copy of the checkout, a repository of its own, and return where its pages are."""
    shutil.copytree(paths.ROOT, root, ignore=shutil.ignore_patterns(*left_out))
    command("git", "init", "--quiet", cwd=root)
    command("git", "add", ".", cwd=root)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command("git", *who, "commit", "--quiet", "--message", root.name, cwd=root)
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'notebooks'}"}
    command(sys.executable, "-m", "pimllm_lib", "book", "--jobs", "2", cwd=root, env=environment)
    return root / "book" / "_build" / "html"


def is_of_these_sources(html):
    sources = book.stamp().partition(" · commit")[0].encode()
    if not (html / "index.html").is_file() or (html / "pimllm.pdf").exists():  # whose landing page links to it
        return False
    return sources in (html / "index.html").read_bytes()


def test_two_builds_of_the_book_from_the_same_sources_differ_in_the_stamped_commit_alone(tmp_path):
    """The book that 'make book' left here, or a build from notebooks executed here; and one of all executed anew."""
    here = paths.BOOK / "_build" / "html"
    first = here if is_of_these_sources(here) else built_at(tmp_path / "one", BUILT)
    second = built_at(tmp_path / "a longer name, two", (*BUILT, EXECUTED))
    one, two = (
        {path.relative_to(html): path.read_bytes() for path in sorted(html.rglob("*")) if path.is_file()}
        for html in (first, second)
    )
    assert one.keys() == two.keys()
    stamp = re.compile(rb"commit [0-9a-f]+(-dirty)?")
    assert len({pages.group() for found in (one, two) for pages in stamp.finditer(found[Path("index.html")])}) == 2
    differing = [str(name) for name in one if stamp.sub(b"", one[name]) != stamp.sub(b"", two[name])]
    assert differing == []


def test_a_checkpoint_and_a_text_of_ones_own_go_through_the_noise_studies_by_one_command(tmp_path):
    shutil.copytree(paths.CHECKPOINTS / "docstrings-1", tmp_path / "mine")
    (tmp_path / "book.txt").write_text((paths.BOOK / "run.md").read_text())
    sizes = ["-p", "device_seeds", "1", "-p", "windows", "1", "-p", "widths", "[256, 512]"]
    given = ["-p", "checkpoints", "['mine']", "-p", "text", "book.txt", *sizes]
    command(sys.executable, "-m", "pimllm_lib", "run", "11-analog-noise", *given, "--into", "out", cwd=tmp_path)
    ds = dataset.load(tmp_path / "out" / "11-analog-noise.nc")
    assert set(ds.trials.values) == {1.0}
    assert float(ds.perplexity_rise.sel(case="no crossbars")) > 1
    assert float(ds.perplexity_rise.sel(case="worst case, sign-magnitude 9")) == 0
    assert not [name for name in ds.comparison.values if "control" in str(name)]
