"""Receipts and cleaning records prove something: what was computed from what, where, and how each enclave ended."""

from __future__ import annotations

import hashlib
import os
import signal

import msgspec
import numpy as np
import pytest
from blake3 import blake3

from hetee_hostile_host import DOWN, HostileHost, Seen
from hetee_rack import Rack, until
from sectum.hetee.client import ReceiptBundle, check_bundle, read_bundle
from sectum.hetee.client.bundle import digest_of
from sectum.hetee.errors import CleaningUnproven, EvidenceRefused, PolicyRefused, Refusal
from sectum.hetee.wire.kinds import Kind

pytestmark = pytest.mark.slow

NUMBERS = np.arange(1000, dtype=np.float32)


def test_a_receipt_binds_what_was_sent_and_what_came_back(rack: Rack, doubler: bytes) -> None:
    """The worker signs digests of model, inputs and outputs, the accelerator, and the confinement of its evidence."""
    with rack.connect() as session:
        session.load(doubler)
        first, second = (session.infer(NUMBERS + number) for number in (0, 1))
        receipts = first.receipt, second.receipt
        assert session.trust.worker is not None
        evidence = session.trust.worker
    for number, (result, receipt) in enumerate(zip((first, second), receipts, strict=True)):
        assert receipt.model == hashlib.sha256(doubler).digest()
        assert receipt.inputs == blake3((NUMBERS + number).tobytes()).digest()
        assert receipt.outputs == blake3(result.outputs["y"].tobytes()).digest()
        assert receipt.accelerator.startswith("cpu:")
        assert set(receipt.confinement) == set(evidence.confinement)
        with pytest.raises(ValueError, match="read-only"):
            result.outputs["y"][0] = 1
    assert receipts[0].request == receipts[1].request, "model, tensors and wanted outputs were the same"
    assert receipts[0].inputs != receipts[1].inputs
    assert receipts[0].outputs != receipts[1].outputs


@pytest.fixture(scope="module")
def saved(rack: Rack, doubler: bytes) -> tuple[list[ReceiptBundle], list[np.ndarray]]:
    """Two saved receipts of one session, and the outputs that they are for."""
    with rack.connect() as session:
        session.load(doubler)
        results = [session.infer(NUMBERS + number) for number in (0, 1)]
        bundles = [read_bundle(msgspec.json.encode(session.bundle(result))) for result in results]
    return bundles, [result.outputs["y"] for result in results]


def test_a_saved_receipt_is_checked_without_the_service(
    rack: Rack, saved: tuple[list[ReceiptBundle], list[np.ndarray]]
) -> None:
    """Signatures, policy, and the digests of what was sent and what came back, from a file alone."""
    for number, (bundle, output) in enumerate(zip(*saved, strict=True)):
        checked = check_bundle(bundle, rack.policy)
        sent = (NUMBERS + number).tobytes()
        assert digest_of(checked.request.tensors, [sent]) == checked.receipt.inputs
        assert digest_of(checked.result.tensors, [output.tobytes()]) == checked.receipt.outputs
    swapped = saved[1][0]
    assert digest_of(checked.result.tensors, [swapped.tobytes()]) != checked.receipt.outputs


@pytest.mark.parametrize("part", ["receipt", "request", "result", "worker", "transcript", "receipt_key"])
def test_a_saved_receipt_with_a_foreign_part_is_refused(
    rack: Rack, doubler: bytes, saved: tuple[list[ReceiptBundle], list[np.ndarray]], part: str
) -> None:
    """A part of another session, or of another batch with another size, does not fit into a saved receipt."""
    with rack.connect() as session:
        session.load(doubler)
        other = session.bundle(session.infer(NUMBERS[:10]))
    mixed = msgspec.structs.replace(saved[0][0], **{part: getattr(other, part)})
    assert mixed != saved[0][0]
    with pytest.raises(EvidenceRefused):
        check_bundle(mixed, rack.policy)


def test_a_saved_receipt_needs_a_policy_that_accepts_it(
    rack: Rack, saved: tuple[list[ReceiptBundle], list[np.ndarray]]
) -> None:
    """Neither another root nor another measurement makes a saved receipt genuine."""
    with pytest.raises(EvidenceRefused):
        check_bundle(saved[0][0], rack.changed_policy(roots=("ab" * 32,)))
    measurements = {**rack.policy.measurements, "worker": ("ab" * 32,)}
    with pytest.raises(PolicyRefused):
        check_bundle(saved[0][0], rack.changed_policy(measurements=measurements))


def test_the_record_of_a_lost_enclave_reaches_the_client(rack: Rack, doubler: bytes) -> None:
    """A client whose enclave died gets a signed record of that, and of each enclave that followed."""
    with rack.connect() as session:
        session.load(doubler)
        session.infer(NUMBERS)
        pid = rack.serving_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: session.index == 1, what="another enclave")
        lost = session.cleanings[0]
        assert (lost.ended, lost.exit, lost.pid) == ("killed", "killed by SIGKILL", pid)
        assert lost.peak_bytes > 1 << 20
    assert set(session.cleanings) == {0, 1}
    assert session.cleanings[1].ended == "asked"
    assert all("taken back" in how for record in session.cleanings.values() for how in record.accelerators.values())


def test_an_end_without_a_record_is_an_error(rack: Rack, doubler: bytes) -> None:
    """A host that keeps the record back does not make a session look as if it had ended well."""

    def tamper(seen: Seen, _host: HostileHost) -> list[bytes] | None:
        return None if seen.direction == DOWN and seen.header.kind is Kind.CLEANED else [seen.data]

    with HostileHost(rack.port, tamper) as host:
        session = rack.connect(url=host.url)
        session.load(doubler)
        session.infer(NUMBERS)
        with pytest.raises(CleaningUnproven) as caught:
            session.close()
        assert caught.value.code is Refusal.UNPROVEN
        session.close()  # said once
