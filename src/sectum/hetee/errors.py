"""All refusals of the service.

A refusal has a code that is sent to the peer and is the same on both sides; ``docs/spec/wire-format.md`` lists all
codes with their scope. The classes below group the codes, for callers and for exit codes::

    SectumError
    └── HeteeError                  40   base class; its ``code`` says which refusal it is
        ├── FrameRefused            41   01xx: the bytes are not a frame of this protocol
        ├── HandshakeRefused        42   02xx: the handshake failed
        ├── RecordRefused           43   03xx: a record is not the next authentic one of its session
        ├── MessageRefused          44   04xx: a record was opened, but holds no valid message
        ├── StreamRefused           45   05xx: a model or a batch broke the rules of streams
        ├── ServiceRefused          46   06xx: the service cannot serve, or one of its roles is gone
        ├── WorkRefused             47   07xx: a model or a batch could not be processed
        ├── EvidenceRefused         48   0801-0803: the evidence is not genuine, not fresh or not chained to a root
        │   └── CleaningUnproven         there is no record of the end of an enclave (0805)
        └── PolicyRefused           49   0804: the evidence is genuine, but the owner's policy does not accept it
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import ClassVar

from sectum.errors import SectumError


class Scope(Enum):
    """What ends with a refusal."""

    CONNECTION = "c"
    STREAM = "s"
    REQUEST = "r"


class Refusal(IntEnum):
    """Codes of refusals, each with its scope and advice for the user."""

    scope: Scope
    advice: str

    def __new__(cls, code: int, scope: str, advice: str) -> Refusal:
        """Make a member with its scope and advice."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.scope = Scope(scope)
        member.advice = advice
        return member

    BAD_MAGIC = 0x0101, "c", "the peer does not speak this protocol; check host and port"
    BAD_VERSION = 0x0102, "c", "use the same version of sectum on both sides"
    UNKNOWN_TYPE = 0x0103, "c", "use the same version of sectum on both sides"
    BAD_FLAGS = 0x0104, "c", "use the same version of sectum on both sides"
    BAD_LENGTH = 0x0105, "c", "the peer is faulty or hostile; connect again"
    BAD_FIELD = 0x0106, "c", "the peer is faulty or hostile; connect again"
    BAD_CHUNKING = 0x0107, "c", "the peer is faulty or hostile; connect again"
    TRUNCATED = 0x0108, "c", "the connection was cut; connect again"
    UNEXPECTED = 0x0109, "c", "the peer is faulty or hostile; connect again"

    BAD_SUITE = 0x0201, "c", "use the same version of sectum on both sides"
    BAD_SHARE = 0x0202, "c", "the peer is faulty or hostile; connect again"
    HANDSHAKE_UNOPENED = 0x0203, "c", "the handshake was modified in transit; connect again over another network"
    BAD_FINISHED = 0x0204, "c", "the handshake was modified in transit; connect again over another network"
    BAD_SIGNATURE = 0x0205, "c", "the client does not hold the identity key that it names"
    NOT_ADMITTED = 0x0206, "c", "ask the operator to admit your public key"
    HANDSHAKE_LATE = 0x0207, "c", "the peer or the network is too slow; connect again"

    WRONG_SESSION = 0x0301, "c", "frames of different sessions were mixed up in transit; connect again"
    WRONG_EPOCH = 0x0302, "c", "a record was replayed or removed in transit; connect again"
    REPLAYED = 0x0303, "c", "a record was replayed in transit; connect again"
    GAP = 0x0304, "c", "a record was removed or reordered in transit; connect again"
    NOT_AUTHENTIC = 0x0305, "c", "a record was modified in transit; connect again"
    EXHAUSTED = 0x0306, "c", "connect again: a new session has new keys"
    WIPED = 0x0307, "c", "the session has ended; connect again"

    MALFORMED = 0x0401, "c", "use the same version of sectum on both sides"
    BAD_TENSOR = 0x0402, "s", "send shapes, dtypes and sizes that agree"

    CHUNK_ORDER = 0x0501, "c", "the peer is faulty; connect again"
    CHUNK_SIZE = 0x0502, "c", "the peer is faulty; connect again"
    UNKNOWN_STREAM = 0x0503, "c", "the peer is faulty; connect again"
    STREAM_REUSED = 0x0504, "c", "the peer is faulty; connect again"
    CREDIT_EXCEEDED = 0x0505, "c", "send no more at a time than the worker granted"
    TOO_MANY_STREAMS = 0x0506, "c", "wait for answers before sending more"
    INTERLEAVED = 0x0507, "c", "finish one stream before opening the next"

    BUSY = 0x0601, "r", "try later, or wait longer"
    NO_ACCELERATOR = 0x0602, "r", "ask for a kind and number that the service has"
    DRAINING = 0x0603, "c", "the service is being stopped; try later"
    IDLE = 0x0604, "c", "connect again"
    WORKER_LOST = 0x0605, "r", "load the model and send the batch again: the service makes a new enclave"
    CONTROLLER_LOST = 0x0606, "c", "connect again; the service restarts by itself"
    HOST_LOST = 0x0607, "c", "connect again; the service restarts by itself"
    NO_ROUTE = 0x0608, "r", "wait until the controller has vouched for a worker"
    INTERNAL = 0x0609, "c", "see the log of that role"

    MODEL_REFUSED = 0x0701, "s", "check the model with sectum predict"
    DIGEST_DIFFERS = 0x0702, "s", "send the model again"
    NO_MODEL = 0x0703, "s", "load the model first"
    INPUT_REFUSED = 0x0704, "s", "send what the model's inputs need"
    DEADLINE = 0x0705, "s", "allow more time, or send smaller batches"
    CANCELLED = 0x0706, "s", "nothing to do: the client asked for it"
    COMPUTE_FAILED = 0x0707, "s", "check the model with sectum predict"

    EVIDENCE_MALFORMED = 0x0801, "c", "use the same version of sectum on both sides"
    NOT_GENUINE = 0x0802, "c", "do not send data there, unless you have a reason to trust its root"
    STALE = 0x0803, "c", "do not send data there; if the clocks differ, correct them"
    UNPROVEN = 0x0805, "c", "treat what you sent as still there; ask the operator for the log of the controller"
    POLICY = 0x0804, "c", "do not send data there, unless you have a reason to change the policy"


