"""A whole service whose evidence are quotes: what a client gets of it, and what it refuses.

The platform exists in these tests only (`hetee_quoting_platform`); what a real one adds is its vendor's root.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from hetee_quoted_controller import MEASUREMENTS, QuotedRack
from sectum.hetee.client import check_bundle, read_bundle
from sectum.hetee.errors import EvidenceRefused, PolicyRefused, Refusal

pytest.importorskip("dcap_qvl")
NUMBERS = np.arange(6, dtype=np.float32)


@pytest.fixture(scope="module", params=["sgx", "tdx"])
def quoted_rack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuotedRack]:
    """A service on a platform of this kind."""
    with QuotedRack(request.param, tmp_path_factory.mktemp(request.param)) as started:
        yield started


def test_a_session_with_quotes_is_whole(quoted_rack: QuotedRack, doubler: bytes) -> None:
    """Handshake, VOUCH, receipt, cleaning record and saved receipt verify with quotes as with software evidence."""
    policy = quoted_rack.quoted_policy
    with quoted_rack.connect(policy=policy) as session:
        session.load(doubler)
        result = session.infer(NUMBERS)
        saved = session.bundle(result)
        controller, worker = session.trust.controller, session.trust.worker
    assert (result.outputs["y"] == 2 * NUMBERS).all()
    assert controller is not None
    assert worker is not None
    assert (controller.format, controller.role, worker.role) == (quoted_rack.kind, "controller", "worker")
    assert (controller.measurement, worker.measurement) == (MEASUREMENTS["controller"], MEASUREMENTS["worker"])
    assert controller.registers == worker.registers
    assert len(controller.signer) == 32
    assert controller.signer == worker.signer
    assert result.receipt.hardware == quoted_rack.kind
    assert session.cleaning is not None
    assert (session.cleaning.ended, session.cleaning.hardware) == ("asked", quoted_rack.kind)
    checked = check_bundle(read_bundle(msgspec.json.encode(saved)), policy)
    assert checked.worker == worker


def test_no_default_policy_accepts_it(quoted_rack: QuotedRack) -> None:
    """A policy that does not name the root of the tests takes its quotes for no evidence at all."""
    for policy in (
        msgspec.structs.replace(quoted_rack.quoted_policy, quote_roots=()),
        msgspec.structs.replace(quoted_rack.policy, formats=("software", "sgx", "tdx")),
        quoted_rack.policy,
    ):
        with pytest.raises(EvidenceRefused) as caught:
            quoted_rack.connect(policy=policy)
        assert caught.value.code is Refusal.NOT_GENUINE


def test_another_enclave_is_not_accepted(quoted_rack: QuotedRack) -> None:
    """Each register of the enclave that differs from the policy's ends the handshake before PROOF."""
    policy = quoted_rack.quoted_policy
    for name, (value,) in policy.registers.items():
        changed = policy.registers | {name: ("5a" * (len(value) // 2),)}
        with pytest.raises(PolicyRefused, match=f"register {name} "):
            quoted_rack.connect(policy=msgspec.structs.replace(policy, registers=changed))


def test_an_old_evaluation_is_not_accepted(quoted_rack: QuotedRack) -> None:
    """A policy that asks for a newer TCB evaluation refuses what an older one calls up to date."""
    policy = msgspec.structs.replace(quoted_rack.quoted_policy, tcb_evaluation_least=18)
    with pytest.raises(PolicyRefused, match="lower than 18"):
        quoted_rack.connect(policy=policy)


@pytest.mark.parametrize("role", ["controller", "worker"])
def test_other_software_in_the_enclave_is_not_accepted(quoted_rack: QuotedRack, role: str) -> None:
    """The enclave's registers do not stand in for the measurement of a role."""
    policy = quoted_rack.quoted_policy
    measurements = {**policy.measurements, role: ("ab" * 32,)}
    with pytest.raises(PolicyRefused, match=f"the {role}'s measurement"):
        quoted_rack.connect(policy=msgspec.structs.replace(policy, measurements=measurements))
