"""From a graph and a profile to a latency, with its interval and what it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile
from sectum.errors import ModelTooLarge, UsageError
from sectum.graph.costs import require_supported
from sectum.graph.ir import Graph
from sectum.ort.optimize import runtime_graph
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import PagingCounts
from sectum.predict.calibration import Calibration
from sectum.predict.features import OperatorFeatures, assemble, describe
from sectum.predict.operator_model import OperatorModel
from sectum.predict.prediction import Breakdown, Coverage, Interval, Layer, Memory, Overcommit, Prediction
from sectum.predict.prepared import SOFTEPC, LaidOut, Prepared
from sectum.units import GIB, PAGE_BYTES, format_bytes

_TOUCHED_BYTES = 256 * GIB  # in one inference
# Nine of ten published measurements were so near to what a profile says that was fitted without that network, given its
# native latency; with one thread, and with four. See docs/sgx-profile.md.
_HARDWARE_OFF, _HARDWARE_OFF_THREADS = 0.08, 0.31
UNKNOWN_OPERATOR_FACTOR = 4.0
"""How many times its estimate an operator without a cost of its own may take, for the interval's upper end."""

_LEAST_DOUBT = 0.05
"""Probability from which on an interval holds the other side of the cliff, too."""


class Predictor:
    """Operator models for the native latency, the page-replacement model for the faults, the profile for their cost.

    Args:
        operators: the learned operator times.
        calibration: the machine that this runs on; without it, predictions are in the milliseconds of the machine
            that the operator models were trained on.
    """

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
            strict: refuse operators that have no cost of their own.

        Raises:
            OperatorUnsupported: strict, and there is one.
            UsageError: threads or native_ms out of range.
        """
        if strict:
            require_supported(graph)
        return self.in_enclave(self.prepare(graph, threads=threads, native_ms=native_ms), profile)

    def prepare(self, graph: Graph, *, threads: int = 1, native_ms: float | None = None) -> Prepared:
        """Do the part of a prediction that does not depend on the enclave."""
        if not 1 <= threads <= 1024:
            raise UsageError(f"threads is {threads}: give a number from 1 to 1024")
        if native_ms is not None and not (math.isfinite(native_ms) and native_ms > 0):
            raise UsageError(f"the native latency is {native_ms} ms: give a positive number of milliseconds")
        (prepared,) = self.prepare_all([self.lay_out(graph, threads=threads)])
        if native_ms is None:
            return prepared
        times_ms = prepared.native_ms
        scaled_ms = times_ms * (native_ms / times_ms.sum() if times_ms.size else 1.0)
        return replace(prepared, native_ms=scaled_ms, native_source="given")

    def lay_out(self, graph: Graph, *, threads: int = 1) -> LaidOut:
        """Do the part of `prepare` that goes network by network: what runs, and which pages it touches."""
        runtime, trace = self._memory(graph, threads)
        return LaidOut(graph, runtime, trace, describe(runtime, threads=threads), threads)

    def prepare_all(self, networks: Sequence[LaidOut]) -> list[Prepared]:
        """Do the rest of `prepare`, faster for many networks at once: their operators' times.

        Args:
            networks: what `lay_out` gave, all with the same number of threads.
        """
        features = assemble([one.described for one in networks], nchwc_block=self._block)
        references = self._references(features, networks[0].threads) if networks else np.zeros(0)
        prepared, start = [], 0
        for one in networks:
            stop = start + len(one.runtime.operators)
            own = features.part(start, stop)
            prepared.append(
                Prepared(
                    one.source,
                    one.runtime,
                    own,
                    one.trace,
                    self.operators.overheads.started(references[start:stop]) * self._reference_ms,
                    "predicted",
                    self.operators,
                    one.threads,
                )
            )
            start = stop
        return prepared

    def working_set_bytes(self, graph: Graph, *, threads: int = 1) -> int:
        """Protected memory that one steady-state inference touches."""
        return self._memory(graph, threads)[1].pages * PAGE_BYTES

    def _memory(self, graph: Graph, threads: int) -> tuple[Graph, PageTrace]:
        runtime = runtime_graph(graph, nchwc_block=self._block)
        trace = page_trace(runtime, threads=threads, nchwc_block=self._block)
        touched_bytes = PAGE_BYTES * sum(touch.n_pages for touch in trace.touches)
        if touched_bytes > _TOUCHED_BYTES:
            raise ModelTooLarge(
                f"an inference goes through {format_bytes(touched_bytes)} of memory; pages are counted for at most "
                f"{format_bytes(_TOUCHED_BYTES)}: give a smaller batch or input"
            )
        return runtime, trace

    @property
    def _block(self) -> int:
        return (self.calibration or self.operators).nchwc_block

    def in_enclave(self, prepared: Prepared, profile: Profile) -> Prediction:
        """Finish a prediction for one enclave."""
        profile = self.with_measured_costs(profile, prepared.threads)
        trace = prepared.trace
        counts = prepared.counts(profile, profile.epc_pages)
        layers = _layers(prepared, profile, counts)
        entry_ms = profile.in_enclave_ms(0.0, 0.0, None, prepared.threads).entry_ms
        breakdown = Breakdown(
            compute=sum(layer.breakdown_ms.compute for layer in layers),
            memory=sum(layer.breakdown_ms.memory for layer in layers),
            paging=sum(layer.breakdown_ms.paging for layer in layers) + entry_ms,
        )
        probability = self.overcommit_probability(trace.pages, profile.epc_pages)
        working_set_bytes = trace.pages * PAGE_BYTES
        covered = prepared.coverage
        return Prediction(
            model=prepared.source.name,
            enclave=profile.name,
            machine=self.machine,
            calibrated=self.calibration is not None,
            batch=_batch(prepared.source),
            threads=prepared.threads,
            latency_ms=breakdown.total,
            interval_ms=_interval(prepared, profile, counts, breakdown, layers, probability),
            native_ms=float(prepared.native_ms.sum()),
            native_source=prepared.native_source,
            overcommit=Overcommit(predicted=counts.over_committed, probability=probability),
            memory=Memory(
                working_set_bytes=working_set_bytes,
                epc_bytes=profile.epc_bytes,
                margin_bytes=None if profile.epc_bytes is None else profile.epc_bytes - working_set_bytes,
                weight_bytes=trace.used_weight_pages * PAGE_BYTES,
                activation_bytes=(trace.pages - trace.used_weight_pages) * PAGE_BYTES,
                faults=counts.loads + counts.minor_faults,
                loads=counts.loads,
                evictions=counts.evictions,
                minor_faults=counts.minor_faults,
            ),
            breakdown_ms=breakdown,
            coverage=Coverage(covered.operators, covered.supported, dict(covered.unsupported)),
            layers=layers,
            notes=tuple(self._notes(prepared, profile, counts)),
        )

    @property
    def machine(self) -> str:
        """Whose milliseconds the predictions are."""
        return self.operators.machine if self.calibration is None else self.calibration.machine

    def _references(self, features: OperatorFeatures, threads: int) -> NDArray[np.float64]:
        """Operators' times outside an enclave, over the time of the reference kernel of products."""
        references = self.operators.references(features)
        if self.calibration is not None:
            references = references * self.calibration.factors(features.groups, threads)
        return references

    @property
    def _reference_ms(self) -> float:
        return self.operators.reference_ms if self.calibration is None else self.calibration.references.products_ms

    def with_measured_costs(self, profile: Profile, threads: int) -> Profile:
        """The software EPC costs what this machine takes for it; hardware costs what its profile says."""
        if self.calibration is None or profile.name != SOFTEPC:
            return profile
        return self.calibration.softepc(profile, threads)

    def page_corrections(
        self, profile: Profile, counted: Sequence[tuple[Prepared, PagingCounts]]
    ) -> Sequence[float | None]:
        """For each network and its page faults the factor that `Prepared.page_weights` takes, found for all at once."""
        if profile.name != SOFTEPC:
            return [None] * len(counted)
        inferences = [(network.features, counts) for network, counts in counted]
        return self.operators.page_corrections(inferences, profile.epc_pages)

    def overcommit_probability(self, working_set_pages: int, epc_pages: int | None) -> float:
        """Probability that a modelled working set is really larger than the EPC."""
        if epc_pages is None or working_set_pages == 0:
            return 0.0
        return float(self.operators.working_set_errors.probability(math.log(working_set_pages / epc_pages), 1.0))

    def _notes(self, prepared: Prepared, profile: Profile, counts: PagingCounts) -> list[str]:
        notes = []
        if self.calibration is None and prepared.native_source == "predicted":
            notes.append(
                f"not calibrated: these are milliseconds of {self.machine}; 'sectum calibrate' makes them yours"
            )
        if prepared.coverage.unsupported:
            named = ", ".join(f"{kind} ({n})" for kind, n in prepared.coverage.unsupported.items())
            notes.append(f"operators without a cost of their own, estimated from their bytes: {named}")
        if prepared.threads > self.operators.most_threads:
            notes.append(f"operators were measured with up to {self.operators.most_threads} threads, not more")
        if not counts.settled:
            notes.append("page faults do not settle to one number at this EPC size: latency varies between inferences")
        if prepared.native_source == "predicted" and profile.name not in (SOFTEPC, "native"):
            notes.append(
                f"{profile.name} describes another host than the one whose native latency is predicted: "
                "give that host's own with --native-ms"
            )
        return notes


