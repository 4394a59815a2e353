"""Each job is computed once, by an accelerator that the engine owns."""

from __future__ import annotations

import hashlib
import queue
import threading
import time

import numpy as np

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.buffers import Buffers
from sectum.hetee.worker.engine import ComputeEngine
from sectum.hetee.worker.engine_state import EngineCallbacks
from sectum.hetee.worker.load_job import LoadJob
from sectum.hetee.worker.models import DEFAULT_LIMITS, CheckedModel, ModelLimits
from sectum.hetee.worker.preparation import Preparation
from sectum.testing.tiny_models import convolutions, matrix_chain

_TIMEOUT_S = 10.0
MODEL = hashlib.sha256(convolutions()).digest()


class Slow:
    """An accelerator that computes when it is told to."""

    kind, paced = "slow", False

    def __init__(self, name: str) -> None:
        self.name, self.models, self.unloaded = name, 0, 0
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def load(self, model: CheckedModel) -> Slow:
        self.models += 1
        return self

    def run(self, inputs, outputs, stop, pace=None):
        self.begun.release()
        assert self.go.acquire(timeout=_TIMEOUT_S)
        return [np.zeros(1) for _ in outputs]

    def unload(self) -> None:
        self.unloaded += 1

    def reset(self) -> str:
        return f"{self.models} models"


class Bench:
    """An engine and what came of its work."""

    def __init__(self, limits: ModelLimits = DEFAULT_LIMITS) -> None:
        self.events: queue.SimpleQueue[tuple] = queue.SimpleQueue()
        put = self.events.put
        self.engine = ComputeEngine(
            EngineCallbacks(
                lambda load, model, ns: put(("loaded", load.stream)),
                lambda load, error: put(("model refused", load.stream, error.code.name)),
                lambda batch, outputs: put(("computed", batch.stream)),
                lambda batch, error: put(("refused", batch.stream, error.code.name)),
                lambda batch: put(("released", batch.stream)),
            ),
            limits,
        )

    def next(self) -> tuple:
        return self.events.get(timeout=_TIMEOUT_S)

    def load(self) -> None:
        self.engine.submit(LoadJob(1, convolutions(), MODEL, time.perf_counter_ns()))

    def batch(self, stream: int, **fields) -> BatchJob:
        tensor = Tensor(name="x", dtype="float32", shape=(1, 8, 32, 32))
        message = data_messages.BatchOpening(model=MODEL, tensors=(tensor,), deadline_ms=0, **fields)
        batch = BatchJob(Header(Kind.BATCH, 0, stream=stream), message, memoryview(bytearray(32768)))
        batch.model = self.engine.model(MODEL)
        assert batch.model
        batch.preparation = Preparation(layout(message.tensors), batch.model.inputs, batch.data, Buffers(0).take)
        return batch


def ready() -> tuple[Bench, Slow]:
    bench, slow = Bench(), Slow("slow:0")
    bench.engine.grant(slow)
    bench.load()
    assert bench.next() == ("loaded", 1)
    return bench, slow


def test_work_waits_for_an_accelerator() -> None:
    """A model that comes before an accelerator is loaded when there is one."""
    bench = Bench()
    bench.load()
    assert bench.events.empty()
    bench.engine.grant(Slow("slow:0"))
    assert bench.next() == ("loaded", 1)


def test_a_batch_is_computed_then_released() -> None:
    """Each batch has one outcome, and its memory is given back after that."""
    bench, slow = ready()
    bench.engine.submit(bench.batch(2))
    slow.go.release()
    assert (bench.next(), bench.next()) == (("computed", 2), ("released", 2))
    assert (bench.engine.batches, bench.engine.busy_ns > 0) == (1, True)


def test_accelerators_share_the_work() -> None:
    """A second accelerator takes the next batch while the first computes, and loads the model by itself."""
    bench, first = ready()
    second = Slow("slow:1")
    bench.engine.submit(bench.batch(2))
    bench.engine.grant(second)
    bench.engine.submit(bench.batch(3))
    assert first.begun.acquire(timeout=_TIMEOUT_S)
    assert second.begun.acquire(timeout=_TIMEOUT_S)
    assert (first.models, second.models) == (1, 1)
    first.go.release()
    second.go.release()
    assert {bench.next() for _ in range(4)} == {(what, n) for what in ("computed", "released") for n in (2, 3)}


def owning(*accelerators: Slow) -> Bench:
    bench = Bench()
    for accelerator in accelerators:
        bench.engine.grant(accelerator)
    return bench


class Full(Slow):
    """An accelerator that can take no model."""

    def load(self, model: CheckedModel) -> Slow:
        self.models += 1
        raise MemoryError


def test_a_model_is_loaded_on_every_accelerator() -> None:
    """LOADED comes when each has the model, so that no batch waits for it."""
    slows = [Slow(f"slow:{number}") for number in range(4)]
    bench = owning(*slows)
    bench.load()
    assert bench.next() == ("loaded", 1)
    assert [slow.models for slow in slows] == [1, 1, 1, 1]


