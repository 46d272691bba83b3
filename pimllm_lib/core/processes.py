"""Processes that end together: with the one that started them, however it ends, and without leaving anything.

A run that is told to end kills what it started, removes its temporary folders and exits. One that is killed can do neither:
the processes of its pools see that their parent is gone and end in the same way, kernels look for their parent once a
second, and folders wait for the next run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

#: What ends a run, as far as the system has it, and in which word it says so.
_SAID = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "its terminal is gone"}
_ENDS = {int(getattr(signal, name)): said for name, said in _SAID.items() if hasattr(signal, name)}
#: How long a process that is halted, or killed, may take to be so.
_PATIENCE_S = 0.5


def heed() -> None:
    """Let signals end this process: at once, with all it started, and with the status that shells give for them.

    What a run was started with ignoring, as by nohup, it goes on ignoring.
    """
    for number in _ENDS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _told)


def _told(number: int, _: object) -> None:
    for other in _ENDS:
        signal.signal(other, signal.SIG_IGN)
    with suppress(OSError):
        os.write(2, f"pimllm: {_ENDS[number]}\n".encode())
    end(128 + number)


def end(status: int) -> None:
    """Leave this process, whatever it does: no code of it runs any more that could go on, or wait for a child."""
    try:
        from pimllm_lib.core import scratch  # what makes no folders starts without it

        _kill_children()
        scratch.clear()
    finally:
        os._exit(status)


def _kill_children() -> None:
    """Kill all processes below this one: halted first, until none is new, so that none starts another meanwhile."""
    import psutil

    me, found = psutil.Process(), set[Any]()
    ours = me.children()
    while new := set(me.children(recursive=True)) - found:
        found |= new
        for one in new:
            with suppress(psutil.Error):
                one.suspend()
        _wait(new, psutil.STATUS_STOPPED)  # one that was starting another has by then done so
    for one in found:
        with suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(ours, timeout=_PATIENCE_S)  # with all their threads, which may hold folders
    _wait(found, "")


def _wait(processes: Iterable[Any], wanted: str) -> None:
    """Wait until processes have a status, or are gone."""
    end = time.monotonic() + _PATIENCE_S
    while any(_status(one) not in ("", wanted) for one in processes) and time.monotonic() < end:
        time.sleep(0.002)


def _status(process: Any) -> str:
    """Return the status of a process, nothing where it has ended."""
    import psutil

    with suppress(psutil.Error):
        status = process.status()
        return "" if status == psutil.STATUS_ZOMBIE else str(status)
    return ""
