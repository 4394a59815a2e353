"""Signed records: a worker's receipt for a batch, and a controller's record of an enclave's cleaning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.token import (
    ACCELERATOR,
    ACCELERATORS,
    CONFINEMENT,
    EAT_PROFILE,
    ENDED,
    EXIT,
    HARDWARE,
    IAT,
    INDEX,
    INPUTS,
    ITEMS,
    MEASUREMENT,
    MODEL,
    OUTPUTS,
    PACED,
    PEAK_BYTES,
    PID,
    PROFILE,
    REQUEST,
    RESULT,
    SESSION,
    STREAM,
    SUB,
    TIMES_NS,
    Schema,
    Signer,
    open_token,
)
from sectum.hetee.errors import Refusal, refusal

STEPS = ("preprocess", "compute", "encryption", "transfer")

_COMMON: Schema = {SUB: str, IAT: int, EAT_PROFILE: str, HARDWARE: str, SESSION: bytes, INDEX: int}
_DIGESTS = (MODEL, REQUEST, INPUTS, RESULT, OUTPUTS, MEASUREMENT)
_RECEIPT: Schema = _COMMON | {STREAM: int, TIMES_NS: dict, PACED: bool, ITEMS: int, ACCELERATOR: str, CONFINEMENT: list}
_RECEIPT |= dict.fromkeys(_DIGESTS, bytes)
_CLEANING: Schema = _COMMON | {ENDED: str, EXIT: str, ACCELERATORS: dict, PID: int, PEAK_BYTES: int}
NOTHING = bytes(32)


@dataclass(frozen=True)
class Receipt:
    """What a worker states about one batch.

    Attributes:
        session: session id, 16 bytes.
        index: index of the enclave.
        stream: stream of the batch.
        model: SHA-256 of the model, 32 bytes.
        measurement: measurement of the worker, 32 bytes.
        times_ns: nanoseconds of each of `STEPS`.
        paced: whether the accelerator waited for published times instead of computing.
        items: number of images or rows.
        hardware: format of the evidence behind the worker; ``software`` means that no hardware protects it.
        request: SHA-256 of the payload of BATCH, which names model, tensors, preprocessing and wanted outputs.
        inputs: SHA-256 of the plaintext of the batch.
        result: SHA-256 of the payload of RESULT, which names the outputs with their shapes.
        outputs: SHA-256 of the plaintext of the result.
        accelerator: name of the accelerator that computed it.
        confinement: the steps of confinement that the worker's process has taken.
        issued_s: time of signing, seconds since 1970.
    """

    session: bytes
    index: int
    stream: int
    model: bytes
    measurement: bytes
    times_ns: dict[str, int]
    paced: bool
    items: int
    hardware: str
    request: bytes = NOTHING
    inputs: bytes = NOTHING
    result: bytes = NOTHING
    outputs: bytes = NOTHING
    accelerator: str = ""
    confinement: tuple[str, ...] = ()
    issued_s: int = 0

    def __str__(self) -> str:
        times = ", ".join(f"{step} {self.times_ns[step] / 1e6:.2f} ms" for step in STEPS)
        protected = f" [{self.hardware.upper()} evidence]" if self.hardware == "software" else ""
        return f"{self.items} items, {'paced' if self.paced else 'real'}: {times}{protected}"


@dataclass(frozen=True)
class Cleaning:
    """What a controller saw of the end of an enclave. Nothing in it is the worker's word.

    Attributes:
        session: session id, 16 bytes.
        index: index of the enclave.
        ended: ``asked``, the worker's process ended when the controller had asked it to wipe and to end, and had its
            answer; ``killed``, it ended in another way.
        exit: how the kernel says that the process ended.
        accelerators: each accelerator that the enclave ever owned, with what was done to clean it, and how that is
            known.
        pid: id of the process, which the controller has collected.
        peak_bytes: the most memory that the process held, all of which the kernel has taken back.
        hardware: format of the evidence behind the controller; ``software`` means that no hardware protects it.
        issued_s: time of signing, seconds since 1970.
    """

    session: bytes
    index: int
    ended: str
    exit: str
    accelerators: dict[str, str]
    pid: int
    peak_bytes: int
    hardware: str
    issued_s: int = 0


class ReceiptSigner:
    """A worker's receipt key, made at its start. ``public_key`` is sent in STARTED."""

    def __init__(self) -> None:
        self._signer = Signer(Ed25519PrivateKey.generate())
        self.public_key = self._signer.public_key

    def sign(self, receipt: Receipt) -> bytes:
        """Sign a receipt, issued now."""
        return self._signer.sign(_receipt_claims(receipt))


