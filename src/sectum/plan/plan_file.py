"""A plan as a file: JSON that a person can read and edit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sectum.enclave.runners.runner import MIN_EPC_BYTES
from sectum.errors import ArtefactInvalid
from sectum.ort.optimized import RUNTIME, OptimizedGraph
from sectum.plan.chain_shape import ChainShape, parse_chain
from sectum.plan.order import can_run, in_order
from sectum.plan.planned import Planned, StagePrediction
from sectum.plan.reading import Reader
from sectum.plan.rows import Divider
from sectum.plan.stages import PlannedStage
from sectum.plan.units import WeightSizes, channel_step, channels_of

SCHEMA = "sectum-plan/2"
MOST_BYTES = 16 << 20
_MOST_STAGES = 20_000
_MOST_OPERATORS = 1 << 20
_MOST_BATCH = 1 << 16
_FIELDS = frozenset({
    "schema", "kind", "model", "runtime", "enclave", "epc_bytes", "threads", "operators", "order", "buffers",
    "buffer_bytes", "arena_bytes", "latency_ms", "interval_ms", "native_ms", "unplanned_ms", "unplanned_interval_ms",
    "resident_bytes", "opened_bytes", "outputs_equal_native", "opening", "stages", "ms_per_sample", "calibrated",
    "machine", "sectum", "measured", "goal", "link", "pipeline_ms", "requests_per_s", "enclaves",
})  # fmt: skip
_MODEL_FIELDS = frozenset({"source", "sha256", "batch", "inputs"})
_STAGE_FIELDS = frozenset({
    "first", "last", "channels", "rows", "strips", "weights", "enclave", "operators", "weight_bytes", "opened_bytes",
    "cost",
})  # fmt: skip
"""What the files of plans have, what is not read included: a misspelt field would have no effect."""
_STREAMED, _INT8, _STAYS = "streamed", "int8", "stay"


@dataclass(frozen=True, slots=True)
class StoredStage:
    """A stage, as it is stored.

    Attributes:
        first: position of the first operator, in the order of the plan.
        last: position of the last one.
        channels: where it is a part of one operator, its output channels: from, and up to but without.
        rows: where it is computed strip by strip, the rows of its last result in a strip; else None. What overlaps is
            not stored: it follows from the operators.
        streamed: whether its weights are opened before use.
        int8: whether these are stored as int8.
    """

    first: int
    last: int
    channels: tuple[int, int] | None
    rows: int | None
    streamed: bool
    int8: bool = False

    @staticmethod
    def of(stage: PlannedStage) -> StoredStage:
        """A stage of a plan that was found."""
        rows = None if stage.division is None else stage.division.rows
        return StoredStage(stage.first, stage.last, stage.channels, rows, stage.streamed, stage.int8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan, as it is stored.

    Attributes:
        model: path of the ONNX file, or ``zoo:NAME``.
        sha256: of the file; None for a network of the zoo.
        batch: samples in one inference, if that was asked for.
        inputs: shapes that inputs were given.
        enclave: name of the profile.
        epc_bytes: of the enclave.
        threads: all of them, the one that opens included.
        operators: that the runtime executes.
        buffers: that streamed weights are opened into; with more than one, a thread opens ahead.
        buffer_bytes: the most that a buffer may hold.
        arena_bytes: of memory for activations.
        order: positions of the operators, in the runtime's order, as the plan runs them; None where it is that order.
        stages: in order.
        chain: for a plan with several enclaves, what each of them is; the fields above are then the most of any.
    """

    model: str
    sha256: str | None
    batch: int | None
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    enclave: str
    epc_bytes: int
    threads: int
    operators: int
    buffers: int
    buffer_bytes: int
    arena_bytes: int
    order: tuple[int, ...] | None = None
    stages: tuple[StoredStage, ...]
    chain: ChainShape | None = None

    @property
    def int8(self) -> bool:
        """Whether any stage stores weights as int8."""
        return any(stage.int8 for stage in self.stages)

    def planned_stages(self, graph: OptimizedGraph) -> tuple[PlannedStage, ...]:
        """The stages for a graph.

        Args:
            graph: what the runtime executes, in its order.

        Raises:
            ArtefactInvalid: they do not fit it.
        """
        if self.operators != len(graph.operators):
            raise ArtefactInvalid(
                f"the plan is for {self.operators} operators, and the runtime executes {len(graph.operators)} for this "
                "model here: plan again on this machine"
            )
        if self.order is not None:
            if not can_run(graph.operators, self.order):
                raise ArtefactInvalid(
                    "the plan's order does not have each operator once, after those whose results it reads"
                )
            graph = in_order(graph, self.order)
        sizes = WeightSizes(graph)
        weights = [sizes.of(op) for op in graph.operators]
        divider = Divider(graph)
        following, channel = 0, 0
        made = []
        for number, stage in enumerate(self.stages):
            first, last, channels = stage.first, stage.last, stage.channels
            of_channels = channels_of(graph.operators[first], graph) if channels and first < self.operators else 0
            begin, end = channels or (0, 0)
            wrong = first != following or last < first or last >= self.operators or begin != channel
            if wrong or (channels and not (first == last and begin < end <= of_channels)):
                raise ArtefactInvalid(
                    f"stage {number} of the plan does not begin where the one before ends, or is not a part of an "
                    "operator that can be divided: stages must cover all operators, once and in order"
                )
            if channels and end < of_channels and (end % (step := channel_step(graph.operators[first], graph))):
                raise ArtefactInvalid(
                    f"stage {number} of the plan ends at channel {end} of {of_channels}: all parts of this operator "
                    f"but the last must end at multiples of {step}, for its kernel computes so many together"
                )
            division = None if stage.rows is None or channels else divider.divided(first, last, stage.rows)
            if stage.rows is not None and division is None:
                raise ArtefactInvalid(
                    f"stage {number} of the plan cannot be computed in strips of {stage.rows} rows: strips need fewer "
                    "rows than its last result has, and operators that give the same values however they are divided"
                )
            stored, whole = (sum(column) for column in zip(*weights[first : last + 1], strict=True))
            if stage.streamed and whole < stored:
                raise ArtefactInvalid(
                    f"stage {number} of the plan streams a table of which few rows are read: let it '{_STAYS}'"
                )
            n_bytes = whole if not channels else -(-whole * (end - begin) // of_channels)
            made.append(PlannedStage(first, last, channels, of_channels, stage.streamed, n_bytes, division, stage.int8))
            following, channel = (first, end) if channels and end < of_channels else (last + 1, 0)
        if (following, channel) != (self.operators, 0):
            raise ArtefactInvalid(f"the plan's stages end before operator {following} of {self.operators}")
        return tuple(made)


def to_json(plan: Plan, planned: Planned, layer_names: Sequence[str]) -> dict[str, Any]:
    """A plan with its predictions as JSON types."""
    stages = [
        stage_to_json(number, stage, predicted, layer_names)
        for number, (stage, predicted) in enumerate(zip(planned.stages, planned.by_stage, strict=True))
    ]
    return {
        **head_to_json(plan),
        "latency_ms": planned.latency_ms,
        "interval_ms": [planned.interval_ms.low, planned.interval_ms.high],
        "native_ms": planned.native_ms,
        "unplanned_ms": planned.unplanned_ms,
        "unplanned_interval_ms": [planned.unplanned_interval_ms.low, planned.unplanned_interval_ms.high],
        "resident_bytes": planned.layout.working_set_bytes,
        "opened_bytes": planned.opened_bytes,
        "outputs_equal_native": not planned.changes_outputs,
        "opening": planned.costs.to_json(int8=planned.changes_outputs),
        "stages": stages,
    }  # fmt: skip


def head_to_json(plan: Plan) -> dict[str, Any]:
    """What a plan is for, as JSON types."""
    return {
        "schema": SCHEMA,
        "kind": "predicted",
        "model": {"source": plan.model, "sha256": plan.sha256, "batch": plan.batch,
                  "inputs": {name: list(shape) for name, shape in plan.inputs.items()}},
        "runtime": RUNTIME,
        "enclave": plan.enclave,
        "epc_bytes": plan.epc_bytes,
        "threads": plan.threads,
        "operators": plan.operators,
        "order": plan.order,
        "buffers": plan.buffers,
        "buffer_bytes": plan.buffer_bytes,
        "arena_bytes": plan.arena_bytes,
    }  # fmt: skip


def stage_to_json(
    number: int, stage: PlannedStage, predicted: StagePrediction, layer_names: Sequence[str], enclave: int = 0
) -> dict[str, Any]:
    """A stage with its predictions as JSON types."""
    opening = predicted.times.opening
    names = layer_names[stage.first : stage.last + 1]
    return {
        "first": stage.first,
        "last": stage.last,
        "channels": stage.channels,
        "rows": None if stage.division is None else stage.division.rows,
        "strips": 1 if stage.division is None else len(stage.division.strips),
        "weights": _INT8 if stage.int8 else _STREAMED if stage.streamed else _STAYS,
        "enclave": enclave,
        "operators": names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}",
        "weight_bytes": stage.weight_bytes,
        "opened_bytes": stage.opened_bytes,
        "cost": {
            "number": number,
            "opening_ms": None if opening is None else opening.ms,
            "computing_ms": predicted.times.computing.ms,
            "paging_ms": predicted.paging_ms,
        },
    }


