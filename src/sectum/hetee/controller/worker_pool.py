"""The workers of a machine and the accelerators that they own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sectum.hetee.controller.accelerators import AcceleratorPool, Waiter, kind_of
from sectum.hetee.controller.enclaves import EnclaveEntry, EnclaveState
from sectum.hetee.controller.environment import Clock, Environment
from sectum.hetee.controller.handover import WIPE_S, Handover
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import Frame, plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import (
    Accelerators,
    Deadline,
    Heartbeat,
    Message,
    Started,
    Wiped,
    encode,
    read,
)

REVOKE_S = 5.0
_SLOWEST_RESTART_S = 2.0
_STARTING_AT_ONCE = 4


def _frame(kind: Kind, message: Message) -> bytes:
    return plain_frame(kind, encode(message))


class WorkerPool:
    """Starts spare workers, moves accelerators between workers, and ends workers."""

    def __init__(self, settings: Settings, environment: Environment, clock: Clock) -> None:
        self.accelerators = AcceleratorPool(settings.accelerators)
        self.handover = Handover(self.accelerators, environment, clock)
        self.enclaves: dict[int, EnclaveEntry] = {}
        self._settings, self._environment, self._clock = settings, environment, clock
        self._numbers = 0
        self._restart_s = 0.0
        self.unconfined: tuple[str, ...] = ()  # what the newest worker lacks
        self.failures = 0  # starts of workers that failed in a row

    def _in(self, *states: EnclaveState) -> Iterator[EnclaveEntry]:
        return (enclave for enclave in self.enclaves.values() if enclave.state in states)

    def refill(self, waiting: int) -> None:
        """Start workers until there is one for each session that waits, plus the configured number of spares."""
        now = self._clock()
        ready, starting = self.spares(), sum(not enclave.owned for enclave in self._in(EnclaveState.STARTING))
        wanted = min(self._settings.spares + waiting - ready, _STARTING_AT_ONCE) - starting
        room = self._settings.enclaves + self._settings.spares - len(self.enclaves)
        if waiting > ready and room <= 0:  # who is ending gives way to who waits
            for enclave in self._in(EnclaveState.DRAINING):
                enclave.kill_s = min(enclave.kill_s or now, enclave.drained_s + self._settings.quantum_s + REVOKE_S)
        for _ in range(min(wanted, room)):
            self.start()

    def start(self, devices: Sequence[str] = ()) -> None:
        """Start a worker, unless one has just failed; it owns these free accelerators, and sees no other device."""
        now = self._clock()
        if now < self._restart_s:
            return
        self._numbers += 1
        try:
            pid, measurement = self._environment.start(self._numbers, tuple(devices))
        except OSError as error:
            self._start_failed(str(error))
            return
        enclave = EnclaveEntry(self._numbers, pid, measurement, now + self._settings.starting_s, owned=set(devices))
        self.enclaves[self._numbers] = enclave
        self.accelerators.grant(self._numbers, devices)

    def _start_failed(self, why: str) -> None:
        """Retry at once the first time, then after 0.1, 0.2, ... 2 s."""
        self._restart_s = self._clock() + min(0.1 * self.failures, _SLOWEST_RESTART_S)
        self.failures += 1
        self._environment.log("worker_not_started", why=why, failures=self.failures)

    def spare(self) -> EnclaveEntry | None:
        """The spare worker without devices that has waited longest; None if there is none."""
        return next((enclave for enclave in self._in(EnclaveState.SPARE) if not enclave.owned), None)

    def with_devices(self, kind: str) -> list[EnclaveEntry]:
        """Workers that were started with devices of a kind, and have no session yet."""
        workers = self._in(EnclaveState.STARTING, EnclaveState.SPARE)
        return [enclave for enclave in workers if kind in map(kind_of, enclave.owned)]

    def spares(self) -> int:
        """The number of spare workers without devices."""
        return sum(not enclave.owned for enclave in self._in(EnclaveState.SPARE))

    def grant(self, enclave: EnclaveEntry, names: list[str]) -> None:
        """Give free accelerators, or those that it was started with, to a worker."""
        if set(names) != set(self.accelerators.owned(enclave.number)):
            self.accelerators.grant(enclave.number, names)
        enclave.granted_s = self._clock()
        enclave.owned |= set(names)
        self.handover.granted(enclave)
        self._environment.send_to_worker(enclave.number, _frame(Kind.GRANT, Accelerators(accelerators=tuple(names))))

    def free_for(self, kind: str, waiters: list[Waiter]) -> None:
        """Revoke as many accelerators as the waiting sessions need, from workers that kept theirs for a quantum."""
        now = self._clock()
        owning = (e for e in self._in(EnclaveState.SERVING, EnclaveState.DRAINING) if e.kind == kind)
        owners = sorted(owning, key=lambda e: e.quantum_s)
        coming = self.accelerators.coming(kind)
        coming += sum(len(self.accelerators.owned(e.number)) for e in owners if e.revoked_s is not None)
        missing = sum(waiter.needs for waiter in waiters) - coming
        for enclave in owners:
            names = self.accelerators.owned(enclave.number)
            if missing <= 0 or now < enclave.quantum_s + self._settings.quantum_s:
                return
            if names and enclave.revoked_s is None:
                enclave.revoked_s = now
                missing -= len(names)
                self._environment.send_to_worker(enclave.number, _frame(Kind.REVOKE, Accelerators(accelerators=names)))

    def linked(self, enclave: EnclaveEntry, frame: Frame) -> Message:
        """Handle a worker's message.

        Raises:
            HeteeError: the worker broke the protocol.
        """
        message = read(frame.header.kind, frame.payload)
        match message:
            case Started() if enclave.state is EnclaveState.STARTING:
                lacking = sorted(self._settings.confinement - set(message.confinement))
                if lacking:
                    detail = f"a worker lacks confinement: {', '.join(message.unconfined or lacking)}"
                    raise refusal(Refusal.INTERNAL, detail)
                self.unconfined = tuple(message.unconfined)
                enclave.started, enclave.kill_s = message, None
                enclave.advance_to(EnclaveState.SPARE)
                self.failures = 0
            case Heartbeat() if enclave.started is not None:
                enclave.heartbeat = message
            case Accelerators() if enclave.started is not None:
                self._returned(enclave, message)
            case Wiped() if enclave.state is EnclaveState.DRAINING:
                enclave.wiped = True
                enclave.advance_to(EnclaveState.WIPED)
                self._environment.kill(enclave.number)
            case _:
                detail = f"{frame.header.kind.name} from a worker in the state {enclave.state.name.lower()}"
                raise refusal(Refusal.UNEXPECTED, detail)
        return message

    def _returned(self, enclave: EnclaveEntry, returned: Accelerators) -> None:
        asked = enclave.revoked_s is not None
        if not set(returned.accelerators) <= set(self.accelerators.owned(enclave.number)):
            raise refusal(Refusal.UNEXPECTED, "a worker gave back accelerators that it does not own")
        if not asked and enclave.state is not EnclaveState.DRAINING:
            raise refusal(Refusal.UNEXPECTED, "a worker gave back accelerators that were not revoked")
        if asked:  # those that come back because of WIPE are reset when the process has been collected
            self.handover.returned(enclave, set(returned.accelerators))
        if not self.accelerators.owned(enclave.number):
            enclave.revoked_s = None

    def wipe(self, enclave: EnclaveEntry, deadline_ms: int) -> None:
        """End a worker: it may answer open streams until the deadline, then it wipes its memory and is killed."""
        if enclave.state >= EnclaveState.DRAINING:
            if enclave.state is EnclaveState.DRAINING and deadline_ms == 0:  # nobody waits for its answers any more
                enclave.kill_s = min(enclave.kill_s or 0.0, self._clock() + WIPE_S)
                self._environment.send_to_worker(enclave.number, _frame(Kind.WIPE, Deadline(deadline_ms=0)))
            return
        enclave.advance_to(EnclaveState.DRAINING)
        enclave.drained_s = self._clock()
        enclave.kill_s = self._clock() + deadline_ms / 1e3 + WIPE_S
        self._environment.send_to_worker(enclave.number, _frame(Kind.WIPE, Deadline(deadline_ms=deadline_ms)))

    def collected(self, enclave: EnclaveEntry) -> None:
        """Remove a worker whose process has ended, and free the accelerators that it owned."""
        if enclave.state is EnclaveState.STARTING:
            self._start_failed("it ended before it was ready")
        enclave.advance_to(EnclaveState.CLEANED)
        del self.enclaves[enclave.number]
        self.handover.ended(enclave)

    def tick(self) -> None:
        """Kill workers that have exceeded a time limit."""
        now = self._clock()
        self.handover.tick(self.enclaves)
        for enclave in self.enclaves.values():
            kept = now >= self._give_back_by_s(enclave)
            if kept or (enclave.kill_s is not None and now >= enclave.kill_s):
                if kept and enclave.state is EnclaveState.SERVING:
                    enclave.blamed = "it did not give its accelerators back in time"
                enclave.kill_s = enclave.revoked_s = None
                self._environment.log("worker_late", worker=enclave.number, state=enclave.state.name.lower())
                self._environment.kill(enclave.number)

    def _give_back_by_s(self, enclave: EnclaveEntry) -> float:
        """When a worker must have given back what was revoked: of who is ending, a long batch is not waited for."""
        if enclave.revoked_s is None:
            return float("inf")
        if enclave.state is EnclaveState.DRAINING:
            return max(enclave.revoked_s, enclave.drained_s + self._settings.quantum_s) + REVOKE_S
        return enclave.revoked_s + REVOKE_S + self._settings.longest_batch_s
