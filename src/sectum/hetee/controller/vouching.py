"""What the controller says about workers under its attestation key, and the keys that it gives to them."""

from __future__ import annotations

from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.records import Cleaning, sign_cleaning
from sectum.hetee.channel.handshake import Session
from sectum.hetee.channel.release import release
from sectum.hetee.controller.accelerators import reset
from sectum.hetee.controller.enclaves import Enclave
from sectum.hetee.controller.outside import Attester
from sectum.hetee.controller.settings import Settings
from sectum.hetee.wire.messages import Release, Vouch, encode


class Notary:
    """Vouches for workers, releases keys to them, records their end.

    Args:
        attester: holds the attestation key.
        controller: this controller, as its evidence describes it.
        settings: for what a worker is told with its keys.
    """

    def __init__(self, attester: Attester, controller: Subject, settings: Settings) -> None:
        self.controller = controller
        self._attester, self._settings = attester, settings

    def attest(self, nonce: bytes) -> bytes:
        """Evidence about the controller itself."""
        return self._attester.evidence(self.controller, nonce)

    def vouch(self, session: Session, enclave: Enclave, accelerators: list[str]) -> bytes:
        """VOUCH's payload: evidence of the measurement that was taken before the worker started (rule R6)."""
        born = enclave.born
        assert born is not None
        subject = Subject("worker", self.controller.version, enclave.measurement, self.controller.debug)
        nonce = session.worker_nonce(enclave.index, born.worker_key, born.receipt_key)
        return encode(
            Vouch(
                index=enclave.index,
                evidence=self._attester.evidence(subject, nonce),
                worker_key=born.worker_key,
                receipt_key=born.receipt_key,
                accelerators=tuple(accelerators),
                confinement=born.confinement,
                unconfined=born.unconfined,
            )
        )

    def release(self, session: Session, enclave: Enclave, vouch: bytes) -> bytes:
        """RELEASE's payload: the secret that follows from this VOUCH, for this worker only.

        Raises:
            HandshakeRefused: the worker's key is none.
        """
        assert enclave.born is not None
        secret = session.worker_secret(vouch)
        try:
            sealed = release(secret, enclave.born.worker_key, session.session_id, enclave.index)
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

    def cleaned(self, enclave: Enclave, accelerators: tuple[str, ...]) -> bytes:
        """Reset what a collected worker owned, and sign a record of its end (rule R7)."""
        cleaning = Cleaning(
            session=enclave.session,
            index=enclave.index,
            ended="killed" if enclave.wiped_bytes is None else "wiped",
            wiped_bytes=enclave.wiped_bytes or 0,
            accelerators={name: reset(name) for name in accelerators},
            pid=enclave.pid,
            hardware=self._attester.format,
        )
        return sign_cleaning(cleaning, self._attester.sign_record)
