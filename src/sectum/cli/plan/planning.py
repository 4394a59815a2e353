"""From the command line's options, or from a file, to a plan and what it is predicted to take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum import __version__
from sectum.cli.options import Inputs
from sectum.cli.render.measurements import measurement_json, prediction_json
from sectum.cli.render.output import check_writable
from sectum.errors import ArtefactInvalid, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from sectum.cli.predict.source import Source
    from sectum.enclave.profile import Profile
    from sectum.enclave.runners.runner import Runner
    from sectum.enclave.runners.softepc import SoftEpcRunner
    from sectum.measure.measurement import Measurement
    from sectum.ort.optimized import OptimizedGraph
    from sectum.plan.opening import OpeningCosts
    from sectum.plan.plan_file import Plan
    from sectum.plan.planned import Planned
    from sectum.plan.planning import Planner
    from sectum.plan.stages import PlannedStage
    from sectum.predict.predictor import Predictor
    from sectum.predict.prepared import Prepared

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_ENDING = ".json"
RUNNERS = ("softepc",)
"""Where a plan runs."""
NATIVE_SHARE = 0.25
"""Of the deadline for measuring a plan: for the network outside an enclave."""


@dataclass(frozen=True)
class AnyPlan(ABC):
    """A plan for a network, for one enclave or for several.

    Attributes:
        source: the network.
        graph: what the runtime executes for it.
        plan: as it is stored.
        planned: with its predictions.
        calibrated: whether this machine was calibrated.
        machine: whose milliseconds the predictions are.
    """

    source: Source
    graph: OptimizedGraph
    plan: Plan
    planned: Any
    calibrated: bool
    machine: str

    def to_json(self) -> dict[str, Any]:
        """The plan's file: JSON types."""
        return {**self._stored(), "calibrated": self.calibrated, "machine": self.machine, "sectum": __version__}

    @abstractmethod
    def _stored(self) -> dict[str, Any]:
        """What both kinds of plan file differ in."""

    def streams(self) -> AbstractContextManager[dict[str, Any] | None]:
        """Write what is needed to run it; None where it runs as it is.

        Raises:
            UsageError: the plan is for another enclave.
            RuntimeRefused: ONNX Runtime cannot load the model.
            EnclaveUnavailable: libstreaming cannot be compiled here.
        """
        if self.plan.enclave not in RUNNERS:
            raise UsageError(
                f"the plan is for '{self.plan.enclave}', and plans run in the software enclave: plan with "
                "--enclave softepc"
            )
        return self._prepared()

    @abstractmethod
    def _prepared(self) -> AbstractContextManager[dict[str, Any] | None]:
        """Write what is needed to run it; the enclave is one that plans run in."""

    @abstractmethod
    def runner(self) -> Runner:
        """Where it runs."""


class PlanResult(AnyPlan):
    """A plan for one enclave."""

    planned: Planned

    @property
    def ms_per_sample(self) -> float:
        """Predicted latency for each sample of the batch."""
        return self.planned.latency_ms / (self.plan.batch or 1)

    def _stored(self) -> dict[str, Any]:
        from sectum.plan.plan_file import to_json

        return {**to_json(self.plan, self.planned, self.graph.layer_names), "ms_per_sample": self.ms_per_sample}

    def _prepared(self) -> AbstractContextManager[dict[str, Any] | None]:
        from sectum.plan.running import prepared_streams

        planned = self.planned
        if planned.as_it_is:
            return nullcontext()
        return prepared_streams(
            self.source.model.bound_bytes(), self.graph, planned.stages, planned.buffers, planned.layout.arena_bytes
        )

    def runner(self) -> SoftEpcRunner:
        """Where it runs."""
        from sectum.enclave.runners.softepc import SoftEpcRunner

        return SoftEpcRunner()


def is_plan(text: str) -> bool:
    """Whether an argument names a plan's file, not a model."""
    return text.endswith(_ENDING)


