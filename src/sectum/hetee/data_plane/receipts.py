"""A worker's signed receipt for a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.records import record_claims
from sectum.hetee.attest.token import (
    ACCELERATOR,
    CONFINEMENT,
    INPUTS,
    ITEMS,
    MEASUREMENT,
    MODEL,
    OUTPUTS,
    PACED,
    REQUEST,
    RESULT,
    STREAM,
    TIMES_NS,
    Signer,
)

STEPS = ("preprocess", "compute", "encryption", "transfer")
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
        inputs: BLAKE3 of the plaintext of the batch, 32 bytes.
        result: SHA-256 of the payload of RESULT, which names the outputs with their shapes.
        outputs: BLAKE3 of the plaintext of the result, 32 bytes.
        accelerator: name of the accelerator that computed it; of several that shared it, separated by commas.
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


class ReceiptSigner:
    """A worker's receipt key, made at its start. ``public_key`` is sent in STARTED."""

    def __init__(self) -> None:
        self._signer = Signer(Ed25519PrivateKey.generate())
        self.public_key = self._signer.public_key

    def sign(self, receipt: Receipt) -> bytes:
        """Sign a receipt, issued now."""
        return self._signer.sign(_receipt_claims(receipt))


def _receipt_claims(receipt: Receipt) -> dict[int, Any]:
    claims = record_claims("receipt", receipt.session, receipt.index, receipt.hardware)
    claims |= {STREAM: receipt.stream, MODEL: receipt.model, MEASUREMENT: receipt.measurement}
    claims |= {REQUEST: receipt.request, INPUTS: receipt.inputs, RESULT: receipt.result, OUTPUTS: receipt.outputs}
    claims |= {ACCELERATOR: receipt.accelerator, CONFINEMENT: sorted(receipt.confinement)}
    return claims | {TIMES_NS: receipt.times_ns, PACED: receipt.paced, ITEMS: receipt.items}
