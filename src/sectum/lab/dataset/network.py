"""Measures one network of a campaign: natively, its operators, and in enclaves of at least two sizes."""

from __future__ import annotations

import datetime
import math
import random
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sectum import zoo
from sectum.enclave.runners.runner import MIN_EPC_BYTES, Job, Runner, Sample, Session
from sectum.errors import EnclaveError, UsageError
from sectum.lab.dataset.campaign import DIGEST_CHARACTERS, Task
from sectum.lab.dataset.dataset import SAMPLE_COLUMNS
from sectum.measure.operators import match
from sectum.measure.reference import References, paging_share, sums_share
from sectum.measure.sampling import Sampling, take_samples
from sectum.ort import stored
from sectum.ort.costs import cost
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.units import MIB, PAGE_BYTES

NATIVE_S, ENCLAVE_S = 1.0, 1.6
"""Seconds after which sampling a run ends, once it has the fewest samples."""
FEWEST, ENOUGH = 4, 7
"""Samples that are taken even if the time is over, and that are taken before sampling may end earlier."""
LEAST_S, UNCERTAINTY_BOUND = 0.3, 0.035
"""When it stops earlier. What differs from session to session is more than this, and only repeating tells it."""
PROFILE_S = 0.2
PROFILED_INFERENCES = (9, 41)
"""Least and most inferences of a profile; as many as fit into its time."""
BOUNDARY = 1.25
"""The near EPC lies within this factor of the working set."""
WIDE = 5.0
"""The other EPC lies within this factor of it."""
SMALLEST_EPC_BYTES = MIB
_COUNTS = ("loads", "evictions", "minor_faults", "zero_fills")
_DEADLINE_S = 120.0
_MEMORY_CAP_BYTES = 6 << 30


@dataclass(frozen=True)
class Places:
    """Where a campaign runs its networks, and on which CPUs."""

    native: Runner
    enclave: Runner
    cpus: tuple[int, ...] | None
    machine: str


