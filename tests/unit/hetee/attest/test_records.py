"""Receipts and records of cleanings say who signed what about which batch or enclave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.records import Cleaning, sign_cleaning
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.data_plane.receipts import Receipt, ReceiptSigner
from sectum.hetee.errors import EvidenceRefused, Refusal
from sectum.hetee.installation.manufacture import manufacture
from sectum.hetee.verification.records import open_cleaning, open_receipt

SESSION = b"s" * 16
TIMES = {"preprocess": 1_000_000, "compute": 2_500_000, "encryption": 0, "transfer": 1 << 40}
RECEIPT = Receipt(SESSION, 2, 7, b"m" * 32, b"w" * 32, TIMES, paced=True, items=8, hardware="software")
CLEANING = Cleaning(SESSION, 2, "asked", "killed by SIGKILL", {"cpu0": "memory"}, 4711, 1 << 30, "software")


def test_a_receipt_comes_back_as_it_was_signed() -> None:
    """Model, measurement, times, items and whether it was paced are those that the worker signed."""
    signer = ReceiptSigner()
    found = open_receipt(signer.sign(RECEIPT), signer.public_key, SESSION, 2, 7)
    assert replace(found, issued_s=0) == RECEIPT
    assert found.issued_s > 1_700_000_000


def test_a_receipt_tells_people_what_it_is_worth() -> None:
    """Paced results and software evidence are named in the text."""
    assert str(RECEIPT).startswith("8 items, paced: preprocess 1.00 ms, compute 2.50 ms")
    assert "SOFTWARE" in str(RECEIPT)


@pytest.mark.parametrize(("session", "index", "stream"), [(b"t" * 16, 2, 7), (SESSION, 1, 7), (SESSION, 2, 8)])
def test_a_receipt_of_another_batch_is_refused(session: bytes, index: int, stream: int) -> None:
    """A receipt cannot be shown for another session, enclave or batch."""
    signer = ReceiptSigner()
    with pytest.raises(EvidenceRefused) as caught:
        open_receipt(signer.sign(RECEIPT), signer.public_key, session, index, stream)
    assert caught.value.code is Refusal.STALE


@pytest.mark.parametrize("times", [{}, {"compute": 1}, TIMES | {"sleep": 1}, TIMES | {"compute": -1}])
def test_a_receipt_without_its_times_is_refused(times: dict[str, int]) -> None:
    """The four steps are there, none negative, and no other."""
    signer = ReceiptSigner()
    with pytest.raises(EvidenceRefused) as caught:
        open_receipt(signer.sign(replace(RECEIPT, times_ns=times)), signer.public_key, SESSION, 2, 7)
    assert caught.value.code is Refusal.EVIDENCE_MALFORMED


def test_a_receipt_of_another_worker_is_refused() -> None:
    """Only the key that was vouched for signs receipts."""
    with pytest.raises(EvidenceRefused) as caught:
        open_receipt(ReceiptSigner().sign(RECEIPT), ReceiptSigner().public_key, SESSION, 2, 7)
    assert caught.value.code is Refusal.NOT_GENUINE


def test_a_cleaning_comes_back_as_it_was_signed() -> None:
    """The controller's record names session, enclave, process and what was done."""
    provider = SoftwareProvider(manufacture(), Subject("controller", "0.1.0", bytes(32)))
    token = sign_cleaning(CLEANING, provider.sign_record)
    assert replace(open_cleaning(token, provider.public_key, SESSION, 2), issued_s=0) == CLEANING
    for session, index in ((b"t" * 16, 2), (SESSION, 3)):
        with pytest.raises(EvidenceRefused) as caught:
            open_cleaning(token, provider.public_key, session, index)
        assert caught.value.code is Refusal.STALE


def test_a_receipt_is_no_cleaning() -> None:
    """One kind of record cannot be passed off as the other."""
    signer = ReceiptSigner()
    with pytest.raises(EvidenceRefused):
        open_cleaning(signer.sign(RECEIPT), signer.public_key, SESSION, 2)


def test_signers_do_not_show_their_keys() -> None:
    """No representation of what signs has a private key in it."""
    signer = ReceiptSigner()
    private = signer._signer._key.private_bytes_raw()
    assert len(private) == 32
    for thing in (signer, signer._signer, signer._signer._key):
        assert private.hex() not in f"{thing!r} {thing}"
        assert repr(private)[2:-1] not in f"{thing!r} {thing}"
