"""Messages: one encoding, exact schemas."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from places import ROOT
from sectum.hetee.data_plane.messages import SCHEMAS, BatchOpening, Ready, Tensor, read
from sectum.hetee.errors import MessageRefused, Refusal
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Configure, Deadline, Failure, Ping, encode

SPEC = ROOT / "docs" / "spec" / "wire-format.md"
PLAIN = {Kind.HELLO, Kind.ATTEST, Kind.PROOF, Kind.CHUNK}


def pack(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def test_every_type_with_a_message_has_a_schema() -> None:
    """Only the handshake and chunks have payloads of their own."""
    assert set(SCHEMAS) == set(Kind) - PLAIN


def test_the_table_of_messages_is_the_code() -> None:
    """The specification names the fields of each message in their order."""
    text = SPEC.read_text().split("| message | fields |")[1].split("*Slot*")[0]
    rows = 0
    for names, fields in re.findall(r"^\| ([A-Z_, ]+) \| (.*) \|$", text, re.M):
        # Fields of what is listed in brackets belong to another schema.
        wanted = re.findall(r"`([a-z_0-9]+)`", re.sub(r"\[.*?\]|\(.*?\)", "", fields))
        for name in names.split(", "):
            assert list(SCHEMAS[Kind[name]].__struct_fields__) == wanted, name
            rows += 1
    assert rows == len(SCHEMAS) - 2  # the two kinds of PING_WORKER and PONG_WORKER are those of PING and PONG


def test_defaults_are_left_out_and_come_back() -> None:
    """A field that has its default takes no bytes."""
    message = Configure(accelerator="cpu")
    assert encode(message) == pack({"accelerator": "cpu"})
    assert read(Kind.CONFIGURE, encode(message)) == message


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.PING, b""),
        (Kind.PING, b"\xc1"),
        (Kind.PING, pack(7)),
        (Kind.PING, pack([7])),
        (Kind.PING, pack({})),
        (Kind.PING, pack({"number": "7"})),
        (Kind.PING, pack({"number": 7.0})),
        (Kind.PING, pack({"number": True})),
        (Kind.PING, pack({"number": -1})),
        (Kind.PING, pack({"number": 1 << 63})),
        (Kind.PING, pack({"number": 7, "more": 1})),
        (Kind.PING, pack({"number": 7}) + b"\0"),
        (Kind.PING, pack({"number": 7})[:-1]),
        (Kind.PING, b"\x82" + pack("number") + b"\1" + pack("number") + b"\1"),
        (Kind.PING, b"\x81" + pack("number") + b"\xcd\x00\x07"),
        (Kind.PING, b"\xde\x00\x01" + pack("number") + b"\7"),
        (Kind.CONFIGURE, pack({"accelerator": "cpu", "count": 1})),
        (Kind.CONFIGURE, pack({"wait_ms": 5, "accelerator": "cpu"})),
        (Kind.CONFIGURE, pack({"accelerator": "abacus"})),
        (Kind.CONFIGURE, pack({"accelerator": "cpu", "count": 33})),
        (Kind.CONFIGURE, pack({"accelerator": "cpu", "wait_ms": 600_001})),
        (Kind.CANCEL, pack(None)),
        (Kind.CREDIT, pack({"credit_bytes": 0})),
        (Kind.FAIL, pack({"code": 0x0999, "detail": ""})),
        (Kind.FAIL, pack({"code": 0x0601, "detail": "x" * 513})),
        (Kind.FAIL, b"\x82" + pack("code") + pack(0x0601) + pack("detail") + b"\xa1\xff"),
        (Kind.CODE, pack({"format": "pickle", "sha256": bytes(32)})),
        (Kind.CODE, pack({"format": "onnx", "sha256": bytes(31)})),
        (Kind.GRANT, pack({"accelerators": ["cpu0"] * 65})),
        (Kind.FINISHED, b"\x81" * 60_000),
        (Kind.STATE, b"\x91" * 60_000),
    ],
)
def test_anything_but_the_one_encoding_is_refused(kind: Kind, payload: bytes) -> None:
    """Other types, ranges, orders, spellings, additions and depths are all malformed."""
    with pytest.raises(MessageRefused) as caught:
        read(kind, payload)
    assert caught.value.code is Refusal.MALFORMED


def test_refusals_do_not_quote_the_message() -> None:
    """The text of an error, which is logged and sent, holds nothing of the message."""
    payload = pack({"code": 0x0601, "detail": 5, "secret-field": "secret-value"})
    with pytest.raises(MessageRefused) as caught:
        read(Kind.FAIL, payload)
    assert "secret" not in str(caught.value)


def test_the_largest_messages_fit_into_a_frame() -> None:
    """Batches of 64 images in each of several tensors are described within the limit of a message."""
    tensor = Tensor(name="x" * 256, dtype="uint8", shape=(64,), encoding="jpeg", sizes=(1 << 20,) * 64)
    assert len(encode(BatchOpening(model=bytes(32), tensors=(tensor,) * 64, deadline_ms=1))) < 64 << 10


def test_messages_show_themselves() -> None:
    """Messages of the same fields are equal, and cannot be changed."""
    assert Ping(number=1) == Ping(number=1) != Ping(number=2)
    assert repr(Deadline(deadline_ms=5)) == "Deadline(deadline_ms=5)"
    with pytest.raises(AttributeError):
        Ready(index=0, credit_bytes=1, open_streams=1, accelerators=()).index = 3  # type: ignore[misc]
    assert Failure(code=Refusal.BUSY, detail="")
