"""From a graph and a profile to a latency, with its interval and what it is made of.

The way of a graph, from top to bottom: optimize it, trace its pages, describe its operators, look up their native
times, count page faults, price them, and say it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile
from sectum.enclave.profile_kinds import GUESTS
from sectum.errors import ModelTooLarge, UsageError
from sectum.graph.ir import Graph
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import RUNTIME, OptimizedGraph
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import PagingCounts
from sectum.predict.bounds import never_trained, physical_bounds
from sectum.predict.calibration import Calibration, nearest, uncalibrated_note
from sectum.predict.cost import SOFTEPC, InferenceCost, inference_costs
from sectum.predict.features import OperatorFeatures, assemble, describe_graph
from sectum.predict.grade import grade, notes_on_support, require_inside
from sectum.predict.interval import interval
from sectum.predict.method import batch_of
from sectum.predict.operator_model import OperatorModel
from sectum.predict.prediction import Breakdown, Interval, Layer, Memory, Overcommit, Prediction
from sectum.predict.prepared import Prepared, TracedNetwork
from sectum.units import GIB, PAGE_BYTES, format_bytes

if TYPE_CHECKING:
    from sectum.paging.compiled_replacement import CompiledReplacement

_RUNTIME = f"ONNX Runtime {RUNTIME} on the CPU"

_TOUCHED_BYTES = 256 * GIB  # in one inference
_WORKING_SETS = np.linspace(-1.0, 1.0, 9)


class Predictor:
    """Operator models for the native latency, the page-replacement model for the faults, the profile for their cost.

    Args:
        operators: the learned operator times.
        calibration: the machine that this runs on; without it, predictions are in the milliseconds of the machine
            that the operator models were trained on.
        cpu: the kind of CPU that predictions are for; by default that of the calibration, or of the operator models.
    """

    name = "page-model"
    """As a `sectum.predict.method.LatencyMethod`."""

    def __init__(
        self, operators: OperatorModel, calibration: Calibration | None = None, cpu: Cpu | None = None
    ) -> None:
        self.operators = operators
        self.calibration = calibration
        self.cpu = cpu or (calibration or operators).cpu

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
            strict: refuse operators that are unlike all that were measured.

        Raises:
            OperatorUnsupported: strict, and there is one.
            UsageError: threads or native_ms out of range.
        """
        prepared = self.prepare(graph, threads=threads, native_ms=native_ms)
        if strict:
            require_inside(prepared)
        return self.in_enclave(prepared, profile)

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
        described = describe_graph(optimized, threads=threads, plan=trace.plan)
        return TracedNetwork(graph, optimized, trace, described, threads)

    def prepare_all(self, networks: Sequence[TracedNetwork]) -> list[Prepared]:
        """Do the second half of `prepare`, faster for many networks at once: native times of their operators.

        Args:
            networks: what `trace` gave, all with the same number of threads.
        """
        if not networks:
            return []
        features = assemble([one.described for one in networks])
        bounds = physical_bounds(features, networks[0].threads)
        latencies = self._within(bounds, features, self._normalized_latencies(features, networks[0].threads))
        bounds_ms = np.stack(bounds) * self._reference_ms
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
                    bounds_ms=bounds_ms[:, part],
                    support=self.operators.support,
                )
            )
            start = part.stop
        return prepared

    def _normalized_latencies(self, features: OperatorFeatures, threads: int) -> NDArray[np.float64]:
        """Normalized latency of each operator on this machine."""
        latencies = self.operators.normalized_latencies(features)
        if self.calibration is not None:
            latencies = latencies * self.calibration.factors(features, threads)
        return latencies

    def _within(
        self,
        bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
        features: OperatorFeatures,
        latencies: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Clip what trees say of operators that are unlike all they have seen; types they never saw take the middle."""
        low, high = bounds
        latencies = np.where(never_trained(features), np.sqrt(low * high), latencies)
        # Few are beyond their bounds, so the support of few is looked up.
        for index in np.flatnonzero((latencies < low) | (latencies > high)).tolist():
            if self.operators.support.places(features.part(index, index + 1))[0].why:
                latencies[index] = np.clip(latencies[index], low[index], high[index])
        return latencies

    # 2. One enclave.

    def in_enclave(self, prepared: Prepared, profile: Profile) -> Prediction:
        """Finish a prediction for one enclave."""
        profile = self.with_measured_costs(profile, prepared.threads, prepared.native_source)
        inference = self._inference(prepared, profile)
        probability = self._probability(prepared, profile)
        return Prediction(
            model=prepared.source.name,
            enclave=profile.name,
            machine=self.machine,
            runtime=_RUNTIME,
            cpu=self.cpu.words,
            calibrated=self.calibration is not None,
            batch=batch_of(prepared.source),
            threads=prepared.threads,
            latency_ms=inference.breakdown_ms.total,
            interval_ms=self.interval(profile, inference, probability),
            native_ms=float(prepared.native_ms.sum()),
            native_source=prepared.native_source,
            overcommit=Overcommit(predicted=inference.counts.over_committed, probability=probability),
            memory=_memory(prepared.trace, profile, inference.counts),
            breakdown_ms=inference.breakdown_ms,
            coverage=prepared.coverage,
            grade=grade(inference),
            layers=_layers(inference),
            notes=tuple(self._notes(prepared, profile, inference.counts)),
        )

    def latency_ms(self, prepared: Prepared, profile: Profile) -> float:
        """The latency that `in_enclave` predicts, without the rest of the prediction."""
        profile = self.with_measured_costs(profile, prepared.threads, prepared.native_source)
        return self._inference(prepared, profile).breakdown_ms.total

    def latency_and_interval(
        self, prepared: Prepared, profile: Profile, compiled: CompiledReplacement | None = None
    ) -> tuple[float, Interval]:
        """The latency in milliseconds that `in_enclave` predicts, with its interval, without the rest.

        Args:
            prepared: the network.
            profile: the enclave.
            compiled: as for `steady_state`.
        """
        profile = self.with_measured_costs(profile, prepared.threads, prepared.native_source)
        inference = self._inference(prepared, profile, compiled)
        probability = self._probability(prepared, profile)
        return inference.breakdown_ms.total, self.interval(profile, inference, probability)

    def interval(self, profile: Profile, inference: InferenceCost, probability: float) -> Interval:
        """The 90 % interval of an inference's latency on this machine; arguments as for `sectum.predict.interval`."""
        threads = inference.network.threads
        variation = 0.0 if self.calibration is None else nearest(self.calibration.variation, threads)
        return interval(self.operators, profile, inference, probability, variation)

    def _inference(
        self, prepared: Prepared, profile: Profile, compiled: CompiledReplacement | None = None
    ) -> InferenceCost:
        counts = prepared.counts(profile, profile.epc_pages, compiled)
        return inference_costs(self.operators, profile, [(prepared, counts)])[0]

    def overcommit_probability(self, working_set_pages: int, epc_pages: int | None, uncertain_pages: int = 0) -> float:
        """Probability that a modelled working set is really larger than the EPC.

        Args:
            working_set_pages: as modelled.
            epc_pages: None for no limit.
            uncertain_pages: so many of them may as well not be touched, or be touched twice: all working sets between
                are taken to be equally likely.
        """
        if epc_pages is None or working_set_pages == 0:
            return 0.0
        errors = self.operators.working_set_errors
        if not uncertain_pages:
            return float(errors.probability(math.log(working_set_pages / epc_pages), 1.0))
        pages = np.maximum(1.0, working_set_pages + uncertain_pages * _WORKING_SETS)
        return float(errors.probability(np.log(pages / epc_pages), 1.0).mean())

    def _probability(self, prepared: Prepared, profile: Profile) -> float:
        """Of over-commitment."""
        return self.overcommit_probability(prepared.trace.pages, profile.epc_pages, prepared.uncertain_pages)

    # 3. The machine.

    @property
    def machine(self) -> str:
        """Whose milliseconds the predictions are."""
        return self.operators.machine if self.calibration is None else self.calibration.machine

    @property
    def _reference_ms(self) -> float:
        return self.operators.reference_ms if self.calibration is None else self.calibration.references.products_ms

    def with_measured_costs(self, profile: Profile, threads: int, native_source: str = "predicted") -> Profile:
        """The profile with what the calibration measured in place of the profile's own costs.

        The software EPC gets this machine's page costs. A confidential machine that was calibrated from inside gets a
        factor of 1, because its predicted native times already contain its cost.

        Args:
            profile: the enclave.
            threads: compute threads.
            native_source: ``"predicted"``, or ``"given"`` where the caller gives the latency outside the enclave.

        Raises:
            UsageError: the profile has no factor, and neither has the calibration.
        """
        if native_source == "predicted" and profile.tee and profile.tee == self._calibrated_tee:
            return profile.calibrated_inside()
        profile.require_known_factor()
        if self.calibration is None or profile.name != SOFTEPC:
            return profile
        return self.calibration.softepc(profile, threads)

    @property
    def _calibrated_tee(self) -> str:
        return "" if self.calibration is None else self.calibration.tee

    def _notes(self, prepared: Prepared, profile: Profile, counts: PagingCounts) -> list[str]:
        notes = []
        if self.calibration is None and prepared.native_source == "predicted":
            notes.append(uncalibrated_note(self.machine))
        if self.calibration is not None and (note := self.calibration.note_on_variation(prepared.threads)):
            notes.append(note)
        notes += notes_on_support(prepared)
        notes += self._notes_on_threads(prepared.threads, profile, counts)
        if not counts.settled:
            notes.append("page faults do not reach a steady state at this EPC size: latency varies between inferences")
        if prepared.native_source == "predicted" and self._calibrated_tee:
            guest = GUESTS[self._calibrated_tee].words
            notes.append(f"calibrated inside {guest}: native milliseconds already contain its cost")
        if profile.compute_factor_high is not None:
            least, most = profile.compute_factor_low, profile.compute_factor_high
            notes.append(
                f"the compute factor of {profile.name} was measured with {profile.runtime}, not with {_RUNTIME}. Its "
                f"sources leave {least:g} to {most:g} possible: calibrate inside for a narrower interval"
            )
        if prepared.native_source == "predicted" and profile.name not in (SOFTEPC, "native") and not profile.tee:
            notes.append(
                f"{profile.name} describes another machine than the one whose native latency is predicted: "
                "give its native latency with --native-ms"
            )
        return notes

    def _notes_on_threads(self, threads: int, profile: Profile, counts: PagingCounts) -> list[str]:
        """Say which numbers of threads were measured, where this one was not."""
        measured = [("operators were measured", tuple(range(1, self.operators.most_threads + 1)))]
        if self.calibration is not None:
            measured.append(("this machine was calibrated", tuple(sorted(self.calibration.group_factors))))
        if counts.over_committed or profile.name != SOFTEPC:
            measured.append((f"{profile.name} was measured", profile.measured_threads))
        others = [f"{what} with {_listed(known)}" for what, known in measured if known and threads not in known]
        return [f"{threads} threads were never measured: {', '.join(others)}"] if others else []


def sweep(predictor: Predictor, graph: Graph, profile: Profile, epc_bytes: Sequence[int], *, threads: int = 1,
          native_ms: float | None = None) -> list[Prediction]:  # fmt: skip
    """Predict the same network under several EPC sizes."""
    prepared = predictor.prepare(graph, threads=threads, native_ms=native_ms)
    return [predictor.in_enclave(prepared, profile.with_epc(size)) for size in epc_bytes]


def _listed(numbers: Sequence[int]) -> str:
    """Write numbers as ``1, 2 and 4``."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last


def _page_trace(optimized: OptimizedGraph, threads: int) -> PageTrace:
    trace = page_trace(optimized, threads=threads)
    touched_bytes = PAGE_BYTES * int(trace.touches[:, 2].sum())
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
                evictions=float(counts.evictions_by_operator[index]),
                minor_faults=float(counts.minor_faults_by_operator[index]),
                flops=cost.flops,
                supported=cost.supported,
                fused=tuple([source.type for source in optimized.carried_out[index]]),
                support=network.places[index].support,
                why_outside=network.places[index].why,
            )
        )
    return tuple(layers)
