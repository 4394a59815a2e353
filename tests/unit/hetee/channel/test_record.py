"""Record protection: what is opened is what was sealed, once, in order, where it belongs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hetee_session_pair import bytes_of, connect, one_frame
from sectum.hetee.channel import record
from sectum.hetee.channel.record import Opener, Rekeying, Sealer
from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import FrameRefused, RecordRefused, Refusal
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.header import Header, parse
from sectum.hetee.wire.kinds import Kind

SESSION, TRAFFIC = b"s" * 16, b"t" * 32
CONTEXT = b"c" * 32


def ends(rekeying: Rekeying = record.PROTOCOL_REKEYING, *, traffic: bytes = TRAFFIC) -> tuple[Sealer, Opener]:
    return Sealer(Secret(traffic), SESSION, rekeying), Opener(Secret(traffic), SESSION, rekeying)


def refused(code: Refusal) -> pytest.RaisesExc[RecordRefused]:
    return pytest.RaisesExc(RecordRefused, check=lambda error: error.code is code)


def test_messages_open_to_what_was_sealed() -> None:
    """Records of any length come back, in order."""
    sealer, opener = ends()
    for n_bytes in (0, 1, 15, 16, 17, 1000, 65_000):
        frame = one_frame(sealer.seal(Kind.PING, b"p" * n_bytes))
        assert opener.open(*frame) == b"p" * n_bytes
    assert opener._sequence == sealer._sequence == 7


def test_chunks_open_in_place_and_out_of_place() -> None:
    """Ciphertext is replaced by plaintext in its own buffer, or opened into another, with the same result."""
    for in_place in (True, False):
        sealer, opener = ends()
        frame = bytearray(64 + 5000 + 16)
        plaintext = bytes(range(250)) * 20
        memoryview(frame)[64:5064] = plaintext
        n_bytes = sealer.seal_into(
            Kind.CHUNK, memoryview(frame)[64:5064], frame, stream=1, chunks=1, total=5000, context=CONTEXT
        )
        assert n_bytes == len(frame)
        assert plaintext not in frame
        sealed = memoryview(frame)[64:]
        out = sealed[:5000] if in_place else memoryview(bytearray(5000))
        opener.open_into(parse(frame[:64]), sealed, out, context=CONTEXT)
        assert out == plaintext


def test_every_bit_of_the_header_is_authentic() -> None:
    """A host that changes any bit of a header that can still be read gets the record refused."""
    readable = 0
    for bit in range(64 * 8):
        sealer, opener = ends()
        frame = sealer.seal(Kind.BATCH, b"payload", stream=3, chunks=5, total=20_000)
        frame[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(FrameRefused):
            header = parse(frame[:64])
            readable += 1
            with pytest.raises(RecordRefused):
                opener.open(header, frame[64:])
    assert readable > 200


def test_every_bit_of_the_payload_is_authentic() -> None:
    """A changed ciphertext or tag is refused, and nothing of it is left in the output."""
    for bit in range(23 * 8):
        sealer, opener = ends()
        frame = sealer.seal(Kind.PING, b"payload")
        frame[64 + bit // 8] ^= 1 << bit % 8
        out = memoryview(bytearray(b"x" * 7))
        with refused(Refusal.NOT_AUTHENTIC):
            opener.open_into(parse(frame[:64]), frame[64:], out)
        assert out == bytes(7)


def records(n: int) -> tuple[Opener, list[Frame]]:
    sealer, opener = ends()
    return opener, [one_frame(sealer.seal(Kind.PING, bytes([i]))) for i in range(n)]


@pytest.mark.parametrize(
    ("order", "code"),
    [((0, 0), Refusal.REPLAYED), ((0, 1, 0), Refusal.REPLAYED), ((1,), Refusal.GAP), ((0, 2), Refusal.GAP)],
)
def test_order_is_kept(order: tuple[int, ...], code: Refusal) -> None:
    """A record again, too early, or after one was removed is refused, and ends the direction."""
    opener, frames = records(3)
    for i in order[:-1]:
        opener.open(*frames[i])
    with refused(code):
        opener.open(*frames[order[-1]])
    with refused(Refusal.WIPED):
        opener.open(*frames[1])


def test_records_of_other_sessions_keys_and_directions_are_refused() -> None:
    """A record opens at its own receiver only: not in another session, worker, or direction."""
    pair, other = connect(), connect()
    first, second = pair.worker(0), pair.worker(1)
    frame = one_frame(first.up.sealer.seal(Kind.FINISH, b""))
    with refused(Refusal.WRONG_SESSION):
        other.worker().up.opener.open(*frame)
    for opener in (second.up.opener, first.down.opener, pair.controller.opener, pair.client.opener):
        with refused(Refusal.NOT_AUTHENTIC):
            opener.open(*frame)
    assert first.up.opener.open(*frame) == b""


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header._replace(stream=2),
        lambda header: header._replace(chunk=1),
        lambda header: header._replace(total=9000),
        lambda header: header._replace(kind=Kind.BATCH),
    ],
)
def test_a_chunk_belongs_to_its_place(change: Callable[[Header], Header]) -> None:
    """A chunk cannot be moved to another stream, place or announcement."""
    sealer, opener = ends()
    frame = bytearray(64 + 5000 + 16)
    sealer.seal_into(Kind.CHUNK, bytes(5000), frame, stream=1, chunk=0, chunks=2, total=8000, context=CONTEXT)
    with refused(Refusal.NOT_AUTHENTIC):
        opener.open_into(change(parse(frame[:64])), frame[64:], memoryview(bytearray(5000)), context=CONTEXT)


def test_a_chunk_belongs_to_its_description() -> None:
    """Shape, dtype and model are in the context: with another one the chunk does not open."""
    sealer, opener = ends()
    frame = bytearray(64 + 10 + 16)
    sealer.seal_into(Kind.CHUNK, bytes(10), frame, stream=1, chunks=1, total=10, context=CONTEXT)
    with refused(Refusal.NOT_AUTHENTIC):
        opener.open_into(parse(frame[:64]), frame[64:], memoryview(bytearray(10)), context=bytes(32))


def test_keys_change_by_count_and_by_bytes() -> None:
    """An epoch ends after its records or bytes; both sides find the same, and all records still open."""
    for rekeying, wanted in (
        (Rekeying(records=2), [0, 0, 1, 1, 2, 2, 3]),
        (Rekeying(n_bytes=25), [0, 0, 1, 1, 2, 2, 3]),
    ):
        sealer, opener = ends(rekeying)
        epochs = []
        for i in range(7):
            frame = one_frame(sealer.seal(Kind.PING, bytes([i]) * 10))
            epochs.append(frame.header.epoch)
            assert frame.header.sequence == i
            assert opener.open(*frame) == bytes([i]) * 10
        assert epochs == wanted
        assert sealer._epoch == opener._epoch == 3


def test_another_epoch_than_the_counted_one_is_refused() -> None:
    """A sender that changes its key at another time is not understood."""
    sealer, opener = Sealer(Secret(TRAFFIC), SESSION, Rekeying(records=1)), Opener(Secret(TRAFFIC), SESSION)
    opener.open(*one_frame(sealer.seal(Kind.PING, b"")))
    with refused(Refusal.WRONG_EPOCH):
        opener.open(*one_frame(sealer.seal(Kind.PING, b"")))


def test_no_nonce_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over epochs, directions and workers no pair of key and nonce repeats."""
    used, keys = [], {}
    plain, cipher = record.seal_into, record.AESGCM

    def remember(key: memoryview) -> object:
        made = cipher(key)
        keys[id(made)] = (bytes(key), made)
        return made

    def spy(cipher: object, nonce: bytes, *rest: object) -> None:
        used.append((keys[id(cipher)][0], nonce))
        plain(cipher, nonce, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(record, "AESGCM", remember)
    monkeypatch.setattr(record, "seal_into", spy)
    pair = connect()
    workers = [pair.worker(0), pair.worker(1)]
    senders = [pair.client.sealer, pair.controller.sealer]
    senders += [end.sealer for worker in workers for end in (worker.up, worker.down)]
    small = Sealer(Secret(TRAFFIC), SESSION, Rekeying(records=3))
    for sender in (*senders, small):
        for _ in range(10):
            sender.seal(Kind.PING, b"x")
    assert len(used) == len(set(used)) == 70
    assert len({key for key, _ in used}) == 6 + 4


def test_threads_never_share_a_number() -> None:
    """Records sealed by many threads at once have numbers of their own, and open in the order of these."""
    sealer, opener = ends(Rekeying(records=50))
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda i: one_frame(sealer.seal(Kind.PING, bytes([i % 256]) * 20_000)), range(400)))
    frames.sort(key=lambda frame: frame.header.sequence)
    assert [frame.header.sequence for frame in frames] == list(range(400))
    opened = [opener.open(*frame) for frame in frames]
    assert sorted(text[0] for text in opened) == sorted(i % 256 for i in range(400))


