"""Runs one job: waits for accelerators, starts it, ends it when it is preempted, and starts it again."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sectum.errors import JobPreempted, UsageError
from sectum.hetee.errors import HeteeError
from sectum.hetee.jobs.lease import Granted, Lease
from sectum.hetee.jobs.processes import JobProcesses, adopt_orphans, variables
from sectum.hetee.wire.messages import Job

_POLL_S = 0.02  # while processes are being killed
_INTERRUPT_GRACE_S = 10.0


class JobRunner:
    """Runs a job until it ends by itself.

    Args:
        path: Unix socket of the controller.
        wish: what the job needs.
        command: program and arguments.
        again: whether to start the job again after it was preempted.
        tell: called with the name of an event, words for a person or none, and facts.
        output_to_error: whether the job's standard output goes to standard error.
    """

    def __init__(
        self,
        path: Path,
        wish: Job,
        command: Sequence[str],
        *,
        again: bool,
        tell: Callable[..., None],
        output_to_error: bool = False,
    ) -> None:
        self._path, self._wish, self._command, self._again = path, wish, command, again
        self._tell, self._output_to_error = tell, output_to_error
        self._job: JobProcesses | None = None
        self._kill_s: float | None = None  # when the job is killed; None if it was not told to end
        self._preempted = False
        self._owes = False  # whether the controller waits for JOB_RETURNED, or may come to
        self._failure: HeteeError | None = None
        self._signals: list[int] = []
        self.preemptions = 0

    def run(self) -> int:
        """Run the job; returns its exit code, or 128 and the number of the signal that ended it or this program.

        Raises:
            JobPreempted: it was preempted, and is not to be started again.
            HeteeError: the controller refused the job, or was lost.
            UsageError: the command cannot be started.
        """
        lease = Lease(self._path)
        adopt_orphans()
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes `select`
        try:
            self._ask(lease)
            while (code := self._turn(lease, woken)) is None:
                pass
            return code
        finally:
            self._end_now()
            if self._owes and self._failure is None:
                with suppress(HeteeError):
                    lease.give_back()
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            lease.close()
            for end in (woken, waker):
                end.close()

    def _note(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _ask(self, lease: Lease) -> None:
        wish = self._wish
        self._tell("waiting", f"waits for {wish.count} of {wish.accelerator}")
        lease.ask(wish)
        self._owes = True

    def _turn(self, lease: Lease, woken: socket.socket) -> int | None:
        """Wait for something, and deal with it; returns the exit code when the job has ended."""
        left_s = None if self._kill_s is None else max(_POLL_S, self._kill_s - time.monotonic())
        watched = [woken.fileno()] if self._failure is not None else [woken.fileno(), lease.fileno()]
        select.select(watched, [], [], left_s)
        with suppress(BlockingIOError):
            woken.recv(64)
        if self._job is not None and self._job.none_left():
            return self._ended(lease)
        if self._failure is None:
            try:
                for heard in lease.heard():
                    if isinstance(heard, Granted):
                        self._start(heard.names)
                    elif self._job is not None and self._job.exit_code is None:
                        self._preempted, self.preemptions = True, self.preemptions + 1
                        text = f"is told to give its accelerators back, and has {heard.grace_s:g} s to end"
                        self._tell("preempted", text, grace_s=heard.grace_s)
                        self._end_within(heard.grace_s)
            except HeteeError as error:  # what the job has is no longer its own
                if self._job is None:
                    raise
                self._failure, self._kill_s = error, time.monotonic()
        return self._react()

    def _react(self) -> int | None:
        if self._signals and self._job is None:
            return 128 + self._signals[0]
        if self._signals and self._kill_s is None:
            self._end_within(_INTERRUPT_GRACE_S)
        if self._job is not None:
            late = self._kill_s is not None and time.monotonic() >= self._kill_s
            if late or len(self._signals) > 1 or self._job.exit_code is not None:
                self._kill_s = self._kill_s or time.monotonic()
                self._job.kill()  # what is left of it
        return None

    def _start(self, names: tuple[str, ...]) -> None:
        self._tell("granted", f"has {', '.join(names)}", accelerators=list(names))
        environment = {**os.environ, **variables(names)}
        try:
            self._job = JobProcesses(self._command, environment, output_to_error=self._output_to_error)
        except OSError as error:
            raise UsageError(f"'{self._command[0]}' cannot be started: {error.strerror}") from None
        self._tell("started", "", pid=self._job.pid)

    def _end_within(self, seconds: float) -> None:
        assert self._job is not None
        until_s = time.monotonic() + seconds
        self._kill_s = until_s if self._kill_s is None else min(self._kill_s, until_s)
        self._job.ask_to_end()

    def _ended(self, lease: Lease) -> int | None:
        """Give back what the job had; returns its exit code, or None if it is to start again."""
        assert self._job is not None
        code = self._job.exit_code or 0
        killed = self._kill_s is not None and time.monotonic() >= self._kill_s
        self._job = self._kill_s = None
        if self._failure is not None:
            raise self._failure
        lease.give_back()
        self._owes = False
        if self._signals:
            return 128 + self._signals[0]
        if not self._preempted:
            return code
        self._preempted = False
        how = "was killed" if killed else "ended"
        self._tell("returned", f"{how}, and its accelerators were given back", killed=killed)
        if not self._again:
            raise JobPreempted("the job was preempted, because others waited for its accelerators: run it again later")
        self._ask(lease)
        return None

    def _end_now(self) -> None:
        """Leave no process of the job, whatever happened."""
        while self._job is not None and not self._job.none_left():
            self._job.kill()
            time.sleep(_POLL_S)
