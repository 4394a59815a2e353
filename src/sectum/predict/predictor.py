"""From a graph and a profile to a latency, with its interval and what it is made of.

The way of a graph, from top to bottom: optimize it, trace its pages, describe its operators, look up their native
times, count page faults, price them, and say it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile
from sectum.errors import ModelTooLarge, UsageError
from sectum.graph.ir import Graph
from sectum.ort.costs import require_supported
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import PagingCounts
from sectum.predict.calibration import Calibration
from sectum.predict.cost import SOFTEPC, InferenceCost, inference_costs
from sectum.predict.features import OperatorFeatures, assemble, describe_graph
from sectum.predict.interval import interval
from sectum.predict.method import batch_of
from sectum.predict.operator_model import OperatorModel
from sectum.predict.prediction import Breakdown, Coverage, Interval, Layer, Memory, Overcommit, Prediction
from sectum.predict.prepared import Prepared, TracedNetwork
from sectum.units import GIB, PAGE_BYTES, format_bytes

_TOUCHED_BYTES = 256 * GIB  # in one inference


class Predictor:
    """Operator models for the native latency, the page-replacement model for the faults, the profile for their cost.

    Args:
        operators: the learned operator times.
        calibration: the machine that this runs on; without it, predictions are in the milliseconds of the machine
            that the operator models were trained on.
    """

    name = "page-model"
    """As a `sectum.predict.method.LatencyMethod`."""

    def __init__(self, operators: OperatorModel, calibration: Calibration | None = None) -> None:
        self.operators = operators
        self.calibration = calibration

    def predict(
        self,
        graph: Graph,
        profile: Profile,
        *,
        threads: int = 1,
        native_ms: float | None = None,
        strict: bool = False,
    ) -> Prediction:
        """Predict one steady-state inference.

        Args:
            graph: the network as it was read.
            profile: the enclave.
            threads: compute threads of the runtime.
            native_ms: latency outside an enclave where the caller knows it better; the model's share of each layer
                is kept.
            strict: refuse operators that have no cost model.

        Raises:
            OperatorUnsupported: strict, and there is one.
            UsageError: threads or native_ms out of range.
        """
        if strict:
            require_supported(graph)
        return self.in_enclave(self.prepare(graph, threads=threads, native_ms=native_ms), profile)

    # 1. What does not depend on the enclave.

    def prepare(self, graph: Graph, *, threads: int = 1, native_ms: float | None = None) -> Prepared:
        """Do the part of a prediction that does not depend on the enclave; the arguments are those of `predict`."""
        if not 1 <= threads <= 1024:
            raise UsageError(f"threads is {threads}: give a number from 1 to 1024")
        if native_ms is not None and not (math.isfinite(native_ms) and native_ms > 0):
            raise UsageError(f"the native latency is {native_ms} ms: give a positive number of milliseconds")
        (prepared,) = self.prepare_all([self.trace(graph, threads=threads)])
        if native_ms is None:
            return prepared
        times_ms = prepared.native_ms
        scaled_ms = times_ms * (native_ms / times_ms.sum() if times_ms.size else 1.0)
        return replace(prepared, native_ms=scaled_ms, native_source="given")

    def trace(self, graph: Graph, *, threads: int = 1) -> TracedNetwork:
        """Do the first half of `prepare`, which goes network by network: optimize, trace pages, describe operators.

        Raises:
            ModelTooLarge: an inference goes through more memory than is followed.
        """
        optimized = optimize(graph, self.cpu)
        trace = _page_trace(optimized, threads)
        return TracedNetwork(graph, optimized, trace, describe_graph(optimized, threads=threads), threads)

    def prepare_all(self, networks: Sequence[TracedNetwork]) -> list[Prepared]:
        """Do the second half of `prepare`, faster for many networks at once: native times of their operators.

        Args:
            networks: what `trace` gave, all with the same number of threads.
        """
        features = assemble([one.described for one in networks])
        latencies = self._normalized_latencies(features, networks[0].threads) if networks else np.zeros(0)
        prepared, start = [], 0
        for one in networks:
            part = slice(start, start + len(one.optimized.operators))
            prepared.append(
                Prepared(
                    source=one.source,
                    optimized=one.optimized,
                    trace=one.trace,
                    features=features.part(part.start, part.stop),
                    native_ms=self.operators.overheads.started(latencies[part]) * self._reference_ms,
                    native_source="predicted",
                    threads=one.threads,
                )
            )
            start = part.stop
        return prepared

    def _normalized_latencies(self, features: OperatorFeatures, threads: int) -> NDArray[np.float64]:
        """Normalized latency of each operator on this machine."""
        latencies = self.operators.normalized_latencies(features)
        if self.calibration is not None:
            latencies = latencies * self.calibration.factors(features.kinds, threads)
        return latencies

    # 2. One enclave.

    def in_enclave(self, prepared: Prepared, profile: Profile) -> Prediction:
        """Finish a prediction for one enclave."""
        profile = self.with_measured_costs(profile, prepared.threads)
        inference = self._inference(prepared, profile)
        probability = self.overcommit_probability(prepared.trace.pages, profile.epc_pages)
        covered = prepared.coverage
        return Prediction(
            model=prepared.source.name,
            enclave=profile.name,
            machine=self.machine,
            calibrated=self.calibration is not None,
            batch=batch_of(prepared.source),
            threads=prepared.threads,
            latency_ms=inference.breakdown_ms.total,
            interval_ms=interval(self.operators, profile, inference, probability),
            native_ms=float(prepared.native_ms.sum()),
            native_source=prepared.native_source,
            overcommit=Overcommit(predicted=inference.counts.over_committed, probability=probability),
            memory=_memory(prepared.trace, profile, inference.counts),
            breakdown_ms=inference.breakdown_ms,
            coverage=Coverage(covered.operators, covered.supported, dict(covered.unsupported)),
            layers=_layers(inference),
            notes=tuple(self._notes(prepared, profile, inference.counts)),
        )

    def latency_ms(self, prepared: Prepared, profile: Profile) -> float:
        """The latency that `in_enclave` predicts, without the rest of the prediction."""
        return self._inference(prepared, self.with_measured_costs(profile, prepared.threads)).breakdown_ms.total

    def latency_and_interval(self, prepared: Prepared, profile: Profile) -> tuple[float, Interval]:
        """The latency in milliseconds that `in_enclave` predicts, with its interval, without the rest."""
        profile = self.with_measured_costs(profile, prepared.threads)
        inference = self._inference(prepared, profile)
        probability = self.overcommit_probability(prepared.trace.pages, profile.epc_pages)
        return inference.breakdown_ms.total, interval(self.operators, profile, inference, probability)

    def _inference(self, prepared: Prepared, profile: Profile) -> InferenceCost:
        counts = prepared.counts(profile, profile.epc_pages)
        return inference_costs(self.operators, profile, [(prepared, counts)])[0]

    def working_set_bytes(self, graph: Graph, *, threads: int = 1) -> int:
        """Protected memory that one steady-state inference touches."""
        return _page_trace(optimize(graph, self.cpu), threads).pages * PAGE_BYTES

    def overcommit_probability(self, working_set_pages: int, epc_pages: int | None) -> float:
        """Probability that a modelled working set is really larger than the EPC."""
        if epc_pages is None or working_set_pages == 0:
            return 0.0
        return float(self.operators.working_set_errors.probability(math.log(working_set_pages / epc_pages), 1.0))

    # 3. The machine.

    @property
    def cpu(self) -> Cpu:
        """The kind of CPU that predictions are for."""
        return (self.calibration or self.operators).cpu

    @property
    def machine(self) -> str:
        """Whose milliseconds the predictions are."""
        return self.operators.machine if self.calibration is None else self.calibration.machine

    @property
    def _reference_ms(self) -> float:
        return self.operators.reference_ms if self.calibration is None else self.calibration.references.products_ms

    def with_measured_costs(self, profile: Profile, threads: int) -> Profile:
        """The software EPC at the costs that were measured on this machine; hardware at those of its profile."""
        if self.calibration is None or profile.name != SOFTEPC:
            return profile
        return self.calibration.softepc(profile, threads)

    def _notes(self, prepared: Prepared, profile: Profile, counts: PagingCounts) -> list[str]:
        notes = []
        if self.calibration is None and prepared.native_source == "predicted":
            notes.append(
                f"not calibrated; times are those of {self.machine}. Run 'sectum calibrate' to predict those of this "
                "machine"
            )
        if prepared.coverage.unsupported:
            named = ", ".join(f"{kind} ({n})" for kind, n in prepared.coverage.unsupported.items())
            notes.append(f"operators without a cost model, estimated from their bytes: {named}")
        if prepared.threads > self.operators.most_threads:
            notes.append(f"extrapolated: operators were measured with at most {self.operators.most_threads} threads")
        if not counts.settled:
            notes.append("page faults do not reach a steady state at this EPC size: latency varies between inferences")
        if prepared.native_source == "predicted" and profile.name not in (SOFTEPC, "native"):
            notes.append(
                f"{profile.name} describes another machine than the one whose native latency is predicted: "
                "give its native latency with --native-ms"
            )
        return notes


def sweep(predictor: Predictor, graph: Graph, profile: Profile, epc_bytes: Sequence[int], *, threads: int = 1,
          native_ms: float | None = None) -> list[Prediction]:  # fmt: skip
    """Predict the same network under several sizes of EPC."""
    prepared = predictor.prepare(graph, threads=threads, native_ms=native_ms)
    return [predictor.in_enclave(prepared, profile.with_epc(size)) for size in epc_bytes]


def _page_trace(optimized: OptimizedGraph, threads: int) -> PageTrace:
    trace = page_trace(optimized, threads=threads)
    touched_bytes = PAGE_BYTES * sum(touch.n_pages for touch in trace.touches)
    if touched_bytes > _TOUCHED_BYTES:
        raise ModelTooLarge(
            f"an inference goes through {format_bytes(touched_bytes)} of memory; pages are counted for at most "
            f"{format_bytes(_TOUCHED_BYTES)}: give a smaller batch or input"
        )
    return trace


def _memory(trace: PageTrace, profile: Profile, counts: PagingCounts) -> Memory:
    working_set_bytes = trace.pages * PAGE_BYTES
    return Memory(
        working_set_bytes=working_set_bytes,
        epc_bytes=profile.epc_bytes,
        margin_bytes=None if profile.epc_bytes is None else profile.epc_bytes - working_set_bytes,
        weight_bytes=trace.used_weight_pages * PAGE_BYTES,
        activation_bytes=(trace.pages - trace.used_weight_pages) * PAGE_BYTES,
        faults=counts.loads + counts.minor_faults,
        loads=counts.loads,
        evictions=counts.evictions,
        minor_faults=counts.minor_faults,
    )


def _layers(inference: InferenceCost) -> tuple[Layer, ...]:
    network, counts = inference.network, inference.counts
    optimized = network.optimized
    by_cause = zip(
        inference.compute_ms.tolist(), inference.memory_ms.tolist(), inference.paging_ms.tolist(), strict=True
    )
    layers = []
    for index, (op, times_ms) in enumerate(zip(optimized.operators, by_cause, strict=True)):
        cost = network.features.costs[index]
        layers.append(
            Layer(
                name=optimized.layer_names[index],
                type=op.qualified_type,
                output_shape=optimized.tensors[op.result].shape,
                native_ms=float(network.native_ms[index]),
                breakdown_ms=Breakdown(*times_ms),
                weight_bytes=cost.weight_bytes,
                activation_bytes=cost.input_bytes + cost.output_bytes,
                live_bytes=network.trace.live_bytes[index],
                loads=float(counts.loads_by_operator[index]),
                flops=cost.flops,
                supported=cost.supported,
                fused=tuple([source.type for source in optimized.carried_out[index]]),
            )
        )
    return tuple(layers)