def measure_network(task: Task, places: Places) -> dict[str, Any]:
    """Measure a network; a failure is a record with its reason.

    Returns:
        A record with the columns of `sectum.lab.dataset.dataset.schema`.
    """
    begin_s = time.monotonic()
    architecture = task.architecture()
    runtime = optimize(zoo.to_graph(architecture, task.batch), Cpu.here())
    record: dict[str, Any] = {
        "key": task.key,
        "family": task.family,
        "source": task.source,
        "seed": task.seed,
        "width": task.width,
        "resolution": architecture.resolution,
        "batch": task.batch,
        "threads": 1,
        "structure": zoo.structure(architecture)[:DIGEST_CHARACTERS],
        "topology": zoo.topology(architecture)[:DIGEST_CHARACTERS],
        "graph": stored.dumps(runtime),
        "weight_bytes": runtime.weight_bytes,
        "flops": sum(cost(op, runtime).flops for op in runtime.operators),
        "working_set_bytes": None,
        "model_live_bytes": None,
        "operator_times": None,
        "runs": [],
        "error": "",
        "machine": places.machine,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    job = Job(
        model=zoo.to_bytes(architecture, batch=task.batch),
        deadline_s=_DEADLINE_S,
        memory_cap_bytes=_MEMORY_CAP_BYTES,
        cpus=places.cpus,
    )
    share = sums_share(runtime)
    try:
        digest = _measure_natively(job, places.native, runtime, share, record)
        _measure_in_enclave(job, places.enclave, share, _rng(task), digest, record)
    except (EnclaveError, UsageError) as error:  # the second where the pager refuses an EPC size
        record["error"] = f"{type(error).__name__}: {error}"
    record["seconds"] = time.monotonic() - begin_s
    return record


def _rng(task: Task) -> random.Random:
    """Decides the EPC sizes: a network that is measured again gets the same ones."""
    return random.Random(replace(task, repeat=0).key)  # noqa: S311 - sizes, not secrets


def _measure_natively(job: Job, runner: Runner, runtime: OptimizedGraph, share: float, record: dict[str, Any]) -> str:
    """Add operator times, then the native run with the profiler off again; returns the digest of its outputs."""
    with runner.start(replace(job, profile=True)) as session:
        _, second = session.sample(2)
        least, most = PROFILED_INFERENCES
        profiled = max(least, min(most, int(PROFILE_S * 1e9 / second.wall_ns)))
        record["operator_times"] = match(runtime, session.operator_times(profiled))
        if record["operator_times"] is None:
            record["error"] = "the runtime executed other operators than the graph says"
        sampling = sampled(session, share, NATIVE_S)
        record["runs"].append(run_record(session, sampling, share, None, "native") | {"outputs_equal_native": True})
        return session.outputs_digest()


def _measure_in_enclave(
    job: Job, runner: Runner, share: float, rng: random.Random, digest: str, record: dict[str, Any]
) -> None:
    """Add the working set, and a run for each EPC size, the largest first."""
    with runner.start(job) as session:
        session.sample(2)
        working_set_bytes = measured_working_set_bytes(session)
        record["working_set_bytes"] = working_set_bytes
        record["model_live_bytes"] = session.memory().model_live_bytes
        for epc_bytes in sorted(epc_sizes(working_set_bytes, rng), reverse=True):
            session.set_epc(epc_bytes)
            sampling = sampled(session, share, ENCLAVE_S)
            run = run_record(session, sampling, share, epc_bytes, "softepc")
            record["runs"].append(run | {"outputs_equal_native": session.outputs_digest() == digest})


def sampled(session: Session, share: float, time_s: float, *, threads: int = 1) -> Sampling:
    """Take the samples of one run, by the rules of a campaign."""
    return take_samples(
        session,
        threads=threads,
        share=share,
        time_s=time_s,
        uncertainty_bound=UNCERTAINTY_BOUND,
        least_s=LEAST_S,
        fewest=FEWEST,
        enough=ENOUGH,
    )


def measured_working_set_bytes(session: Session) -> int:
    """Count the distinct pages of an inference: all are put out of the EPC, and each comes back at its first use."""
    session.set_epc(MIN_EPC_BYTES)
    session.set_epc(None)
    (sample,) = session.sample(1)
    # Pages that stayed in the smallest EPC are mapped again, or are still mapped and not counted: 64 at most.
    return (sample.loads + sample.zero_fills + sample.minor_faults) * PAGE_BYTES


def epc_sizes(working_set_bytes: int, rng: random.Random) -> tuple[int, int]:
    """Draw one size near the working set, so that the boundary is dense, and one from a wide range, in whole pages."""
    near = working_set_bytes * math.exp(rng.uniform(-1, 1) * math.log(BOUNDARY))
    wide = working_set_bytes * math.exp(rng.uniform(-1, 1) * math.log(WIDE))
    sizes = max(MIN_EPC_BYTES, near), max(SMALLEST_EPC_BYTES, wide)
    return int(sizes[0]) // PAGE_BYTES * PAGE_BYTES, int(sizes[1]) // PAGE_BYTES * PAGE_BYTES


def run_record(session: Session, sampling: Sampling, share: float, epc_bytes: int | None, place: str) -> dict[str, Any]:
    """Columns of `sectum.lab.dataset.dataset.run_fields`, but for ``outputs_equal_native``."""
    memory = session.memory()
    samples = sampling.samples
    references = References.of(samples)
    whole = samples[: len(samples) - len(samples) % sampling.period] or samples
    uncertainty = sampling.estimate.uncertainty
    return {
        "place": place,
        "epc_bytes": epc_bytes,
        "latency": sampling.estimate.ratio,
        "uncertainty": uncertainty if math.isfinite(uncertainty) else None,
        "products_ms": references.products_ms,
        "sums_ms": references.sums_ms,
        "sums_share": share + (1 - share) * statistics.fmean(paging_share(sample) for sample in samples),
        "stopped_because": sampling.stopped_because.value,
        "settled": sampling.settled,
        "period": sampling.period,
        "warm_up": len(sampling.warm_up),
        **{name: statistics.fmean(getattr(s, name) for s in whole) for name in _COUNTS},
        "live_bytes": memory.live_bytes,
        "resident_bytes": memory.resident_bytes,
        "peak_resident_bytes": memory.peak_resident_bytes,
        **{f"sample_{name}": _column(samples, name) for name in SAMPLE_COLUMNS},
    }


def _column(samples: Iterable[Sample], name: str) -> list[int]:
    return [getattr(sample, name) for sample in samples]
