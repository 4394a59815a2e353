"""What each operator of the runtime is in the model's own words.

The runtime fuses operators and renames them, but most tensors between them keep their names or get names made from
them (``sectum.ort.workgraph``). So in the order of execution each operator of the runtime carries out what leads in
the model to the tensor that it makes and was not carried out before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.graph.ir import Graph, Operator

_CONVERSIONS = frozenset({"ReorderInput", "ReorderOutput"})


@dataclass(frozen=True, slots=True)
class Origin:
    """The model's operators behind one operator of the runtime.

    Attributes:
        name: of the main one. What the runtime adds, such as a conversion between layouts, goes by the operator whose
            result it handles.
        types: of all that are carried out, in the model's order; empty for what the runtime adds.
    """

    name: str
    types: tuple[str, ...]


def origins(model: Graph, runtime: Graph) -> list[Origin]:
    """Find the model's operators behind each operator of the runtime; each of them is behind one at most."""
    made_by = {
        name: index
        for index, op in enumerate(model.operators)
        if not model.is_constant(op)
        for name in op.outputs
        if name
    }
    by_name = {op.name: index for index, op in enumerate(model.operators)}
    owner: dict[int, int] = {}
    for place, op in enumerate(runtime.operators):
        end = made_by.get(_original(op.outputs[0], model), by_name.get(op.name))
        if end is None or op.type in _CONVERSIONS:
            continue
        claimed = sorted(_leading_to(end, model, made_by, owner))
        main = next((index for index in claimed if model.operators[index].type == plain_type(op.type)), None)
        for index in claimed:
            before = [owner[made_by[item]] for item in model.operators[index].inputs if made_by.get(item) in owner]
            # What feeds the main operator was fused into the one before, whose result then kept its earlier name.
            owner[index] = max(before) if main is not None and index < main and before else place
    carried_out: list[list[Operator]] = [[] for _ in runtime.operators]
    for index in sorted(owner):
        carried_out[owner[index]].append(model.operators[index])
    return [
        Origin(_name(op, behind, model, made_by), tuple(item.type for item in behind))
        for op, behind in zip(runtime.operators, carried_out, strict=True)
    ]


def plain_type(qualified_type: str) -> str:
    """The type of an operator of the runtime without its domain, and without saying that it is fused."""
    return qualified_type.rpartition(":")[2].removeprefix("Fused")


def _leading_to(end: int, model: Graph, made_by: Mapping[str, int], owner: Mapping[int, int]) -> set[int]:
    """The operators that lead to the result of ``end``, back to those that have an owner."""
    found: set[int] = set()
    ahead = [end]
    while ahead:
        index = ahead.pop()
        if index not in owner and index not in found:
            found.add(index)
            ahead += [made_by[item] for item in model.operators[index].inputs if item in made_by]
    return found


def _name(op: Operator, behind: list[Operator], model: Graph, made_by: Mapping[str, int]) -> str:
    if behind:
        return next((item for item in behind if item.type == plain_type(op.type)), behind[0]).name
    for tensor in (op.outputs[0], op.inputs[0] if op.inputs else ""):
        original = _original(tensor, model)
        if original in made_by:
            return model.operators[made_by[original]].name
        if original in model.inputs:
            return original
    return op.name


def _original(name: str, model: Graph) -> str:
    """The model's tensor that a tensor of the runtime was named after; ``""`` if there is none."""
    while name and name not in model.tensors:
        name = name.rpartition("~")[0]
    return name
