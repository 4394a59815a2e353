"""Measures how long accelerators take to change worlds: from a job of the insecure world to an enclave, and back.

The job is a real process that `sectum hetee run --insecure` runs. It ends as soon as it is told to.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import TracebackType

from sectum.errors import UsageError
from sectum.hetee.bench.local_rack import LocalRack
from sectum.hetee.client import Session
from sectum.hetee.wire.messages import AcceleratorKind

TO_SECURE = "switch to the secure world"
GRACE = "switch to the secure world, grace"
TO_INSECURE = "switch to the insecure world"
SWITCHES = {
    TO_SECURE: "from asking for an accelerator that a job has until the enclave's worker has the keys, without grace",
    GRACE: "the part of the grace time that the job used: from when it is told until none of its processes is left",
    TO_INSECURE: "from the end of the session, with the reset, until the job runs on the accelerator again",
}
_KIND: AcceleratorKind = "cpu"
_COUNT = 2  # all that the rack has, so that the session can get no other
_LATE_S = 60.0
_END_S = 20.0


class InsecureJob:
    """A program that does nothing, run on accelerators of a rack, in a ``with`` statement.

    Args:
        rack: the rack.
    """

    def __init__(self, rack: LocalRack) -> None:
        words = ["--insecure", "--json", "--state", str(rack.paths.directory)]
        words += ["--accelerator", _KIND, "--count", str(_COUNT), "sleep", "infinity"]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sectum.cli", "hetee", "run", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._changed = threading.Condition()
        self._happened: list[tuple[str, float]] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="events of the job", daemon=True)

    def __enter__(self) -> InsecureJob:
        self._reader.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now_s = time.perf_counter()
            with self._changed:
                self._happened.append((json.loads(line)["event"], now_s))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._process.stdout.close()

    def when(self, event: str, number: int) -> float:
        """When an event happened for the ``number``-th time, by `time.perf_counter`; waits for it.

        Raises:
            UsageError: the job ended before, or it took too long.
        """

        def times() -> list[float]:
            return [at_s for name, at_s in self._happened if name == event]

        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(times()) >= number, _LATE_S)
            if len(found := times()) >= number:
                return found[number - 1]
        raise UsageError(f"the job of the benchmark was not '{event}' within {_LATE_S:g} s; its messages say why")


def switch(job: InsecureJob, session: Session, number: int) -> dict[str, float]:
    """Take the accelerators of a job for the enclave of a session, and give them back by ending the session.

    Args:
        job: has all accelerators of its kind, for the ``number``-th time.
        session: a session without an enclave; it is closed afterwards.
        number: counts from 1.

    Returns:
        Milliseconds of each of `SWITCHES`.

    Raises:
        HeteeError: the service failed.
        UsageError: the job failed.
    """
    job.when("started", number)
    begun_s = time.perf_counter()
    session.configure(_KIND, 1, _LATE_S)
    ready_s = time.perf_counter()
    grace_s = job.when("returned", number) - job.when("preempted", number)
    closed_s = time.perf_counter()
    session.close(0)
    runs_s = job.when("started", number + 1)
    seconds = {TO_SECURE: ready_s - begun_s - grace_s, GRACE: grace_s, TO_INSECURE: runs_s - closed_s}
    return {step: 1e3 * taken_s for step, taken_s in seconds.items()}