def test_a_model_that_one_accelerator_cannot_have_is_refused() -> None:
    """If it does not fit on all, the owner learns it from the answer to CODE, and the others drop it."""
    slow = Slow("slow:0")
    bench = owning(slow, Full("slow:1"))
    bench.load()
    assert bench.next() == ("model refused", 1, "MODEL_REFUSED")
    assert bench.engine.model(MODEL) is None


def test_an_accelerator_that_comes_later_computes_when_it_has_the_model() -> None:
    """One that is added loads what the others have at once, without a batch; a batch does not wait for it."""
    bench, _ = ready()
    second = Slow("slow:1")
    bench.engine.grant(second)
    end_s = time.monotonic() + _TIMEOUT_S
    while not second.models and time.monotonic() < end_s:
        time.sleep(0.01)
    assert second.models == 1


def test_an_added_accelerator_that_cannot_load_a_model_gets_no_batches_of_it() -> None:
    """Growth loses no batch: those that can compute it do so."""
    bench, first = ready()
    full = Full("slow:1")
    bench.engine.grant(full)
    for stream in range(2, 6):
        first.go.release()
        bench.engine.submit(bench.batch(stream))
    told = [bench.next() for _ in range(8)]
    assert [event for event in told if event[0] == "computed"] == [("computed", stream) for stream in range(2, 6)]
    assert full.models <= 1


def test_a_model_that_is_sent_again_is_not_lost() -> None:
    """A second CODE with a loaded model is answered at once, also if an accelerator that was added cannot have it."""
    bench, slow = ready()
    bench.engine.grant(Full("slow:1"))
    bench.load()
    assert bench.next() == ("loaded", 1)
    slow.go.release()
    bench.engine.submit(bench.batch(2))
    assert bench.next() == ("computed", 2)


def test_a_model_is_loaded_although_an_accelerator_is_given_back_meanwhile() -> None:
    """CODE is answered when those that are left have the model."""

    class Late(Slow):
        def load(self, model: CheckedModel) -> Slow:
            self.begun.release()
            assert self.go.acquire(timeout=_TIMEOUT_S)
            return super().load(model)

    late = [Late("slow:0"), Late("slow:1")]
    bench = owning(*late)
    bench.load()
    first = next(slow for slow in late if slow.begun.acquire(timeout=0.2))
    first.go.release()
    other = next(slow for slow in late if slow is not first)
    assert other.begun.acquire(timeout=_TIMEOUT_S)
    returned: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    bench.engine.revoke(other.name, lambda *told: returned.put(told))
    assert bench.next() == ("loaded", 1)
    other.go.release()
    assert returned.get(timeout=_TIMEOUT_S)[0] == other.name


def test_a_model_that_is_unloaded_while_it_is_loaded_does_not_keep_an_accelerator() -> None:
    """UNLOAD before LOADED ends the loading, and batches of other models go on."""

    class Late(Slow):
        def load(self, model: CheckedModel) -> Slow:
            assert self.go.acquire(timeout=_TIMEOUT_S)
            return super().load(model)

    first, late = Slow("slow:0"), Late("slow:1")
    bench = owning(first, late)
    bench.load()
    end_s = time.monotonic() + _TIMEOUT_S
    while bench.engine.model(MODEL) is None and time.monotonic() < end_s:
        late.go.release()
        time.sleep(0.01)
    bench.engine.unload(MODEL)
    late.go.release()
    assert bench.next() == ("loaded", 1)
    bench.load()
    late.go.release(8)
    assert bench.next() == ("loaded", 1)


def test_a_revoked_accelerator_finishes_its_batch_first() -> None:
    """REVOKE is answered when the batch on it is done; what waits stays for the next accelerator."""
    bench, slow = ready()
    returned: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    bench.engine.submit(bench.batch(2))
    bench.engine.submit(bench.batch(3))
    assert slow.begun.acquire(timeout=_TIMEOUT_S)
    bench.engine.revoke("slow:0", lambda *told: returned.put(told))
    assert returned.empty()
    slow.go.release()
    assert (bench.next(), bench.next()) == (("computed", 2), ("released", 2))
    assert returned.get(timeout=_TIMEOUT_S) == ("slow:0", "1 models")
    assert bench.engine.accelerators == ()
    other = Slow("slow:1")
    other.go.release()
    bench.engine.grant(other)
    assert bench.next() == ("computed", 3)


def test_what_was_never_owned_is_returned_at_once() -> None:
    """REVOKE is answered in every state."""
    told = []
    Bench().engine.revoke("cpu:7", lambda *one: told.append(one))
    assert told == [("cpu:7", "not owned")]


