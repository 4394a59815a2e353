"""Outputs leave as the wire format says, in chunks that are views of them where that is possible."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.chunk_sizes import CHUNK_BYTES_USUAL, usual_chunk_bytes
from sectum.hetee.data_plane.streams import Ledger
from sectum.hetee.errors import HeteeError, Refusal
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import decode
from sectum.hetee.worker.answer_sender import AnswerSender, BatchOutputs
from sectum.hetee.worker.batch_job import BatchJob


def batch() -> BatchJob:
    message = data_messages.BatchOpening(model=bytes(32), tensors=(), deadline_ms=0)
    return BatchJob(Header(Kind.BATCH, 0, stream=1), message, memoryview(b""))


@given(st.lists(st.integers(0, 3 * CHUNK_BYTES_USUAL), max_size=4), st.booleans())
def test_chunks_are_the_tensors_in_their_places(sizes: list[int], alone: bool) -> None:
    """Chunks put together are each tensor at its place and zeros between; all are of one size but the last."""
    rng = np.random.default_rng(sum(sizes))
    outputs = {f"y{i}": rng.integers(1, 255, size, np.uint8) for i, size in enumerate(sizes)}
    computed = BatchOutputs(batch(), outputs, paced=False, alone=alone)
    chunks = list(computed.cut())
    assert len(chunks) == computed.chunks
    assert all(len(chunk) == usual_chunk_bytes(computed.total, alone=alone) for chunk in chunks[:-1])
    whole = b"".join(chunks)
    assert len(whole) == computed.total
    expected = bytearray(computed.total)
    for place, output in zip(computed.places, outputs.values(), strict=True):
        expected[place.begin : place.end] = output.tobytes()
    assert whole == bytes(expected)
    assert decode(computed.opening, data_messages.ResultOpening).tensors == tuple(
        place.tensor for place in computed.places
    )


def test_a_large_output_is_not_copied() -> None:
    """What lies in one tensor is sealed from where the runtime wrote it."""
    output = np.zeros(CHUNK_BYTES_USUAL * 2, np.uint8)
    chunks = list(BatchOutputs(batch(), {"y": output}, paced=False).cut())
    output[0], output[-1] = 7, 9
    assert (chunks[0][0], chunks[1][-1]) == (7, 9)


_TEXTS = np.array(["t" * 300] * 16_000, object)


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.zeros(2, np.clongdouble)},
        {"y": np.array(["s"] * 20_000, object)},
        {"y": _TEXTS, "z": _TEXTS},
        {"y": [1, 2]},
    ],
    ids=["type", "strings", "description", "sequence"],
)
def test_outputs_that_cannot_travel_are_refused(outputs) -> None:
    """Outputs that cannot be sent end their batch, not the worker."""
    with pytest.raises(HeteeError) as caught:
        BatchOutputs(batch(), outputs, paced=False)
    assert caught.value.code is Refusal.COMPUTE_FAILED


class Recorder:
    """A writer that remembers the types of records, together with those that were held and sent with them."""

    def __init__(self) -> None:
        self.transfer_ns = self.encryption_ns = 0
        self.sent: list[list[Kind]] = []
        self._held: list[Kind] = []

    def roomy(self) -> bool:
        return True

    def message(self, kind: Kind, _payload: bytes, *, more: bool = False, **_fields: int) -> None:
        self._held.append(kind)
        if not more:
            self.sent.append(self._held)
            self._held = []

    def chunk(self, plaintext: memoryview, *, more: bool = False, **_fields: object) -> None:
        self.message(Kind.CHUNK, plaintext, more=more)

    def wipe(self) -> None:
        self._held.clear()


@pytest.mark.parametrize(
    ("alone", "wanted"),
    [
        (True, [[Kind.RESULT], [Kind.CHUNK], [Kind.CHUNK], [Kind.RECEIPT]]),
        (False, [[Kind.RESULT, Kind.CHUNK, Kind.RECEIPT]]),
    ],
)
def test_a_result_waits_for_its_receipt_only_if_other_answers_are_due(alone: bool, wanted: list[list[Kind]]) -> None:
    """A result that is awaited alone leaves chunk by chunk; others leave with as few calls as possible."""
    writer, ledger = Recorder(), Ledger(1 << 30, 8)
    ledger.open(Header(Kind.BATCH, 0, stream=1))
    sender = AnswerSender(writer, ledger, threading.Lock(), lambda *_: b"signed", lambda: None)
    output = np.zeros(2 * CHUNK_BYTES_USUAL, np.uint8)
    sender.computed(BatchOutputs(batch(), {"y": output}, paced=False, alone=alone))
    assert sender.flush(5)
    assert writer.sent == wanted
    assert not ledger.open_streams
