"""Measures one model in one place: latency, page faults, memory, and that it computes the same."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sectum.enclave.native import NativeRunner
from sectum.enclave.runner import Job, Memory, Runner, Sample, check_epc
from sectum.errors import OutputsDiffer, UsageError
from sectum.graph.ir import Graph
from sectum.measure.context import machine_context
from sectum.measure.reference import read_sample, typical_reference_ms
from sectum.measure.sampling import UNCERTAINTY_BOUND, Sampling, take_samples

_GRACE_S = 60.0  # how much longer than its sampling a process may live: loading, one inference, a digest


class MeasurableModel(Protocol):
    """What measuring asks of a model; `sectum.graph.Model` has it."""

    @property
    def graph(self) -> Graph:
        """The network with static shapes."""
        ...

    def bound_bytes(self) -> bytes:
        """Return the ONNX model with every dimension bound."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One model, measured in one place.

    Page counts are of one inference: means over the samples, whole where they have settled to a constant;
    None where the runner cannot count.

    Attributes:
        latency_ms: ratio to the reference kernel, times the machine's typical reference time.
        uncertainty: half-width of the 95 % interval of latency_ms, relative to it; None for a single sample.
        reference_ms: the reference time that turned the ratio into milliseconds.
        reference_source: ``calibration`` (given by the caller) or ``this run`` (its own median).
        samples: raw, in order: latency_ms, wall_ms, reference_before_ms, reference_after_ms, wait_ms,
            handler_ms, page counts, the ratio, ``disturbed`` (why it is suspect, or empty), ``used``.
        warm_up_runs: inferences before the first sample.
        stopped_because: ``precise``, ``runs``, ``samples`` or ``deadline``.
        faults: loads, zero fills and minor faults together.
        loads: sealed pages brought back.
        evictions: pages sealed and removed.
        minor_faults: resident pages mapped again.
        zero_fills: pages touched for the first time.
        live_bytes: allocated in the enclave, or by the native process.
        resident_bytes: of that, in memory.
        peak_resident_bytes: the most that resident_bytes has been.
        outputs_equal_native: whether outputs equal the native run's, bit for bit; None if not compared.
        settled: whether page counts had settled before the first sample.
        period: in inferences, with which page counts repeat.
        context: machine, versions, runner, threads, seed, date; ``kind`` is ``measured`` or ``unverified``.
    """

    latency_ms: float
    uncertainty: float | None
    reference_ms: float
    reference_source: str
    samples: tuple[dict[str, Any], ...]
    warm_up_runs: int
    stopped_because: str
    faults: float | None
    loads: float | None
    evictions: float | None
    minor_faults: float | None
    zero_fills: float | None
    live_bytes: int
    resident_bytes: int
    peak_resident_bytes: int
    outputs_equal_native: bool | None
    settled: bool
    period: int
    context: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; every field under its own name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.as_dict(), allow_nan=False)


def measure(
    model: MeasurableModel,
    runner: Runner,
    *,
    epc_bytes: int | None = None,
    threads: int = 1,
    runs: int | None = None,
    deadline_s: float = 60.0,
    machine_reference_ms: float | None = None,
    compare_native: bool = True,
    policy: str = "second-chance",
    seed: int = 0,
    uncertainty_bound: float = UNCERTAINTY_BOUND,
    memory_cap_bytes: int = 16 << 30,
) -> Measurement:
    """Measure a model.

    Args:
        model: a model with bound shapes.
        runner: where it runs.
        epc_bytes: protected memory; None for no limit.
        threads: of the runtime.
        runs: how many samples; None for as many as the bound asks for.
        deadline_s: seconds in which samples are taken, warm-up included. The process is stopped when it has
            lived 1.5 times that, and 60 s more for loading.
        machine_reference_ms: the reference kernel's typical time on this machine with these threads, from a
            calibration. Without it milliseconds are those of the machine's speed during this run.
        compare_native: run the model natively too and compare outputs.
        policy: of eviction.
        seed: of the inputs.
        uncertainty_bound: relative half-width of the 95 % interval at which sampling stops.
        memory_cap_bytes: of the process.

    Raises:
        OutputsDiffer: the outputs are not those of the native run.
        EnclaveError: the model could not be run; see `sectum.errors`.
        UsageError: an argument is out of its range.
    """
    return measure_budgets(
        model,
        runner,
        (epc_bytes,),
        threads=threads,
        runs=runs,
        deadline_s=deadline_s,
        machine_reference_ms=machine_reference_ms,
        compare_native=compare_native,
        policy=policy,
        seed=seed,
        uncertainty_bound=uncertainty_bound,
        memory_cap_bytes=memory_cap_bytes,
    )[0]


def measure_budgets(
    model: MeasurableModel,
    runner: Runner,
    budgets: Sequence[int | None],
    *,
    threads: int = 1,
    runs: int | None = None,
    deadline_s: float = 60.0,
    machine_reference_ms: float | None = None,
    compare_native: bool = True,
    policy: str = "second-chance",
    seed: int = 0,
    uncertainty_bound: float = UNCERTAINTY_BOUND,
    memory_cap_bytes: int = 16 << 30,
) -> list[Measurement]:
    """Measure a model under several EPC sizes, one after the other in one process: it is loaded once.

    Args:
        model: a model with bound shapes.
        runner: where it runs.
        budgets: protected memory, in bytes; None for no limit. The model is loaded under the first.
        threads: as in `measure`, like all that follow; ``deadline_s`` is for each size.
        runs: see `measure`.
        deadline_s: see `measure`.
        machine_reference_ms: see `measure`.
        compare_native: see `measure`.
        policy: see `measure`.
        seed: see `measure`.
        uncertainty_bound: see `measure`.
        memory_cap_bytes: see `measure`.

    Raises:
        OutputsDiffer: the outputs under one of the sizes are not those of the native run.
        EnclaveError: the model could not be run; see `sectum.errors`.
        UsageError: an argument is out of its range.
    """
    if not budgets:
        raise UsageError("no EPC size to measure under: give at least one, or None for no limit")
    for budget in budgets:
        check_epc(budget)
    content = model.bound_bytes()
    job = Job(
        model=content,
        epc_bytes=budgets[0],
        policy=policy,
        threads=threads,
        seed=seed,
        deadline_s=1.5 * deadline_s * len(budgets) + _GRACE_S,
        memory_cap_bytes=memory_cap_bytes,
    )
    machine = machine_context()
    measured: list[Measurement] = []
    digests: list[str] = []
    with runner.start(job) as session:
        for index, budget in enumerate(budgets):
            if index:
                session.set_epc(budget)
            sampling = take_samples(
                session, threads=threads, time_s=deadline_s, runs=runs, uncertainty_bound=uncertainty_bound
            )
            memory = session.memory()
            if compare_native:
                digests.append(session.outputs_digest())
            context = {
                **machine,
                "versions": machine["versions"] | dict(session.info.versions),
                "kind": runner.provenance,
                "runner": runner.name,
                "epc_bytes": budget,
                "policy": policy,
                "threads": threads,
                "seed": seed,
                "model": model.graph.name,
                "model_sha256": hashlib.sha256(content).hexdigest(),
            }
            measured.append(_measurement(sampling, memory, runner, machine_reference_ms, context))
    if compare_native:
        native = _native_digest(job)
        for digest in digests:
            _require_equal(digest, native, runner.name)
        measured = [replace(one, outputs_equal_native=True) for one in measured]
    return measured


def _measurement(
    sampling: Sampling,
    memory: Memory,
    runner: Runner,
    machine_reference_ms: float | None,
    context: dict[str, Any],
) -> Measurement:
    own = machine_reference_ms is None
    reference_ms = typical_reference_ms(sampling.samples) if machine_reference_ms is None else machine_reference_ms
    found = sampling.estimate
    return Measurement(
        latency_ms=found.ratio * reference_ms,
        uncertainty=found.uncertainty if math.isfinite(found.uncertainty) else None,
        reference_ms=reference_ms,
        reference_source="this run" if own else "calibration",
        samples=_raw(sampling, context["threads"]),
        warm_up_runs=len(sampling.warm_up),
        stopped_because=sampling.stopped_because.value,
        **_counts(sampling, counted=runner.counts_pages),
        live_bytes=memory.live_bytes,
        resident_bytes=memory.resident_bytes,
        peak_resident_bytes=memory.peak_resident_bytes,
        outputs_equal_native=None,
        settled=sampling.settled,
        period=sampling.period,
        context=context,
    )


def _native_digest(job: Job) -> str:
    plain = replace(job, epc_bytes=None, cpus=None)
    with NativeRunner().start(plain) as session:
        return session.outputs_digest()


def _require_equal(digest: str, native: str, runner: str) -> None:
    """Compare two digests of outputs.

    Raises:
        OutputsDiffer: they are not the same.
    """
    if native != digest:
        raise OutputsDiffer(
            f"the outputs in {runner} (SHA-256 {digest[:16]}...) are not those of the native run "
            f"({native[:16]}...), from the same inputs: do not use this enclave's results, and report it "
            "with the model. A model that draws random numbers itself gives this too"
        )


def _raw(sampling: Sampling, threads: int) -> tuple[dict[str, Any], ...]:
    rows = []
    for sample, used in zip(sampling.samples, sampling.estimate.used, strict=True):
        reading = read_sample(sample, threads)
        rows.append(
            {
                "latency_ms": sample.latency_ns / 1e6,
                "wall_ms": sample.wall_ns / 1e6,
                "reference_ms": sample.reference_ns / 1e6,
                "reference_before_ms": sample.reference_before_ns / 1e6,
                "reference_after_ms": sample.reference_after_ns / 1e6,
                "wait_ms": sample.wait_ns / 1e6,
                "handler_ms": sample.handler_ns / 1e6,
                "loads": sample.loads,
                "evictions": sample.evictions,
                "minor_faults": sample.minor_faults,
                "zero_fills": sample.zero_fills,
                "ratio": reading.ratio,
                "disturbed": reading.disturbed,
                "used": used,
            }
        )
    return tuple(rows)


def _counts(sampling: Sampling, *, counted: bool) -> dict[str, float | None]:
    """Mean page counts of an inference over whole periods."""
    whole = len(sampling.samples) - len(sampling.samples) % sampling.period
    samples = sampling.samples[:whole] or sampling.samples

    def mean(count: Callable[[Sample], int]) -> float | None:
        return statistics.fmean(count(sample) for sample in samples) if counted else None

    return {
        "faults": mean(lambda s: s.loads + s.zero_fills + s.minor_faults),
        "loads": mean(lambda s: s.loads),
        "evictions": mean(lambda s: s.evictions),
        "minor_faults": mean(lambda s: s.minor_faults),
        "zero_fills": mean(lambda s: s.zero_fills),
    }