def check_plan_path(path: Path) -> None:
    """Check that a plan can be written, under a name by which it is known as one.

    Raises:
        UsageError: it cannot.
    """
    check_writable(path)
    if not is_plan(path.name):
        raise UsageError(
            f"'sectum run' and 'sectum measure' know a plan by the end of its name, {_ENDING}: write -o {path}{_ENDING}"
        )


def plan_inputs(inputs: Inputs) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs for a plan.

    Raises:
        UsageError: values are given.
    """
    shapes = {name: given for name, given in inputs.items() if isinstance(given, tuple)}
    if len(shapes) < len(inputs):
        raise UsageError("a plan is for all values of its inputs: give shapes, such as --input image=1x3x224x224")
    return shapes


def stored_plan(source: Source, planner: Planner, threads: int, stages: Iterable[PlannedStage], **more: Any) -> Plan:
    """A plan as it is stored."""
    from sectum.plan.plan_file import Plan, StoredStage

    return Plan(
        model=source.text if source.from_zoo else str(Path(source.text).absolute()),
        sha256=source.sha256,
        batch=source.batch,
        inputs=plan_inputs(source.inputs),
        epc_bytes=planner.epc_bytes,
        threads=threads,
        operators=len(planner.graph.operators),
        stages=tuple(map(StoredStage.of, stages)),
        **more,
    )


def check_is_for(path: Path, plan: Plan, source: Source) -> None:
    """Compare a plan with its model.

    Raises:
        ArtefactInvalid: the model has changed since.
    """
    if source.sha256 != plan.sha256:
        raise ArtefactInvalid(f"{path} is for another content of {plan.model} (SHA-256 {plan.sha256}): plan again")


def make_plan(
    model: str,
    *,
    enclave: str,
    epc_bytes: int | None,
    batch: int | None,
    inputs: Inputs,
    threads: int,
    int8: bool = False,
) -> PlanResult:
    """Find the best plan; with int8, streamed weights are stored so, which changes outputs.

    Raises:
        ModelError: the model cannot be used.
        UsageError: the enclave has no EPC, or values of inputs are given.
    """
    from sectum.cli.predict.predicting import load_profile
    from sectum.cli.predict.source import Source

    plan_inputs(inputs)
    source = Source(model, batch=batch, inputs=inputs)
    return plan_for(source, load_profile(enclave, epc_bytes), threads, enclave=enclave, int8=int8)


def plan_for(source: Source, profile: Profile, threads: int, *, enclave: str, int8: bool = False) -> PlanResult:
    """Find the best plan for a network in an enclave, which the command line called so.

    Raises:
        ModelError: the model cannot be used.
        UsageError: the enclave has no EPC.
    """
    planner = _planner(source, profile, threads, int8=int8)
    planned = planner.best()
    plan = stored_plan(
        source,
        planner,
        threads,
        planned.stages,
        enclave=enclave,
        buffers=planned.buffers,
        buffer_bytes=max(planned.layout.buffer_bytes),
        arena_bytes=planned.layout.arena_bytes,
        order=planned.way.order,
    )
    return PlanResult(source, planned.way.graph, plan, planned, planner.calibrated, planner.machine)


def fastest_batch(model: str, *, batch: int | None, inputs: Inputs, **options: Any) -> PlanResult:
    """Find the plan with the least time for each sample: several samples share what is opened for them.

    Raises:
        ModelError: the model cannot be used.
        UsageError: the batch is given.
    """
    if batch is not None or inputs:
        raise UsageError("--goal throughput chooses the batch: leave --batch and --input out")
    best: PlanResult | None = None
    for size in _BATCHES:
        try:
            found = make_plan(model, batch=size, inputs={}, **options)
        except ModelError:
            if best is None:
                raise
            break  # made for one batch only
        if best is not None and found.ms_per_sample >= best.ms_per_sample:
            break
        best = found
    assert best is not None  # the first batch was planned, or an error was raised
    return best


def read_plan(path: Path) -> PlanResult:
    """Read a plan, and predict what it takes here.

    Raises:
        ArtefactInvalid: it is no plan, or for another model than the one that it names.
    """
    from sectum.cli.predict.predicting import load_profile
    from sectum.cli.predict.source import Source
    from sectum.plan.plan_file import read_plan as read

    plan = read(path)
    source = Source(plan.model, batch=plan.batch, inputs=dict(plan.inputs))
    check_is_for(path, plan, source)
    planner = _planner(source, load_profile(plan.enclave, plan.epc_bytes), plan.threads, int8=plan.int8)
    planned = planner.evaluate(plan.planned_stages(planner.graph), plan.buffers, plan.order)
    if planned.as_it_is:
        planned = planner.without_stages()
    return PlanResult(source, planned.way.graph, plan, planned, planner.calibrated, planner.machine)


def _planner(source: Source, profile: Profile, threads: int, *, int8: bool) -> Planner:
    from sectum.plan.planning import Planner
    from sectum.predict import load_predictor

    return Planner(*parts_of_planner(load_predictor(), source, profile, threads, int8=int8), int8=int8)


def parts_of_planner(
    predictor: Predictor, source: Source, profile: Profile, threads: int, *, int8: bool
) -> tuple[Predictor, Prepared, Profile, OpeningCosts, Prepared | None]:
    """What a planner is made of."""
    from sectum.plan.opening import costs_for

    graph = source.graph
    return (
        predictor,
        predictor.prepare(graph, threads=threads),
        profile,
        costs_for(predictor, int8=int8),
        predictor.prepare(graph, threads=threads - 1) if threads > 1 else None,
    )


def measure_plan(
    result: AnyPlan, conditions: Mapping[str, Any], *, planned: bool = True, runner: Runner | None = None
) -> Measurement:
    """Measure a plan in the software enclave, or its network there without the plan.

    Raises:
        EnclaveError: it cannot run there; the message says why.
        OutputsDiffer: the outputs are not those of the native run.
    """
    from sectum.enclave.runners.softepc import SoftEpcRunner

    runner = (runner or result.runner()) if planned else SoftEpcRunner()
    runner.check()
    with result.streams() if planned else nullcontext() as streams:
        return _measure(
            result,
            runner,
            conditions,
            epc_bytes=result.plan.epc_bytes,
            streams=streams,
            compare_native=not (planned and result.planned.changes_outputs),
        )


def measure_native(result: AnyPlan, conditions: Mapping[str, Any]) -> Measurement:
    """Measure a plan's network outside an enclave.

    Raises:
        EnclaveError: it cannot run; the message says why.
    """
    from sectum.enclave.runners.native import NativeRunner

    return _measure(result, NativeRunner(), conditions, compare_native=False)


def measured_json(
    result: AnyPlan,
    measured: Measurement,
    native: Measurement,
    latency_ms: float,
    off: float | None,
    **predicted: Any,
) -> dict[str, Any]:
    """The measurement as ``sectum measure`` gives it, and what belongs to the plan; ``off`` is how far outputs are."""
    return {
        **measurement_json(measured, result.source.text, result.source.sha256),
        "outputs_equal_native": measured.outputs_equal_native if off is None else not off,
        "largest_difference": off,
        "latency_ms": latency_ms,
        "native_ms": native.latency_ms,
        "opened_bytes": result.planned.opened_bytes,
        "stages": len(result.planned.stages),
        "prediction": prediction_json(
            result.planned, latency_ms, calibrated=result.calibrated, machine=result.machine, **predicted
        ),
    }


def _measure(result: AnyPlan, runner: Runner, conditions: Mapping[str, Any], **more: Any) -> Measurement:
    from sectum.measure.latency import measure
    from sectum.predict.calibration import stored_references

    model = result.source.model
    return measure(
        model,
        runner,
        threads=result.plan.threads,
        references=stored_references(),
        inputs=model.feeds,
        **conditions,
        **more,
    )
