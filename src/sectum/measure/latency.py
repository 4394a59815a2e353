"""Measures one model in one place: latency, page faults, memory, and whether the outputs are right."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job, Runner, Sample
from sectum.errors import EnclaveDeadline, OutputsDiffer
from sectum.measure.context import machine_context
from sectum.measure.input_ranges import input_ranges
from sectum.measure.measurement import Measurement
from sectum.measure.reference import References, combine, compared_with, paging_share, read_sample, sums_share
from sectum.measure.sampling import UNCERTAINTY_BOUND, Sampling
from sectum.measure.visits import Measuring, TimeLeft, Visit
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sectum.graph import Model

ROUNDS = 3
"""Number of processes that a model is measured in, if there is time: their ratios differ by 2 to 5 %."""


def measure(
    model: Model,
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
    inputs: Mapping[str, tuple[int, ...] | NDArray[np.generic]] = MappingProxyType({}),
    streams: Mapping[str, Any] | None = None,
    uncertainty_bound: float = UNCERTAINTY_BOUND,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
    clock: Callable[[], float] = time.monotonic,
) -> Measurement:
    """Measure a model.

    Args:
        model: a model with bound shapes.
        runner: where it runs.
        epc_bytes: size of the EPC; None for no limit.
        threads: threads of the runtime.
        runs: number of samples; None for as many as the bound requires.
        deadline_s: seconds that the measurement may take, with everything that belongs to it. What was sampled until
            then is the result, even if it is a single inference. An inference that has begun may end up to 5 s later.
        references: the reference kernels' typical times on this machine, from a calibration. Without them, milliseconds
            are those of the machine's speed during this run.
        compare_native: run the model natively as well and compare outputs.
        policy: which pages are evicted.
        as_loaded: continue with the pages that loading the model left in the EPC. Otherwise all pages are evicted once,
            and loaded as inferences use them; the steady state then depends only on the network and the EPC. From
            another beginning, an EPC a little smaller than the working set may keep more of it for hundreds of
            inferences.
        inputs: shapes of inputs that the model leaves open, and values of inputs that are not to be drawn.
        streams: how the model runs stage by stage, if it does; see `sectum.enclave.runners.runner.Job`.
        uncertainty_bound: relative half-width of the 95 % interval at which sampling stops.
        progress: called with what is being done, and the share of the deadline that has passed, from 0 to 1.
        clock: seconds, monotonic; for tests.

    Raises:
        OutputsDiffer: the outputs differ from those of the native run.
        EnclaveDeadline: not even one inference ended before the deadline.
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
        input_ranges=input_ranges(model.graph),
        inputs=inputs,
        deadline_s=deadline_s,
        streams=streams,
    )
    measuring = Measuring(
        runner=runner,
        job=job,
        share=share,
        time_left=TimeLeft(deadline_s, clock),
        runs=runs,
        uncertainty_bound=uncertainty_bound,
        compare_native=compare_native,
        as_loaded=as_loaded,
        progress=progress,
        clock=clock,
    )
    try:
        visits = list(measuring.visits(most=ROUNDS if runs is None else 1))
    except EnclaveDeadline as error:
        raise EnclaveDeadline(
            f"no inference in {runner.name} ended within the deadline of {deadline_s:g} s, which passed while "
            f"{measuring.doing}: give a longer deadline, a larger EPC or a smaller batch"
        ) from error
    compared = [visited.digest for visited in visits if visited.digest]
    native = _native_digest(job, measuring.time_left) if compared else None
    if native is not None:
        for digest in compared:
            _require_equal(digest, native, runner.name)
    as_loaded = as_loaded or not all(visited.evicted for visited in visits)
    context = _context(model, runner, job, content, as_loaded=as_loaded)
    return _measurement(visits, runner, references, share, context, compared=native is not None)


def _context(model: Model, runner: Runner, job: Job, content: bytes, *, as_loaded: bool) -> dict[str, Any]:
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


def _measurement(
    visits: Sequence[Visit],
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


def _native_digest(job: Job, time_left: TimeLeft) -> str | None:
    """The digest of the native run's outputs; None if there is no time for it."""
    if not time_left.seconds:
        return None
    plain = replace(job, epc_bytes=None, cpus=None, streams=None, deadline_s=time_left.of_a_process)
    try:
        with NativeRunner().start(plain) as session:
            return session.outputs_digest()
    except EnclaveDeadline:
        return None


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
