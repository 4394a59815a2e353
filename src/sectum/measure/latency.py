"""Measures one model in one place: latency, page faults, memory, and that it computes the same."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import MIN_EPC_BYTES, Job, Memory, Runner, Sample, Session, check_epc
from sectum.errors import OutputsDiffer, UsageError
from sectum.graph.ir import Graph
from sectum.measure.context import machine_context
from sectum.measure.reference import References, compared_with, paging_share, read_sample, sums_share, together
from sectum.measure.sampling import UNCERTAINTY_BOUND, Sampling, take_samples
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

ROUNDS = 3
"""Processes that a model is measured in, if there is time: their ratios differ by 2 to 5 %, more than within one."""
_LAID_OUT = 2
"""Inferences after which memory lies where it stays: the runtime plans it in the first."""
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
        reference_source: ``calibration`` (given by the caller) or ``this run`` (its own mean).
        processes: in which it was measured, one after the other: where memory lies differs from one to the next.
        samples: raw, in order: number of its process, latency_ms, wall_ms, the reference kernels'
            times before and after (products_before_ms and so on) and their mixture (reference_ms), wait_ms,
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
        """Whether an inference pages: None where the runner cannot count.

        Evictions tell it, not loads: a page that was put out before the first inference, and that the runtime uses
        once in a while, is loaded during some sample even where nothing has to leave for it. Rows of a dataset know
        the working set, too, and go by `sectum.lab.dataset.dataset.is_over_committed`.
        """
        return None if self.evictions is None else self.evictions > 0

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
        epc_bytes: protected memory; None for no limit.
        threads: of the runtime.
        runs: how many samples; None for as many as the bound asks for.
        deadline_s: seconds in which samples are taken, warm-up included. A process is stopped when it has
            lived 1.5 times that, and 60 s more for loading. Another is started only if it fits as well.
        references: the reference kernels' typical times on this machine, from a calibration. Without them
            milliseconds are those of the machine's speed during this run.
        compare_native: run the model natively too and compare outputs.
        policy: of eviction.
        as_loaded: go on from the pages that loading the model left in the EPC. Otherwise all are put out once, and come
            back as inferences use them: what then is the steady state depends on network and EPC alone. From other
            beginnings an EPC a little smaller than the working set may keep more of it, for hundreds of inferences.
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
        references=references,
        compare_native=compare_native,
        policy=policy,
        as_loaded=as_loaded,
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
    references: References | None = None,
    compare_native: bool = True,
    policy: str = "second-chance",
    as_loaded: bool = False,
    seed: int = 0,
    uncertainty_bound: float = UNCERTAINTY_BOUND,
    memory_cap_bytes: int = 16 << 30,
) -> list[Measurement]:
    """Measure a model under several EPC sizes, one after the other in the same processes.

    Args:
        model: a model with bound shapes.
        runner: where it runs.
        budgets: protected memory, in bytes; None for no limit. The model is loaded under the first.
        threads: as in `measure`, like all that follow; ``deadline_s`` is for each size.
        runs: see `measure`.
        deadline_s: see `measure`.
        references: see `measure`.
        compare_native: see `measure`.
        policy: see `measure`.
        as_loaded: see `measure`.
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
    share = sums_share(optimize(model.graph, Cpu.here()))
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

    def visit(session: Session, left_s: float) -> _Visit:
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

    def prepare(session: Session, budget: int | None) -> None:
        if budget is not None and runner.counts_pages and not as_loaded:
            session.sample(_LAID_OUT)
            session.set_epc(MIN_EPC_BYTES)
            session.set_epc(budget)

    most = ROUNDS if runs is None else 1
    rounds = list(_rounds(runner, job, budgets, deadline_s * len(budgets), prepare, visit, most=most))
    if compare_native:
        native = _native_digest(job)
        for visited in itertools.chain.from_iterable(rounds):
            _require_equal(visited.digest, native, runner.name)
    context = _context(model, runner, job, content, as_loaded=as_loaded)
    return [
        _measurement(visits, runner, references, share, context | {"epc_bytes": budget}, compared=compare_native)
        for budget, *visits in zip(budgets, *rounds, strict=True)
    ]


def _context(model: MeasurableModel, runner: Runner, job: Job, content: bytes, *, as_loaded: bool) -> dict[str, Any]:
    """Where and how the numbers were taken; the EPC's size and the versions differ from one to the next."""
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
    }


@dataclass(frozen=True, slots=True)
class _Visit:
    """What one process gave under one EPC size."""

    sampling: Sampling
    memory: Memory
    digest: str
    versions: Mapping[str, str]


def _rounds(
    runner: Runner,
    job: Job,
    budgets: Sequence[int | None],
    time_s: float,
    prepare: Callable[[Session, int | None], None],
    visit: Callable[[Session, float], _Visit],
    *,
    most: int,
) -> Iterator[list[_Visit]]:
    """Visit all EPC sizes in one process, and again in others while there is time for one more."""
    begin_s = time.monotonic()
    for _ in range(most):
        round_s = time.monotonic()
        left_s = time_s - (round_s - begin_s)
        visits = []
        with runner.start(job) as session:
            for index, budget in enumerate(budgets):
                if index:
                    session.set_epc(budget)
                prepare(session, budget)
                visits.append(visit(session, left_s / len(budgets)))
        yield visits
        now_s = time.monotonic()
        if now_s - begin_s + (now_s - round_s) > time_s:
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
    found = together([sampling.estimate for sampling in samplings])
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
        OutputsDiffer: they are not the same.
    """
    if native != digest:
        raise OutputsDiffer(
            f"the outputs in {runner} (SHA-256 {digest[:16]}...) are not those of the native run "
            f"({native[:16]}...), from the same inputs: do not use this enclave's results, and report it "
            "with the model. A model that draws random numbers itself gives this too"
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
    """Mean page counts of an inference over whole periods."""
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
