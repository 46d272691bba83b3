"""A real Dask cluster on this machine, a worker killed half-way: make test MARK=distributed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from test_sweep import PARETO, STUDY

from benchmarks import sweeps
from pimllm_lib.cli.main import main
from pimllm_lib.studies import folder, study_file

pytestmark = pytest.mark.distributed


@pytest.fixture
def cluster():
    """A scheduler and two workers: the address, the workers and the scheduler."""
    with sweeps.cluster() as started:
        yield started


def test_a_cluster_that_loses_a_worker_gives_the_bytes_of_one_process(cluster, tmp_path):
    address, workers, _ = cluster
    (tmp_path / "study.yaml").write_text(STUDY + PARETO + "chunk: 1\n")
    alone = folder.run(study_file.read(tmp_path / "study.yaml"), tmp_path / "alone")
    two = folder.run(study_file.read(tmp_path / "study.yaml"), tmp_path / "two", jobs=2)
    into = tmp_path / "cluster"
    run = subprocess.Popen(
        [sys.executable, "-m", "pimllm_lib", "sweep", tmp_path / "study.yaml", "--into", into, "--scheduler", address]
    )
    while len(list((into / "chunks").glob("0*.nc"))) < 10:
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(workers[0].pid, signal.SIGKILL)
    assert run.wait(timeout=120) == 0
    assert (into / "study.nc").read_bytes() == alone.read_bytes() == two.read_bytes()


def test_a_client_that_is_killed_leaves_chunks_that_another_one_goes_on_from(cluster, tmp_path):
    address, _, _ = cluster
    (tmp_path / "study.yaml").write_text(STUDY + PARETO + "chunk: 1\n")
    into = tmp_path / "cluster"
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(into), "--scheduler", address]
    run = subprocess.Popen([sys.executable, "-m", "pimllm_lib", *argv])
    while len(list((into / "chunks").glob("0*.nc"))) < 10:
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    done = {file.name: file.stat().st_mtime_ns for file in (into / "chunks").glob("0*.nc")}
    assert main(argv) == 0
    assert {name: (into / "chunks" / name).stat().st_mtime_ns for name in done} == done


@pytest.mark.parametrize(
    ("address", "words"),
    [("tcp://127.0.0.1:9", "does not answer"), ("nowhere", "wanted tcp://HOST:PORT"), ("tcp://127.0.0.1", "HOST:PORT")],
)
def test_a_scheduler_that_does_not_answer_is_one_line_in_under_ten_seconds(address, words, tmp_path, capfd):
    (tmp_path / "study.yaml").write_text(STUDY)
    start = time.monotonic()
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--scheduler", address]
    assert main(argv) == 2
    assert time.monotonic() - start < 10
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_dies_is_one_line_and_its_chunks_stay(cluster, tmp_path):
    address, workers, scheduler = cluster
    (tmp_path / "study.yaml").write_text(STUDY + PARETO + "chunk: 1\n")
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--scheduler", address]
    run = subprocess.Popen([sys.executable, "-m", "pimllm_lib", *argv], stderr=subprocess.PIPE, text=True)
    while len(list((tmp_path / "out" / "chunks").glob("0*.nc"))) < 5:
        time.sleep(0.01)
    for process in (scheduler, *workers):
        process.kill()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 2
    assert err.startswith("pimllm: those who evaluate are gone")
    assert err.count("\n") == 1


def test_a_scheduler_without_workers_is_one_line(cluster, tmp_path, capfd):
    address, workers, _ = cluster
    for worker in workers:
        worker.kill()
        worker.wait()
    (tmp_path / "study.yaml").write_text(STUDY)
    time.sleep(1)
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--scheduler", address]
    assert main(argv) == 2
    assert "has no workers" in capfd.readouterr().err
