"""What Ray runs on each node: an actor that keeps a rack running there, as a process tree that knows nothing of Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from sectum.hetee.inventory import RackEntry, ask_state
from sectum.hetee.launcher import RackPaths, state_directory
from sectum.hetee.pool.protocol import entry_of, printable

_PORTS = 256
_FIRST_PAUSE_S, _SLOWEST_PAUSE_S = 0.5, 10.0
_KILL_S = 10.0


class NodeOptions(msgspec.Struct, frozen=True):
    """What the racks of a pool are to be.

    Attributes:
        port: first port for clients that is tried on each node.
        metrics_port: first port for operators that is tried on each node, on the loopback interface only.
        drain_s: time that open sessions have to finish.
        state: folder in which each node keeps its rack's folder; empty for the default.
        arguments: further arguments of ``sectum hetee up``.
    """

    port: int
    metrics_port: int
    drain_s: float
    state: str
    arguments: tuple[str, ...]


class NodeReport(msgspec.Struct, frozen=True):
    """What an actor tells of its rack: addresses and counts, and the public key that its evidence is chained to."""

    rack: RackEntry
    root: str = ""


class NodeRack:
    """Keeps ``sectum hetee up`` running on a node, and tells what that says.

    Args:
        name: name of the rack, and of its folder.
        address: address of the node for clients, without a port.
        accelerators: number of each kind, as for ``sectum hetee up``.
        offset: added to the first ports; nodes on one machine have different ones.
        options: `NodeOptions` as JSON.
    """

    def __init__(self, name: str, address: str, accelerators: str, offset: int, options: bytes) -> None:
        self._name, self._address, self._accelerators, self._offset = name, address, accelerators, offset
        self._options = msgspec.json.decode(options, type=NodeOptions)
        folder = Path(self._options.state) if self._options.state else state_directory() / "pool"
        self._paths = RackPaths(folder / name)
        self._url, self._metrics, self._problem = "", "", "it is being started"
        self._restarts = -1
        self._process: subprocess.Popen[str] | None = None
        self._ending = threading.Event()
        self._pause_s = _FIRST_PAUSE_S
        # The kernel ends the rack when the thread that started it ends.
        self._keeper = threading.Thread(target=self._keep, name="rack", daemon=True)
        self._keeper.start()

    def report(self) -> bytes:
        """A `NodeReport` as JSON."""
        state = ask_state(self._metrics) if self._url else None
        root = ""
        with suppress(OSError):
            root = self._paths.root.read_text(encoding="ascii").strip()
        entry = entry_of(self._name, self._url, state, restarts=max(self._restarts, 0), problem=self._problem)
        return msgspec.json.encode(NodeReport(entry, root))

    def hurry(self) -> None:
        """Have `stop` end sessions at once."""
        self._signal(signal.SIGINT)

    def stop(self) -> None:
        """Let sessions finish, then stop the rack."""
        self._ending.set()
        self._signal(signal.SIGTERM)
        self._keeper.join(self._options.drain_s + _KILL_S)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _keep(self) -> None:
        while not self._ending.is_set():
            self._restarts += 1
            try:
                self._run()
            except OSError as error:
                self._problem = f"the rack cannot be started: {error}"
            self._ending.wait(self._pause_s)
            self._pause_s = min(2 * self._pause_s, _SLOWEST_PAUSE_S)

    def _run(self) -> None:
        """Run the rack once, to its end."""
        options, given = self._options, self._url.rpartition(":")[2]
        port = int(given) if given and self._restarts else _free_port(self._address, options.port + self._offset)
        listen = f"[{self._address}]:{port}" if ":" in self._address else f"{self._address}:{port}"
        self._metrics = f"127.0.0.1:{_free_port('127.0.0.1', options.metrics_port + self._offset)}"
        command = [sys.executable, "-m", "sectum.cli", "hetee", "up", "--json", "--state", str(self._paths.directory)]
        command += ["--listen", listen, "--metrics", self._metrics, "--accelerators", self._accelerators]
        command += ["--drain", f"{options.drain_s:g}", "--with-parent", str(os.getpid()), *options.arguments]
        # Ray's token and keys stay with Ray.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
            text=True,
            errors="replace",
        ) as process:
            self._process = process
            if self._ending.is_set():
                process.terminate()
            assert process.stdout is not None
            for line in process.stdout:
                self._said(line)
        if not self._ending.is_set() and self._url:
            self._problem = f"the rack ended with exit code {process.returncode} and is started again"

    def _said(self, line: str) -> None:
        event: Any = None
        with suppress(ValueError):
            event = json.loads(line)
        if not isinstance(event, dict):
            self._problem = printable(line.strip())
        elif event.get("event") == "ready":
            self._url, self._problem, self._pause_s = str(event.get("url", "")), "", _FIRST_PAUSE_S
        elif event.get("event") == "restarted":
            self._problem = printable(str(event.get("text", "")))


def _free_port(address: str, first: int) -> int:
    """The first port from ``first`` on that is free; ``first`` if none of many is."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in range(first, min(first + _PORTS, 65_536)):
        with suppress(OSError), socket.create_server((address, port), family=family):
            return port
    return first