def _interval(
    prepared: Prepared,
    profile: Profile,
    counts: PagingCounts,
    breakdown: Breakdown,
    layers: Sequence[Layer],
    probability: float,
) -> Interval:
    """Where nine of ten networks not trained on lay; on both sides of the cliff where it is not sure on which it is."""
    native = breakdown.compute + breakdown.memory
    unknown = sum(layer.breakdown_ms.compute for layer in layers if not layer.supported)
    certain = float(prepared.native_ms.sum()) if prepared.native_source == "given" else 0.0
    pagings = {counts.over_committed: breakdown.paging}
    if profile.epc_pages is not None and _LEAST_DOUBT < probability < 1 - _LEAST_DOUBT:
        for epc_pages in (prepared.trace.pages - 1, prepared.trace.pages):
            near = prepared.counts(profile, max(1, epc_pages))
            pagings.setdefault(near.over_committed, prepared.paging_ms(profile, near))
    ends = []
    for over_committed, paging in pagings.items():
        regime = "pages" if over_committed else "native" if profile.epc_pages is None else "fits"
        low, high = prepared.operators.widths[regime]
        unsure = native + paging - certain
        ends += [
            certain + max(0.0, unsure - unknown) * low,
            certain + unsure * high + UNKNOWN_OPERATOR_FACTOR * unknown,
        ]
    off = 0.0
    if profile.epc_pages is not None and profile.name != SOFTEPC:
        off = _HARDWARE_OFF if prepared.threads == 1 else _HARDWARE_OFF_THREADS
    return Interval(min(ends) * (1 - off), max(ends) * (1 + off))


