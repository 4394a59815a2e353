"""Computes once, on all CPUs, what follows from each network's graph: features, page trace, page faults."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar

from sectum.lab.learners.measured import COMPUTED, MeasuredNetwork, known
from sectum.process_pool import process_pool

S = TypeVar("S")
T = TypeVar("T")

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
) -> Generator[T, None, None]:
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
    with process_pool(min(workers, len(items)), start, arguments) as pool:
        try:
            yield from pool.map(function, items, chunksize=chunk)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def prepare(
    networks: Sequence[MeasuredNetwork],
    *,
    workers: int = 1,
    names: Sequence[str] = COMPUTED,
    progress: Callable[[float], None] = lambda _share: None,
) -> None:
    """Compute each network's features, page trace and page faults under its EPC sizes, and keep them in it.

    Args:
        networks: those that are prepared already cost nothing.
        workers: processes.
        names: what to compute, of `COMPUTED`.
        progress: called with the share that is done.
    """
    missing = [network for network in networks if not all(name in vars(network) for name in names)]
    found = each(partial(_computed, tuple(names)), missing, workers=workers, chunk=_CHUNK)
    for number, (network, values) in enumerate(zip(missing, found, strict=True)):
        vars(network).update(values)
        progress((number + 1) / len(missing))


def _computed(names: tuple[str, ...], network: MeasuredNetwork) -> dict[str, Any]:
    view = known(network)
    if "_counts" in names:
        for run in network.runs:
            view.paging(run.epc_pages)
    # Not the graph: thousands of them would not fit into memory.
    return {name: getattr(view, name) for name in names}
