"""Starts models in milliseconds: it forks children from a parent that has the runtime loaded.

Campaigns over thousands of networks use it, because half a second of imports for each would take a third of the time.
The model's process is the same in every other respect. Under the pager, its enclave opens after the fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from sectum.enclave.runners.launch import Process, child_environment
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.runner import Job
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveFailed

CHILDREN_OF_A_PARENT = 64
"""Children have the address-space layout of their parent, so the parent is replaced after this many of them."""
_LARGEST_MESSAGE = 1 << 16
_ANSWER_S = 30.0


class _Parent:
    """The parent process, and what it reports of its children."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.children = 0
        self.running: set[int] = set()
        self.broken = False
        self._started: list[int] = []
        self._codes: dict[int, int] = {}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sectum.enclave.runners.warm_parent"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C goes to the campaign only, which then closes the socket
            )

    def fork(self, folder: Path, stderr: IO[bytes]) -> Process:
        """Start a child.

        Raises:
            EnclaveFailed: the parent has died or does not answer.
        """
        their_input, our_input = os.pipe()
        our_output, their_output = os.pipe()
        stdin, stdout = os.fdopen(our_input, "wb", buffering=0), os.fdopen(our_output, "rb", buffering=0)
        try:
            message = json.dumps({"folder": str(folder)}).encode()
            socket.send_fds(self._socket, [message], [their_input, their_output, stderr.fileno()])
            while not self._started:
                self._receive(_ANSWER_S)
        except OSError as error:
            self.broken = True
            stdin.close()
            stdout.close()
            raise EnclaveFailed(
                f"the process that models are forked from has ended or hangs ({error}): start the command again"
            ) from error
        finally:
            os.close(their_input)
            os.close(their_output)
        pid = self._started.pop()
        self.children += 1
        self.running.add(pid)
        return _Child(self, pid, stdin, stdout)

    def _receive(self, timeout_s: float | None) -> None:
        """Receive one message.

        Raises:
            TimeoutError: none came in time.
            BrokenPipeError: the parent has closed its socket.
        """
        self._socket.settimeout(timeout_s)
        message = self._socket.recv(_LARGEST_MESSAGE)
        if not message:
            raise BrokenPipeError("the parent has closed its socket")
        answer = json.loads(message)
        if "started" in answer:
            self._started.append(answer["started"])
        else:
            self._codes[answer["ended"]] = answer["code"]

    def exit_code(self, pid: int, timeout_s: float | None) -> int:
        """Wait for the end of a child.

        Raises:
            TimeoutError: it did not end in time.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while pid not in self._codes:
                self._receive(None if end_s is None else max(1e-3, end_s - time.monotonic()))
        except ConnectionError:  # the child's exit code is lost: make sure that it ends
            self.broken = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            self._codes[pid] = -signal.SIGKILL
        self.running.discard(pid)
        return self._codes.pop(pid)

    def close(self) -> None:
        """End the parent; children end when their own input is closed."""
        self._socket.close()
        try:
            self._process.wait(_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Child:
    """A forked child, with the interface of `subprocess.Popen`."""

    def __init__(self, parent: _Parent, pid: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._parent = parent
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end in time.
        """
        if self.returncode is None:
            try:
                self.returncode = self._parent.exit_code(self.pid, timeout)
            except TimeoutError as error:
                raise subprocess.TimeoutExpired("a model's process", timeout or 0.0) from error
        return self.returncode


class WarmRunner:
    """Runs models like another runner, and starts them faster. Close it, or use it as a context manager.

    Args:
        base: the native runner or the software enclave.
    """

    def __init__(self, base: NativeRunner | SoftEpcRunner) -> None:
        self._base = base
        self.name, self.provenance, self.counts_pages = base.name, base.provenance, base.counts_pages
        self._has_epc = isinstance(base, SoftEpcRunner)
        self._parent: _Parent | None = None
        self._retired: list[_Parent] = []

    def check(self) -> None:
        """Check the other runner, and start the parent.

        Raises:
            EnclaveUnavailable: the other runner cannot start anything here.
        """
        self._base.check()
        self._warm_parent()

    def start(self, job: Job) -> ChildSession:
        """Fork a process and load the model there.

        Raises:
            UsageError: the native runner has no EPC.
            EnclaveUnavailable: see `check`.
            EnclaveFailed: the process died, or ran over its memory cap.
            EnclaveDeadline: the model was not ready in time.
        """
        self._base.accept(job)
        return ChildSession(job, self._warm_parent().fork, runner=self.name, has_epc=self._has_epc)

    def _retire(self) -> None:
        """Fork no more children from this parent; close the retired parents that have no running child."""
        if self._parent is not None:
            self._retired.append(self._parent)
            self._parent = None
        for parent in [parent for parent in self._retired if not parent.running]:
            parent.close()
            self._retired.remove(parent)

    def _warm_parent(self) -> _Parent:
        if self._parent is not None and (self._parent.broken or self._parent.children >= CHILDREN_OF_A_PARENT):
            self._retire()
        if self._parent is None:
            environment = child_environment()
            if isinstance(self._base, SoftEpcRunner):
                environment |= {"LD_PRELOAD": str(self._base.library()), "SOFTEPC_DEFER": "1"}
            self._parent = _Parent(environment)
        return self._parent

    def close(self) -> None:
        """End the parents. May be called again."""
        for parent in (*self._retired, *([self._parent] if self._parent else [])):
            parent.close()
        self._retired, self._parent = [], None

    def kill(self) -> None:
        """Kill all children. Another thread may call this while one waits for a child."""
        for parent in (*self._retired, *([self._parent] if self._parent else [])):
            for pid in tuple(parent.running):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

    def __enter__(self) -> WarmRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
