"""Runs a whole rack on one machine: starts the controller, then the host, and restarts either if it dies."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sectum.errors import UsageError
from sectum.hetee.attest.endorsement import load
from sectum.hetee.image import running
from sectum.hetee.installation.manufacture import manufacture, store
from sectum.hetee.rack_log import RoleLog

_POLL_S = 0.05
_SLOWEST_RESTART_S = 2.0
_LONG_ENOUGH_S = 10.0  # a role that ran for this long is restarted at once
_KILL_S = 5.0
_TRIES = 2
_SOCKET_PATH_BYTES = 107
_LOG_END_S = 2.0


def state_directory() -> Path:
    """The default folder for a rack's endorsement, socket and log."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "sectum" / "hetee"


@dataclass(frozen=True)
class RackPaths:
    """The files of a rack in its folder."""

    directory: Path

    @property
    def endorsement(self) -> Path:
        """The machine's endorsement key and certificate."""
        return self.directory / "endorsement"

    @property
    def root(self) -> Path:
        """The public key of the manufacturer, which a client trusts."""
        return self.endorsement / "root.pub"

    @property
    def reference(self) -> Path:
        """The signed manifest of the worker images that the controller boots, and the signer's key."""
        return self.directory / "reference"

    @property
    def socket(self) -> Path:
        """The Unix socket on which the controller listens."""
        return self.directory / "run" / "controller.sock"

    @property
    def policy(self) -> Path:
        """A policy for clients that accepts this rack; ``sectum hetee up`` writes it."""
        return self.directory / "policy.json"

    @property
    def training(self) -> Path:
        """A file that is there if the rack's workers can train; ``sectum hetee up`` makes and removes it."""
        return self.directory / "training"

    @property
    def log(self) -> Path:
        """The log of all roles."""
        return self.directory / "log.jsonl"


def provision(paths: RackPaths) -> None:
    """Make a software endorsement, unless there is one.

    Raises:
        EvidenceRefused: the existing endorsement is unusable.
        UsageError: the folder is unusable, or other users can change it.
    """
    if len(os.fsencode(paths.socket)) > _SOCKET_PATH_BYTES:
        raise UsageError(
            f"{paths.socket} is longer than {_SOCKET_PATH_BYTES} bytes, the limit for sockets: use --state"
        )
    try:
        paths.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = paths.directory.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:  # they could replace keys, log and socket
            raise UsageError(f"other users can change {paths.directory}; use a folder of your own with mode 0700")
        if not paths.endorsement.exists():
            store(manufacture(), paths.endorsement)
    except OSError as error:
        raise UsageError(f"{paths.directory} cannot be used: {error.strerror}; name another with --state") from None
    load(paths.endorsement)


