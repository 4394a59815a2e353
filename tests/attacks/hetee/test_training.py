"""Training: steps in another order, checkpoints of others or of before, and receipts that are not the step's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import pytest

from hetee_hostile_host import UP, HostileHost, Seen
from hetee_rack import Rack, error_within
from hetee_training import SGD, batches, changed
from sectum.hetee.client import Session, check_bundle, read_bundle
from sectum.hetee.client.bundle import digest_of
from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.small_networks import small_network
from sectum.hetee.client.training import Training
from sectum.hetee.data_plane.messages import Work
from sectum.hetee.errors import EvidenceRefused, Refusal, WorkRefused
from sectum.hetee.training.job import TrainingJob
from sectum.hetee.wire.kinds import Kind

pytestmark = pytest.mark.slow

pytest.importorskip("torch", reason="PyTorch is an extra")

JOB = TrainingJob(optimiser=SGD, onnx=(bytes(32),), state_every=1)
DATA = batches(6, side=8)


@pytest.fixture(scope="module")
def rack(training_racks: tuple[Rack, Rack]) -> Rack:
    """A rack whose workers can train."""
    return training_racks[0]


@pytest.fixture(scope="module")
def session(rack: Rack) -> Iterator[Session]:
    """A session for tests that need no enclave of their own: each worker that starts imports PyTorch."""
    with rack.connect() as opened:
        yield opened


@pytest.fixture(scope="module")
def network() -> bytes:
    """A small network."""
    return small_network("cnn", (3, 8, 8), 3)


@pytest.fixture(scope="module")
def losses(session: Session, network: bytes) -> list[float]:
    """The losses of six steps, as an honest host and client get them."""
    training = session.train(JOB, onnx=network)
    found = [training.step(*batch).loss for batch in DATA]
    training.end()
    return found


def test_a_confined_worker_trains_as_this_process_does(
    rack: Rack, session: Session, network: bytes, losses: list[float]
) -> None:
    """The worker is fully confined, may make no page executable, and gives the losses of this process, bit for bit."""
    import torch

    from hetee_training import checked
    from hetee_training import losses as trained
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer, settle
    from sectum.hetee.worker.models import inspect

    threads = torch.get_num_threads()
    settle(1)
    model = inspect(network)
    try:
        trainer = Trainer(checked(changed(JOB, onnx=(model.sha256,)), model), lambda _trainer: None)
        assert trained(trainer, DATA, name="images") == losses
    finally:
        torch.set_num_threads(threads)
        torch._C._set_deterministic_algorithms(False, warn_only=False)
    assert session.trust.worker is not None
    assert set(rack.policy.confinement["worker"]) <= set(session.trust.worker.confinement)
    assert {"seccomp", "landlock", "no-new-descriptors"} <= set(session.trust.worker.confinement)


def test_steps_in_another_order_are_refused(session: Session, network: bytes, losses: list[float]) -> None:
    """A step that was done, or that is not due yet, is refused and changes nothing: each is done once, in its turn."""
    training = session.train(JOB, onnx=network)
    assert training.step(*DATA[0]).loss == losses[0]
    for number in (1, 3, 0):
        given = {"images": DATA[1][0], "labels": DATA[1][1]}
        work = Work(kind="train", step=number)
        answer = session.submit_work(training._loaded, work, given, pixels=None, deadline_ms=60_000, pace=None)
        with pytest.raises(WorkRefused) as caught:
            answer.result()
        assert caught.value.code is Refusal.INPUT_REFUSED
    assert [training.step(*batch).loss for batch in DATA[1:]] == losses[1:]
    training.end()


def test_steps_in_flight_behind_a_refused_one_are_refused(
    session: Session, network: bytes, losses: list[float]
) -> None:
    """If a step is refused, none of those that were sent behind it is done, and the client sends them again."""
    training = session.train(JOB, onnx=network)
    wrong = DATA[1][0], np.full(len(DATA[1][1]), 7)
    sent = [training.submit(*batch) for batch in (DATA[0], wrong, *DATA[2:4])]
    assert sent[0].result().loss == losses[0]
    for answer in sent[1:]:
        with pytest.raises(WorkRefused):
            answer.result()
    assert [training.step(*batch).loss for batch in DATA[1:]] == losses[1:]
    training.end()


@pytest.mark.parametrize("act", ["repeat", "swap"])
def test_a_step_that_a_host_repeats_or_swaps_is_noticed(rack: Rack, network: bytes, act: str) -> None:
    """A host that sends the frames of a step twice, or after those of the next, ends the session; no loss is wrong."""
    kept: list[bytes] = []
    done: list[bool] = []
    streams: set[int] = set()

    def tamper(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
        streams.update([seen.header.stream] if seen.header.kind is Kind.BATCH else [])
        if seen.direction != UP or done or seen.header.stream not in streams:
            return [seen.data]
        kept.append(seen.data)
        step = 2  # a BATCH and its only chunk
        if act == "repeat" and len(kept) == step:
            done.append(True)
            return [*kept, *kept]
        if act == "swap" and len(kept) == 2 * step:
            done.append(True)
            return [*kept[step:], *kept[:step]]
        return []

    accepted: list[float] = []
    with HostileHost(rack.port, tamper) as host:

        def use() -> None:
            with rack.connect(url=host.url, timeout_s=3) as session:
                training = session.train(JOB, onnx=network)
                for answer in [training.submit(*batch) for batch in DATA[:3]]:
                    accepted.append(answer.result().loss)

        _, error, _ = error_within(30, use)
    assert done
    assert error is not None
    assert len(accepted) < 3


@pytest.fixture(scope="module")
def checkpoints(session: Session, network: bytes) -> list[Checkpoint]:
    """Checkpoints after one and after three steps."""
    made = []
    training = session.train(JOB, onnx=network)
    for number, batch in enumerate(DATA[:3], 1):
        step = training.step(*batch)
        if number != 2:
            made.append(training.checkpoint())
            assert step.state == made[-1].sha256
    training.end()
    return made


def test_a_checkpoint_goes_on_in_another_enclave(
    rack: Rack, network: bytes, losses: list[float], checkpoints: list[Checkpoint]
) -> None:
    """Another enclave goes on with the losses that the first would have given, bit for bit."""
    with rack.connect() as session:
        training = session.train(JOB, onnx=network, checkpoint=Checkpoint.read(checkpoints[1].content))
        assert training.done == 3
        assert [training.step(*batch).loss for batch in DATA[3:]] == losses[3:]


def test_an_old_checkpoint_is_not_taken_for_a_newer_one(
    session: Session, network: bytes, checkpoints: list[Checkpoint]
) -> None:
    """Who wants to go on at step 3 does not go on with the state of step 1, which has another digest."""
    old, new = checkpoints
    with pytest.raises(WorkRefused, match="has done 1 steps") as caught:
        session.train(JOB, onnx=network, checkpoint=Checkpoint(old.content, new.step))
    assert caught.value.code is Refusal.MODEL_REFUSED
    assert old.sha256 != new.sha256


@pytest.mark.parametrize("at", [20, -5])
def test_a_changed_checkpoint_is_refused(
    session: Session, network: bytes, checkpoints: list[Checkpoint], at: int
) -> None:
    """A checkpoint with one changed bit, in its header or in a number, is not the one whose digest the job names."""
    content = bytearray(checkpoints[1].content)
    content[at] ^= 1
    loaded = session.send_code("onnx", network, 60)
    other = session.send_code("safetensors", bytes(content), 60)
    assert other.digest != checkpoints[1].sha256
    job = changed(JOB, onnx=(loaded.digest,), checkpoint=(checkpoints[1].sha256,), step=3)
    with pytest.raises(WorkRefused) as caught:
        session.send_code("training", msgspec.msgpack.encode(job), 60)
    assert caught.value.code is Refusal.NO_MODEL
    for sent in (loaded, other):
        session.unload(sent)


def test_a_tenant_cannot_go_on_from_the_checkpoint_of_another(
    rack: Rack, network: bytes, checkpoints: list[Checkpoint]
) -> None:
    """A tenant that knows the digest of another's checkpoint, or of its job, reaches neither."""
    with rack.connect() as owner, rack.connect() as other:
        training: Training = owner.train(JOB, onnx=network, checkpoint=checkpoints[1])
        loaded = other.send_code("onnx", network, 60)
        job = changed(JOB, onnx=(loaded.digest,), checkpoint=(checkpoints[1].sha256,), step=3)
        with pytest.raises(WorkRefused) as caught:
            other.send_code("training", msgspec.msgpack.encode(job), 60)
        assert caught.value.code is Refusal.NO_MODEL
        work = Work(kind="checkpoint", step=3)
        answer = other.submit_work(training._loaded, work, {}, pixels=None, deadline_ms=60_000, pace=None)
        with pytest.raises(WorkRefused) as caught:
            answer.result()
        assert caught.value.code is Refusal.NO_MODEL
        assert training.checkpoint().sha256 == checkpoints[1].sha256


