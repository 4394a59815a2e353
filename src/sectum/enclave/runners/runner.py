"""Where a model runs: the protocol that ``native``, ``softepc`` and ``gramine`` implement.

A `Runner` starts a `Job` and returns a `RunningModel`: one process that holds the model and answers requests. It ends
when it is closed, exceeds its deadline or its memory cap, or dies. Each implementation passes
`sectum.testing.runner_conformance`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sectum.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_EPC_BYTES = 64 * 4096
"""The smallest budget that the pager accepts: 64 pages."""

PROVENANCE_MEASURED = "measured"
PROVENANCE_UNVERIFIED = "unverified"
"""What a runner's numbers are: ``unverified`` if the runner was not tried on its hardware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A model to run, and its limits.

    Attributes:
        model: path or bytes of an ONNX model without external data, whose input shapes are static or given.
        epc_bytes: size of the EPC; None for no limit.
        policy: which pages are evicted, ``second-chance`` or ``fifo``.
        threads: intra-operator threads of the runtime.
        seed: of the inputs, which are the same in every runner.
        input_ranges: for integer inputs by name, the smallest value and the largest one plus 1; others are 0 or 1.
        inputs: shapes of inputs that the model leaves open, and values of inputs that are not to be drawn.
        deadline_s: seconds of wall time that the process may live.
        memory_cap_bytes: memory that the process may use, sealed pages included.
        profile: keep the runtime's own profile, for `RunningModel.operator_times`.
        cpus: CPUs to pin the process to; None leaves it to the scheduler.
        streams: where the model runs stage by stage with sealed weights, how: the fields of
            `sectum.enclave.streaming.session.Streams` as JSON types. With several buffers, one of the threads opens
            weights and the others compute.
        link: where the model runs in a chain of enclaves, the place of this one: the fields of
            `sectum.enclave.streaming.chained.Place` as JSON types. Only the software enclave has links.
        stop: ends the process when another thread sets it, also while the model is loaded.
    """

    model: Path | bytes
    epc_bytes: int | None = None
    policy: str = "second-chance"
    threads: int = 1
    seed: int = 0
    input_ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    inputs: Mapping[str, tuple[int, ...] | NDArray[np.generic]] = field(default_factory=dict, compare=False)
    deadline_s: float = 600.0
    memory_cap_bytes: int = 16 << 30
    profile: bool = False
    cpus: tuple[int, ...] | None = None
    streams: Mapping[str, Any] | None = field(default=None, compare=False)
    link: Mapping[str, Any] | None = field(default=None, compare=False)
    stop: threading.Event | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: a field is out of its range.
        """
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}: give 1 or more")
        if not (math.isfinite(self.deadline_s) and self.deadline_s > 0):
            raise UsageError(f"the deadline is {self.deadline_s} s: give a positive number of seconds")
        if self.memory_cap_bytes < 1:
            raise UsageError(f"the memory cap is {self.memory_cap_bytes} bytes: give a positive number")
        if self.streams is not None and self.profile:
            raise UsageError("operators of a model that runs stage by stage are not timed: leave profile out")
        if self.policy not in ("second-chance", "fifo"):
            raise UsageError(f"no runner evicts pages by '{self.policy}': give second-chance or fifo")
        check_epc(self.epc_bytes)


