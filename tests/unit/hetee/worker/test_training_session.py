"""A training job in a session: its order, its accelerator, and what is refused. All steps are paced."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from hetee_training import SGD
from hetee_worker_peer import Client, as_tensor
from hetee_worker_samples import Serve
from sectum.hetee.data_plane import messages
from sectum.hetee.data_plane.messages import Pace, Pixels, Tensor, Work
from sectum.hetee.errors import Refusal
from sectum.hetee.training.job import TrainingJob, write_job
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import decode
from sectum.hetee.worker.accelerators import accelerator
from sectum.testing.tiny_models import convolutions

PIXELS = np.zeros((1, 8, 32, 32), np.uint8)
LABELS = np.zeros(1, np.int64)
MODEL = hashlib.sha256(convolutions()).digest()


def code(client: Client, kind: Any, content: bytes) -> messages.Loaded | messages.Failure:
    """Send a CODE of any format, and wait for the answer."""
    digest = hashlib.sha256(content).digest()
    client.open_stream(Kind.CODE, messages.CodeOpening(format=kind, sha256=digest), [memoryview(content)])
    while True:
        header, payload = client.receive()
        if header.kind in (Kind.LOADED, Kind.REFUSED):
            return decode(payload, messages.Loaded if header.kind is Kind.LOADED else messages.Failure)


def begin(client: Client, **fields: Any) -> bytes:
    """Begin a job of a small model; returns its digest."""
    assert isinstance(code(client, "onnx", convolutions()), messages.Loaded)
    loaded = code(client, "training", write_job(TrainingJob(optimiser=SGD, onnx=(MODEL,), **fields)))
    assert isinstance(loaded, messages.Loaded)
    assert [slot.name for slot in loaded.inputs] == ["x", "labels"]
    return loaded.sha256


def step(client: Client, job: bytes, number: int, *, ms: float = 1, kind: Any = "train", **fields: Any) -> int:
    """Send a step whose pixels are converted by several threads; returns its stream."""
    described = [Tensor(name="x", dtype="uint8", shape=PIXELS.shape, pixels=(Pixels(),)), as_tensor("labels", LABELS)]
    opening = messages.BatchOpening(
        model=job,
        tensors=tuple(described),
        deadline_ms=fields.pop("deadline_ms", 60_000),
        paced=(Pace(preprocess_us=0, compute_us=round(ms * 1000), source="test"),),
        work=(Work(kind=kind, step=number),),
        **fields,
    )
    return client.open_stream(Kind.BATCH, opening, [memoryview(PIXELS.tobytes() + LABELS.tobytes())])


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
