"""Where a model runs: the seam that ``native``, ``softepc`` and ``gramine`` implement.

A `Runner` starts a `Job` and gives back a `Session`: one process that holds the model and answers requests
until it is closed, runs over its deadline or its memory cap, or dies. Each implementation passes
`sectum.testing.runner_conformance`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sectum.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

MIN_EPC_BYTES = 64 * 4096
"""The smallest budget that the pager accepts: 64 pages."""

PROVENANCE_MEASURED = "measured"
PROVENANCE_UNVERIFIED = "unverified"
"""What a runner's number is worth: ``unverified`` where the path was not tried on its hardware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run, and its limits.

    Attributes:
        model: path or bytes of an ONNX model whose input shapes are all static, without external data.
        epc_bytes: protected memory the model may hold at once; None for no limit.
        policy: how pages are chosen for eviction, ``second-chance`` or ``fifo``.
        threads: intra-operator threads of the runtime.
        seed: the inputs are made from it, equal in every runner.
        deadline_s: wall seconds the process may live, from its start.
        memory_cap_bytes: memory the process may use, sealed pages included.
        profile: keep the runtime's own profile, for `Session.operator_times`.
        cpus: CPUs to pin the process to; None leaves it to the scheduler.
    """

    model: Path | bytes
    epc_bytes: int | None = None
    policy: str = "second-chance"
    threads: int = 1
    seed: int = 0
    deadline_s: float = 600.0
    memory_cap_bytes: int = 16 << 30
    profile: bool = False
    cpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what no runner can do.

        Raises:
            UsageError: a field is out of its range.
        """
        if self.threads < 1:
            raise UsageError(f"threads is {self.threads}: give 1 or more")
        if not (math.isfinite(self.deadline_s) and self.deadline_s > 0):
            raise UsageError(f"the deadline is {self.deadline_s} s: give a positive number of seconds")
        if self.memory_cap_bytes < 1:
            raise UsageError(f"the memory cap is {self.memory_cap_bytes} bytes: give a positive number")
        if self.policy not in ("second-chance", "fifo"):
            raise UsageError(f"'{self.policy}' is no eviction policy of a runner: give second-chance or fifo")
        check_epc(self.epc_bytes)


def check_epc(epc_bytes: int | None) -> None:
    """Refuse an EPC smaller than the pager can work with.

    Raises:
        UsageError: under 64 pages.
    """
    if epc_bytes is not None and epc_bytes < MIN_EPC_BYTES:
        raise UsageError(f"an EPC of {epc_bytes} bytes is too small: give at least {MIN_EPC_BYTES} (64 pages)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One inference, the reference kernels just before and just after it, and what the pager did meanwhile.

    Attributes:
        latency_ns: time of the inference. With one thread, the time in which that thread had a CPU, as the
            references are timed; with several, the wall time.
        wall_ns: wall time of the inference.
        products_before_ns: time of the reference kernel of matrix products, just before.
        products_after_ns: the same, just after.
        sums_before_ns: time of the reference kernel of sums, just before.
        sums_after_ns: the same, just after.
        loads: sealed pages brought back in this inference.
        evictions: pages sealed and removed.
        zero_fills: pages touched for the first time since they were allocated.
        minor_faults: resident pages mapped again (the second chance).
        handler_ns: time spent serving page faults.
        wait_ns: time without a CPU. With one thread, all wall time in which it had none; with several, summed over
            them, what they waited for other processes, or 0 where the kernel does not tell.
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
        """Reference time around the inference.

        Args:
            sums_share: from 0 to 1, how much of the inference depends on the machine as sums do, not as products.
        """
        products = (self.products_before_ns + self.products_after_ns) / 2
        sums = (self.sums_before_ns + self.sums_after_ns) / 2
        return products + sums_share * (sums - products)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the process at this moment.

    Attributes:
        live_bytes: allocated by the process; in `softepc`, in the enclave, resident or sealed.
        resident_bytes: in memory; in `softepc`, in the EPC.
        peak_resident_bytes: the most that resident_bytes has been.
        model_live_bytes: how much of live_bytes came with the model: weights, arena and inputs.
    """

    live_bytes: int
    resident_bytes: int
    peak_resident_bytes: int
    model_live_bytes: int


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """What the runtime's profile says of one operator, robustly averaged over inferences.

    Attributes:
        name: the node's name in the graph that the runtime executes.
        type: operator type, without its domain.
        time_us: trimmed mean of its kernel time.
        products_us: mean time of the reference kernel of products around the same inferences.
        sums_us: the same of the kernel of sums.
        input_shapes: shapes of inputs as the profile gives them.
        output_shapes: shapes of outputs.
        input_types: element types of the inputs, as ONNX Runtime names them (``float``).
        parameter_bytes: bytes of constant inputs.
        output_bytes: bytes of outputs.
    """

    name: str
    type: str
    time_us: float
    products_us: float
    sums_us: float
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    input_types: tuple[str, ...]
    parameter_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class FaultTrace:
    """Page faults of one inference, in order.

    Attributes:
        pages: shape [faults], page numbers within the region.
        kinds: shape [faults], 0 zero fill, 1 load, 2 minor fault.
        total: faults that happened; more than ``len(pages)`` if the recording was full.
    """

    pages: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    total: int


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What the process said of itself when the model was ready.

    Attributes:
        versions: of python, numpy and onnxruntime in the process.
        inputs: name to shape and type of each input.
        start_s: seconds from the start of the process until the model was ready.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    start_s: float = 0.0


class Session(Protocol):
    """One running model. A context manager: leaving it ends the process."""

    info: SessionInfo

    def sample(self, n: int) -> list[Sample]:
        """Run ``n`` inferences, each between two runs of the reference kernel."""
        ...

    def outputs_digest(self) -> str:
        """SHA-256, in hex, over name, type, shape and bytes of each output of one inference."""
        ...

    def memory(self) -> Memory:
        """Memory at this moment."""
        ...

    def set_epc(self, epc_bytes: int | None) -> None:
        """Change the protected memory of the running process; None lifts the limit.

        Raises:
            UsageError: this runner has no EPC, or the size is too small.
        """
        ...

    def operator_times(self, n: int) -> list[OperatorTime]:
        """Profile ``n`` inferences; once in a session, whose job says ``profile=True``.

        Two inferences warm up first, unless `sample` ran any.

        Raises:
            UsageError: the session was not started for it, or it was called before.
        """
        ...

    def fault_trace(self) -> FaultTrace:
        """Page faults of one inference.

        Raises:
            UsageError: this runner cannot see page faults.
        """
        ...

    def close(self) -> None:
        """End the process and give everything back. May be called again."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Runner(Protocol):
    """A place where a model can run.

    Attributes:
        name: ``native``, ``softepc`` or ``gramine``.
        provenance: ``measured``, or ``unverified`` where the path has not been tried on its hardware.
        counts_pages: whether samples carry page counts that mean something.
    """

    name: str
    provenance: str
    counts_pages: bool

    def check(self) -> None:
        """Return if a job can be started here.

        Raises:
            EnclaveUnavailable: the machine lacks something; the message says how to get it.
        """
        ...

    def start(self, job: Job) -> Session:
        """Start the process and load the model.

        Raises:
            EnclaveUnavailable: see `check`.
            EnclaveFailed: the process died, or ran over its memory cap.
            EnclaveDeadline: the model was not ready in time.
        """
        ...
