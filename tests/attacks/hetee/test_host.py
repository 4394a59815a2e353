"""R2, R4: a host that reads, drops, delays, duplicates, reorders, changes, splices or forges frames gains nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from hetee_hostile_host import DOWN, UP, HostileHost, Seen, Tamper
from hetee_rack import Rack, error_within, until
from sectum.hetee.errors import CleaningUnproven, FrameRefused, HandshakeRefused, HeteeError, Refusal
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind, Plane
from sectum.hetee.wire.messages import Failure, encode

NUMBERS = np.arange(300_000, dtype=np.float32)  # several chunks, both ways


def attempt(rack: Rack, model: bytes, tamper: Tamper) -> tuple[list[Any], HeteeError | None]:
    """Use the service through a hostile host; returns the accepted results and the error that ended it."""
    accepted: list[Any] = []
    with HostileHost(rack.port, tamper) as host:

        def use() -> None:
            with rack.connect(url=host.url, timeout_s=3) as session:
                session.load(model)
                for _ in range(3):
                    result = session.infer(NUMBERS)
                    accepted.append(result.outputs["y"])
                    result.receipt  # noqa: B018 - waits, and raises if it is none

        _, error, _ = error_within(20, use)
    return accepted, error


def once(kind: Kind, direction: str, act: Callable[[Seen], Iterable[bytes] | None]) -> tuple[Tamper, list[Seen]]:
    """Tamper with the first frame of a type, and forward the others unchanged."""
    done: list[Seen] = []

    def tamper(seen: Seen, _host: HostileHost) -> Iterable[bytes] | None:
        if done or (seen.header.kind, seen.direction) != (kind, direction):
            return [seen.data]
        done.append(seen)
        return act(seen)

    return tamper, done


def flipped(data: bytes, bit: int) -> bytes:
    """One bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


PLACES = {
    "handshake up": (Kind.HELLO, UP),
    "handshake down": (Kind.ATTEST, DOWN),
    "proof": (Kind.PROOF, UP),
    "configure": (Kind.CONFIGURE, UP),
    "vouch": (Kind.VOUCH, DOWN),
    "ready": (Kind.READY, DOWN),
    "code": (Kind.CODE, UP),
    "batch": (Kind.BATCH, UP),
    "chunk up": (Kind.CHUNK, UP),
    "result": (Kind.RESULT, DOWN),
    "chunk down": (Kind.CHUNK, DOWN),
    "receipt": (Kind.RECEIPT, DOWN),
}


def test_an_honest_host_changes_nothing(rack: Rack, doubler: bytes) -> None:
    """A hostile host that forwards everything unchanged breaks nothing."""
    accepted, error = attempt(rack, doubler, lambda seen, _host: [seen.data])
    assert error is None
    assert len(accepted) == 3
    np.testing.assert_array_equal(accepted[0], NUMBERS * 2)


