"""From the parsed file to operators in order: names checked, cycles refused, constant branches taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sectum.errors import ModelMalformed, ShapeInconsistent
from sectum.graph.binding import Rebatch
from sectum.graph.limits import Limits
from sectum.graph.onnx_format import Parser, RawGraph, RawModel, RawNode
from sectum.graph.raw_tensor import DTYPES
from sectum.graph.shapes import Facts, infer
from sectum.graph.site import Shape, Typed


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


class Network:
    """Infers one parsed model at given input shapes."""

    def __init__(self, parser: Parser, raw: RawModel, nodes: list[RawNode]) -> None:
        self._parser = parser
        self._raw = raw
        self._nodes = nodes
        self._limits: Limits = parser.limits

    def run(
        self, types: Mapping[str, Typed], declared: Mapping[str, Typed], rebatch: Rebatch | None = None
    ) -> tuple[Facts, list[RawNode]]:
        """Facts about all tensors, and the operators with branches of constant conditions put in place.

        Raises:
            ModelError: whatever is wrong with the model.
        """
        facts = Facts(declared=declared)
        for tensor in self._raw.graph.initialisers:
            facts.add_tensor(self._parser.buf, tensor.name, tensor, self._limits)
        for name, typed in types.items():
            facts.add(name, typed, False, self._limits)
        result: list[RawNode] = []
        for index, node in enumerate(self._nodes):
            if rebatch is None:
                self._step(node, facts, result)
                continue
            try:
                self._step(rebatch.adjust(index, node, facts, self._limits), facts, result)
            except ShapeInconsistent as problem:
                raise ShapeInconsistent(
                    f"{rebatch.complaint()}: {problem}. Export the model with a symbolic batch"
                ) from None
        return facts, result

    def _step(self, node: RawNode, facts: Facts, result: list[RawNode]) -> None:
        if not node.graphs:
            if node.op_type in ("If", "Loop", "Scan") and not node.domain:
                raise ModelMalformed(f"{node.op_type} '{node.name}' lacks its subgraphs: export the model again")
            infer(node, facts, self._raw.opsets, self._parser.buf, self._limits)
            result.append(node)
            return
        if node.op_type == "If" and not node.domain:
            condition = facts.values.get(node.inputs[0]) if node.inputs else None
            branches = [node.graphs.get("then_branch"), node.graphs.get("else_branch")]
            if condition is not None and condition.size == 1:
                branch = branches[0 if condition.item() else 1]
                if branch is None:
                    raise ModelMalformed(f"If '{node.name}' lacks a branch: export the model again")
                for inner in self._inlined(node, branch, node.outputs, facts):
                    self._step(inner, facts, result)
                return
        self._control_flow(node, facts)
        result.append(replace(node, inputs=node.inputs + captures(node)))

    def _control_flow(self, node: RawNode, facts: Facts) -> None:
        """Find the output types of an operator whose subgraphs do not become part of the graph."""
        found: list[Typed | None] = [facts.declared.get(name) for name in node.outputs]
        if None in found and node.op_type == "If" and not node.domain:
            found = self._larger_branch(node, facts)
        elif None in found and node.op_type == "Loop" and not node.domain:
            # What is carried round the loop comes out as it went in; what is collected is stated or unknown.
            carried = [facts.types.get(name) for name in node.inputs[2:]]
            found = [f or (carried[i] if i < len(carried) else None) for i, f in enumerate(found)]
        for name, typed in zip(node.outputs, found, strict=True):
            if not name:
                continue
            if typed is None:
                raise ShapeInconsistent(
                    f"the shape of tensor '{name}', made by the control-flow operator '{node.name}' "
                    f"({node.op_type}), cannot be found: state it in the file (value_info)"
                )
            facts.add(name, typed, False, self._limits)

    def _larger_branch(self, node: RawNode, facts: Facts) -> list[Typed | None]:
        best: list[Typed | None] = [None] * len(node.outputs)
        for key, branch in node.graphs.items():
            names = [f"{node.name or node.outputs[0]}/{key}/{i}" for i in range(len(node.outputs))]
            for inner in self._inlined(node, branch, names, facts, key):
                self._step(inner, facts, [])
            for i, name in enumerate(names):
                typed = facts.types[name]
                known = best[i]
                if known is None or _elements(typed[0]) > _elements(known[0]):
                    best[i] = typed
        return best

    def _inlined(
        self, node: RawNode, branch: RawGraph, outputs: list[str], facts: Facts, key: str = ""
    ) -> list[RawNode]:
        """Branch's operators under names that cannot clash, the last ones making ``outputs``."""
        if len(branch.outputs) != len(outputs) or branch.inputs:
            raise ModelMalformed(f"the branches of If '{node.name}' do not make its outputs: export the model again")
        prefix = f"{node.name or node.outputs[0]}/{key}/"
        inner = {t.name for t in branch.initialisers}
        for tensor in branch.initialisers:
            facts.add_tensor(self._parser.buf, prefix + tensor.name, tensor, self._limits)
        ordered = in_order_inside(branch)
        for sub in ordered:
            inner.update(name for name in sub.outputs if name)

        def name_of(name: str) -> str:
            return prefix + name if name in inner else name

        renamed = [_rename(sub, inner, prefix) for sub in ordered]
        for made, (name, _) in zip(outputs, branch.outputs, strict=True):
            renamed.append(RawNode("Identity", "", made, [name_of(name)], [made], {}, {}, {}, (0, 0)))
        return renamed


def in_order_inside(branch: RawGraph) -> list[RawNode]:
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


def _rename(node: RawNode, inner: set[str], prefix: str) -> RawNode:
    graphs = {}
    for key, graph in node.graphs.items():
        own = {t.name for t in graph.initialisers} | {name for name, _ in graph.inputs}
        own.update(name for sub in graph.nodes for name in sub.outputs)
        visible = inner - own
        graphs[key] = RawGraph(
            graph.name,
            [_rename(sub, visible, prefix) for sub in graph.nodes],
            graph.initialisers,
            graph.inputs,
            [(prefix + name if name in visible else name, span) for name, span in graph.outputs],
            graph.value_infos,
        )
    return replace(
        node,
        name=prefix + node.name,
        inputs=[prefix + name if name in inner else name for name in node.inputs],
        outputs=[prefix + name if name in inner else name for name in node.outputs],
        graphs=graphs,
    )


def _elements(shape: Shape) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


class Declared(Mapping[str, Typed]):
    """Shapes that the file states for tensors inside it, parsed when first asked for."""

    def __init__(self, parser: Parser, graph: RawGraph, symbols: Mapping[str, int]) -> None:
        self._parser, self._graph, self._symbols = parser, graph, symbols
        self._types: dict[str, Typed] | None = None

    def _parsed(self) -> dict[str, Typed]:
        if self._types is None:
            self._types = {}
            for span in (*self._graph.value_infos, *(span for _, span in self._graph.outputs)):
                info = self._parser.value_info(span)
                dims = [self._symbols.get(d, -1) if isinstance(d, str) else d for d in info.shape or ()]
                sizes = tuple(d for d in dims if d is not None and d >= 0)
                if info.shape is not None and len(sizes) == len(dims) and info.elem_type in DTYPES:
                    self._types[info.name] = (sizes, DTYPES[info.elem_type])
        return self._types

    def __getitem__(self, name: str) -> Typed:
        return self._parsed()[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())
