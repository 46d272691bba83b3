"""Several processes of this machine that work for this one, and end with it, however it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any

from pimllm_lib.core import processes


class Pool(ProcessPoolExecutor):
    """Processes of this machine, started anew, which end with this one. Work that waits is given up where one fails."""

    def __init__(self, jobs: int) -> None:
        """Get ready to start so many processes."""
        super().__init__(jobs, mp_context=get_context("spawn"), initializer=_begin)

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Take work, and start processes for it: interrupts wait, as a process has no word for one before it is ready."""
        with _interrupts_wait():
            return super().submit(work, *args, **options)

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way alone."""
        self.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Make a process of a pool end with its parent; an interrupt from the terminal, which all get, is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda *_: processes.end(1))
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """Wait for the parent to be gone, then end."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        processes.end(1)
