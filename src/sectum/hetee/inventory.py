"""What a pool says of its racks: JSON that clients read within limits, and do not believe."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sectum.errors import UsageError
from sectum.hetee.errors import Refusal, refusal

ANSWER_BYTES = 1 << 20
_TIMEOUT_S, _WHOLE_S = 3.0, 6.0
_EXAMPLE = "127.0.0.1:7626"

RackName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
_Kind = Annotated[str, Meta(max_length=16, pattern=r"^[a-z]+$")]
_Count = Annotated[int, Meta(ge=0, le=1 << 32)]
_Text = Annotated[str, Meta(max_length=2048, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class RackEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pool says of one rack.

    Attributes:
        name: of the machine.
        url: address for clients; empty until the rack has been ready.
        accelerators: number of each kind.
        free: number of each kind that nobody uses.
        healthy: whether a new client would be served.
        problems: why not.
        sessions: number of open sessions.
        waiting: number of sessions that wait for an enclave.
        restarts: times that the rack was started again.
    """

    name: RackName
    url: Annotated[str, Meta(max_length=300, pattern=r"^[!-~]*$")]
    accelerators: dict[_Kind, _Count] = {}
    free: dict[_Kind, _Count] = {}
    healthy: bool = False
    problems: Annotated[tuple[_Text, ...], Meta(max_length=16)] = ()
    sessions: _Count = 0
    waiting: _Count = 0
    restarts: _Count = 0


class Inventory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All racks of a pool."""

    pool: Literal["local", "ray"]
    racks: Annotated[tuple[RackEntry, ...], Meta(max_length=256)]
    kind: Literal["sectum-hetee-racks-1"] = "sectum-hetee-racks-1"


def read_inventory(data: bytes) -> Inventory:
    """Read an inventory from JSON.

    Raises:
        ServiceRefused: ``HOST_LOST``, it is malformed or too large.
    """
    why = f"{len(data)} bytes, the limit is {ANSWER_BYTES}" if len(data) > ANSWER_BYTES else ""
    try:
        if not why:
            return msgspec.json.decode(data, type=Inventory)
    except (ValueError, RecursionError) as error:
        why = str(error)
    detail = f"this is not an inventory that this release reads: {why}"
    raise refusal(Refusal.HOST_LOST, detail, "check the address of the pool")


def ask_racks(address: str) -> tuple[str, ...]:
    """The addresses of the racks that a pool calls healthy; of all with an address, if it calls none so.

    Args:
        address: ``HOST:PORT`` for operators, as given to ``sectum hetee up --pool ray``.

    Raises:
        ServiceRefused: ``HOST_LOST``, no pool answers there.
        UsageError: the address is malformed.
    """
    data = _get(address, "/racks")
    if data is None:
        detail = f"no pool answers at {address}"
        raise refusal(Refusal.HOST_LOST, detail, "check that 'sectum hetee up --pool ray' runs there")
    known = [rack for rack in read_inventory(data).racks if rack.url]
    return tuple(rack.url for rack in known if rack.healthy) or tuple(rack.url for rack in known)


def ask_state(address: str) -> dict[str, Any] | None:
    """What the host of a rack, or a pool, tells operators at ``/state``; None if nobody answers.

    Raises:
        UsageError: the address is malformed.
    """
    data = _get(address, "/state")
    try:
        found = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and ("host" in found or "racks" in found) else None


def _get(address: str, path: str) -> bytes | None:
    """The content at a path, or None if there is none. It takes no longer than a few seconds, whoever answers."""
    name, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal()):
        raise UsageError(f"'{address}' is not an address: write for example {_EXAMPLE}")
    try:
        connection = HTTPConnection(name.strip("[]"), int(port), timeout=_TIMEOUT_S)
    except HTTPException:
        raise UsageError(f"'{address}' is not an address: write for example {_EXAMPLE}") from None
    try:
        connection.connect()
    except (OSError, ValueError):
        return None
    late = threading.Timer(_WHOLE_S, _cut, (connection.sock,))
    late.start()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        data = answer.read(ANSWER_BYTES + 1)
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        late.cancel()
        connection.close()
    return data if answer.status == 200 else None


def _cut(peer: socket.socket) -> None:
    """End a connection to somebody who sends byte by byte."""
    with suppress(OSError):  # it has ended
        peer.shutdown(socket.SHUT_RDWR)
