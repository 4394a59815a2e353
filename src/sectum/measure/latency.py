"""Measures one model in one place: latency, page faults, memory, and whether the outputs are right."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import MIN_EPC_BYTES, Job, Memory, Runner, Sample, Session
from sectum.errors import OutputsDiffer
from sectum.graph.ir import Graph
from sectum.measure.context import machine_context
from sectum.measure.reference import References, combine, compared_with, paging_share, read_sample, sums_share
from sectum.measure.sampling import UNCERTAINTY_BOUND, Sampling, take_samples
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

ROUNDS = 3
"""Number of processes that a model is measured in, if there is time: their ratios differ by 2 to 5 %."""
_UNTIL_MEMORY_IS_PLANNED = 2  # inferences; the runtime plans memory in the first
_GRACE_S = 60.0  # time of a process beside its sampling: loading, one inference, a digest


class MeasurableModel(Protocol):
    """A model that can be measured, such as `sectum.graph.Model`."""

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

    Page counts are of one inference: means over the samples; None if the runner cannot count.

    Attributes:
        latency_ms: ratio to the reference kernels, times the machine's typical reference time.
        uncertainty: half-width of the 95 % interval of latency_ms, relative to it; None for a single sample.
        reference_ms: the reference time that turned the ratio into milliseconds.
        reference_source: ``calibration`` (given by the caller) or ``this run`` (its own mean).
        processes: number of processes, one after the other; the addresses of memory differ between them.
        samples: raw samples, in order: number of the process, latency_ms, wall_ms, times of the reference kernels
            before and after (``products``: GEMM kernel, ``sums``: reduction kernel) and their mixture (reference_ms),
            wait_ms, handler_ms, page counts, the ratio, ``disturbed`` (why it is flagged, or empty), ``used``.
        warm_up_runs: inferences before the first sample.
        stopped_because: ``precise``, ``runs``, ``samples`` or ``deadline``.
        faults: sum of loads, zero fills and minor faults.
        loads: pages loaded.
        evictions: pages evicted.
        minor_faults: minor faults.
        zero_fills: pages touched for the first time.
        live_bytes: bytes allocated in the enclave, or by the native process.
        resident_bytes: part of live_bytes that is in memory.
        peak_resident_bytes: largest value of resident_bytes so far.
        outputs_equal_native: whether outputs equal the native run's, bit for bit; None if not compared.
        settled: whether page counts had settled before the first sample.
        period: number of inferences after which page counts repeat.
        context: machine, versions, runner, threads, seed, date; ``kind`` is ``measured`` or ``unverified``.
    """

    latency_ms: float
    uncertainty: float | None
    reference_ms: float
    reference_source: str
    processes: int
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

    @property
    def over_committed(self) -> bool | None:
        """Whether an inference pages; None if the runner cannot count.

        This depends on evictions, not on loads: a page that was evicted before the first inference, and that the
        runtime uses only now and then, is loaded during some sample even if nothing is evicted for it.
        """
        return None if self.evictions is None else self.evictions > 0

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON; every field under its own name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def to_json(self) -> str:
        """Give one JSON object."""
        return json.dumps(self.as_dict(), allow_nan=False)


def measure(
    model: MeasurableModel,
    runner: Runner,
    *,
    epc_bytes: int | None = None,
    threads: int = 1,
    runs: int | None = None,
    deadline_s: float = 60.0,
    references: References | None = None,
    compare_native: bool = True,
    policy: str = "second-chance",
    as_loaded: bool = False,
    seed: int = 0,
    uncertainty_bound: float = UNCERTAINTY_BOUND,
    memory_cap_bytes: int = 16 << 30,
) -> Measurement:
    """Measure a model.

    Args:
        model: a model with bound shapes.
        runner: where it runs.
        epc_bytes: size of the EPC; None for no limit.
        threads: threads of the runtime.
        runs: number of samples; None for as many as the bound requires.
        deadline_s: seconds in which samples are taken, warm-up included. A process may live 1.5 times that, and 60 s
            more for loading. Another process is started only if there is time for it.
        references: the reference kernels' typical times on this machine, from a calibration. Without them, milliseconds
            are those of the machine's speed during this run.
        compare_native: run the model natively as well and compare outputs.
        policy: which pages are evicted.
        as_loaded: continue with the pages that loading the model left in the EPC. Otherwise all pages are evicted once,
            and loaded as inferences use them; the steady state then depends only on the network and the EPC. From
            another beginning, an EPC a little smaller than the working set may keep more of it for hundreds of
            inferences.
        seed: seed of the inputs.
        uncertainty_bound: relative half-width of the 95 % interval at which sampling stops.
        memory_cap_bytes: memory that the process may use.

    Raises:
        OutputsDiffer: the outputs differ from those of the native run.
        EnclaveError: the model could not be run; see `sectum.errors`.
        UsageError: an argument is out of its range.
    """
    share = sums_share(optimize(model.graph, Cpu.here()))
    content = model.bound_bytes()
    job = Job(
        model=content,
        epc_bytes=epc_bytes,
        policy=policy,
        threads=threads,
        seed=seed,
        deadline_s=1.5 * deadline_s + _GRACE_S,
        memory_cap_bytes=memory_cap_bytes,
    )

    def visit(session: Session, left_s: float) -> _Visit:
        if epc_bytes is not None and runner.counts_pages and not as_loaded:
            session.sample(_UNTIL_MEMORY_IS_PLANNED)
            session.set_epc(MIN_EPC_BYTES)
            session.set_epc(epc_bytes)
        sampling = take_samples(
            session,
            threads=threads,
            share=share,
            time_s=left_s,
            runs=runs,
            uncertainty_bound=uncertainty_bound,
        )
        digest = session.outputs_digest() if compare_native else ""
        return _Visit(sampling, session.memory(), digest, session.info.versions)

    visits = list(_visits(runner, job, deadline_s, visit, most=ROUNDS if runs is None else 1))
    if compare_native:
        native = _native_digest(job)
        for visited in visits:
            _require_equal(visited.digest, native, runner.name)
    context = _context(model, runner, job, content, as_loaded=as_loaded)
    return _measurement(visits, runner, references, share, context, compared=compare_native)


