"""A service on this machine for benchmarks and tests: controller, host and workers in processes of their own."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Sequence
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from sectum.hetee.client import Session, connect
from sectum.hetee.confinement.required import CONFINEMENT
from sectum.hetee.installed_policy import installed_policy
from sectum.hetee.launcher import Launcher, RackPaths, provision
from sectum.hetee.signing import sign_worker
from sectum.hetee.verification.policy import Policy

_READY_S = 120.0
_POLL_S = 0.1
_ANSWER_BYTES = 1 << 20

# What a rack with GPUs cannot have, because the driver runs in it; its policy then does without.
_NOT_WITH_GPUS = frozenset({"private-root", "measured-code", "no-new-descriptors"})

_given: set[int] = set()


def free_port() -> int:
    """A port on the loopback interface that is free now, and that this function has not returned before."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = int(server.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


class LocalRack:
    """A service on the loopback interface with software evidence, used in a ``with`` statement.

    Args:
        accelerators: kinds and numbers, as for ``sectum hetee up``.
        arguments: additional arguments of the controller.
        directory: folder of the rack; None makes one that is deleted at the end.
        training: whether its workers can train; this needs PyTorch.
    """

    def __init__(
        self,
        accelerators: str = "cpu=1",
        *,
        arguments: Sequence[str] = (),
        directory: Path | None = None,
        training: bool = False,
    ) -> None:
        self._training, self._gpus = training, "cuda" in accelerators
        self._scratch = None if directory else tempfile.TemporaryDirectory(prefix="sectum-rack-")
        self.paths = RackPaths(directory or Path(self._scratch.name))  # type: ignore[union-attr]
        provision(self.paths)
        self._worker: bytes | None = None  # its measurement, if it was just signed
        if not self.paths.reference.exists():
            self._worker = sign_worker(self.paths.reference, training=training)
        self.port, self.metrics_port = free_port(), free_port()
        self.launcher = Launcher(
            self.paths,
            listen=f"127.0.0.1:{self.port}",
            metrics=f"127.0.0.1:{self.metrics_port}",
            controller=[
                *("--accelerators", accelerators),
                *(["--training"] if training else []),
                *(["--allow-unconfined"] if self._gpus else []),
                *arguments,
            ],
            drain_s=1.0,
            tell=lambda _line: None,
        )

    def __enter__(self) -> LocalRack:
        try:
            self.launcher.start(self.ready, 2 * _READY_S if self._training else _READY_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all processes, and delete the folder if it was made here."""
        self.launcher.stop()
        if self._scratch is not None:
            self._scratch.cleanup()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"hetee://127.0.0.1:{self.port}"

    @cached_property
    def policy(self) -> Policy:
        """A policy that accepts exactly this rack."""
        root = self.paths.root.read_text(encoding="ascii").strip()
        policy = installed_policy([root], training=self._training, worker=self._worker)
        if not self._gpus:
            return policy
        required = {role: tuple(s for s in steps if s not in _NOT_WITH_GPUS) for role, steps in CONFINEMENT.items()}
        return msgspec.structs.replace(policy, confinement=required)

    def get(self, path: str) -> tuple[int, str]:
        """The host's answer to operators: HTTP status and body.

        Raises:
            OSError, HTTPException: the host does not answer.
        """
        connection = HTTPConnection("127.0.0.1", self.metrics_port, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES).decode()
        finally:
            connection.close()

    def state(self) -> dict[str, Any] | None:
        """The controller's counts; None if it does not answer."""
        try:
            found: dict[str, Any] | None = json.loads(self.get("/state")[1])["controller"]
        except (OSError, HTTPException, ValueError):
            return None
        return found

    def ready(self) -> bool:
        """Whether a spare worker is ready."""
        state = self.state()
        return state is not None and any(worker["state"] == "spare" for worker in state["workers"])

    def connect(self, **options: Any) -> Session:
        """Verify this rack's evidence and get an enclave; ``options`` are those of `sectum.hetee.client.connect`."""
        return connect(options.pop("url", self.url), options.pop("policy", None) or self.policy, **options)

    def connect_and_settle(self, **options: Any) -> Session:
        """`connect`, then wait until the next spare worker has started, so that its start disturbs no measurement."""
        session = self.connect(**options)
        end_s = time.monotonic() + _READY_S
        while not self.ready() and time.monotonic() < end_s:
            time.sleep(_POLL_S)
        return session

    def worker_pids(self) -> list[int]:
        """The ids of all worker processes."""
        return _children(self.launcher.controller.pid)

    def pids(self) -> list[int]:
        """The process ids of controller, host and workers."""
        roles = [role.pid for role in (self.launcher.controller, self.launcher.host) if role.pid is not None]
        return roles + [child for pid in roles for child in _children(pid)]


def _children(pid: int | None) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
