"""What a pool says of its racks is read within limits: it comes from a machine that clients do not trust."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from sectum.errors import UsageError
from sectum.hetee.errors import ServiceRefused
from sectum.hetee.inventory import ANSWER_BYTES, Inventory, RackEntry, ask_racks, ask_state, read_inventory
from sectum.hetee.pool.server import PoolServer

RACKS = (
    RackEntry("north", "hetee://10.0.0.7:7625", {"cpu": 4}, {"cpu": 1}, healthy=True, sessions=2),
    RackEntry("south", "hetee://10.0.0.8:7625", problems=("its node has left",)),
    RackEntry("west", "", problems=("it is being started",)),
)
GOOD = json.loads(msgspec.json.encode(Inventory("ray", RACKS)))


class Told:
    """A pool that tells fixed racks."""

    def __init__(self, racks: tuple[RackEntry, ...]) -> None:
        self.told = racks

    def racks(self) -> tuple[RackEntry, ...]:
        return self.told


@pytest.fixture
def pool() -> Iterator[Told]:
    """A pool without a server."""
    return Told(RACKS)


@pytest.fixture
def address(pool: Told) -> Iterator[str]:
    """Where the pool tells its racks."""
    server = PoolServer("127.0.0.1:0", "ray", pool)  # type: ignore[arg-type]  # a server needs no more of it
    yield f"127.0.0.1:{server.server_port}"
    server.close()


def test_an_inventory_comes_back_as_it_was(address: str) -> None:
    """What a pool serves is what clients and operators read."""
    assert read_inventory(json.dumps(GOOD).encode()) == Inventory("ray", RACKS)
    assert ask_state(address) == GOOD


def test_clients_get_the_racks_that_serve(pool: Told, address: str) -> None:
    """Healthy racks are named; if there is none, all that have an address, because the pool may be wrong."""
    assert ask_racks(address) == ("hetee://10.0.0.7:7625",)
    pool.told = RACKS[1:]
    assert ask_racks(address) == ("hetee://10.0.0.8:7625",)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "sectum-hetee-racks-2"},
        {"pool": "other"},
        {"extra": 1},
        {"racks": [GOOD["racks"][0]] * 257},
        {"racks": [{**GOOD["racks"][0], "name": "\x1b[31m"}]},
        {"racks": [{**GOOD["racks"][0], "url": "hetee://a b"}]},
        {"racks": [{**GOOD["racks"][0], "url": "x" * 301}]},
        {"racks": [{**GOOD["racks"][0], "problems": ["\x1b]0;x\x07"]}]},
        {"racks": [{**GOOD["racks"][0], "accelerators": {"cpu": -1}}]},
        {"racks": [{**GOOD["racks"][0], "accelerators": {"\n": 1}}]},
        {"racks": [{**GOOD["racks"][0], "secret": "x"}]},
        {"racks": [{"name": "north"}]},
    ],
)
def test_what_is_no_inventory_is_refused(change: dict[str, object]) -> None:
    """Other versions, unknown fields, control characters, and more than the limits are refused whole."""
    with pytest.raises(ServiceRefused, match="not an inventory"):
        read_inventory(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[" * 100_000, b" " * (ANSWER_BYTES + 1), b"null"],
    ids=["empty", "cut", "deep", "too large", "null"],
)
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    """Malformed, deeply nested and large answers are refused."""
    with pytest.raises(ServiceRefused, match="not an inventory"):
        read_inventory(data)


def test_an_address_where_nobody_answers_is_told() -> None:
    """A wrong address and a silent one are told apart."""
    with pytest.raises(ServiceRefused, match=r"no pool answers at 127\.0\.0\.1:1"):
        ask_racks("127.0.0.1:1")
    with pytest.raises(UsageError, match="write for example"):
        ask_racks("somewhere")
    assert ask_state("127.0.0.1:1") is None


def test_health_of_a_pool_is_that_of_its_racks(pool: Told, address: str) -> None:
    """A load balancer sends clients as long as one rack serves."""
    from http.client import HTTPConnection

    def status(path: str) -> int:
        connection = HTTPConnection(address, timeout=5)
        connection.request("GET", path)
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    assert (status("/health"), status("/other")) == (200, 404)
    pool.told = RACKS[1:]
    assert status("/health") == 503


def test_who_sends_byte_by_byte_gains_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that never ends is given up after the time for a whole one."""
    monkeypatch.setattr("sectum.hetee.inventory._WHOLE_S", 0.2)
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            while not ended.wait(0.01):
                peer.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        assert ask_state(f"127.0.0.1:{listener.getsockname()[1]}") is None
        ended.set()
        thread.join()
