"""A job's connection to the controller: what comes is read with limits, and an end is an error with advice."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hetee_session_pair import one_frame
from sectum.hetee.errors import FrameRefused, HeteeError, Refusal
from sectum.hetee.jobs.lease import Granted, Lease, Revoked
from sectum.hetee.jobs.processes import variables
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Accelerators, Deadline, Failure, Job, Message, encode


def frame(kind: Kind, message: Message) -> bytes:
    """A frame of the controller."""
    return plain_frame(kind, encode(message))


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Lease, socket.socket]]:
    """A job's end of a connection, and the controller's."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        lease = Lease(tmp_path / "socket")
        controller, _ = listener.accept()
    with controller:
        yield lease, controller
    lease.close()


def test_what_the_controller_says_is_heard_in_order(ends: tuple[Lease, socket.socket]) -> None:
    """Frames that come together, and one that comes in pieces, are each heard once and whole."""
    lease, controller = ends
    assert list(lease.heard()) == []
    granted = frame(Kind.JOB_GRANT, Accelerators(accelerators=("cpu:0", "cpu:1")))
    controller.sendall(granted + frame(Kind.JOB_REVOKE, Deadline(deadline_ms=2500)) + granted[:70])
    assert list(lease.heard()) == [Granted(("cpu:0", "cpu:1")), Revoked(2.5)]
    controller.sendall(granted[70:])
    assert list(lease.heard()) == [Granted(("cpu:0", "cpu:1"))]


def test_a_job_says_what_it_needs_and_that_it_has_ended(ends: tuple[Lease, socket.socket]) -> None:
    """JOB_REQUEST carries the wish, JOB_RETURNED nothing."""
    lease, controller = ends
    wish = Job(accelerator="paced", count=3, priority=2)
    lease.ask(wish)
    assert controller.recv(1024) == frame(Kind.JOB_REQUEST, wish)
    lease.give_back()
    assert one_frame(controller.recv(1024)).header.kind is Kind.JOB_RETURNED


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Kind.ERROR, Failure(code=Refusal.DRAINING, detail="it stops")), Refusal.DRAINING),
        (b"", Refusal.CONTROLLER_LOST),
        (b"x" * 64, Refusal.BAD_MAGIC),
        (plain_frame(Kind.STATE, b"\x80"), Refusal.UNEXPECTED),
        (plain_frame(Kind.JOB_GRANT, b"\xc1"), Refusal.MALFORMED),
    ],
    ids=["refused", "ended", "no frame", "another frame", "no message"],
)
def test_what_ends_a_lease_is_an_error(ends: tuple[Lease, socket.socket], sent: bytes, code: Refusal) -> None:
    """A refusal, an end, and what the protocol does not have each raise an error with its code."""
    lease, controller = ends
    controller.sendall(sent)
    controller.close()
    with pytest.raises(HeteeError) as caught:
        list(lease.heard())
    assert caught.value.code is code


def test_a_frame_that_ends_in_the_middle_is_an_error(ends: tuple[Lease, socket.socket]) -> None:
    """A controller that is killed while it writes gives no half of a grant."""
    lease, controller = ends
    controller.sendall(frame(Kind.JOB_GRANT, Accelerators(accelerators=("cpu:0",)))[:-1])
    controller.close()
    with pytest.raises(FrameRefused):
        list(lease.heard())


def test_a_socket_where_nobody_listens_is_an_error(tmp_path: Path) -> None:
    """A rack that does not run is named, with what to do."""
    with pytest.raises(HeteeError, match="sectum hetee up") as caught:
        Lease(tmp_path / "socket")
    assert caught.value.code is Refusal.CONTROLLER_LOST


def test_a_job_sees_the_gpus_that_it_has_and_no_others() -> None:
    """Numbers of GPUs go to CUDA; a job without any is told that there are none."""
    assert variables(("cuda:1", "cuda:3"))["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert variables(("cpu:0", "cpu:2")) == {
        "SECTUM_ACCELERATORS": "cpu:0,cpu:2",
        "CUDA_VISIBLE_DEVICES": "",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