class HeteeError(SectumError):
    """A role of the service refused something.

    Attributes:
        code: the refusal; its ``scope`` says what ends.
        detail: what happened and what was expected, without secrets.
    """

    exit_code: ClassVar[int] = 40

    def __init__(self, code: Refusal, detail: str, advice: str = "") -> None:
        super().__init__(f"{detail} [{code.name}]: {advice or code.advice}")
        self.code = code
        self.detail = detail


class FrameRefused(HeteeError):
    """The bytes are not a frame of this protocol, or not one that this peer may send now."""

    exit_code = 41


class HandshakeRefused(HeteeError):
    """The handshake failed."""

    exit_code = 42


class RecordRefused(HeteeError):
    """A record is not the next authentic one of its session."""

    exit_code = 43


class MessageRefused(HeteeError):
    """A record was opened, but holds no valid message."""

    exit_code = 44


class StreamRefused(HeteeError):
    """A model or a batch broke the rules of streams."""

    exit_code = 45


class ServiceRefused(HeteeError):
    """The service cannot serve, or one of its roles is gone."""

    exit_code = 46


class WorkRefused(HeteeError):
    """A model or a batch could not be processed."""

    exit_code = 47


class EvidenceRefused(HeteeError):
    """The evidence is not genuine, not fresh, or not chained to a trusted root."""

    exit_code = 48


class CleaningUnproven(EvidenceRefused):
    """A session ended without a signed record of the end of each of its enclaves."""


class PolicyRefused(HeteeError):
    """The evidence is genuine, but the owner's policy does not accept it."""

    exit_code = 49


_CLASSES: dict[int, type[HeteeError]] = {
    0x01: FrameRefused,
    0x02: HandshakeRefused,
    0x03: RecordRefused,
    0x04: MessageRefused,
    0x05: StreamRefused,
    0x06: ServiceRefused,
    0x07: WorkRefused,
    0x08: EvidenceRefused,
}


def refusal(code: Refusal, detail: str, advice: str = "") -> HeteeError:
    """Make the error for a code, of the class that the code belongs to.

    Args:
        code: the refusal.
        detail: what happened and what was expected, without secrets: it is shown to users and sent to the peer.
        advice: what to do, if it differs from the code's usual advice.
    """
    special = {Refusal.POLICY: PolicyRefused, Refusal.UNPROVEN: CleaningUnproven}
    return special.get(code, _CLASSES[code >> 8])(code, detail, advice)
