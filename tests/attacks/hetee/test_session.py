"""R5, R6, R9: evidence that is stale, foreign, wrongly measured or of a debugged service opens no session."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import sectum
from hetee_hostile_host import DOWN, UP, HostileHost, Seen
from hetee_rack import Rack, error_within, free_port, until
from sectum.errors import UsageError
from sectum.hetee.client import connect
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import EvidenceRefused, HandshakeRefused, HeteeError, PolicyRefused, Refusal, ServiceRefused
from sectum.hetee.launcher import RackPaths, provision
from sectum.hetee.signing import sign_worker
from sectum.hetee.verification.policy import Policy
from sectum.hetee.wire.kinds import Kind


@pytest.mark.parametrize("role", ["controller", "worker"])
def test_another_measurement_is_not_accepted(rack: Rack, role: str) -> None:
    """R6: a policy that names other software refuses controller or worker, though the evidence is genuine."""
    policy = rack.policy
    measurements = {**policy.measurements, role: ("ab" * 32,)}
    with pytest.raises(PolicyRefused) as caught:
        rack.connect(policy=rack.changed_policy(measurements=measurements))
    assert role in str(caught.value)


def test_another_root_is_not_trusted(rack: Rack, tmp_path: Path) -> None:
    """R6: a service endorsed by a manufacturer that the policy does not name is refused as not genuine."""
    other = RackPaths(tmp_path / "other")
    provision(other)
    with pytest.raises(EvidenceRefused) as caught:
        rack.connect(policy=rack.changed_policy(roots=(other.root.read_text().strip(),)))
    assert caught.value.code is Refusal.NOT_GENUINE


def test_software_evidence_has_to_be_allowed_by_name(rack: Rack) -> None:
    """A policy that names hardware formats only refuses this service."""
    with pytest.raises(HeteeError) as caught:
        rack.connect(policy=rack.changed_policy(formats=("sgx", "tdx")))
    assert caught.value.code in (Refusal.NOT_GENUINE, Refusal.POLICY)


def test_a_service_in_debug_mode_is_not_accepted(doubler: bytes) -> None:
    """R9: a controller in debug mode says so in its evidence, and a policy must allow that."""
    with Rack("cpu=1", arguments=["--debug"]) as rack:
        with pytest.raises(PolicyRefused) as caught:
            rack.connect()
        assert "debugging is on" in str(caught.value)
        with rack.connect(policy=rack.changed_policy(debug=True)) as session:
            assert session.load(doubler).inputs


def test_changed_software_is_not_accepted(
    rack: Rack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doubler: bytes
) -> None:
    """R6, R9: with one byte more in the package no controller runs it unsigned, and no client accepts it signed."""
    copy = tmp_path / "changed" / "sectum"
    shutil.copytree(Path(sectum.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    changed = copy / "hetee" / "worker" / "__init__.py"
    changed.write_text(changed.read_text() + "#\n")
    monkeypatch.syspath_prepend(copy.parent)  # roles are started with the path of their launcher
    directory = tmp_path / "rack"
    shutil.copytree(rack.paths.endorsement, directory / "endorsement")
    (directory / "endorsement").chmod(0o700)
    with pytest.raises(UsageError) as unsigned, Rack("cpu=1", directory=directory):
        pass
    assert "not in the signed reference manifest" in str(unsigned.value)
    sign_worker(RackPaths(directory).reference, package=copy)
    with Rack("cpu=1", directory=directory) as other, pytest.raises(PolicyRefused) as caught:
        other.connect(policy=rack.policy)
    assert "measurement" in str(caught.value)
    with rack.connect() as session:
        assert session.load(doubler).inputs


def test_who_is_not_admitted_is_not_served(tmp_path: Path, doubler: bytes) -> None:
    """A controller with a list of keys serves only those clients, and tells others that they are not admitted."""
    known = Ed25519PrivateKey.generate()
    listed = tmp_path / "admitted"
    listed.write_text(known.public_key().public_bytes_raw().hex() + "\n")
    with Rack("cpu=1", arguments=["--admit", str(listed)]) as rack:
        with rack.connect(identity=known) as session:
            assert session.load(doubler).inputs
        with pytest.raises(HandshakeRefused) as caught:
            rack.connect()
    assert caught.value.code is Refusal.NOT_ADMITTED


def recorded(rack: Rack, kind: Kind, direction: str) -> bytes:
    """A frame of an honest session."""
    with HostileHost(rack.port) as host:
        rack.connect(url=host.url).close()
        return next(seen.data for seen in host.seen if (seen.header.kind, seen.direction) == (kind, direction))


@pytest.mark.parametrize(("kind", "direction"), [(Kind.HELLO, UP), (Kind.ATTEST, DOWN), (Kind.PROOF, UP)])
def test_a_handshake_of_before_opens_nothing(rack: Rack, kind: Kind, direction: str) -> None:
    """A message replayed from an earlier handshake gives no session on either side."""
    old = recorded(rack, kind, direction)

    def replay(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
        return [old] if (seen.header.kind, seen.direction) == (kind, direction) else [seen.data]

    before = len(rack.events("vouched"))
    with HostileHost(rack.port, replay) as host, pytest.raises(HeteeError):
        rack.connect(url=host.url, timeout_s=3)
    assert len(rack.events("vouched")) == before


def test_evidence_ages(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence past its expiry is stale by the client's clock."""
    monkeypatch.setattr(Trust.__init__, "__defaults__", (lambda: time.time() + 3600,))
    with pytest.raises(EvidenceRefused) as caught:
        rack.connect()
    assert caught.value.code is Refusal.STALE


def test_a_restarted_controller_has_a_new_attestation_key(rack: Rack) -> None:
    """R8: the attestation key is made at each start and stored nowhere: after a restart another one signs."""
    before = signer(rack)
    assert signer(rack) == before
    pid = rack.launcher.controller.pid
    rack.launcher.controller.ask_to_end()
    until(lambda: rack.launcher.controller.pid not in (None, pid) and rack.ready(), 60)
    assert signer(rack) != before


def signer(rack: Rack) -> bytes:
    """The attestation key of the controller that answers."""
    with rack.connect(timeout_s=5) as session:
        assert session.trust.controller is not None
        return session.trust.controller.signer


def test_nobody_there_is_said_at_once() -> None:
    """A wrong address gives an error at once."""
    policy = Policy(formats=("software",), measurements={}, roots=("ab" * 32,))
    _, error, _ = error_within(2, lambda: connect(f"127.0.0.1:{free_port()}", policy))
    assert isinstance(error, ServiceRefused)
    assert error.code is Refusal.HOST_LOST
