"""The seam of latency methods: a network and an enclave's profile in, a latency and a verdict on memory out.

`sectum.predict.Predictor` is the default method, `sectum.lab.paper.PaperMethod` the paper's.
`sectum.testing.method_conformance` holds what each must do.
"""

from __future__ import annotations

from typing import Protocol

from sectum.enclave.profile import Profile
from sectum.graph.ir import Graph
from sectum.predict.prediction import MethodPrediction


class LatencyMethod(Protocol):
    """A way to predict latencies."""

    @property
    def name(self) -> str:
        """Of lower-case letters and dashes, as ``sectum predict --method`` takes it."""
        ...

    def predict(
        self, graph: Graph, profile: Profile, *, threads: int = 1, native_ms: float | None = None, strict: bool = False
    ) -> MethodPrediction:
        """Predict one steady-state inference of a network as it was read.

        Raises:
            OperatorUnsupported: strict, and an operator has no cost of its own.
            UsageError: the method cannot predict this enclave, or cannot use an argument.
        """
        ...


def batch_of(graph: Graph) -> int:
    """Images in one inference: the leading dimension of the first input; 1 where there is none."""
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    return shape[0] if shape else 1
