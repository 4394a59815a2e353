"""How a campaign measures one network in one place: how long it samples, and what it keeps of a run."""

from __future__ import annotations

import datetime
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sectum.enclave.runners.runner import MIN_EPC_BYTES, Runner, RunningModel
from sectum.errors import EnclaveError, UsageError
from sectum.lab.dataset.dataset import SAMPLE_COLUMNS
from sectum.measure.reference import References, paging_share
from sectum.measure.sampling import take_samples
from sectum.ort import stored
from sectum.ort.costs import cost
from sectum.ort.optimized import OptimizedGraph
from sectum.units import PAGE_BYTES

NATIVE_S, ENCLAVE_S = 1.0, 1.6
"""Seconds after which sampling a run ends, once it has the fewest samples."""
FEWEST, ENOUGH = 4, 7
"""Samples that are taken even if the time is over, and that are taken before sampling may end earlier."""
LEAST_S, UNCERTAINTY_BOUND = 0.3, 0.035
"""When it stops earlier. What differs from session to session is more than this, and only repeating shows it."""
MEMORY_CAP_BYTES = 6 << 30
_COUNTS = ("loads", "evictions", "minor_faults", "zero_fills")


@dataclass(frozen=True)
class Places:
    """Where a campaign runs its networks, and on which CPUs."""

    native: Runner
    enclave: Runner
    cpus: tuple[int, ...] | None
    machine: str


@contextmanager
def recording(record: dict[str, Any], places: Places) -> Iterator[None]:
    """Add to a record what every campaign keeps; a failure in the body becomes the record's error."""
    begin_s = time.monotonic()
    record |= {
        "working_set_bytes": None,
        "model_live_bytes": None,
        "runs": [],
        "error": "",
        "machine": places.machine,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    try:
        yield
    except (EnclaveError, UsageError) as error:  # the second where the pager refuses an EPC size
        record["error"] = f"{type(error).__name__}: {error}"
    record["seconds"] = time.monotonic() - begin_s


def graph_columns(runtime: OptimizedGraph) -> dict[str, Any]:
    """What a record keeps of the graph that the runtime executes."""
    return {
        "graph": stored.dumps(runtime),
        "weight_bytes": runtime.weight_bytes,
        "flops": sum(cost(op, runtime).flops for op in runtime.operators),
    }


def native_run(session: RunningModel, share: float, *, threads: int = 1) -> dict[str, Any]:
    """Measure natively; ``share`` is that of the reduction kernel in the references, see `sums_share`."""
    return _run(session, share, None, "native", NATIVE_S, threads) | {"outputs_equal_native": True}


def enclave_runs(
    session: RunningModel,
    share: float,
    epc_sizes: Callable[[int], Iterable[int | None]],
    native_digest: str,
    record: dict[str, Any],
    *,
    threads: int = 1,
) -> None:
    """Measure in the enclave under several sizes of EPC, and add the working set and the runs to a record.

    Args:
        session: in an enclave without a limit.
        share: of the reduction kernel in the references, see `sectum.measure.reference.sums_share`.
        epc_sizes: gives the sizes for a working set, in bytes; None is no limit.
        native_digest: of the outputs that are expected.
        record: to add to.
        threads: of the runtime.
    """
    session.sample(2)
    working_set_bytes = measured_working_set_bytes(session)
    record["working_set_bytes"] = working_set_bytes
    record["model_live_bytes"] = session.memory().model_live_bytes
    for epc_bytes in epc_sizes(working_set_bytes):
        session.set_epc(epc_bytes)
        run = _run(session, share, epc_bytes, "softepc", ENCLAVE_S, threads)
        record["runs"].append(run | {"outputs_equal_native": session.outputs_digest() == native_digest})


def measured_working_set_bytes(session: RunningModel) -> int:
    """Count the distinct pages of an inference: all are evicted first, and each is loaded again at its first use."""
    session.set_epc(MIN_EPC_BYTES)
    session.set_epc(None)
    (sample,) = session.sample(1)
    # Pages that stayed in the smallest EPC are mapped again, or are still mapped and not counted: 64 at most.
    return (sample.loads + sample.zero_fills + sample.minor_faults) * PAGE_BYTES


def _run(
    session: RunningModel, share: float, epc_bytes: int | None, place: str, time_s: float, threads: int
) -> dict[str, Any]:
    """Sample a run; gives the columns of `sectum.lab.dataset.dataset.run_columns`, but for the last."""
    sampling = take_samples(
        session,
        threads=threads,
        share=share,
        time_s=time_s,
        uncertainty_bound=UNCERTAINTY_BOUND,
        least_s=LEAST_S,
        fewest=FEWEST,
        enough=ENOUGH,
    )
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
        **{f"sample_{name}": [getattr(sample, name) for sample in samples] for name in SAMPLE_COLUMNS},
    }
