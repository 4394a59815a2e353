"""What a prediction says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sectum.ort.costs import Coverage


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the measured value lies in nine cases of ten."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Overcommit:
    """Whether a steady-state inference pages: ``probability`` that it does, ``predicted`` where that is over half."""

    predicted: bool
    probability: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of protected memory.

    Attributes:
        working_set_bytes: pages that one steady-state inference touches.
        epc_bytes: protected memory there is; ``None`` outside an enclave.
        margin_bytes: what is left over; negative where it over-commits; ``None`` outside an enclave.
        weight_bytes: the part that holds weights, as the runtime stores them.
        activation_bytes: the part that holds inputs, activations and outputs.
        faults: page faults in one steady-state inference: loads and minor faults.
        loads: pages loaded in one steady-state inference.
        evictions: pages evicted in one steady-state inference.
        minor_faults: resident pages touched again after the pager took their mapping to see whether they are used.
    """

    working_set_bytes: int
    epc_bytes: int | None
    margin_bytes: int | None
    weight_bytes: int
    activation_bytes: int
    faults: float
    loads: float
    evictions: float
    minor_faults: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Milliseconds by cause.

    Attributes:
        compute: the arithmetic.
        memory: slower memory inside the enclave.
        paging: page faults; for a whole inference also entering and leaving the enclave, with inputs and outputs.
    """

    compute: float
    memory: float
    paging: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.compute + self.memory + self.paging

    def by_cause(self) -> dict[str, float]:
        """The parts by the name of their cause, in the order in which they are shown."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator that the runtime executes, with its share of the latency.

    Attributes:
        name: the runtime's, or that of the operator of the model that it carries out.
        type: the runtime's, with its domain.
        output_shape: physical, so with the padding of a blocked layout.
        native_ms: time outside an enclave.
        breakdown_ms: time inside, by cause.
        weight_bytes: weights that it reads.
        activation_bytes: activations that it reads and writes.
        live_bytes: all weights, and the activations alive while it runs.
        loads: pages loaded while it runs.
        evictions: pages evicted while it runs.
        minor_faults: minor faults while it runs.
        flops: floating-point operations.
        supported: whether it has a cost model.
        fused: types of the model's operators that it carries out, in the model's order; empty where that is not known.
        support: ``"inside"`` where it is like operators that the latency models were trained on, ``"near"`` where
            operators of another type were, that have the same kernel, else ``"outside"``.
        why_outside: what of it was never measured; empty where it is inside.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    native_ms: float
    breakdown_ms: Breakdown
    weight_bytes: int
    activation_bytes: int
    live_bytes: int
    loads: float
    evictions: float
    minor_faults: float
    flops: int
    supported: bool
    fused: tuple[str, ...] = ()
    support: str = "inside"
    why_outside: str = ""


MEASURED_KIND, NEAR_KIND, GUESS = "measured kind", "near", "guess"


@dataclass(frozen=True, slots=True)
class Grade:
    """How far to trust a prediction.

    Attributes:
        word: `MEASURED_KIND`: the interval is that of networks of measured kinds; `NEAR_KIND`: operators that are not
            inside the support widen it, up to a factor of 2.5; `GUESS`: they widen it more, so that no single number is
            worth saying.
        sentence: which share of the time that is about.
        inside_share: the share of the latency that lies in operators inside the support, or in paging.
    """

    word: str
    sentence: str
    inside_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodPrediction:
    """What every method says of one steady-state inference.

    Attributes:
        model: the network's name.
        enclave: the profile's name.
        machine: whose milliseconds these are.
        calibrated: whether the machine that predicts was calibrated.
        batch: leading dimension of the first input.
        threads: compute threads.
        latency_ms: predicted latency in the enclave.
        native_ms: latency outside an enclave, predicted or as the caller gave it.
        native_source: ``"predicted"`` or ``"given"``.
        overcommit: the verdict on memory.
        notes: what a person should know before relying on the numbers.
    """

    model: str
    enclave: str
    machine: str
    calibrated: bool
    batch: int
    threads: int
    latency_ms: float
    native_ms: float
    native_source: str
    overcommit: Overcommit
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The prediction as JSON types."""
        return {**asdict(self), "kind": "predicted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(MethodPrediction):
    """The latency of one steady-state inference by the default method, and what it is made of.

    Attributes:
        runtime: the runtime that is predicted.
        cpu: features of the processor whose kernels the runtime takes, such as ``"AVX-512 and AMX"``.
        interval_ms: the 90 % interval of the latency.
        memory: the working set against the protected memory.
        breakdown_ms: latency by cause.
        coverage: which operators have a cost model.
        grade: how far to trust the latency.
        layers: every operator in the order of execution.
    """

    runtime: str
    cpu: str
    interval_ms: Interval
    memory: Memory
    breakdown_ms: Breakdown
    coverage: Coverage
    grade: Grade
    layers: tuple[Layer, ...]

    def to_json(self) -> dict[str, Any]:
        """The prediction as JSON types; intervals are ``[low, high]``."""
        return {**MethodPrediction.to_json(self), "interval_ms": [self.interval_ms.low, self.interval_ms.high]}


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing the user can change, as numbers. ``sectum.cli.predict.advice`` says it in words.

    Attributes:
        kind: ``epc`` (protected memory at which paging stops), ``layers`` (those that cost most), ``weights`` (layers
            without whose weights the rest would fit), ``batch`` (the largest that fits).
        values: the numbers, named with their units.
    """

    kind: str
    values: dict[str, Any]
