"""Where a process runs, as its devices say."""

from __future__ import annotations

from pathlib import Path

import pytest

from sectum.enclave.profile import load
from sectum.enclave.profile_kinds import GUESTS, NOT_PREDICTED, SGX_HOST, recognised


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("tdx_guest", "tdx"),
        ("tdx-guest", "tdx"),
        ("sev-guest", "sev-snp"),
        ("nsm", "nitro"),
        ("sgx_enclave", SGX_HOST),
        ("sgx/enclave", SGX_HOST),
        ("null", ""),
    ],
)
def test_a_device_says_where_the_process_runs(tmp_path: Path, device: str, kind: str) -> None:
    """Each kind of confidential machine is recognised by its device, and an ordinary machine has none of them."""
    (tmp_path / device).parent.mkdir(exist_ok=True)
    (tmp_path / device).touch()
    assert recognised(tmp_path) == kind


def test_a_guest_that_can_start_sgx_enclaves_is_still_a_guest(tmp_path: Path) -> None:
    """The machine that the process runs in counts before the enclaves that it could start."""
    for name in ("sgx_enclave", "tdx_guest"):
        (tmp_path / name).touch()
    assert recognised(tmp_path) == "tdx"


def test_every_guest_has_a_profile_of_its_name() -> None:
    """What a calibration recognises can be asked for by --enclave."""
    assert {kind: load(kind).tee for kind in GUESTS} == {kind: kind for kind in GUESTS}
    assert not NOT_PREDICTED.keys() & GUESTS.keys()
