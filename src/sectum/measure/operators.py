"""Measures the times of a model's operators."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job, OperatorTime, Runner
from sectum.measure.context import machine_context
from sectum.measure.input_ranges import input_ranges
from sectum.measure.latency import MeasurableModel
from sectum.measure.reference import References, estimate, sums_share
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph

_WARM_UP_RUNS = 3


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One operator of the graph that the runtime executes.

    Attributes:
        index: position in the order of execution.
        name: name of the node.
        type: operator type without domain, as the runtime's profile gives it.
        time_ms: time at the machine's speed of `OperatorMeasurement.reference_ms`.
        reference_ratio: time over the time of the reference kernels.
        input_shapes: shapes in the order of the inputs, with constant inputs unless the runtime has packed them.
        output_shapes: shapes in the order of the outputs.
        input_types: element types, as the runtime names them.
        parameter_bytes: size of the constant inputs that the profile has.
        output_bytes: size of the outputs.
    """

    index: int
    name: str
    type: str
    time_ms: float
    reference_ratio: float
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    input_types: tuple[str, ...]
    parameter_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True)
class OperatorMeasurement:
    """The operators of one model, and the model as a whole in the same process.

    Attributes:
        rows: the operators, in the order of execution.
        latency_ms: latency of the whole model in the same process, with the profiler on.
        reference_ms: the reference time that turned ratios into milliseconds.
        reference_source: ``calibration`` or ``this run``.
        runs: number of profiled inferences.
        context: machine, versions, runner, threads, seed, date, kind.
    """

    rows: tuple[OperatorRow, ...]
    latency_ms: float
    reference_ms: float
    reference_source: str
    runs: int
    context: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON."""
        return asdict(self)


def measure_operators(
    model: MeasurableModel,
    *,
    threads: int = 1,
    runs: int = 20,
    references: References | None = None,
    deadline_s: float = 120.0,
    seed: int = 0,
    runner: Runner | None = None,
) -> OperatorMeasurement:
    """Time each operator of a model.

    Args:
        model: a model with bound shapes.
        threads: threads of the runtime.
        runs: number of inferences to average over.
        references: the reference kernels' typical times on this machine, from a calibration.
        deadline_s: seconds that the process may live.
        seed: seed of the inputs.
        runner: where the model runs; natively if not given.

    Raises:
        EnclaveError: the model could not be run; see `sectum.errors`.
        UsageError: an argument is out of its range.
    """
    place = runner or NativeRunner()
    job = Job(
        model=model.bound_bytes(),
        threads=threads,
        seed=seed,
        input_ranges=input_ranges(model.graph),
        deadline_s=deadline_s,
        profile=True,
    )
    with place.start(job) as session:
        session.sample(_WARM_UP_RUNS)
        samples = session.sample(runs)
        times = session.operator_times(runs)
    share = sums_share(optimize(model.graph, Cpu.here()))
    reference_ms = (references or References.of(samples)).mixed_ms(share)
    rows = tuple(
        OperatorRow(
            index=index,
            name=time.name,
            type=time.type,
            time_ms=in_references(time, share) * reference_ms,
            reference_ratio=in_references(time, share),
            input_shapes=time.input_shapes,
            output_shapes=time.output_shapes,
            input_types=time.input_types,
            parameter_bytes=time.parameter_bytes,
            output_bytes=time.output_bytes,
        )
        for index, time in enumerate(times)
    )
    return OperatorMeasurement(
        rows=rows,
        latency_ms=estimate(samples, threads=threads, share=share).ratio * reference_ms,
        reference_ms=reference_ms,
        reference_source="this run" if references is None else "calibration",
        runs=runs,
        context={
            **machine_context(),
            "kind": place.provenance,
            "runner": place.name,
            "threads": threads,
            "seed": seed,
            "model": model.graph.name,
        },
    )


def in_references(time: OperatorTime, share: float) -> float:
    """Give an operator's time over that of the reference kernels, mixed as for its whole network."""
    return time.time_us / (time.products_us + share * (time.sums_us - time.products_us))


def match(runtime: OptimizedGraph, times: Iterable[OperatorTime], *, share: float | None = None) -> list[float] | None:
    """Assign times to the graph's operators, in their order; None if the runtime executed other operators.

    Operators of the same type and shapes are matched by their order, which is that of execution in both.

    Args:
        runtime: the graph.
        times: of the operators that the runtime executed.
        share: of the reduction kernel in the references; None for that of the graph.
    """
    share = sums_share(runtime) if share is None else share
    waiting: dict[tuple[object, ...], list[float]] = defaultdict(list)
    count = 0
    for time in times:
        waiting[time.type, time.output_shapes].append(in_references(time, share))
        count += 1
    if count != len(runtime.operators):
        return None
    matched = []
    for op in runtime.operators:
        queue = waiting[op.type, tuple(runtime.tensors[name].shape for name in op.outputs if name)]
        if not queue:
            return None
        matched.append(queue.pop(0))
    return matched
