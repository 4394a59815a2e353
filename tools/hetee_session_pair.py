"""Both ends of a session in one process, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_simple_reader import SimpleFrameReader
from sectum.hetee.channel.handshake import Admit, Attest, ControllerHandshake, EstablishedSession
from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.channel.release import release
from sectum.hetee.channel.secret import Secret
from sectum.hetee.client.handshake import CheckEvidence, ClientHandshake
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.kinds import Kind, Role


def one_frame(data: bytes | bytearray) -> Frame:
    """Read bytes that are exactly one frame, of any type.

    Raises:
        FrameRefused: the bytes are not a frame.
        ValueError: the bytes hold no frame, or several.
    """
    reader = SimpleFrameReader(frozenset(Kind))
    frames = list(reader.feed(data))
    reader.end()
    (frame,) = frames
    return frame


def bytes_of(secret: Secret) -> bytes:
    """The bytes of a secret, for comparisons."""
    with secret.reveal() as view:
        return bytes(view)


@dataclass
class Ends:
    """The two ends of one direction."""

    sealer: Sealer
    opener: Opener


@dataclass
class DataPair:
    """The data channel of one worker, in both directions."""

    up: Ends
    down: Ends


@dataclass
class SessionPair:
    """The two ends of a session after its handshake."""

    client: EstablishedSession
    controller: EstablishedSession
    identity: bytes

    def worker(self, index: int = 0, vouch: bytes = b"vouch") -> DataPair:
        """Release the next worker's secret to a worker, and make both ends of its data channel."""
        key = WorkerKey()
        sealed = release(self.controller.worker_secret(vouch), key.public, self.controller.session_id, index)
        secret = key.accept(sealed, self.controller.session_id, index)
        worker = data_channel(Role.WORKER, secret, self.controller.session_id)
        client = data_channel(Role.CLIENT, self.client.worker_secret(vouch), self.client.session_id)
        return DataPair(up=Ends(client[0], worker[1]), down=Ends(worker[0], client[1]))


Change = Callable[[bytes], bytes]


def connect(
    attest: Attest = lambda _nonce: b"evidence",
    check_evidence: CheckEvidence = lambda _evidence, _nonce: None,
    admit: Admit = lambda _identity: True,
    *,
    hello: Change = bytes,
    answer: Change = bytes,
    proof: Change = bytes,
) -> SessionPair:
    """Perform a handshake, optionally with frames that are modified in transit.

    Args:
        attest: argument of `ControllerHandshake`.
        check_evidence: argument of `ClientHandshake`.
        admit: argument of `ControllerHandshake`.
        hello: modifies HELLO.
        answer: modifies ATTEST.
        proof: modifies PROOF.

    Raises:
        HeteeError: one of the sides refused.
    """
    client = ClientHandshake(Ed25519PrivateKey.generate(), check_evidence)
    controller = ControllerHandshake(attest, admit)
    offered = controller.receive(one_frame(hello(client.hello())))
    assert offered is not None
    controller.receive(one_frame(proof(client.receive(one_frame(answer(offered))))))
    assert client.session is not None
    assert controller.session is not None
    return SessionPair(client.session, controller.session, controller.identity)
