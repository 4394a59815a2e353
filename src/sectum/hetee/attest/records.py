"""Signed records: a worker's receipt for a batch, and a controller's record of an enclave's cleaning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sectum.hetee.attest import token


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


def sign_cleaning(cleaning: Cleaning, sign_record: Callable[[dict[int, Any]], bytes]) -> bytes:
    """Sign a cleaning record with ``sign_record``, which uses the attestation key."""
    claims = record_claims("cleaning", cleaning.session, cleaning.index, cleaning.hardware)
    claims |= {
        token.ENDED: cleaning.ended,
        token.EXIT: cleaning.exit,
        token.PID: cleaning.pid,
        token.PEAK_BYTES: cleaning.peak_bytes,
    }
    return sign_record(claims | {token.ACCELERATORS: cleaning.accelerators})


def record_claims(name: str, session: bytes, index: int, hardware: str) -> dict[int, Any]:
    """The claims that all signed records have."""
    common: dict[int, Any] = {token.SUB: name, token.IAT: int(time.time()), token.EAT_PROFILE: token.PROFILE}
    return common | {token.HARDWARE: hardware, token.SESSION: session, token.INDEX: index}
