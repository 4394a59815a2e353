"""A service for one measurement: controller, host and workers in processes, in a folder that goes afterwards."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

from sectum.hetee.attest.measurement import CONTROLLER, WORKER, Measurer
from sectum.hetee.attest.policy import Policy
from sectum.hetee.client import Session, connect
from sectum.hetee.client.session import AcceleratorKind
from sectum.hetee.launcher import Launcher, Places, provision

_READY_S = 120.0
_POLL_S = 0.1
_STATE_BYTES = 1 << 20


def _free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in servers]
    for server in servers:
        server.close()
    return ports


class Rack:
    """A service on loopback, used in a ``with`` statement. Its evidence is software.

    Args:
        kind: of its one accelerator.
        threads: that compute one batch, on a CPU.
    """

    def __init__(self, kind: AcceleratorKind, *, threads: int = 1) -> None:
        self._kind: AcceleratorKind = kind
        self._folder = tempfile.TemporaryDirectory(prefix="sectum-bench-")
        self._places = Places(Path(self._folder.name))
        provision(self._places)
        self._port, self._metrics_port = _free_ports(2)
        self._launcher = Launcher(
            self._places,
            listen=f"127.0.0.1:{self._port}",
            metrics=f"127.0.0.1:{self._metrics_port}",
            controller=["--accelerators", f"{kind}=1", "--threads", str(threads), "--spares", "1"],
            drain_s=1.0,
            tell=lambda _line: None,  # only `run`, which starts roles again, has something to tell
        )

    def __enter__(self) -> Rack:
        try:
            self._launcher.start(self._ready, _READY_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._launcher.stop()
        self._folder.cleanup()

    def pids(self) -> list[int]:
        """The processes of controller, host and workers."""
        roles = [role.pid for role in (self._launcher.controller, self._launcher.host) if role.pid is not None]
        children = [Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split() for pid in roles]
        return roles + [int(pid) for found in children for pid in found]

    def _ready(self) -> bool:
        """Whether a clean worker waits."""
        connection = HTTPConnection("127.0.0.1", self._metrics_port, timeout=2)
        try:
            connection.request("GET", "/state")
            state = json.loads(connection.getresponse().read(_STATE_BYTES))["controller"]
        except (OSError, HTTPException, ValueError):
            return False
        finally:
            connection.close()
        return state is not None and any(worker["state"] == "spare" for worker in state["workers"])

    def connect(self, *, chunk_bytes: int | None = None) -> Session:
        """Attest it, by a policy that accepts exactly the software which is installed here, and get an enclave."""
        measurer = Measurer()
        policy = Policy(
            formats=("software",),
            measurements={
                "controller": (measurer.measure(CONTROLLER).hex(),),
                "worker": (measurer.measure(WORKER).hex(),),
            },
            roots=(self._places.root.read_text(encoding="ascii").strip(),),
        )
        url = f"hetee://127.0.0.1:{self._port}"
        session = connect(url, policy, accelerator=self._kind, chunk_bytes=chunk_bytes)
        # The worker that takes the place of this one as a spare starts now, and would be measured with what follows.
        end_s = time.monotonic() + _READY_S
        while not self._ready() and time.monotonic() < end_s:
            time.sleep(_POLL_S)
        return session
