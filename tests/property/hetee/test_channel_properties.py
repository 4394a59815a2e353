"""Properties of the channel under any traffic and any interference."""

from __future__ import annotations

import contextlib
import gc
import logging

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hetee_session_pair import bytes_of, connect, one_frame
from sectum.hetee.channel.record import Opener, Rekeying, Sealer
from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import HeteeError, RecordRefused
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.kinds import Kind

pytestmark = pytest.mark.slow

SESSION = b"s" * 16
REKEYINGS = st.builds(Rekeying, records=st.integers(1, 5), n_bytes=st.integers(100, 300))


class Adversary(RuleBasedStateMachine):
    """A host that has all records of two directions and delivers what it likes, as often as it likes."""

    def __init__(self) -> None:
        super().__init__()
        rekeying = Rekeying(records=3, n_bytes=150)
        keys = b"a" * 32, b"b" * 32
        self.sealers = [Sealer(Secret(key), SESSION, rekeying) for key in keys]
        self.openers = [Opener(Secret(key), SESSION, rekeying) for key in keys]
        self.sent: list[list[tuple[bytes, Frame]]] = [[], []]
        self.received: list[list[bytes]] = [[], []]

    @rule(way=st.integers(0, 1), plaintext=st.binary(max_size=100), stream=st.integers(1, 9))
    def send(self, way: int, plaintext: bytes, stream: int) -> None:
        frame = one_frame(self.sealers[way].seal(Kind.CANCEL, plaintext, stream=stream))
        self.sent[way].append((plaintext, frame))

    def deliver(self, to: int, frame: Frame) -> None:
        with contextlib.suppress(RecordRefused):
            self.received[to].append(bytes(self.openers[to].open(*frame)))

    @rule(to=st.integers(0, 1))
    def deliver_next(self, to: int) -> None:
        if len(self.sent[to]) > len(self.received[to]):
            self.deliver(to, self.sent[to][len(self.received[to])][1])

    @rule(to=st.integers(0, 1), origin=st.integers(0, 1), index=st.integers(0, 50))
    def deliver_any(self, to: int, origin: int, index: int) -> None:
        if index < len(self.sent[origin]):
            self.deliver(to, self.sent[origin][index][1])

    @rule(to=st.integers(0, 1), index=st.integers(0, 50), at=st.integers(0, 200), bit=st.integers(0, 7))
    def deliver_bent(self, to: int, index: int, at: int, bit: int) -> None:
        if index < len(self.sent[to]):
            header, payload = self.sent[to][index][1]
            bent = bytearray(payload)
            bent[at % len(bent)] ^= 1 << bit
            self.deliver(to, Frame(header, memoryview(bent)))

    @rule(to=st.integers(0, 1), index=st.integers(0, 50), stream=st.integers(1, 99), skip=st.integers(-3, 3))
    def deliver_relabelled(self, to: int, index: int, stream: int, skip: int) -> None:
        if index < len(self.sent[to]):
            header, payload = self.sent[to][index][1]
            header = header._replace(stream=stream, sequence=max(0, header.sequence + skip))
            self.deliver(to, Frame(header, payload))

    @invariant()
    def only_a_prefix_of_what_was_sent_arrives(self) -> None:
        for sent, received in zip(self.sent, self.received, strict=True):
            assert received == [plaintext for plaintext, _ in sent[: len(received)]]


TestAdversary = Adversary.TestCase


@given(REKEYINGS, st.lists(st.binary(max_size=100), max_size=30))
def test_both_ends_change_keys_together(rekeying: Rekeying, messages: list[bytes]) -> None:
    """Whatever the limits and sizes are, everything sent opens, and no epoch has more than its limits."""
    sealer, opener = (cls(Secret(b"k" * 32), SESSION, rekeying) for cls in (Sealer, Opener))
    epochs: dict[int, list[int]] = {}
    for message in messages:
        frame = one_frame(sealer.seal(Kind.PING, message))
        epochs.setdefault(frame.header.epoch, []).append(len(message))
        assert opener.open(*frame) == message  # type: ignore[attr-defined]
    assert list(epochs) == list(range(len(epochs)))
    for sizes in epochs.values():
        assert len(sizes) <= rekeying.records
        assert sum(sizes) <= rekeying.n_bytes


@settings(max_examples=25)
@given(st.binary(min_size=1, max_size=1400), st.integers(0, 1400), st.sampled_from(["hello", "answer", "proof"]))
def test_a_handshake_through_a_meddling_host_fails_or_is_untouched(patch: bytes, at: int, where: str) -> None:
    """Overwriting any bytes of any handshake message is refused by one side, unless nothing was changed."""
    changed = False

    def tamper(data: bytes) -> bytes:
        nonlocal changed
        bent = bytearray(data)
        bent[at : at + len(patch)] = patch[: max(0, len(data) - at)]
        changed = bytes(bent) != data
        return bytes(bent)

    try:
        pair = connect(**{where: tamper})
    except HeteeError:
        assert changed
    else:
        assert not changed
        assert pair.client.th4 == pair.controller.th4


@given(st.binary(min_size=32, max_size=32))
def test_no_key_is_in_any_text(key: bytes) -> None:
    """Representations, refusals and logs of all that holds a key never have four bytes of it in a row."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("test.hetee.secrets")
    logger.addHandler(handler)
    secret = Secret(key)
    sealer, opener = Sealer(Secret(key), SESSION), Opener(Secret(key), SESSION)
    frame = one_frame(sealer.seal(Kind.PING, key))
    with pytest.raises(RecordRefused) as caught:
        Opener(Secret(bytes(32)) if key != bytes(32) else Secret(b"x" * 32), SESSION).open(*frame)
    for thing in (secret, sealer, opener, [secret], {"key": secret}, caught.value, (sealer, opener)):
        logger.warning("%s %r", thing, thing)
        lines.append(f"{thing} {thing!r}")
    logger.removeHandler(handler)
    text = "\n".join(lines)
    assert len(lines) == 14
    for at in range(29):
        part = key[at : at + 4]
        if len(set(part)) > 1:
            assert part.hex() not in text.lower()
            assert repr(part)[2:-1] not in text


def test_no_key_outlives_its_session() -> None:
    """When a session was wiped, no secret of it is left unwiped among all objects."""
    # By type(): isinstance() asks the objects of other libraries for their __class__, which warns in some of them.
    before = {id(found) for found in gc.get_objects() if type(found) is Secret}
    pair = connect()
    worker = pair.worker()
    held = [found for found in gc.get_objects() if type(found) is Secret and id(found) not in before]
    live = [found for found in held if not found.wiped]
    keys = [bytes_of(found) for found in live]
    assert len(keys) >= 8
    for end in (worker.up.sealer, worker.up.opener, worker.down.sealer, worker.down.opener):
        end.wipe()
    pair.client.wipe()
    pair.controller.wipe()
    assert all(found.wiped for found in live)
    assert not [found for found in gc.get_objects() if type(found) is bytearray and bytes(found) in keys]
