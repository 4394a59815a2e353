"""Gives a clean worker to a session: evidence to the client, the session's key to the worker, its socket to the host.

The only place in which a key leaves the controller.
"""

from __future__ import annotations

from sectum.hetee.attest.evidence import Subject
from sectum.hetee.channel.handshake import EstablishedSession
from sectum.hetee.channel.release import release
from sectum.hetee.controller.core import Core
from sectum.hetee.controller.enclaves import EnclaveEntry, EnclaveState
from sectum.hetee.controller.tenants import SessionState, Tenant
from sectum.hetee.errors import HeteeError
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Empty, Release, Started, Vouch, encode


def give_enclave(core: Core, tenant: Tenant, enclave: EnclaveEntry, names: tuple[str, ...]) -> None:
    """Make a spare worker the enclave of a session, with these accelerators."""
    session, configuration, started = tenant.session, tenant.configuration, enclave.started
    assert session is not None
    assert configuration is not None
    assert started is not None
    enclave.advance_to(EnclaveState.ASSIGNED)
    enclave.session, enclave.tenant, enclave.index = session.session_id, tenant.connection, tenant.index
    enclave.share, enclave.kind = tenant.share, configuration.accelerator
    tenant.enclave, tenant.index = enclave, tenant.index + 1
    tenant.state, tenant.deadline_s = SessionState.SERVING, None
    vouch = _vouch(core, session, enclave, started, names)
    core.environment.send(tenant.connection, session.sealer.seal(Kind.VOUCH, vouch))
    try:
        _release(core, session, enclave, started, vouch)
    except HeteeError as error:  # the worker's key is invalid: the session goes on with the next worker
        core.pool.misbehaved(enclave.number, error)
    core.send_plain(tenant, Kind.ROUTE, Empty(), stream=enclave.index, data_of=enclave.number)
    enclave.advance_to(EnclaveState.SERVING)
    core.environment.log("vouched", connection=tenant.connection, worker=enclave.number, pid=enclave.pid)


def _vouch(
    core: Core, session: EstablishedSession, enclave: EnclaveEntry, started: Started, names: tuple[str, ...]
) -> bytes:
    """The payload of VOUCH: evidence of the measurement that was taken before the worker started (rule R6)."""
    confinement = tuple(started.confinement)
    subject = Subject("worker", core.subject.version, enclave.measurement, core.subject.debug, confinement)
    nonce = session.worker_nonce(enclave.index, started.worker_key, started.receipt_key)
    return encode(
        Vouch(
            index=enclave.index,
            evidence=core.attester.evidence(subject, nonce),
            worker_key=started.worker_key,
            receipt_key=started.receipt_key,
            accelerators=names,
            confinement=started.confinement,
            unconfined=started.unconfined,
        )
    )


def _release(core: Core, session: EstablishedSession, enclave: EnclaveEntry, started: Started, vouch: bytes) -> None:
    """Send RELEASE: the secret that is derived from this VOUCH, sealed to this worker.

    Raises:
        HandshakeRefused: the worker's key is invalid.
    """
    secret = session.worker_secret(vouch)
    try:
        sealed = release(secret, started.worker_key, session.session_id, enclave.index)
    finally:
        secret.wipe()
    message = Release(
        session=session.session_id,
        index=enclave.index,
        sealed=sealed,
        accelerator=enclave.kind,  # type: ignore[arg-type]  # one that CONFIGURE named
        credit_bytes=core.settings.credit_bytes,
        open_streams=core.settings.open_streams,
    )
    core.environment.send_to_worker(enclave.number, plain_frame(Kind.RELEASE, encode(message)))