@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_bit_is_noticed(rack: Rack, doubler: bytes, place: str) -> None:
    """One flipped bit of payload, tag or header, in either direction, ends the session; no wrong result is accepted."""
    kind, direction = PLACES[place]
    for at in (-1, 64, 20, 40):  # the tag, the payload's beginning, the session id, the stream
        tamper, done = once(kind, direction, lambda seen, at=at: [flipped(seen.data, at % len(seen.data) * 8 + 3)])  # type: ignore[misc]
        accepted, error = attempt(rack, doubler, tamper)
        assert done, "no such frame came by"
        assert error is not None
        for output in accepted:
            np.testing.assert_array_equal(output, NUMBERS * 2)
        assert len(accepted) < 3


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("act", ["drop", "twice", "cut"])
def test_a_lost_repeated_or_cut_frame_is_noticed(rack: Rack, doubler: bytes, place: str, act: str) -> None:
    """A frame that is dropped, sent twice or cut off ends the session with an error; no result is accepted twice."""
    kind, direction = PLACES[place]
    acts: dict[str, Callable[[Seen], Iterable[bytes] | None]] = {
        "drop": lambda _seen: [],
        "twice": lambda seen: [seen.data, seen.data],
        "cut": lambda seen: [seen.data[: len(seen.data) // 2]],
    }
    tamper, done = once(kind, direction, acts[act])
    accepted, error = attempt(rack, doubler, tamper)
    assert done
    assert error is not None
    assert len(accepted) < 3
    for output in accepted:
        np.testing.assert_array_equal(output, NUMBERS * 2)


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_two_chunks_in_another_order_are_noticed(rack: Rack, doubler: bytes, direction: str) -> None:
    """Chunks that are reordered are refused, although each is authentic."""
    kept: list[bytes] = []
    swapped: list[bool] = []

    def tamper(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
        if seen.header.kind is not Kind.CHUNK or seen.direction != direction or seen.header.chunks < 3 or swapped:
            return [seen.data]
        if not kept:
            kept.append(seen.data)
            return []
        swapped.append(True)
        return [seen.data, kept[0]]

    accepted, error = attempt(rack, doubler, tamper)
    assert swapped
    assert error is not None
    assert not accepted


def test_a_client_s_own_record_sent_back_to_it_is_not_believed(rack: Rack, doubler: bytes) -> None:
    """A record that is reflected to its sender is refused, because the two directions have different keys."""
    tamper, done = once(Kind.CHUNK, UP, lambda _seen: [])

    def reflect(seen: Seen, host: HostileHost) -> Iterable[bytes] | None:
        replaced = tamper(seen, host)
        if done and seen is done[0]:
            host.send(DOWN, seen.data)
        return replaced

    accepted, error = attempt(rack, doubler, reflect)
    assert done
    assert error is not None
    assert not accepted


def test_frames_of_another_session_are_not_believed(rack: Rack, doubler: bytes) -> None:
    """A frame of one session that is spliced into another ends the other session, and nothing of it is used.

    A foreign receipt comes when its batch's own result was handed over.
    """
    recorded: dict[Kind, bytes] = {}

    def check(kind: Kind, accepted: list[Any]) -> None:
        assert len(accepted) == (kind is Kind.RECEIPT)
        for output in accepted:
            np.testing.assert_array_equal(output, NUMBERS * 2)

    def record(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
        if seen.direction == DOWN:
            recorded.setdefault(seen.header.kind, seen.data)
        return [seen.data]

    assert attempt(rack, doubler, record)[1] is None
    for kind in (Kind.ATTEST, Kind.ACCEPT, Kind.VOUCH, Kind.READY, Kind.LOADED, Kind.RESULT, Kind.RECEIPT):
        tamper, done = once(kind, DOWN, lambda _seen, kind=kind: [recorded[kind]])  # type: ignore[misc]
        accepted, error = attempt(rack, doubler, tamper)
        assert done
        assert error is not None
        check(kind, accepted)
        # And with this session's id put into it, so that only the key is wrong.
        tamper, done = once(
            kind,
            DOWN,
            lambda seen, kind=kind: [recorded[kind][:16] + seen.data[16:32] + recorded[kind][32:]],  # type: ignore[misc]
        )
        accepted, error = attempt(rack, doubler, tamper)
        assert done
        assert error is not None
        check(kind, accepted)


@pytest.mark.parametrize(
    ("relabelled", "codes"), [(False, {"WRONG_SESSION"}), (True, {"NOT_AUTHENTIC", "REPLAYED", "GAP"})]
)
def test_batches_given_to_another_tenant_s_worker_are_refused(
    rack: Rack, doubler: bytes, relabelled: bool, codes: set[str]
) -> None:
    """R3: a batch that a host gives to another tenant's worker gets no result, whichever session id its header has."""
    crossed: list[Seen] = []
    with HostileHost(rack.port) as victim:
        other = rack.connect(url=victim.url)
        other.load(doubler)
        worker = rack.serving_pid()
        id_of_other = next(seen.header.session for seen in victim.seen if seen.header.kind is Kind.CODE)

        def cross(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
            if seen.direction != UP or not (crossed or seen.header.kind is Kind.BATCH):
                return [seen.data]
            crossed.append(seen)
            label = id_of_other if relabelled else seen.data[16:32]
            victim.send(UP, seen.data[:16] + label + seen.data[32:])
            return []

        with HostileHost(rack.port, cross) as host:

            def use() -> None:
                with rack.connect(url=host.url) as session:
                    session.load(doubler)
                    session.infer(NUMBERS)

            _, error, _ = error_within(60, use)
        assert error is not None
        (refused,) = until(lambda: [event for event in rack.events("refused") if event.get("pid") == worker])
        assert refused["code"] in codes
        assert not [seen for seen in (*host.seen, *victim.seen) if seen.header.kind is Kind.RESULT]
        with pytest.raises(HeteeError):
            other.infer(NUMBERS)
        with suppress(HeteeError):  # it has ended
            other.close(0)


@pytest.mark.parametrize(
    ("plane", "lost"), [(Plane.CONTROL, Refusal.CONTROLLER_LOST), (Plane.DATA, Refusal.WORKER_LOST)]
)
def test_a_host_that_stops_forwarding_is_noticed_within_seconds(
    rack: Rack, doubler: bytes, plane: Plane, lost: Refusal
) -> None:
    """When a host stops forwarding one channel, the session ends with an error that names the lost role."""
    stopped = threading.Event()

    def tamper(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
        return [] if stopped.is_set() and seen.header.kind.plane is plane else [seen.data]

    with HostileHost(rack.port, tamper) as host:
        session = rack.connect(url=host.url)
        session.load(doubler)
        stopped.set()

        def go_on() -> None:
            while True:
                session.infer(NUMBERS)

        _, error, _ = error_within(6, go_on)
        assert error is not None
        assert error.code is lost
        with pytest.raises(CleaningUnproven):  # no record of the enclave's end can come
            session.close()


def test_a_delayed_frame_is_only_late(rack: Rack, doubler: bytes) -> None:
    """A frame that comes a second late is accepted."""

    def late(seen: Seen) -> Iterable[bytes]:
        time.sleep(1.0)
        return [seen.data]

    tamper, done = once(Kind.CHUNK, UP, late)
    accepted, error = attempt(rack, doubler, tamper)
    assert done
    assert error is None
    assert len(accepted) == 3


def test_an_error_that_a_host_invents_ends_nothing(rack: Rack, doubler: bytes) -> None:
    """A forged ERROR does not end a session, because ERROR is not authenticated."""
    invented = plain_frame(Kind.ERROR, encode(Failure(code=Refusal.WORKER_LOST, detail="believe me")))
    tamper, done = once(Kind.RESULT, DOWN, lambda seen: [invented, seen.data])
    accepted, error = attempt(rack, doubler, tamper)
    assert done
    assert error is None
    assert len(accepted) == 3


def test_an_error_that_ends_no_connection_explains_no_end(rack: Rack, doubler: bytes) -> None:
    """NO_ROUTE is about one frame: a connection that ends later ends because the host was lost."""
    told = plain_frame(Kind.ERROR, encode(Failure(code=Refusal.NO_ROUTE, detail="no worker is routed")))

    def tamper(seen: Seen, _host: HostileHost) -> Iterable[bytes] | None:
        if seen.direction is DOWN and seen.header.kind is Kind.CHUNK:
            return None
        return [told, seen.data] if seen.header.kind is Kind.RESULT else [seen.data]

    accepted, error = attempt(rack, doubler, tamper)
    assert not accepted
    assert error is not None
    assert error.code is Refusal.HOST_LOST


@pytest.mark.parametrize("kind", [Kind.ROUTE, Kind.STATE, Kind.STARTED, Kind.HELLO])
def test_frames_that_are_not_for_a_client_end_its_session(rack: Rack, doubler: bytes, kind: Kind) -> None:
    """A frame that may not be sent to a client is refused as UNEXPECTED."""
    forged = plain_frame(kind, b"\x80" if kind is not Kind.HELLO else bytes(1250), stream=int(kind is Kind.ROUTE))
    tamper, done = once(Kind.LOADED, DOWN, lambda seen: [forged, seen.data])
    accepted, error = attempt(rack, doubler, tamper)
    assert done
    assert not accepted
    assert isinstance(error, FrameRefused)


def test_a_host_that_talks_to_the_controller_itself_is_refused_and_others_are_served(
    rack: Rack, doubler: bytes
) -> None:
    """Bytes that the host sends in place of a client end only that connection."""
    for forged in (
        b"GET / HTTP/1.1\r\n\r\n".ljust(64),
        plain_frame(Kind.GRANT, b"\x80"),
        plain_frame(Kind.STATE, b"\x80"),
    ):
        tamper, _ = once(Kind.HELLO, UP, lambda _seen, forged=forged: [forged])  # type: ignore[misc]
        _, error = attempt(rack, doubler, tamper)
        assert isinstance(error, FrameRefused | HandshakeRefused | HeteeError)
    assert attempt(rack, doubler, lambda seen, _host: [seen.data])[1] is None
