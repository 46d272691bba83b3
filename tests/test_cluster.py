"""A cluster without Dask: workers of other sources, workers that are gone, a port that says nothing."""

import socket
import sys
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_sweep import STUDY

from pimllm_lib.cli.main import main
from pimllm_lib.studies import folder, study_file
from pimllm_lib.sweep import cluster
from pimllm_lib.sweep.cluster import Cluster, Gone
from pimllm_lib.sweep.pool import each

pytestmark = pytest.mark.adversity


class Workers:
    """Workers in this process, one after the other: `late` is the number of the first chunk that a late one gets."""

    def __init__(self, late=1 << 30, harm=lambda work: work):
        self.late, self.harm, self.taken = late, harm, 0

    def submit(self, work, item):
        self.taken += 1
        done = Future()
        try:
            done.set_result((self.harm(work) if self.taken > self.late else work)(item))
        except Exception as error:
            done.set_exception(error)
        return done


def of_other_sources(work):
    """What a worker does whose sources double every number."""
    return replace(work, work=lambda chunk: work.work(chunk) * 2, version=lambda: "others")


def that_knows_nothing_of_it(work):
    """What becomes of work on a worker of a version that has no such class."""

    def unpickled(item):
        raise AttributeError("module 'pimllm_lib.sweep' has no attribute 'cluster'")

    return unpickled


def given(monkeypatch, workers, **settings):
    """Let sweeps be evaluated by a cluster of these workers."""

    @contextmanager
    def executor(jobs, scheduler, version, patience_s):
        yield Cluster(workers.submit, version, version(), patience_s=patience_s, **settings)

    monkeypatch.setattr(folder, "executor", executor)


IN_SIX = STUDY + "chunk: 12\n"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What this process makes of a study in six chunks."""
    place = tmp_path_factory.mktemp("alone")
    (place / "study.yaml").write_text(IN_SIX)
    return folder.run(study_file.read(place / "study.yaml"), place).read_bytes()


@pytest.mark.parametrize(
    ("harm", "words"),
    [pytest.param(of_other_sources, "has other sources of pimllm than this machine; wanted the same everywhere",
                  marks=pytest.mark.slow),
     (that_knows_nothing_of_it, "a worker cannot load what it is sent (module 'pimllm_lib.sweep' has no attribute")],
)  # fmt: skip
def test_a_worker_of_other_sources_that_joins_late_is_refused_and_what_is_done_stays(
    harm, words, alone, monkeypatch, tmp_path, capsys
):
    (tmp_path / "study.yaml").write_text(IN_SIX)
    argv = ["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--scheduler", "tcp://HOST:1"]
    with monkeypatch.context() as patch:
        given(patch, Workers(late=2, harm=harm))
        assert main(argv) == 2
    said, err = capsys.readouterr()
    assert (said, err.count("\n")) == ("", 1)
    assert words in err
    assert f"what is done is in {tmp_path / 'out'}, and 'pimllm {' '.join(argv)}' goes on" in err
    assert not (tmp_path / "out" / "study.nc").exists()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "chunks").glob("*.nc")}
    assert len(done) == 2
    assert main(argv[:-2]) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert (tmp_path / "out" / "study.nc").read_bytes() == alone


def test_workers_of_the_same_sources_give_the_bytes_of_this_process(alone, monkeypatch, tmp_path):
    (tmp_path / "study.yaml").write_text(IN_SIX)
    given(monkeypatch, Workers())
    assert folder.run(study_file.read(tmp_path / "study.yaml"), tmp_path / "cluster").read_bytes() == alone


def test_what_a_cluster_lacks_is_said_once_and_given_up_after_the_patience_that_is_set(monkeypatch, capsys):
    monkeypatch.setattr(cluster, "LOOK_S", 0.02)
    monkeypatch.setattr(cluster, "SAY_S", 0.05)
    workers = Cluster(lambda work, item: Future(), str, "", lambda: "nobody is there", patience_s=0.2)
    with pytest.raises(Gone, match=r"nobody is there, for 0\.2 s"):
        list(each(str, range(3), workers))
    assert capsys.readouterr().err == "pimllm: nobody is there; waiting up to 0.2 s (--patience)\n"


def test_workers_that_take_long_are_waited_for(monkeypatch):
    monkeypatch.setattr(cluster, "LOOK_S", 0.01)
    slow = Future()
    threading.Timer(0.5, slow.set_result, [("", "here", "done")]).start()
    workers = Cluster(lambda work, item: slow, str, "", patience_s=0.05)
    assert list(each(str, [1], workers)) == [(1, "done")]


def client(workers=None, error=None):
    """A client of Dask that knows such workers, by state, or whose scheduler does not answer."""

    def sync(asked, callback_timeout):
        if error:
            raise error
        return {"workers": dict(enumerate({"status": state} for state in workers))}

    return SimpleNamespace(sync=sync, scheduler=SimpleNamespace(identity=None))


@pytest.mark.parametrize(
    ("there", "words"),
    [(client(["paused", "running"]), ""), (client([]), "has no workers; wanted 'dask worker tcp://HOST:1' on some"),
     (client(["paused", "paused"]), "2 workers of tcp://HOST:1 take no work, as with too little memory"),
     (client(error=TimeoutError()), "the scheduler tcp://HOST:1 does not answer")],
)  # fmt: skip
def test_what_is_lacking_is_said_by_its_kind(there, words):
    said = cluster._lacks(there, "tcp://HOST:1")
    assert words in said
    assert bool(words) == bool(said)


def test_a_port_that_accepts_and_says_nothing_is_given_up(monkeypatch):
    """As with Dask, whose own limit does not hold there: what connects waits for a first word."""
    monkeypatch.setattr(cluster, "ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"

        def connect(*_, **__):
            with socket.create_connection(mute.getsockname()) as to:
                to.recv(1)

        monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=connect))
        with pytest.raises(
            ValueError, match=rf"the scheduler {address} does not answer within 0\.2 s; wanted one that runs"
        ):
            cluster._client(address)


@pytest.mark.parametrize("patience", ["0", "-1", "nan", "inf", "soon", "1e3", "1" * 400])
def test_a_patience_that_is_none_is_one_line(patience, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(STUDY)
    assert main(["sweep", str(tmp_path / "study.yaml"), "--into", str(tmp_path / "out"), "--patience", patience]) == 2
    assert "wanted seconds from 1 to 1e6" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
