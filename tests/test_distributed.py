"""A real Dask cluster on this machine, a worker killed half-way: make test MARK=distributed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress

import pytest
import xarray as xr
from conftest import copied_checkout
from test_sweep import PARETO, STUDY

from benchmarks import sweeps
from pimllm_lib.archive import dataset
from pimllm_lib.cli.main import main
from pimllm_lib.core import paths
from pimllm_lib.studies import folder, study_file

pytestmark = [pytest.mark.distributed, pytest.mark.adversity]


def until(holds):
    """Wait until something holds, however slow this machine is."""
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def states(address):
    """Return the states of the workers that a scheduler knows."""
    import distributed

    with suppress(OSError), distributed.Client(address, timeout=5, set_as_default=False) as client:
        return sorted(said["status"] for said in client.sync(client.scheduler.identity)["workers"].values())
    return []


@pytest.fixture
def cluster():
    """A scheduler and two workers: the address, the workers and the scheduler."""
    with sweeps.cluster() as started:
        until(lambda: states(started[0]) == ["running"] * 2)
        yield started


def chunks(folder, count, run):
    """Wait until a run has written so many chunks."""
    while len(list((folder / "chunks").glob("0*.nc"))) < count:
        assert run.poll() is None
        time.sleep(0.01)


def test_a_cluster_that_loses_a_worker_gives_the_bytes_of_one_process(cluster, tmp_path):
    address, workers, _ = cluster
    (tmp_path / "study.yaml").write_text(STUDY + PARETO + "chunk: 2\n")
    alone = folder.run(study_file.read(tmp_path / "study.yaml"), tmp_path / "alone")
    into = tmp_path / "cluster"
    run = subprocess.Popen(
        [sys.executable, "-m", "pimllm_lib", "sweep", tmp_path / "study.yaml", "--into", into, "--scheduler", address]
    )
    chunks(into, 2, run)
    workers[0].kill()
    assert run.wait(timeout=300) == 0
    assert (into / "study.nc").read_bytes() == alone.read_bytes()


def test_a_client_that_is_killed_leaves_chunks_that_another_one_goes_on_from(cluster, tmp_path):
    address, _, _ = cluster
    (tmp_path / "study.yaml").write_text(STUDY + PARETO + "chunk: 4\n")
    into = tmp_path / "cluster"
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(into), "--scheduler", address]
    run = subprocess.Popen([sys.executable, "-m", "pimllm_lib", *argv])
    chunks(into, 5, run)
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
    chunks(tmp_path / "out", 2, run)
    for process in (scheduler, *workers):
        process.kill()
    _, err = run.communicate(timeout=300)
    assert run.returncode == 2
    assert err.startswith("pimllm: those who evaluate are gone")
    assert err.count("\n") == 1


def test_a_scheduler_without_workers_is_one_line(cluster, tmp_path, capfd):
    address, workers, _ = cluster
    for worker in workers:
        worker.kill()
        worker.wait()
    (tmp_path / "study.yaml").write_text(STUDY)
    until(lambda: not states(address))
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--scheduler", address]
    assert main(argv) == 2
    assert "has no workers" in capfd.readouterr().err


def start(stack, *words, cwd=None, **variables):
    """Start a scheduler or a worker until the end of a test."""
    program = [sys.executable, "-m", *map(str, words), "--host", "127.0.0.1", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = stack.enter_context(subprocess.Popen(program, env=os.environ | variables, cwd=cwd, **quiet))
    stack.callback(process.kill)
    return process


def test_a_worker_whose_sources_double_every_number_is_refused_when_it_joins_late(cluster, tmp_path):
    address, workers, _ = cluster
    copied_checkout(tmp_path, "checkpoints")
    points = tmp_path / "pimllm_lib" / "sweep" / "points.py"
    points.write_text(
        points.read_text() + "_right = compute\n\n\ndef compute(study, chunk):\n    return _right(study, chunk) * 2\n"
    )
    (tmp_path / "study.yaml").write_text(STUDY + "chunk: 1\n")
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out")]
    program = [sys.executable, "-m", "pimllm_lib", *argv, "--scheduler", address]
    with ExitStack() as stack:
        run = stack.enter_context(subprocess.Popen(program, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT))
        chunks(tmp_path / "out", 2, run)
        for worker in workers:  # with 72 chunks, 64 of them under way: some are left for the late one
            worker.send_signal(signal.SIGSTOP)
        late = ("distributed.cli.dask_worker", address, "--nthreads", 1, "--no-nanny")
        start(stack, *late, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        until(lambda: len(states(address)) == 3)
        for worker in workers:
            worker.kill()
        _, err = run.communicate(timeout=300)
    assert (run.returncode, err.count("\n")) == (2, 1)
    assert "other sources of pimllm than this machine; wanted the same everywhere; what is done is in" in err
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "chunks").glob("0*.nc")}
    assert main(argv) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    (tmp_path / "study.yaml").write_text(STUDY)
    alone = folder.run(study_file.read(tmp_path / "study.yaml"), tmp_path / "alone")
    made, right = dataset.load(tmp_path / "out" / "study.nc"), dataset.load(alone)
    xr.testing.assert_allclose(made.sel(adc=right.adc), right, rtol=1e-12)  # chunks of one point sort labels


def test_workers_that_are_gone_are_said_after_ten_seconds_and_given_up_after_the_patience(cluster, tmp_path):
    address, workers, _ = cluster
    (tmp_path / "study.yaml").write_text(STUDY + "chunk: 1\n")
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--scheduler", address]
    program = [sys.executable, "-m", "pimllm_lib", *argv, "--patience", "13"]
    run = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    chunks(tmp_path / "out", 2, run)
    for worker in workers:
        worker.terminate()
    _, err = run.communicate(timeout=300)
    lines = err.splitlines()
    assert run.returncode == 2
    assert len(lines) == 2
    assert f"has no workers; wanted 'dask worker {address}' on some machine; waiting up to 13 s" in lines[0]
    assert "for 13 s; what is done is in" in lines[1]
    assert f"'pimllm {' '.join(argv)}' goes on" in lines[1]


def test_a_worker_with_too_little_memory_is_given_up(cluster, tmp_path):
    address, workers, _ = cluster
    for worker in workers:
        worker.kill()
        worker.wait()
    (tmp_path / "study.yaml").write_text(STUDY + "chunk: 1\n")
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--scheduler", address]
    program = [sys.executable, "-m", "pimllm_lib", *argv, "--patience", "3"]
    with ExitStack() as stack:
        limit = ("--nthreads", 1, "--no-nanny", "--memory-limit", "20MB")
        start(stack, "distributed.cli.dask_worker", address, *limit)
        until(lambda: states(address) == ["paused"])
        run = subprocess.run(program, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "take no work, as with too little memory" in run.stderr


def test_a_port_that_accepts_and_says_nothing_is_one_line(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        argv = ["sweep", tmp_path / "study.yaml", "--into", tmp_path / "out", "--scheduler", address]
        run = subprocess.run(
            [sys.executable, "-m", "pimllm_lib", *argv], stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
    assert run.returncode == 2
    assert run.stderr == f"pimllm: the scheduler {address} does not answer within 8 s; wanted one that runs\n"
    assert not (tmp_path / "out").exists()


def certificate(folder, name, *signed):
    """Make a key and a certificate, signed by itself unless by another one."""
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
    out = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", *signed]
    subprocess.run(["openssl", *words, *out], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_cluster_with_certificates_listens_to_those_who_have_one(tmp_path):
    certificate(tmp_path, "ca")
    certificate(tmp_path, "mine", "-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key")
    certificate(tmp_path, "stranger")
    (tmp_path / "study.yaml").write_text(STUDY)

    def variables(who):
        base = "DASK_DISTRIBUTED__COMM__"
        sides = {
            f"{base}TLS__{side}__{kind}": str(tmp_path / f"{who}.{end}")
            for side in ("SCHEDULER", "WORKER", "CLIENT")
            for kind, end in (("CERT", "pem"), ("KEY", "key"))
        }
        return sides | {f"{base}REQUIRE_ENCRYPTION": "True", f"{base}TLS__CA_FILE": str(tmp_path / "ca.pem")}

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, mine = f"tls://127.0.0.1:{port}", variables("mine")
    program = [sys.executable, "-m", "pimllm_lib", "sweep", tmp_path / "study.yaml", "--scheduler", address]
    with ExitStack() as stack:
        start(stack, "distributed.cli.dask_scheduler", "--protocol", "tls", "--port", port, **mine)
        start(stack, "distributed.cli.dask_worker", address, "--nthreads", 1, "--no-nanny", **mine)

        def swept(into, **given):
            words = [*program, "--into", tmp_path / into]
            return subprocess.run(
                words, capture_output=True, text=True, timeout=300, check=False, env=os.environ | given
            )

        until(lambda: swept("out", **mine).returncode == 0)  # as soon as they are there
        refused, plain = swept("refused", **variables("stranger")), swept("plain")
    assert (refused.returncode, plain.returncode) == (2, 2)
    assert [one.stderr.count("\n") for one in (refused, plain)] == [1, 1]
    alone = folder.run(study_file.read(tmp_path / "study.yaml"), tmp_path / "alone")
    assert (tmp_path / "out" / "study.nc").read_bytes() == alone.read_bytes()
