"""Evidence as it is sent, and its subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from sectum.hetee.wire.messages import Message

NONCE_BYTES = 32

Format = Literal["software", "sgx", "tdx"]
Part = Annotated[bytes, Meta(max_length=32 << 10)]


class Evidence(Message, frozen=True):
    """Evidence as it is sent: a token that answers a nonce, and the chain from a root to the token's key."""

    format: Format
    token: Part
    chain: Annotated[tuple[Part, ...], Meta(max_length=4)] = ()


@dataclass(frozen=True)
class Subject:
    """The subject of evidence.

    Attributes:
        role: ``controller`` or ``worker``.
        version: version of its software.
        measurement: measurement of its software, 32 bytes.
        debug: whether it can be debugged.
        confinement: the steps of confinement that its process has taken.
    """

    role: str
    version: str
    measurement: bytes
    debug: bool = False
    confinement: tuple[str, ...] = ()
