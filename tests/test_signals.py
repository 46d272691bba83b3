"""What is told to end ends at once, with all it started; what is killed leaves nothing beyond the next start."""

import fcntl
import os
import random
import shutil
import subprocess
import sys
import time
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
from conftest import DATA, archive_given_here, copied_checkout
from signalled import Program

from pimllm_lib.core import files, scratch

pytestmark = pytest.mark.adversity


def told(err):
    """Return what a command says on stderr but for how far it is and how long it will take."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("noise: "))


STATUS = {SIGINT: (130, "pimllm: interrupted\n"), SIGTERM: (143, "pimllm: terminated\n")}
TWO = ["01-operation-share", "04-latency-breakdown"]
SMALL = ["run", TWO[0], "-p", "models", "['opt-125m']", "-p", "context_len", "[8]"]
NOTEBOOKS = (
    "notebook: 01-operation-share\naxes:\n  which: {fields: [parameter.models], values: [[opt-125m], [opt-350m]]}\n"
)
GRID = """model: opt-1.3b
chunk: 30
axes:
  system.array.rate_hz: {low: 1e8, high: 8e8, points: 10}
  system.array.rows: {low: 8, high: 64, law: integer, points: 10}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group", "jobs"), [(SIGTERM, False, 2), (SIGINT, True, 1)])
def test_a_sweep_of_notebooks_that_is_told_to_end_takes_kernels_and_folders_with_it(number, group, jobs, tmp_path):
    (tmp_path / "study.yaml").write_text(NOTEBOOKS)
    into = tmp_path / "out"
    program = Program(["sweep", tmp_path / "study.yaml", "--into", into, "--jobs", jobs], tmp_path / "home")
    program.start().working(jobs)
    start = time.monotonic()
    err = program.tell(number, group)
    took = time.monotonic() - start
    assert (program.process.returncode, told(err)) == STATUS[number]
    assert program.left() == []
    assert program.litter(into) == []
    assert took < 2


@pytest.mark.slow
def test_a_run_of_two_that_is_killed_does_not_go_on_and_the_next_start_removes_what_it_left(tmp_path):
    into = tmp_path / "out"
    program = Program(["run", *TWO, "--force", "--jobs", 2, "--into", into], tmp_path / "home").start().working(2)
    program.tell(SIGKILL)
    assert program.left() == []
    there = {path.name for path in into.glob("*")} if into.exists() else set()
    time.sleep(0.2)
    assert ({path.name for path in into.glob("*")} if into.exists() else set()) == there <= {".lock"}
    kept = program.temporary / "pimllm_run.living"
    gone = program.temporary / "pimllm_run.dead"
    for folder in (kept, gone):
        (folder / "inside").mkdir(parents=True)
    holder = os.open(kept, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    again = "from pimllm_lib.core import scratch\nwith scratch.folder('run'): pass"
    subprocess.run([sys.executable, "-c", again], check=True, env=os.environ | {"TMPDIR": str(program.temporary)})
    assert program.litter() == [kept.name]
    os.close(holder)


def test_a_folder_is_its_own_while_it_lives_and_links_and_older_names_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pimllm_link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pimllm.older").mkdir()
    with scratch.folder("run") as one, scratch.folder("run") as two:
        scratch.sweep()
        assert one.is_dir()
        assert two.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "pimllm_link", "pimllm.older"}


def test_what_a_killed_run_left_beside_a_file_goes_and_what_another_writes_stays(tmp_path):
    dead, living, other = (tmp_path / name for name in (".x.zip.1.part", ".x.zip.2.part", ".y.zip.1.part"))
    for path in (dead, living, other):
        path.write_bytes(b"half")
    with living.open("rb") as held:
        assert files.hold(held.fileno())
        files.sweep([tmp_path / "x.zip"])
        assert {path.name for path in tmp_path.iterdir()} == {living.name, other.name}
        files.sweep([tmp_path / "*"])
        assert {path.name for path in tmp_path.iterdir()} == {living.name}


def of_run(home, jobs):
    words = SMALL if jobs == 1 else ["run", *TWO]
    return [*words, "--force", "--jobs", jobs, "--into", home / "out"]


