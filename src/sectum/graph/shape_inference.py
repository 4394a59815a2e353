"""Shapes of a whole graph at given input shapes; branches whose condition is known are put in place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from sectum.errors import ModelMalformed, ShapeInconsistent
from sectum.graph.inference_context import Constant, ShapeUnknown, Typed
from sectum.graph.onnx_format import Parser, RawGraph, RawModel, RawNode
from sectum.graph.operator_order import captures, subgraph_operators
from sectum.graph.rebatch import Rebatch
from sectum.graph.shapes import Facts, StatedType, infer, nothing_stated


class ShapeInference:
    """Infers the shapes of one parsed model, as often as it is bound.

    Args:
        parser: the one that parsed the model.
        raw: the model.
        nodes: its operators, in an order in which they can run.
    """

    def __init__(self, parser: Parser, raw: RawModel, nodes: list[RawNode]) -> None:
        self._buf, self._limits = parser.buf, parser.limits
        self._opsets = raw.opsets
        self._nodes = nodes
        self._initialisers = Facts()
        for tensor in raw.graph.initialisers:
            self._initialisers.add_tensor(self._buf, tensor.name, tensor, self._limits)

    def run(
        self,
        inputs: Mapping[str, Typed],
        stated: StatedType = nothing_stated,
        rebatch: Rebatch | None = None,
        values: Mapping[str, Constant] = MappingProxyType({}),
        branches: Mapping[str, bool] = MappingProxyType({}),
    ) -> tuple[Facts, list[RawNode]]:
        """Facts about all tensors, and the operators with branches of known conditions put in place.

        Args:
            inputs: shape and type of each input of the graph.
            stated: what the file states about a tensor.
            rebatch: changes shape constants on the way.
            values: values of inputs that the caller gave.
            branches: conditions to assume, by the first output of the If, where values do not decide them.

        Raises:
            ModelError: whatever is wrong with the model.
        """
        facts = self._initialisers.copy(stated)
        for name, typed in inputs.items():
            facts.add(name, typed, False, self._limits)
        for name, value in values.items():
            facts.give(name, value)
        facts.assumed = branches
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
            infer(node, facts, self._opsets, self._buf, self._limits)
            result.append(node)
            return
        if node.op_type == "If" and not node.domain:
            condition = self._condition(node, facts)
            if condition is not None:
                branch = node.graphs.get("then_branch" if condition else "else_branch")
                if branch is None:
                    raise ModelMalformed(f"If '{node.name}' lacks a branch: export the model again")
                for inner in self._inlined(node, branch, node.outputs, facts):
                    self._step(inner, facts, result)
                return
        self._control_flow(node, facts)
        result.append(replace(node, inputs=node.inputs + captures(node)))

    def _condition(self, node: RawNode, facts: Facts) -> bool | None:
        """Whether an If takes its first branch; None where the values of the network's input decide."""
        name = node.inputs[0] if node.inputs else ""
        value = facts.values.get(name)
        known = bool(value.item()) if value is not None and value.size == 1 else None
        if known is None:
            known = facts.assumed.get(_first_output(node))
        if known is not None and name not in facts.constants:
            facts.taken[node.name or _first_output(node)] = "then" if known else "else"
        return known

    def _control_flow(self, node: RawNode, facts: Facts) -> None:
        """Find the output types of an operator whose subgraphs do not become part of the graph."""
        found: list[Typed | None] = [facts.stated(name) for name in node.outputs]
        if None in found and node.op_type == "If" and not node.domain:
            found = self._larger_branch(node, facts)
        elif None in found and node.op_type == "Loop" and not node.domain:
            # Loop-carried values keep their shapes. Shapes of scan outputs are stated in the file, or unknown.
            carried = [facts.types.get(name) for name in node.inputs[2:]]
            found = [f or (carried[i] if i < len(carried) else None) for i, f in enumerate(found)]
        for name, typed in zip(node.outputs, found, strict=True):
            if not name:
                continue
            if typed is None:
                raise ShapeUnknown(
                    f"the shape of tensor '{name}', made by the control-flow operator '{node.name}' "
                    f"({node.op_type}), cannot be found: state it in the file (value_info)",
                    (node.domain, node.op_type),
                )
            facts.add(name, typed, False, self._limits)

    def _larger_branch(self, node: RawNode, facts: Facts) -> list[Typed | None]:
        """Types of the outputs by the branch that makes more; one that does not fit the shapes is no choice."""
        best: list[Typed | None] = [None] * len(node.outputs)
        problem: ShapeInconsistent | None = None
        for key, branch in node.graphs.items():
            names = [f"{_first_output(node)}/{key}/{i}" for i in range(len(node.outputs))]
            try:
                for inner in self._inlined(node, branch, names, facts, key):
                    self._step(inner, facts, [])
            except ShapeInconsistent as error:
                problem = error
                continue
            for i, name in enumerate(names):
                typed = facts.types[name]
                known = best[i]
                if known is None or math.prod(typed[0]) > math.prod(known[0]):
                    best[i] = typed
        if problem is not None and None in best:
            raise problem
        return best

    def _inlined(
        self, node: RawNode, branch: RawGraph, outputs: list[str], facts: Facts, key: str = ""
    ) -> list[RawNode]:
        """Branch's operators under names that cannot clash, the last ones making ``outputs``."""
        if len(branch.outputs) != len(outputs) or branch.inputs:
            raise ModelMalformed(f"the branches of If '{node.name}' do not make its outputs: export the model again")
        prefix = f"{_first_output(node)}/{key}/"  # operators may share a name, tensors do not
        inner = {t.name for t in branch.initialisers}
        for tensor in branch.initialisers:
            facts.add_tensor(self._buf, prefix + tensor.name, tensor, self._limits)
        ordered = subgraph_operators(branch)
        for sub in ordered:
            inner.update(name for name in sub.outputs if name)

        def name_of(name: str) -> str:
            return prefix + name if name in inner else name

        renamed = [_rename(sub, inner, prefix) for sub in ordered]
        for made, (name, _) in zip(outputs, branch.outputs, strict=True):
            renamed.append(RawNode("Identity", "", made, [name_of(name)], [made], {}, {}, {}, (0, 0)))
        return renamed


def _first_output(node: RawNode) -> str:
    return next(filter(None, node.outputs), "")


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
        name=prefix + node.name if node.name else "",
        inputs=[prefix + name if name in inner else name for name in node.inputs],
        outputs=[prefix + name if name in inner else name for name in node.outputs],
        graphs=graphs,
    )
