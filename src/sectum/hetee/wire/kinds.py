"""Types of frames: who may send them, how large they may be, which header fields they use."""

from __future__ import annotations

from enum import Enum, IntEnum

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

TAG_BYTES = 16
MESSAGE_BYTES = 64 * KIB
CHUNK_BYTES = MIB
CHUNK_BYTES_LEAST = 4 * KIB
STREAM_BYTES = 2 * GIB
HELLO_BYTES = 2 + 32 + 1184 + 32


class Role(Enum):
    """The roles that send frames."""

    CLIENT = "client"
    HOST = "host"
    CONTROLLER = "controller"
    WORKER = "worker"


class Plane(Enum):
    """Classes of frame types: they determine where a frame goes and how it is protected."""

    HANDSHAKE = 0x0
    CONTROL = 0x1
    DATA = 0x2
    HOST_LINK = 0x3
    WORKER_LINK = 0x4
    ERROR = 0x7


class Kind(IntEnum):
    """Types of frames.

    Attributes:
        plane: the class that this type belongs to.
        sealed: whether the payload is a record, protected by a traffic key.
    """

    plane: Plane
    sealed: bool

    def __new__(cls, code: int) -> Kind:
        """Make a member with its class."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.plane = Plane(code >> 4)
        member.sealed = 0x10 <= code <= 0x2F
        return member

    HELLO = 0x01
    ATTEST = 0x02
    PROOF = 0x03

    ACCEPT = 0x10
    CONFIGURE = 0x11
    VOUCH = 0x12
    QUEUED = 0x13
    LOST = 0x14
    TERMINATE = 0x15
    CLEANED = 0x16
    DRAIN = 0x17
    FAIL = 0x18
    CHALLENGE = 0x19
    EVIDENCE = 0x1A
    RESIZE = 0x1B
    RESIZED = 0x1C
    PING = 0x1E
    PONG = 0x1F

    READY = 0x20
    CODE = 0x21
    BATCH = 0x22
    LOADED = 0x23
    RESULT = 0x24
    RECEIPT = 0x25
    REFUSED = 0x26
    CANCEL = 0x27
    CREDIT = 0x28
    CHUNK = 0x29
    FINISH = 0x2A
    FINISHED = 0x2B
    UNLOAD = 0x2D
    PING_WORKER = 0x2E
    PONG_WORKER = 0x2F

    ROUTE = 0x30
    UNROUTE = 0x31
    STATUS = 0x32
    STATE = 0x33
    JOB_REQUEST = 0x34
    JOB_GRANT = 0x35
    JOB_REVOKE = 0x36
    JOB_RETURNED = 0x37

    STARTED = 0x40
    RELEASE = 0x41
    GRANT = 0x42
    RETURNED = 0x43
    WIPE = 0x44
    WIPED = 0x45
    HEARTBEAT = 0x46
    REVOKE = 0x47

    ERROR = 0x7F


def _kinds(names: str) -> frozenset[Kind]:
    return frozenset(Kind[name] for name in names.split())


# The types that a receiver accepts from a sender: (sender, receiver).
ALLOWED: dict[tuple[Role, Role], frozenset[Kind]] = {
    (Role.CLIENT, Role.CONTROLLER): _kinds("HELLO PROOF CONFIGURE RESIZE TERMINATE CHALLENGE PING PONG"),
    (Role.CONTROLLER, Role.CLIENT): _kinds(
        "ATTEST ACCEPT VOUCH RESIZED QUEUED LOST CLEANED DRAIN FAIL EVIDENCE PING PONG ERROR"
    ),
    (Role.CLIENT, Role.WORKER): _kinds("CODE BATCH CANCEL CHUNK FINISH UNLOAD PING_WORKER PONG_WORKER"),
    (Role.WORKER, Role.CLIENT): _kinds(
        "READY LOADED RESULT RECEIPT REFUSED CREDIT CHUNK FINISHED PING_WORKER PONG_WORKER"
    ),
    (Role.HOST, Role.CLIENT): _kinds("ERROR"),
    (Role.HOST, Role.CONTROLLER): _kinds("STATUS JOB_REQUEST JOB_RETURNED ERROR"),
    (Role.CONTROLLER, Role.HOST): _kinds("ROUTE UNROUTE STATE JOB_GRANT JOB_REVOKE ERROR"),
    (Role.WORKER, Role.CONTROLLER): _kinds("STARTED RETURNED WIPED HEARTBEAT"),
    (Role.CONTROLLER, Role.WORKER): _kinds("RELEASE GRANT REVOKE WIPE"),
}

# Frames that a host forwards, by direction.
UPSTREAM = ALLOWED[Role.CLIENT, Role.CONTROLLER] | ALLOWED[Role.CLIENT, Role.WORKER]
FROM_CONTROLLER = ALLOWED[Role.CONTROLLER, Role.CLIENT] | ALLOWED[Role.CONTROLLER, Role.HOST]
DOWNSTREAM = ALLOWED[Role.CONTROLLER, Role.CLIENT] | ALLOWED[Role.WORKER, Role.CLIENT] | ALLOWED[Role.HOST, Role.CLIENT]

# Openings announce chunks. A chunk repeats the numbers of its opening.
OPENINGS = _kinds("CODE BATCH RESULT")
CHUNKED = OPENINGS | _kinds("CHUNK")
STREAMED = CHUNKED | _kinds("LOADED RECEIPT REFUSED CANCEL")
INDEXED = _kinds("ROUTE UNROUTE")


def length_limits(kind: Kind) -> tuple[int, int]:
    """The smallest and largest payload of this type, in bytes."""
    if kind is Kind.HELLO:
        return HELLO_BYTES, HELLO_BYTES
    if kind is Kind.CHUNK:
        return TAG_BYTES + 1, TAG_BYTES + CHUNK_BYTES
    return (TAG_BYTES if kind.sealed else 0), MESSAGE_BYTES


LENGTHS = {kind: length_limits(kind) for kind in Kind}