def sweep(predictor: Predictor, graph: Graph, profile: Profile, epc_bytes: Sequence[int], *, threads: int = 1,
          native_ms: float | None = None) -> list[Prediction]:  # fmt: skip
    """Predict the same network under several sizes of EPC."""
    prepared = predictor.prepare(graph, threads=threads, native_ms=native_ms)
    return [predictor.in_enclave(prepared, profile.with_epc(size)) for size in epc_bytes]


def _layers(prepared: Prepared, profile: Profile, counts: PagingCounts) -> tuple[Layer, ...]:
    times_ms = prepared.by_operator_ms(profile, counts, prepared.page_weights(profile, counts))
    by_cause = zip(*(column.tolist() for column in times_ms), strict=True)
    layers = []
    for index, (op, breakdown_ms) in enumerate(zip(prepared.runtime.operators, by_cause, strict=True)):
        cost = prepared.features.costs[index]
        layers.append(
            Layer(
                name=op.name,
                type=op.qualified_type,
                output_shape=prepared.runtime.tensors[op.outputs[0]].shape,
                native_ms=float(prepared.native_ms[index]),
                breakdown_ms=Breakdown(*breakdown_ms),
                weight_bytes=cost.weight_bytes,
                activation_bytes=cost.input_bytes + cost.output_bytes,
                live_bytes=prepared.trace.live_bytes[index],
                loads=float(counts.loads_by_operator[index]),
                flops=cost.flops,
                supported=cost.supported,
            )
        )
    return tuple(layers)


def _batch(graph: Graph) -> int:
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    return shape[0] if shape else 1