def read_plan(path: Path) -> Plan:
    """Read a plan; what it predicts is left out, for it may have been edited.

    Raises:
        ArtefactInvalid: it is no plan, damaged, or of another version.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe may never end
            raise ArtefactInvalid(f"the plan {path} is not a file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ArtefactInvalid(f"the plan {path} cannot be read: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise ArtefactInvalid(f"{path} is larger than any plan: plans have at most {MOST_BYTES >> 20} MiB")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtefactInvalid(f"{path} is not a plan: it is not JSON ({error}); make one with 'sectum plan'") from error
    return parse_plan(data, str(path))


def parse_plan(data: object, origin: str) -> Plan:
    """Check a plan's JSON types.

    Raises:
        ArtefactInvalid: it is no plan.
    """
    reader = Reader(origin)
    whole = reader.mapping(data, "the plan")
    if whole.get("schema") != SCHEMA:
        raise ArtefactInvalid(f"{origin} is not a plan of this version ({SCHEMA}): make one with 'sectum plan'")
    reader.mapping(whole, "the plan", _FIELDS)
    model = reader.mapping(whole.get("model"), "model", _MODEL_FIELDS)
    inputs = reader.mapping(model.get("inputs", {}), "model.inputs")
    stages = reader.items(whole.get("stages"), "stages", _MOST_STAGES)
    if not stages:
        raise reader.error("stages", "at least one stage")
    parsed = tuple(_stage(reader, one, number) for number, one in enumerate(stages))
    if whole.get("runtime") != RUNTIME:
        raise ArtefactInvalid(
            f"{origin} is for ONNX Runtime {whole.get('runtime')!s:.20}, and this is {RUNTIME}: plan again"
        )
    if "enclaves" in whole and (whole.get("order") is not None or any(one.rows is not None for one in parsed)):
        raise reader.error("order, and rows of the stages,", "null in a plan for several enclaves")
    return Plan(
        model=reader.text(model.get("source"), "model.source"),
        sha256=None if model.get("sha256") is None else reader.text(model.get("sha256"), "model.sha256"),
        batch=None if model.get("batch") is None else reader.number(model.get("batch"), "model.batch", 1, _MOST_BATCH),
        inputs={
            name: tuple(reader.number(size, f"shape of {name:.40}", 1) for size in reader.items(shape, name, 32))
            for name, shape in inputs.items()
        },
        enclave=reader.text(whole.get("enclave"), "enclave"),
        epc_bytes=reader.number(whole.get("epc_bytes"), "epc_bytes", MIN_EPC_BYTES),
        threads=reader.number(whole.get("threads"), "threads", 1, 256),
        operators=reader.number(whole.get("operators"), "operators", 1),
        buffers=reader.number(whole.get("buffers"), "buffers", 1, 4),
        buffer_bytes=reader.number(whole.get("buffer_bytes"), "buffer_bytes", 0),
        arena_bytes=reader.number(whole.get("arena_bytes"), "arena_bytes", 0),
        order=None
        if whole.get("order") is None
        else tuple(reader.number(one, "order", 0) for one in reader.items(whole["order"], "order", _MOST_OPERATORS)),
        stages=parsed,
        chain=parse_chain(reader, whole, stages) if "enclaves" in whole else None,
    )


def _stage(reader: Reader, data: object, number: int) -> StoredStage:
    name = f"stages[{number}]"
    stage = reader.mapping(data, name, _STAGE_FIELDS)
    channels = None
    if stage.get("channels") is not None:
        both = reader.items(stage["channels"], f"{name}.channels", 2)
        if len(both) != 2:
            raise reader.error(f"{name}.channels", "two numbers")
        begin, end = (reader.number(one, f"{name}.channels", 0) for one in both)
        channels = (begin, end)
    weights = stage.get("weights")
    if weights not in (_STREAMED, _INT8, _STAYS):
        raise reader.error(f"{name}.weights", f"'{_STREAMED}', '{_INT8}' or '{_STAYS}'")
    first, last = (reader.number(stage.get(end), f"{name}.{end}", 0) for end in ("first", "last"))
    rows = None if stage.get("rows") is None else reader.number(stage["rows"], f"{name}.rows", 1)
    return StoredStage(first, last, channels, rows, weights != _STAYS, weights == _INT8)
