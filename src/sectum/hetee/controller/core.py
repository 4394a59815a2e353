"""What all parts of the controller share: sessions, workers, settings, and how a frame is sent."""

from __future__ import annotations

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.controller.allocation import Decision
from sectum.hetee.controller.environment import Clock, Environment
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.shares import Shares
from sectum.hetee.controller.tenants import Tenant
from sectum.hetee.controller.worker_pool import WorkerPool
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Failure, Message, encode

_DETAIL = 512
STOPPING = "the service is being stopped"


def failure(error: HeteeError) -> Failure:
    """The message that tells of a refusal."""
    return Failure(code=error.code, detail=error.detail[:_DETAIL])


class Core:
    """The state of a controller.

    Args:
        settings: limits.
        attester: holds the attestation key.
        subject: this controller, as its evidence describes it.
        environment: sends frames, and starts and kills workers.
        clock: monotonic time in seconds.

    Attributes:
        pool: workers and accelerators.
        shares: what identities use.
        tenants: the connections of the host, by their numbers.
        decisions: what the allocator decided, and what is not carried out yet.
        drained_s: when all that is left is ended; None unless the service is being stopped.
        preemptions: how often a job was told to give its accelerators back.
    """

    def __init__(
        self, settings: Settings, attester: AttestationKey, subject: Subject, environment: Environment, clock: Clock
    ) -> None:
        self.settings, self.attester, self.subject = settings, attester, subject
        self.environment, self.clock = environment, clock
        self.pool = WorkerPool(settings, environment, clock)
        self.shares = Shares(settings, clock)
        self.tenants: dict[int, Tenant] = {}
        self.decisions: list[Decision] = []
        self.drained_s: float | None = None
        self.preemptions = 0

    def send(self, tenant: Tenant, kind: Kind, message: Message) -> None:
        """Send a message to the client of a session, sealed."""
        assert tenant.session is not None
        self.environment.send(tenant.connection, tenant.session.sealer.seal(kind, encode(message)))

    def send_plain(
        self, tenant: Tenant, kind: Kind, message: Message, *, stream: int = 0, data_of: int | None = None
    ) -> None:
        """Send a message that is not sealed; with ``data_of``, pass the data socket of that worker with it."""
        frame = plain_frame(kind, encode(message), stream=stream)
        self.environment.send(tenant.connection, frame, data_of=data_of)

    def refuse_if_stopping(self) -> None:
        """Refuse what is new while the service is being stopped (``DRAINING``)."""
        if self.drained_s is not None:
            raise refusal(Refusal.DRAINING, STOPPING)
