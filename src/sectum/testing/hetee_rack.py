"""A whole service in processes of its own, for tests that need real ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sectum.hetee.attest.measurement import CONTROLLER, WORKER, Measurer
from sectum.hetee.attest.policy import Policy
from sectum.hetee.client import Session, connect
from sectum.hetee.errors import HeteeError
from sectum.hetee.launcher import Launcher, Places, provision

READY_S = 120.0


_given: set[int] = set()


def free_port() -> int:
    """A port on the loopback interface that nobody listens on now, and that was not given before."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = int(server.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def until(true: Callable[[], Any], limit_s: float = 30.0, what: str = "it") -> Any:
    """Wait until something is true, and give it.

    Raises:
        AssertionError: it was not, within the limit.
    """
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {limit_s:g} s")


class Rack:
    """Started by ``with``; restarts what dies.

    Args:
        accelerators: as `sectum hetee up` takes them.
        arguments: further ones of the controller.
        directory: where its endorsement lies; a new one if None.
    """

    def __init__(
        self, accelerators: str = "cpu=1", *, arguments: Sequence[str] = (), directory: Path | None = None
    ) -> None:
        self._scratch = None if directory else tempfile.TemporaryDirectory(prefix="sectum-rack-")
        self.places = Places(directory or Path(self._scratch.name))  # type: ignore[union-attr]
        provision(self.places)
        self.port, self.metrics_port = free_port(), free_port()
        self.launcher = Launcher(
            self.places,
            listen=f"127.0.0.1:{self.port}",
            metrics=f"127.0.0.1:{self.metrics_port}",
            controller=["--accelerators", accelerators, *arguments],
            drain_s=1.0,
            tell=lambda _line: None,
        )
        measurer = Measurer()
        self._measurements = {
            "controller": (measurer.measure(CONTROLLER).hex(),),
            "worker": (measurer.measure(WORKER).hex(),),
        }
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def _keep(self) -> None:
        self.launcher.run(self._stopped.is_set)

    def __enter__(self) -> Rack:
        try:
            self.launcher.start(self.ready, READY_S)
        except BaseException:
            self.launcher.stop()
            self._clean()
            raise
        self._keeper.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._keeper.join()
        self.launcher.stop()
        self._clean()

    def _clean(self) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"hetee://127.0.0.1:{self.port}"

    def policy(self, **changes: Any) -> Policy:
        """A policy that accepts exactly this rack, but for the changes."""
        root = self.places.root.read_text().strip()
        fields: dict[str, Any] = {"formats": ("software",), "measurements": self._measurements, "roots": (root,)}
        return Policy(**(fields | changes))

    def connect(self, **options: Any) -> Session:
        """A session with an enclave."""
        return connect(options.pop("url", self.url), options.pop("policy", None) or self.policy(), **options)

    def get(self, path: str) -> tuple[int, str]:
        """What the host answers operators."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def state(self) -> dict[str, Any] | None:
        """The controller's counts; None while it does not answer."""
        try:
            found: dict[str, Any] | None = json.loads(self.get("/state")[1])["controller"]
        except OSError:
            return None
        return found

    def ready(self) -> bool:
        """Whether a clean worker waits."""
        state = self.state()
        return state is not None and any(worker["state"] == "spare" for worker in state["workers"])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of the log with an event of this name."""
        return [event for event in self.log() if event["event"] == name]

    def log(self) -> Iterator[dict[str, Any]]:
        """All lines of the log."""
        for line in self.places.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def serving_pid(self) -> int:
        """The process of the worker that was vouched for last."""
        return int(self.events("vouched")[-1]["pid"])

    def worker_pids(self) -> list[int]:
        """All worker processes that live."""
        controller = self.launcher.controller.pid
        children = Path(f"/proc/{controller}/task/{controller}/children").read_text()
        return [int(pid) for pid in children.split()]


def adding_model() -> bytes:
    """A model that adds one to rows of 64 numbers, so that a result shows which batch it is of."""
    from onnx import TensorProto, helper

    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    node = helper.make_node("Add", ["x", "one"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 64]) for name in "xy"]
    graph = helper.make_graph([node], "add", values[:1], values[1:], [one])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


def memory_of(pid: int) -> Iterator[bytes]:
    """The readable memory of a process, region by region.

    Raises:
        PermissionError: this user may not look into it.
    """
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps.splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if match is None or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            begin, end = int(match[1], 16), int(match[2], 16)
            with contextlib.suppress(OSError, ValueError, OverflowError):
                memory.seek(begin)
                yield memory.read(end - begin)


def found_in_memory(pid: int, needles: dict[str, bytes]) -> set[str]:
    """The names of those needles that are somewhere in the memory of a process."""
    return {name for region in memory_of(pid) for name, needle in needles.items() if needle in region}


def error_within(seconds: float, act: Callable[[], Any]) -> tuple[Any, HeteeError | None, float]:
    """Do something that has to end in time: its result or its error, and how many seconds it took."""
    begun_s = time.monotonic()
    try:
        result, error = act(), None
    except HeteeError as caught:
        result, error = None, caught
    took_s = time.monotonic() - begun_s
    assert took_s <= seconds, f"{took_s:.2f} s, at most {seconds} were allowed"
    return result, error, took_s


def may_look_into_processes() -> bool:
    """Whether this user may read the memory of processes that forbid core dumps."""
    return os.geteuid() == 0
