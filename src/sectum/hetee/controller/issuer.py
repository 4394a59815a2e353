"""What the controller issues about a worker: evidence, the release of its session key, the cleaning record."""

from __future__ import annotations

from collections.abc import Sequence

from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.records import Cleaning, sign_cleaning
from sectum.hetee.channel.handshake import EstablishedSession
from sectum.hetee.channel.release import release
from sectum.hetee.controller.accelerators import reset
from sectum.hetee.controller.enclaves import EnclaveEntry
from sectum.hetee.controller.environment import Attester, CollectedProcess
from sectum.hetee.controller.settings import Settings
from sectum.hetee.wire.messages import Release, Vouch, encode


class Issuer:
    """Makes evidence about workers, releases keys to them, and signs records of their end.

    Args:
        attester: holds the attestation key.
        controller: this controller, as its evidence describes it.
        settings: limits that a worker gets with its keys.
    """

    def __init__(self, attester: Attester, controller: Subject, settings: Settings) -> None:
        self.controller = controller
        self._attester, self._settings = attester, settings

    def left_s(self) -> float:
        """Seconds until the endorsement of this machine expires."""
        return self._attester.left_s()

    def attest(self, nonce: bytes) -> bytes:
        """Evidence about the controller itself."""
        return self._attester.evidence(self.controller, nonce)

    def vouch(self, session: EstablishedSession, enclave: EnclaveEntry, accelerators: Sequence[str]) -> bytes:
        """The payload of VOUCH: evidence of the measurement that was taken before the worker started (rule R6)."""
        started = enclave.started
        assert started is not None
        controller = self.controller
        subject = Subject(
            "worker", controller.version, enclave.measurement, controller.debug, tuple(started.confinement)
        )
        nonce = session.worker_nonce(enclave.index, started.worker_key, started.receipt_key)
        return encode(
            Vouch(
                index=enclave.index,
                evidence=self._attester.evidence(subject, nonce),
                worker_key=started.worker_key,
                receipt_key=started.receipt_key,
                accelerators=tuple(accelerators),
                confinement=started.confinement,
                unconfined=started.unconfined,
            )
        )

    def release(self, session: EstablishedSession, enclave: EnclaveEntry, vouch: bytes) -> bytes:
        """The payload of RELEASE: the secret that is derived from this VOUCH, sealed to this worker.

        Raises:
            HandshakeRefused: the worker's key is invalid.
        """
        assert enclave.started is not None
        secret = session.worker_secret(vouch)
        try:
            sealed = release(secret, enclave.started.worker_key, session.session_id, enclave.index)
        finally:
            secret.wipe()
        return encode(
            Release(
                session=session.session_id,
                index=enclave.index,
                sealed=sealed,
                accelerator=enclave.kind,  # type: ignore[arg-type]  # one that CONFIGURE named
                credit_bytes=self._settings.credit_bytes,
                open_streams=self._settings.open_streams,
            )
        )

    def cleaned(self, enclave: EnclaveEntry, ended: CollectedProcess) -> bytes:
        """Sign a record of what this controller saw of the end of a worker that it has collected (rule R7)."""
        cleaning = Cleaning(
            session=enclave.session,
            index=enclave.index,
            ended="asked" if enclave.wiped else "killed",
            exit=ended.exit,
            accelerators={name: reset(name, before=name in enclave.given_back) for name in sorted(enclave.owned)},
            pid=enclave.pid,
            peak_bytes=ended.peak_bytes,
            hardware=self._attester.format,
        )
        return sign_cleaning(cleaning, self._attester.sign_record)
