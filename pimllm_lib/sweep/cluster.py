"""Workers of a Dask cluster: each says with every chunk which sources it has, and nobody waits for them without a word."""

from __future__ import annotations

import logging
import platform
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from pimllm_lib.core.errors import BadInput, clip, note, one_line

#: How long a scheduler may take to answer, and its first worker to be there.
ANSWER_S = 4.0
#: How long a cluster that has worked may be without a worker that can, unless told otherwise.
PATIENCE_S = 60.0
#: When it is said what is waited for; how often it is looked at.
SAY_S, LOOK_S = 10.0, 1.0


class Gone(BadInput):
    """Those who evaluate are gone, or are not to be believed: what came before is kept, and another run goes on."""


@dataclass(frozen=True)
class Signed:
    """Work for a machine of the wanted sources; it gives with what is made which sources it has, and where."""

    work: Callable[[Any], Any]
    version: Callable[[], str]
    wanted: str

    def __call__(self, item: Any) -> tuple[str, str, Any]:
        """Return the sources here, the place, and the work done on an item, None where the sources are others."""
        said = _said(self.version)
        return said, _here(), self.work(item) if said == self.wanted else None


@lru_cache(maxsize=8)  # of the first chunk: what a process has loaded stays, whatever happens to the files
def _said(version: Callable[[], str]) -> str:
    return version()


def _here() -> str:
    """Return the address of this worker, or the name of this machine."""
    try:
        from distributed import get_worker

        return str(get_worker().address)
    except (ImportError, ValueError):
        return platform.node()


