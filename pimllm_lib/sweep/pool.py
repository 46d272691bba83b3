"""Who does the work of a sweep: this process, several of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import islice
from typing import Any

from pimllm_lib.core.pools import Pool
from pimllm_lib.sweep import cluster
from pimllm_lib.sweep.cluster import Cluster, Gone


@contextmanager
def executor(
    jobs: int = 1, scheduler: str | None = None, version: Callable[[], str] = str,
    patience_s: float = cluster.PATIENCE_S,
) -> Iterator[Executor | None]:  # fmt: skip
    """Give what evaluates chunks: None for this process, else processes of this machine or the workers of a Dask cluster.

    version: what says of a machine which sources it has; every worker must say the same as this one. patience_s: how long,
    in seconds, a cluster may have no worker that works.
    Raises BadInput when Dask is not installed, and when scheduler or workers do not answer or have other sources.
    """
    if scheduler is not None:
        with cluster.connected(scheduler, version, patience_s) as workers:
            yield workers
    elif jobs > 1:
        with Pool(jobs) as pool:
            yield pool
    else:
        yield None


def each(
    work: Callable[[Any], Any], items: Iterable[Any], pool: Executor | None, *, window: int = 64
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, work(item)) as results come, at most `window` under way. Raises Gone when those who work are gone."""
    if pool is None:
        yield from ((item, work(item)) for item in items)
        return
    waiting = iter(items)
    running = {pool.submit(work, item): item for item in islice(waiting, window)}
    while running:
        done = sorted(_done(running, pool), key=_failed)  # what others made is kept before one says why it did not
        for future in done:
            yield running.pop(future), _result(future)
        running |= {pool.submit(work, item): item for item in islice(waiting, window - len(running))}


def _done(running: Iterable[Future[Any]], pool: Executor) -> set[Future[Any]]:
    """Return what is done, at least one; of a cluster, no longer than it has somebody to wait for."""
    if not isinstance(pool, Cluster):
        return futures.wait(running, return_when=futures.FIRST_COMPLETED).done
    while not (done := futures.wait(running, cluster.LOOK_S, return_when=futures.FIRST_COMPLETED).done):
        pool.look()
    pool.came()
    return done


def _failed(future: Future[Any]) -> bool:
    return future.cancelled() or future.exception() is not None


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except Exception as error:
        gone = isinstance(error, futures.BrokenExecutor | futures.CancelledError)
        if not gone and not type(error).__module__.startswith("distributed"):
            raise
        raise Gone(f"those who evaluate are gone ({type(error).__name__})") from None
