"""The order of a graph's operators: names checked, cycles refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sectum.errors import ModelMalformed
from sectum.graph.onnx_format import RawGraph, RawNode


def captures(node: RawNode) -> list[str]:
    """Names from outside that the operator's subgraphs read, each once."""
    found: dict[str, None] = {}
    for graph in node.graphs.values():
        inner = {t.name for t in graph.initialisers} | {name for name, _ in graph.inputs}
        for sub in graph.nodes:
            for name in (*sub.inputs, *(captures(sub) if sub.graphs else ())):
                if name and name not in inner:
                    found[name] = None
            inner.update(sub.outputs)
        found.update((name, None) for name, _ in graph.outputs if name not in inner)
    return list(found)


def operator_types(nodes: Iterable[RawNode]) -> dict[tuple[str, str], RawNode]:
    """Domains and types of the operators, those of subgraphs too, each with the first operator of the type."""
    found: dict[tuple[str, str], RawNode] = {}
    waiting = list(nodes)[::-1]
    while waiting:
        node = waiting.pop()
        found.setdefault((node.domain, node.op_type), node)
        waiting += [sub for graph in node.graphs.values() for sub in graph.nodes]
    return found


def value_sources(nodes: Iterable[RawNode], tensor: str) -> set[str]:
    """Tensors on whose values those of a tensor depend, itself included. Shapes of tensors are no values.

    Args:
        nodes: operators in an order in which they can run.
        tensor: the name.
    """
    found = {tensor}
    for node in reversed(list(nodes)):
        if node.op_type not in ("Shape", "Size") and not found.isdisjoint(node.outputs):
            found.update(filter(None, (*node.inputs, *(captures(node) if node.graphs else ()))))
    return found


def in_order(graph: RawGraph, inputs: Iterable[str]) -> list[RawNode]:
    """Graph's operators in an order in which they can run: the file's own where it is one.

    Raises:
        ModelMalformed: a name defined twice or never, or a cycle.
    """
    defined = {t.name for t in graph.initialisers}
    if len(defined) != len(graph.initialisers):
        raise ModelMalformed("two initialisers have the same name: export the model again")
    defined.update(inputs)
    makers: dict[str, int] = {}
    reads: list[list[str]] = []
    for index, node in enumerate(graph.nodes):
        reads.append(node.inputs + captures(node) if node.graphs else node.inputs)
        for name in node.outputs:
            if name and (name in makers or name in defined):
                raise ModelMalformed(
                    f"tensor '{name}' is defined twice, the second time by operator '{node.name}' "
                    f"({node.op_type}): export the model again"
                )
            if name:
                makers[name] = index
    if "" in defined:
        raise ModelMalformed("an initialiser or input has no name: export the model again")
    for name, _ in graph.outputs:
        if name not in makers and name not in defined:
            raise ModelMalformed(f"the graph's output '{name}' is defined nowhere: export the model again")
    ready = defined
    for index, node in enumerate(graph.nodes):
        if any(name and name not in ready for name in reads[index]):
            return _sorted(graph.nodes, reads, makers, {t.name for t in graph.initialisers} | set(inputs))
        ready.update(node.outputs)
    return graph.nodes


def _sorted(
    nodes: list[RawNode], reads: list[list[str]], makers: Mapping[str, int], defined: set[str]
) -> list[RawNode]:
    waiting: list[int] = []
    readers: dict[int, list[int]] = {}
    for index, names in enumerate(reads):
        sources = set()
        for name in names:
            if not name or name in defined:
                continue
            if name not in makers:
                raise ModelMalformed(
                    f"operator '{nodes[index].name}' ({nodes[index].op_type}) reads '{name}', which nothing "
                    "in the file defines: export the model again"
                )
            sources.add(makers[name])
        waiting.append(len(sources))
        for source in sources:
            readers.setdefault(source, []).append(index)
    order = [index for index, n in enumerate(waiting) if not n]
    for index in order:  # grows while it is walked
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                order.append(reader)
    if len(order) < len(nodes):
        stuck = nodes[next(index for index, n in enumerate(waiting) if n)]
        raise ModelMalformed(
            f"the graph has a cycle; operator '{stuck.name}' ({stuck.op_type}) waits for itself: export the model again"
        )
    return [nodes[index] for index in order]


def subgraph_operators(branch: RawGraph) -> list[RawNode]:
    """Operators of a subgraph, which ONNX requires to be in order, with no name defined twice.

    Raises:
        ModelMalformed: a name is defined twice.
    """
    seen = {t.name for t in branch.initialisers}
    for node in branch.nodes:
        for name in node.outputs:
            if name and name in seen:
                raise ModelMalformed(f"tensor '{name}' is defined twice in a subgraph: export the model again")
            seen.add(name)
    return branch.nodes
