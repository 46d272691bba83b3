"""Who does the work of a sweep: this process, several of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any

from pimllm_lib.core.errors import BadInput, clip

#: How long a scheduler may take to answer, and its first worker to be there.
ANSWER_S = 4


@contextmanager
def executor(
    jobs: int = 1, scheduler: str | None = None, version: Callable[[], str] = str
) -> Iterator[Executor | None]:
    """Give what evaluates chunks: None for this process, else processes of this machine or the workers of a Dask cluster.

    version: what says of a machine which sources it has; every worker must say the same as this one.
    Raises BadInput when Dask is not installed, and when scheduler or workers do not answer or have other sources.
    """
    if scheduler is not None:
        with _cluster(scheduler) as client:
            _require_workers(client, scheduler, version)
            yield client.get_executor(pure=False, retries=3)
    elif jobs > 1:
        with futures.ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield pool
    else:
        yield None


def _cluster(scheduler: str) -> Any:
    if not re.fullmatch(r"(tcp|tls)://([\w.-]+|\[[\da-fA-F:]+\]):\d+", scheduler):
        raise BadInput(f"the scheduler is {clip(scheduler)}; wanted tcp://HOST:PORT")
    try:
        import distributed
    except ImportError:
        raise BadInput("Dask is not installed; wanted pip install 'pimllm[distributed]' for --scheduler") from None
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("distributed", "tornado", "asyncio")):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what it would log, `_result` says in one line
    try:
        client: Any = distributed.Client
        return client(scheduler, timeout=ANSWER_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # a timeout is an OSError
        what = f"the scheduler {scheduler} does not answer ({type(error).__name__})"
        raise BadInput(f"{what}; wanted one that runs") from None


def _require_workers(client: Any, scheduler: str, version: Callable[[], str]) -> None:
    try:
        client.wait_for_workers(1, timeout=ANSWER_S)
    except TimeoutError:
        wanted = f"wanted 'dask worker {scheduler}' on some machine"
        raise BadInput(f"the scheduler {scheduler} has no workers; {wanted}") from None
    mine, theirs = version(), client.run(version)
    for other in (address for address, said in theirs.items() if said != mine):
        raise BadInput(f"the worker {other} has other sources of pimllm than this machine; wanted the same everywhere")


def each(
    work: Callable[[Any], Any], items: Iterable[Any], pool: Executor | None, *, window: int = 64
) -> Iterator[tuple[Any, Any]]:
    """Yield (item, work(item)) as results come, at most `window` under way. Raises BadInput when those who work are gone."""
    if pool is None:
        yield from ((item, work(item)) for item in items)
        return
    waiting = iter(items)
    running = {pool.submit(work, item): item for item in islice(waiting, window)}
    while running:
        done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), _result(future)
        running |= {pool.submit(work, item): item for item in islice(waiting, window - len(running))}


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except Exception as error:
        gone = isinstance(error, futures.BrokenExecutor | futures.CancelledError)
        if not gone and not type(error).__module__.startswith("distributed"):
            raise
        what = f"those who evaluate are gone ({type(error).__name__})"
    raise BadInput(f"{what}; what is done is on disk, and another run goes on from there")
