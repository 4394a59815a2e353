"""A network that runs stage by stage. It answers like the runtime's own session, and gives the same results."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sectum.enclave.streaming.allocator import Allocator
from sectum.enclave.streaming.matching import ExecutedGraph
from sectum.enclave.streaming.narrow_weights import GROUP_BYTES
from sectum.enclave.streaming.sealed_weights import SealedWeights, buffer
from sectum.enclave.streaming.stage_models import Cutter, Stage, StageModel, StripModels, constants
from sectum.enclave.streaming.strips import Strips, StripStage, array_of
from sectum.enclave.streaming.written_graph import WrittenGraph

_ALIGNMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """How a network is to be run, as the plan says.

    Attributes:
        structure: file of the written graph's structure.
        weights: file of its weights; None if it has no large ones.
        library: the compiled libstreaming.
        executed: what the plan knows of the graph.
        stages: in order.
        buffers: how many buffers streamed weights are opened into, in turn; with more than one, a thread opens ahead.
        buffer_bytes: the most that one of them may hold.
        arena_bytes: of memory for activations.
    """

    structure: Path
    weights: Path | None
    library: str
    executed: ExecutedGraph
    stages: tuple[Stage, ...]
    buffers: int
    buffer_bytes: int
    arena_bytes: int

    @staticmethod
    def of(data: Mapping[str, Any]) -> Streams:
        """Read them from JSON types."""
        executed = data["executed"]
        return Streams(
            structure=Path(data["structure"]),
            weights=None if data["weights"] is None else Path(data["weights"]),
            library=data["library"],
            executed=ExecutedGraph(**executed),
            stages=tuple(
                Stage(
                    one["first"],
                    one["last"],
                    None if one["channels"] is None else (one["channels"][0], one["channels"][1]),
                    one["streamed"],
                    one["int8"],
                    None if one["strips"] is None else Strips.of(one["strips"]),
                )
                for one in data["stages"]
            ),
            buffers=int(data["buffers"]),
            buffer_bytes=int(data["buffer_bytes"]),
            arena_bytes=int(data["arena_bytes"]),
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the weights of a stage lie, from the start of its memory.

    Attributes:
        in_place: offset of each weight that kernels read where it is.
        allocations: for each session, and each of its allocations, size and offset; 0 and None where it does not stay.
        n_bytes: of all.
        narrow: ranges of it that can be stored as int8: whole groups of float32 weights.
    """

    in_place: Mapping[str, int]
    allocations: Sequence[Sequence[tuple[int, int | None]]]
    n_bytes: int
    narrow: Sequence[tuple[int, int]]


_NOTHING = _Layout({}, [], 0, ())


class _WholeStage:
    """Runs a stage at once."""

    def __init__(self, session: onnxruntime.InferenceSession, model: StageModel) -> None:
        self._session, self._inputs, self._outputs = session, model.inputs, model.outputs

    def run(self, values: Mapping[str, onnxruntime.OrtValue]) -> dict[str, onnxruntime.OrtValue]:
        """Give the stage's results."""
        made = self._session.run_with_ort_values(self._outputs, {name: values[name] for name in self._inputs})
        return dict(zip(self._outputs, made, strict=True))