def check_epc(epc_bytes: int | None) -> None:
    """Refuse an EPC that is too small for the pager.

    Raises:
        UsageError: it has fewer than 64 pages.
    """
    if epc_bytes is not None and epc_bytes < MIN_EPC_BYTES:
        raise UsageError(f"an EPC of {epc_bytes} bytes is too small: give at least {MIN_EPC_BYTES} (64 pages)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One inference, the reference kernels just before and just after it, and the page faults.

    Attributes:
        latency_ns: time of the inference: CPU time with one thread, like the references; wall time with several.
        wall_ns: wall time of the inference.
        products_before_ns: time of the GEMM kernel just before.
        products_after_ns: time of the GEMM kernel just after.
        sums_before_ns: time of the reduction kernel just before.
        sums_after_ns: time of the reduction kernel just after.
        loads: pages loaded.
        evictions: pages evicted.
        zero_fills: pages touched for the first time since they were allocated.
        minor_faults: minor faults.
        handler_ns: time in the pager's fault handler.
        wait_ns: time without a CPU. With one thread, all of its wall time without one. With several, how long they
            waited for other processes, summed over them, or 0 if the kernel does not tell.
    """

    latency_ns: int
    wall_ns: int
    products_before_ns: int
    products_after_ns: int
    sums_before_ns: int
    sums_after_ns: int
    loads: int = 0
    evictions: int = 0
    zero_fills: int = 0
    minor_faults: int = 0
    handler_ns: int = 0
    wait_ns: int = 0

    @property
    def paging(self) -> tuple[int, int, int, int]:
        """Loads, evictions, zero fills, minor faults."""
        return self.loads, self.evictions, self.zero_fills, self.minor_faults

    def reference_ns(self, sums_share: float) -> float:
        """Mix the times of the two reference kernels around the inference.

        Args:
            sums_share: weight of the reduction kernel, from 0 to 1; the rest is that of the GEMM kernel.
        """
        products = (self.products_before_ns + self.products_after_ns) / 2
        sums = (self.sums_before_ns + self.sums_after_ns) / 2
        return products + sums_share * (sums - products)


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Memory of the process.

    Attributes:
        live_bytes: allocated by the process; in `softepc`, allocated in the enclave, resident or sealed.
        resident_bytes: resident in memory; in `softepc`, in the EPC.
        peak_resident_bytes: largest value of resident_bytes so far.
        model_live_bytes: part of live_bytes that the model takes: weights, arena and inputs.
    """

    live_bytes: int
    resident_bytes: int
    peak_resident_bytes: int
    model_live_bytes: int


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator in the runtime's profile, averaged over inferences.

    Attributes:
        name: name of the node that the runtime executes.
        type: operator type, without its domain.
        time_us: trimmed mean of its kernel time.
        products_us: mean time of the GEMM kernel around the same inferences.
        sums_us: mean time of the reduction kernel around the same inferences.
        output_shapes: shapes of outputs, as the profile gives them.
    """

    name: str
    type: str
    time_us: float
    products_us: float
    sums_us: float
    output_shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class FaultTrace:
    """Page faults of one inference, in order.

    Attributes:
        pages: shape [faults], page numbers within the region.
        kinds: shape [faults], 0 zero fill, 1 load, 2 minor fault.
        total: number of faults; more than ``len(pages)`` if the recording was full.
    """

    pages: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    total: int


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What the process reported when the model was ready.

    Attributes:
        versions: versions of python, numpy and onnxruntime in the process.
        inputs: shape and type of each input, by name.
        start_s: seconds from the start of the process until the model was ready.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    start_s: float = 0.0


class RunningModel(Protocol):
    """One running model. It is a context manager that ends the process."""

    info: SessionInfo

    def sample(self, n: int) -> list[Sample]:
        """Run ``n`` inferences, each between two runs of the reference kernel."""
        ...

    def outputs_digest(self) -> str:
        """SHA-256, in hex, over name, type, shape and bytes of each output of one inference."""
        ...

    def memory(self) -> ProcessMemory:
        """Read the memory of the process."""
        ...

    def set_epc(self, epc_bytes: int | None) -> None:
        """Change the EPC size; None removes the limit.

        Raises:
            UsageError: this runner has no EPC, or the size is too small.
        """
        ...

    def operator_times(self, n: int) -> list[OperatorTime]:
        """Profile ``n`` inferences, once in a session whose job says ``profile=True``.

        Two inferences warm up first, unless `sample` ran any.

        Raises:
            UsageError: the job does not say so, or this is the second call.
        """
        ...

    def close(self) -> None:
        """End the process and free its resources. May be called again."""
        ...

    def __enter__(self) -> RunningModel: ...

    def __exit__(self, *_: object) -> None: ...


@runtime_checkable
class Runner(Protocol):
    """A place where a model can run.

    Attributes:
        name: ``native``, ``softepc`` or ``gramine``.
        provenance: ``measured``, or ``unverified`` if the runner was not tried on its hardware.
        counts_pages: whether the page counts of samples are valid.
    """

    name: str
    provenance: str
    counts_pages: bool

    def check(self) -> None:
        """Return if a job can be started on this machine.

        Raises:
            EnclaveUnavailable: the machine lacks something; the message says how to get it.
        """
        ...

    def start(self, job: Job) -> RunningModel:
        """Start the process and load the model.

        Raises:
            EnclaveUnavailable: see `check`.
            EnclaveFailed: the process died, or ran over its memory cap.
            EnclaveDeadline: the model was not ready in time.
        """
        ...