def test_a_saved_receipt_with_another_loss_or_step_is_refused(rack: Rack, session: Session, network: bytes) -> None:
    """A receipt binds batch, step, loss and state: none of them can be changed, or taken from another step."""
    training = session.train(JOB, onnx=network)
    steps = [training.step(*batch) for batch in DATA[:2]]
    bundles = [read_bundle(msgspec.json.encode(session.bundle(step.result))) for step in steps]
    training.end()
    for number, (step, bundle) in enumerate(zip(steps, bundles, strict=True)):
        checked = check_bundle(bundle, rack.policy)
        assert [work.step for work in checked.request.work] == [number + 1]
        assert step.state is not None
        told = [np.float32(step.loss).tobytes(), step.state]
        assert digest_of(checked.result.tensors, told) == checked.receipt.outputs
        assert digest_of(checked.request.tensors, [part.tobytes() for part in DATA[number]]) == checked.receipt.inputs
        lie = [np.nextafter(np.float32(step.loss), np.float32(0)).tobytes(), step.state]
        assert digest_of(checked.result.tensors, lie) != checked.receipt.outputs
        lie = [told[0], hashlib.sha256(step.state).digest()]
        assert digest_of(checked.result.tensors, lie) != checked.receipt.outputs
    with pytest.raises(EvidenceRefused):
        check_bundle(msgspec.structs.replace(bundles[0], request=bundles[1].request), rack.policy)
    with pytest.raises(EvidenceRefused):
        check_bundle(msgspec.structs.replace(bundles[0], receipt=bundles[1].receipt), rack.policy)
