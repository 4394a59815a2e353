"""The golden vectors fix the bytes of the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hetee_session_pair import bytes_of, one_frame
from hetee_simple_reader import SimpleFrameReader
from places import ROOT
from sectum.hetee.channel.record import Opener, Rekeying
from sectum.hetee.channel.schedule import HandshakeKeys
from sectum.hetee.channel.secret import Secret
from sectum.hetee.client.handshake import ClientShare
from sectum.hetee.data_plane.channel import worker_traffic
from sectum.hetee.errors import HeteeError
from sectum.hetee.verification.evidence import verify
from sectum.hetee.verification.software import SoftwareVerifier
from sectum.hetee.wire.header import VERSION
from sectum.hetee.wire.kinds import Kind

VECTORS = ROOT / "tests" / "vectors" / "hetee"


def cases(name: str) -> list[Any]:
    found = json.loads((VECTORS / f"{name}.json").read_text())
    assert found["version"] <= VERSION
    return [pytest.param(case, id=case["name"]) for case in found["cases"]]


def verdict_of(error: HeteeError | None) -> str:
    return error.code.name if error else "accepted"


@pytest.mark.parametrize("case", cases("frames"))
def test_frames(case: dict[str, Any]) -> None:
    """Each byte stream is read or refused as it was when the version was fixed; what is read is written back."""
    data, refused, read = bytes.fromhex(case["bytes"]), None, b""
    try:
        reader = SimpleFrameReader(frozenset(Kind))
        for frame in reader.feed(data):
            read += frame.header.pack() + bytes(frame.payload)
        reader.end()
    except HeteeError as error:
        refused = error
    assert verdict_of(refused) == case["verdict"]
    assert read == data or refused


@pytest.mark.parametrize("case", cases("key_schedule"))
def test_key_schedule(case: dict[str, Any]) -> None:
    """The same shares and transcripts give the same keys on both sides."""
    share = ClientShare()
    share._mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(case["mlkem_seed"]))
    share._x25519 = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["x25519_key"]))
    public = share._mlkem.public_key().public_bytes_raw() + share._x25519.public_key().public_bytes_raw()
    assert public.hex() == case["client_share"]
    handshake = share.handshake_secret(bytes.fromhex(case["controller_share"]))
    assert bytes_of(handshake).hex() == case["handshake"]
    keys = HandshakeKeys(handshake, bytes.fromhex(case["th1"]))
    assert keys.session_id.hex() == case["session_id"]
    for name in ("seal_k", "seal_c", "mac_k", "mac_c"):
        assert bytes_of(getattr(keys, name)).hex() == case[name]
    session = keys.session(bytes.fromhex(case["th4"]))
    assert bytes_of(session.control_c).hex() == case["control_c"]
    assert bytes_of(session.control_k).hex() == case["control_k"]
    for worker in case["workers"]:
        secret = session.worker(bytes.fromhex(case["vouch"]))
        assert bytes_of(secret).hex() == worker["secret"]
        assert [bytes_of(traffic).hex() for traffic in worker_traffic(secret)] == [worker["data_c"], worker["data_w"]]


@pytest.mark.parametrize("case", cases("records"))
def test_records(case: dict[str, Any]) -> None:
    """Each sequence of records opens to the same bytes, and is refused at the same place with the same code."""
    rekeying = Rekeying(records=case["rekey_records"])
    opener = Opener(Secret(bytes.fromhex(case["traffic"])), bytes.fromhex(case["session"]), rekeying)
    opened, refused = [], None
    try:
        for frame in case["frames"]:
            header, payload = one_frame(bytes.fromhex(frame))
            out = bytearray(len(payload) - 16)
            context = bytes.fromhex(case.get("context", "")) if header.kind is Kind.CHUNK else b""
            opener.open_into(header, payload, memoryview(out), context=context)
            opened.append(out.hex())
    except HeteeError as error:
        refused = error
    assert verdict_of(refused) == case["verdict"]
    assert opened == case["opened"]


@pytest.mark.parametrize("case", cases("evidence"))
def test_evidence(case: dict[str, Any]) -> None:
    """Each piece of evidence verifies, or is refused with the same code."""
    refused = None
    try:
        verifier = SoftwareVerifier([bytes.fromhex(case["root"])])
        claims = verify(bytes.fromhex(case["evidence"]), bytes.fromhex(case["nonce"]), [verifier], case["now_s"])
        assert claims.debug == (case["name"] == "made in debug mode")
    except HeteeError as error:
        refused = error
    assert verdict_of(refused) == case["verdict"]
