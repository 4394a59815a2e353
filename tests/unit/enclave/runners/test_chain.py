"""A chain of enclaves reports the cause of its end, and its links take as long as they should."""

from __future__ import annotations

import socket
from concurrent.futures import Future
from typing import Any

import pytest

from sectum.enclave.runners import chain
from sectum.enclave.runners.chain import ChainSession, _cause, _jobs, _together
from sectum.enclave.runners.launch import LinkEnded
from sectum.enclave.runners.relay import Pace, Relay, as_it_is
from sectum.enclave.runners.runner import Job, Sample
from sectum.enclave.streaming.sealed_link import PREFIX
from sectum.errors import EnclaveDeadline, EnclaveFailed, EnclaveTampered, SectumError, UsageError


def ended(error: SectumError | None) -> Future[Any]:
    """A request that ended so."""
    future: Future[Any] = Future()
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
    return future


@pytest.mark.parametrize(
    ("errors", "early", "kind", "said"),
    [
        ([LinkEnded("l"), EnclaveFailed("killed"), LinkEnded("l")], [0], EnclaveFailed, "enclave 1 of 3: killed"),
        ([None, EnclaveTampered("bits"), LinkEnded("l")], [1, 2], EnclaveTampered, "enclave 1 of 3: bits"),
        ([EnclaveFailed("killed"), EnclaveTampered("cut"), None], [], EnclaveFailed, "enclave 0 of 3: killed"),
        ([EnclaveTampered("cut"), EnclaveFailed("killed"), None], [1], EnclaveFailed, "enclave 1 of 3: killed"),
        ([None, None, EnclaveDeadline("late")], [2], EnclaveDeadline, "enclave 2 of 3: late"),
        ([LinkEnded("l"), LinkEnded("l"), LinkEnded("l")], [0], EnclaveFailed, "the link of enclave 0 of 3 ended"),
    ],
)
def test_the_cause_is_not_what_follows_from_it(
    errors: list[SectumError | None], early: list[int], kind: type[SectumError], said: str
) -> None:
    """Of all enclaves that end, the one is reported that ended first and for a reason of its own."""
    asked = [ended(error) for error in errors]
    found = _cause(asked, [asked[place] for place in early])
    assert type(found) is kind
    assert str(found).startswith(said)


def linked(pace: Pace, carry: Any = None) -> tuple[socket.socket, socket.socket, Relay]:
    """A relay, and the sockets of the enclaves at its ends."""
    sends, source = socket.socketpair()
    sink, receives = socket.socketpair()
    receives.settimeout(10)
    return sends, receives, Relay(0, source, sink, pace, *([carry] if carry else []))


def arrived(receives: socket.socket, n_bytes: int) -> bytes:
    """So many bytes."""
    content = b""
    while len(content) < n_bytes:
        content += receives.recv(n_bytes - len(content))
    return content


def test_a_message_takes_at_least_as_long_as_its_link() -> None:
    """A message arrives unchanged, and no sooner than after delay and transfer; the next one waits for the link."""
    pace = Pace(bits_per_s=8e6, delay_ms=20.0)  # a byte in a microsecond
    assert pace.message_ms(10_000) == pytest.approx(30.0)
    sends, receives, relay = linked(pace)
    with sends, receives:
        message = PREFIX.pack(10_000) + bytes(range(250)) * 40
        sends.sendall(message * 2)
        assert arrived(receives, 2 * len(message)) == message * 2
        assert relay.took_ns[0] >= 30e6 or not relay.took_ns
        relay.close()


def test_a_link_ends_for_both_when_one_ends() -> None:
    """When the enclave before has ended, the next one gets all its messages and then the end."""
    sends, receives, _ = linked(Pace(1e12, 0.0))
    with receives:
        with sends:
            sends.sendall(PREFIX.pack(3) + b"abc")
        assert arrived(receives, 11)[8:] == b"abc"
        assert receives.recv(1) == b""


