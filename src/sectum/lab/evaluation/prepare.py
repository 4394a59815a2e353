"""What is computed from each network's graph once, on all CPUs: features, page trace, page faults."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from sectum.lab.evaluation.learner import known
from sectum.lab.training.measured import MeasuredNetwork

S = TypeVar("S")
T = TypeVar("T")

_KEPT = ("features", "trace", "_counts")
_CHUNK = 16


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def each(
    function: Callable[[S], T],
    items: Sequence[S],
    *,
    workers: int,
    chunk: int = 1,
    start: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[T]:
    """Results in the order of the items, from several processes, or from this one if ``workers`` is 1.

    Args:
        function: of a module, so that another process finds it.
        items: one call each.
        workers: processes.
        chunk: items that are sent at once.
        start: called once in each process, first.
        arguments: for it.
    """
    if workers == 1 or len(items) < 2:
        if start is not None:
            start(*arguments)
        yield from map(function, items)
        return
    # Spawned, not forked: the libraries that learn keep threads, which a fork would break.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(items)), mp_context=context, initializer=start, initargs=arguments
    ) as pool:
        try:
            yield from pool.map(function, items, chunksize=chunk)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def prepare(
    networks: Sequence[MeasuredNetwork],
    *,
    workers: int = 1,
    progress: Callable[[float], None] = lambda _share: None,
) -> None:
    """Compute each network's features, page trace and page faults under its sizes of EPC, and keep them in it.

    Args:
        networks: those that are prepared already cost nothing.
        workers: processes.
        progress: told the share that is done.
    """
    missing = [network for network in networks if not all(name in vars(network) for name in _KEPT)]
    found = each(_computed, missing, workers=workers, chunk=_CHUNK)
    for number, (network, values) in enumerate(zip(missing, found, strict=True)):
        vars(network).update(values)
        progress((number + 1) / len(missing))


def _computed(network: MeasuredNetwork) -> dict[str, Any]:
    view = known(network)
    for run in network.runs:
        view.paging(run.epc_pages)
    # The graph is let go: thousands of them would not fit into memory.
    return {"features": view.features, "trace": view.trace, "_counts": view._counts}
