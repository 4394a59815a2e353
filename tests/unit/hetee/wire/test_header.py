"""Headers: every rule of the specification has a frame that breaks it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from places import ROOT
from sectum.hetee.data_plane.chunk_sizes import CHUNK_BYTES_USUAL, cut_for_company, usual_chunk_bytes
from sectum.hetee.errors import FrameRefused, Refusal
from sectum.hetee.wire.header import (
    HEADER_BYTES,
    Header,
    chunks_needed,
    parse,
)
from sectum.hetee.wire.kinds import (
    ALLOWED,
    CHUNK_BYTES,
    LENGTHS,
    STREAM_BYTES,
    UPSTREAM,
    Kind,
    Plane,
    Role,
)

SPEC = ROOT / "docs" / "spec" / "wire-format.md"
SESSION = bytes(range(16))
MIB = 1 << 20


def valid(kind: Kind) -> Header:
    """A valid header of each type."""
    session = SESSION if kind.sealed or kind in (Kind.ATTEST, Kind.PROOF) else bytes(16)
    header = Header(kind, LENGTHS[kind][0], session=session)
    if kind in (Kind.CODE, Kind.BATCH, Kind.RESULT, Kind.CHUNK):
        header = header._replace(stream=1, chunks=1, total=1)
    if kind in (Kind.LOADED, Kind.RECEIPT, Kind.REFUSED, Kind.CANCEL):
        header = header._replace(stream=7)
    return header


@pytest.mark.parametrize("kind", Kind)
def test_written_headers_are_read_back(kind: Kind) -> None:
    """Parsing what was packed gives the same fields, and packing that the same bytes."""
    header = valid(kind)
    data = header.pack()
    assert len(data) == HEADER_BYTES
    assert parse(data) == header


@dataclass
class Broken:
    """A header with one fault."""

    name: str
    data: bytes
    code: Refusal


def put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def faults() -> list[Broken]:
    """One fault for each rule, with the bytes at the offsets that the specification names."""
    ping, chunk, hello = (valid(kind).pack() for kind in (Kind.PING, Kind.CHUNK, Kind.HELLO))
    batch, error, proof = (valid(kind).pack() for kind in (Kind.BATCH, Kind.ERROR, Kind.PROOF))
    number = (5).to_bytes(8)
    return [
        Broken("magic", put(ping, 0, b"SHTF"), Refusal.BAD_MAGIC),
        Broken("version 0", put(ping, 4, b"\0"), Refusal.BAD_VERSION),
        Broken("version 1, the one before", put(ping, 4, b"\1"), Refusal.BAD_VERSION),
        Broken("version 3", put(ping, 4, b"\3"), Refusal.BAD_VERSION),
        Broken("type 0", put(ping, 5, b"\0"), Refusal.UNKNOWN_TYPE),
        Broken("type 0x1D", put(ping, 5, b"\x1d"), Refusal.UNKNOWN_TYPE),
        Broken("type 0x2c, WAKE of version 1", put(ping, 5, b"\x2c"), Refusal.UNKNOWN_TYPE),
        Broken("type 0xff", put(ping, 5, b"\xff"), Refusal.UNKNOWN_TYPE),
        *(Broken(f"flag {bit}", put(ping, 6, (1 << bit).to_bytes(2)), Refusal.BAD_FLAGS) for bit in range(16)),
        Broken("shorter than a tag", put(ping, 8, (15).to_bytes(4)), Refusal.BAD_LENGTH),
        Broken("long message", put(ping, 8, ((64 << 10) + 1).to_bytes(4)), Refusal.BAD_LENGTH),
        Broken("longest length", put(ping, 8, b"\xff" * 4), Refusal.BAD_LENGTH),
        Broken("empty chunk", put(chunk, 8, (16).to_bytes(4)), Refusal.BAD_LENGTH),
        Broken("large chunk", put(chunk, 8, (MIB + 17).to_bytes(4)), Refusal.BAD_LENGTH),
        Broken("short hello", put(hello, 8, (1249).to_bytes(4)), Refusal.BAD_LENGTH),
        Broken("long hello", put(hello, 8, (1251).to_bytes(4)), Refusal.BAD_LENGTH),
        Broken("epoch of a plain frame", put(error, 12, b"\0\0\0\1"), Refusal.BAD_FIELD),
        Broken("sequence of a plain frame", put(error, 32, number), Refusal.BAD_FIELD),
        Broken("sealed without session", put(ping, 16, bytes(16)), Refusal.BAD_FIELD),
        Broken("proof without session", put(proof, 16, bytes(16)), Refusal.BAD_FIELD),
        Broken("hello with session", put(hello, 16, SESSION), Refusal.BAD_FIELD),
        Broken("inside with session", put(valid(Kind.STARTED).pack(), 16, SESSION), Refusal.BAD_FIELD),
        Broken("ping with stream", put(ping, 40, number), Refusal.BAD_FIELD),
        Broken("batch without stream", put(batch, 40, bytes(8)), Refusal.BAD_FIELD),
        Broken("receipt without stream", put(valid(Kind.RECEIPT).pack(), 40, bytes(8)), Refusal.BAD_FIELD),
        Broken("batch with chunk index", put(batch, 48, b"\0\0\0\1"), Refusal.BAD_FIELD),
        Broken("ping with chunks", put(ping, 52, b"\0\0\0\1"), Refusal.BAD_FIELD),
        Broken("ping with total", put(ping, 56, number), Refusal.BAD_FIELD),
        Broken("total over the limit", put(batch, 56, (STREAM_BYTES + 1).to_bytes(8)), Refusal.BAD_CHUNKING),
        Broken("no chunks for bytes", put(batch, 52, bytes(4)), Refusal.BAD_CHUNKING),
        Broken("chunks for no bytes", put(batch, 56, bytes(8)), Refusal.BAD_CHUNKING),
        Broken("too few chunks", put(batch, 56, (MIB + 1).to_bytes(8)), Refusal.BAD_CHUNKING),
        Broken("too many chunks", put(put(batch, 56, (8192).to_bytes(8)), 52, (3).to_bytes(4)), Refusal.BAD_CHUNKING),
        Broken("chunk beyond the last", put(chunk, 48, b"\0\0\0\1"), Refusal.BAD_CHUNKING),
        Broken("63 bytes", ping[:63], Refusal.TRUNCATED),
        Broken("65 bytes", ping + b"\0", Refusal.TRUNCATED),
        Broken("nothing", b"", Refusal.TRUNCATED),
    ]


@pytest.mark.parametrize("broken", faults(), ids=lambda broken: broken.name)
def test_a_broken_header_is_refused_with_its_code(broken: Broken) -> None:
    """Each rule of the format is enforced, with the refusal that the specification gives it."""
    with pytest.raises(FrameRefused) as caught:
        parse(broken.data)
    assert caught.value.code is broken.code


def test_limits_are_inclusive() -> None:
    """A header just within the limits is accepted."""
    largest = Header(Kind.CHUNK, CHUNK_BYTES + 16, session=SESSION, stream=1, chunk=2047, chunks=2048, total=2 << 30)
    smallest = Header(Kind.BATCH, 16, session=SESSION, stream=(1 << 64) - 1, chunks=2, total=4097)
    empty = Header(Kind.RESULT, 16, epoch=(1 << 32) - 1, session=SESSION, sequence=(1 << 64) - 1, stream=1)
    for header in (largest, smallest, empty):
        assert parse(header.pack()) == header


def test_the_table_of_types_is_the_code() -> None:
    """Every type of the specification exists with its number and class, and there is no other."""
    text = SPEC.read_text().split("## Types")[1].split("## Sizes")[0]
    rows = {(int(number, 16), name) for number, name in re.findall(r"0x([0-9a-f]{2}) ([A-Z_]{4,})", text)}
    assert rows == {(int(kind), kind.name) for kind in Kind}
    for plane, low, high in re.findall(r"\| ([A-Z]+) 0x([0-9a-f]{2})-0x([0-9a-f]{2})", text):
        assert {kind for kind in Kind if int(low, 16) <= kind <= int(high, 16)} == {
            kind for kind in Kind if kind.plane is Plane[plane]
        }


def test_every_type_has_a_sender() -> None:
    """Every type has a sender, and no role sends to itself."""
    assert frozenset().union(*ALLOWED.values()) == frozenset(Kind)
    assert all(sender is not receiver for sender, receiver in ALLOWED)


def test_a_client_sends_nothing_that_is_not_sealed_after_the_handshake() -> None:
    """A host forwards only handshake frames and sealed frames upstream."""
    assert {kind for kind in UPSTREAM if not kind.sealed} == {Kind.HELLO, Kind.PROOF}
    assert all(kind.sealed for kind in ALLOWED[Role.WORKER, Role.CLIENT])


@pytest.mark.parametrize(
    ("total", "differs"),
    [(0, False), (1, False), (CHUNK_BYTES_USUAL, False), (CHUNK_BYTES_USUAL + 1, True), (CHUNK_BYTES, True),
     (3 * CHUNK_BYTES + 1, False), (3 * CHUNK_BYTES, True), (9 * CHUNK_BYTES, False)],
)  # fmt: skip
def test_chunks_tell_whether_a_stream_is_alone(total: int, differs: bool) -> None:
    """A worker sees that a client has several batches in flight, wherever that makes a difference to the chunks."""
    alone, company = (chunks_needed(total, usual_chunk_bytes(total, alone=alone)) for alone in (True, False))
    assert not cut_for_company(total, alone)
    assert cut_for_company(total, company) == differs == (alone != company)
