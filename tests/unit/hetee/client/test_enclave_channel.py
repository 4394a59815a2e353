"""A worker's answers are opened, checked and delivered to their streams; anything else ends the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hetee_scripted_worker import DATA, MODEL, ScriptedWorker
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.data_plane.receipts import Receipt, ReceiptSigner
from sectum.hetee.errors import EvidenceRefused, HeteeError, Refusal, WorkRefused, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind


def test_a_result_in_chunks_is_given_to_its_future_and_then_its_receipt() -> None:
    """RESULT and its chunks make the batch's result, in the memory they were opened into; a receipt completes it."""
    worker = ScriptedWorker().ready()
    stream, pending = worker.enclave.open(Kind.BATCH, MODEL, 400)
    context = worker.result(stream)
    data = DATA.tobytes()
    worker.chunk(stream, 0, data[:12_000], context)
    assert not pending.future.done()
    worker.chunk(stream, 1, data[12_000:], context)
    result = pending.future.result(0)
    np.testing.assert_array_equal(result.outputs["y"], DATA)
    assert (result.signed.done(), worker.enclave.answered, list(worker.enclave.pending)) == (False, 0, [stream])
    worker.receipt(stream)
    assert (result.receipt.stream, result.receipt.model) == (stream, MODEL)
    assert (worker.enclave.answered, list(worker.enclave.pending)) == (1, [])


def test_the_receipt_of_a_worker_that_is_lost_says_why_there_is_none() -> None:
    """A caller that waits for a receipt gets an error when the worker is lost."""
    worker = ScriptedWorker().ready()
    stream, pending = worker.enclave.open(Kind.BATCH, MODEL, 400)
    context = worker.result(stream, chunks=1)
    worker.chunk(stream, 0, DATA.tobytes(), context, chunks=1)
    worker.enclave.fail(refusal(Refusal.WORKER_LOST, "gone"))
    result = pending.future.result(0)
    np.testing.assert_array_equal(result.outputs["y"], DATA)
    with pytest.raises(HeteeError) as caught:
        result.receipt  # noqa: B018 - asking raises
    assert caught.value.code is Refusal.WORKER_LOST


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda receipt: replace(receipt, model=b"e" * 32), EvidenceRefused),
        (lambda receipt: replace(receipt, measurement=b"n" * 32), EvidenceRefused),
        (lambda receipt: replace(receipt, paced=True), EvidenceRefused),
        (lambda receipt: replace(receipt, request=b"x" * 32), EvidenceRefused),
        (lambda receipt: replace(receipt, inputs=b"x" * 32), EvidenceRefused),
        (lambda receipt: replace(receipt, result=b"x" * 32), EvidenceRefused),
        (lambda receipt: replace(receipt, outputs=b"x" * 32), EvidenceRefused),
        (lambda receipt: replace(receipt, hardware="sgx"), EvidenceRefused),
        (lambda receipt: replace(receipt, confinement=("seccomp",)), EvidenceRefused),
        (lambda receipt: replace(receipt, stream=9), EvidenceRefused),
        (lambda receipt: replace(receipt, index=1), EvidenceRefused),
        (lambda receipt: replace(receipt, session=b"x" * 16), EvidenceRefused),
    ],
)
def test_a_receipt_about_something_else_is_refused(
    change: Callable[[Receipt], Receipt], kind: type[HeteeError]
) -> None:
    """A receipt with another model, input, output, worker, hardware, stream or session than its batch is refused."""
    worker = ScriptedWorker().ready()
    stream, pending = worker.enclave.open(Kind.BATCH, MODEL, 400)
    context = worker.result(stream)
    worker.chunk(stream, 0, DATA.tobytes()[:12_000], context)
    worker.chunk(stream, 1, DATA.tobytes()[12_000:], context)
    with pytest.raises(kind) as caught:
        worker.receipt(stream, change)
    assert worker.enclave.answered == 0
    worker.enclave.fail(caught.value)  # as the session does
    with pytest.raises(kind):
        pending.future.result(0).receipt  # noqa: B018 - asking raises


def test_a_receipt_of_another_key_is_refused() -> None:
    """A receipt has to be signed with the key of the VOUCH."""
    worker = ScriptedWorker().ready()
    worker.enclave.open(Kind.BATCH, MODEL, 0)
    tensor = Tensor(name="y", dtype="float32", shape=(0,))
    worker.say(Kind.RESULT, data_messages.ResultOpening(tensors=(tensor,), paced=False), stream=1)
    worker.signer = ReceiptSigner()
    with pytest.raises(EvidenceRefused):
        worker.receipt(1)


