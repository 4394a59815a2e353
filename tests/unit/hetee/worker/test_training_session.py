"""A training job in a session: its order, its accelerator, and what is refused. All steps are paced."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from hetee_rack import until
from hetee_training import SGD
from hetee_worker_peer import Client, as_tensor
from hetee_worker_samples import Serve
from sectum.hetee.client.small_networks import small_network
from sectum.hetee.data_plane import messages
from sectum.hetee.data_plane.messages import Pace, Pixels, Tensor, Work
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.training.job import TrainingJob, write_job
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import decode
from sectum.hetee.worker.accelerators import accelerator
from sectum.hetee.worker.accelerators.paced import PacedAccelerator
from sectum.hetee.worker.engine import ComputeEngine
from sectum.testing.tiny_models import convolutions

PIXELS = np.zeros((1, 8, 32, 32), np.uint8)
LABELS = np.zeros(1, np.int64)
ANY_BATCH = small_network("cnn", (3, 8, 8), 3)
MODEL = hashlib.sha256(convolutions()).digest()


def code(client: Client, kind: Any, content: bytes) -> messages.Loaded | messages.Failure:
    """Send a CODE of any format, and wait for the answer."""
    digest = hashlib.sha256(content).digest()
    client.open_stream(Kind.CODE, messages.CodeOpening(format=kind, sha256=digest), [memoryview(content)])
    while True:
        header, payload = client.receive()
        if header.kind in (Kind.LOADED, Kind.REFUSED):
            return decode(payload, messages.Loaded if header.kind is Kind.LOADED else messages.Failure)


def begin(client: Client, model: bytes = convolutions(), **fields: Any) -> bytes:
    """Begin a job of a small model; returns its digest."""
    assert isinstance(code(client, "onnx", model), messages.Loaded)
    onnx = (hashlib.sha256(model).digest(),)
    loaded = code(client, "training", write_job(TrainingJob(optimiser=SGD, onnx=onnx, **fields)))
    assert isinstance(loaded, messages.Loaded)
    assert [slot.name for slot in loaded.inputs] == ["x" if model == convolutions() else "images", "labels"]
    return loaded.sha256


def step(
    client: Client, job: bytes, number: int, *, ms: float = 1, kind: Any = "train", items: int = 0, **fields: Any
) -> int:
    """Send a step whose pixels are converted by several threads; returns its stream. With items it is of ANY_BATCH."""
    name, pixels = ("images", np.zeros((items, 3, 8, 8), np.uint8)) if items else ("x", PIXELS)
    labels = np.repeat(LABELS, len(pixels))
    described = [Tensor(name=name, dtype="uint8", shape=pixels.shape, pixels=(Pixels(),)), as_tensor("labels", labels)]
    opening = messages.BatchOpening(
        model=job,
        tensors=tuple(described),
        deadline_ms=fields.pop("deadline_ms", 60_000),
        paced=(Pace(preprocess_us=0, compute_us=round(ms * 1000), source="test"),),
        work=(Work(kind=kind, step=number),),
        **fields,
    )
    return client.open_stream(Kind.BATCH, opening, [memoryview(pixels.tobytes() + labels.tobytes())])


def test_steps_are_done_in_the_order_in_which_they_were_sent(serve: Serve) -> None:
    """With two accelerators and inputs that several threads convert, steps keep their order, on one accelerator."""
    client = serve("paced:0", "paced:1").client
    job, used = begin(client), set()
    streams = [step(client, job, number) for number in range(1, 9)]
    for stream in streams:
        answered, answer = client.answer()
        assert answered == stream
        assert answer.refused is None
        assert answer.paced
        assert answer.receipt is not None
        used.add(answer.receipt.accelerator)
    assert len(used) == 1


def test_a_job_goes_on_where_its_accelerator_was_taken(serve: Serve) -> None:
    """When the accelerator that has the job is revoked, the job goes on at the next step on another."""
    served = serve("paced:0", "paced:1")
    client, engine = served.client, served.enclave.engine
    job = begin(client)
    step(client, job, 1)
    first = client.answer()[1].receipt
    assert first is not None
    returned: list[str] = []
    step(client, job, 2, ms=30)
    step(client, job, 3)
    engine.revoke(first.accelerator, lambda name, _how: returned.append(name))
    second, third = client.answer()[1], client.answer()[1]
    assert second.receipt is not None
    assert third.receipt is not None
    assert third.receipt.accelerator != first.accelerator
    assert returned == [first.accelerator]


def test_all_accelerators_share_a_step(serve: Serve) -> None:
    """Each accelerator computes a part of a batch with enough items; the receipt names all, and they share the time."""
    client = serve("paced:0", "paced:1", "paced:2", "paced:3").client
    job = begin(client, ANY_BATCH)
    for number in range(1, 9):
        step(client, job, number, ms=80, items=8)
    for _ in range(8):
        receipt = client.answer()[1].receipt
        assert receipt is not None
        assert receipt.accelerator == "paced:0,paced:1,paced:2,paced:3"
        assert 20e6 <= receipt.times_ns["compute"] < 80e6
    step(client, job, 9, ms=30, items=3)
    receipt = client.answer()[1].receipt
    assert receipt is not None
    assert receipt.accelerator.count("paced") == 3


def test_a_step_goes_on_with_the_accelerators_that_are_left(serve: Serve) -> None:
    """Accelerators are taken and given while steps wait: each step is done once, in order, by those that there are."""
    served = serve("paced:0", "paced:1", open_streams=30)
    client, engine = served.client, served.enclave.engine
    job, returned = begin(client, ANY_BATCH), []
    streams = [step(client, job, number, ms=20, items=4) for number in range(1, 21)]
    used = []
    for number, stream in enumerate(streams):
        answered, answer = client.answer()
        assert answered == stream
        assert answer.receipt is not None
        used.append(answer.receipt.accelerator)
        if number == 5:
            engine.revoke(used[0].split(",")[0], lambda name, _how: returned.append(name))
        if number == 10:
            engine.grant(accelerator("paced:7"))
            engine.grant(accelerator("paced:8"))
    assert used[0] == "paced:0,paced:1"
    assert "paced:1" in used
    assert used[-1] == "paced:1,paced:7,paced:8"
    assert returned == ["paced:0"]


def test_accelerators_that_come_together_share_the_first_step(serve: Serve) -> None:
    """Accelerators that are taken and given at once are used together or not at all, so that losses can be equal."""
    served = serve("paced:0", "paced:1", open_streams=30)
    client, engine = served.client, served.enclave.engine
    job, returned = begin(client, ANY_BATCH), list[str]()
    for number in range(1, 26):
        step(client, job, number, ms=4, items=4)
    for number in range(25):
        receipt = client.answer()[1].receipt
        assert receipt is not None
        assert receipt.accelerator == "paced:0,paced:1"
        if number % 5 == 0:
            with engine.at_once():
                for name in ("paced:0", "paced:1"):
                    engine.revoke(name, lambda name, _how: returned.append(name))
            until(lambda: len(returned) == 2)
            returned.clear()
            with engine.at_once():
                for name in ("paced:0", "paced:1"):
                    engine.grant(accelerator(name))


class Slow:
    """An accelerator whose steps end when they are asked to, and only on the second one."""

    kind, paced = "slow", True

    def __init__(self, name: str, ends: bool) -> None:
        self.name, self._ends = name, ends

    def load(self, model: Any) -> Any:
        return PacedAccelerator(self.name).load(model)

    def train(self, job: Any) -> Any:
        paced, ends = PacedAccelerator(self.name).train(job), self._ends
        run = paced.run

        def slow(work: Any, arrays: Any, stop: Any, *rest: Any) -> Any:
            while not ends:
                if stop:
                    raise refusal(Refusal.CANCELLED, "stopped")
                time.sleep(0.01)
            return run(work, arrays, stop, *rest)

        paced.run = slow  # type: ignore[method-assign]
        return paced

    def reset(self) -> str:
        return "nothing"


def on_a_slow_accelerator(serve: Serve) -> tuple[Client, ComputeEngine, bytes, list[str]]:
    """A job whose steps never end on the one accelerator that it has; names are added to the list when they return."""
    served = serve("paced:0")
    client, engine = served.client, served.enclave.engine
    job = begin(client)
    engine._longest_step_s = 0.05
    engine.grant(Slow("slow:0", ends=False))  # type: ignore[arg-type]
    returned: list[str] = []
    engine.revoke("paced:0", lambda name, _how: returned.append(name))
    return client, engine, job, returned


def test_a_step_that_takes_too_long_leaves_its_accelerator(serve: Serve) -> None:
    """A step that does not end on an accelerator that is to be given back is done anew on the next, before others."""
    client, engine, job, returned = on_a_slow_accelerator(serve)
    streams = [step(client, job, number) for number in (1, 2, 3)]
    until(lambda: engine._state.owned["slow:0"].busy)
    engine.revoke("slow:0", lambda name, _how: returned.append(name))
    until(lambda: "slow:0" in returned)
    engine.grant(Slow("slow:1", ends=True))  # type: ignore[arg-type]
    for stream in streams:
        answered, answer = client.answer()
        assert answered == stream
        assert answer.receipt is not None
        assert answer.receipt.accelerator == "slow:1"


def test_a_step_that_is_cancelled_while_it_leaves_is_answered_once(serve: Serve) -> None:
    """A step that waits for another accelerator can still be cancelled; the next one takes its number."""
    client, engine, job, returned = on_a_slow_accelerator(serve)
    stream = step(client, job, 1)
    until(lambda: engine._state.owned["slow:0"].busy)
    engine.revoke("slow:0", lambda name, _how: returned.append(name))
    until(lambda: "slow:0" in returned)
    client.send(Kind.CANCEL, messages.Empty(), stream=stream)
    refused = client.answer()[1].refused
    assert refused is not None
    assert refused.code is Refusal.CANCELLED
    engine.grant(Slow("slow:1", ends=True))  # type: ignore[arg-type]
    step(client, job, 1)
    assert client.answer()[1].refused is None


def test_inference_goes_on_beside_a_job(serve: Serve) -> None:
    """A batch of another model is computed on the other accelerator while a long step is done."""
    client = serve("paced:0", "paced:1").client
    job = begin(client)
    long = step(client, job, 1, ms=300)
    behind = step(client, job, 2)
    pace = Pace(preprocess_us=0, compute_us=1000, source="test")
    other = client.batch(
        MODEL, [as_tensor("x", PIXELS.astype(np.float32))], [PIXELS.astype(np.float32).tobytes()], pace=pace
    )
    assert [client.answer()[0] for _ in range(3)] == [other, long, behind]


@pytest.mark.parametrize("number", [0, 2, 7])
def test_a_step_that_is_not_due_is_refused(serve: Serve, number: int) -> None:
    """A step is done if it is the next one, and no other."""
    client = serve("paced:0").client
    job = begin(client)
    step(client, job, number)
    refused = client.answer()[1].refused
    assert refused is not None
    assert refused.code is Refusal.INPUT_REFUSED
    step(client, job, 1)
    assert client.answer()[1].refused is None


def test_steps_behind_a_cancelled_one_are_refused(serve: Serve) -> None:
    """A step that is cancelled while it waits is not done, nor are those behind it; then the job goes on."""
    client = serve("paced:0").client
    job = begin(client)
    streams = [step(client, job, number, ms=100 if number == 1 else 1) for number in (1, 2, 3)]
    client.send(Kind.CANCEL, messages.Empty(), stream=streams[1])
    answers = dict(client.answer() for _ in streams)
    codes = [answers[stream].refused and answers[stream].refused.code for stream in streams]
    assert codes == [None, Refusal.CANCELLED, Refusal.INPUT_REFUSED]
    step(client, job, 2)
    assert client.answer()[1].refused is None


def test_a_late_step_is_answered_once_and_not_done(serve: Serve) -> None:
    """A step whose deadline passes while it is computed is refused, and the same number can be sent again."""
    client = serve("paced:0").client
    job = begin(client)
    step(client, job, 1, ms=10_000, deadline_ms=50)
    begun_s = time.monotonic()
    refused = client.answer()[1].refused
    assert refused is not None
    assert refused.code is Refusal.DEADLINE
    step(client, job, 1)
    assert client.answer()[1].refused is None
    assert time.monotonic() - begun_s < 9


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"outputs": ("loss",)}, "names no outputs"), ({"kind": "score"}, "inputs"), ({"kind": "checkpoint"}, "inputs")],
)
def test_what_does_not_fit_a_job_is_refused(serve: Serve, fields: dict[str, Any], why: str) -> None:
    """A batch of a job gives exactly the inputs of what it asks for."""
    client = serve("paced:0").client
    step(client, begin(client), 1, **fields)
    refused = client.answer()[1].refused
    assert refused is not None
    assert why in refused.detail


def test_a_model_does_not_train(serve: Serve) -> None:
    """Work for a model that is no job is refused, and so is a batch without work for a job."""
    client = serve("paced:0").client
    job = begin(client)
    step(client, MODEL, 1)
    assert client.answer()[1].refused is not None
    array = PIXELS.astype(np.float32)
    refused = client.infer(job, {"x": array}).refused
    assert refused is not None
    assert refused.code is Refusal.INPUT_REFUSED


@pytest.mark.parametrize(
    ("fields", "code_"),
    [
        ({"onnx": (bytes(32),)}, Refusal.NO_MODEL),
        ({"onnx": (MODEL,), "weights": (MODEL,)}, Refusal.NO_MODEL),
        ({"onnx": (MODEL,), "checkpoint": (bytes(32),), "step": 4}, Refusal.NO_MODEL),
    ],
)
def test_a_job_names_only_what_was_sent(serve: Serve, fields: dict[str, Any], code_: Refusal) -> None:
    """Neither a digest of what this session did not send nor a model in place of weights is taken."""
    client = serve("paced:0").client
    code(client, "onnx", convolutions())
    refused = code(client, "training", write_job(TrainingJob(optimiser=SGD, **fields)))
    assert isinstance(refused, messages.Failure)
    assert refused.code is code_


@pytest.mark.parametrize("content", [b"", b"\x80", b"no job"])
def test_bytes_that_are_no_job_are_refused(serve: Serve, content: bytes) -> None:
    """A malformed job ends its stream only."""
    client = serve("paced:0").client
    refused = code(client, "training", content)
    assert isinstance(refused, messages.Failure)
    assert refused.code is Refusal.MODEL_REFUSED
    begin(client)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(("step", "step", "step", "early", "again", "cancel", "take", "give")), st.integers(0, 2)),
    max_size=24,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
@pytest.mark.slow
def test_every_step_is_done_once_in_its_turn_or_not_at_all(serve: Serve, actions: list[tuple[str, int]]) -> None:
    """Whatever is sent, cancelled, and taken or given meanwhile: what was done is 1, 2, 3, ..., each answered once."""
    served = serve("paced:0", open_streams=30)
    client, engine = served.client, served.enclave.engine
    job, sent, cancelled = begin(client), dict[int, int](), set[int]()
    guess = 0
    for action, number in actions:
        match action:
            case "step" | "early" | "again":
                wanted = guess + {"step": 1, "early": 3, "again": 0}[action]
                guess += action == "step"
                sent[step(client, job, wanted, ms=0.5 * number)] = wanted
            case "cancel" if sent:
                stream = max(sent) - number
                if stream in sent:
                    cancelled.add(stream)
                    client.send(Kind.CANCEL, messages.Empty(), stream=stream)
            case "take":
                engine.revoke(f"paced:{number}", lambda _name, _how: None)
            case "give" if f"paced:{number}" not in engine.accelerators:
                engine.grant(accelerator(f"paced:{number}"))
    if not engine.accelerators:
        engine.grant(accelerator("paced:9"))
    answers = dict(client.answer() for _ in sent)
    assert set(answers) == set(sent)
    done = 0
    for stream, wanted in sorted(sent.items()):
        refused = answers[stream].refused
        if refused is None:
            assert wanted == done + 1
            done += 1
        elif refused.code is Refusal.INPUT_REFUSED:
            assert wanted != done + 1
        else:
            assert refused.code is Refusal.CANCELLED
            assert stream in cancelled
    step(client, job, done + 1)
    assert client.answer()[1].refused is None
