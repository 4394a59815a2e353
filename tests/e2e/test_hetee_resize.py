"""A job that grows and shrinks while it runs, on paced accelerators and on real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from hetee_rack import Rack, adding_model, free_port
from sectum.hetee.client import Result, Session
from sectum.hetee.data_plane.messages import Pace
from sectum.hetee.errors import Refusal, ServiceRefused

pytestmark = pytest.mark.slow

PACE = Pace(preprocess_us=0, compute_us=20_000, source="a test")


@pytest.fixture(scope="module")
def service() -> Iterator[Rack]:
    """Four accelerators of each kind."""
    with Rack("paced=4,cpu=4", arguments=["--spares", "1"]) as started:
        yield started


@pytest.fixture(params=["paced", "cpu"])
def rack(service: Rack, request: pytest.FixtureRequest) -> tuple[Rack, str]:
    """The service, and one of the kinds."""
    return service, request.param


class Feeder:
    """Sends batches without a pause, each with its own number in it."""

    def __init__(self, session: Session, kind: str) -> None:
        self._session, self._pace = session, PACE if kind == "paced" else None
        self.sent: list[Future[Result]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._feed)

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _feed(self) -> None:
        while not self._over.is_set():
            numbers = np.full((1, 64), len(self.sent), np.float32)
            self.sent.append(self._session.submit(numbers, pace=self._pace))

    def more(self, count: int) -> list[Result]:
        """Wait for the answers to so many more batches."""
        begin = len(self.sent)
        while len(self.sent) < begin + count:
            assert self._thread.is_alive()
            threading.Event().wait(0.01)
        return [future.result(30) for future in self.sent[begin : begin + count]]


def test_a_job_that_grows_and_shrinks_answers_every_batch_once(rack: tuple[Rack, str]) -> None:
    """From 1 to 4 accelerators and to 2 while batches run: each is answered once, by accelerators that it then had."""
    service, kind = rack
    with service.connect(accelerator=kind) as session:
        session.load(adding_model())
        with Feeder(session, kind) as feeder:
            assert {result.receipt.accelerator for result in feeder.more(20)} == {f"{kind}:0"}
            grown = session.resize(4)
            assert grown == tuple(f"{kind}:{number}" for number in range(4))
            feeder.more(40)  # some of these were queued before
            assert {result.receipt.accelerator for result in feeder.more(80)} <= set(grown)
            left = session.resize(2)
            assert left == grown[:2]
            feeder.more(40)
            assert {result.receipt.accelerator for result in feeder.more(80)} <= set(left)
        results = [future.result(30) for future in feeder.sent]
        assert {result.receipt.stream for result in results} == set(range(2, len(results) + 2))
        used = {result.receipt.accelerator for result in results}
        assert used == set(grown) if kind == "paced" else used <= set(grown)
        if kind == "cpu":
            for number, result in enumerate(results):
                np.testing.assert_array_equal(result.outputs["y"], np.full((1, 64), number + 1, np.float32))
    assert session.cleaning is not None
    assert sorted(session.cleaning.accelerators) == list(grown)
    before = [name for name, how in session.cleaning.accelerators.items() if "given back before" in how]
    assert sorted(before) == list(grown[2:])


def test_more_than_there_are_is_refused_and_the_session_goes_on(rack: tuple[Rack, str]) -> None:
    """A number that the service does not have ends nothing."""
    service, kind = rack
    with service.connect(accelerator=kind) as session:
        with pytest.raises(ServiceRefused) as caught:
            session.resize(5)
        assert caught.value.code is Refusal.NO_ACCELERATOR
        assert len(session.resize(3)) == 3


def test_one_batch_is_split_over_the_accelerators(rack: tuple[Rack, str]) -> None:
    """Each of the four computes a part, the outputs are in order, and the receipt names all four."""
    service, kind = rack
    numbers = np.arange(10 * 64, dtype=np.float32).reshape(10, 64)
    with service.connect(accelerator=kind, count=4) as session:
        session.load(adding_model())
        for _ in range(20):  # until all have come to rest after loading
            result = session.infer(numbers, split=True, pace=PACE if kind == "paced" else None)
            if result.receipt.accelerator.count(",") == 3:
                break
        assert result.receipt.accelerator == ",".join(f"{kind}:{number}" for number in range(4))
        assert result.receipt.items == 10
        np.testing.assert_array_equal(result.outputs["y"], np.zeros((10, 64)) if kind == "paced" else numbers + 1)


@pytest.mark.parametrize("rack", ["cpu"], indirect=True)  # the gateway has no paced accelerators
def test_a_command_in_another_terminal_resizes_a_running_session(rack: tuple[Rack, str], tmp_path: Path) -> None:
    """The gateway's session has one accelerator, `sectum hetee resize` gives it three, and it answers on."""
    pytest.importorskip("grpc", reason="grpcio, of the extra hetee, is not installed")
    service, _ = rack
    model = tmp_path / "add.onnx"
    model.write_bytes(adding_model())
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "home")}

    def command(*words: object) -> list[str]:
        return [sys.executable, "-P", "-m", "sectum.cli", "hetee", *map(str, words), "--json"]

    where = ("--url", service.url, "--state", service.paths.directory, "--port", free_port())
    gateway = subprocess.Popen(command("connect", model, *where), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert gateway.stdout is not None
        assert any('"ready"' in line for line in gateway.stdout)
        done = subprocess.run(
            command("resize", 3), capture_output=True, text=True, env=environment, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["process"], found["command"], len(found["accelerators"])) == (gateway.pid, "connect", 3)
        owned = [worker["accelerators"] for worker in (service.state() or {})["workers"]]
        assert sorted(map(len, owned))[-1] == 3
        done = subprocess.run(
            command("resize", 9), capture_output=True, text=True, env=environment, timeout=120, check=False
        )
        assert done.returncode == ServiceRefused.exit_code
    finally:
        gateway.send_signal(signal.SIGINT)
        gateway.communicate(timeout=60)
