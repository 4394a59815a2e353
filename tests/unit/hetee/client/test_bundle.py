"""Saved receipts."""

from __future__ import annotations

import msgspec
import pytest

from sectum.hetee.client import ReceiptBundle, read_bundle
from sectum.hetee.errors import EvidenceRefused


def test_a_saved_receipt_with_other_digests_is_refused() -> None:
    """A receipt of the form before, whose digests are SHA-256, is refused with the form that is wrong."""
    key, part = bytes(32), b"x"
    saved = ReceiptBundle(part, key, key, bytes(16), key, 0, 1, part, part, (part, key), part, 0, 0)
    data = msgspec.json.encode(saved)
    assert read_bundle(data) == saved
    with pytest.raises(EvidenceRefused, match=r"this release reads: .*'sectum-hetee-receipt-1'"):
        read_bundle(data.replace(b"sectum-hetee-receipt-2", b"sectum-hetee-receipt-1"))
