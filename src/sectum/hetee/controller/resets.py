"""Takes accelerators back from workers that live on, and keeps these workers from using them any longer.

RETURNED is the worker's own word. A CPU or paced accelerator is reset when the kernel has stopped every thread of the
process. Then the process goes on, because it receives batches and answers PINGs. Without an accelerator it gets a fifth
of one processor: what it uses beyond that, by the kernel's clock, it pays for by being stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sectum.hetee.controller.accelerators import resets_alive
from sectum.hetee.controller.allocation import Secure
from sectum.hetee.controller.allocator import Allocator
from sectum.hetee.controller.enclaves import EnclaveEntry
from sectum.hetee.controller.environment import Clock, Environment

SHARE = 0.2  # of one processor, for a worker without accelerators
_BURST_S = 0.1  # of processor time
# A worker that is stopped answers no PING, and its client waits for 2 s. So a worker with many threads on many
# processors gets more than its share: one twentieth of the machine, as limits are checked every 0.05 s.
_LONGEST_STOP_S = 1.0
_TO_STOP_S = 5.0
WIPE_S = 1.0  # for a worker to wipe its memory


@dataclass
class _Limited:
    """A worker without accelerators: what it has used, and how much of that it was not entitled to."""

    used_s: float
    checked_s: float
    debt_s: float = 0.0
    stopped_s: float | None = None


class Resets:
    """Resets what workers gave back, and confirms it.

    Args:
        allocator: knows whose an accelerator is.
        environment: stops processes, and reads their clocks.
        clock: monotonic time in seconds.
    """

    def __init__(self, allocator: Allocator, environment: Environment, clock: Clock) -> None:
        self._allocator, self._environment, self._clock = allocator, environment, clock
        self._stopping: dict[int, float] = {}  # since when
        self._limited: dict[int, _Limited] = {}

    def returned(self, enclave: EnclaveEntry, names: Iterable[str]) -> None:
        """Handle RETURNED: the accelerators are in nobody's hands until they are reset."""
        self._allocator.returned(Secure(enclave.number), names)
        if resets_alive(enclave.kind):
            self._stopping[enclave.number] = self._clock()
            self._environment.stop(enclave.number)
        else:
            self._environment.log("worker_ended", worker=enclave.number, why="its accelerator needs the process to end")
            self._environment.kill(enclave.number)

    def stopped(self, enclave: EnclaveEntry) -> None:
        """Handle the kernel's word that every thread of a worker has stopped."""
        number, now = enclave.number, self._clock()
        if self._stopping.pop(number, None) is None:
            return  # it was stopped because of its share
        names = self._allocator.resetting(Secure(number))
        self._environment.log("accelerators_reset", worker=number, accelerators=names, why="the kernel stopped it")
        enclave.given_back |= set(names)
        self._allocator.confirm(Secure(number))
        if not self._allocator.owned(Secure(number)):
            self._limited[number] = _Limited(self._environment.processor_s(number), now)
        self._environment.resume(number)

    def granted(self, enclave: EnclaveEntry) -> None:
        """Let a worker that owns an accelerator use what it needs."""
        limited = self._limited.pop(enclave.number, None)
        if limited is not None and limited.stopped_s is not None:
            self._environment.resume(enclave.number)

    def ended(self, enclave: EnclaveEntry) -> None:
        """Free all that a worker had: its process has been collected."""
        self._stopping.pop(enclave.number, None)
        self._limited.pop(enclave.number, None)
        self._allocator.ended(Secure(enclave.number))

    def tick(self, enclaves: Mapping[int, EnclaveEntry]) -> None:
        """Stop workers without accelerators that use more than their share, and let others go on."""
        now = self._clock()
        for number, since_s in self._stopping.items():
            if now >= since_s + _TO_STOP_S:
                self._environment.log("worker_not_stopped", worker=number)
                self._environment.kill(number)
        for number, limited in self._limited.items():
            kill_s = enclaves[number].kill_s
            self._limit(number, limited, now, wiping=kill_s is not None and now >= kill_s - WIPE_S)

    def _limit(self, number: int, limited: _Limited, now: float, *, wiping: bool) -> None:
        used_s = self._environment.processor_s(number)
        debt_s = limited.debt_s + used_s - limited.used_s - SHARE * (now - limited.checked_s)
        limited.debt_s, limited.used_s, limited.checked_s = max(0.0, debt_s), used_s, now
        if limited.stopped_s is None:
            if limited.debt_s > _BURST_S and not wiping:
                limited.stopped_s = now
                self._environment.stop(number)
        elif wiping or not limited.debt_s or now >= limited.stopped_s + _LONGEST_STOP_S:
            limited.stopped_s = None
            self._environment.resume(number)
