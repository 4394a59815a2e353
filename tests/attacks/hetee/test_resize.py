"""RESIZE under attack: hosts that drop and repeat it, clients that flood, workers that lie, what shrinkage leaves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_hostile_host import DOWN, UP, HostileHost, Seen
from hetee_installation import Installation, RunningService
from hetee_rack import Rack, error_within, found_in_memory, may_look_into_processes, until
from sectum.hetee.client import connect, read_policy_file
from sectum.hetee.client.connection import Connection
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import HeteeError, ServiceRefused
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind

pytestmark = pytest.mark.slow

SMALL = np.arange(10, dtype=np.float32)

# It says that it gave back at once, and goes on computing on what it said that it gave back.
LIE = """

def _lie(self, name, returned):
    returned(name, "not at all")


ComputeEngine.revoke = _lie
"""


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """Two accelerators that compute."""
    with Rack("cpu=2", arguments=["--spares", "2"]) as started:
        yield started


@pytest.mark.parametrize("kind", [Kind.RESIZE, Kind.RESIZED])
@pytest.mark.parametrize("act", ["drop", "twice"])
def test_a_host_that_drops_or_repeats_it_is_noticed(rack: Rack, doubler: bytes, kind: Kind, act: str) -> None:
    """No host makes an enclave grow or shrink a second time, or a client believe that it did: the session ends."""
    direction, done = UP if kind is Kind.RESIZE else DOWN, list[Seen]()

    def tamper(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
        if (seen.header.kind, seen.direction) != (kind, direction):
            return [seen.data]
        done.append(seen)
        return [] if act == "drop" else [seen.data, seen.data]

    with HostileHost(rack.port, tamper) as host:

        def use() -> None:
            with rack.connect(url=host.url) as session:
                session.load(doubler)
                for count in (2, 1):
                    session.resize(count, wait_s=5)
                    np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], SMALL * 2)

        _, error, _ = error_within(15, use)
    assert done, "no such frame came by"
    assert error is not None
    until(lambda: all(worker["state"] == "spare" for worker in (rack.state() or {"workers": ()})["workers"]), 90)


def test_a_flood_of_resizes_keeps_nobody_out(rack: Rack, doubler: bytes) -> None:
    """Sessions that send RESIZE without end, and read nothing, are ended; others are served and grow meanwhile."""
    identity, over = Ed25519PrivateKey.generate(), threading.Event()

    def flood() -> None:
        while not over.is_set():
            with (
                contextlib.suppress(HeteeError),
                contextlib.closing(Connection(rack.url, Trust(rack.policy), identity)) as connection,
            ):
                seal = connection.session.sealer.seal
                connection.send(partial(seal, Kind.CONFIGURE, messages.encode(messages.Configure(accelerator="cpu"))))
                for number in range(10_000):
                    resize = messages.encode(messages.Resize(count=1 + number % 2))
                    connection.send(partial(seal, Kind.RESIZE, resize))

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: any("messages a second" in e["detail"] for e in rack.events("session_refused")), 60)
        with rack.connect(wait_s=60) as session:
            session.load(doubler)
            assert len(session.resize(2)) == 2
            np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], SMALL * 2)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_worker_that_lies_about_what_it_gave_back_gains_no_accelerator_of_another(
    tmp_path: Path, doubler: bytes
) -> None:
    """Who waits gets what a liar gave back when the kernel has stopped the liar, which is confirmed before RESIZED."""
    installation = Installation(tmp_path / "installation")
    engine = installation.site / "sectum/hetee/worker/engine.py"
    engine.write_text(engine.read_text() + LIE)
    options = ["--spares", "2", "--accelerators", "cpu=2"]
    with RunningService(installation, tmp_path / "state", options=options) as service:
        policy = read_policy_file(service.state / "policy.json")
        with connect(service.url, policy, wait_s=60, count=2) as first:
            first.load(doubler)
            assert first.resize(1) == ("cpu:0",)
            with connect(service.url, policy, wait_s=60) as second:
                second.load(doubler)
                np.testing.assert_array_equal(second.infer(SMALL).outputs["y"], SMALL * 2)
                np.testing.assert_array_equal(first.infer(SMALL).outputs["y"], SMALL * 2)
                told = [event for event in service.log() if event["event"] in ("vouched", "accelerators_reset")]
                assert [event["event"] for event in told] == ["vouched", "accelerators_reset", "vouched"]
                assert told[1]["accelerators"] == ["cpu:1"]
        assert "the kernel had stopped the process" in first.cleanings[0].accelerators["cpu:1"]


@pytest.mark.skipif(not may_look_into_processes(), reason="looking into the memory of other processes needs root")
def test_what_was_given_back_takes_nothing_to_the_next_tenant(rack: Rack, doubler: bytes) -> None:
    """R7: after shrinkage the tenant's own worker alone holds its input and result; the next tenant's does not."""
    numbers = np.random.default_rng(91).random(100_000).astype(np.float32)
    needles = {"input": numbers.tobytes()[4096:4160], "result": (numbers * 2).tobytes()[4096:4160]}
    with rack.connect(count=2) as session:
        session.load(doubler)
        used = {session.submit(numbers).result().receipt.accelerator for _ in range(8)}
        assert used <= {"cpu:0", "cpu:1"}
        own = rack.serving_pid()
        assert found_in_memory(own, needles), "the search finds what is there"
        (left,) = session.resize(1)
        with rack.connect() as following:
            following.load(doubler)
            result = following.infer(SMALL)
            assert result.receipt.accelerator not in (left, "")
            others = {*rack.worker_pids(), rack.launcher.host.pid, rack.launcher.controller.pid} - {own}
            assert rack.serving_pid() in others
            for pid in others:
                assert pid is not None
                assert not found_in_memory(pid, needles)
        np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], SMALL * 2)


def test_two_tenants_that_both_want_everything_take_turns(rack: Rack, doubler: bytes) -> None:
    """Growth starves nobody: while both compute, each gets all accelerators in its turn, and each batch is answered."""
    with rack.connect() as first, rack.connect() as second:
        grown = {}
        for session in (first, second):
            session.load(doubler)
        over = threading.Event()

        def compute(name: str, session: object) -> None:
            while not over.is_set():
                np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], SMALL * 2)  # type: ignore[attr-defined]

        threads = [threading.Thread(target=compute, args=pair) for pair in (("a", first), ("b", second))]
        for thread in threads:
            thread.start()
        try:
            for name, session in (("a", first), ("b", second)):
                with contextlib.suppress(ServiceRefused):
                    grown[name] = session.resize(2, wait_s=30)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert set(grown) == {"a", "b"}
        for session in (first, second):
            np.testing.assert_array_equal(session.infer(SMALL).outputs["y"], SMALL * 2)
