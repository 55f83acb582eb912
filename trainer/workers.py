"""Processes that work for a command on this machine, and end when it does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess


def worker_pool(workers: int, prepare: Callable[..., None] | None = None, *given: object) -> ProcessPoolExecutor:
    """A pool of spawned processes, each of which calls `prepare(*given)` first.

    Ctrl-C ends them without a word, after the command has heard it, and so does the command's death by whatever signal:
    a worker that waits for work would not see it, since the other workers hold its pipe open. Every file they write
    must be whole at any moment.
    """
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (prepare, given))


@contextlib.contextmanager
def ended_at_once(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """The pool for a block; its workers are ended, and not waited for, when the block fails."""
    with pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _begin(prepare: Callable[..., None] | None, given: tuple[object, ...]) -> None:
    follow_parent()
    if prepare:
        prepare(*given)


def follow_parent() -> None:
    """In a spawned process: end without a word with Ctrl-C, and with the process that started this one."""

    def end(*_: object) -> None:
        time.sleep(0.5)
        os._exit(130)

    def end_with(parent: BaseProcess | None) -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    signal.signal(signal.SIGINT, end)
    threading.Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
