"""One batch that several accelerators of an enclave share."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import numpy as np
import pytest

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import Pace, Tensor
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.worker.accelerators import accelerator
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.buffers import Buffers
from sectum.hetee.worker.engine import ComputeEngine
from sectum.hetee.worker.engine_state import EngineCallbacks
from sectum.hetee.worker.load_job import LoadJob
from sectum.hetee.worker.models import CheckedModel, inspect
from sectum.hetee.worker.preparation import Preparation

_TIMEOUT_S = 10.0
WIDTH = 3


def doubler(first: int | str = "N", *, mixes: bool = False) -> CheckedModel:
    """``y`` is twice ``x`` [N, 3], from which the mean over the items may be subtracted."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [first, WIDTH]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "x"], ["double"])]
    nodes += [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0])
        if mixes
        else helper.make_node("Neg", ["x"], ["mean"]),
        helper.make_node("Sub", ["double", "mean"], ["sum"]),
        helper.make_node("Add", ["sum", "mean"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "doubler", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return inspect(made.SerializeToString())


class Doubling:
    """An accelerator that tells what it is given, and computes when it may."""

    kind, paced = "doubling", True

    def __init__(self, name: str, *, waits: bool = False, error: HeteeError | None = None) -> None:
        self.name, self.error = name, error
        self.given: list[tuple[np.ndarray, Pace | None]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        if not waits:
            self.go.set()

    def load(self, _model: CheckedModel) -> Doubling:
        return self

    def run(self, inputs: Any, outputs: tuple[str, ...], stop: Any, pace: Pace | None = None) -> list[np.ndarray]:
        self.given.append((inputs["x"], pace))
        self.begun.set()
        end_s = time.monotonic() + _TIMEOUT_S
        while not self.go.is_set() and not stop and time.monotonic() < end_s:
            time.sleep(0.001)
        if self.error is not None:
            raise self.error
        if stop:
            raise refusal(Refusal.COMPUTE_FAILED, "it was stopped")
        return [inputs["x"] * 2 for _ in outputs]

    def unload(self) -> None:
        pass

    def reset(self) -> str:
        return "nothing"


class Served:
    """An engine that owns these accelerators and has loaded a model."""

    def __init__(self, *accelerators: Any, model: CheckedModel | None = None) -> None:
        self.model = model or doubler()
        self.events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        put = self.events.put
        self.engine = ComputeEngine(
            EngineCallbacks(
                lambda _load, _model, _ns: put(("loaded",)),
                lambda _load, error: put(("model refused", error)),
                lambda _batch, outputs: put(("computed", outputs["y"])),
                lambda _batch, error: put(("refused", error.code, error.detail)),
                lambda _batch: put(("released",)),
            )
        )
        for one in accelerators:
            self.engine.grant(one)
        self.engine.submit(LoadJob(1, self.model.content, self.model.sha256, time.perf_counter_ns()))
        assert self.next() == ("loaded",)
        self.rested()

    def next(self) -> tuple[Any, ...]:
        return self.events.get(timeout=_TIMEOUT_S)

    def rested(self) -> None:
        """Wait until no accelerator does anything."""
        end_s = time.monotonic() + _TIMEOUT_S
        while any(one.busy for one in self.engine._state.owned.values()):
            assert time.monotonic() < end_s
            time.sleep(0.001)

    def send(self, items: int, **fields: Any) -> tuple[BatchJob, np.ndarray]:
        """Give the engine a batch that is to be split."""
        numbers = np.arange(items * WIDTH, dtype=np.float32).reshape(items, WIDTH)
        tensor = Tensor(name="x", dtype="float32", shape=numbers.shape)
        message = data_messages.BatchOpening(
            model=self.model.sha256, tensors=(tensor,), deadline_ms=0, split=True, **fields
        )
        batch = BatchJob(Header(Kind.BATCH, 0, stream=2), message, memoryview(bytearray(numbers.tobytes())))
        batch.model, batch.outputs = self.model, ("y",)
        batch.preparation = Preparation(layout(message.tensors), self.model.inputs, batch.data, Buffers(0).take)
        batch.items = items
        self.engine.submit(batch)
        return batch, numbers


@pytest.mark.parametrize(("items", "parts"), [(7, [1, 2, 2, 2]), (2, [1, 1]), (1, [1])])
def test_each_accelerator_computes_a_part(items: int, parts: list[int]) -> None:
    """Parts are as even as can be, none is empty, each item is computed once, and the outputs are in order."""
    each = [Doubling(f"doubling:{number}") for number in range(4)]
    served = Served(*each)
    batch, numbers = served.send(items)
    what, outputs = served.next()
    assert what == "computed"
    np.testing.assert_array_equal(outputs, numbers * 2)
    given = [array for one in each for array, _ in one.given]
    assert sorted(map(len, given)) == parts
    assert sorted(float(row[0]) for array in given for row in array) == list(numbers[:, 0])
    assert batch.accelerator == ",".join(one.name for one in each if one.given)
    assert served.next() == ("released",)


def test_one_that_computes_another_batch_does_not_help() -> None:
    """The batch is shared by those that do nothing, and waits for no other."""
    each = [Doubling("doubling:0", waits=True), Doubling("doubling:1"), Doubling("doubling:2")]
    served = Served(each[0])
    served.send(1)
    assert each[0].begun.wait(_TIMEOUT_S)
    for one in each[1:]:
        served.engine.grant(one)
    end_s = time.monotonic() + _TIMEOUT_S
    while any(one.busy or not one.loaded for one in served.engine._state.owned.values() if one.accelerator in each[1:]):
        assert time.monotonic() < end_s
    batch, numbers = served.send(4)
    np.testing.assert_array_equal(served.next()[1], numbers * 2)
    assert batch.accelerator == "doubling:1,doubling:2"
    each[0].go.set()


def test_paced_parts_share_the_time() -> None:
    """Each part waits for its share of the published time; preprocessing is not shared."""
    each = [Doubling("doubling:0"), Doubling("doubling:1")]
    served = Served(*each)
    served.send(4, paced=(Pace(preprocess_us=10, compute_us=1001, source="x"),))
    served.next()
    paces = [pace for one in each for _, pace in one.given]
    assert paces == [Pace(preprocess_us=10, compute_us=501, source="x")] * 2


@pytest.mark.parametrize("failing", [0, 1])
def test_a_part_that_fails_ends_the_others(failing: int) -> None:
    """The batch is refused once, for the reason of the part that failed, and its accelerators go on."""
    error = refusal(Refusal.COMPUTE_FAILED, "broken")
    each = [
        Doubling(f"doubling:{number}", waits=number != failing, error=error if number == failing else None)
        for number in range(2)
    ]
    served = Served(*each)
    served.send(4)
    assert served.next() == ("refused", Refusal.COMPUTE_FAILED, "broken")
    assert served.next() == ("released",)
    served.rested()
    each[failing].error = None
    each[1 - failing].go.set()
    _, numbers = served.send(4)
    np.testing.assert_array_equal(served.next()[1], numbers * 2)


def test_a_batch_that_nobody_wants_ends_on_all() -> None:
    """Its stop ends every part."""
    each = [Doubling(f"doubling:{number}", waits=True) for number in range(3)]
    served = Served(*each)
    batch, _ = served.send(6)
    assert all(one.begun.wait(_TIMEOUT_S) for one in each)
    batch.stop.set()
    assert served.next()[0] == "refused"
    served.rested()


def test_one_that_is_given_back_finishes_its_part_first() -> None:
    """REVOKE of a helper is answered when its part is computed; the batch gets all of its outputs."""
    each = [Doubling(f"doubling:{number}", waits=True) for number in range(2)]
    served = Served(*each)
    batch, numbers = served.send(4)
    assert all(one.begun.wait(_TIMEOUT_S) for one in each)
    returned: queue.SimpleQueue[str] = queue.SimpleQueue()
    for one in each:
        served.engine.revoke(one.name, lambda name, _how: returned.put(name))
    assert returned.empty()
    for one in each:
        one.go.set()
    np.testing.assert_array_equal(served.next()[1], numbers * 2)
    assert {returned.get(timeout=_TIMEOUT_S) for _ in each} == {one.name for one in each}
    assert batch.accelerator == "doubling:0,doubling:1"


@pytest.mark.parametrize(("first", "mixes", "why"), [("N", True, "may mix"), (4, False, "fixes the number")])
def test_a_model_that_may_mix_items_is_refused(first: int | str, mixes: bool, why: str) -> None:
    """A batch that cannot be split is refused with the reason, also where one accelerator would compute all of it."""
    one = Doubling("doubling:0")
    served = Served(one, model=doubler(first, mixes=mixes))
    served.send(4)
    what, code, detail = served.next()
    assert (what, code) == ("refused", Refusal.INPUT_REFUSED)
    assert why in detail
    assert "without 'split'" in detail
    assert not one.given


def test_outputs_without_an_entry_for_each_item_are_refused() -> None:
    """What a part gives is checked, whatever the model declares."""

    class Short(Doubling):
        def run(self, *words: Any) -> list[np.ndarray]:
            (whole,) = super().run(*words)
            return [whole[:0]]

    served = Served(Short("doubling:0"), Short("doubling:1"))
    served.send(4)
    assert served.next()[:2] == ("refused", Refusal.COMPUTE_FAILED)


def test_cpu_accelerators_give_the_same_numbers() -> None:
    """Three real accelerators compute what one does, bit for bit for this model."""
    served = Served(*(accelerator(f"cpu:{number}") for number in range(3)))
    batch, numbers = served.send(64)
    np.testing.assert_array_equal(served.next()[1], numbers * 2)
    assert batch.accelerator == "cpu:0,cpu:1,cpu:2"
