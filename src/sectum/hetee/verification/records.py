"""Verifies signed records: a worker's receipt for a batch, and a controller's record of an enclave's cleaning."""

from __future__ import annotations

from typing import Any

from sectum.hetee.attest.records import Cleaning
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
    open_token,
)
from sectum.hetee.data_plane.receipts import STEPS, Receipt
from sectum.hetee.errors import Refusal, refusal

_DIGESTS = (MODEL, REQUEST, INPUTS, RESULT, OUTPUTS, MEASUREMENT)
_COMMON: Schema = {SUB: str, IAT: int, EAT_PROFILE: str, HARDWARE: str, SESSION: bytes, INDEX: int}
_RECEIPT: Schema = _COMMON | {STREAM: int, TIMES_NS: dict, PACED: bool, ITEMS: int, ACCELERATOR: str, CONFINEMENT: list}
_RECEIPT |= dict.fromkeys(_DIGESTS, bytes)
_CLEANING: Schema = _COMMON | {ENDED: str, EXIT: str, ACCELERATORS: dict, PID: int, PEAK_BYTES: int}


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
    lengths, kinds = {len(claims[digest]) for digest in _DIGESTS}, set(map(type, claims[CONFINEMENT]))
    if lengths != {32} or kinds - {str}:
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