def sign_cleaning(cleaning: Cleaning, sign_record: Callable[[dict[int, Any]], bytes]) -> bytes:
    """Sign a cleaning record with ``sign_record``, which uses the attestation key."""
    claims = _claims("cleaning", cleaning.session, cleaning.index, cleaning.hardware)
    claims |= {ENDED: cleaning.ended, EXIT: cleaning.exit, PID: cleaning.pid, PEAK_BYTES: cleaning.peak_bytes}
    return sign_record(claims | {ACCELERATORS: cleaning.accelerators})


def _receipt_claims(receipt: Receipt) -> dict[int, Any]:
    claims = _claims("receipt", receipt.session, receipt.index, receipt.hardware)
    claims |= {STREAM: receipt.stream, MODEL: receipt.model, MEASUREMENT: receipt.measurement}
    claims |= {REQUEST: receipt.request, INPUTS: receipt.inputs, RESULT: receipt.result, OUTPUTS: receipt.outputs}
    claims |= {ACCELERATOR: receipt.accelerator, CONFINEMENT: sorted(receipt.confinement)}
    return claims | {TIMES_NS: receipt.times_ns, PACED: receipt.paced, ITEMS: receipt.items}


def _claims(name: str, session: bytes, index: int, hardware: str) -> dict[int, Any]:
    common: dict[int, Any] = {SUB: name, IAT: int(time.time()), EAT_PROFILE: PROFILE}
    return common | {HARDWARE: hardware, SESSION: session, INDEX: index}


def open_receipt(token: bytes, receipt_key: bytes, session: bytes, index: int, stream: int) -> Receipt:
    """Verify the receipt of a batch.

    Args:
        token: payload of RECEIPT.
        receipt_key: the receipt key from the enclave's VOUCH, 32 bytes.
        session: session id, 16 bytes.
        index: index of the enclave.
        stream: stream of the batch.

    Raises:
        EvidenceRefused: it is malformed, not genuine, or about another batch.
    """
    claims = open_token(token, receipt_key, _RECEIPT)
    _check(claims, "receipt", (session, index))
    times = claims[TIMES_NS]
    if set(times) != set(STEPS) or any(type(ns) is not int or ns < 0 for ns in times.values()):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "the receipt does not have the times of the four steps")
    if any(len(claims[digest]) != 32 for digest in _DIGESTS) or any(type(w) is not str for w in claims[CONFINEMENT]):
        raise refusal(Refusal.EVIDENCE_MALFORMED, "a digest or a step of confinement in the receipt is none")
    if claims[STREAM] != stream:
        raise refusal(Refusal.STALE, f"the receipt is for stream {claims[STREAM]}, expected {stream}")
    return Receipt(
        session=session,
        index=index,
        stream=stream,
        model=claims[MODEL],
        measurement=claims[MEASUREMENT],
        times_ns=times,
        paced=claims[PACED],
        items=claims[ITEMS],
        hardware=claims[HARDWARE],
        request=claims[REQUEST],
        inputs=claims[INPUTS],
        result=claims[RESULT],
        outputs=claims[OUTPUTS],
        accelerator=claims[ACCELERATOR],
        confinement=tuple(claims[CONFINEMENT]),
        issued_s=claims[IAT],
    )


def open_cleaning(token: bytes, attestation_key: bytes, session: bytes, index: int) -> Cleaning:
    """Verify a cleaning record.

    Args:
        token: payload of CLEANED.
        attestation_key: `Claims.signer` of the controller's evidence, 32 bytes.
        session: session id, 16 bytes.
        index: index of the enclave.

    Raises:
        EvidenceRefused: it is malformed, not genuine, or about another enclave.
    """
    claims = open_token(token, attestation_key, _CLEANING)
    _check(claims, "cleaning", (session, index))
    done = claims[ACCELERATORS]
    if any(type(word) is not str for pair in done.items() for word in pair):
        raise refusal(
            Refusal.EVIDENCE_MALFORMED, "the cleaning record names accelerators with something else than text"
        )
    return Cleaning(
        session=session,
        index=index,
        ended=claims[ENDED],
        exit=claims[EXIT],
        accelerators=done,
        pid=claims[PID],
        peak_bytes=claims[PEAK_BYTES],
        hardware=claims[HARDWARE],
        issued_s=claims[IAT],
    )


def _check(claims: dict[int, Any], name: str, about: tuple[bytes, int]) -> None:
    if (claims[SUB], claims[EAT_PROFILE]) != (name, PROFILE):
        raise refusal(Refusal.EVIDENCE_MALFORMED, f"the signed record is not a {name} record")
    if (claims[SESSION], claims[INDEX]) != about:
        raise refusal(Refusal.STALE, f"the {name} record is of another session or enclave")
