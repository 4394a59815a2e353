"""What the runtime allocates for a stage that is not divided by rows; each stage of a graph is planned once."""

from __future__ import annotations

from dataclasses import replace

from sectum.ort.memory_plan import Storage, memory_plan
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.order import in_runtime_order
from sectum.plan.rows import Division
from sectum.plan.strip_memory import StripMemory, strip_memory


class StageMemory:
    """Memory that stages of one graph take. The same stages come up in many plans.

    Args:
        graph: what the runtime executes, in the order of the plans.
        threads: that compute.
    """

    def __init__(self, graph: OptimizedGraph, threads: int) -> None:
        self.graph, self._threads = graph, threads
        self._readers = {name: place for place, op in enumerate(graph.operators) for name in op.inputs if name}
        self._readers |= dict.fromkeys(graph.outputs, len(graph.operators))
        self._scratch: list[int | None] = [None] * len(graph.operators)
        self._of_operators: dict[tuple[int, int], tuple[int, dict[str, int]]] = {}
        self._of_divisions: dict[tuple[int, int, int], StripMemory] = {}

    def scratch_bytes(self, first: int, last: int) -> int:
        """The most that a kernel takes while it runs, among the operators from one position to another."""
        return max(self._scratch_of(place) for place in range(first, last + 1))

    def _scratch_of(self, place: int) -> int:
        known = self._scratch[place]
        if known is None:
            op = self.graph.operators[place]
            known = self._scratch[place] = sum(describe(op).scratch(op, self.graph, self._threads))
        return known

    def of_division(self, division: Division) -> StripMemory:
        """Memory of a division's strips."""
        key = (division.first, len(division.operators), division.rows)
        if key not in self._of_divisions:
            self._of_divisions[key] = strip_memory(division, self._threads)
        return self._of_divisions[key]

    def of_operators(self, first: int, last: int) -> tuple[int, dict[str, int]]:
        """Bytes of the inner activations of whole operators, and of each value that they hand on."""
        key = (first, last)
        if key not in self._of_operators:
            self._of_operators[key] = self._planned(first, last)
        return self._of_operators[key]

    def _planned(self, first: int, last: int) -> tuple[int, dict[str, int]]:
        graph = self.graph
        operators = in_runtime_order(graph.operators[first : last + 1])
        made = [name for op in operators for name in op.outputs if name]
        handed_on = tuple(name for name in made if self._readers.get(name, -1) > last)
        read = dict.fromkeys(name for op in operators for name in op.inputs if name and name not in graph.weight_names)
        inputs = tuple(name for name in read if name not in made)
        if not inputs and graph.inputs:
            inputs = graph.inputs[:1]
        used = {name for op in operators for name in (*op.inputs, *op.outputs) if name} | set(inputs)
        part = replace(
            graph,
            operators=operators,
            tensors={name: graph.tensors[name] for name in used},
            inputs=inputs,
            outputs=handed_on or (made[-1],),
            carried_out=((),) * len(operators),
            layer_names=("",) * len(operators),
        )
        plan = memory_plan(part)
        makes = {name: graph.n_bytes[plan.placements[name].buffer] for name in handed_on
                 if plan.placements[name].storage is Storage.OUTPUT}  # fmt: skip
        return plan.block_bytes, makes | {name: 0 for name in handed_on if name not in makes}