def test_nothing_is_answered_twice() -> None:
    """A second answer to a stream, or one to a stream that nobody opened, ends the session."""
    worker = ScriptedWorker().ready()
    stream, pending = worker.enclave.open(Kind.BATCH, MODEL, 400)
    failure = messages.Failure(code=Refusal.INPUT_REFUSED, detail="no")
    worker.say(Kind.REFUSED, failure, stream=stream)
    with pytest.raises(WorkRefused):
        pending.future.result(0)
    with pytest.raises(HeteeError) as caught:
        worker.say(Kind.REFUSED, failure, stream=stream)
    assert caught.value.code is Refusal.UNKNOWN_STREAM


def test_a_receipt_before_the_last_chunk_is_refused() -> None:
    """A result that is cut short is refused, although each of its records is authentic."""
    worker = ScriptedWorker().ready()
    stream, pending = worker.enclave.open(Kind.BATCH, MODEL, 400)
    context = worker.result(stream)
    worker.chunk(stream, 0, DATA.tobytes()[:12_000], context)
    with pytest.raises(HeteeError) as caught:
        worker.receipt(stream)
    assert caught.value.code is Refusal.INTERLEAVED
    assert not pending.future.done()


def test_tensors_that_are_not_what_the_header_says_are_refused() -> None:
    """A total that does not follow from the tensors of RESULT gives no result."""
    worker = ScriptedWorker().ready()
    stream, pending = worker.enclave.open(Kind.BATCH, MODEL, 400)
    context = worker.result(stream, DATA[:10], said=DATA.nbytes)
    worker.chunk(stream, 0, DATA.tobytes()[:12_000], context)
    with pytest.raises(HeteeError) as caught:
        worker.chunk(stream, 1, DATA.tobytes()[12_000:], context)
    assert caught.value.code is Refusal.BAD_TENSOR
    assert not pending.future.done()


def test_another_model_than_the_one_sent_is_refused() -> None:
    """LOADED has to name the digest of the CODE."""
    worker = ScriptedWorker().ready()
    stream, _ = worker.enclave.open(Kind.CODE, MODEL, 10)
    with pytest.raises(HeteeError) as caught:
        worker.say(Kind.LOADED, data_messages.Loaded(sha256=b"x" * 32, inputs=(), outputs=(), load_us=1), stream=stream)
    assert caught.value.code is Refusal.DIGEST_DIFFERS


def test_credit_is_kept() -> None:
    """A batch waits while credit or streams are used up, is refused if it never fits, and goes on after CREDIT."""
    worker = ScriptedWorker().ready()
    assert worker.enclave.room(Kind.BATCH, 100_000)
    worker.enclave.open(Kind.BATCH, MODEL, 60_000)
    assert not worker.enclave.room(Kind.BATCH, 60_000)
    assert worker.enclave.room(Kind.CODE, 1 << 30)
    worker.say(Kind.CREDIT, data_messages.Credit(credit_bytes=60_000))
    assert worker.enclave.room(Kind.BATCH, 60_000)
    with pytest.raises(HeteeError) as caught:
        worker.enclave.room(Kind.BATCH, 100_001)
    assert caught.value.code is Refusal.CREDIT_EXCEEDED


def test_the_first_word_of_a_worker_is_ready() -> None:
    """Nothing is accepted before READY, and READY is accepted once, from this enclave."""
    with pytest.raises(HeteeError) as caught:
        ScriptedWorker().say(Kind.CREDIT, data_messages.Credit(credit_bytes=1))
    assert caught.value.code is Refusal.UNEXPECTED
    with pytest.raises(HeteeError):
        ScriptedWorker().ready().ready()


def test_a_lost_enclave_fails_what_waits_and_forgets_its_keys() -> None:
    """Every stream that waits gets the reason, and the keys are wiped."""
    worker = ScriptedWorker().ready()
    waiting = [worker.enclave.open(Kind.BATCH, MODEL, 10)[1] for _ in range(3)]
    worker.enclave.fail(WorkRefused(Refusal.WORKER_LOST, "gone"))
    for pending in waiting:
        with pytest.raises(WorkRefused):
            pending.future.result(0)
    assert "wiped" in repr(worker.enclave.sealer)
