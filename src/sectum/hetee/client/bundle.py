"""A receipt with all that is needed to check it later, without the service: evidence, keys, and what was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from blake3 import blake3
from msgspec import Meta

from sectum.hetee.channel.handshake import EstablishedSession, worker_nonce
from sectum.hetee.client.results import Result
from sectum.hetee.client.trust import Trust, verifiers_of
from sectum.hetee.data_plane.messages import BatchOpening, ResultOpening, Tensor
from sectum.hetee.data_plane.receipts import Receipt
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.verification.evidence import Claims, verify
from sectum.hetee.verification.policy import Policy
from sectum.hetee.verification.records import open_receipt
from sectum.hetee.wire.messages import decode

BUNDLE_BYTES = 1 << 20
_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Part = Annotated[bytes, Meta(max_length=128 << 10)]


class ReceiptBundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client keeps of one batch. In JSON, bytes are base64.

    Attributes:
        kind: names this format: ``-1`` had SHA-256 in place of BLAKE3.
        receipt: the signed receipt.
        receipt_key: the worker's receipt key, from VOUCH.
        worker_key: the worker's other key, from VOUCH.
        session: session id.
        transcript: hash of the handshake (th4), which the evidence answers.
        index: index of the enclave.
        stream: stream of the batch.
        request: payload of BATCH.
        result: payload of RESULT.
        controller: evidence of the controller, and the nonce that it answers.
        worker: evidence of the worker.
        accepted_s: when this client accepted the evidence of the worker, by its own clock; seconds since 1970.
        controller_s: the same for the evidence of the controller.
    """

    receipt: _Part
    receipt_key: _Digest
    worker_key: _Digest
    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    transcript: _Digest
    index: Annotated[int, Meta(ge=0, lt=1 << 32)]
    stream: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    request: _Part
    result: _Part
    controller: tuple[_Part, _Digest]
    worker: _Part
    accepted_s: Annotated[int, Meta(ge=0, lt=1 << 40)]
    controller_s: Annotated[int, Meta(ge=0, lt=1 << 40)]
    kind: Literal["sectum-hetee-receipt-2"] = "sectum-hetee-receipt-2"


class CheckedBundle(msgspec.Struct, frozen=True):
    """What a bundle proves: the claims of both roles, the receipt, and what was asked and answered."""

    controller: Claims
    worker: Claims
    receipt: Receipt
    request: BatchOpening
    result: ResultOpening


def bundle_of(result: Result, session: EstablishedSession, trust: Trust) -> ReceiptBundle:
    """The bundle of a result that came in a session; waits for the receipt.

    Raises:
        HeteeError: the receipt is not genuine, or the worker was lost before it came.
    """
    parts = result.signed.result()
    return ReceiptBundle(
        receipt=parts.token,
        receipt_key=parts.vouch.receipt_key,
        worker_key=parts.vouch.worker_key,
        session=session.session_id,
        transcript=session.th4,
        index=parts.vouch.index,
        stream=parts.stream,
        request=parts.request,
        result=parts.result,
        controller=trust.evidence,
        worker=parts.vouch.evidence,
        accepted_s=parts.accepted_s,
        controller_s=trust.accepted_s,
    )


def read_bundle(data: bytes) -> ReceiptBundle:
    """Read a bundle from JSON.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED``.
    """
    if len(data) > BUNDLE_BYTES:
        detail = f"a saved receipt has at most {BUNDLE_BYTES} bytes, and this one has more"
        raise refusal(Refusal.EVIDENCE_MALFORMED, detail)
    try:
        return msgspec.json.decode(data, type=ReceiptBundle)
    except (ValueError, RecursionError) as error:
        detail = f"this is not a saved receipt that this release reads: {error}"
        raise refusal(Refusal.EVIDENCE_MALFORMED, detail) from None


def read_bundle_file(path: Path) -> ReceiptBundle:
    """Read a bundle from a file, and no more of it than a bundle may have.

    Raises:
        EvidenceRefused: ``EVIDENCE_MALFORMED``.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return read_bundle(file.read(BUNDLE_BYTES + 1))


def check_bundle(bundle: ReceiptBundle, policy: Policy) -> CheckedBundle:
    """Check the signatures from the manufacturer's root to the receipt, and that the policy accepts both roles.

    Certificates are checked for the time at which the client says that it accepted them.

    Raises:
        EvidenceRefused: a part is not genuine, or is about another batch than the others.
        PolicyRefused: the policy does not accept the controller or the worker.
    """
    verifiers = verifiers_of(policy)
    evidence, nonce = bundle.controller
    controller = verify(evidence, nonce, verifiers, bundle.controller_s)
    policy.validate(controller, "controller")
    nonce = worker_nonce(bundle.transcript, bundle.index, bundle.worker_key, bundle.receipt_key)
    worker = verify(bundle.worker, nonce, verifiers, bundle.accepted_s)
    policy.validate(worker, "worker")
    receipt = open_receipt(bundle.receipt, bundle.receipt_key, bundle.session, bundle.index, bundle.stream)
    same = {
        "attestation key": (worker.signer, controller.signer),
        "measurement": (receipt.measurement, worker.measurement),
        "evidence": (receipt.hardware, worker.format),
        "confinement": (set(receipt.confinement), set(worker.confinement)),
        "request": (receipt.request, hashlib.sha256(bundle.request).digest()),
        "result": (receipt.result, hashlib.sha256(bundle.result).digest()),
    }
    wrong = [name for name, (one, other) in same.items() if one != other]
    if wrong:
        raise refusal(Refusal.NOT_GENUINE, f"the parts of the saved receipt do not fit: another {wrong[0]}")
    request, result = decode(bundle.request, BatchOpening), decode(bundle.result, ResultOpening)
    if request.model != receipt.model:
        raise refusal(Refusal.NOT_GENUINE, "the parts of the saved receipt do not fit: another model")
    return CheckedBundle(controller, worker, receipt, request, result)


def digest_of(tensors: tuple[Tensor, ...], contents: Sequence[bytes | memoryview]) -> bytes:
    """BLAKE3 of the plaintext that these tensors with these contents have.

    Args:
        tensors: as a request or a result describes them.
        contents: the bytes of each tensor; of one with several items, such as images, all of them in their order.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, the contents have other sizes.
    """
    whole, at = blake3(), 0
    if len(contents) != len(tensors):
        raise refusal(Refusal.INPUT_REFUSED, f"{len(contents)} tensors are given, the batch has {len(tensors)}")
    for place, content in zip(layout(tensors), contents, strict=True):
        if len(content) != place.end - place.begin:
            detail = f"'{place.tensor.name}' has {len(content)} bytes, in the batch it had {place.end - place.begin}"
            raise refusal(Refusal.INPUT_REFUSED, detail)
        whole.update(bytes(place.begin - at))
        whole.update(content)
        at = place.end
    return whole.digest()
