"""How long each tensor is alive: from the operator that writes it to the last one that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.graph.ir import Dataflow


@dataclass(frozen=True)
class Lifetimes:
    """Lifetimes of activations and graph inputs. A *place* is a position in the order of execution.

    Attributes:
        written: place of the operator that writes each activation; graph inputs have none.
        last_read: place of the last operator that reads each tensor; absent where none does.
        readers: input slots that read each tensor; absent where none does.
        end: last place at which each tensor is alive. Graph outputs, and graph inputs that nobody reads, live to the
            last operator.
        n_bytes: size of each tensor.
        places: operators.
    """

    written: Mapping[str, int]
    last_read: Mapping[str, int]
    readers: Mapping[str, int]
    end: Mapping[str, int]
    n_bytes: Mapping[str, int]
    places: int

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """Sum of the tensors alive at each place, shape ``(operators,)``."""
        change = [0] * (self.places + 1)
        for name, last in self.end.items():
            change[self.written.get(name, 0)] += self.n_bytes[name]
            change[last + 1] -= self.n_bytes[name]
        return tuple(accumulate(change[:-1]))

    @property
    def peak_bytes(self) -> int:
        """Largest sum of tensors alive at one operator: a lower bound for any allocator."""
        return max(self.live_bytes, default=0)


def lifetimes(graph: Dataflow) -> Lifetimes:
    """Find the lifetimes of a graph's activations and inputs; weights are left out."""
    operators = graph.operators
    weights = graph.weight_names
    written: dict[str, int] = {}
    last_read: dict[str, int] = {}
    readers: dict[str, int] = {}
    for place, op in enumerate(operators):
        for name in op.inputs:
            if name and name not in weights:
                last_read[name] = place
                readers[name] = readers.get(name, 0) + 1
        for name in op.outputs:
            if name and name not in weights:
                written[name] = place
    final = len(operators) - 1
    end = {name: last_read.get(name, place) for name, place in written.items()}
    end |= {name: last_read.get(name, final) for name in graph.inputs if name not in written}
    end |= dict.fromkeys([name for name in graph.outputs if name in end], final)
    return Lifetimes(written, last_read, readers, end, graph.n_bytes, len(operators))