class StagedSession:
    """Holds the stages, and runs them one after the other.

    Args:
        streams: what to run.
        threads: that compute.
        own: the stages that this enclave runs: from, and up to but without; all if None.

    Raises:
        ValueError: the plan does not fit this model or this runtime.
    """

    def __init__(self, streams: Streams, threads: int, own: tuple[int, int] | None = None) -> None:
        self._streams, self._threads = streams, threads
        self._own = range(*(own or (0, len(streams.stages))))
        self._allocator = Allocator(streams.library)
        written = WrittenGraph(streams.structure, streams.weights)
        self._inputs = written.inputs
        self._results = [value.name for value in written.graph.output]
        self._constants = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in constants(written).items()
        }
        cutter = Cutter(written, streams.executed, streams.stages)
        self._last_read = cutter.last_read
        self.receives, self.hands_on = (cutter.crossing(number) for number in (self._own.start, self._own.stop))
        numbers = range(len(streams.stages))
        layouts = [
            self._learned(_models(cutter, number, streams.stages[number])) if number in self._own else _NOTHING
            for number in numbers
        ]
        self._streamed = [
            number for number, stage in enumerate(streams.stages) if stage.streamed and layouts[number].n_bytes
        ]
        self._place_of = {number: place for place, number in enumerate(self._streamed)}
        self._memory = self._make_memory(layouts)
        sizes = [layouts[number].n_bytes if number in self._place_of else 0 for number in numbers]
        narrow = [
            layout.narrow if number in self._place_of and streams.stages[number].int8 else ()
            for number, layout in enumerate(layouts)
        ]
        self._sealed = SealedWeights(sizes, narrow if any(narrow) else None, self._allocator.widen)
        self.opened_bytes = self._sealed.opened_bytes
        self._aliases: list[object] = []
        self._stages = {
            number: self._placed(number, _models(cutter, number, streams.stages[number]), layouts[number])
            for number in self._own
        }
        self._by_strips = {name for one in self._stages.values() if isinstance(one, StripStage) for name in one.results}
        self._allocator.arena(streams.arena_bytes)
        self._opener = ThreadPoolExecutor(1, "opener") if streams.buffers > 1 and self._streamed else None
        self.stage_ns = np.zeros((len(streams.stages), 2), np.int64)
        self.runs = 0

    # Preparing: twice each session, see native/streaming/streaming.h.

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is optimized
        options.register_custom_ops_library(self._allocator.path)
        options.add_session_config_entry("session.use_env_allocators", "1")
        if self._threads > 1:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def _created(
        self, model: StageModel, weights: Mapping[str, NDArray[np.generic]]
    ) -> tuple[onnxruntime.InferenceSession, list[onnxruntime.OrtValue]]:
        options = self._options()
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        for name, value in zip(weights, values, strict=True):
            options.add_initializer(name, value)
        return onnxruntime.InferenceSession(model.model, options, providers=["CPUExecutionProvider"]), values

    def _learned(self, stage: StageModel | StripModels) -> _Layout:
        """Create a stage's sessions once, and lay out the weights that they keep."""
        end = 0

        def take(n_bytes: int) -> int:
            nonlocal end
            start, end = end, -(-(end + n_bytes) // _ALIGNMENT) * _ALIGNMENT
            return start

        models = _sessions_of(stage)
        in_place = {name: take(value.nbytes) for name, value in models[0].weights.items()} if models else {}
        allocations = []
        for model in models:
            self._allocator.learn()
            try:
                session = self._created(model, model.weights)
            finally:
                learned = self._allocator.learned()
            del session
            # Where slices cut, they know by constants, which the runtime allocates in another order each time.
            least = _ALIGNMENT if isinstance(stage, StripModels) else 0
            allocations.append([(size, take(size) if size > least else None) for size in learned])
        return _Layout(in_place, allocations, end, _narrow(models, in_place, allocations))

    def _make_memory(self, layouts: Sequence[_Layout]) -> list[NDArray[np.uint8]]:
        """Memory of each stage's weights: buffers in turn where they are streamed, else memory of their own."""
        needed = [0] * self._streams.buffers
        for number, place in self._place_of.items():
            n_bytes = layouts[number].n_bytes
            if n_bytes > self._streams.buffer_bytes:
                raise ValueError(
                    f"the weights of stage {number} take {n_bytes} bytes and a buffer holds "
                    f"{self._streams.buffer_bytes}: plan again for this runtime"
                )
            needed[place % len(needed)] = max(needed[place % len(needed)], n_bytes)
        self.buffer_bytes = needed
        buffers = [buffer(n_bytes) for n_bytes in needed]
        return [
            buffers[self._place_of[number] % len(buffers)] if number in self._place_of else buffer(layout.n_bytes)
            for number, layout in enumerate(layouts)
        ]

    def _placed(self, number: int, stage: StageModel | StripModels, layout: _Layout) -> _WholeStage | StripStage | None:
        """Create a stage's sessions with its weights where they are to lie, and seal them if they are streamed."""
        models = _sessions_of(stage)
        if not models:
            return None
        memory = self._memory[number]
        start = memory.ctypes.data
        weights = {}
        for name, value in models[0].weights.items():
            offset = layout.in_place[name]
            placed = memory[offset : offset + value.nbytes].view(value.dtype).reshape(value.shape)
            np.copyto(placed, value)
            weights[name] = placed
        sessions = []
        for model, allocations in zip(models, layout.allocations, strict=True):
            addresses = [None if offset is None else start + offset for _, offset in allocations]
            self._allocator.place(addresses, [size for size, _ in allocations])
            try:
                session, values = self._created(model, weights)
            finally:
                as_learned = self._allocator.placed()
            if not as_learned:
                raise ValueError(
                    f"the runtime allocated the weights of stage {number} in another order the second time"
                )
            sessions.append(session)
            self._aliases += [values, weights]
        if number in self._place_of:
            self._sealed.seal(number, memory[: layout.n_bytes])
        if isinstance(stage, StageModel):
            return _WholeStage(sessions[0], stage)
        strips = self._streams.stages[number].strips
        assert strips is not None  # it has models of strips
        return StripStage(strips, sessions, stage.forms, stage.names, self._allocator.take)

    # Running.

    def get_inputs(self) -> list[Any]:
        """Names, types and shapes of the inputs, as the runtime's session gives them."""
        return [_Value.of(value) for value in self._inputs]

    def get_outputs(self) -> list[Any]:
        """Names of the outputs, in order."""
        return [_Value(name, "", []) for name in self._results]

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Run one inference.

        Args:
            names: of the outputs that are asked for.
            feeds: values of all inputs.

        Raises:
            WeightsTamperedError: weights were changed in untrusted memory.
        """
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in feeds.items()}
        self.run_stages(values)
        return self.results(names, values)

    def run_stages(self, values: dict[str, onnxruntime.OrtValue]) -> None:
        """Run this enclave's stages once.

        Args:
            values: what they read; replaced by what later stages read, and results of the network.

        Raises:
            WeightsTamperedError: weights were changed in untrusted memory.
        """
        opening = self._openings()
        for number, stage in self._stages.items():
            begin = time.perf_counter_ns()
            if number in self._place_of:
                next(opening)
            opened = time.perf_counter_ns()
            if stage is not None:
                values.update(stage.run(values))
            for name in [name for name in values if self._last_read.get(name, -1) <= number]:
                del values[name]
            self.stage_ns[number] += (opened - begin, time.perf_counter_ns() - opened)
        self.runs += 1

    def results(self, names: Sequence[str], values: Mapping[str, onnxruntime.OrtValue]) -> list[Any]:
        """Outputs of the network, of those that the last stage has left."""
        found = {**values, **self._constants}
        return [array_of(found[name]) if name in self._by_strips else found[name].numpy() for name in names]

    def _openings(self) -> Iterator[None]:
        """Each step returns when the next streamed stage is open; its buffer is then used until the next step."""
        if self._opener is None:
            for number in self._streamed:
                self._open(number)
                yield
            return
        ahead = len(self.buffer_bytes)
        futures: list[Future[None]] = [self._opener.submit(self._open, number) for number in self._streamed[:ahead]]
        try:
            for place in range(len(self._streamed)):
                futures[place].result()
                yield
                if place + ahead < len(self._streamed):
                    futures.append(self._opener.submit(self._open, self._streamed[place + ahead]))
        finally:
            for future in futures:
                future.cancel()

    def _open(self, number: int) -> None:
        self._sealed.open(number, self._memory[number])

    def describe(self) -> dict[str, Any]:
        """What running it took so far: bytes, and mean nanoseconds of each stage, waiting for weights and computing."""
        most, outside = self._allocator.arena_use()
        runs = max(1, self.runs)
        return {
            "opened_bytes": self.opened_bytes,
            "sealed_bytes": self._sealed.n_bytes,
            "buffer_bytes": self.buffer_bytes,
            "arena_bytes": most,
            "outside_arena_bytes": outside,
            "runs": self.runs,
            "waiting_ns": (self.stage_ns[:, 0] // runs).tolist(),
            "computing_ns": (self.stage_ns[:, 1] // runs).tolist(),
        }


def _models(cutter: Cutter, number: int, stage: Stage) -> StageModel | StripModels:
    return cutter.model(number) if stage.strips is None else cutter.strips_of(number)


def _narrow(
    models: Sequence[StageModel], in_place: Mapping[str, int], allocations: Sequence[Sequence[tuple[int, int | None]]]
) -> list[tuple[int, int]]:
    """Ranges of a stage's memory that can be stored as int8."""
    found = []
    if models:
        weights = models[0].weights
        found = [
            (offset, weights[name].nbytes)
            for name, offset in in_place.items()
            if weights[name].dtype == np.float32 and weights[name].ndim > 1
        ]
    for model, own in zip(models, allocations, strict=True):
        if model.only_floats:
            found += [(offset, size) for size, offset in own if offset is not None]
    return sorted((start, start + size // GROUP_BYTES * GROUP_BYTES) for start, size in found if size >= GROUP_BYTES)


def _sessions_of(stage: StageModel | StripModels) -> Sequence[StageModel]:
    """The models that need a session: none where the runtime has none of the stage's operators."""
    if isinstance(stage, StripModels):
        return stage.models
    return [stage] if stage.outputs else []


@dataclass(frozen=True, slots=True)
class _Value:
    """An input or output, with the fields that the runtime gives."""

    name: str
    type: str
    shape: list[Any]

    @staticmethod
    def of(value: Any) -> _Value:
        import onnx

        tensor = value.type.tensor_type
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
        names = {"float32": "float", "float64": "double"}
        shape = [size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim]
        return _Value(value.name, f"tensor({names.get(dtype, dtype)})", shape)