@dataclass(eq=False)
class Cluster(Executor):
    """What evaluates chunks on a cluster. give: hands work and an item to it, for a future; lacks: says what is missing for
    it to be done, or nothing; sources: the hash that every worker's must equal; patience_s: how long, in seconds, something
    may be missing.
    """

    give: Callable[..., Future[Any]]
    version: Callable[[], str]
    sources: str
    lacks: Callable[[], str] = str
    patience_s: float = PATIENCE_S
    _missing_s: float = field(default=0.0, init=False)
    _told: bool = field(default=False, init=False)

    def submit(self, work: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Take work on one item. Its result is an error where a worker of other sources gave it."""
        answer: Future[Any] = Future()
        signed = Signed(work, self.version, self.sources)
        self.give(signed, *args).add_done_callback(lambda done: self._pass_on(done, answer))
        return answer

    def _pass_on(self, done: Future[Any], answer: Future[Any]) -> None:
        try:
            said, place, made = done.result()
            if said != self.sources:
                raise foreign(place)
        except (AttributeError, ImportError) as error:  # it does not even know what it is asked
            answer.set_exception(
                Gone(f"a worker cannot load what it is sent ({one_line(str(error))}): it has {_OTHERS}")
            )
        except BaseException as error:
            answer.set_exception(error)
        else:
            answer.set_result(made)

    def came(self) -> None:
        """Take note that a result came: nothing is missing."""
        self._missing_s, self._told = 0.0, False

    def look(self) -> None:
        """Look what is missing, `LOOK_S` after the last result or look; say it after `SAY_S`. Raises Gone in the end."""
        if not (lacking := self.lacks()):
            return
        self._missing_s += LOOK_S
        if self._missing_s >= self.patience_s:
            raise Gone(f"{lacking}, for {self.patience_s:g} s")
        if self._missing_s >= SAY_S and not self._told:
            self._told = True
            note(f"{lacking}; waiting up to {self.patience_s:g} s (--patience)")


_OTHERS = "other sources of pimllm than this machine; wanted the same everywhere"


def foreign(place: str) -> Gone:
    """Return the error for a worker of other sources."""
    return Gone(f"the worker {place} has {_OTHERS}")


@contextmanager
def connected(scheduler: str, version: Callable[[], str], patience_s: float) -> Iterator[Cluster]:
    """Give the workers of a scheduler, all of which say the same of their sources as this machine.

    Raises BadInput when Dask is not installed, and when scheduler or workers do not answer or have other sources.
    """
    client = _client(scheduler)
    try:
        sources = version()
        _require_workers(client, scheduler, version, sources)
        yield Cluster(partial(_given, client), version, sources, lambda: _lacks(client, scheduler), patience_s)
    finally:
        with suppress(Exception):  # a scheduler that is gone is left without a word
            _within(ANSWER_S, client.close, "the scheduler")


def _given(client: Any, work: Callable[[Any], Any], item: Any) -> Future[Any]:
    """Return the future of work on one item.

    The executor that Dask has for this takes a result for an error where its worker is gone before it is fetched.
    """
    answer: Future[Any] = Future()

    async def fetch(result: Any) -> None:
        try:
            answer.set_result(await result)
        except Exception as error:
            answer.set_exception(error)

    client.loop.add_callback(fetch, client.submit(work, item, pure=False, retries=3))
    return answer


def _client(scheduler: str) -> Any:
    if not re.fullmatch(r"(tcp|tls)://([\w.-]+|\[[\da-fA-F:]+\]):\d+", scheduler):
        raise BadInput(f"the scheduler is {clip(scheduler)}; wanted tcp://HOST:PORT or tls://HOST:PORT")
    try:
        import distributed
    except ImportError:
        raise BadInput("Dask is not installed; wanted pip install 'pimllm[distributed]' for --scheduler") from None
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("distributed", "tornado", "asyncio")):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what it would log is said in one line
    dask: Any = distributed
    if scheduler.startswith("tls") and not dask.Security().tls_client_cert:
        what = f"the scheduler {scheduler} wants a certificate, and Dask is told of none"
        raise BadInput(
            f"{what}; wanted its file in DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT, as for the key and the authority"
        )
    silent = f"the scheduler {scheduler} does not answer"
    try:
        return _within(2 * ANSWER_S, lambda: dask.Client(scheduler, timeout=ANSWER_S, set_as_default=False), silent)
    except (OSError, ValueError, TypeError) as error:  # a timeout is an OSError
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{silent} ({type(error).__name__}); wanted one that runs") from None


def _within(limit_s: float, call: Callable[[], Any], silent: str) -> Any:
    """Return what a call returns. Raises BadInput, which starts with what is silent, when that takes too long: Dask's own
    limits do not hold for a port that accepts and says nothing.
    """
    found: Future[Any] = Future()

    def run() -> None:
        try:
            found.set_result(call())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return found.result(limit_s)
    except TimeoutError:
        raise BadInput(f"{silent} within {limit_s:g} s; wanted one that runs") from None


def _require_workers(client: Any, scheduler: str, version: Callable[[], str], sources: str) -> None:
    try:
        client.wait_for_workers(1, timeout=ANSWER_S)
    except TimeoutError:
        raise BadInput(
            _lacks(client, scheduler) or f"the workers of {scheduler} come and go; wanted one that stays"
        ) from None
    said = _within(
        PATIENCE_S, lambda: client.run(version), f"a worker of {scheduler} does not say which sources it has"
    )
    for place in (place for place, theirs in said.items() if theirs != sources):
        raise foreign(place)


def _lacks(client: Any, scheduler: str) -> str:
    """Return what keeps chunks from being evaluated, nothing where some worker takes work."""
    try:
        workers = client.sync(client.scheduler.identity, callback_timeout=ANSWER_S)["workers"].values()
    except (OSError, AttributeError, KeyError, RuntimeError):
        return f"the scheduler {scheduler} does not answer; wanted one that runs"
    if any(said.get("status", "running") == "running" for said in workers):
        return ""
    if workers:
        return f"{len(workers)} workers of {scheduler} take no work, as with too little memory; wanted more of it"
    return f"the scheduler {scheduler} has no workers; wanted 'dask worker {scheduler}' on some machine"