def _context(model: MeasurableModel, runner: Runner, job: Job, content: bytes, *, as_loaded: bool) -> dict[str, Any]:
    """Where and how the numbers were measured."""
    return {
        **machine_context(),
        "kind": runner.provenance,
        "runner": runner.name,
        "policy": job.policy,
        "as_loaded": as_loaded,
        "threads": job.threads,
        "seed": job.seed,
        "model": model.graph.name,
        "model_sha256": hashlib.sha256(content).hexdigest(),
        "epc_bytes": job.epc_bytes,
    }


@dataclass(frozen=True, slots=True)
class _Visit:
    """The results of one process."""

    sampling: Sampling
    memory: Memory
    digest: str
    versions: Mapping[str, str]


def _visits(
    runner: Runner, job: Job, time_s: float, visit: Callable[[Session, float], _Visit], *, most: int
) -> Iterator[_Visit]:
    """Measure in one process, and again in others while there is time for one more."""
    begin_s = time.monotonic()
    for _ in range(most):
        started_s = time.monotonic()
        with runner.start(job) as session:
            visited = visit(session, time_s - (started_s - begin_s))
        yield visited
        now_s = time.monotonic()
        if now_s - begin_s + (now_s - started_s) > time_s:
            return


def _measurement(
    visits: Sequence[_Visit],
    runner: Runner,
    references: References | None,
    share: float,
    context: dict[str, Any],
    *,
    compared: bool,
) -> Measurement:
    samplings = [visit.sampling for visit in visits]
    samples = [sample for sampling in samplings for sample in sampling.samples]
    paging = statistics.fmean(shares) if (shares := [paging_share(sample) for sample in samples]) else 0.0
    reference_ms = (references or References.of(samples)).mixed_ms(share + (1 - share) * paging)
    found = combine([sampling.estimate for sampling in samplings])
    last = visits[-1]
    return Measurement(
        latency_ms=found.ratio * reference_ms,
        uncertainty=found.uncertainty if math.isfinite(found.uncertainty) else None,
        reference_ms=reference_ms,
        reference_source="this run" if references is None else "calibration",
        processes=len(visits),
        samples=tuple(
            row for number, sampling in enumerate(samplings) for row in _raw(sampling, number, context, share)
        ),
        warm_up_runs=sum(len(sampling.warm_up) for sampling in samplings),
        stopped_because=last.sampling.stopped_because.value,
        **_counts(samplings, counted=runner.counts_pages),
        live_bytes=last.memory.live_bytes,
        resident_bytes=last.memory.resident_bytes,
        peak_resident_bytes=max(visit.memory.peak_resident_bytes for visit in visits),
        outputs_equal_native=True if compared else None,
        settled=all(sampling.settled for sampling in samplings),
        period=last.sampling.period,
        context=context | {"versions": context["versions"] | dict(last.versions)},
    )


def _native_digest(job: Job) -> str:
    plain = replace(job, epc_bytes=None, cpus=None)
    with NativeRunner().start(plain) as session:
        return session.outputs_digest()


def _require_equal(digest: str, native: str, runner: str) -> None:
    """Compare two digests of outputs.

    Raises:
        OutputsDiffer: they differ.
    """
    if native != digest:
        raise OutputsDiffer(
            f"the outputs in {runner} (SHA-256 {digest[:16]}...) differ from those of the native run "
            f"({native[:16]}...) with the same inputs: do not use this enclave's results, and report this with the "
            "model. A model that draws random numbers causes this, too"
        )


def _raw(sampling: Sampling, process: int, context: Mapping[str, Any], share: float) -> list[dict[str, Any]]:
    rows = []
    for sample, used in zip(sampling.samples, sampling.estimate.used, strict=True):
        reading = read_sample(sample, context["threads"], share)
        rows.append(
            {
                "process": process,
                "latency_ms": sample.latency_ns / 1e6,
                "wall_ms": sample.wall_ns / 1e6,
                "reference_ms": compared_with(sample, share) / 1e6,
                "products_before_ms": sample.products_before_ns / 1e6,
                "products_after_ms": sample.products_after_ns / 1e6,
                "sums_before_ms": sample.sums_before_ns / 1e6,
                "sums_after_ms": sample.sums_after_ns / 1e6,
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
    return rows


def _counts(samplings: Sequence[Sampling], *, counted: bool) -> dict[str, float | None]:
    """Give the mean page counts of an inference over whole periods."""
    samples: list[Sample] = []
    for sampling in samplings:
        whole = len(sampling.samples) - len(sampling.samples) % sampling.period
        samples += sampling.samples[:whole] or sampling.samples

    def mean(count: Callable[[Sample], int]) -> float | None:
        return statistics.fmean(count(sample) for sample in samples) if counted else None

    return {
        "faults": mean(lambda s: s.loads + s.zero_fills + s.minor_faults),
        "loads": mean(lambda s: s.loads),
        "evictions": mean(lambda s: s.evictions),
        "minor_faults": mean(lambda s: s.minor_faults),
        "zero_fills": mean(lambda s: s.zero_fills),
    }
