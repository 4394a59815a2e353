"""A whole rack on one machine: starts the controller, then the host, and again what dies."""

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
from typing import IO

from sectum.errors import UsageError
from sectum.hetee.attest.endorsement import load, manufacture, store

_POLL_S = 0.05
_SLOWEST_RESTART_S = 2.0
_LONG_ENOUGH_S = 10.0  # a role that ran so long is started again at once
_KILL_S = 5.0
_TRIES = 2
_SOCKET_PATH_BYTES = 107


def state_directory() -> Path:
    """Where a rack keeps its endorsement, its socket and its log, if nobody says otherwise."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "sectum" / "hetee"


@dataclass(frozen=True)
class Places:
    """The files of a rack in its directory."""

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
    def socket(self) -> Path:
        """Where the controller listens."""
        return self.directory / "run" / "controller.sock"

    @property
    def policy(self) -> Path:
        """What accepts this rack, for clients; written when it is started for people."""
        return self.directory / "policy.json"

    @property
    def log(self) -> Path:
        """What all roles write."""
        return self.directory / "log.jsonl"


def provision(places: Places) -> None:
    """Manufacture an endorsement in software, the first time.

    Raises:
        EvidenceRefused: there is one that cannot be used.
        UsageError: the directory cannot be used.
    """
    if len(os.fsencode(places.socket)) > _SOCKET_PATH_BYTES:
        raise UsageError(
            f"{places.socket} is longer than {_SOCKET_PATH_BYTES} bytes, the limit for sockets: use --state"
        )
    try:
        places.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not places.endorsement.exists():
            store(manufacture(), places.endorsement)
    except OSError as error:
        raise UsageError(f"{places.directory} cannot be used: {error.strerror}; name another with --state") from None
    load(places.endorsement)


class Role:
    """A process that is started again when it ends."""

    def __init__(self, name: str, arguments: Sequence[str], log: IO[bytes]) -> None:
        self.name = name
        self._command = [sys.executable, "-P", "-m", f"sectum.hetee.{name}", *arguments]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started_s = self._next_s = 0.0

    @property
    def pid(self) -> int | None:
        """Its process; None while there is none."""
        return self._process.pid if self._process is not None else None

    def check(self) -> int | None:
        """Start it if it is due. Gives how it ended, once for each end."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return None
            self._process = None
            if now - self._started_s >= _LONG_ENOUGH_S:
                self._failures = 0
            self._next_s = now + min(0.1 * self._failures, _SLOWEST_RESTART_S)
            self._failures += 1
            return code
        if now >= self._next_s:
            self._started_s = now
            # A session of its own: Ctrl-C is for the launcher, which then stops everything in order.
            command = [*self._command, "--with-parent", str(os.getpid())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
            )
        return None

    def ask_to_end(self) -> None:
        """Ask it to end; a controller that is asked twice does not wait for its sessions."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def stop(self, wait_s: float) -> None:
        """Ask it to end, and make it end when it takes too long."""
        if self._process is None:
            return
        self.ask_to_end()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Launcher:
    """Keeps a controller and a host running.

    Args:
        places: of the rack; provisioned already.
        listen: ``host:port`` for clients.
        metrics: ``host:port`` for operators.
        controller: further arguments of the controller.
        drain_s: how long sessions may finish when it is stopped.
        tell: is told what a person should know.

    Raises:
        UsageError: another rack has this folder.
    """

    def __init__(
        self,
        places: Places,
        *,
        listen: str,
        metrics: str,
        controller: Sequence[str],
        drain_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._log = places.log.open("ab")
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by the roles, too, which write there
        except BlockingIOError:
            self._log.close()
            raise UsageError(
                f"another rack runs in {places.directory}: stop it, or name another with --state"
            ) from None
        socket_path = str(places.socket)
        drain = ["--drain-s", f"{drain_s:g}"]
        arguments = ["--socket", socket_path, "--endorsement", str(places.endorsement), *drain, *controller]
        self.controller = Role("controller", arguments, self._log)
        self.host = Role("host", ["--controller", socket_path, "--listen", listen, "--metrics", metrics], self._log)
        self._places, self._drain_s, self._tell = places, drain_s, tell

    def start(
        self, ready: Callable[[], bool], limit_s: float = 60.0, *, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Start both, and wait until the service answers or is stopped.

        Raises:
            UsageError: another rack answers there already, or a role or every worker ended instead; its last words are
            in the message.
        """
        if ready():
            raise UsageError("another rack answers at these addresses already: stop it, or give others")
        until_s = time.monotonic() + limit_s
        begun = self._places.log.stat().st_size
        while not stopped() and not ready():
            for role in (self.controller, self.host):
                if role.check() is not None:
                    self._ended(role, begun)
            self._check_workers(begun)
            if time.monotonic() > until_s:
                raise UsageError(f"the service is not ready after {limit_s:g} s: see {self._places.log}")
            time.sleep(_POLL_S)

    def _lines(self, begun: int) -> list[str]:
        with self._places.log.open("rb") as log:
            log.seek(begun)
            return log.read().decode(errors="replace").splitlines()

    def _ended(self, role: Role, begun: int) -> None:
        # A role says in a sentence why it cannot start; its events are JSON.
        words = [line for line in self._lines(begun) if line and not line.startswith("{")]
        detail = words[-1].removeprefix("sectum: ") if words else f"see {self._places.log}"
        detail = detail.removeprefix(f"sectum hetee {role.name}: error: ")
        raise UsageError(f"the {role.name} cannot start: {detail}")

    def _check_workers(self, begun: int) -> None:
        # A controller would try for ever. What a worker says of itself as it starts is true of the next one, too.
        events = []
        for line in self._lines(begun):
            with suppress(ValueError):
                events.append(json.loads(line))
        reasons = [event["detail"] for event in events if (event["role"], event["event"]) == ("worker", "refused")]
        if reasons and sum(event["event"] == "worker_not_started" for event in events) >= _TRIES:
            raise UsageError(f"no worker can start: {reasons[-1]}")

    def run(self, stopped: Callable[[], bool]) -> None:
        """Start again what dies, until it is stopped."""
        while not stopped():
            for role in (self.controller, self.host):
                code = role.check()
                if code is not None:
                    self._tell(f"the {role.name} ended ({_how(code)}) and is started again")
            time.sleep(_POLL_S)

    def hurry(self) -> None:
        """End sessions at once while `stop` waits for them."""
        self.controller.ask_to_end()

    def stop(self) -> None:
        """Let the controller drain, then end everything."""
        self.controller.stop(self._drain_s + _KILL_S)
        self.host.stop(_KILL_S)
        self._log.close()


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
