"""A job's connection to the controller: asks for accelerators, hears what it has and when to give it back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import FrameReader, plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Accelerators, Deadline, Empty, Failure, Job, Message, encode
from sectum.hetee.wire.schemas import read

_ACCEPTED = frozenset({Kind.JOB_GRANT, Kind.JOB_REVOKE, Kind.ERROR})
_OPERATOR = "run the job as the user who started the rack; the log of the rack says more"


@dataclass(frozen=True)
class Granted:
    """The job has these accelerators."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Revoked:
    """The job must give back all that it has within this time."""

    grace_s: float


class Lease:
    """A connection for one job, which may ask again after it has given everything back.

    Args:
        path: Unix socket of the controller.

    Raises:
        ServiceRefused: ``CONTROLLER_LOST``, nobody listens there, or this user may not connect.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            detail = f"the controller does not listen on {path}: {error.strerror}"
            raise refusal(Refusal.CONTROLLER_LOST, detail, "start 'sectum hetee up', or name its --state") from None
        self._reader = FrameReader(_ACCEPTED, lambda memory, _whole: self._socket.recv_into(memory))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    def ask(self, job: Job) -> None:
        """Ask for accelerators.

        Raises:
            ServiceRefused: ``CONTROLLER_LOST``, the connection has ended.
        """
        self._send(Kind.JOB_REQUEST, job)

    def give_back(self) -> None:
        """Say that no process of the job is left.

        Raises:
            ServiceRefused: ``CONTROLLER_LOST``, the connection has ended.
        """
        self._send(Kind.JOB_RETURNED, Empty())

    def _send(self, kind: Kind, message: Message) -> None:
        try:
            self._socket.setblocking(True)
            self._socket.sendall(plain_frame(kind, encode(message)), socket.MSG_NOSIGNAL)
        except OSError:
            raise self._lost() from None

    def heard(self) -> Iterator[Granted | Revoked]:
        """What has come from the controller, without waiting for more.

        Raises:
            HeteeError: the controller refused the job, or the connection has ended.
        """
        self._socket.setblocking(False)
        while True:
            try:
                frame = self._reader.next()
            except BlockingIOError:
                return
            except OSError:
                frame = None
            if frame is None:
                raise self._lost()
            match read(frame.header.kind, frame.payload):
                case Accelerators(accelerators=names):
                    yield Granted(names)
                case Deadline(deadline_ms=grace_ms):
                    yield Revoked(grace_ms / 1e3)
                case Failure(code=code, detail=detail):
                    raise refusal(code, detail)

    @staticmethod
    def _lost() -> Exception:
        return refusal(Refusal.CONTROLLER_LOST, "the controller ended the job's connection", _OPERATOR)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
