"""The order of nodes in a stage's model, which decides the order in which the runtime executes them.

The runtime walks from what nobody reads towards the inputs. Of several nodes it first enters the one that is last in
the file. So what is to be executed first stands last among what could stand there.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush


def file_order(reads: Sequence[Sequence[int]]) -> list[int]:
    """Order the nodes of a file such that the runtime executes them as they are given, where it can.

    Args:
        reads: for each node, in an order in which they can run, the nodes whose results it reads.
    """
    waiting = [len(set(sources)) for sources in reads]
    readers: list[list[int]] = [[] for _ in reads]
    for node, sources in enumerate(reads):
        for source in set(sources):
            readers[source].append(node)
    ready = [-node for node, count in enumerate(waiting) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        node = -heappop(ready)
        order.append(node)
        for reader in readers[node]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heappush(ready, -reader)
    return order


def runtime_order(reads: Sequence[Sequence[int]]) -> list[int]:
    """The order in which the runtime executes nodes that stand in a file in their `file_order`."""
    order = file_order(reads)
    place = {node: index for index, node in enumerate(order)}
    read = {source for sources in reads for source in sources}
    stack = [node for node in order if node not in read]
    entered: set[int] = set()
    left: dict[int, None] = {}
    while stack:
        node = stack[-1]
        if node in entered:
            stack.pop()
            left.setdefault(node)
            continue
        entered.add(node)
        stack += sorted((source for source in set(reads[node]) if source not in entered), key=place.__getitem__)
    return list(left)
