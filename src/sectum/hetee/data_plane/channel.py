"""The keys of the data channel between a client and one worker."""

from __future__ import annotations

from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.channel.schedule import expand
from sectum.hetee.channel.secret import Secret
from sectum.hetee.wire.kinds import Role


def data_channel(role: Role, worker: Secret, session_id: bytes) -> tuple[Sealer, Opener]:
    """Derive both directions from a worker's secret, which is then wiped.

    Args:
        role: the caller's role, CLIENT or WORKER.
        worker: what `EstablishedSession.worker_secret` or `WorkerKey.accept` gave.
        session_id: 16 bytes.
    """
    from_client, from_worker = worker_traffic(worker)
    if role is Role.CLIENT:
        return Sealer(from_client, session_id), Opener(from_worker, session_id)
    return Sealer(from_worker, session_id), Opener(from_client, session_id)


def worker_traffic(worker: Secret) -> tuple[Secret, Secret]:
    """The traffic secrets from client to worker and from worker to client. Wipes the worker's secret."""
    pair = expand(worker, "data c"), expand(worker, "data w")
    worker.wipe()
    return pair