def of_sweep(home, jobs):
    (home / "study.yaml").write_text(GRID if jobs == 1 else NOTEBOOKS)
    return ["sweep", home / "study.yaml", "--into", home / "out", "--jobs", jobs]


def of_archive(home, jobs):
    """An archive is renewed where its checkout is: a copy of what that takes."""
    copied_checkout(home / "out", "__pycache__")
    return ["run", *TWO[:jobs], "--force", "--data-only", "--jobs", jobs, "--archive"]


def of_attest(home, jobs):
    shutil.copytree(DATA, home / "out", ignore=shutil.ignore_patterns(files.LOCK, "attested.json"))
    return ["attest", *TWO[:jobs], "--jobs", jobs, "--archive", home / "out"]


def of_export(home, jobs):
    archive_given_here(home / "archive")
    return ["export", "--archive", home / "archive", "--to", home / "out" / "x.zip"]


def of_noise(home, jobs):
    options = ["--text", DATA / "README.md", "--tokens", 1024, "--window", 64, "--seeds", 2 * jobs]
    return ["noise", "--checkpoint", DATA / "checkpoints" / "docstrings-0", *options]


COMMANDS = [(of, jobs) for of in (of_run, of_sweep, of_archive, of_attest, of_export, of_noise) for jobs in (1, 2)]


def program_of(command, words, home):
    return Program(words, home, home / "out" if command is of_archive else None)


def whole(command, jobs, home):
    """Run a command to its end; return what it printed, less where it was, its files, and the seconds it took."""
    home.mkdir()
    program = program_of(command, command(home, jobs), home)
    start = time.monotonic()
    err = program.start().end()
    assert (program.process.returncode, program.litter(home)) == (0, []), err
    return made(program, home), time.monotonic() - start


def made(program, home):
    """Return the lines a program printed, less where it was, and the files it wrote.

    Notebooks side by side are named as they end, which is in either order: the lines are sorted.
    """
    found = {path.relative_to(home): path.read_bytes() for path in sorted((home / "out").rglob("*")) if path.is_file()}
    return sorted(program.said.replace(str(home).encode(), b"").splitlines()), found


def forgotten(words, home):
    """Make a command have work to do again, where it would find it done."""
    if words[0] == "sweep":
        shutil.rmtree(home / "out", ignore_errors=True)
    if words[0] == "export":
        (home / "out" / "x.zip").unlink(missing_ok=True)
    if words[0] == "attest":
        (home / "out" / "attested.json").unlink(missing_ok=True)


def signals(command, jobs, count, folder):
    """Send a command so many random signals at random moments, and look what is left after each and in the end."""
    choose = random.Random(f"{command.__name__} {jobs}")
    wanted, longest = whole(command, jobs, folder / "alone")
    home = folder / "told"
    home.mkdir()
    words = command(home, jobs)
    while count:
        number, program = choose.choice((SIGINT, SIGTERM, SIGKILL)), program_of(command, words, home)
        before = program.litter(home)  # of one that was killed, which the next removes once it has begun
        program.start()
        try:
            program.process.wait(timeout=choose.uniform(0.2, longest))
            forgotten(words, home)  # it was faster, which does not count
            program.end()
            continue
        except subprocess.TimeoutExpired:
            err = program.tell(number, group=choose.random() < 0.5)
        assert program.left() == []
        status = program.process.returncode
        # done, or told before it could heed, when nothing is there
        if number != SIGKILL and status not in (0, -number):
            assert (status, told(err)) == STATUS[number]
            assert set(program.litter(home)) <= set(before)
        count -= 1
    if command is of_export:
        forgotten(words, home)
    last = program_of(command, words, home)
    err = last.start().end()
    assert (last.process.returncode, last.litter(home)) == (0, []), err
    assert made(last, home) == wanted


@pytest.mark.slow
def test_a_sweep_that_gets_signals_gives_the_same_bytes_in_the_end(tmp_path):
    signals(of_sweep, 1, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "jobs"), COMMANDS)
def test_a_hundred_random_signals_leave_no_process_no_file_and_the_same_bytes(command, jobs, tmp_path):
    signals(command, jobs, 9 if jobs == 1 or command not in (of_export, of_noise) else 5, tmp_path)
