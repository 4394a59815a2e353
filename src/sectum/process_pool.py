"""Pools of worker processes that end with the process that started them, however it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


def process_pool(workers: int, start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> ProcessPoolExecutor:
    """A pool of spawned processes. A caller's program needs the guard ``if __name__ == "__main__":``.

    Spawned, not forked: libraries that learn and compute keep threads, which a fork would break.

    Args:
        workers: processes.
        start: called once in each process, first.
        arguments: for it.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(start, arguments))


def _begin(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    import threading

    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    """Runs in a thread of each worker.

    The pipes of a pool do not tell workers that its owner was killed: each worker holds both ends of them.
    """
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
