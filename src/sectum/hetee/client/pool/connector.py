"""Makes the sessions of a pool: in two steps, so that a rack can be turned down before it gives an enclave."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.client.connection import HANDSHAKE_S, Connection
from sectum.hetee.client.session import Session
from sectum.hetee.client.transport import ATTEST_EVERY_S
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import HeteeError
from sectum.hetee.verification.policy import Policy
from sectum.hetee.wire.messages import AcceleratorKind


@dataclass
class Connector:
    """What the sessions with all racks have in common: the arguments of `sectum.hetee.client.connect`."""

    policy: Policy
    identity: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate, repr=False)
    accelerator: AcceleratorKind = "cpu"
    count: int = 1
    wait_s: float = 60.0
    timeout_s: float = HANDSHAKE_S
    chunk_bytes: int | None = None
    attest_every_s: float = ATTEST_EVERY_S

    def verify(self, url: str) -> Session:
        """A session with a rack whose evidence the policy accepts, without an enclave.

        Raises:
            HeteeError: as `sectum.hetee.client.connect`.
        """
        trust = Trust(self.policy)
        connection = Connection(url, trust, self.identity, self.timeout_s)
        return Session(connection, trust, self.chunk_bytes, self.attest_every_s)

    def configure(self, session: Session) -> None:
        """Get an enclave; the session is ended if there is none.

        Raises:
            HeteeError: as `sectum.hetee.client.connect`.
        """
        try:
            session.configure(self.accelerator, self.count, self.wait_s)
        except BaseException:
            with suppress(HeteeError):  # the first error matters more
                session.close(0)
            raise

    def connect(self, url: str) -> Session:
        """A session with an enclave.

        Raises:
            HeteeError: as `sectum.hetee.client.connect`.
        """
        session = self.verify(url)
        self.configure(session)
        return session