def role_command(name: str) -> list[str]:
    """The command that starts a role of this installation, apart from its arguments.

    Neither environment variables nor files beside the installed packages change what it runs.
    """
    module = "sectum.hetee.installation.enter" if name == "controller" else f"sectum.hetee.{name}"
    # In a virtual environment without `site`, the interpreter finds packages only on the path that is given here.
    folders = [str(Path(folder).absolute()) for folder in sys.path if folder]
    start = (
        f"import runpy, sys; sys.path[:] = {folders!r}; sys.argv[:] = sys.argv[1:]; "
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-I", "-S", "-B", "-X", f"pycache_prefix={running.NO_CACHES}", "-c", start, module]


class RoleProcess:
    """A process that is restarted when it ends."""

    def __init__(self, name: str, arguments: Sequence[str], log: IO[bytes]) -> None:
        self.name = name
        self._command = [*role_command(name), *arguments]
        self._log = log
        self._copying: RoleLog | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started_s = self._next_s = 0.0

    @property
    def pid(self) -> int | None:
        """The process id; None while there is no process."""
        return self._process.pid if self._process is not None else None

    def check(self) -> int | None:
        """Start the process if it is due; returns its exit code once each time that it has ended."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return None
            self._process = None
            self._end_log()
            if now - self._started_s >= _LONG_ENOUGH_S:
                self._failures = 0
            self._next_s = now + min(0.1 * self._failures, _SLOWEST_RESTART_S)
            self._failures += 1
            return code
        if now >= self._next_s:
            self._started_s = now
            # A session of its own, so that Ctrl-C reaches the launcher only, which stops everything in order.
            command = [*self._command, "--with-parent", str(os.getpid())]
            read, write = os.pipe2(os.O_CLOEXEC)
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=write,
                    stderr=write,
                    start_new_session=True,
                    env=running.ENVIRONMENT,
                )
            finally:
                os.close(write)
            self._copying = RoleLog(self.name, read, self._process.pid, self._log)
            self._copying.start()
        return None

    def _end_log(self) -> None:
        if self._copying is not None:
            self._copying.join(_LOG_END_S)
            self._copying = None

    def ask_to_end(self) -> None:
        """Send SIGTERM. A controller that gets a second one does not wait for its sessions."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def stop(self, wait_s: float) -> None:
        """Send SIGTERM, and SIGKILL if it takes longer than ``wait_s``."""
        if self._process is None:
            return
        self.ask_to_end()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._end_log()


class Launcher:
    """Keeps a controller and a host running.

    Args:
        paths: files of the rack, which is provisioned already.
        listen: ``host:port`` for clients.
        metrics: ``host:port`` for operators.
        controller: additional arguments of the controller.
        drain_s: time that open sessions have to finish when the rack stops.
        tell: called with messages for a person.

    Raises:
        UsageError: another rack runs in this folder.
    """

    def __init__(
        self,
        paths: RackPaths,
        *,
        listen: str,
        metrics: str,
        controller: Sequence[str],
        drain_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._log = paths.log.open("ab")
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._log.close()
            raise UsageError(f"another rack runs in {paths.directory}: stop it, or name another with --state") from None
        socket_path = str(paths.socket)
        drain = ["--drain-s", f"{drain_s:g}"]
        arguments = ["--socket", socket_path, "--endorsement", str(paths.endorsement)]
        arguments += ["--reference", str(paths.reference), *drain, *controller]
        self.controller = RoleProcess("controller", arguments, self._log)
        self.host = RoleProcess(
            "host", ["--controller", socket_path, "--listen", listen, "--metrics", metrics], self._log
        )
        self._paths, self._drain_s, self._tell = paths, drain_s, tell

    def start(
        self, ready: Callable[[], bool], limit_s: float = 60.0, *, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Start both, and wait until the service is ready or is stopped.

        Raises:
            UsageError: another rack uses the addresses, or a role or all workers ended; the message holds their error.
        """
        if ready():
            raise UsageError("another rack already answers at these addresses: stop it, or use others")
        until_s = time.monotonic() + limit_s
        begun = self._paths.log.stat().st_size
        while not stopped() and not ready():
            for role in (self.controller, self.host):
                if role.check() is not None:
                    self._ended(role, begun)
            self._check_workers(begun)
            if time.monotonic() > until_s:
                raise UsageError(f"the service is not ready after {limit_s:g} s: see {self._paths.log}")
            time.sleep(_POLL_S)

    def _lines(self, begun: int) -> list[str]:
        with self._paths.log.open("rb") as log:
            log.seek(begun)
            return log.read().decode(errors="replace").splitlines()

    def _events(self, begun: int) -> list[dict[str, Any]]:
        events = []
        for line in self._lines(begun):
            with suppress(ValueError):
                events.append(json.loads(line))
        return events

    def _ended(self, role: RoleProcess, begun: int) -> None:
        # The last thing that a role says of its own accord is its error message.
        words = [event["text"] for event in self._events(begun) if event["event"] == "output"]
        detail = words[-1].removeprefix("sectum: ") if words else f"see {self._paths.log}"
        detail = detail.removeprefix(f"sectum hetee {role.name}: error: ")
        raise UsageError(f"the {role.name} cannot start: {detail}")

    def _check_workers(self, begun: int) -> None:
        # The controller retries without end, but a worker that refuses to start will refuse again.
        events = self._events(begun)
        reasons = [e["detail"] for e in events if e["event"] in ("refused", "worker_misbehaved")]
        if reasons and sum(event["event"] == "worker_not_started" for event in events) >= _TRIES:
            raise UsageError(f"no worker can start: {reasons[-1]}")

    def run(self, stopped: Callable[[], bool]) -> None:
        """Restart what dies, until ``stopped``."""
        while not stopped():
            for role in (self.controller, self.host):
                code = role.check()
                if code is not None:
                    self._tell(f"the {role.name} ended ({_describe(code)}) and is restarted")
            time.sleep(_POLL_S)

    def hurry(self) -> None:
        """Make `stop` end sessions at once instead of waiting for them."""
        self.controller.ask_to_end()

    def stop(self) -> None:
        """Let the controller drain its sessions, then stop everything."""
        self.controller.stop(self._drain_s + _KILL_S)
        self.host.stop(_KILL_S)
        self._paths.socket.unlink(missing_ok=True)  # the controller is confined, and cannot remove it
        self._log.close()


def _describe(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
