"""A host that goes silent, at whichever byte, hangs no client: each wait of the client has a time limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_hostile_host import DOWN, UP, HostileHost, Seen
from hetee_rack import Rack, error_within, until
from hetee_silent_host import SilentHost
from places import SUPPORT
from sectum.hetee.client import Session
from sectum.hetee.client.connection import Connection
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import HeteeError, Refusal
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Failure, encode

pytestmark = pytest.mark.slow

NUMBERS = np.arange(4_000_000, dtype=np.float32)  # 16 MB: more than the socket buffers between client and host hold
NOTICED_S = 2.0
SLACK_S = 3.0  # for a machine that does other work


def use(rack: Rack, model: bytes, url: str) -> Callable[[], Any]:
    """A client that loads a model and sends batches until something ends it."""

    def act() -> None:
        with rack.connect(url=url) as session:
            session.load(model)
            while True:
                session.infer(NUMBERS)

    return act


@pytest.mark.parametrize("n_bytes", [0, 100, 1282, 1400, 3_000, 60_000, 2_000_000, 20_000_000])
def test_a_host_that_stops_reading_is_noticed(rack: Rack, doubler: bytes, n_bytes: int) -> None:
    """A host that takes some bytes and then neither reads nor writes ends the session in time, at any byte."""
    with SilentHost(rack.port, up=n_bytes) as host:
        ended: list[float] = []
        errors: list[HeteeError] = []

        def act() -> None:
            try:
                use(rack, doubler, host.url)()
            except HeteeError as error:
                errors.append(error)
            ended.append(time.monotonic())

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        assert host.silent.wait(60)
        silent_s = time.monotonic()
        thread.join(30)
        assert ended, "the client waits for ever"
        assert ended[0] - silent_s < NOTICED_S + SLACK_S
        assert errors[0].code in (
            Refusal.HOST_LOST,
            Refusal.CONTROLLER_LOST,
            Refusal.WORKER_LOST,
            Refusal.HANDSHAKE_LATE,
        )


@pytest.mark.parametrize("n_bytes", [0, 63, 1000, 5_000, 9_000, 60_000, 3_000_000])
def test_a_host_that_stops_writing_is_noticed(rack: Rack, doubler: bytes, n_bytes: int) -> None:
    """A host that passes on some bytes of the answers and then goes silent ends the session in time, at any byte."""
    with SilentHost(rack.port, down=n_bytes) as host:
        _, error, _ = error_within(60, use(rack, doubler, host.url))
    assert error is not None


@pytest.mark.parametrize("kind", [Kind.ATTEST, Kind.ACCEPT, Kind.VOUCH, Kind.READY, Kind.LOADED, Kind.RECEIPT])
def test_a_host_that_keeps_an_answer_is_noticed(rack: Rack, doubler: bytes, kind: Kind) -> None:
    """A host that keeps one answer and all that follows it, but goes on reading, is noticed at every step."""
    kept: list[float] = []

    def tamper(seen: Seen, _host: HostileHost) -> list[bytes]:
        if seen.direction == DOWN and (kept or seen.header.kind is kind):
            kept.append(time.monotonic())
            return []
        return [seen.data]

    with HostileHost(rack.port, tamper) as host:

        def act() -> None:
            with rack.connect(url=host.url) as session:
                session.load(doubler)
                while True:
                    session.infer(NUMBERS[:1000]).receipt  # noqa: B018 - waits

        _, error, _ = error_within(60, act)
    assert error is not None
    assert time.monotonic() - kept[0] < NOTICED_S + SLACK_S


@pytest.mark.parametrize("kind", [Kind.FINISH, Kind.TERMINATE])
def test_a_host_that_goes_silent_at_the_end_is_noticed(rack: Rack, doubler: bytes, kind: Kind) -> None:
    """A host that forwards nothing once the client ends its session delays the client by no more than a lost peer."""
    silent = threading.Event()

    def tamper(seen: Seen, _host: HostileHost) -> list[bytes]:
        if seen.direction == UP and seen.header.kind is kind:
            silent.set()
        return [] if silent.is_set() else [seen.data]

    with HostileHost(rack.port, tamper) as host:
        session = rack.connect(url=host.url)
        session.load(doubler)
        begun_s = time.monotonic()
        error_within(60, session.close)
        assert time.monotonic() - begun_s < NOTICED_S + SLACK_S
    assert silent.is_set()


@contextmanager
def sipping(host: SilentHost, session: Session, *, n_bytes: int, every_s: float) -> Iterator[None]:
    """A silent host takes at most so many bytes of what the client sends, each time after a pause."""
    client, _ = host._sockets
    over = threading.Event()

    def sip() -> None:
        while not over.wait(every_s):
            client.recv(n_bytes)

    threading.Thread(target=sip, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with suppress(HeteeError):  # nothing confirms the end of the enclave
            session.close(0)


def test_a_host_that_takes_a_byte_now_and_then_gains_no_time(rack: Rack, doubler: bytes) -> None:
    """A host that takes some bytes now and then does not keep a client for ever: a frame has a least rate."""
    with SilentHost(rack.port) as host:
        session = rack.connect(url=host.url)
        session.load(doubler)
        host.silent.set()
        time.sleep(0.2)
        with sipping(host, session, n_bytes=4096, every_s=0.5):
            _, error, _ = error_within(60, lambda: session.infer(NUMBERS))
    assert error is not None


def test_a_host_that_sips_what_was_sent_already_gains_no_time(rack: Rack, doubler: bytes) -> None:
    """A host that takes the last kilobytes ever so slowly does not keep a client for ever, which only waits by then."""
    with SilentHost(rack.port, window_bytes=4096) as host:
        session = rack.connect(url=host.url)
        session.load(doubler)
        host.silent.set()
        time.sleep(0.2)
        answer = session.submit(NUMBERS[:100_000])
        with sipping(host, session, n_bytes=1200, every_s=0.3):
            error = answer.exception(90)  # what was sent would take 4 minutes
    assert isinstance(error, HeteeError)


def test_the_command_ends_when_its_host_goes_silent(rack: Rack, tmp_path: Path) -> None:
    """``sectum hetee infer`` ends with an error and its exit code when the host stops in the middle of the model."""
    from PIL import Image

    picture = tmp_path / "x.jpg"
    Image.new("RGB", (64, 64)).save(picture)
    for n_bytes in (3_000, 60_000):
        with SilentHost(rack.port, up=n_bytes) as host:
            command = [
                sys.executable,
                "-c",
                "from sectum.cli.main import main; main()",
                "hetee",
                "infer",
                "zoo:squeezenet1_1",
                str(picture),
            ]
            done = subprocess.run(
                [*command, "--url", host.url, "--state", str(rack.paths.directory)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SUPPORT.parents[1] / "src"), *sys.path))},
            )
        assert done.returncode == 46, done.stderr
        assert until(lambda: rack.ready())


def test_a_host_that_sends_errors_without_end_ends_the_handshake_in_time(rack: Rack) -> None:
    """A host that answers HELLO with unauthenticated errors, without end, holds a client no longer than its limit."""
    noise = plain_frame(Kind.ERROR, encode(Failure(code=Refusal.NO_ROUTE, detail="wait"))) * 1000
    over = threading.Event()

    def shout(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as client:
            while not over.is_set():
                client.sendall(noise)

    errors: list[HeteeError] = []

    def act() -> None:
        try:
            Connection(url, Trust(rack.policy), Ed25519PrivateKey.generate(), timeout_s=0.5).close()
        except HeteeError as error:
            errors.append(error)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"hetee://127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=shout, args=(listener,), daemon=True).start()
        client = threading.Thread(target=act, daemon=True)
        client.start()
        client.join(20)
        over.set()
        client.join(20)
    assert errors, "the client waits for ever"
    assert errors[0].code is Refusal.HANDSHAKE_LATE
