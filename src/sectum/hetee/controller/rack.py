"""The workers of a machine and the accelerators that they own."""

from __future__ import annotations

from collections.abc import Iterator

from sectum.hetee.controller.accelerators import Fleet, Waiter
from sectum.hetee.controller.enclaves import Enclave, Life
from sectum.hetee.controller.outside import Clock, Outside
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import Frame, plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Accelerators, Beat, Born, Deadline, Message, Returned, Wiped, encode, read

REVOKE_S = 5.0
WIPE_S = 1.0
_SLOWEST_RESTART_S = 2.0
_STARTING_AT_ONCE = 4


def _frame(kind: Kind, message: Message) -> bytes:
    return plain_frame(kind, encode(message))


class Rack:
    """Starts spares, keeps them in their order, moves accelerators, and ends workers."""

    def __init__(self, settings: Settings, outside: Outside, clock: Clock) -> None:
        self.fleet = Fleet(settings.accelerators)
        self.enclaves: dict[int, Enclave] = {}
        self._settings, self._outside, self._clock = settings, outside, clock
        self._numbers = 0
        self._restart_s = 0.0
        self._failures = 0

    def _in(self, *lives: Life) -> Iterator[Enclave]:
        return (enclave for enclave in self.enclaves.values() if enclave.life in lives)

    def refill(self, waiting: int) -> None:
        """Start workers until there is one for each session that waits, and the spares beside."""
        now = self._clock()
        ready, starting = len(list(self._in(Life.SPARE))), len(list(self._in(Life.STARTING)))
        wanted = min(self._settings.spares + waiting - ready, _STARTING_AT_ONCE) - starting
        room = self._settings.enclaves + self._settings.spares - len(self.enclaves)
        if now < self._restart_s:
            return
        for _ in range(min(wanted, room)):
            self._numbers += 1
            try:
                pid, measurement = self._outside.start(self._numbers)
            except OSError as error:
                self._start_failed(str(error))
                return
            self.enclaves[self._numbers] = Enclave(self._numbers, pid, measurement, now + self._settings.starting_s)

    def _start_failed(self, why: str) -> None:
        """Try again at once the first time, then after 0.1, 0.2, ... 2 s."""
        self._restart_s = self._clock() + min(0.1 * self._failures, _SLOWEST_RESTART_S)
        self._failures += 1
        self._outside.log("worker_not_started", why=why, failures=self._failures)

    def spare(self) -> Enclave | None:
        """The spare that has waited longest."""
        return next(self._in(Life.SPARE), None)

    def spares(self) -> int:
        """How many there are."""
        return len(list(self._in(Life.SPARE)))

    def grant(self, enclave: Enclave, names: list[str]) -> None:
        """Give free accelerators to a worker."""
        self.fleet.grant(enclave.number, names)
        enclave.granted_s = self._clock()
        self._outside.tell(enclave.number, _frame(Kind.GRANT, Accelerators(accelerators=tuple(names))))

    def free_for(self, kind: str, waiters: list[Waiter]) -> None:
        """Ask for as many accelerators back as the first who wait need, of those who had theirs a quantum long."""
        now = self._clock()
        owners = sorted((e for e in self._in(Life.SERVING) if e.kind == kind), key=lambda e: e.granted_s)
        coming = len(self.fleet.free(kind))
        coming += sum(len(self.fleet.owned(e.number)) for e in owners if e.revoked_s is not None)
        missing = sum(waiter.needs for waiter in waiters) - coming
        for enclave in owners:
            names = self.fleet.owned(enclave.number)
            if missing <= 0 or now < enclave.granted_s + self._settings.quantum_s:
                return
            if names and enclave.revoked_s is None:
                enclave.revoked_s = now
                missing -= len(names)
                self._outside.tell(enclave.number, _frame(Kind.REVOKE, Accelerators(accelerators=names)))

    def linked(self, enclave: Enclave, frame: Frame) -> Message:
        """Take a worker's message.

        Raises:
            HeteeError: the worker does not keep to the protocol.
        """
        message = read(frame.header.kind, frame.payload)
        match message:
            case Born() if enclave.life is Life.STARTING:
                enclave.born, enclave.kill_s = message, None
                enclave.to(Life.SPARE)
                self._failures = 0
            case Beat() if enclave.born is not None:
                enclave.beat = message
            case Returned() if enclave.born is not None:
                self._returned(enclave, message)
            case Wiped() if enclave.life is Life.DRAINING:
                enclave.wiped_bytes = message.wiped_bytes
                enclave.to(Life.WIPED)
                self._outside.kill(enclave.number)
            case _:
                detail = f"{frame.header.kind.name} from a worker that is {enclave.life.name.lower()}"
                raise refusal(Refusal.UNEXPECTED, detail)
        return message

    def _returned(self, enclave: Enclave, returned: Returned) -> None:
        asked = enclave.revoked_s is not None
        if not set(returned.accelerators) <= set(self.fleet.owned(enclave.number)):
            raise refusal(Refusal.UNEXPECTED, "accelerators are given back that it does not own")
        if not asked and enclave.life is not Life.DRAINING:
            raise refusal(Refusal.UNEXPECTED, "accelerators are given back that were not asked for")
        if asked:  # what is given back because of WIPE is free when the process is collected
            self.fleet.take_back(returned.accelerators)
        if not self.fleet.owned(enclave.number):
            enclave.revoked_s = None

    def wipe(self, enclave: Enclave, deadline_ms: int) -> None:
        """End a worker: let it answer what is open until the deadline, wipe and return; then kill it."""
        if enclave.life >= Life.DRAINING:
            if enclave.life is Life.DRAINING and deadline_ms == 0:  # who waited for the answers is gone
                enclave.kill_s = min(enclave.kill_s or 0.0, self._clock() + WIPE_S)
            return
        enclave.to(Life.DRAINING)
        enclave.kill_s = self._clock() + deadline_ms / 1e3 + WIPE_S
        self._outside.tell(enclave.number, _frame(Kind.WIPE, Deadline(deadline_ms=deadline_ms)))

    def collected(self, enclave: Enclave) -> tuple[str, ...]:
        """Take note that the kernel has given a worker's process back; give the accelerators that it had."""
        if enclave.life is Life.STARTING:
            self._start_failed("it ended before it was ready")
        enclave.to(Life.CLEANED)
        del self.enclaves[enclave.number]
        names = self.fleet.owned(enclave.number)
        self.fleet.take_back(names)
        return names

    def tick(self) -> None:
        """Kill who is late."""
        now = self._clock()
        limit_s = REVOKE_S + self._settings.longest_batch_s
        for enclave in self.enclaves.values():
            late = enclave.kill_s is not None and now >= enclave.kill_s
            if late or (enclave.revoked_s is not None and now >= enclave.revoked_s + limit_s):
                enclave.kill_s = enclave.revoked_s = None
                self._outside.log("worker_late", worker=enclave.number, state=enclave.life.name.lower())
                self._outside.kill(enclave.number)