def test_a_record_that_does_not_fit_takes_no_number() -> None:
    """A buffer that is too small is the caller's fault and costs nothing."""
    sealer, opener = ends()
    with pytest.raises(ValueError, match="in a space of 89"):
        sealer.seal_into(Kind.PING, bytes(10), bytearray(89))
    assert opener.open(*one_frame(sealer.seal(Kind.PING, b"next"))) == b"next"


@pytest.mark.parametrize(("field", "end"), [("_sequence", record.SEQUENCE_END), ("_epoch", record.EPOCH_END - 1)])
def test_exhausted_counters_are_refused(field: str, end: int) -> None:
    """A counter never wraps: the session has to end first."""
    sealer, _ = ends(Rekeying(records=0) if field == "_epoch" else record.PROTOCOL_REKEYING)
    setattr(sealer, field, end)
    with refused(Refusal.EXHAUSTED):
        sealer.seal(Kind.PING, b"")


def test_wiped_ends_do_nothing() -> None:
    """After wiping nothing is sealed or opened."""
    sealer, opener = ends()
    frame = one_frame(sealer.seal(Kind.PING, b""))
    sealer.wipe()
    opener.wipe()
    with refused(Refusal.WIPED):
        sealer.seal(Kind.PING, b"")
    with refused(Refusal.WIPED):
        opener.open(*frame)


def test_nothing_that_holds_keys_shows_them() -> None:
    """No representation of a session or of its ends, nor the text of its refusals, has a key in it."""
    pair = connect()
    worker = pair.worker()
    held = [pair, pair.client, pair.controller, worker, worker.up.sealer, worker.up.opener, worker.down.sealer]
    held += [pair.client._keys, pair.controller._keys]
    # By type(): isinstance() asks the objects of other libraries for their __class__, which warns in some of them.
    secrets = [bytes_of(found) for found in gc.get_objects() if type(found) is Secret and not found.wiped]
    assert len(secrets) > 6
    texts = [text for thing in held for text in (repr(thing), str(thing), f"{thing}")]
    with pytest.raises(RecordRefused) as caught:
        worker.up.opener.open(*one_frame(worker.down.sealer.seal(Kind.PING, b"secret payload")))
    texts += [str(caught.value), repr(caught.value), caught.value.detail]
    for text in texts:
        assert "secret payload" not in text
        for secret in secrets:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
