"""Which message a type of frame carries, and its reader."""

from __future__ import annotations

from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Message, decode
from sectum.hetee.wire.state import State

SCHEMAS: dict[Kind, type[Message]] = {
    Kind.ACCEPT: messages.Accept,
    Kind.CONFIGURE: messages.Configure,
    Kind.VOUCH: messages.Vouch,
    Kind.QUEUED: messages.Queued,
    Kind.RESIZE: messages.Resize,
    Kind.RESIZED: messages.Resized,
    Kind.LOST: messages.Lost,
    Kind.TERMINATE: messages.Deadline,
    Kind.CLEANED: messages.Cleaned,
    Kind.DRAIN: messages.Deadline,
    Kind.FAIL: messages.Failure,
    Kind.CHALLENGE: messages.Challenge,
    Kind.EVIDENCE: messages.FreshEvidence,
    Kind.PING: messages.Ping,
    Kind.PONG: messages.Ping,
    Kind.ROUTE: messages.Empty,
    Kind.UNROUTE: messages.Empty,
    Kind.STATUS: messages.Empty,
    Kind.STATE: State,
    Kind.JOB_REQUEST: messages.Job,
    Kind.JOB_GRANT: messages.Accelerators,
    Kind.JOB_REVOKE: messages.Deadline,
    Kind.JOB_RETURNED: messages.Empty,
    Kind.STARTED: messages.Started,
    Kind.RELEASE: messages.Release,
    Kind.GRANT: messages.Accelerators,
    Kind.RETURNED: messages.Accelerators,
    Kind.WIPE: messages.Deadline,
    Kind.WIPED: messages.Wiped,
    Kind.HEARTBEAT: messages.Heartbeat,
    Kind.REVOKE: messages.Accelerators,
    Kind.ERROR: messages.Failure,
}
"""The schema of each type with a message as payload, but for the data channel. HELLO, ATTEST, PROOF have others."""


def read(kind: Kind, payload: bytes | bytearray | memoryview) -> Message:
    """Decode the message of a frame of this type.

    Raises:
        MessageRefused: as `decode`.
    """
    return decode(payload, SCHEMAS[kind])