def test_half_a_message_is_not_forwarded() -> None:
    """An enclave that ends while it sends does not look like an attack to the next one."""
    sends, receives, _ = linked(Pace(1e12, 0.0))
    with receives:
        with sends:
            sends.sendall(PREFIX.pack(30) + b"abc")
        assert receives.recv(1) == b""


def test_parts_of_an_inference_add_up() -> None:
    """Latency and page counts of one inference are those of all enclaves together; references are weighted by time."""
    first = Sample(latency_ns=100, wall_ns=110, products_before_ns=10, products_after_ns=10, sums_before_ns=4,
                   sums_after_ns=4, loads=3, wait_ns=5)  # fmt: skip
    second = Sample(latency_ns=300, wall_ns=310, products_before_ns=30, products_after_ns=30, sums_before_ns=8,
                    sums_after_ns=8, loads=4, minor_faults=2)  # fmt: skip
    both = _together([first, second], whole_ns=1000)
    assert (both.latency_ns, both.wall_ns, both.wait_ns) == (400, 1000, 5)
    assert (both.loads, both.minor_faults) == (7, 2)
    assert (both.products_before_ns, both.sums_after_ns) == (25, 7)


def test_each_enclave_gets_its_own_job() -> None:
    """EPC, threads and memory are those of the enclave, and only the first one gets inputs."""
    own = {"threads": 1, "buffers": 1, "buffer_bytes": 5, "arena_bytes": 6}
    streams = {"stages": [], "enclaves": [own | {"epc_bytes": 1 << 24}, own | {"epc_bytes": 1 << 20, "threads": 2}]}
    first, second = _jobs(Job(model=b"", epc_bytes=1 << 22, inputs={"x": (1, 2)}, streams=streams))
    assert (first.epc_bytes, second.epc_bytes) == (1 << 22, 1 << 20)
    assert (first.threads, second.threads) == (1, 2)
    assert (first.inputs, second.inputs) == ({"x": (1, 2)}, {})
    assert second.streams == {"stages": [], "buffers": 1, "buffer_bytes": 5, "arena_bytes": 6}
    with pytest.raises(UsageError, match="runs a plan"):
        _jobs(Job(model=b""))


class Loading:
    """Stands in for the runner: its first enclave cannot be loaded or is there, and the others load until stopped."""

    def __init__(self, first: SectumError | None) -> None:
        self._first = first
        self.closed = 0
        self.stopped: list[bool] = []

    def start(self, job: Job) -> Loading:
        """Load an enclave."""
        assert job.link is not None
        assert job.stop is not None
        if job.link["number"]:
            self.stopped.append(job.stop.wait(60))
            raise EnclaveFailed("stopped")
        if self._first is not None:
            raise self._first
        return self

    def close(self) -> None:
        """Count."""
        self.closed += 1


def chain_of(runner: Any) -> ChainSession:
    """Start a chain of three enclaves."""
    own = {"threads": 1, "epc_bytes": 1 << 24, "buffers": 1, "buffer_bytes": 5, "arena_bytes": 6}
    job = Job(model=b"", streams={"stages": [], "enclaves": [own] * 3})
    return ChainSession(job, runner, Pace(1e12, 0.0), as_it_is, [])


def test_an_enclave_that_cannot_be_loaded_stops_the_others() -> None:
    """Nobody waits until all other enclaves have loaded; the error is that of the one that failed."""
    loading = Loading(EnclaveFailed("no room"))
    with pytest.raises(EnclaveFailed, match="enclave 0 of 3: no room"):
        chain_of(loading)
    assert loading.stopped == [True, True]


def test_ctrl_c_stops_enclaves_that_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while enclaves are loaded ends those that are there and stops the others."""
    waits = [chain.wait]

    def interrupted(*args: Any, **options: Any) -> Any:
        if len(waits) == 1:
            waits.append(chain.wait)
            raise KeyboardInterrupt
        return waits[0](*args, **options)

    monkeypatch.setattr(chain, "wait", interrupted)
    loading = Loading(None)
    with pytest.raises(KeyboardInterrupt):
        chain_of(loading)
    assert loading.stopped == [True, True]
    assert loading.closed == 1