def test_a_batch_that_waits_can_be_taken_out() -> None:
    """A batch is taken out of the queue once, and not computed after that."""
    bench, slow = ready()
    bench.engine.submit(bench.batch(2))
    assert slow.begun.acquire(timeout=_TIMEOUT_S)
    waiting = bench.batch(3)
    bench.engine.submit(waiting)
    assert bench.engine.discard(waiting)
    assert not bench.engine.discard(waiting)
    slow.go.release(2)
    assert (bench.next(), bench.next()) == (("computed", 2), ("released", 2))
    assert bench.events.empty()


def test_an_answered_batch_is_not_computed() -> None:
    """A batch that was refused while it waited costs no time on the accelerator."""
    bench, _ = ready()
    batch = bench.batch(2)
    assert batch.claim()
    assert not batch.claim()
    bench.engine.submit(batch)
    assert bench.next() == ("released", 2)


def test_only_a_paced_accelerator_takes_a_pace() -> None:
    """A batch that names published times is refused where it would really be computed."""
    bench, _ = ready()
    bench.engine.submit(bench.batch(2, paced=(data_messages.Pace(preprocess_us=0, compute_us=1, source="x"),)))
    assert (bench.next(), bench.next()) == (("refused", 2, "INPUT_REFUSED"), ("released", 2))


def test_a_bad_model_ends_its_stream_only() -> None:
    """A model that cannot be loaded is refused, and the next one is loaded."""
    bench, _ = ready()
    bench.engine.submit(LoadJob(2, b"no model", b"n" * 32, 0))
    assert bench.next() == ("model refused", 2, "MODEL_REFUSED")
    bench.load()
    assert bench.next() == ("loaded", 1)


def test_a_batch_is_computed_by_who_brings_it_where_an_accelerator_waits() -> None:
    """The calling thread computes a batch if the accelerator is idle; otherwise the batch waits in the queue."""
    bench, slow = ready()
    slow.go.release()
    bench.engine.submit(bench.batch(2), here=True)
    assert [bench.events.get_nowait(), bench.events.get_nowait()] == [("computed", 2), ("released", 2)]
    bench.engine.submit(bench.batch(3))
    assert [slow.begun.acquire(timeout=_TIMEOUT_S) for _ in range(2)] == [True, True]
    bench.engine.submit(bench.batch(4), here=True)  # does not wait for the third
    assert bench.events.empty()
    slow.go.release(2)
    assert [bench.next() for _ in range(4)] == [("computed", 3), ("released", 3), ("computed", 4), ("released", 4)]


def test_an_accelerator_that_is_busy_elsewhere_is_revoked_after_its_batch() -> None:
    """REVOKE waits for a batch that the calling thread computes, as for any other."""
    bench, slow = ready()
    returned: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    bringer = threading.Thread(target=lambda: bench.engine.submit(bench.batch(2), here=True))
    bringer.start()
    assert slow.begun.acquire(timeout=_TIMEOUT_S)
    bench.engine.revoke("slow:0", lambda *told: returned.put(told))
    assert returned.empty()
    slow.go.release()
    assert returned.get(timeout=_TIMEOUT_S) == ("slow:0", "1 models")
    bringer.join()


def test_models_are_bounded_and_can_be_unloaded() -> None:
    """A model beyond the limits on number or bytes is refused; when another one was unloaded, it is loaded."""
    content = matrix_chain(1, 8)
    sha256 = hashlib.sha256(content).digest()
    for limits in (ModelLimits(count=1), ModelLimits(total_bytes=len(convolutions()) + len(content) - 1)):
        bench, slow = Bench(limits), Slow("slow:0")
        bench.engine.grant(slow)
        bench.load()
        assert bench.next() == ("loaded", 1)
        bench.engine.submit(LoadJob(2, content, sha256, 0))
        assert bench.next() == ("model refused", 2, "MODEL_REFUSED")
        bench.load()  # the same one again takes nothing
        assert bench.next() == ("loaded", 1)
        bench.engine.unload(MODEL)
        assert (slow.unloaded, bench.engine.model(MODEL)) == (1, None)
        bench.engine.submit(LoadJob(2, content, sha256, 0))
        assert bench.next() == ("loaded", 2)


def test_a_model_that_computes_is_unloaded_after_its_batch() -> None:
    """The batch on the accelerator is computed, one that waits is refused, and then the model is dropped."""
    bench, slow = ready()
    bench.engine.submit(bench.batch(2))
    assert slow.begun.acquire(timeout=_TIMEOUT_S)
    bench.engine.submit(bench.batch(3))
    bench.engine.unload(MODEL)
    assert slow.unloaded == 0
    slow.go.release()
    assert [bench.next() for _ in range(2)] == [("computed", 2), ("released", 2)]
    assert [bench.next() for _ in range(2)] == [("refused", 3, "NO_MODEL"), ("released", 3)]
    assert slow.unloaded == 1
